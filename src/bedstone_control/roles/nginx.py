"""Role nginx: its sites, and the files that its templates make of them.

nginx's syntax has no safe way to quote, so what goes into a configuration file is held against
a pattern here; a value that doesn't fit is an error that names it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bedstone_control import names as shared
from bedstone_control.roles import acme
from bedstone_control.roles.app_config import service_routes
from bedstone_control.roles.groups import PROXY
from bedstone_control.roles.role import Port, Role, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bedstone_control.roles.site import Site
    from bedstone_control.settings.app import App, Content

DIRECTORY = "/etc/nginx/bedstone"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
DOMAIN = re.compile(
    r"(\*\.)?([a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
)
URL_PATH = re.compile(shared.URL_PATH)
FILE_PATH = re.compile(r"/[A-Za-z0-9._/@+-]+")
HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
HEADER_VALUE = re.compile(r"[^\"\\$\x00-\x1f\x7f]*")
NOSNIFF = "X-Content-Type-Options"


def nginx_site_files(
    sites: Iterable[Mapping[str, Any]], upstreams: Iterable[str]
) -> list[dict[str, Any]]:
    """Return the files of each site, in the form of converge's `files`.

    Args:
        sites: the role's `nginx_sites`.
        upstreams: the role's `nginx_upstreams`; a route may lead to none but these.

    Raises:
        ValueError: a value nginx can't take, a domain, name or path used twice, or a
            route to an unknown upstream.

    """
    known = set(upstreams)
    names: set[str] = set()
    domains: dict[str, str] = {}
    files: list[dict[str, Any]] = []
    for site in sites:
        name = _fitting(NAME, site["name"], "the name of a site in nginx_sites")
        _claim(names, name, f"nginx_sites has two sites named {name!r}.")
        for domain in site["domains"]:
            _fitting(DOMAIN, domain, f"a domain of the site {name!r}")
            if domain in domains:
                raise ValueError(
                    f"{domain!r} is a domain of two sites in nginx_sites, {domains[domain]!r} and "
                    f"{name!r}: nginx would serve only one of them. Remove it from the other."
                )
            domains[domain] = name
        if not site["domains"]:
            raise ValueError(f"The site {name!r} in nginx_sites has no domains.")
        files.append(
            {
                "path": f"{DIRECTORY}/sites/{name}.conf",
                "template": "site.conf.j2",
                "variables": {"site": _site(name, site, known)},
            }
        )
        if site.get("acme"):
            # `bedstone certificates renew` replaces it.
            files.append(
                {
                    "path": f"{DIRECTORY}/certificates/{name}.conf",
                    "template": "certificate.conf.j2",
                    "variables": {"site": _site(name, site, known)},
                    "create_only": True,
                }
            )
        # A release puts a link to a slot in its place.
        files.append(
            {
                "path": f"{DIRECTORY}/serving/{name}",
                "content": "No slot gets requests.\n",
                "create_only": True,
            }
        )
    return files


def _site(name: str, site: Mapping[str, Any], upstreams: set[str]) -> dict[str, Any]:
    of_site = f"of the site {name!r}"
    taken: set[str] = set()
    locations = []
    for route in site.get("routes") or []:
        path = _prefix(_fitting(URL_PATH, route["path"], f"the path of a route {of_site}"))
        _claim(taken, path, f"Two routes {of_site} have the path {path!r}.")
        upstream = route["upstream"]
        if upstream not in upstreams:
            raise ValueError(
                f"The route {path!r} {of_site} leads to the upstream {upstream!r}, which "
                f"nginx_upstreams doesn't have. It has: {', '.join(sorted(upstreams)) or 'none'}."
            )
        if path != "/":  # `location /api/` alone would answer /api with a redirect of nginx's own
            locations.append({"match": f"= {path.rstrip('/')}", "upstream": upstream})
        locations.append({"match": path, "upstream": upstream})
    result: dict[str, Any] = {
        "name": name,
        "domains": list(site["domains"]),
        "max_body_mb": int(site.get("max_body_mb") or 20),
        "timeout_seconds": int(site.get("timeout_seconds") or 60),
        "locations": locations,
        "trusted": bool(site.get("trusted", True)),
        "acme": bool(site.get("acme")),
    }
    for key in ("certificate", "certificate_key"):
        result[key] = _fitting(FILE_PATH, site[key], f"the {key} {of_site}")
    for kind in ("static", "media"):
        folder = site.get(kind)
        result[kind] = folder and {
            "url": _prefix(_fitting(URL_PATH, folder["url"], f"the {kind} url {of_site}")),
            "directory": _fitting(
                FILE_PATH, folder["directory"].rstrip("/"), f"the {kind} directory {of_site}"
            ),
        }
        if folder:
            path = result[kind]["url"]
            _claim(taken, path, f"The {kind} url {path!r} {of_site} is used by something else.")
    return result


def nginx_upstream_files(upstreams: Iterable[str]) -> list[dict[str, Any]]:
    """Return the seed of each upstream's file, in the form of converge's `files`.

    Args:
        upstreams: the role's `nginx_upstreams`.

    Raises:
        ValueError: a name nginx can't take, or one used twice.

    """
    taken: set[str] = set()
    for name in upstreams:
        _fitting(NAME, name, "an upstream in nginx_upstreams")
        _claim(taken, name, f"nginx_upstreams has {name!r} twice.")
    return [
        {
            "path": f"{DIRECTORY}/upstreams/{name}.conf",
            "template": "upstream.conf.j2",
            "variables": {"upstream": name},
            "create_only": True,
        }
        for name in sorted(taken)
    ]


def nginx_certificate_files(certificates: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return both files of each certificate brought along, in the form of converge's `files`.

    Args:
        certificates: the role's `nginx_certificate_files`.

    Raises:
        ValueError: a name that can't be one, or one used twice.

    """
    taken: set[str] = set()
    files: list[dict[str, Any]] = []
    for item in certificates:
        name = _fitting(NAME, item["name"], "the name of a certificate in nginx_certificate_files")
        _claim(taken, name, f"nginx_certificate_files has {name!r} twice.")
        path = f"{DIRECTORY}/tls/{name}"
        files.append({"path": f"{path}.crt", "source": item["certificate"]})
        key = {"path": f"{path}.key", "source": item["key"]}
        files.append({**key, "mode": "0600", "sensitive": True})
    return files


