"""Kinds of wrong settings: each is reported with its cause, its file, and a right value."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bedstone_control.checks.problems import report
from bedstone_control.pki.authority import make_authority
from bedstone_control.pki.issue import Wanted, issue, load_authority
from tests.unit.fixtures.sites import PUBLIC_KEY, Site, self_signed

if TYPE_CHECKING:
    from collections.abc import Callable

RSA_1024 = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQCc54bbpBB72bQnpbzRDusfgQ+V8Ogt37efyVp8Z3iLVOBw3VAyGWRRvvohYuaZObcfqmW7cOeolZr7N4W0KB2IuGcAYOKvNprMFNBvxg8ZHYPPeHm5ntNuprwy9QOu223Tymtpt6LUaCU2f1ldtNfzUJAJTd7EMMfJz+Zt28aCwQ== root@vm"  # noqa: E501
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz\n-----END OPENSSH PRIVATE KEY-----\n"
LONG = "k3J9-zQ7wX1mN5pR8tV2yB4cD6fG0hJ_lAsEuIoP9aZxCvBnMqWe"
DEPLOYER = {"name": "deploy", "authorized_keys": [PUBLIC_KEY], "apps": ["payments"]}


@dataclass(frozen=True)
class Case:
    """One kind of mistake.

    Attributes:
        name: for pytest.
        change: makes the mistake.
        where: what the problem says is wrong.
        message: a part of the explanation.
        example: a part of the example of a right value.
        file: the file to edit.
        line: a part of the line the report points at; none where the mistake is an absence.
        problems: how many there are in all; more than one only where they are several mistakes.

    """

    name: str
    change: Callable[[Site], object]
    where: str
    message: str
    example: str
    file: str = "settings.yml"
    line: str | None = None
    problems: int = 1


def put(*path: Any) -> Callable[[Site], object]:
    """Return a change of the settings: keys and indexes, then the value."""

    def change(site: Site) -> None:
        value: Any = site.settings
        for part in path[:-2]:
            value = value[part]
        value[path[-2]] = path[-1]

    return change


def app(*path: Any) -> Callable[[Site], object]:
    """Return a change of the first app's settings."""
    return put("bedstone_apps", 0, *path)


def other(*path: Any) -> Callable[[Site], object]:
    """Return a change of the second app's settings."""
    return put("bedstone_apps", 1, *path)


def secret(name: str, value: Any) -> Callable[[Site], object]:
    """Return a change of the first app's secrets."""
    return lambda site: site.app_secrets.__setitem__(name, value)


def without_secret(name: str) -> Callable[[Site], object]:
    """Return a change that takes a secret away."""
    return lambda site: site.app_secrets.pop(name)


def write(name: str, text: str) -> Callable[[Site], object]:
    """Return a change that writes a file into the inventory."""

    def change(site: Site) -> None:
        path = site.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    return change


def without_group(name: str) -> Callable[[Site], object]:
    """Return a change that takes a group out of the inventory."""
    return lambda site: site.groups.pop(name)


def renamed(name: str) -> Callable[[Site], object]:
    """Return a change that renames the first app, its secrets included."""

    def change(site: Site) -> None:
        site.app["name"] = name
        apps = site.secrets["bedstone_secrets"]["apps"]
        apps[name] = apps.pop("payments")

    return change


def both(*changes: Callable[[Site], object]) -> Callable[[Site], object]:
    """Return several changes as one."""
    return lambda site: [change(site) for change in changes]


def hook(**values: Any) -> Callable[[Site], object]:
    """Return a change that adds a hook."""
    return put("bedstone_hooks", [{"events": ["failure"]} | values])


def hook_secrets(**values: Any) -> Callable[[Site], object]:
    """Return a change that puts secrets of the hooks into the vault."""
    return lambda site: site.secrets["bedstone_secrets"].update(hooks=values)


def own_certificate(domain: str, days: int = 90) -> Callable[[Site], object]:
    """Return a change that brings a certificate along."""
    certificate, _ = self_signed(domain, days)
    return both(
        app("tls", {"certificate": "files/a.crt", "key": "files/a.key"}),
        write("files/a.crt", certificate),
        write("files/a.key", "$ANSIBLE_VAULT;1.1;AES256\n"),
    )


def given(
    leaf: str | None = None, key: str | None = None, *, days: int = 90
) -> Callable[[Site], object]:
    """Return a change that brings a certificate along with its key, encrypted with the vault."""
    certificate, own = self_signed("pay.example.com", days)

    def encrypted(site: Site) -> None:
        password = VaultSecret((site.directory / ".vault-password").read_bytes().strip())
        text = VaultLib([("default", password)]).encrypt(key or own, password).decode()
        write("files/a.key", text)(site)

    return both(
        app("tls", {"certificate": "files/a.crt", "key": "files/a.key"}),
        write("files/a.crt", leaf or certificate),
        encrypted,
    )


def acme(settings: dict[str, Any]) -> Callable[[Site], object]:
    """Return a change that asks an authority for certificates, for domains that are real."""
    private = "https://ca.example.com/dir"
    return put("bedstone_acme", {"directory": private, **settings})


