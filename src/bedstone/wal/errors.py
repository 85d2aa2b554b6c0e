"""Translate pgBackRest's errors into a cause and a remedy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.core.lock import LockedError

if TYPE_CHECKING:
    from bedstone.storage.destinations import Destination

_LONGEST = 300
_LEVEL = re.compile(r"^(\S+ \S+ )?(P\d+\s+)?(ERROR|WARN|INFO|HINT):\s*")


FOREIGN_HINT = (
    "Nothing was changed there. Is it another server's path? Then give this one a path of its own."
    " If this cluster has replaced that one (a major upgrade, a restored dump), `bedstone wal ready"
    " --new-cluster` begins a new archive beside the old."
)


GONE_HINT = (
    "Is it the right path, and mounted? If its backups are lost, move away what is left at that"
    " path, then `bedstone wal ready` makes an empty one and `bedstone wal full` fills it."
)


UNREACHABLE_HINT = (
    "The database serves on and keeps its WAL until the destination is back, up to the limit of the"
    " settings. `bedstone status` shows how much waits."
)


class UnreachableError(BedstoneError):
    """The destination doesn't answer, or authentication failed."""


class ForeignError(RefusedError):
    """The repository at the destination belongs to another cluster."""


class WrongKeyError(RefusedError):
    """The repository at the destination was encrypted with another key."""


class GoneError(RefusedError):
    """There is no repository, or it is broken."""


class FullDiskError(BedstoneError):
    """The destination takes no more data."""


@dataclass(frozen=True)
class _Case:
    """An error of pgBackRest's: its words, and ours. ``{place}`` and ``{why}`` are filled in."""

    words: re.Pattern[str]
    error: type[BedstoneError]
    message: str
    hint: str


def _words(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


# Words of pgBackRest 2.45 and later. The first that fits decides.
_CASES = (
    _Case(
        _words(r"\[050\]|unable to acquire lock"),
        LockedError,
        "{what} didn't begin: another backup of this cluster is running.",
        "Wait until it has ended: `systemctl list-units 'bedstone-wal-*'`.",
    ),
    # A CryptoError as well, and no word of the repository's key.
    _Case(
        _words(r"unable to verify certificate|unable to find hostname .* in certificate"),
        UnreachableError,
        "{what} failed: the certificate of {place} isn't trusted here: {why}.",
        "The authority that has signed it belongs into `bedstone_extra_ca_certificates`; then"
        " `provision.yml`.",
    ),
    _Case(
        _words(
            r"CryptoError|\[095\]|cipher header invalid|is or was the repo encrypted"
            # Now and then a wrong key gives noise.
            r"|key/value found outside of section|invalid JSON type|expected format"
        ),
        WrongKeyError,
        "{what} failed: what lies at {place} was encrypted with another key, or isn't encrypted.",
        "Nothing was changed there. The key is `bedstone_secrets.backup.key` in the vault. With the"
        " former key the backups there can be read; to begin anew with this one, give the"
        " destination another path.",
    ),
    _Case(
        _words(
            r"do not match the database|\[(044|051|058)\]|ArchiveMismatch|BackupMismatch|DbMismatch"
            r"|mismatch with version|does not match stanza"
        ),
        ForeignError,
        "{what} failed: the WAL at {place} is that of another cluster, or of another major version"
        " of PostgreSQL.",
        FOREIGN_HINT,
    ),
    _Case(
        _words(r"\[082\]|ArchiveTimeout|was not archived before"),
        BedstoneError,
        "{what} failed: PostgreSQL's WAL didn't arrive at {place} in time.",
        "`bedstone status` says what holds it up; pgBackRest's own words are in /var/log/pgbackrest"
        " and in PostgreSQL's log in /var/log/postgresql.",
    ),
    _Case(
        _words(
            r"\[064\]|No space left|ENOSPC|StorageFull|Disk quota exceeded|sftp error \[1[45]\]"
            r"|unable to (write|close|sync)[^\n]*sftp error \[4\]"
        ),
        FullDiskError,
        "{what} failed: {place} took no more data; most likely its disk is full.",
        "Make room there (`df -h` on that server), then run it again. What was finished before is"
        " untouched.",
    ),
    _Case(
        _words(r"NoSuchBucket"),
        GoneError,
        "{what} failed: the bucket of {place} isn't there.",
        "Make the bucket, or correct its name in the settings; then `bedstone wal ready` and"
        " `bedstone wal full`.",
    ),
    _Case(
        _words(r"known.?hosts?|host key|hostkey"),
        UnreachableError,
        "{what} failed: the host key of {place} isn't one of its `host_keys`.",
        "pgBackRest takes the server's first choice of key types: give all the lines that"
        " `ssh-keyscan HOST` prints, compared with those on the server itself.",
    ),
    _Case(
        _words(
            r"HTTP request failed with 403|InvalidAccessKey|SignatureDoesNotMatch|AccessError"
            r"|public key authentication failed"
        ),
        UnreachableError,
        "{what} failed: {place} doesn't let us in: {why}.",
        "Check its `user` and key in the settings and the vault.",
    ),
    _Case(
        _words(
            r"\[(049|101|105|039)\]|HostConnect|ServiceError|ProtocolError"
            r"|libssh2 (errno|error) \[-(5|7|9|13|18|19|43|44)\]"
            r"|unable to (get address|connect)|timeout connecting|HTTP request failed with 5\d\d"
        ),
        UnreachableError,
        "{what} failed: {place} can't be reached: {why}.",
        UNREACHABLE_HINT,
    ),
    _Case(
        _words(
            r"\[(055|073|075|103|080)\]|FileMissing|PathMissing|unable to load info file"
            r"|missing stanza data|unable to find a valid repository|does not exist"
            r"|no backup sets? found"
        ),
        GoneError,
        "{what} failed: there is no whole repository at {place}: {why}.",
        GONE_HINT,
    ),
)
_OTHER = _Case(
    _words(""),
    BedstoneError,
    "{what} failed at {place}: {why}.",
    "pgBackRest's own words are in /var/log/pgbackrest.",
)


def reason(output: str) -> str:
    """Return the first thing that pgBackRest calls an error, without its decoration."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if " ERROR: " in f" {line}"]
    # What `info` only mentions of a repository begins with the error's name.
    errors += [line for line in lines[:1] if line.startswith("[")]
    first = errors[0] if errors else (lines[-1] if lines else "pgBackRest said nothing")
    return re.sub(r"^\[\w+\]:?\s*", "", _LEVEL.sub("", first)).rstrip(".: ")[:_LONGEST]


def printable(output: str) -> str:
    """Return a text without what no terminal shows: decrypted with a wrong key, a file is noise."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else "?"
        for character in output
    )  # fmt: skip


def explained(output: str, destination: Destination | None, what: str) -> BedstoneError:
    """Return the error for pgBackRest's output.

    Args:
        output: what it printed.
        destination: where it was working; None when that isn't one place.
        what: what it was to do ("The full backup").

    """
    place = f"{destination.name} ({destination.words()})" if destination else "a destination"
    output = printable(output)
    case = next((case for case in _CASES if case.words.search(output)), _OTHER)
    message = case.message.format(what=what, place=place, why=reason(output))
    return case.error(message, hint=case.hint, details=output)
