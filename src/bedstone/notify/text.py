"""Format the text of an event."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_LINES, _LINE_CHARACTERS = 15, 200
_LONGEST_ERROR = 1000
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def plain(document: Mapping[str, object]) -> str:
    """Return an event as plain text, for mail and commands."""
    if document["event"] == "summary":
        return f"{_one_line(document['title'])}\n\n{clean(_text(document['details']))}".strip()
    parts = [_one_line(document["title"]), "", *_facts(document)]
    if lines := last_lines(_text(document["details"])):
        parts += ["", "Last lines:", *(f"  {line}" for line in lines.splitlines())]
    return "\n".join(parts).strip()


def slack(document: Mapping[str, object]) -> str:
    """Return an event in the markup of Slack, which Mattermost and others read too."""
    if document["event"] == "summary":
        title, _, body = plain(document).partition("\n\n")
        return f"*{_escape(title)}*\n{_escape(body)}"
    title, *facts = plain({**document, "details": ""}).splitlines()
    parts = [f"*{_escape(title)}*", *(_escape(fact) for fact in facts if fact)]
    if lines := last_lines(_text(document["details"])):
        # Three backticks would end the block.
        parts.append("```" + _escape(lines).replace("```", "'''") + "```")
    return "\n".join(parts)


def subject(document: Mapping[str, object]) -> str:
    """Return the subject of a mail: one line."""
    return f"[{document['server']}] {_one_line(document['title'])}"[:_LINE_CHARACTERS]


def last_lines(text: str) -> str:
    """Return the end of a log, shortened so that it can be read on a telephone."""
    lines = [line.rstrip() for line in clean(text).splitlines() if line.strip()]
    return "\n".join(
        line if len(line) <= _LINE_CHARACTERS else f"{line[:_LINE_CHARACTERS]} …"
        for line in lines[-_LINES:]
    )


def clean(text: str) -> str:
    """Return text without colours and other control characters."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text).replace("\r", "\n"))


def _facts(document: Mapping[str, object]) -> list[str]:
    release, previous = document["release"], document["previous"]
    versions = release
    if release and previous and previous != release:
        versions = f"{previous} → {release}"
    seconds = document["seconds"]
    facts = (
        ("Server", document["server"]),
        ("App", document["app"]),
        ("Release", versions),
        ("Failed step", document["failed_step"]),
        ("Error", document["error"]),
        ("What to do", document["hint"]),
        ("Restore point", document["restore_point"]),
        ("Took", f"{seconds:.0f} s" if isinstance(seconds, int | float) else None),
    )
    return [
        f"{name}: {clean(str(value))[:_LONGEST_ERROR].strip()}" for name, value in facts if value
    ]


def _text(value: object) -> str:
    return str(value or "")


def _one_line(value: object) -> str:
    return " ".join(clean(_text(value)).split())


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
