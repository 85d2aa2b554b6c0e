"""Map a role's template tree to paths on the server."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

TEMPLATE_SUFFIX = ".j2"


def list_tree(folder: Path) -> list[tuple[str, Path]]:
    """List a tree's files: each one's path on the server, and the file it is made from.

    Raises:
        ValueError: the tree holds no file.

    """
    files = []
    for parent, _, names in os.walk(folder, followlinks=True):
        for name in names:
            source = Path(parent) / name
            path = f"/{source.relative_to(folder)}".removesuffix(TEMPLATE_SUFFIX)
            files.append((path, source))
    if not files:
        raise ValueError(f"The tree {folder} holds no file.")
    return sorted(files)


def apply_attributes(files: list[dict[str, Any]], attributes: list[dict[str, Any]]) -> None:
    """Give files what the entries that match their path say; later entries win.

    Raises:
        ValueError: an entry fits no file, so that it would do nothing in silence.

    """
    for entry in attributes:
        pattern = compiled(entry["match"])
        values = {key: value for key, value in entry.items() if key != "match"}
        fitting = [file for file in files if pattern.fullmatch(file["path"])]
        if not fitting:
            raise ValueError(
                f"attributes: {entry['match']} fits no file of the tree. It holds "
                f"{', '.join(file['path'] for file in files)}."
            )
        for file in fitting:
            file.update(values)


def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of paths; the server's side of it is module_utils/bedstone_paths.py."""
    tokens = re.findall(r"\*\*/|\*\*|\*|\?|\[!?[^\]]+\]|.", pattern, re.DOTALL)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = []
    for token in tokens:
        if token in known:
            parts.append(known[token])
        elif len(token) > 1:
            parts.append(f"[^{token[2:]}" if token.startswith("[!") else token)
        else:
            parts.append(re.escape(token))
    return re.compile("".join(parts), re.DOTALL)