def nginx_header_values(
    headers: Mapping[str, str], hsts_seconds: int, *, hsts_include_subdomains: bool
) -> dict[str, str]:
    """Return the headers of every answer and their values; an empty value takes one away.

    Args:
        headers: the role's `nginx_security_headers`.
        hsts_seconds: how long a browser insists on HTTPS; 0 sends no such header.
        hsts_include_subdomains: whether it does so for subdomains.

    Raises:
        ValueError: a name or a value that nginx can't take.

    """
    values = {NOSNIFF: "nosniff"}
    if hsts_seconds > 0:
        subdomains = "; includeSubDomains" if hsts_include_subdomains else ""
        values["Strict-Transport-Security"] = f"max-age={hsts_seconds}{subdomains}"
    spelling = {name.lower(): name for name in values}
    for name, value in headers.items():
        _fitting(HEADER, name, "a header's name in nginx_security_headers")
        text = _fitting(HEADER_VALUE, value, f"the value of {name} in nginx_security_headers")
        values[spelling.get(name.lower(), name)] = text
    return {name: value for name, value in values.items() if value}


def _fitting(pattern: re.Pattern[str], value: object, what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(
            f"{value!r} can't be {what}: it has to match {pattern.pattern!r} from start to end."
        )
    return str(value)


def _prefix(path: str) -> str:
    return path if path.endswith("/") else f"{path}/"


def _claim(taken: set[str], value: str, message: str) -> None:
    if value in taken:
        raise ValueError(message)
    taken.add(value)


def sites(site: Site) -> list[dict[str, Any]]:
    """Return role nginx's sites: one for each app with domains."""
    return [
        {
            "name": app.name,
            "domains": list(app.domains),
            "certificate": f"{_tls_directory(app)}/{app.name}.crt",
            "certificate_key": f"{_tls_directory(app)}/{app.name}.key",
            "trusted": app.tls is not None,
            "acme": acme.uses(site.settings, app),
            "routes": [
                {"path": path, "upstream": shared.upstream(app.name, service)}
                for service, path in service_routes(app).items()
            ],
            "static": _served(app.static, f"{shared.CONTENT_DIRECTORY}/{app.name}/static/current"),
            "media": _served(app.media, f"{shared.CONTENT_DIRECTORY}/{app.name}/media"),
            "max_body_mb": app.max_body_mb,
            "timeout_seconds": app.timeout_seconds,
        }
        for app in site.settings.apps
        if app.domains
    ]


def _tls_directory(app: App) -> str:
    """Return where the certificate of an app's site is: role ca's directory or role nginx's."""
    return shared.OWN_TLS_DIRECTORY if app.tls else shared.TLS_DIRECTORY


def _served(content: Content | None, directory: str) -> dict[str, str] | None:
    """Return what nginx serves of a directory; nothing when it has no URL."""
    if content is None or content.url is None:
        return None
    return {"url": content.url, "directory": directory}


def upstreams(site: Site) -> list[str]:
    """Return the names of nginx's upstreams: one for each HTTP service with a route."""
    return [
        shared.upstream(app.name, service)
        for app in site.settings.apps
        for service in service_routes(app)
    ]


def certificate_files(site: Site) -> list[dict[str, str]]:
    """Return the operator's own certificates: name, and PEM files on the controller."""
    return [
        {
            "name": app.name,
            "certificate": site.path(app.tls.certificate),
            "key": site.path(app.tls.key),
        }
        for app in site.settings.apps
        if app.tls and app.domains
    ]


def certificates(site: Site) -> list[dict[str, Any]]:
    """Return the certificate of each site that brings none of its own."""
    return [
        {
            "name": app.name,
            "names": list(app.domains),
            "usage": "server",
            "reload": ["nginx.service"],
        }
        for app in site.settings.apps
        if app.domains and app.tls is None
    ]


ROLE = Role(
    name="nginx",
    group=PROXY,
    stage=Stage.FRONT,
    arguments={
        "nginx_sites": sites,
        "nginx_upstreams": upstreams,
        "nginx_certificate_files": certificate_files,
    },
    ports=(
        Port("nginx_http_port", 80, "HTTP, which leads to HTTPS", ("nginx",)),
        Port("nginx_https_port", 443, "HTTPS", ("nginx",)),
    ),
    certificates=certificates,
    filters=(
        nginx_certificate_files,
        nginx_header_values,
        nginx_site_files,
        nginx_upstream_files,
    ),
)
