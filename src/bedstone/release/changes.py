"""Check whether a release would change anything; cheap, because every run of Ansible asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.apps import config, environment
from bedstone.core import paths
from bedstone.ledger import database, releases
from bedstone.release import fingerprint, reconcile, source
from bedstone.release.outcome import Outcome
from bedstone.release.steps import prepare
from bedstone.system.host import Host

if TYPE_CHECKING:
    import sqlite3

    from bedstone.apps.config import App
    from bedstone.ledger.releases import Entry
    from bedstone.release.fingerprint import Fingerprint


REBUILT = "its image is built again, on the newest base image"


def is_rebuilt(app: App, *, rebuild: bool) -> bool:
    """Return whether ``--rebuild`` makes another image of the same source."""
    return rebuild and any(image.kind == "build" for image in app.images.values())


def would_change(name: str, host: Host | None = None, *, rebuild: bool = False) -> Outcome:
    """Return whether ``release(if_changed=True)`` would change anything; changes nothing."""
    host = host or Host()
    app = config.load(name)
    with database.opened() as connection:
        outcome = Outcome(name, changed=False)
        old = releases.serving(connection, name)
        if old is not None:
            outcome.release = outcome.previous = old.release
            outcome.put_right = reconcile.plan(host, name, old).words()
        identities = source.identify_all(app, host.docker, host.run, pull=False)
        prints = fingerprint.compute(app, identities)
        outcome.reason = reason(connection, name, prints)
        if not outcome.reason and is_rebuilt(app, rebuild=rebuild):
            outcome.reason = REBUILT
        newer = rolled_back_from(connection, name, prints)
        if newer is not None and old is not None:
            outcome.reason = ""
            outcome.warnings.append(held_back(name, newer.id))
            if secrets_are_old(app, old.release):
                outcome.reason = "its secrets have changed"
        outcome.changed = bool(outcome.reason or outcome.put_right)
        return outcome


def reason(connection: sqlite3.Connection, name: str, prints: Fingerprint) -> str:
    """Return why a release would change something, or nothing."""
    old = releases.serving(connection, name)
    if old is None:
        return "nothing of it serves yet"
    entry = releases.get(connection, name, old.release)
    if entry is None or entry.fingerprint != prints.whole:
        return "its source, settings or environment have changed"
    return ""


def rolled_back_from(
    connection: sqlite3.Connection, name: str, prints: Fingerprint
) -> Entry | None:
    """Return the release that an operator rolled back from and that is still what is declared.

    Without this, the next run of `site.yml` would restore what was taken out of service in the
    night.
    """
    old = releases.serving(connection, name)
    if old is None:
        return None
    for entry in releases.entries(connection, name):
        if entry.id > old.release and entry.state == "succeeded":
            return entry if entry.declared == prints.declared else None
    return None


def held_back(name: str, newer: str) -> str:
    """Return in words that a release which was rolled back stays so."""
    return (
        f"{newer} was rolled back and is still what the settings declare: it isn't released again"
        f" by itself. Change the source or the settings, or run `bedstone release {name}`."
    )


def secrets_are_old(declared: App, release_id: str) -> bool:
    """Return whether a kept release would run with other secrets than are declared now."""
    directory = paths.release(declared.name, release_id)
    app = config.load_file(directory / "app.json")
    secret = app.rotating_variables | declared.rotating_variables
    present = prepare.declared_environments(declared)
    return any(
        prepare.merged(then, prepare.present_of(present, name), secret) != then
        for name, then in environment.load_all(directory).items()
    )
