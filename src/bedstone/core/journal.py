"""Keep a file that records a running operation, so that the next run can finish or undo it.

The file exists only while the operation runs. It is on the disk, complete, before the operation
begins; when it is removed, it stays removed after a power cut.

"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from bedstone.core import files, paths
from bedstone.core.errors import BedstoneError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Journal = TypeVar("Journal")


def save(path: Path, journal: Any) -> None:
    """Write a journal, a dataclass, to the disk in place of the previous one."""
    paths.ensure_private(path.parent)
    files.write(path, json.dumps(asdict(journal), indent=2) + "\n", mode=0o600)


def load(path: Path, make: Callable[[Any], Journal], *, of: str, hint: str) -> Journal | None:
    """Return the journal of what is under way or was killed, or None.

    Args:
        path: its file.
        make: makes the journal of the document that was saved.
        of: the operation it records, such as "an interrupted restore".
        hint: what to do when it can't be read.

    Raises:
        BedstoneError: the file isn't what was saved.

    """
    try:
        return make(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BedstoneError(f"{path} of {of} can't be read: {error!r}.", hint=hint) from error


def clear(path: Path) -> None:
    """Remove it: the operation is finished, or undone."""
    path.unlink(missing_ok=True)
    if path.parent.is_dir():
        files.sync_directory(path.parent)
