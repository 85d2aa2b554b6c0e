"""Translate restic's errors into a cause and a remedy."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from bedstone.core.process import tail
from bedstone.storage import destinations, reachability

if TYPE_CHECKING:
    from bedstone.core.process import Completed
    from bedstone.storage.destinations import Destination

KEY = "key"
MISSING = "missing"
LOCKED = "locked"
FULL = "full"
DAMAGED = "damaged"
UNREACHABLE = reachability.UNREACHABLE
HOST_KEY = reachability.HOST_KEY
REFUSED = reachability.REFUSED
OTHER = "other"

# Exit codes of their own; every other failure is 1, and words.
_CODES = {10: MISSING, 11: LOCKED, 12: KEY}
_GONE = (
    r"no such file or directory|file does not exist|specified key does not exist|NoSuchBucket"
    r"|NoSuchKey|bucket does not exist|repository does not exist"
)
_BROKEN = (
    r"ciphertext verification failed|repository contains errors|unexpected file size|hash mismatch"
    r"|invalid data returned|unexpected EOF|is damaged|does not match|not found in index"
    r"|wrong data returned|There were \d+ errors|already exists"
)
# The first that fits counts.
_WORDS = (
    (KEY, r"wrong password or no key found"),
    (LOCKED, r"already locked|unable to create lock"),
    (FULL, r"no space left|SSH_FX_FAILURE|disk quota|QuotaExceeded|not enough space"),
    (MISSING, rf"unable to open config file:.*({_GONE})|({_GONE}).*config"),
    (HOST_KEY, reachability.HOST_KEY_WORDS),
    (REFUSED, reachability.REFUSED_WORDS),
    (
        DAMAGED,
        _BROKEN,
    ),
    (UNREACHABLE, reachability.UNREACHABLE_WORDS),
    (REFUSED, r"permission denied"),
)


class ResticError(reachability.ReachError):
    """restic failed; ``reason`` says in one word why."""


def reason(ended: Completed) -> str:
    """Return in one word why restic failed."""
    if ended.returncode in _CODES:
        return _CODES[ended.returncode]
    text = _text(ended)
    for name, words in _WORDS:
        if re.search(words, text, re.IGNORECASE):
            return name
    return OTHER


def explain(ended: Completed, destination: Destination, location: str) -> ResticError:
    """Return the error for a failed call of restic.

    Args:
        ended: how it ended.
        destination: where it worked.
        location: the repository, as restic calls it.

    """
    why, text = reason(ended), tail(_text(ended), 12)
    asked = why in {UNREACHABLE, HOST_KEY, OTHER} or "sftp session" in text
    if asked and destination.type == destinations.SFTP:
        # restic may lose what ssh said; ask ssh itself.
        found = reachability.ssh_problem(destination)
        if found is not None:
            return ResticError(
                found.message, found.reason, hint=found.hint or "", details=found.details
            )
    message, hint = _sentence(why, destination, location)
    return ResticError(message, why, hint=hint, details=text)


def _sentence(why: str, destination: Destination, location: str) -> tuple[str, str]:
    name = destination.name
    key = destinations.key_path()
    sentences = {
        KEY: (
            f"The backup key doesn't open the repository at {name} ({location}).",
            (
                f"It was made with another key than the one in {key}: either the path is another"
                " server's, or the key was changed. Put the former key back, or give this server a"
                " path of its own."
            ),
        ),
        MISSING: (
            f"There is no repository at {name} ({location}).",
            "Nothing was copied there yet (`bedstone copy`), or it was removed.",
        ),
        LOCKED: (
            f"The repository at {name} is locked by a run that is still alive.",
            "Wait for it to end. A lock whose run died on another server goes after 30 minutes.",
        ),
        HOST_KEY: (
            f"The host key of {name} ({destination.words()}) isn't the one that is declared.",
            "Somebody may be in between. Compare the key with the server's own.",
        ),
        FULL: (
            f"{name} has no room left: it takes no more data.",
            "Make room there, or give it a larger disk; then `bedstone copy`.",
        ),
        REFUSED: (
            f"{name} refuses access to {location}.",
            (
                "Are the account, its keys and the rights of the path as they should be?"
                " `bedstone destinations --check` tries again."
            ),
        ),
        DAMAGED: (
            f"The repository at {name} is damaged.",
            (
                "Look at the disk there. What is on this server is unharmed: move the repository"
                " aside, and `bedstone copy` makes it anew."
            ),
        ),
        UNREACHABLE: (
            f"{name} ({destination.words()}) can't be reached.",
            "Is the server up, and its port open to this one?",
        ),
    }
    return sentences.get(why, (f"restic failed at {name}.", ""))


def _text(ended: Completed) -> str:
    lines = []
    for line in (*ended.stdout.splitlines(), *ended.stderr.splitlines()):
        if line.startswith("{"):
            with suppress(ValueError):
                message = json.loads(line)
                if message.get("message_type") == "exit_error":
                    lines.append(str(message.get("message")))
                elif message.get("message_type") == "error":
                    lines.append(f"{message.get('item')}: {json.dumps(message.get('error'))}")
                continue
        lines.append(line)
    return "\n".join(lines)
