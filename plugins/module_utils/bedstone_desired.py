"""The wanted state of a server as the action plugin sends it, as typed values."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bedstone_files import WantedDirectory, WantedFile, WantedLink
    from bedstone_units import WantedUnit
else:
    from ansible.module_utils.bedstone_files import WantedDirectory, WantedFile, WantedLink
    from ansible.module_utils.bedstone_units import WantedUnit

SHORTEST_SECRET = 6


@dataclasses.dataclass(frozen=True)
class WantedCommand:
    """A command that follows from a change of files, or makes a path that doesn't exist yet."""

    command: list[str]
    when_changed: list[str]
    creates: str | None


@dataclasses.dataclass(frozen=True)
class Desired:
    """Everything one converge declares."""

    name: str
    packages: list[str]
    files: list[WantedFile]
    directories: list[WantedDirectory]
    links: list[WantedLink]
    absent: list[str]
    validators: list[list[str]]
    commands: list[WantedCommand]
    units: list[WantedUnit]
    keep: list[str] = dataclasses.field(default_factory=list)

    def declared(self) -> set[str]:
        """Return the paths of all declared files and links."""
        return {file.path for file in self.files} | {link.path for link in self.links}

    def hide_secrets(self, text: str) -> str:
        """Take what sensitive files hold out of a text: whole lines, and values after = or :."""
        secrets: set[str] = set()
        for wanted in self.files:
            if wanted.sensitive and wanted.content is not None:
                for line in wanted.content.decode(errors="replace").splitlines():
                    parts = (line, line.partition("=")[2], line.partition(":")[2])
                    secrets.update(part.strip(" \t'\",;") for part in parts)
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= SHORTEST_SECRET:
                text = text.replace(secret, "(hidden)")
        return text


def unpack(packed: str) -> Desired:
    """Read what the action plugin packed: JSON, compressed, in base64.

    One opaque argument keeps file contents out of logs and of `-vvv`, and is short.
    """
    stored = json.loads(zlib.decompress(base64.b64decode(packed)))
    return parse(stored)


def parse(stored: dict[str, Any]) -> Desired:
    """Make typed values of the action plugin's dictionary, which it has checked."""
    return Desired(
        name=stored["name"],
        packages=stored.get("packages", []),
        files=[_file(entry) for entry in stored.get("files", [])],
        directories=[
            WantedDirectory(
                entry["path"],
                entry.get("owner", "root"),
                entry.get("group", "root"),
                int(entry.get("mode", "0755"), 8),
            )
            for entry in stored.get("directories", [])
        ],
        links=[WantedLink(entry["path"], entry["target"]) for entry in stored.get("links", [])],
        absent=stored.get("absent", []),
        keep=stored.get("keep", []),
        validators=[entry["command"] for entry in stored.get("validate", [])],
        commands=[
            WantedCommand(entry["command"], entry.get("when_changed", []), entry.get("creates"))
            for entry in stored.get("commands", [])
        ],
        units=[
            WantedUnit(
                name=entry["name"],
                enabled=entry.get("enabled"),
                state=entry.get("state"),
                masked=entry.get("masked"),
                reload_on=tuple(entry.get("reload_on", ())),
                restart_on=tuple(entry.get("restart_on", ())),
            )
            for entry in stored.get("units", [])
        ],
    )


def _file(entry: dict[str, Any]) -> WantedFile:
    content: bytes | None = None
    if "content" in entry:
        content = entry["content"].encode()
    elif "base64" in entry:
        content = base64.b64decode(entry["base64"])
    return WantedFile(
        path=entry["path"],
        content=content,
        sha256=entry.get("sha256") or hashlib.sha256(content or b"").hexdigest(),
        size=entry["size"] if content is None else len(content),
        owner=entry.get("owner", "root"),
        group=entry.get("group", "root"),
        mode=int(entry.get("mode", "0644"), 8),
        sensitive=entry.get("sensitive", False),
        create_only=entry.get("create_only", False),
    )
