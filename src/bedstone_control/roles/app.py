"""Role app: the apps' arguments, and the files and directories that the role makes of them."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any

from bedstone.apps import environment, limits
from bedstone.core import names as host_names
from bedstone_control import names
from bedstone_control.roles import app_config, groups, postgresql
from bedstone_control.roles.environment import environment as environment_of
from bedstone_control.roles.environment import overridden, owners
from bedstone_control.roles.role import (
    SSH_KEY,
    Offer,
    Placeholder,
    Role,
    Rotation,
    Secret,
    Stage,
    ssh_key,
    token,
)
from bedstone_control.settings import gitserver, placeholders

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bedstone_control.roles.site import Site
    from bedstone_control.settings.app import App
    from bedstone_control.settings.root import Settings

UNITS = "/etc/systemd/system"
# Mounts the directory of what the apps' containers write, so that nothing there is run.
CONTENT_UNIT = "bedstone-content.service"
# What every app's releases run in, and what puts an interrupted one right after a boot.
COMMON_UNITS = (CONTENT_UNIT, "bedstone-operation@.service", "bedstone-settle.service")
# The environment files hold passwords; so may the further files.
SECRET = {"mode": "0600", "sensitive": True}


def directories(apps: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the directories; what is below them the host program makes itself."""
    private = [names.CONFIG_DIRECTORY, "/var/lib/bedstone", names.STATE_DIRECTORY]
    served = [f"{names.CONTENT_DIRECTORY}/{app['name']}" for app in apps]
    return [{"path": path, "mode": "0700"} for path in private] + [
        {"path": path, "mode": "0755"} for path in [names.CONTENT_DIRECTORY, *served]
    ]


