"""Check the destinations of backups, their secrets, and the backup key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bedstone_control.checks.context import did_you_mean, nearest
from bedstone_control.checks.operators import host_key_fault
from bedstone_control.roles import destinations
from bedstone_control.settings import placeholders
from bedstone_control.vault import backup_key, content, ssh_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone_control.checks.context import Context, Place
    from bedstone_control.checks.problems import Problem
    from bedstone_control.settings.backup import Destination
    from bedstone_control.settings.root import Settings

_SETTING: Place = ("bedstone_backup", "destinations")
_SECRETS: Place = ("bedstone_secrets", "backup")
_SFTP = {
    "host": "backup.example.com",
    "user": "bedstone",
    "path": "/srv/bedstone",
    "host_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…"],
}
_PATH = re.compile(r"/[A-Za-z0-9._/@+${}-]*")
_HOST = "host"
_EDIT = (
    "ansible-vault edit {vault}\n# then, under bedstone_secrets:\nbackup:\n"
    "  destinations:\n    {destination}:\n      {name}: {value}"
)
_ADD = "python -m bedstone_control secrets {name}   # adds what is missing, changes nothing else"
_HOLD = "make backup-key NAME={name}   # shows the key, asks for it back, and writes the line"


def check(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check the destinations, their secrets and the backup key."""
    declared = settings.backup.destinations
    yield from _names(context, declared)
    for index, there in enumerate(declared):
        yield from _one(context, (*_SETTING, index), there)
    yield from _shared(context, declared)
    yield from _uploads(context, settings)
    if isinstance(context.variables.get("bedstone_secrets"), dict):  # else reported already
        yield from _key(context, settings)
        yield from _secrets(context, declared)


