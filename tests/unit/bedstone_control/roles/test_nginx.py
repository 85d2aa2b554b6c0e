from __future__ import annotations

from typing import Any

import pytest

from bedstone_control.roles.nginx import (
    nginx_certificate_files,
    nginx_header_values,
    nginx_site_files,
    nginx_upstream_files,
)


def site(**changes: Any) -> dict[str, Any]:
    return {
        "name": "pay",
        "domains": ["pay.example.com"],
        "certificate": "/etc/bedstone/tls/pay.crt",
        "certificate_key": "/etc/bedstone/tls/pay.key",
        "routes": [{"path": "/", "upstream": "pay-web"}],
        **changes,
    }


def rendered(entry: dict[str, Any], upstreams: tuple[str, ...] = ("pay-web",)) -> dict[str, Any]:
    file, _ = nginx_site_files([entry], upstreams)
    result: dict[str, Any] = file["variables"]["site"]
    return result


def test_each_site_has_a_file_of_its_name() -> None:
    files = nginx_site_files([site(), site(name="b", domains=["b.example"])], ["pay-web"])
    assert [file["path"] for file in files] == [
        "/etc/nginx/bedstone/sites/pay.conf",
        "/etc/nginx/bedstone/serving/pay",
        "/etc/nginx/bedstone/sites/b.conf",
        "/etc/nginx/bedstone/serving/b",
    ]
    assert files[1]["create_only"], "a release puts a link in its place"


@pytest.mark.parametrize("path", ["/api", "/api/"])
def test_route_matches_whole_segments_with_and_without_the_slash(path: str) -> None:
    locations = rendered(site(routes=[{"path": path, "upstream": "pay-web"}]))["locations"]
    assert [location["match"] for location in locations] == ["= /api", "/api/"]


def test_root_route_is_one_location() -> None:
    assert rendered(site())["locations"] == [{"match": "/", "upstream": "pay-web"}]


def test_what_is_not_given_has_a_default() -> None:
    result = rendered(site())
    assert (result["max_body_mb"], result["timeout_seconds"]) == (20, 60)
    assert result["static"] is None
    assert result["media"] is None


def test_static_url_and_directory_lose_or_gain_the_slash_that_alias_needs() -> None:
    result = rendered(site(static={"url": "/static", "directory": "/srv/static/"}))
    assert result["static"] == {"url": "/static/", "directory": "/srv/static"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"domains": []}, "has no domains"),
        ({"domains": ["a.example; }"]}, "can't be a domain of the site 'pay'"),
        ({"domains": ["UPPER.example"]}, "can't be a domain"),
        ({"domains": ["a.example", "a.example"]}, "is a domain of two sites"),
        ({"name": "../x"}, "can't be the name of a site"),
        ({"certificate": "tls/pay.crt"}, "can't be the certificate"),
        ({"certificate_key": "/a b"}, "can't be the certificate_key"),
        ({"routes": [{"path": "api", "upstream": "pay-web"}]}, "the path of a route"),
        ({"routes": [{"path": "/a{", "upstream": "pay-web"}]}, "the path of a route"),
        ({"routes": [{"path": "/", "upstream": "pay-wbe"}]}, "It has: pay-web"),
        (
            {"routes": [{"path": p, "upstream": "pay-web"} for p in ("/api", "/api/")]},
            "Two routes of the site 'pay' have the path '/api/'",
        ),
        ({"static": {"url": "/", "directory": "/srv/x"}}, "is used by something else"),
        ({"media": {"url": "/m/", "directory": "/srv/$x"}}, "can't be the media directory"),
    ],
)
def test_value_that_nginx_would_misread_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        rendered(site(**changes))


def test_domain_of_two_sites_is_refused_with_both_names() -> None:
    with pytest.raises(ValueError, match="'pay' and 'other'"):
        nginx_site_files([site(), site(name="other")], ["pay-web"])


def test_two_sites_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two sites named 'pay'"):
        nginx_site_files([site(), site(domains=["b.example"])], ["pay-web"])


@pytest.mark.parametrize("domain", ["localhost", "a.b-c.example", "*.example.com", "192.0.2.1"])
def test_usual_domains_are_taken(domain: str) -> None:
    assert rendered(site(domains=[domain]))["domains"] == [domain]


def test_upstreams_are_made_once_and_left_alone() -> None:
    (file,) = nginx_upstream_files(["pay-web"])
    assert file["path"] == "/etc/nginx/bedstone/upstreams/pay-web.conf"
    assert file["create_only"] is True


def test_upstream_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        nginx_upstream_files(["pay-web", "pay-web"])


def test_upstream_with_a_bad_name_is_refused() -> None:
    with pytest.raises(ValueError, match="an upstream in nginx_upstreams"):
        nginx_upstream_files(["pay web"])


def test_headers_hold_nosniff_and_hsts() -> None:
    assert nginx_header_values({"X-Frame-Options": "DENY"}, 60, hsts_include_subdomains=True) == {
        "X-Content-Type-Options": "nosniff",
        "Strict-Transport-Security": "max-age=60; includeSubDomains",
        "X-Frame-Options": "DENY",
    }


def test_no_hsts_for_zero_seconds() -> None:
    values = nginx_header_values({}, 0, hsts_include_subdomains=False)
    assert values == {"X-Content-Type-Options": "nosniff"}


def test_own_value_replaces_ours_in_any_spelling_and_an_empty_one_takes_it_away() -> None:
    values = nginx_header_values(
        {"strict-transport-security": "max-age=1", "x-content-type-options": ""},
        60,
        hsts_include_subdomains=False,
    )
    assert values == {"Strict-Transport-Security": "max-age=1"}


@pytest.mark.parametrize("value", ['a"b', "a\nb", "$host", "a\\"])
def test_header_value_that_ends_the_quotes_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="the value of X-Own"):
        nginx_header_values({"X-Own": value}, 0, hsts_include_subdomains=False)


def test_brought_certificate_is_two_files_of_which_the_key_is_secret() -> None:
    item = {"name": "shop", "certificate": "/inv/shop.crt", "key": "/inv/shop.key"}
    certificate, key = nginx_certificate_files([item])
    assert certificate == {
        "path": "/etc/nginx/bedstone/tls/shop.crt",
        "source": "/inv/shop.crt",
    }
    assert key["source"] == "/inv/shop.key"
    assert key["mode"] == "0600"
    assert key["sensitive"]


def test_two_brought_certificates_of_one_name_are_refused() -> None:
    item = {"name": "shop", "certificate": "/a", "key": "/b"}
    with pytest.raises(ValueError, match="'shop' twice"):
        nginx_certificate_files([item, item])