def files(apps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the files of all apps and the units for all, as the converge action takes them.

    Raises:
        ValueError: an environment holds what no program can get.

    """
    services = [values for app in apps for values in app["config"]["services"].values()]
    times = [(s.get("health_timeout_seconds"), s.get("stop_seconds")) for s in services]
    undo = {"undo_seconds": limits.undo_seconds(times)}
    return [
        *(
            {"path": f"{UNITS}/{name}", "template": f"{name}.j2", "variables": undo}
            for name in COMMON_UNITS
        ),
        *(file for app in apps for file in _files(app)),
    ]


def units(apps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the units that systemd starts by itself: the one at boot, and the jobs' timers."""
    timers = [
        host_names.job_timer(app["name"], job)
        for app in apps
        for job, values in _jobs(app).items()
        if values.get("schedule") is not None
    ]
    # Without a state: what it would do now, the release does.
    at_boot: list[dict[str, Any]] = [{"name": "bedstone-settle.service", "enabled": True}]
    content = {"name": CONTENT_UNIT, "enabled": True, "state": "started"}
    return [{**content, "restart_on": [f"{UNITS}/{CONTENT_UNIT}"]}, *at_boot] + [
        {"name": name, "enabled": True, "state": "started", "restart_on": [f"{UNITS}/{name}"]}
        for name in timers
    ]


def validators(apps: Sequence[Mapping[str, Any]]) -> list[dict[str, list[str]]]:
    """Return what has to accept the jobs' times before any of them counts: systemd itself."""
    times = {
        str(values["schedule"])
        for app in apps
        for values in _jobs(app).values()
        if values.get("schedule") is not None
    }
    return [{"command": ["systemd-analyze", "calendar", "--", time]} for time in sorted(times)]


def _files(app: Mapping[str, Any]) -> list[dict[str, Any]]:
    name = app["name"]
    directory = f"{names.CONFIG_DIRECTORY}/{name}"
    config = dict(app["config"])
    wanted: list[dict[str, Any]] = [
        {"path": f"{directory}/app.json", "content": _json(config), "mode": "0640"},
        {
            "path": f"{directory}/app.env",
            "content": _dumps(name, app.get("environment")),
            **SECRET,
        },
        {
            "path": f"{directory}/migrate.env",
            "content": _dumps(name, app.get("migrate_environment")),
            **SECRET,
        },
    ]
    # All variables of the service, those of the app included: one file is all that it gets.
    for service, variables in (app.get("service_environments") or {}).items():
        file = f"{directory}/{environment.service_file(service)}"
        wanted.append({"path": file, "content": _dumps(name, variables), **SECRET})
    wanted += _source_files(directory, "", config["image"], app)
    for service, needs in (app.get("image_sources") or {}).items():
        wanted += _source_files(
            directory, f"-{service}", config["services"][service]["image"], needs
        )
    # Readable for the container's user; on the server the directories above are root's alone.
    further = [dict(file) for file in app.get("files") or []]
    wanted += [{"sensitive": True, "mode": "0644", **file} for file in further]
    wanted += [_unit(name, service, values) for service, values in config["services"].items()]
    for job, values in _jobs(app).items():
        wanted += _job_units(name, job, values)
    return wanted


def _source_files(
    directory: str, ending: str, image: Mapping[str, Any], needs: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the files from which an image is made: its logins and its archive."""
    for name, values in (
        ("registry", needs.get("registry")),
        ("source", needs.get("source_secrets")),
    ):
        if values:
            path = f"{directory}/{name}{ending}.json"
            yield {"path": path, "content": _json(values), **SECRET}
    if needs.get("source_archive"):
        yield {"path": image["archive"], "source": needs["source_archive"], "mode": "0600"}


def _jobs(app: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an app's jobs; a configuration written by hand may have none."""
    return app["config"].get("jobs") or {}


def packages(apps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the Debian packages that the apps' sources need."""
    kinds = {app["config"]["image"]["kind"] for app in apps}
    for app in apps:
        own = [service.get("image") for service in app["config"]["services"].values()]
        kinds |= {image["kind"] for image in own if image}
    return ["git", "openssh-client"] if "git" in kinds else []


def released(apps: Sequence[Mapping[str, Any]], only: Sequence[str] | str = ()) -> list[str]:
    """Return the names of the apps to release.

    Args:
        apps: all of them.
        only: names, in a list or separated by commas; none of them means all.

    Raises:
        ValueError: a name that none of the apps has.

    """
    known = [str(app["name"]) for app in apps]
    wanted = listed(only)
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"app_only: there is no app {name!r}; the settings have {', '.join(known)}.{meant}"
            )
    return [name for name in known if name in wanted or not wanted]


def listed(given: Sequence[str] | str) -> list[str]:
    """Return what a list holds, or a text with commas: the command line's `-e name=a,b`."""
    items = given.split(",") if isinstance(given, str) else given
    return [item.strip() for item in items if item.strip()]


def _unit(app: str, service: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "path": f"{UNITS}/{host_names.slot_unit_template(app, service)}",
        "template": "service.j2",
        "variables": {
            "app": app,
            "service": service,
            "start_seconds": limits.unit_start_seconds(
                values.get("health_timeout_seconds"), values.get("stop_seconds")
            ),
            "stop_seconds": limits.unit_stop_seconds(values.get("stop_seconds")),
            "start_limit": _start_limit(values),
        },
    }


def _start_limit(values: Mapping[str, Any]) -> dict[str, int] | None:
    """Return the starts after which systemd gives a service up, and in which time; or None."""
    wanted = values.get("restarts")
    if wanted is None:
        return None
    most = wanted["most"]
    within = wanted.get("within_seconds") or limits.restarts_within_seconds(
        most, values.get("health_timeout_seconds"), values.get("stop_seconds")
    )
    return {"burst": most, "seconds": within}


def _job_units(app: str, job: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    variables = {
        "app": app,
        "job": job,
        "schedule": values.get("schedule"),
        "timeout_seconds": (values.get("timeout_seconds") or limits.DEFAULT_JOB_TIMEOUT)
        + limits.JOB_SLACK_SECONDS,
        "stop_seconds": limits.JOB_STOP_SECONDS,
    }
    units = {"service": host_names.job_unit(app, job), "timer": host_names.job_timer(app, job)}
    kinds = ["service"] if values.get("schedule") is None else ["service", "timer"]
    return [
        {"path": f"{UNITS}/{units[kind]}", "template": f"job.{kind}.j2", "variables": variables}
        for kind in kinds
    ]


def _dumps(app: str, variables: Mapping[str, str] | None) -> str:
    try:
        return environment.dumps(variables or {})
    except ValueError as error:
        raise ValueError(f"App {app}: {error}") from error


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def arguments(site: Site) -> list[dict[str, Any]]:
    """Return the role's apps: configuration, environments, files and source archives."""
    if not site.has("app"):
        return []
    return [
        {
            "name": app.name,
            "config": app_config.host_config(site, app),
            "environment": environment_of(site, app),
            "migrate_environment": environment_of(site, app, migrate=True),
            "service_environments": {
                service: environment_of(site, app, service=service)
                for service in owners(app)
                if service is not None
            },
            "source_archive": app_config.source_archive(site, app, app.origins[0]),
            "files": app_config.app_files(site, app),
            "registry": app_config.registry(site, app, app.origins[0]),
            "source_secrets": app_config.source_secrets(site, app, app.origins[0]),
            "image_sources": app_config.image_sources(site, app),
        }
        for app in site.settings.apps
    ]


_HTTPS = 443
_SECRET = "secret."  # noqa: S105 - how the placeholders of secrets begin
_SECRET_KEY = Rotation(
    "keys", overlap="releases accept what the previous key signed, until it is forgotten"
)

_VARIABLES = {
    "SECRET_KEY": "${app.secret_key}",
    # Left out where SECRET_KEY is another one (roles/environment.py).
    "SECRET_KEY_FALLBACKS": f"${{app.secret_key{placeholders.PREVIOUS}}}",
    "ALLOWED_HOSTS": "${app.domains}",
    "CSRF_TRUSTED_ORIGINS": "${app.origins}",
    # gunicorn and uvicorn read it: the proxies to trust that a request came over HTTPS. Only nginx
    # and the app's own containers reach the port, and nginx overwrites what strangers send.
    "FORWARDED_ALLOW_IPS": "*",
}


def _placeholder_values(site: Site, app: App, migrate: bool) -> dict[str, str]:  # noqa: ARG001, FBT001 - see Offer
    """Return the placeholders `app.*` and `secret.*`."""
    secrets, https_port = site.app_secrets(app), site.port("nginx_https_port")
    port = "" if https_port == _HTTPS else f":{https_port}"
    # Without a previous value the present one: an empty text would be a key that everyone knows.
    both = secrets | {
        f"{name}{placeholders.PREVIOUS}": site.previous_secrets(app).get(name, value)
        for name, value in secrets.items()
    }
    own = ("secret_key", f"secret_key{placeholders.PREVIOUS}")
    return {
        **{f"app.{name}": both[name] for name in own if name in both},
        "app.domains": ",".join(app.domains),
        "app.origins": ",".join(f"https://{domain}{port}" for domain in app.domains),
        **{f"{_SECRET}{name}": value for name, value in both.items()},
    }


def _secrets(settings: Settings) -> Iterator[Secret]:
    for app in settings.apps:
        place = ("apps", app.name)
        mentioned = {name for text in _texts(app) for name in placeholders.used(text)}
        named = {name.removeprefix(_SECRET) for name in mentioned if name.startswith(_SECRET)}
        named |= {name[4:] for name in mentioned if name.startswith("app.secret_key")}
        needed = {name.removesuffix(placeholders.PREVIOUS) for name in named}
        if "secret_key" in needed:
            # `check --deploy` requires 50 characters (security.W009); 48 bytes give 64.
            yield Secret(
                (*place, "secret_key"),
                "${app.secret_key}",
                token(48),
                least=50,
                rotation=_SECRET_KEY,
                keeps_previous=f"secret_key{placeholders.PREVIOUS}" in named,
            )
        for origin in app.origins:
            source = origin.source
            if source.registry_user is not None:
                name = origin.secret("registry_password")
                yield Secret((*place, name), "of the registry's account")
            server = gitserver.parse(source.git) if source.git is not None else None
            if server is not None and server.ssh:
                name = origin.secret("deploy_key")
                yield Secret((*place, name), "fetches the source", ssh_key, rotation=SSH_KEY)
        for name in sorted(needed - {"", "secret_key"}):
            keeps = f"{name}{placeholders.PREVIOUS}" in named
            purpose = f"any other: ${{secret.{name}}}"
            yield Secret((*place, name), purpose, keeps_previous=keeps)


def _texts(app: App) -> list[str]:
    """Return the texts of an app's settings that may name its secrets."""
    return [
        *(
            text
            for service in owners(app)
            for text in overridden(app, _VARIABLES, service=service).values()
        ),
        *(file.content or "" for file in app.files),
        *(text for origin in app.origins for text in origin.build.args.values()),
        *(text for origin in app.origins for text in origin.build.secrets.values()),
        *(origin.source.git or "" for origin in app.origins),
    ]


_OFFER = Offer(
    needs="nothing",
    setting={},
    used_by=lambda _app: True,
    placeholders={
        "app.secret_key": Placeholder("the app's own secret key", secret=True),
        f"app.secret_key{placeholders.PREVIOUS}": Placeholder(
            "the one before the last rotation, the present one when there was none", secret=True
        ),
        "app.domains": Placeholder("the domains, separated by commas"),
        "app.origins": Placeholder("the domains with https:// in front, separated by commas"),
        "secret.NAME": Placeholder("NAME of the app's secrets in the vault", secret=True),
        f"secret.NAME{placeholders.PREVIOUS}": Placeholder(
            "its value before the last rotation, the present one when there was none", secret=True
        ),
    },
    variables=_VARIABLES,
    values=_placeholder_values,
)

ROLE = Role(
    name="app",
    group=groups.APP,
    stage=Stage.RELEASE,
    arguments={"app_apps": arguments},
    certificates=postgresql.client_certificates,
    secrets=_secrets,
    offers=(_OFFER,),
)
