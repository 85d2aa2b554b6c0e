from __future__ import annotations

from typing import Any

import pytest

from bedstone_control.roles.nginx import (
    nginx_certificate_files,
    nginx_header_values,
    nginx_password_hash,
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
    file, *_ = nginx_site_files([entry], upstreams)
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
    (location,) = rendered(site())["locations"]
    assert (location["match"], location["upstream"]) == ("/", "pay-web")


def test_what_is_not_given_has_a_default() -> None:
    result = rendered(site())
    assert result["directives"] == [
        "client_max_body_size 20m",
        "proxy_read_timeout 60s",
        "proxy_send_timeout 60s",
    ]
    assert [rate["rate"] for rate in result["rates"]] == ["20r/s"]
    assert result["locations"][0]["rate"]["dry_run"] is True
    assert result["locations"][0]["directives"] == []
    assert result["static"] is None
    assert result["media"] is None


def test_static_url_and_directory_lose_or_gain_the_slash_that_alias_needs() -> None:
    result = rendered(site(static={"url": "/static", "directory": "/srv/static/"}))
    assert result["static"] == {
        "url": "/static/",
        "directory": "/srv/static",
        "private": False,
    }


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
        ({"redirects": ["www; }"]}, "can't be a domain of the site 'pay'"),
        ({"paths": [{"path": "/a b"}]}, "can't be a path in paths of the site 'pay'"),
        ({"paths": [{"path": "/a"}, {"path": "/a/"}]}, "has '/a/' twice"),
        ({"routes": [], "paths": [{"path": "/a"}]}, "'/a/' in paths of the site 'pay' is below no"),
        ({"rate": {"per": "hour"}}, "can be per second or minute"),
        ({"rate": {"requests": -1}}, "requests and burst are 0 or more"),
        ({"exempt_networks": ["0; }"]}, "exempt_networks of the site 'pay'"),
        ({"basic_auth": {"a:b": "x"}}, "can't be a user in basic_auth"),
        ({"security_txt": {"contact": ["x"], "expires": "2027"}}, "contact of security_txt"),
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


def directives(match: str, **changes: Any) -> list[str]:
    found = {each["match"]: each for each in rendered(site(**changes))["locations"]}
    return list(found[match]["directives"])


def test_redirected_names_are_served_and_lead_to_the_first_domain() -> None:
    result = rendered(site(redirects=["www.pay.example.com"]))
    assert result["domains"] == ["pay.example.com", "www.pay.example.com"]
    assert (result["main_domain"], result["redirects"]) == (
        "pay.example.com",
        ["www.pay.example.com"],
    )


def test_redirected_name_of_another_site_is_refused() -> None:
    with pytest.raises(ValueError, match="'pay' and 'other'"):
        nginx_site_files(
            [site(), site(name="other", domains=["b.example"], redirects=["pay.example.com"])],
            ["pay-web"],
        )


def test_lists_of_a_site_hold_for_all_of_it_with_denied_networks_first() -> None:
    changes = {"allow": ["192.0.2.7/24", "2001:db8::1"], "deny": ["198.51.100.1"]}
    with pytest.raises(ValueError, match=r"allow of the site 'pay': 192\.0\.2\.7/24 has host bits"):
        rendered(site(**changes))
    changes["allow"][0] = "192.0.2.0/24"
    assert rendered(site(**changes))["directives"][-4:] == [
        "deny 198.51.100.1/32",
        "allow 192.0.2.0/24",
        "allow 2001:db8::1/128",
        "deny all",
    ]
    assert directives("/", **changes) == []


def test_path_says_what_differs_and_inherits_the_rest() -> None:
    paths = [
        {"path": "/a/", "max_body_mb": 500, "deny": ["192.0.2.0/24"]},
        {"path": "/a/b", "timeout_seconds": 7, "buffering": False, "deny": []},
    ]
    changes = {"paths": paths, "deny": ["198.51.100.0/24"]}
    assert directives("/a/", **changes) == ["client_max_body_size 500m", "deny 192.0.2.0/24"]
    expected = [
        "client_max_body_size 500m",
        "proxy_read_timeout 7s",
        "proxy_send_timeout 7s",
        "proxy_buffering off",
        "allow all",
    ]
    assert directives("/a/b/", **changes) == directives("= /a/b", **changes) == expected


@pytest.mark.parametrize(
    ("replicas", "seconds", "line"),
    [(1, 60, None), (2, 2, None), (2, 3, "2s"), (4, 60, "59s"), (4, 600, "599s")],
)
def test_request_goes_to_another_replica_but_not_because_one_is_slow(
    replicas: int, seconds: int, line: str | None
) -> None:
    routes = [{"path": "/", "upstream": "pay-web", "replicas": replicas}]
    [location] = rendered(site(routes=routes, timeout_seconds=seconds))["locations"]
    found = [words for words in location["directives"] if "connect" in words or "next" in words]
    wanted = [
        "proxy_connect_timeout 1s",
        "proxy_next_upstream error timeout",
        f"proxy_next_upstream_timeout {line}",
    ]
    assert found == (wanted if line else [])


def test_rules_hold_for_routes_below_their_path() -> None:
    routes = [{"path": path, "upstream": "pay-web"} for path in ("/", "/api/v2/")]
    paths = [{"path": "/api/", "compress": False}]
    assert directives("/api/v2/", routes=routes, paths=paths) == ["gzip off"]
    assert directives("/", routes=routes, paths=paths) == []


def test_equal_rates_share_a_count_and_others_have_their_own() -> None:
    login = {"requests": 10, "per": "minute", "enforce": True}
    result = rendered(site(paths=[{"path": f"/{name}/", "rate": login} for name in "ab"]))
    assert [(rate["zone"], rate["rate"], rate["burst"]) for rate in result["rates"]] == [
        ("bedstone_pay", "20r/s", 200),
        ("bedstone_pay_1", "10r/m", 10),
    ]


def test_no_requests_is_no_limit() -> None:
    result = rendered(site(rate={"requests": 0}))
    assert result["rates"] == []
    assert result["locations"][0]["rate"] is None


HASH = nginx_password_hash("secret", "pay alice")


def test_passwords_are_in_a_file_that_only_nginx_reads() -> None:
    files = nginx_site_files([site(basic_auth={"alice": HASH})], ["pay-web"])
    (file,) = [each for each in files if "/auth/" in each["path"]]
    assert file == {
        "path": "/etc/nginx/bedstone/auth/pay",
        "content": f"alice:{HASH}\n",
        "group": "www-data",
        "mode": "0640",
        "sensitive": True,
    }
    assert HASH not in str(files[0])
    assert (
        "auth_basic_user_file bedstone/auth/pay"
        in rendered(site(basic_auth={"alice": HASH}))["directives"]
    )


def test_password_in_plain_text_is_refused() -> None:
    with pytest.raises(ValueError, match="'alice' in basic_auth of the site 'pay' is no hash"):
        rendered(site(basic_auth={"alice": "secret"}))


def test_health_path_is_open_to_the_server_itself_only() -> None:
    changes: dict[str, Any] = {"health_paths": ["/health/"]}
    assert len(rendered(site(**changes))["locations"]) == 1
    local = ["allow 127.0.0.1", "allow ::1"]
    auth = directives("= /health/", basic_auth={"alice": HASH}, **changes)
    assert auth == ["satisfy any", *local, "deny all"]
    listed = directives("= /health/", allow=["192.0.2.0/24"], **changes)
    assert listed == [*local, "allow 192.0.2.0/24", "deny all"]


def test_files_of_the_operator_and_security_txt_come_along() -> None:
    text = {"contact": ["mailto:a@example.com"], "expires": "2027-01-01T00:00:00Z"}
    files = nginx_site_files([site(include="/x/own.conf", security_txt=text)], ["pay-web"])
    by_path = {file["path"]: file for file in files}
    assert by_path["/etc/nginx/bedstone/include/pay.conf"]["source"] == "/x/own.conf"
    assert "Contact: mailto:a@example.com\n" in str(
        by_path["/etc/nginx/bedstone/security/pay.txt"]["content"]
    )


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
