"""The items of the checklist as data: id, words, and the function that answers."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedstone_control.inventory import create
from bedstone_control.roles import environment_table
from bedstone_control.roles.guesses import migration_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from bedstone_control.checklist.evidence import Evidence

YES, NO, LATER = "yes", "no", "not yet"
_TRUE = {"1", "true", "yes", "on"}


@dataclass(frozen=True)
class Answer:
    """The answer to an item.

    Attributes:
        state: `yes`, `no`, or `not yet` when what would answer isn't there.
        found: what was found.
        fix: how to change a `no` or `not yet`.

    """

    state: str
    found: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Item:
    """One line of the checklist.

    Attributes:
        id: its name, for programs.
        words: what has to be true.
        source: what answers.
        answer: returns the answer.

    """

    id: str
    words: str
    source: str
    answer: Callable[[Evidence], Answer]


def _joined(faults: Iterable[str], fix: str, good: str = "") -> Answer:
    found = "; ".join(faults)
    return Answer(NO, found, fix) if found else Answer(YES, good)


def _settings(evidence: Evidence) -> Answer:
    problems = evidence.settings_problems
    return _joined([problems] if problems else [], "each problem has its file, line and example")


def _vault(evidence: Evidence) -> Answer:
    path = evidence.inventory / create.VAULT_FILE
    fix = f"python -m bedstone_control secrets {evidence.inventory}"
    if not path.exists():
        return Answer(NO, f"there is no {create.VAULT_FILE}", fix)
    with path.open("rb") as file:
        if file.read(14) != b"$ANSIBLE_VAULT":
            return Answer(NO, f"{create.VAULT_FILE} is not encrypted", "ansible-vault encrypt")
    if evidence.settings_problems:
        return Answer(NO, "see the settings' problems", fix)
    return Answer(YES, "encrypted; none is missing, weak or there twice")


def _literals(evidence: Evidence) -> Answer:
    return _joined(
        (
            f"{app}: {item.name}"
            for app, items in _tables(evidence)
            for item in items
            if item.value == environment_table.MASK
        ),
        "put the value into the vault and write ${secret.NAME}",
    )


def _debug(evidence: Evidence) -> Answer:
    return _joined(
        (
            f"{app}: {item.name} is {item.value}"
            for app, items in _tables(evidence)
            for item in items
            if item.name in {"DEBUG", "DJANGO_DEBUG"} and item.value.lower() in _TRUE
        ),
        'env: {DEBUG: "False"}, then deploy.yml',
    )


def _source_mounts(evidence: Evidence) -> Answer:
    return _joined(
        (
            f"{app.name} runs the source in {app.source_mount.directory}"
            for app in evidence.site.settings.apps
            if app.source_mount
        ),
        "take `source_mount` away, which is for development, then deploy.yml",
    )


def _hosts(evidence: Evidence) -> Answer:
    faults = []
    for app, (name, items) in zip(evidence.site.settings.apps, _tables(evidence), strict=True):
        for item in items:
            if item.name == "ALLOWED_HOSTS":
                allowed = [part.strip() for part in item.value.split(",")]
                lacking = [one for one in app.domains if one not in allowed and "*" not in one]
                faults += [f"{name}: {one} is not in it" for one in lacking]
                faults += [f"{name}: it allows any name"] if "*" in allowed else []
    return _joined(faults, "env: {ALLOWED_HOSTS: ${app.domains}}, which is the default")


def _tables(evidence: Evidence) -> Iterator[tuple[str, list[environment_table.Variable]]]:
    for app in evidence.site.settings.apps:
        yield app.name, environment_table.table(evidence.site, app)


def _migrations(evidence: Evidence) -> Answer:
    return _joined(
        (
            f"{app.name}: nothing looks at its migrations"
            for app in evidence.site.settings.apps
            if app.database and app.commands.migrate and migration_tool(app) == "none"
        ),
        "declare Django's or Alembic's own command in commands.migrate",
        "each release judges pending ones before it changes anything",
    )


def _restore_point(evidence: Evidence) -> Answer:
    return _joined(
        (
            f"{app.name}: restore_point: never"
            for app in evidence.site.settings.apps
            if app.database and app.restore_point == "never"
        ),
        "restore_point: migrations, which is the default",
    )


def _offsite(evidence: Evidence) -> Answer:
    found = [each.name for each in evidence.site.settings.backup.destinations]
    return _joined(
        [] if found else ["backups stay on the server"],
        "bedstone_backup.destinations: docs/operations.md, Backups off the host",
        ", ".join(found),
    )


def _hooks(evidence: Evidence) -> Answer:
    fix = "bedstone_hooks: docs/operations.md, Notifications"
    return _joined([] if evidence.site.settings.hooks else ["no one is told of alarms"], fix)


def _dns(evidence: Evidence) -> Answer:
    own = {_addresses(each) for each in evidence.site.addresses.values()}
    own_addresses = {address for each in own for address in each}
    faults = []
    for app in evidence.site.settings.apps:
        for domain in app.domains:
            found = _addresses(domain.replace("*", "www"))
            if not found & own_addresses:
                there = ", ".join(sorted(found)) or "nowhere"
                faults.append(f"{domain} leads to {there}")
    return _joined(faults, "an A or AAAA record with the address of the host in group `proxy`")


def _addresses(name: str) -> frozenset[str]:
    try:
        return frozenset(str(each[4][0]) for each in socket.getaddrinfo(name, None))
    except OSError:
        return frozenset()


_REFUSED = Answer(LATER, "the settings are refused", "mend them, then ask again")


def _looked(*checks: str) -> Callable[[Evidence], Answer]:
    """Return a function that answers by the audit's checks that begin so."""

    def answer(evidence: Evidence) -> Answer:
        if evidence.settings_problems:
            return _REFUSED
        if evidence.looks is None:
            return Answer(LATER, evidence.look_fault.splitlines()[0], "playbooks/audit.yml")
        unreached = [row for row in evidence.looks if row["check"] == "address" and not row["ok"]]
        rows = [row for row in evidence.looks if str(row["check"]).startswith(checks)]
        if not rows:
            found = unreached[0]["found"] if unreached else "nothing serves a domain"
            return Answer(LATER, f"the server does not answer: {found}", "playbooks/site.yml")
        return _joined(
            (f"{row['host']}, {row['check']}: {row['found']}" for row in rows if not row["ok"]),
            "docs/audit.md has the cause of each",
            f"{len(rows)} checks from outside",
        )

    return answer