def leaf_of(certificate: str, key: str) -> tuple[str, str]:
    """Return a certificate that an authority issued for the first app's domain, and its key."""
    now, own = dt.datetime.now(dt.UTC), ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    text = request.sign(own, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    wanted = Wanted("pay", None, ("pay.example.com",))
    private = own.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return issue(text, wanted, load_authority(certificate, key, now), now), private.decode()


CA, CA_KEY = make_authority("Company CA", 30)
OTHER_CA, _ = make_authority("Another CA", 30)
LEAF, LEAF_KEY = leaf_of(CA, CA_KEY)

PAYMENTS = "bedstone_apps[payments]"
SECRETS = "bedstone_secrets.apps.payments"
JOB = {"command": "python manage.py clearsessions"}
MAIL = {"server": "mail.example.com", "sender": "bedstone@example.com"}

CASES = [
    # --- names and types
    Case(
        "unknown key of an app", app("domain", ["x.example.com"]), f"{PAYMENTS}.domain",
        "Unknown key `domain`. Did you mean `domains`?", "domains:\n- pay.example.com",
        line="domain:",
    ),
    Case(
        "unknown key of a service", app("services", "web", "replica", 2),
        f"{PAYMENTS}.services.web.replica", "Did you mean `replicas`?", "replicas: 2",
        line="replica:",
    ),
    Case(
        "unknown key that resembles nothing", app("source", "zzz", 1), f"{PAYMENTS}.source.zzz",
        "Known are `path`, `git`", "path: ../../app", line="zzz:",
    ),
    Case(
        "unknown setting", put("bedstone_timezon", "Etc/UTC"), "bedstone_timezon",
        "Did you mean `bedstone_timezone`?", "bedstone_timezone", line="bedstone_timezon:",
    ),
    Case(
        "unknown argument of a role", put("nginx_hsts_second", 1), "nginx_hsts_second",
        "The role nginx has no such argument. Did you mean `nginx_hsts_seconds`?",
        "nginx_hsts_seconds", line="nginx_hsts_second:",
    ),
    Case(
        "removed argument of a role", put("nginx_debian_release", "bookworm"),
        "nginx_debian_release", "`nginx_debian_release` was removed. The release of Debian is read",
        "# nginx_debian_release", line="nginx_debian_release:",
    ),
    Case(
        "text for a number", app("services", "web", "port", "http"),
        f"{PAYMENTS}.services.web.port", "must be a whole number, and is a text", "port: 8000",
        line="port: http",
    ),
    Case(
        "text for a list", app("domains", "pay.example.com"), f"{PAYMENTS}.domains",
        "must be a list, and is a text", "domains:\n- pay.example.com", line="domains:",
    ),
    Case(
        "number out of range", app("services", "web", "port", 70000),
        f"{PAYMENTS}.services.web.port", "70000 is out of range", "port: 8000", line="port: 70000",
    ),
    Case(
        "missing key", lambda site: site.app.pop("source"), f"{PAYMENTS}.source",
        "The key is missing.", "source:\n  path: ../../app", line="- name: payments",
    ),
    Case(
        "no apps", lambda site: site.settings.pop("bedstone_apps"), "bedstone_apps",
        "The setting is missing.", "- name: payments",
    ),
    Case(
        "app without services", app("services", {}), f"{PAYMENTS}.services", "At least one entry",
        "web:", line="services:",
    ),
    Case(
        "bad app name", app("name", "Pay_ments"), "bedstone_apps[Pay_ments].name",
        "lower-case letters", "name: payments", line="name: Pay_ments",
    ),
    Case(
        "bad service name", app("services", "Web_1", {"command": "a"}),
        f"{PAYMENTS}.services.Web_1", "service name `Web_1` can't be used", "web:", line="Web_1:",
    ),
    Case(
        "unbalanced quotes in a command", app("services", "web", "command", "sh -c 'a"),
        f"{PAYMENTS}.services.web.command", "can't be read as a command", "gunicorn",
        line="command: sh",
    ),
    # --- collisions
    Case(
        "two apps of one name", other("name", "payments"), f"{PAYMENTS}.name",
        "Two apps are called `payments`.", "name: payments-two", line="name: payments",
    ),
    Case(
        "two apps with one database", other("database", {"name": "payments"}),
        "bedstone_apps[shop].database", "share the database payments", "name: payments_two",
        line="database:", problems=2,  # and the secrets of the second
    ),
    Case(
        "app with a name of ours", renamed("postgresql"), "bedstone_apps[postgresql].name",
        "taken by Bedstone itself", "name: postgresql-app", line="name: postgresql",
    ),
    Case(
        "database of PostgreSQL's own", app("database", {"name": "postgres"}),
        f"{PAYMENTS}.database", "PostgreSQL has a database `postgres`", "database:",
        line="database:",
    ),
    Case(
        "services that end under one name",
        both(renamed("shop-web"), other("services", "web-web", {"command": "x"})),
        "bedstone_apps[shop].services.web-web", "would both be called `shop-web-web`", "web:",
        line="web-web:",
    ),
    Case(
        "two services on one route",
        lambda site: site.app["services"].update(
            web={"port": 8000, "route": "/"}, api={"port": 8001, "route": "/"}
        ),
        f"{PAYMENTS}.services.api.route", "goes to `web` already", "route: /api/", line="route: /",
    ),
    Case(
        "route on the static files",
        both(
            app("services", "web", "route", "/"),
            app("services", "files", {"port": 8001, "route": "/static/"}),
        ),
        f"{PAYMENTS}.services.files.route", "goes to `static` already", "route: /files/",
        line="route: /static/",
    ),
    Case(
        "two programs on one port", lambda site: site.host_variables.update(nginx_https_port=80),
        "nginx_https_port", "`nginx_https_port` and `nginx_http_port` are both 80",
        "nginx_https_port: 443",
    ),
    Case(
        "nginx on the port of ssh", lambda site: site.host_variables.update(ansible_port=443),
        "nginx_https_port", "`nginx_https_port` and `ansible_port` are both 443",
        "nginx_https_port: 443",
    ),
    # --- services
    Case(
        "route without a port", app("services", "worker", "route", "/jobs/"),
        f"{PAYMENTS}.services.worker", "needs the port", "port: 8000", line="worker:",
    ),
    Case(
        "route without a slash", app("services", "web", "route", "api"),
        f"{PAYMENTS}.services.web.route", "begins with a slash", "route: /api/", line="route: api",
    ),
    Case(
        "route as a pattern", app("services", "web", "route", "/api/*"),
        f"{PAYMENTS}.services.web.route", "not a pattern", "route: /api/", line="route: /api/*",
    ),
    Case(
        "route nginx can't take", app("services", "web", "route", "/a+b/"),
        f"{PAYMENTS}.services.web.route", "letters, digits and", "route: /api/",
        line="route: /a+b/",
    ),
    Case(
        "static URL with a space", app("static", {"path": "/app/s", "url": "/my files/"}),
        f"{PAYMENTS}.static", "letters, digits and", "url: /static/", line="static:",
    ),
    Case(
        "health path without a slash", app("services", "web", "health", "health/"),
        f"{PAYMENTS}.services.web.health", "begins with a slash", "health: /health/",
        line="health: health/",
    ),
    Case(
        "published port of a web server", app("services", "web", "publish", ["5222:5222"]),
        f"{PAYMENTS}.services.web.publish", "two containers of it run side by side",
        "gateway:", line="publish:",
    ),
    Case(
        "replicas of a service with a published port",
        app("services", "worker", "publish", ["5222:5222"]),
        f"{PAYMENTS}.services.worker.replicas", "held by one container", "replicas: 1",
        line="replicas: 2",
    ),
    Case(
        "published port that is none", both(
            app("services", "worker", "replicas", 1), app("services", "worker", "publish", ["5222"])
        ),
        f"{PAYMENTS}.services.worker.publish[1]", "is no [ADDRESS:]PORT:PORT_IN_THE_CONTAINER",
        "5222:5222", line="5222",
    ),
    Case(
        "published port of another address", both(
            app("services", "worker", "replicas", 1),
            app("services", "worker", "publish", ["300.1.1.1:5222:5222"]),
        ),
        f"{PAYMENTS}.services.worker.publish[1]", "is no [ADDRESS:]PORT:PORT_IN_THE_CONTAINER",
        "5222:5222", line="300.1.1.1",
    ),
    Case(
        "published port that nginx has", both(
            app("services", "worker", "replicas", 1),
            app("services", "worker", "publish", ["127.0.0.1:443:8443"]),
        ),
        f"{PAYMENTS}.services.worker.publish[1]", "443/tcp of the server is `nginx_https_port`'s",
        "5222:5222", line="443:8443",
    ),
    Case(
        "published port twice", both(
            app("services", "worker", "replicas", 1),
            app("services", "worker", "publish", ["5222:1", "5222:2/udp", "10.0.0.1:5222:3"]),
        ),
        f"{PAYMENTS}.services.worker.publish[3]", "5222/tcp of the server is payments/worker's",
        "5222:5222", line="10.0.0.1:5222:3",
    ),
    Case(
        "service that is called like a replica of another one",
        both(app("services", "web", "replicas", 2),
             app("services", "web-blue", {"command": "x", "replicas": 2})),
        f"{PAYMENTS}.services.web-blue", "would both be called `payments-web-blue-2`", "web:",
        line="web-blue:",
    ),
    Case(
        "nothing answers under the domains", other("services", "web", {"command": "x"}),
        "bedstone_apps[shop].services", "one needs a `port`", "route: /", line="services:",
    ),
    Case(
        "routes without a domain", both(app("services", "web", "route", "/"), app("domains", [])),
        f"{PAYMENTS}.domains",
        "need a domain", "pay.example.com", line="domains:",
    ),
    # --- domains
    *(
        Case(
            f"domain {domain}", app("domains", [domain]), f"{PAYMENTS}.domains[1]", message,
            example, line=line,
        )
        for domain, message, example, line in (
            ("https://pay.example.com", "scheme", "- pay.example.com", "- https"),
            ("pay.example.com:8443", "a port", "- pay.example.com", "- pay"),
            ("pay.example.com/x", "a path", "- pay.example.com", "- pay"),
            ("*.example.com", "wildcards", "- example.com", "- '*"),
            ("pay_me.example.com", "underscores", "- pay-me.example.com", "- pay_me"),
            ("Pay.Example.com", "lower case", "- pay.example.com", "- Pay"),
            ("192.0.2.10", "IP address", "- pay.example.com", "- 192"),
            ("pay", "one part only", "- pay.example.com", "- pay"),
            ("-pay.example.com", "no valid host name", "- pay.example.com", "- -pay"),
        )
    ),
    Case(
        "domain of two apps", other("domains", ["pay.example.com"]),
        "bedstone_apps[shop].domains[1]", "belongs to two apps, `payments` and `shop`",
        "shop.example.com", line="- pay.example.com",
    ),
    # --- edge
    *(
        Case(
            name, app("edge", {key: value}), f"{PAYMENTS}.edge.{where}", message, example, line=line
        )
        for name, key, value, where, message, example, line in (
            ("network that is none", "allow", ["10.0.0.1/8"], "allow[1]",
             "is no address or network: 10.0.0.1/8 has", "203.0.113.0/24", "- 10.0.0.1/8"),
            ("rate by the hour", "rate", {"per": "hour"}, "rate.per", "'hour' is none of", "minute",
             "per: hour"),
            ("user with a colon", "basic_auth", ["a:b"], "basic_auth[1]", "not have the right form",
             "- alice", "- a:b"),
            ("path that is a pattern", "paths", [{"path": "/a*"}], "paths[1].path",
             "is the start of paths", "/accounts/login/", "- path"),
            ("path given twice", "paths", [{"path": "/a/"}, {"path": "/a"}], "paths[2].path",
             "is there twice", "/a/new/", "- path: /a"),
            ("unknown key of a path", "paths", [{"path": "/a/", "rates": {}}], "paths[1].rates",
             "Did you mean `rate`?", "requests: 10", "rates: {}"),
            ("file that isn't there", "include", "files/absent.conf", "include",
             "There is no file", "files/nginx-payments.conf", "include:"),
        )
    ),
    Case(
        "path below no route",
        both(app("services", "web", "route", "/api/"), app("edge", {"paths": [{"path": "/x/"}]})),
        f"{PAYMENTS}.edge.paths[1].path", "the routes are /api/", "/api/login/", line="- path",
    ),
    Case(
        "redirect of another app", other("redirects", ["pay.example.com"]),
        "bedstone_apps[shop].redirects[1]", "belongs to two apps, `payments` and `shop`",
        "shop.example.com", line="- pay.example.com",
    ),
    Case(
        "redirects to nowhere", both(app("domains", []), app("redirects", ["a.example.com"])),
        f"{PAYMENTS}.redirects", "there is none", "pay.example.com", line="redirects:",
    ),
    Case(
        "private uploads without a URL",
        app("media", {"path": "/app/media", "url": None, "private": True}), f"{PAYMENTS}.media",
        "need the URL", "private: true", line="media:",
    ),
    # --- source
    Case(
        "two sources", app("source", "image", "a:1"), f"{PAYMENTS}.source",
        "here are 2: path, image", "path: ../../app", line="source:",
    ),
    Case(
        "no source", app("source", {}), f"{PAYMENTS}.source", "One of `path`, `git`",
        "path: ../../app", line="source:",
    ),
    Case(
        "source directory that is not there", app("source", "path", "../ap"), f"{PAYMENTS}.source",
        "There is no directory", "path: ../../app", line="source:",
    ),
    Case(
        "Dockerfile that is not there", app("build", {"dockerfile": "docker/Dockerfile"}),
        f"{PAYMENTS}.build", "There is no Dockerfile", "dockerfile: Dockerfile", line="build:",
    ),
    Case(
        "source that can't be built", app("source", "path", "group_vars"), f"{PAYMENTS}.source",
        "has no Dockerfile, and the default one needs a manage.py", "path: ../../app",
        line="source:",
    ),
    Case(
        "git without a version", app("source", {"git": "https://git.example.com/a.git"}),
        f"{PAYMENTS}.source", "needs a `version`", "version: v1.4.2", line="source:",
    ),
    Case(
        "bad image reference", other("source", "image", "Shop:1:2"),
        "bedstone_apps[shop].source.image", "is no image reference",
        "image: registry.example.com/team/payments:1.4.2", line="image: Shop",
    ),
    Case(
        "build of a ready image", other("build", {"target": "x"}), "bedstone_apps[shop].build",
        "`build` has no effect", "path: ../../app", line="build:",
    ),
    # --- services, jobs, commands of a release
    Case(
        "signal that is none", app("services", "web", "stop_signal", "QUIT"),
        f"{PAYMENTS}.services.web.stop_signal", "'QUIT' is none of 'SIGTERM', 'SIGQUIT'",
        "stop_signal: SIGQUIT", line="stop_signal:",
    ),
    Case(
        "signal that nothing survives", app("services", "web", "stop_signal", "SIGKILL"),
        f"{PAYMENTS}.services.web.stop_signal", "'SIGKILL' is none of", "stop_signal: SIGQUIT",
        line="stop_signal:",
    ),
    Case(
        "bad job name", app("jobs", {"Clean_up": JOB}), f"{PAYMENTS}.jobs.Clean_up",
        "job name `Clean_up` can't be used", "cleanup:", line="Clean_up:",
    ),
    Case(
        "job without a command", app("jobs", {"cleanup": {"schedule": "daily"}}),
        f"{PAYMENTS}.jobs.cleanup.command", "The key is missing",
        "command: python manage.py clearsessions", line="cleanup:",
    ),
    Case(
        "job with an empty command", app("jobs", {"cleanup": {"command": ""}}),
        f"{PAYMENTS}.jobs.cleanup.command", "A job runs a command", "command: python manage.py",
        line="command:",
    ),
    Case(
        "unknown key of a job", app("jobs", {"cleanup": JOB | {"shedule": "daily"}}),
        f"{PAYMENTS}.jobs.cleanup.shedule", "Did you mean `schedule`?", "schedule:",
        line="shedule:",
    ),
    *(
        Case(
            f"schedule {schedule!r}", app("jobs", {"cleanup": JOB | {"schedule": schedule}}),
            f"{PAYMENTS}.jobs.cleanup.schedule", message, "schedule: '*-*-* 04:00:00'",
            line="schedule:",
        )
        for schedule, message in (
            ("0 3 * * *", "five fields are cron's form"),
            ("@daily", "cron's form; without the @"),
            ("nightly", "it names no time"),
            ("", "it is empty; leave the key out"),
            ("03:00; reboot", "it holds ';'"),
            ("*-*-* 03:00\nExecStart=", "it holds '\\n'"),
        )
    ),
    Case(
        "job that ends under another app's name",
        both(renamed("shop-job"), app("jobs", {"x": JOB}), other("jobs", {"job-x": JOB})),
        "bedstone_apps[shop].jobs.job-x",
        "The job and the job `x` of the app `shop-job` would both be called `shop-job-job-x`",
        "cleanup:", line="job-x:", problems=1,
    ),
    Case(
        "job that is called like a container of a service",
        both(app("services", "job", {"command": "a", "port": 9}), app("jobs", {"green": JOB}),
             app("services", "job", "route", "/job/"), app("services", "web", "route", "/")),
        f"{PAYMENTS}.jobs.green", "the service `job` of the app `payments` would both be called",
        "cleanup:", line="green:",
    ),
    Case(
        "unknown tool for migrations", app("migrations", "rails"), f"{PAYMENTS}.migrations",
        "'rails' is none of 'django', 'alembic', 'none'", "migrations: django",
        line="migrations: rails",
    ),
    Case(
        "migrations without a database", other("migrations", "django"),
        "bedstone_apps[shop].migrations", "The app has no database", "migrations: none",
        line="migrations:",
    ),
    Case(
        "unknown kind of restore point", app("restore_point", "sometimes"),
        f"{PAYMENTS}.restore_point", "'sometimes' is none of 'migrations', 'always', 'never'",
        "restore_point: always", line="restore_point:",
    ),
    Case(
        "lock timeout below zero", app("database", {"lock_timeout_seconds": -1}),
        f"{PAYMENTS}.database.lock_timeout_seconds", "-1 is out of range",
        "lock_timeout_seconds: 5", line="lock_timeout_seconds:",
    ),
    # --- hooks
    Case(
        "hook that tells nobody", hook(), "bedstone_hooks[1]", "and here is none",
        "webhook: ${secret.chat_url}",
    ),
    Case(
        "hook with two ways",
        hook(webhook="https://x.example.com", command="/usr/local/bin/x"), "bedstone_hooks[1]",
        "here are 2: webhook, command", "webhook: ${secret.chat_url}",
    ),
    Case(
        "unknown event", hook(events=["succes"], command="/bin/x"),
        "bedstone_hooks[1].events[1]", "'succes' is none of 'release', 'failure', 'rollback'",
        "- failure", line="succes",
    ),
    Case(
        "summary without a receiver", put("bedstone_summary", "07:00"), "bedstone_summary",
        "no hook has the event `summary`", "- summary", line="bedstone_summary:",
    ),
    Case(
        "hook of a summary without a time", hook(events=["summary"], command="/bin/x"),
        "bedstone_hooks[1].events", "doesn't say when", "bedstone_summary: 07:00", line="events:",
    ),
    Case(
        "summary at no time", put("bedstone_summary", "25:00"), "bedstone_summary",
        "25:00", "07:00", line="bedstone_summary:",
    ),
    Case(
        "logs in plain text to another host",
        put("bedstone_logs", {"to": {"host": "logs.example.com", "tls": False}}),
        "bedstone_logs.to.tls", "would travel in plain text", "tls: false", line="tls:",
    ),
    Case(
        "hook of no event", hook(events=[], command="/bin/x"), "bedstone_hooks[1].events",
        "At least one entry", "- failure", line="events:",
    ),
    Case(
        "hook of an unknown app", hook(apps=["payment"], command="/bin/x"),
        "bedstone_hooks[1].apps[1]", "Did you mean `payments`?", "- payments", line="- payment",
    ),
    Case(
        "webhook that is no URL", hook(webhook="chat.example.com/x"), "bedstone_hooks[1].webhook",
        "begins with https://", "webhook: ${secret.chat_url}", line="webhook:",
    ),
    Case(
        "webhook that is a secret in plain text",
        hook(webhook="https://hooks.slack.com/services/T0/B0/abcdef"),
        "bedstone_hooks[1].webhook", "stands here in plain text", "webhook: ${secret.chat_url}",
        line="webhook:",
    ),
    Case(
        "webhook that is not in the vault", hook(webhook="${secret.chat_url}"),
        "bedstone_secrets.hooks", "The vault lacks `chat_url` for the hooks. Only you know it",
        "chat_url: https://", file="vault.yml", line="",
    ),
    Case(
        "secret of a webhook that is no URL",
        both(hook(webhook="${secret.chat_url}"), hook_secrets(chat_url="a-t0ken")),
        "bedstone_secrets.hooks.chat_url", "`chat_url` is no URL", "chat_url: https://",
        file="vault.yml", line="",
    ),
    Case(
        "placeholder that hooks don't have", hook(webhook="https://x.example.com/${app.domains}"),
        "bedstone_hooks[1].webhook", "Known is only `secret.NAME`", "${secret.chat_url}",
        line="webhook:",
    ),
    Case(
        "command without its path", hook(command="tell-the-pager now"),
        "bedstone_hooks[1].command", "absolute path", "command: /usr/local/bin/", line="command:",
    ),
    Case(
        "mail to no address", both(hook(mail=["ops"]), put("bedstone_mail", MAIL)),
        "bedstone_hooks[1].mail[1]", "'ops' is no mail address", "- ops@example.com",
        line="- ops",
    ),
    Case(
        "mail without a server", hook(mail=["ops@example.com"]), "bedstone_mail",
        "the setting is missing", "server: mail.example.com",
    ),
    Case(
        "mail password in plain text",
        put("bedstone_mail", MAIL | {"user": "a", "password": "kR7-plain"}),
        "bedstone_mail.password", "in plain text", "password: ${secret.mail_password}",
        line="password:",
    ),
    Case(
        "mail password that is not in the vault",
        put("bedstone_mail", MAIL | {"user": "a", "password": "${secret.mail_password}"}),
        "bedstone_secrets.hooks", "The vault lacks `mail_password` for the hooks",
        "mail_password: the secret", file="vault.yml", line="",
    ),
    Case(
        "mail user without a password", put("bedstone_mail", MAIL | {"user": "a"}),
        "bedstone_mail", "needs both `user` and `password`", "password: ${secret.mail_password}",
        line="bedstone_mail:",
    ),
    Case(
        "mail password over a plain connection",
        both(
            put("bedstone_mail", MAIL | {
                "user": "a", "password": "${secret.mail_password}", "security": "none"
            }),
            hook_secrets(mail_password="kR7-x"),
        ),
        "bedstone_mail.security", "would travel in plain text", "security: starttls",
        line="security:",
    ),
    Case(
        "unknown security of the mail", put("bedstone_mail", MAIL | {"security": "ssl"}),
        "bedstone_mail.security", "'ssl' is none of 'starttls', 'tls', 'none'",
        "security: starttls", line="security: ssl",
    ),
    # --- environment, directories, files
    Case(
        "unknown placeholder", app("env", "DB", "${database.hots}"), f"{PAYMENTS}.env.DB",
        "Did you mean `database.host`?", "${database.host}", line="DB: ",
    ),
    Case(
        "placeholder of a database that is not there", other("env", {"DB": "${database.url}"}),
        "bedstone_apps[shop].env.DB", "needs a database", "database: true", line="DB: ",
    ),
    Case(
        "the app's role in place of its login", app("env", "DB_USER", "payments_app"),
        f"{PAYMENTS}.env.DB_USER", "`payments_app` can't log in", "DB_USER: ${database.user}",
        line="DB_USER: ",
    ),
    Case(
        "the app's role in an address",
        app("env", "DSN", "postgres://payments_app:${database.password}@${database.host}/payments"),
        f"{PAYMENTS}.env.DSN", "`payments_app` can't log in", "DSN: ${database.user}",
        line="DSN: ",
    ),
    Case(
        "bad variable name", app("env", "LOG-LEVEL", "x"), f"{PAYMENTS}.env.LOG-LEVEL",
        "can't be the name of an environment variable", "LOG_LEVEL: INFO", line="LOG-LEVEL:",
    ),
    Case(
        "variable with a line break", app("env", "KEY", "a\nb"), f"{PAYMENTS}.env.KEY",
        "one line a variable", "content: ${secret.key}", line="KEY:",
    ),
    Case(
        "unknown placeholder of a service",
        app("services", {"web": {"port": 8000, "env": {"DB": "${database.hots}"}}}),
        f"{PAYMENTS}.services.web.env.DB", "Did you mean `database.host`?", "${database.host}",
        line="DB: ",
    ),
    Case(
        "variable of a service that its app has not",
        app("services", {"web": {"port": 8000, "env": {"LOG_LEVEL": None, "LEVEL": None}}}),
        f"{PAYMENTS}.services.web.env.LEVEL", "takes a default variable away", 'LEVEL: ""',
        line="LEVEL:",
    ),
    Case(
        "liveness of nothing", app("services", {"web": {"port": 8000, "liveness": {}}}),
        f"{PAYMENTS}.services.web.liveness", "a `path` or a `command`", "path: /health/live",
        line="liveness:",
    ),
    Case(
        "liveness path of a worker",
        app("services", {"web": {"port": 8000}, "beat": {"liveness": {"path": "/live"}}}),
        f"{PAYMENTS}.services.beat.liveness.path", "needs the port", "command:", line="path:",
    ),
    Case(
        "liveness path with a space",
        app("services", {"web": {"port": 8000, "liveness": {"path": "/a b"}}}),
        f"{PAYMENTS}.services.web.liveness.path", "has no spaces", "/health/live", line="path:",
    ),
    Case(
        "liveness command of no words",
        app("services", {"web": {"port": 8000, "liveness": {"command": []}}}),
        f"{PAYMENTS}.services.web.liveness.command", "is not empty", "command:", line="command:",
    ),
    Case(
        "liveness that waits longer than to the next",
        app("services", {"web": {"port": 8000, "liveness": {"path": "/", "timeout_seconds": 20}}}),
        f"{PAYMENTS}.services.web.liveness.timeout_seconds", "longer than `every_seconds`",
        "every_seconds: 20", line="timeout_seconds:",
    ),
    Case(
        "limit of restarts that is never reached",
        app("services", {"web": {"port": 8000, "restarts": {"most": 10, "within_seconds": 10}}}),
        f"{PAYMENTS}.services.web.restarts.within_seconds", "the limit is never reached",
        "within_seconds: 1000", line="within_seconds:",
    ),
    Case(
        "limit of restarts without a number",
        app("services", {"web": {"port": 8000, "restarts": {"within_seconds": 300}}}),
        f"{PAYMENTS}.services.web.restarts.most", "missing", "most: 10",
    ),
    Case(
        "one start and no other", app("services", {"web": {"port": 8000, "restarts": {"most": 1}}}),
        f"{PAYMENTS}.services.web.restarts.most", "2", "most: 10", line="most:",
    ),
    Case(
        "static files of a service without an image",
        app("static", {"path": "/app/static", "url": "/static/", "service": "web"}),
        f"{PAYMENTS}.static.service", "has no `source` of its own", "/app/static", line="service:",
    ),
    Case(
        "checkout among the system's files",
        app("source_mount", {"directory": "/etc/shop", "target": "/app"}),
        f"{PAYMENTS}.source_mount.directory", "is below /home", "/srv/source/", line="directory:",
    ),
    Case(
        "checkout that is all of a directory of users",
        app("source_mount", {"directory": "/srv", "target": "/app"}),
        f"{PAYMENTS}.source_mount.directory", "is below /home", "/srv/source/", line="directory:",
    ),
    Case(
        "checkout that leads out",
        app("source_mount", {"directory": "/srv/../etc", "target": "/app"}),
        f"{PAYMENTS}.source_mount.directory", "is below /home", "/srv/source/", line="directory:",
    ),
    Case(
        "checkout among what Bedstone keeps",
        app("source_mount", {"directory": "/srv/bedstone/x", "target": "/app"}),
        f"{PAYMENTS}.source_mount.directory", "what Bedstone serves", "/srv/source/",
        line="directory:",
    ),
    Case(
        "checkout over everything", app("source_mount", {"directory": "/srv/x", "target": "/"}),
        f"{PAYMENTS}.source_mount.target", "is absolute and below /", "target: /app",
        line="target:",
    ),
    Case(
        "destination with a name", app("egress", [{"networks": ["api.bank.example"], "port": 443}]),
        f"{PAYMENTS}.egress[1].networks[1]", "is no address or network", "203.0.113.0/24",
        line="- api.bank.example",
    ),
    Case(
        "destination with no port", app("egress", [{"port": 0}]),
        f"{PAYMENTS}.egress[1].port", "greater than or", "443", line="port:",
    ),
    Case(
        "relative static path", app("static", "staticfiles"), f"{PAYMENTS}.static",
        "is absolute and below /", "static: /app/static", line="static:",
    ),
    Case(
        "static URL without slashes", app("static", {"path": "/app/s", "url": "static"}),
        f"{PAYMENTS}.static", "begins and ends with a slash", "url: /static/", line="static:",
    ),
    Case(
        "uploads copied to nowhere",
        app("media", {"path": "/app/media", "url": "/media/", "copy_every_minutes": 15}),
        f"{PAYMENTS}.media.copy_every_minutes", "`bedstone_backup` has no destination",
        "destinations:", line="copy_every_minutes:",
    ),
    Case(
        "uploads copied each minute",
        app("media", {"path": "/app/media", "url": "/media/", "copy_every_minutes": 1}),
        f"{PAYMENTS}.media.copy_every_minutes", "1 is out of range", "copy_every_minutes: 15",
        line="copy_every_minutes:",
    ),
    Case(
        "uploads within the static files", app("media", "/app/staticfiles/media"),
        f"{PAYMENTS}.media", "overlap", "path: /app/media", line="media:",
    ),
    Case(
        "memory over the uploads", app("tmpfs", ["/tmp", "/app/media/"]),
        f"{PAYMENTS}.tmpfs[2]", "`tmpfs` and `media` overlap", "/tmp", line="/app/media/",
    ),
    Case(
        "memory over a part of the static files", app("tmpfs", ["/app/staticfiles/cache"]),
        f"{PAYMENTS}.tmpfs[1]", "`tmpfs` and `static` overlap", "/tmp", line="cache",
    ),
    Case(
        "file that is not there", app("files", [{"source": "files/x", "target": "/app/x"}]),
        f"{PAYMENTS}.files[1].source", "There is no file", "source: files/features.json",
        line="source: files/x",
    ),
    Case(
        "file with two origins",
        both(
            write("x.json", "{}"),
            app("files", [{"source": "x.json", "content": "x", "target": "/app/x"}]),
        ),
        f"{PAYMENTS}.files[1]", "either a `source` or a `content`", "target:",
    ),
    # --- secrets
    Case(
        "no vault", lambda site: site.secrets.clear(), "bedstone_secrets",
        "The vault with the secrets is missing.", "python -m bedstone_control secrets production",
        file="vault.yml",
    ),
    Case(
        "plain vault", lambda site: setattr(site, "encrypted", False), "bedstone_secrets",
        "in plain text", "ansible-vault encrypt", file="vault.yml",
    ),
    Case(
        "missing secret", without_secret("secret_key"), SECRETS,
        "The vault lacks `secret_key` for the app `payments`.",
        "python -m bedstone_control secrets production", file="vault.yml", line="",
    ),
    Case(
        "misspelt secret",
        both(app("env", "STRIPE", "${secret.stripe_key}"), secret("strype_key", "abcdefgh")),
        SECRETS, "lacks `stripe_key` for the app `payments`. It has a `strype_key`.",
        "stripe_key: the secret", file="vault.yml", line="",
    ),
    Case(
        "secrets under another app's name",
        lambda site: site.secrets["bedstone_secrets"]["apps"].update(
            payment=site.secrets["bedstone_secrets"]["apps"].pop("payments")
        ),
        SECRETS, "It has secrets for `payment`.", "secrets production", file="vault.yml", line="",
    ),
    *(
        Case(
            f"placeholder secret {value}", secret("secret_key", value), f"{SECRETS}.secret_key",
            "is a placeholder, not a secret", "secrets.token_urlsafe", file="vault.yml", line="",
        )
        for value in ("changeme", "password", "example", "xxx", "secret", "django-insecure-abc")
    ),
    Case(
        "empty secret", secret("database_password", " "), f"{SECRETS}.database_password",
        "is empty", "secrets.token_urlsafe", file="vault.yml", line="",
    ),
    Case(
        "short secret", secret("database_password", "kJ3-x9"), f"{SECRETS}.database_password",
        "is too short: 6 characters where 16 are the least", "secrets.token_urlsafe",
        file="vault.yml", line="",
    ),
    Case(
        "simple secret", secret("database_password", "abababababababababab"),
        f"{SECRETS}.database_password", "is too simple", "secrets.token_urlsafe",
        file="vault.yml", line="",
    ),
    Case(
        "one secret twice",
        both(secret("database_password", LONG), secret("database_migrate_password", LONG)),
        f"{SECRETS}.database_", "is the same secret as payments.database_",
        "secrets.token_urlsafe", file="vault.yml", line="",
    ),
    Case(
        "secret with a line break", secret("secret_key", f"{LONG}\n{LONG}"),
        f"{SECRETS}.secret_key", "which an environment file can't carry", "content: ${secret.",
        file="vault.yml", line="",
    ),
    Case(
        "secret that is a number", secret("database_password", 1234567890123456),
        f"{SECRETS}.database_password", "is not a text; put it in quotes", '"…"',
        file="vault.yml", line="",
    ),
    Case(
        "no certificate authority", lambda site: site.secrets["bedstone_secrets"].pop("ca"),
        "bedstone_secrets.ca", "is missing", "secrets production", file="vault.yml", line="",
    ),
    Case(
        "damaged certificate authority",
        lambda site: site.secrets["bedstone_secrets"]["ca"].update(certificate="-----BEGIN"),
        "bedstone_secrets.ca", "can't be read", "secrets production", file="vault.yml", line="",
    ),
    # --- certificates of the operator's own
    Case(
        "TLS files that are not there",
        app("tls", {"certificate": "files/a.crt", "key": "files/a.key"}),
        f"{PAYMENTS}.tls.certificate", "There is no file", "certificate: files/pay.example.com.crt",
        line="certificate:", problems=2,
    ),
    Case(
        "plain private key in the inventory",
        both(
            app("tls", {"certificate": "files/a.crt", "key": "files/a.key"}),
            write("files/a.key", "-----BEGIN PRIVATE KEY-----\n"),
        ),
        f"{PAYMENTS}.tls.key", "in plain text", "ansible-vault encrypt", line="key:", problems=2,
    ),
    Case(
        "certificate for another domain", own_certificate("other.example.com"),
        f"{PAYMENTS}.tls.certificate", "does not name pay.example.com",
        "certificate: files/pay.example.com.crt", line="certificate:",
    ),
    Case(
        "certificate that ended", own_certificate("pay.example.com", days=-1),
        f"{PAYMENTS}.tls.certificate", "The certificate ended on",
        "certificate: files/pay.example.com.crt", line="certificate:",
    ),
    Case(
        "certificate that another authority issued, without it", given(LEAF, LEAF_KEY),
        f"{PAYMENTS}.tls.certificate", "an intermediate certificate is missing",
        "cat a.crt intermediate.crt", line="certificate:",
    ),
    Case(
        "authority's certificate first", given(CA + LEAF, LEAF_KEY),
        f"{PAYMENTS}.tls.certificate", "The server's own comes first", "cat a.crt",
        line="certificate:",
    ),
    Case(
        "chain of strangers", given(LEAF + OTHER_CA, LEAF_KEY),
        f"{PAYMENTS}.tls.certificate", "followed by the one that issued it", "cat a.crt",
        line="certificate:",
    ),
    Case(
        "key of another certificate", given(key=self_signed("pay.example.com")[1]),
        f"{PAYMENTS}.tls.key", "is not the one of the certificate", "openssl pkey", line="key:",
    ),
    Case(
        "key that is none", given(key="no key"),
        f"{PAYMENTS}.tls.key", "holds no private key", "openssl pkey", line="key:",
    ),
    # --- certificates by ACME
    Case(
        "ACME without an authority", app("acme", True), f"{PAYMENTS}.acme",
        "`bedstone_acme` names it", "email: ops@example.com", line="acme:",
    ),
    Case(
        "ACME and files", both(acme({}), app("acme", True), given()), f"{PAYMENTS}.acme",
        "leave one of them out", "acme: false", line="acme:",
    ),
    Case(
        "directory without TLS", acme({"directory": "http://ca.example.com/dir"}),
        "bedstone_acme.directory", "begins with https://", "directory: https://", line="directory:",
    ),
    Case(
        "account without an address", acme({"email": "ops"}), "bedstone_acme.email",
        "is no mail address", "email: ops@example.com", line="email:",
    ),
    Case(
        "profile that can't be one", acme({"profile": "short lived"}), "bedstone_acme.profile",
        "does not have the right form", "profile: shortlived", line="profile:",
    ),
    Case(
        "two ways to make records", acme({"dns": {"plugin": "rfc2136", "hook": "files/hook"}}),
        "bedstone_acme.dns", "either by certbot's `plugin` or by a `hook`", "plugin: rfc2136",
        line="dns:", problems=2,
    ),
    Case(
        "hook that is not there", acme({"dns": {"hook": "files/hook"}}), "bedstone_acme.dns.hook",
        "There is no file", "hook: files/dns-hook", line="hook:",
    ),
    Case(
        "account without its key", acme({"account_id": "kid-1"}),
        "bedstone_secrets.acme.account_key", "The vault lacks it", "account_key: …",
        file="vault.yml",
    ),
    Case(
        "plugin without credentials", acme({"dns": {"plugin": "rfc2136"}}),
        "bedstone_secrets.acme.dns_credentials", "The vault lacks it", "dns_credentials: …",
        file="vault.yml",
    ),
    Case(
        "private domain at a public authority",
        both(put("bedstone_acme", {}), app("domains", ["pay.intra.local"])),
        f"{PAYMENTS}.domains[1]", "No public authority issues", "acme: false",
        line="- pay.intra.local",
    ),
    # --- the operator and the servers as a whole
    Case(
        "operator called root", put("bedstone_operator", "name", "root"), "bedstone_operator.name",
        "an account of the system", "name: alice", line="name: root",
    ),
    Case(
        "bad operator name", put("bedstone_operator", "name", "Alice B"), "bedstone_operator.name",
        "can't be used", "name: alice", line="name: Alice",
    ),
    *(
        Case(
            f"ssh key: {message}", put("bedstone_operator", "authorized_keys", [key]),
            "bedstone_operator.authorized_keys[1]", message, "ssh-ed25519 AAAA", line=line,
        )
        for key, message, line in (
            (PRIVATE, "This is a private key", None),
            ("alice@laptop", "is no public ssh key", "- alice"),
            ("ssh-ed25519 AAAAC3NzaC1lZDI1", "is damaged", "- ssh-ed25519"),
            (RSA_1024, "fewer than 2048 bits", "- ssh-rsa"),
        )
    ),
    Case(
        "no key", put("bedstone_operator", "authorized_keys", []),
        "bedstone_operator.authorized_keys", "At least one entry", "ssh-ed25519",
        line="authorized_keys:",
    ),
    Case(
        "deployer called docker", put("bedstone_deployers", [DEPLOYER | {"name": "docker"}]),
        "bedstone_deployers[docker].name", "an account of the system", "name: deploy",
        line="name: docker",
    ),
    Case(
        "deployer called like the operator",
        put("bedstone_deployers", [DEPLOYER | {"name": "alice"}]), "bedstone_deployers[alice].name",
        "is the operator's already", "name: deploy", line="name: alice",
    ),
    Case(
        "two deployers of a name", put("bedstone_deployers", [DEPLOYER, dict(DEPLOYER)]),
        "bedstone_deployers[deploy].name", "is another deployer's already", "name: deploy",
        line="name: deploy",
    ),
    Case(
        "deployer's key", put("bedstone_deployers", [DEPLOYER | {"authorized_keys": ["x"]}]),
        "bedstone_deployers[deploy].authorized_keys[1]", "is no public ssh key", "ssh-ed25519 AAAA",
        line="- x",
    ),
    Case(
        "deployer of an unknown app", put("bedstone_deployers", [DEPLOYER | {"apps": ["payment"]}]),
        "bedstone_deployers[deploy].apps[1]", "Did you mean `payments`?", "- payments",
        line="- payment",
    ),
    Case(
        "deployer without apps", put("bedstone_deployers", [DEPLOYER | {"apps": []}]),
        "bedstone_deployers[deploy].apps", "At least one entry", "payments", line="apps:",
    ),
    Case(
        "unknown time zone", put("bedstone_timezone", "Europe/Berln"), "bedstone_timezone",
        "is no time zone", "bedstone_timezone: Europe/Berlin", line="bedstone_timezone:",
    ),
    Case(
        "time of the backup", put("bedstone_backup", {"time": "2:30"}), "bedstone_backup.time",
        "does not have the right form", "04:00", line="time:",
    ),
    Case(
        "no day of backups", put("bedstone_backup", {"keep_days": 0}),
        "bedstone_backup.keep_days", "greater than or equal to 1", "keep_days: 30",
        line="keep_days:",
    ),
    Case(
        "weeks below none", put("bedstone_backup", {"keep_weeks": -1}),
        "bedstone_backup.keep_weeks", "greater than or equal to 0", "keep_weeks: 8",
        line="keep_weeks:",
    ),
    Case(
        "months that are no number", put("bedstone_backup", {"keep_months": "half a year"}),
        "bedstone_backup.keep_months", "number", "keep_months: 6", line="keep_months:",
    ),
    Case(
        "authority that is not there", put("bedstone_extra_ca_certificates", ["files/ca.crt"]),
        "bedstone_extra_ca_certificates[1]", "There is no file", "files/company-ca.crt",
        line="- files/ca.crt",
    ),
    Case(
        "authority that is no certificate",
        both(write("files/ca.crt", "x"), put("bedstone_extra_ca_certificates", ["files/ca.crt"])),
        "bedstone_extra_ca_certificates[1]", "holds no certificate", "files/company-ca.crt",
        line="- files/ca.crt",
    ),
    # --- the inventory
    *(
        Case(
            f"no host in {group}", without_group(group),
            f"group {group}", f"The inventory's group `{group}` has no host", f"{group}:",
            file="hosts.yml",
        )
        for group in ("app", "proxy", "postgresql")
    ),
    Case(
        "two databases to choose from", lambda site: site.groups.update(postgresql=["db1", "db2"]),
        "group postgresql", "could use the databases of db1 or db2", "db1:", file="hosts.yml",
    ),
    Case(
        "proxy on another host", lambda site: site.groups.update(proxy=["edge1"]), "group proxy",
        "is not in the group `proxy`", "web1:", file="hosts.yml",
    ),
    Case(
        "nothing to collect", lambda site: site.groups.update(monitoring=["watch1"]),
        "bedstone_metrics", "watch1 in the group `monitoring` would collect nothing",
        "bedstone_metrics:",
    ),
    Case(
        "bad address", lambda site: site.host_variables.update(bedstone_address="10.0.0"),
        "bedstone_address", "'10.0.0' is no IP address", "10.0.0.5",
    ),
]  # fmt: skip


def test_good_settings_have_no_problem(site: Site) -> None:
    assert site.check() == []


def test_role_may_be_named_where_it_is_no_user_or_logs_in_itself(site: Site) -> None:
    site.app["env"] |= {"MODULE": "payments_app.settings", "PROJECT": "payments_app"}
    assert site.check() == []
    site.app["env"]["DB_USER"] = "payments_app"
    assert site.check() != []
    site.app["database"] = {"client_certificate": True}
    assert site.check() == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mistake_is_told_alone_with_place_and_example(site: Site, case: Case) -> None:
    case.change(site)
    found = site.check()
    # A newcomer who reads about one mistake shall not look for three.
    assert len(found) == case.problems, report(found, "the settings")
    fitting = [item for item in found if item.where.startswith(case.where)]
    assert fitting, "\n".join(map(str, found))
    problem = next((item for item in fitting if case.message in item.message), fitting[0])
    assert case.message in problem.message
    assert case.example in problem.example
    assert case.file in problem.file
    if case.line is not None:
        path, _, number = problem.file.partition(", line ")
        assert Path(path).is_absolute()
        if case.file == "settings.yml":  # the vault's lines are those of its plain text
            assert case.line in Path(path).read_text().splitlines()[int(number) - 1]
        else:
            assert int(number) > 0


def test_there_are_at_least_twenty_kinds() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 20


def test_all_problems_are_in_one_report(site: Site) -> None:
    site.app["domains"] = ["https://pay.example.com"]
    site.app["servces"] = {}
    site.other["source"] = {}
    site.settings["bedstone_timezone"] = "Mars"
    site.groups.pop("proxy")
    del site.app_secrets["secret_key"]
    text = report(site.check(), "the settings")
    assert text.startswith("6 problems with the settings. Nothing on the servers has been changed.")
    for part in ("servces", "scheme", "One of `path`", "Mars", "`proxy`", "`secret_key`"):
        assert part in text
    assert re.findall(r"^(\d+)\. ", text, re.MULTILINE) == list("123456")


def test_old_names_are_told_with_the_new_ones(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from bedstone_control.settings import renamed

    monkeypatch.setattr(renamed, "RENAMED", {"nginx_hsts_age": "nginx_hsts_seconds"})
    monkeypatch.setattr(renamed, "RENAMED_KEYS", {("App", "hostnames"): "domains"})
    site.settings["nginx_hsts_age"] = 1
    site.app["hostnames"] = site.app.pop("domains")
    problems = {problem.message: problem.example for problem in site.check()}
    assert problems["`nginx_hsts_age` is called `nginx_hsts_seconds` now."].startswith(
        "nginx_hsts_seconds:"
    )
    assert problems["`hostnames` is called `domains` now."] == "domains:\n- pay.example.com"


def test_no_report_ever_shows_a_secret(site: Site) -> None:
    site.app_secrets.update(
        secret_key=f"{LONG}\n{LONG}", database_password="Sw0rdfish", database_migrate_password=LONG
    )
    site.secrets["bedstone_secrets"]["apps"]["shop"] = {"secret_key": LONG[:20]}
    hook(webhook="https://hooks.slack.com/services/T0/B0/abcdef")(site)
    put("bedstone_mail", MAIL | {"user": "a", "password": "kR7-plain"})(site)
    text = report(site.check(), "the settings")
    assert "Sw0rdfish" not in text
    assert "T0/B0" not in text
    assert "kR7-plain" not in text
    assert LONG[:20] not in text


def test_without_origins_the_usual_files_are_named(site: Site) -> None:
    from bedstone_control.checks import check_settings
    from bedstone_control.checks.context import Context, Locator

    site.app["domains"] = ["a_b.example.com"]
    variables = {**site.settings, "bedstone_secrets": {}}
    directory = Path("inventories/production")
    context = Context(variables, Locator({}, directory=directory), site.directory, site.groups)
    files = {problem.file for problem in check_settings(context)}
    assert files == {
        "inventories/production/group_vars/all/settings.yml",
        "inventories/production/group_vars/all/vault.yml",
    }


def test_secret_encrypted_by_itself_may_stand_in_a_plain_file(site: Site) -> None:
    from ansible.parsing.vault import VaultLib, VaultSecret

    from bedstone_control.inventory.create import PASSWORD_FILE

    password = VaultSecret((site.directory / PASSWORD_FILE).read_bytes().strip())
    encrypted = VaultLib([("default", password)]).encrypt("some-api-key-of-theirs").decode()
    site.app["env"]["API"] = "${secret.api_key}"
    site.write()
    plain_file = site.directory / "plain.yml"
    body = "\n".join(f"    {line}" for line in encrypted.splitlines())
    plain_file.write_text(f"bedstone_secrets:\n  key: !vault |\n{body}\n")

    from ansible.parsing.dataloader import DataLoader

    from bedstone_control.ansible_support.origin import origin_of
    from bedstone_control.checks import secrets
    from bedstone_control.checks.context import Context, Locator

    loader = DataLoader()
    loader.set_vault_secrets([("default", password)])
    loaded = loader.load_from_file(str(plain_file))
    context = Context({}, Locator(loaded, origin_of, site.directory))
    assert list(secrets._encrypted(context)) == []
    plain_file.write_text("bedstone_secrets:\n  key: plain\n")
    context = Context({}, Locator(loader.load_from_file(str(plain_file), cache="none"), origin_of))
    assert len(list(secrets._encrypted(context))) == 1


@pytest.mark.parametrize("text", [LEAF + CA, LEAF], ids=["with its authority", "trusted elsewhere"])
def test_given_certificate_with_its_chain_is_right(site: Site, text: str) -> None:
    given(text, LEAF_KEY)(site)
    write("files/company.crt", CA)(site)
    if text == LEAF:
        site.settings["bedstone_extra_ca_certificates"] = ["files/company.crt"]
    assert site.check() == []


def test_all_apps_may_have_certificates_by_acme_but_those_that_refuse(site: Site) -> None:
    site.settings["bedstone_acme"] = {"directory": "https://ca.example.com/dir"}
    site.app["acme"] = True
    assert site.check() == []
