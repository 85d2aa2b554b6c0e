"""Role nginx: its sites, and the files that its templates make of them.

nginx's syntax has no safe way to quote, so what goes into a configuration file is held against
a pattern here; a value that doesn't fit is an error that names it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bedstone_control import names as shared
from bedstone_control.roles import acme, edge
from bedstone_control.roles.app_config import service_routes
from bedstone_control.roles.groups import PROXY
from bedstone_control.roles.role import Port, Role, Rotation, Secret, Stage, token

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bedstone_control.roles.site import Site
    from bedstone_control.settings.app import App, Content, Media
    from bedstone_control.settings.edge import EdgeRules
    from bedstone_control.settings.root import Settings

DIRECTORY = "/etc/nginx/bedstone"
_VISITOR = Rotation("passwords", overlap="none: tell the visitors who use it")
# To another replica when one doesn't accept: in the same server that takes no second.
_CONNECT_SECONDS = 1
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
        for domain in [*site["domains"], *(site.get("redirects") or ())]:
            _fitting(DOMAIN, domain, f"a domain of the site {name!r}")
            if domain in domains:
                raise ValueError(
                    f"{domain!r} is a domain of two sites in nginx_sites, {domains[domain]!r} and "
                    f"{name!r}: nginx would serve only one of them. Remove it from the other."
                )
            domains[domain] = name
        if not site["domains"]:
            raise ValueError(f"The site {name!r} in nginx_sites has no domains.")
        files += _site(name, site, known)
        if site.get("acme"):
            # `bedstone certificates renew` replaces it.
            files.append(
                {
                    "path": f"{DIRECTORY}/certificates/{name}.conf",
                    "template": "certificate.conf.j2",
                    "variables": {"site": dict(site)},
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


def _site(name: str, site: Mapping[str, Any], upstreams: set[str]) -> list[dict[str, Any]]:
    """Return a site's configuration and the files that it names."""
    of_site = f"of the site {name!r}"
    taken: set[str] = set()
    routes = {}
    for route in site.get("routes") or []:
        path = _prefix(_fitting(URL_PATH, route["path"], f"the path of a route {of_site}"))
        _claim(taken, path, f"Two routes {of_site} have the path {path!r}.")
        upstream = route["upstream"]
        if upstream not in upstreams:
            raise ValueError(
                f"The route {path!r} {of_site} leads to the upstream {upstream!r}, which "
                f"nginx_upstreams doesn't have. It has: {', '.join(sorted(upstreams)) or 'none'}."
            )
        routes[path] = (upstream, int(route.get("replicas") or 1))
    own = {"max_body_mb": 20, "timeout_seconds": 60, **_given(site)}
    locations = _Locations(name, own, _paths(site, of_site), routes)
    result: dict[str, Any] = {
        "name": name,
        "variable": name.replace("-", "_"),
        "main_domain": site["domains"][0] if site["domains"] else None,
        "redirects": list(site.get("redirects") or ()),
        "domains": [*site["domains"], *(site.get("redirects") or ())],
        "exempt": edge.networks(site.get("exempt_networks"), f"exempt_networks {of_site}"),
        "directives": locations.of_server(),
        "locations": locations.all(site.get("health_paths") or ()),
        "rates": list(locations.rates.values()),
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
            "private": bool(folder.get("private")),
        }
        if folder:
            path = result[kind]["url"]
            _claim(taken, path, f"The {kind} url {path!r} {of_site} is used by something else.")
    files: list[dict[str, Any]] = list(locations.password_files)
    if text := site.get("security_txt"):
        content = edge.security_txt(text, str(result["main_domain"]), of_site)
        files.append({"path": f"{DIRECTORY}/security/{name}.txt", "content": content})
    if source := site.get("include"):
        files.append({"path": f"{DIRECTORY}/include/{name}.conf", "source": source})
    result |= {"security_txt": bool(text), "include": bool(source)}
    configuration = {"path": f"{DIRECTORY}/sites/{name}.conf", "template": "site.conf.j2"}
    return [{**configuration, "variables": {"site": result}}, *files]


def _given(rules: Mapping[str, Any]) -> dict[str, Any]:
    return {key: rules[key] for key in edge.OF_A_PATH if rules.get(key) is not None}


def _paths(site: Mapping[str, Any], of_site: str) -> list[dict[str, Any]]:
    """Return the rules of single paths, each path with a slash at its end."""
    taken: set[str] = set()
    found = []
    for item in site.get("paths") or ():
        path = _prefix(_fitting(URL_PATH, item["path"], f"a path in paths {of_site}"))
        _claim(taken, path, f"paths {of_site} has {path!r} twice.")
        found.append({**_given(item), "path": path})
    return found


