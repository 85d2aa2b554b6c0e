"""A server for tests: a directory that stands for `/`, and programs that only record calls.

Its state is in a file, so that a process which is killed in the middle leaves it behind.
"""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bedstone_converge import Result
    from bedstone_run import Ended

ME = {"owner": str(os.getuid()), "group": str(os.getgid())}
NEW_UNIT = {"active": "inactive", "file": "disabled", "load": "loaded", "stale": "no"}


class FakeServer:
    """Converges below `root`; answers dpkg-query, apt-get, systemctl and validators."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.root.mkdir(exist_ok=True)
        self.memory = directory / "memory.json"
        self.answers: dict[str, tuple[int, str]] = {}
        self.errors: dict[str, str] = {}
        self.before_call: Callable[[list[str]], None] = lambda _: None
        if not self.memory.exists():
            self._store({"calls": [], "packages": {}, "units": {}})

    # What tests ask and set

    @property
    def calls(self) -> list[list[str]]:
        calls: list[list[str]] = self._known()["calls"]
        return calls

    def called(self, *words: str) -> bool:
        return list(words) in self.calls

    def forget_calls(self) -> None:
        self._store({**self._known(), "calls": []})

    def set_unit(self, name: str, **values: str) -> None:
        known = self._known()
        known["units"][name] = {**NEW_UNIT, **known["units"].get(name, {}), **values}
        self._store(known)

    def set_package(self, name: str, version: str) -> None:
        known = self._known()
        known["packages"][name] = version
        self._store(known)

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def write(self, path: str, text: str = "", mode: int = 0o644) -> None:
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_text(text)
        self.path(path).chmod(mode)

    def read(self, path: str) -> str:
        return self.path(path).read_text()

    def mode(self, path: str) -> str:
        return f"{stat.S_IMODE(self.path(path).lstat().st_mode):04o}"

    def everything(self) -> dict[str, str]:
        """Return what lies below the root, without Bedstone's own files."""
        found = {}
        for place in sorted(self.root.rglob("*")):
            path = f"/{place.relative_to(self.root)}"
            if path == "/var" or path.startswith("/var/"):
                continue
            status = place.lstat()
            kind = "dir" if stat.S_ISDIR(status.st_mode) else "file"
            if place.is_symlink():
                found[path] = f"-> {place.readlink()}"
            else:
                content = place.read_bytes().hex() if kind == "file" else ""
                found[path] = f"{kind} {status.st_mode:o} {content}"
        return found

    def converge(
        self,
        declared: dict[str, Any],
        *,
        check: bool = False,
        with_diff: bool = False,
        uploads: dict[str, str] | None = None,
    ) -> Result:
        from bedstone_converge import Converge
        from bedstone_desired import parse

        declared = {"name": "web", **declared}
        for key in ("files", "directories"):
            declared[key] = [{**ME, **entry} for entry in declared.get(key, [])]
        converge = Converge(
            parse(declared),
            run=self.run,
            root=self.root,
            uploads=uploads,
            check=check,
            with_diff=with_diff,
        )
        return converge.converge()

    # What the server does

    def run(
        self,
        command: list[str],
        *,
        prepare: Callable[[], None] | None = None,
        timeout_seconds: float = 0,
    ) -> Ended:
        from bedstone_run import Ended

        del prepare, timeout_seconds
        self.before_call(command)
        known = self._known()
        known["calls"].append(command)
        self._store(known)
        for start, (code, output) in self.answers.items():
            if " ".join(command).startswith(start):
                return Ended(code, output, "")
        for start, errors in self.errors.items():
            if " ".join(command).startswith(start):
                return Ended(100, "", errors)
        if command[0] == "dpkg-query":
            return Ended(0, self._dpkg_query(command[4:]), "")
        if command[:2] == ["apt-get", "install"]:
            for name in command[command.index("--") + 1 :]:
                self.set_package(name.partition("=")[0], name.partition("=")[2] or "1.0")
        if command[0] == "systemctl":
            return Ended(0, self._systemctl(command[1], command), "")
        return Ended(0, "", "")

    def _dpkg_query(self, names: list[str]) -> str:
        packages = self._known()["packages"]
        return "".join(f"{name} installed {packages[name]}\n" for name in names if name in packages)

    def _systemctl(self, verb: str, command: list[str]) -> str:
        names = command[command.index("--") + 1 :] if "--" in command else []
        if verb == "show":
            return "\n\n".join(self._show(name) for name in names)
        changes = {
            "start": {"active": "active"},
            "restart": {"active": "active"},
            "stop": {"active": "inactive"},
            "enable": {"file": "enabled"},
            "disable": {"file": "disabled"},
        }.get(verb)
        for name in names:
            if changes:
                self.set_unit(name, **changes)
        return ""

    def _show(self, name: str) -> str:
        unit = self._known()["units"].get(name)
        if unit is None:
            there = self.path(f"/etc/systemd/system/{name}").exists()
            unit = {**NEW_UNIT, "load": "loaded" if there else "not-found"}
        return (
            f"Id={name}\nType=notify\nLoadState={unit['load']}\nActiveState={unit['active']}\n"
            f"SubState=x\nUnitFileState={unit['file']}\nNeedDaemonReload={unit['stale']}\n"
            "CanReload=yes"
        )

    def _known(self) -> dict[str, Any]:
        known: dict[str, Any] = json.loads(self.memory.read_text())
        return known

    def _store(self, known: dict[str, Any]) -> None:
        self.memory.write_text(json.dumps(known))