def _uploads(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check that uploads which are copied between the backups are in those, and go somewhere."""
    for index, app in enumerate(settings.apps):
        media = app.media
        if media is None or media.copy_every_minutes is None:
            continue
        where = ("bedstone_apps", index, "media", "copy_every_minutes")
        if not media.backup:
            message = "`backup: false` keeps these uploads out of every copy."
            yield context.problem(where, message, {"backup": True})
        if not settings.backup.destinations:
            message = "The uploads can't be copied: `bedstone_backup` has no destination."
            example = {"bedstone_backup": {"destinations": [{"name": "offsite", "sftp": _SFTP}]}}
            yield context.problem(where, message, example)


def _names(context: Context, declared: list[Destination]) -> Iterator[Problem]:
    """Check that each destination has a name of its own."""
    seen: set[str] = set()
    for index, there in enumerate(declared):
        where = (*_SETTING, index, "name")
        if there.name == "local":
            message = "`local` is the server itself, which always keeps backups."
            yield context.problem(where, message, {"name": "offsite"})
        elif there.name in seen:
            message = f"Two destinations are called `{there.name}`."
            yield context.problem(where, message, {"name": f"{there.name}-two"})
        seen.add(there.name)


def _one(context: Context, place: Place, there: Destination) -> Iterator[Problem]:
    """Check one destination."""
    given = [name for name in ("sftp", "s3") if getattr(there, name) is not None]
    if len(given) != 1:
        found = "here are both" if given else "here is neither"
        message = f"A destination has one of `sftp` and `s3`, and {found}."
        yield context.problem(place, message, [{"name": there.name, "sftp": _SFTP}])
    yield from _immutable(context, place, there)
    if there.sftp is not None:
        yield from _path(context, (*place, "sftp", "path"), there.sftp.path, "/srv/bedstone")
        if there.sftp.path.strip("/") == "":
            message = "The root directory is no place for backups; name one below it."
            yield context.problem((*place, "sftp", "path"), message, {"path": "/srv/bedstone"})
        for index, key in enumerate(there.sftp.host_keys):
            if (wrong := host_key_fault(key)) is not None:
                example = {"host_keys": _SFTP["host_keys"]}
                yield context.problem((*place, "sftp", "host_keys", index), wrong, example)
    if there.s3 is not None:
        yield from _path(context, (*place, "s3", "path"), there.s3.path, "/payments")
        if destinations.endpoint(there.s3.endpoint) is None:
            plain = there.s3.endpoint.startswith("http://")
            message = (
                "Without TLS, whoever is on the way could swallow the backups, or repeat what "
                "deletes them; it begins with https://."
                if plain
                else f"{there.s3.endpoint!r} is no address of a service: https://, a host, and a "
                "port when it is not 443. Bucket and path have keys of their own."
            )
            example = {"endpoint": "https://s3.eu-central-1.example.com"}
            yield context.problem((*place, "s3", "endpoint"), message, example)


def _immutable(context: Context, place: Place, there: Destination) -> Iterator[Problem]:
    """Check that what is immutable, and the keys for WAL, can be so."""
    if there.immutable and there.wal and there.sftp is not None:
        message = (
            "An SFTP destination can't be immutable and keep WAL: pgBackRest replaces files of its "
            "own, which an account that only appends refuses. WAL goes to an immutable bucket "
            "(`s3`) or to another destination (docs/backups-immutable.md)."
        )
        yield context.problem((*place, "immutable"), message, {"immutable": True, "wal": False})
    own = (
        ("sftp", "wal_user", there.sftp is not None and there.sftp.wal_user is not None),
        ("s3", "wal_key", there.s3 is not None and there.s3.wal_key),
    )
    for kind, name, given in own:
        if given and not there.wal:
            message = f"`{name}` is for the database's log, and `wal: false` keeps none there."
            yield context.problem((*place, kind, name), message, {"wal": True})
    if there.sftp is not None and there.sftp.wal_user == there.sftp.user:
        message = "The account for the log is the one for the other backups: nothing is separated."
        yield context.problem((*place, "sftp", "wal_user"), message, {"wal_user": "bedstone-wal"})


def _path(context: Context, place: Place, path: str, right: str) -> Iterator[Problem]:
    """Check a path at a destination."""
    unknown = [name for name in placeholders.used(path) if name != _HOST]
    message = None
    if not path.startswith("/"):
        message = f"A path at a destination is absolute; {path!r} does not begin with a slash."
    elif unknown:
        message = f"Unknown placeholder ${{{unknown[0]}}}. Known is only `host`."
    elif not _PATH.fullmatch(path) or ".." in path.split("/"):
        message = f"{path!r} holds something else than letters, digits and / . _ - @ +, or `..`."
    if message is not None:
        yield context.problem(place, message, {"path": right})


def _shared(context: Context, declared: list[Destination]) -> Iterator[Problem]:
    """Check that no two keep their backups in one directory."""
    hosts = context.groups.get("postgresql", [])
    taken: dict[str, str] = {}
    for index, there in enumerate(declared):
        kind = "sftp" if there.sftp is not None else "s3"
        place, given = (*_SETTING, index, kind, "path"), there.sftp or there.s3
        if given is None:
            continue
        directory = destinations.directory(there)
        other = taken.setdefault(directory, there.name)
        if other != there.name:
            message = f"`{other}` and `{there.name}` are one and the same directory."
            yield context.problem(place, message, {"path": f"{given.path.rstrip('/')}/two"})
        if directory in content.directories_of_previous_key(context.variables):
            message = (
                f"What lies in the directory of `{there.name}` is encrypted with the previous "
                "backup key: a new key needs a new directory (docs/rotation.md)."
            )
            yield context.problem(place, message, {"path": f"{given.path.rstrip('/')}/two"})
        if len(hosts) > 1 and _HOST not in placeholders.used(given.path):
            message = (
                f"The servers {' and '.join(hosts)} would write into one directory; `${{host}}` "
                "gives each its own."
            )
            right = {"path": f"{given.path.rstrip('/')}/${{host}}"}
            yield context.problem(place, message, right)


def _key(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check the key, and that its fingerprint proves that it is held elsewhere, too."""
    key, held = content.backup_key(context.variables), settings.backup.key_held
    name = context.inventory_directory.name
    place = (*_SECRETS, "key")
    if key is None:
        if settings.backup.destinations or held is not None:
            message = "The vault lacks the backup key, with which all that leaves is encrypted."
            yield context.problem(place, message, _ADD.format(name=name))
        return
    if (wrong := backup_key.fault(key)) is not None:
        message = f"The backup key {wrong}."
        example = f"…\n# without the line, {_ADD.format(name=name)}"
        yield context.problem(place, message, example)
        return
    where: Place = ("bedstone_backup", "key_held")
    if held is None and settings.backup.destinations:
        message = (
            "Nobody has shown yet that the backup key is kept in a second place. What leaves the "
            "server is encrypted with it: if it burns with this vault, all backups are lost."
        )
        yield context.problem(where, message, _HOLD.format(name=name))
    elif held is not None and backup_key.same(held, key):
        message = (
            "This is the key itself, in plain text; here belongs its fingerprint. Who has seen the "
            "file can open the backups: change the key if others have (docs/rotation.md)."
        )
        yield context.problem(where, message, _HOLD.format(name=name))
    elif held is not None and not backup_key.is_fingerprint(held, key):
        # Not shown: it might be another inventory's key.
        message = (
            "This is not the fingerprint of the backup key in the vault: either the key is another "
            "one than the one that was kept, or the line came from another inventory."
        )
        yield context.problem(where, message, _HOLD.format(name=name))


def _secrets(context: Context, declared: list[Destination]) -> Iterator[Problem]:
    """Check that the vault has what the destinations need, and nothing for others."""
    present = content.destination_secrets(context.variables)
    for there in declared:
        place: Place = (*_SECRETS, "destinations", there.name)
        wanted, given = content.secrets_of(there), present.get(there.name, {})
        if (there.sftp is None) == (there.s3 is None):
            continue  # reported already; which secrets it needs will be seen then
        missing = [name for name in wanted if given.get(name) is None]
        if missing:
            yield context.problem(place, *_missing(context, there, missing, present))
        yield from _values(context, there, given)
    known = _declared_names(context)
    for name in present:
        if name not in known and name not in {there.name for there in declared}:
            message = f"There is no destination `{name}` in the settings. "
            hint = did_you_mean(name, known) if known else "There is none at all."
            example = f"ansible-vault edit {_vault(context)}\n# take `{name}` out"
            yield context.problem((*_SECRETS, "destinations", name), message + hint, example)


def _values(context: Context, there: Destination, given: dict[str, Any]) -> Iterator[Problem]:
    """Check the secrets that the vault has for one destination."""
    wanted = content.secrets_of(there)
    for name, value in given.items():
        where: Place = (*_SECRETS, "destinations", there.name, name)
        if name not in wanted:
            message = f"The destination `{there.name}` needs no `{name}`. "
            example = ", ".join(f"{item}: …" for item in wanted)
            yield context.problem(where, message + did_you_mean(str(name), wanted), example)
        elif (
            name.endswith("private_key")
            and (wrong := ssh_keys.private_key_fault(value)) is not None
        ):
            right = _edit(context, there.name, name, "|\n        " + _PRIVATE)
            yield context.problem(where, wrong, right)
        elif not name.endswith("private_key") and not _is_word(value):
            message = f"`{name}` is not one word of text; put it in quotes."
            yield context.problem(where, message, _edit(context, there.name, name, '"…"'))
        elif name.startswith("wal_") and value == given.get(name.removeprefix("wal_")):
            message = (
                f"`{name}` is the key for the other backups, too: PostgreSQL's user could reach"
                " them."
            )
            yield context.problem(where, message, _edit(context, there.name, name, "…"))


_PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\n        …"


def _is_word(value: object) -> bool:
    """Return whether a secret can stand in a line of a configuration file."""
    return isinstance(value, str) and re.fullmatch(r"[!-~]+", value) is not None


def _missing(
    context: Context,
    there: Destination,
    missing: list[str],
    present: dict[str, dict[str, Any]],
) -> tuple[str, str]:
    """Return which secrets a destination lacks, and how they get into the vault."""
    names = " and ".join(f"`{name}`" for name in missing)
    message = f"The vault lacks {names} of the destination `{there.name}`."
    others = [name for name in present if name not in _declared_names(context)]
    if there.name not in present and (match := nearest(there.name, others)):
        message += f" It has secrets for `{match}`."
    if all(name.endswith("private_key") for name in missing):
        return message, _ADD.format(name=context.inventory_directory.name)
    rest = "".join(f"\n      {name}: …" for name in missing[1:])
    return message, _edit(context, there.name, missing[0], "…" + rest)


def _declared_names(context: Context) -> list[str]:
    """Return the names of all destinations in the settings, also of those that can't be read."""
    backup = context.variables.get("bedstone_backup")
    given = backup.get("destinations") if isinstance(backup, dict) else None
    items = given if isinstance(given, list) else []
    return [str(item["name"]) for item in items if isinstance(item, dict) and "name" in item]


def _vault(context: Context) -> str:
    return context.locator.file(("bedstone_secrets",)).split(", line")[0]


def _edit(context: Context, destination: str, name: str, value: str) -> str:
    return _EDIT.format(vault=_vault(context), destination=destination, name=name, value=value)