class _Locations:
    """The locations of a site that lead to its app.

    Attributes:
        rates: the limits for requests, by their settings.
        password_files: the files of users and passwords, in the form of converge's `files`.

    """

    def __init__(
        self,
        name: str,
        own: Mapping[str, Any],
        paths: list[dict[str, Any]],
        routes: Mapping[str, tuple[str, int]],
    ) -> None:
        self.name, self.of_site = name, f"of the site {name!r}"
        self.own, self.paths, self.routes = own, paths, routes
        self.rates: dict[str, dict[str, Any]] = {}
        self.password_files: list[dict[str, Any]] = []
        self._files: dict[str, str] = {}

    def of_server(self) -> list[str]:
        """Return the directives of the site itself, which hold for static files and media too."""
        # nginx.conf and nginx's defaults say these.
        return [
            line
            for line in self._directives(self.own)
            if line not in {"gzip on", "proxy_buffering on"}
        ]

    def all(self, health_paths: Iterable[str]) -> list[dict[str, Any]]:
        """Return the locations: of routes, of paths with rules, and of health paths.

        Raises:
            ValueError: a path leads to no route.

        """
        found: dict[str, dict[str, Any]] = {}
        for path in dict.fromkeys([*self.routes, *(item["path"] for item in self.paths)]):
            location = self._location(path)
            if path != "/":  # `location /api/` alone would answer /api with nginx's own redirect
                match = f"= {path.rstrip('/')}"
                found[match] = {"match": match, **location}
            found[path] = {"match": path, **location}
        for text in health_paths:
            path = _fitting(URL_PATH, text, f"a path in health_paths {self.of_site}")
            rules = edge.rules_of(path, self.own, self.paths)
            if rules["allow"] or rules["deny"] or rules["basic_auth"]:
                found[f"= {path}"] = {"match": f"= {path}", **self._health(path, rules)}
        return list(found.values())

    def _location(self, path: str) -> dict[str, Any]:
        found = next(
            (self.routes[route] for route in self._longest_first() if path.startswith(route)), None
        )
        if found is None:
            raise ValueError(f"The path {path!r} in paths {self.of_site} is below no route.")
        upstream, replicas = found
        rules = edge.rules_of(path, self.own, self.paths)
        return {
            "upstream": upstream,
            # With site.yml, an upstream is APP-SERVICE, and the site is the app.
            "service": upstream.removeprefix(f"{self.name}-"),
            "rate": self._rate(rules["rate"]),
            "guarded": bool(rules["basic_auth"]),
            "directives": [*self._differing(rules), *_another_replica(replicas, rules)],
        }

    def _health(self, path: str, rules: Mapping[str, Any]) -> dict[str, Any]:
        """Return the location of a health path, which a release asks from the server itself."""
        location = self._location(path)
        kept = [line for line in location["directives"] if not line.startswith(("allow ", "deny "))]
        listed = edge.access(rules, self.of_site)
        if rules["basic_auth"]:
            kept.append("satisfy any")
            listed = listed or ["deny all"]
        return {**location, "directives": [*kept, "allow 127.0.0.1", "allow ::1", *listed]}

    def _longest_first(self) -> list[str]:
        return sorted(self.routes, key=len, reverse=True)

    def _differing(self, rules: Mapping[str, Any]) -> list[str]:
        """Return the directives of a location that are not the server's already.

        A location with one `allow` or `deny` inherits none.
        """
        general = self._directives(self.own)
        lines = [line for line in self._directives(rules) if line not in general]
        mine, servers = (edge.access(each, self.of_site) for each in (rules, self.own))
        if mine != servers:
            lines = [line for line in lines if not line.startswith(("allow ", "deny "))]
            lines += mine or ["allow all"]
        if self.own.get("basic_auth") and not rules["basic_auth"]:
            lines.append("auth_basic off")
        return lines

    def _directives(self, rules: Mapping[str, Any]) -> list[str]:
        lines = [
            f"client_max_body_size {int(rules['max_body_mb'])}m",
            f"proxy_read_timeout {int(rules['timeout_seconds'])}s",
            f"proxy_send_timeout {int(rules['timeout_seconds'])}s",
            f"gzip {'off' if rules.get('compress') is False else 'on'}",
            f"proxy_buffering {'off' if rules.get('buffering') is False else 'on'}",
            *edge.access(rules, self.of_site),
        ]
        if users := rules.get("basic_auth"):
            lines += [
                f'auth_basic "{self.name}"',
                f"auth_basic_user_file bedstone/auth/{self._password_file(users)}",
            ]
        return lines

    def _password_file(self, users: Mapping[str, str]) -> str:
        content = edge.htpasswd(users, self.of_site)
        if content not in self._files:
            number = len(self._files)
            self._files[content] = f"{self.name}-{number}" if number else self.name
            self.password_files.append(
                {
                    "path": f"{DIRECTORY}/auth/{self._files[content]}",
                    "content": content,
                    "group": "www-data",
                    "mode": "0640",
                    "sensitive": True,
                }
            )
        return self._files[content]

    def _rate(self, given: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Return a limit; paths with the same one are counted apart from those with another."""
        number = len(self.rates)
        zone = f"bedstone_{self.name}" + (f"_{number}" if number else "")
        limit = edge.rate(given, zone, self.of_site)
        return limit and self.rates.setdefault(repr({**limit, "zone": ""}), limit)


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


def _another_replica(replicas: int, rules: Mapping[str, Any]) -> list[str]:
    """Return when a request goes on to another replica, besides what proxying.conf says.

    Where a container was, nothing answers, not even with a refusal: only time shows it. A slow
    answer is a timeout for nginx, too, but it comes when this one is over.
    """
    limit = int(rules["timeout_seconds"]) - 1
    if replicas == 1 or limit <= _CONNECT_SECONDS:
        return []
    return [
        f"proxy_connect_timeout {_CONNECT_SECONDS}s",
        "proxy_next_upstream error timeout",
        f"proxy_next_upstream_timeout {limit}s",
    ]


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
            "routes": [_route(app, service, path) for service, path in service_routes(app).items()],
            "static": _served(app.static, f"{shared.CONTENT_DIRECTORY}/{app.name}/static/current"),
            "media": _served(app.media, f"{shared.CONTENT_DIRECTORY}/{app.name}/media"),
            "max_body_mb": app.max_body_mb,
            "timeout_seconds": app.timeout_seconds,
            **_edge(site, app),
        }
        for app in site.settings.apps
        if app.domains
    ]


def _edge(site: Site, app: App) -> dict[str, Any]:
    """Return what an app's settings say of clients; nothing of what they leave out."""
    wanted = app.edge
    values = {
        "redirects": list(app.redirects),
        "health_paths": [
            service.health.partition("?")[0]
            for name, service in app.services.items()
            if service.health and name in service_routes(app)
        ],
        "exempt_networks": list(wanted.exempt_networks),
        "security_txt": wanted.security_txt and wanted.security_txt.model_dump(),
        "include": wanted.include and site.path(wanted.include),
        "paths": [{"path": item.path, **_rules(site, app, item)} for item in wanted.paths],
        **_rules(site, app, wanted),
    }
    return {key: value for key, value in values.items() if value}


def _rules(site: Site, app: App, rules: EdgeRules) -> dict[str, Any]:
    kept = rules.model_dump(exclude_none=True, include=set(edge.OF_A_PATH) - {"basic_auth"})
    if rules.basic_auth is not None:
        secrets = site.app_secrets(app)
        kept["basic_auth"] = {
            user: nginx_password_hash(
                secrets[_secret_name(user)], f"{app.domains[0]} {app.name} {user}"
            )
            for user in rules.basic_auth
        }
    return kept


def _secret_name(user: str) -> str:
    return f"basic_auth_{user}"


def nginx_password_hash(password: str, salt: str) -> str:
    """Return a password as nginx reads it from a password file.

    Args:
        password: the password.
        salt: a text that differs for each user of each site.

    """
    return edge.password_hash(password, salt)


def _secrets(settings: Settings) -> Iterator[Secret]:
    for app in settings.apps:
        users = {user for rules in (app.edge, *app.edge.paths) for user in rules.basic_auth or ()}
        for user in sorted(users):
            place = ("apps", app.name, _secret_name(user))
            yield Secret(
                place, f"password of `{user}` in basic_auth", token(18), least=12, rotation=_VISITOR
            )


def _tls_directory(app: App) -> str:
    """Return where the certificate of an app's site is: role ca's directory or role nginx's."""
    return shared.OWN_TLS_DIRECTORY if app.tls else shared.TLS_DIRECTORY


def _served(content: Content | Media | None, directory: str) -> dict[str, Any] | None:
    """Return what nginx serves of a directory; nothing when it has no URL."""
    if content is None or content.url is None:
        return None
    private = {"private": True} if getattr(content, "private", False) else {}
    return {"url": content.url, "directory": directory, **private}


def _route(app: App, service: str, path: str) -> dict[str, Any]:
    replicas = app.services[service].replicas
    several = {"replicas": replicas} if replicas > 1 else {}
    return {"path": path, "upstream": shared.upstream(app.name, service), **several}


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
            "names": app.all_domains,
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
    variables={
        "nginx_hsts_seconds": 31536000,
        "nginx_security_headers": {
            "X-Frame-Options": "DENY",
            "X-Permitted-Cross-Domain-Policies": "none",
            "Referrer-Policy": "strict-origin-when-cross-origin",
        },
    },
    ports=(
        Port("nginx_http_port", 80, "HTTP, which leads to HTTPS", ("nginx",)),
        Port("nginx_https_port", 443, "HTTPS", ("nginx",)),
    ),
    certificates=certificates,
    secrets=_secrets,
    filters=(
        nginx_certificate_files,
        nginx_header_values,
        nginx_password_hash,
        nginx_site_files,
        nginx_upstream_files,
    ),
)