def _told(
    faults: Callable[[Mapping[str, Any]], Iterable[str]], fix: str
) -> Callable[[Evidence], Answer]:
    """Return a function that answers by what each server's status says."""

    def answer(evidence: Evidence) -> Answer:
        if evidence.settings_problems:
            return _REFUSED
        if not evidence.status:
            host, why = next(iter(evidence.silent.items()), ("", "no host"))
            found = f"the server does not answer: {host} {why.splitlines()[0]}"
            return Answer(LATER, found, "playbooks/site.yml")
        all_faults = [
            *(f"{host}: {one}" for host, it in evidence.status.items() for one in faults(it)),
            *(f"{host}: {why.splitlines()[0]}" for host, why in evidence.silent.items()),
        ]
        return _joined(all_faults, fix)

    return answer


def _serving(picture: Mapping[str, Any]) -> Iterator[str]:
    for app in picture["apps"]:
        if not app["ok"]:
            problems = ", ".join(app["problems"]) or "a service does not answer"
            yield f"{app['app']}: {problems}"


def _of_apps(part: str) -> Callable[[Mapping[str, Any]], Iterator[str]]:
    def faults(picture: Mapping[str, Any]) -> Iterator[str]:
        for app in picture["apps"]:
            found = app[part]
            if found is None:
                yield f"{app['app']}: none yet"
            elif found.get("problem"):
                yield f"{app['app']}: {found['problem']}"

    return faults


def _alarms(picture: Mapping[str, Any]) -> Iterator[str]:
    if picture["alarms"] is None:
        yield "the checks did not answer in time"
    for alarm in picture["alarms"] or ():
        if alarm["severity"] == "red":
            yield f"{alarm['words']}: {alarm['command']}"


def _problems(picture: Mapping[str, Any]) -> Iterator[str]:
    database = picture["database"]
    yield from database["problems"] if database else ()


def _deploy(evidence: Evidence) -> Answer:
    if not evidence.checks:
        return Answer(LATER, "no app of Django serves", "playbooks/deploy.yml")
    return _joined(
        (f"{app}: {said}" for app, said in evidence.checks.items() if said is not None),
        "each warning names the setting of Django",
    )


_STATUS, _AUDIT, _SETTINGS = "bedstone status", "audit.yml", "settings"
_FIX_STATUS = "bedstone status on the server names the command"

ITEMS: tuple[Item, ...] = (
    Item("settings", "Settings, vault and inventory are complete", "preflight", _settings),
    Item("secrets", "Secrets are strong, unique and encrypted", "preflight", _vault),
    Item("no-literals", "No secret stands in the settings", _SETTINGS, _literals),
    Item("debug", "Debug mode is off", _SETTINGS, _debug),
    Item("image", "The code comes from the image", _SETTINGS, _source_mounts),
    Item("allowed-hosts", "ALLOWED_HOSTS has the app's domains alone", _SETTINGS, _hosts),
    Item("migrations", "Migrations are judged before they run", _SETTINGS, _migrations),
    Item("restore-point", "The data is backed up before it changes", _SETTINGS, _restore_point),
    Item("offsite", "Backups are copied off the server", _SETTINGS, _offsite),
    Item("notifications", "Failures and alarms are told to someone", _SETTINGS, _hooks),
    Item("dns", "The domains lead to the server", "DNS", _dns),
    Item("ports", "Only declared ports are open", _AUDIT, _looked("port ", "other ports")),
    Item("certificates", "HTTPS works, trusted", _AUDIT, _looked("certificate ", "life ", "TLS ")),
    Item("redirect", "HTTP redirects to HTTPS", _AUDIT, _looked("http://")),
    Item("headers", "Security headers are sent", _AUDIT, _looked("headers ")),
    Item("health", "The health check answers from outside", _AUDIT, _looked("health ")),
    Item("services", "All services and workers run", _STATUS, _told(_serving, _FIX_STATUS)),
    Item("database", "The database is healthy", _STATUS, _told(_problems, _FIX_STATUS)),
    Item(
        "backups",
        "Backups are made",
        _STATUS,
        _told(_of_apps("backup"), "bedstone backup, then bedstone status"),
    ),
    Item(
        "restore",
        "A backup was proved by restoring it",
        _STATUS,
        _told(_of_apps("verification"), "bedstone verify"),
    ),
    Item("alarms", "No alarm is red", "bedstone alarms", _told(_alarms, "bedstone alarms")),
    Item("check-deploy", "Django's check --deploy is clean", "check --deploy", _deploy),
)
