"""Which apps get their certificate by ACME, and what role acme is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bedstone_control.roles import acme, registry
from bedstone_control.roles.nginx import nginx_site_files
from bedstone_control.roles.site import Site

ARGUMENTS = registry.arguments()
SERVICES = {"web": {"port": 8000}}
TLS = {"certificate": "files/c.crt", "key": "files/c.key"}


def app(name: str, **more: Any) -> dict[str, Any]:
    source = {"image": "registry.example.com/x:1"}
    domains = [f"{name}.example.com"]
    return {"name": name, "source": source, "services": SERVICES, "domains": domains, **more}


def site(settings: dict[str, Any] | None, *apps: dict[str, Any], **secrets: Any) -> Site:
    variables = {
        "settings": {"apps": list(apps), "acme": settings},
        "secrets": secrets,
        "groups": {"proxy": ["web1"], "app": ["web1"]},
        "host": "web1",
        "addresses": {"web1": "192.0.2.10"},
        "inventory_directory": "/inventory",
        "cache_directory": "/cache",
    }
    return Site.from_variables(variables, registry.ROLES)


def of(found: Site, prefix: str) -> dict[str, Any]:
    return {name: value(found) for name, value in ARGUMENTS.items() if name.startswith(prefix)}


def test_all_apps_with_domains_but_those_that_refuse_or_have_files() -> None:
    apps = [app("pay"), app("shop", acme=False), app("wiki", tls=TLS), app("jobs", domains=[])]
    found = site({}, *apps)
    assert ARGUMENTS["acme_certificates"](found) == [
        {"name": "pay", "domains": ["pay.example.com"]}
    ]
    assert ARGUMENTS["acme_state"](found) == "present"
    served = {each["name"]: each for each in ARGUMENTS["nginx_sites"](found)}
    assert {name: (each["acme"], each["trusted"]) for name, each in served.items()} == {
        "pay": (True, False),
        "shop": (False, False),
        "wiki": (False, True),
    }
    # The first certificate, until there is one by ACME.
    own = [each["name"] for each in ARGUMENTS["ca_certificates"](found)]
    assert own == ["pay", "shop"]


@pytest.mark.parametrize(
    ("settings", "apps"), [(None, [app("pay")]), ({}, [app("pay", acme=False)])]
)
def test_without_a_certificate_the_role_is_absent(
    settings: dict[str, Any] | None, apps: list[dict[str, Any]]
) -> None:
    found = of(site(settings, *apps), "acme_")
    assert (found["acme_state"], found["acme_certificates"]) == ("absent", [])


def test_settings_become_arguments() -> None:
    dns = {"plugin": "rfc2136", "propagation_seconds": 9}
    given = {
        "email": "o@example.com",
        "profile": "shortlived",
        "dns": dns,
        "check_challenge": False,
    }
    found = of(site(given, app("pay"), acme={"dns_credentials": "key = x"}), "acme_")
    assert found["acme_directory"] == "https://acme-v02.api.letsencrypt.org/directory"
    assert (found["acme_email"], found["acme_profile"]) == ("o@example.com", "shortlived")
    assert (found["acme_dns_plugin"], found["acme_dns_propagation_seconds"]) == ("rfc2136", 9)
    assert (found["acme_dns_credentials"], found["acme_dns_hook"]) == ("key = x", None)
    assert found["acme_check_challenge"] is False


def test_key_of_an_external_account_comes_from_the_vault() -> None:
    found = site({"account_id": "kid-1"}, app("pay"), acme={"account_key": "zWNDZM6eQGHW"})
    assert ARGUMENTS["acme_account_id"](found) == "kid-1"
    assert ARGUMENTS["acme_account_key"](found) == "zWNDZM6eQGHW"
    assert ("acme", "account_key") in [s.place for s in registry.secrets(found.settings)]


def test_hook_is_a_file_of_the_inventory_and_needs_no_credentials() -> None:
    found = site({"dns": {"hook": "files/hook"}}, app("pay"))
    assert ARGUMENTS["acme_dns_hook"](found) == str(Path("/inventory/files/hook"))
    assert not [s for s in registry.secrets(found.settings) if s.place[0] == "acme"]
    plugin = site({"dns": {"plugin": "rfc2136"}}, app("pay"))
    assert ("acme", "dns_credentials") in [s.place for s in registry.secrets(plugin.settings)]


def test_first_certificate_of_a_site_is_written_once() -> None:
    entry = {
        "name": "pay",
        "domains": ["pay.example.com"],
        "certificate": "/etc/bedstone/tls/pay.crt",
        "certificate_key": "/etc/bedstone/tls/pay.key",
    }
    paths = [file["path"] for file in nginx_site_files([entry], [])]
    assert "/etc/nginx/bedstone/certificates/pay.conf" not in paths
    (first,) = [
        file
        for file in nginx_site_files([{**entry, "acme": True}], [])
        if file["path"] == "/etc/nginx/bedstone/certificates/pay.conf"
    ]
    assert first["create_only"]


def test_problems_are_listed_with_their_apps() -> None:
    output = '[{"name": "pay", "changed": false, "problem": "no address"},'
    output += ' {"name": "shop", "changed": true, "problem": null}]'
    assert acme.acme_problems(output) == ["pay: no address"]
