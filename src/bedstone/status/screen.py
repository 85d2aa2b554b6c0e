"""Format the overview as one screen of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone.core import age
from bedstone.core import disk as space
from bedstone.notify import unit_failures
from bedstone.replica import picture as replicas
from bedstone.status import database, written
from bedstone.upgrade import status as upgrades
from bedstone.wal import status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedstone.core.terminal import Paint

Shown = dict[str, Any]


def render(picture: Mapping[str, Any], paint: Paint) -> str:
    """Return the screen."""
    parts = ["\n".join(_app(app, paint)) for app in picture["apps"]]
    if not parts:
        parts.append("No app is declared on this server.")
        more = picture.get("alarms") or picture.get("retired")
        if not (more or picture["database"] or picture.get("replication")):
            return parts[0]
    if picture.get("retired"):
        parts.append("\n".join(_retired(entry) for entry in picture["retired"]))
    server = [_disk(disk, paint) for disk in picture["disks"]]
    server += database.lines(picture["database"], paint)
    server += status.lines(picture.get("wal"), paint)
    server += replicas.lines(picture.get("replication"), paint)
    server += upgrades.lines(picture.get("upgrades"), paint)
    if server:
        parts.append("\n".join(server))
    warnings = [
        f"  {alarm['words']}: {alarm['command']}"
        for alarm in picture.get("alarms") or ()
        if alarm["severity"] == "warning"
    ]
    if warnings:
        parts.append("\n".join([paint("yellow", "Warnings:"), *warnings]))
    if picture["problems"]:
        lines = [paint("red", f"  {problem}") for problem in picture["problems"]]
        parts.append("\n".join([paint("red", "Needs attention:"), *lines]))
    return "\n\n".join(parts)


def _retired(entry: Shown) -> str:
    return (
        f"{entry['app']}: retired {entry['since'][:10]}; its images and releases stay until"
        f" {entry['kept_until'][:10]}, its data until you remove it"
    )


def _app(app: Shown, paint: Paint) -> Iterator[str]:
    yield from _heading(app, paint)
    for service in app["services"]:
        yield _service(service, paint)
    for job in app["jobs"]:
        yield _job(job, paint)
    if app["images"]:
        size = space.human(app["images"]["bytes"])
        yield _fact("images", f"{app['images']['kept']} kept, {size}")
    if app["written"]:
        yield _fact("written", paint("yellow", written.line(app["written"])))
    if app["backup"]:
        yield _backup(app["backup"], paint)
    if app["copies"]:
        yield _copies(app["copies"], paint)
    if app["verification"]:
        yield _verification(app["verification"], paint)
    for number, operation in enumerate(app["operations"]):
        yield from _operation(app, operation, newest=number == 0, paint=paint)


def _heading(app: Shown, paint: Paint) -> Iterator[str]:
    name = paint("green" if app["ok"] else "red", app["app"])
    if app["release"] is None:
        yield f"{name}: {paint('red', app['error'] or 'not released yet')}"
    else:
        since = f", for {age.since(app['since'])}" if app["since"] else ""
        yield f"{name}: release {app['release']}{since}, slot {app['slot']}"
        if app["error"]:
            yield paint("red", f"  {app['error']}")
    for domain in app["domains"]:
        yield f"  https://{domain}/"
    if app["maintenance_since"]:
        yield paint("yellow", f"  MAINTENANCE since {age.short(app['maintenance_since'])}")
    if app["running"]:
        yield paint("yellow", f"  {_running(app['running'])}")


def _fact(name: str, text: str) -> str:
    return f"  {name:<7} {text}"


def _service(service: Shown, paint: Paint) -> str:
    mark = paint("green", "up  ") if service["ok"] else paint("red", "DOWN")
    said = service["state"]
    if service["health"]:
        said = service["health"]["said"]
    if not service["ok"]:
        said = paint("red", said) + f"; `journalctl -u {service['unit']} -n 50`"
    elif service["since"]:
        said += f", for {age.since(service['since'])}"
    if service["restarts"]:
        times = "once" if service["restarts"] == 1 else f"{service['restarts']} times"
        said += paint("yellow", f", restarted {times}")
    return f"  {mark} {service['service']:<16} {said}"


def _job(job: Shown, paint: Paint) -> str:
    if not job["installed"]:
        words = paint("red", "not installed: run site.yml")
    elif job["running"]:
        words = paint("yellow", "runs" + (f" for {_since(job)}" if job["last_run"] else ""))
    elif job["result"] == "failed":
        why = unit_failures.why(job["error"] or "", str(job["exit_code"] or "")).removeprefix("it ")
        ago = f" {_since(job)} ago" if job["last_run"] else ""
        words = paint("red", f"FAILED{ago}: {why}") + f"; `journalctl -u {job['unit']}`"
    elif job["last_run"]:
        words = f"{job['result'] or 'ran'} {_since(job)} ago"
    else:
        words = "never ran"
    if job["next_run"]:
        words += f", next {age.until(job['next_run'])}"
    return _fact("job", f"{job['job']:<13} {words}")


def _since(job: Shown) -> str:
    return age.since(job["last_run"])


def _backup(backup: Shown, paint: Paint) -> str:
    words = "none yet"
    if backup["newest"]:
        words = f"{backup['newest']}, {age.humanize(backup['age_seconds'])} ago"
    if backup["problem"]:
        words += paint("red", f"; {backup['problem']}")
    return _fact("backup", words)


def _copies(copies: Shown, paint: Paint) -> str:
    if copies["problem"]:
        return _fact("", paint("red", copies["problem"]))
    where = f"at {copies['destination']} ({copies['kind']})"
    words = f"nothing {where} yet"
    if copies["newest"]:
        words = f"{copies['newest']}, {age.humanize(copies['age_seconds'])} ago, {where}"
    if copies["note"]:
        words += paint("yellow", f"; {copies['note']}")
    return _fact("", words)


def _verification(verification: Shown, paint: Paint) -> str:
    words = "never verified"
    if verification["verified_at"]:
        words = (
            f"verified {age.humanize(verification['age_seconds'])} ago ({verification['backup']})"
        )
    if verification.get("host"):
        words += f" at {verification['destination']} on {verification['host']}"
    for place in verification["destinations"][1:]:
        when = f"{age.humanize(place['age_seconds'])} ago" if place["verified_at"] else "never"
        words += f", at {place['destination']} {when}"
    if verification["problem"]:
        words += paint("red", f"; {verification['problem']}")
    return _fact("", words)


def _running(running: Shown) -> str:
    words = f"NOW `{running['what']}` by {running['caller']}, since {age.short(running['since'])}"
    if running["step"] and running["step_since"]:
        words += f", at {running['step']} for {age.since(running['step_since'])}"
    return words


def _operation(app: Shown, operation: Shown, *, newest: bool, paint: Paint) -> Iterator[str]:
    what = f"{operation['kind']} {operation['release']}"
    when = f"{age.since(operation['started_at'])} ago"
    by = f" by {operation['caller']}" if operation["caller"] else ""
    if operation["state"] == "succeeded":
        yield _fact("last" if newest else "", f"{what} succeeded, {when}{by}")
        return
    if operation["state"] == "running":
        words = "is on its way" if app["running"] else "was interrupted"
        yield _fact("last" if newest else "", paint("yellow", f"{what} {words}, {when}{by}"))
        return
    error = str(operation["error"] or "").splitlines() or [""]
    failed = f"{what} failed at {operation['failed_step']}: {error[0]}"
    # What came before a success is history.
    yield _fact("last" if newest else "", paint("red", failed) if newest else failed)
    yield _fact("", f"{when}{by}")
    if not newest:
        return
    for line in operation["lines"]:
        yield _fact("", paint("faint", f"| {line[:200]}"))
    if operation["hint"]:
        yield _fact("", f"hint: {operation['hint'].splitlines()[0]}")
    yield _fact("", f"more: `journalctl -u bedstone-operation@{app['app']}`")


def _disk(disk: Shown, paint: Paint) -> str:
    words = (
        f"{space.human(disk['free_bytes'])} of {space.human(disk['bytes'])} free"
        f" ({disk['free_percent']:.0f} %)"
    )
    if not disk["ok"]:
        words = paint("red", words)
    return f"{disk['path']} ({', '.join(disk['holds'])}): {words}"
