"""Check the domains of the apps."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bedstone_control.checks.apps import located

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone_control.checks.context import Context
    from bedstone_control.checks.problems import Problem
    from bedstone_control.settings.root import Settings

# RFC 1123: letters, digits and dashes, no dash at either end, 63 at most.
_LABEL = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")
_LONGEST = 253


def check(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check each domain's form, and that none belongs to two apps."""
    owners: dict[str, str] = {}
    for place, app in located(context, settings):
        if app.redirects and not app.domains:
            message = "Redirects lead to the first of `domains`, and there is none."
            yield context.problem((*place, "redirects"), message, {"domains": ["pay.example.com"]})
        for key, index, domain in (
            (key, index, domain)
            for key, listed in (("domains", app.domains), ("redirects", app.redirects))
            for index, domain in enumerate(listed)
        ):
            where = (*place, key, index)
            wrong = fault(domain)
            if wrong:
                message = f"{domain!r} is no domain: {wrong}."
                yield context.problem(where, message, {key: [_repaired(domain)]})
                continue
            if domain in owners:
                both = f"`{owners[domain]}` and `{app.name}`"
                message = (
                    f"{domain} is there twice in `{app.name}`."
                    if owners[domain] == app.name
                    else f"{domain} belongs to two apps, {both}. Several services share a domain "
                    "within one app, by their routes."
                )
                yield context.problem(where, message, {key: [f"{app.name}.example.com"]})
            owners.setdefault(domain, app.name)


def fault(domain: str) -> str | None:
    """Return what is wrong with a domain, None when nothing is."""
    host = domain.lower()
    labels = host.split(".")
    faults = (
        ("://" in host, "it holds a scheme; https is understood"),
        (":" in host, "it holds a port; nginx answers on 443"),
        ("/" in host, "it holds a path; paths belong to a service's `route`"),
        ("*" in host, "wildcards are not supported; name each domain"),
        ("_" in host, "a host name has no underscores"),
        (domain != host, "it is written in lower case"),
        (not host.isascii(), "write it in its xn-- form"),
        (host.endswith("."), "it ends with a dot"),
        (len(host) > _LONGEST, f"it is longer than {_LONGEST} characters"),
        (labels[-1].isdigit(), "it is an IP address; browsers and certificates want a name"),
        (not all(_LABEL.match(label) for label in labels), "it is no valid host name"),
        (len(labels) == 1 and host != "localhost", "it has one part only"),
    )
    return next((text for wrong, text in faults if wrong), None)


def _repaired(domain: str) -> str:
    """Return the nearest right domain, or an example."""
    host = domain.strip().lower().split("://")[-1].split("/")[0].split(":")[0].rstrip(".")
    host = host.removeprefix("*.").replace("_", "-")
    return host if fault(host) is None else "pay.example.com"
