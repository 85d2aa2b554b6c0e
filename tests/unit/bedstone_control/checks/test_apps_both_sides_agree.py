"""What the preflight accepts, the program on the server reads: two schemas of one file."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bedstone.apps import config
from bedstone_control.checks import apps, content, domains, jobs, published, sources
from bedstone_control.checks.context import Context
from bedstone_control.roles.app_config import host_config
from bedstone_control.settings.root import Settings
from tests.unit.fixtures.roles import site_of

# Right ones, and what is right on one side only as soon as the two differ.
TEXTS = st.sampled_from(
    [
        "",
        " ",
        "a",
        "shop-",
        "-a",
        "a\n",
        "a b",
        "/",
        "/a",
        "/a/",
        "//",
        "a:b",
        "1.10",
        "é",
        "${",
        "'",
    ]
) | st.text(max_size=8)
NAMES = st.sampled_from(["web", "a-b", "a--b", "a-", "", "A", "a\n", "x" * 31, "x" * 32])
NUMBERS = st.sampled_from(
    [0, 1, 2, 15, 16, 64, 65, 512, 3600, 3601, 86_400, 10**7, 10**7 + 1, 10**9]
)
COMMANDS = st.lists(TEXTS, max_size=3) | TEXTS
LIMITS: dict[str, Any] = {
    "memory_mb": NUMBERS | st.none(),
    "cpus": st.floats() | st.none(),
    "pids": NUMBERS,
}
SERVICES = st.fixed_dictionaries(
    {},
    optional={
        "command": COMMANDS,
        "port": st.sampled_from([0, 80, 8000, 65_535, 65_536]),
        "route": TEXTS,
        "health": TEXTS,
        "health_timeout_seconds": NUMBERS,
        "replicas": NUMBERS,
        "stop_seconds": NUMBERS,
        "publish": st.lists(
            st.sampled_from(["5222:5222", "[::1]:53:53/udp", "443:1", "x", "5222:70000"]),
            max_size=2,
        ),
        "stop_signal": st.sampled_from(["SIGTERM", "SIGQUIT", "TERM", ""]),
        **LIMITS,
    },
)
JOBS = st.fixed_dictionaries(
    {"command": COMMANDS},
    optional={"timeout_seconds": NUMBERS, "schedule": TEXTS | st.just("daily"), **LIMITS},
)
SOURCES = st.one_of(
    st.just({"image": "registry.example.com/shop:1"}),
    st.fixed_dictionaries({"image": TEXTS}),
    st.fixed_dictionaries({"git": TEXTS | st.just("https://x/y.git"), "version": TEXTS}),
)
CONTENT = TEXTS | st.fixed_dictionaries({"path": TEXTS, "url": TEXTS | st.none()})
APPS = st.fixed_dictionaries(
    {"name": NAMES, "source": SOURCES, "services": st.dictionaries(NAMES, SERVICES, max_size=2)},
    optional={
        "domains": st.lists(TEXTS | st.just("shop.example.com"), max_size=2),
        "jobs": st.dictionaries(NAMES, JOBS, max_size=2),
        "static": CONTENT,
        "media": CONTENT,
        "commands": st.just([])
        | st.fixed_dictionaries(
            {}, optional={key: st.lists(COMMANDS, max_size=2) for key in ("check", "migrate")}
        )
        | st.fixed_dictionaries({"console": COMMANDS}),
        "database": st.booleans() | st.fixed_dictionaries({"name": NAMES}),
        "user": TEXTS,
        "tmpfs": st.lists(TEXTS, max_size=2),
        "files": st.lists(st.fixed_dictionaries({"target": TEXTS, "content": TEXTS}), max_size=2),
        "build": st.fixed_dictionaries(
            {},
            optional={
                "target": TEXTS,
                "dockerfile": TEXTS,
                "args": st.dictionaries(TEXTS, TEXTS, max_size=1),
            },
        ),
        "read_only": st.booleans(),
        "restore_point": st.sampled_from(["always", "never", "sometimes"]),
        "migrations": st.sampled_from(["django", "alembic", "none", "flyway"]),
    },
)


def accepted(app: dict[str, Any]) -> Settings | None:
    """Return the settings when the preflight has nothing against them."""
    try:
        found = Settings.model_validate({"apps": [app]})
    except ValidationError:
        return None
    context = Context({"bedstone_apps": [app]})
    checks = (apps, sources, domains, content, jobs, published)
    wrong = any(True for module in checks for _ in module.check(context, found))
    return None if wrong else found


def read(app: dict[str, Any]) -> None:
    """Let the program on the server read an app, if the preflight accepts it."""
    found = accepted(app)
    if found is None:
        return
    secrets = {"apps": {found.apps[0].name: {"database_password": "p"}}}
    site = site_of({"apps": [app]}, secrets)
    text = json.dumps(host_config(site, found.apps[0]), allow_nan=False)
    config.parse(json.loads(text), "app.json", text)


@settings(max_examples=400, deadline=None)
@given(APPS)
def test_program_on_the_server_reads_what_the_preflight_accepts(app: dict[str, Any]) -> None:
    read(app)


@settings(max_examples=150, deadline=None)
@given(SERVICES | JOBS)
def test_so_it_does_for_a_service_and_a_job_alone(part: dict[str, Any]) -> None:
    """The same with all else right, so that most of what is made gets through."""
    base: dict[str, Any] = {"name": "shop", "source": {"image": "a/b:1"}, "commands": []}
    for app in (
        {**base, "services": {"web": part}},
        {**base, "services": {"web": {"command": "x"}}, "jobs": {"tidy": part}},
    ):
        read(app)


def test_empty_argument_reaches_the_program() -> None:
    command = "celery -A shop beat --pidfile ''"
    app = {"name": "shop", "source": {"image": "a/b:1"}, "services": {"beat": {"command": command}}}
    assert accepted(app) is not None
    read(app)


def test_command_without_a_program_is_refused() -> None:
    for command in (["", "x"], [], "''"):
        for part in (
            {"services": {"web": {"command": command}}},
            {"commands": {"check": [command]}},
        ):
            app = {"name": "shop", "source": {"image": "a/b:1"}, "services": {"a": {}}, **part}
            assert accepted(app) is None, app
