"""What happens to a server that serves when its configuration changes, or nginx dies."""

from __future__ import annotations

import copy
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from again import applied, refused
from web_client import Client, exchange

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from testinfra.host import Host

UNITS = ["nginx.service"]
CHECKSUM = "find /etc/nginx -type f -exec sha256sum {} + | sort"


def answers(client: Client, name: str) -> bool:
    """Whether a site answers, with a certificate that the client trusts.

    A reload has only begun when it returns: for a moment the old workers take connections, with
    the old sites and certificates.
    """
    try:
        return client.get("/", name=name).status == 200
    except OSError:
        return False


def test_broken_site_is_refused_and_the_old_ones_serve_on(
    host: Host, client: Client, server_name: str, variables: dict[str, Any]
) -> None:
    before = host.check_output(CHECKSUM)
    sites = copy.deepcopy(variables["nginx_sites"])
    sites[0]["certificate"] = "/etc/bedstone/tls/absent.crt"
    sites[1]["max_body_mb"] = 7
    said = refused(server_name, nginx_sites=sites)
    assert "/etc/bedstone/tls/absent.crt" in said
    assert host.check_output(CHECKSUM) == before
    assert client.get("/").status == 200


def test_value_with_nginx_syntax_in_it_is_refused(
    server_name: str, variables: dict[str, Any]
) -> None:
    sites = copy.deepcopy(variables["nginx_sites"])
    sites[0]["domains"] = ["pay.example.com; return 200 'mine'"]
    assert "can't be a domain of the site 'pay'" in refused(server_name, nginx_sites=sites)


def test_reload_leaves_requests_in_flight_alone_and_takes_the_change(
    client: Client, server_name: str, wait_until: Callable[..., None]
) -> None:
    believed = {"X-Forwarded-For": "203.0.113.9"}

    def seen() -> tuple[bool, bool]:
        """Whether a worker believes the client's word, and promises https."""
        answer = client.get("/", believed)
        forwarded = answer.json()["headers"]["x-forwarded-for"]
        return forwarded == "203.0.113.9", answer.header("Strict-Transport-Security") is not None

    with ThreadPoolExecutor() as pool:
        slow = pool.submit(client.get, "/?seconds=8")
        applied(server_name, nginx_trusted_proxies=["0.0.0.0/0"], nginx_hsts_seconds=0)
        assert slow.result().status == 200
    # Both of one answer: the next one may still be an old worker's.
    wait_until(lambda: seen() == (True, False), what="the new configuration serves")
    applied(server_name)
    wait_until(lambda: seen() == (False, True), what="the former one serves again")


def test_site_that_is_no_longer_listed_is_no_longer_served(
    host: Host,
    client: Client,
    server_name: str,
    variables: dict[str, Any],
    wait_until: Callable[..., None],
) -> None:
    applied(server_name, nginx_sites=variables["nginx_sites"][:1])
    assert not host.file("/etc/nginx/bedstone/sites/shop.conf").exists
    wait_until(lambda: client.plain("/", "shop.example.com") is None, what="the site is gone")
    assert client.get("/").status == 200
    applied(server_name)
    wait_until(lambda: answers(client, "shop.example.com"), what="the site is back")


def test_certificate_brought_along_is_served_and_one_without_its_key_is_not(
    host: Host,
    client: Client,
    server_name: str,
    variables: dict[str, Any],
    tmp_path: Path,
    wait_until: Callable[..., None],
) -> None:
    for name in ("own", "other"):
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
        names = ["-subj", "/CN=shop.example.com", "-addext", "subjectAltName=DNS:shop.example.com"]
        files = ["-keyout", f"{tmp_path}/{name}.key", "-out", f"{tmp_path}/{name}.crt"]
        subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    sites = copy.deepcopy(variables["nginx_sites"])
    sites[1]["certificate"] = "/etc/nginx/bedstone/tls/shop.crt"
    sites[1]["certificate_key"] = "/etc/nginx/bedstone/tls/shop.key"
    brought = {"name": "shop", "certificate": f"{tmp_path}/own.crt", "key": f"{tmp_path}/own.key"}

    mixed = {**brought, "key": f"{tmp_path}/other.key"}
    said = refused(server_name, nginx_sites=sites, nginx_certificate_files=[mixed])
    assert "key values mismatch" in said
    assert client.get("/", name="shop.example.com").status == 200

    applied(server_name, nginx_sites=sites, nginx_certificate_files=[brought])
    own = Client(client.address, certificates=(tmp_path / "own.crt").read_text())
    wait_until(lambda: answers(own, "shop.example.com"), what="the own certificate is served")
    assert host.file("/etc/nginx/bedstone/tls/shop.key").mode == 0o600
    applied(server_name)
    assert not host.file("/etc/nginx/bedstone/tls/shop.key").exists
    wait_until(lambda: answers(client, "shop.example.com"), what="the former one is served again")


def test_released_upstreams_are_left_alone(host: Host, server_name: str) -> None:
    path = "/etc/nginx/bedstone/upstreams/pay-web.conf"
    before = host.file(path).content_string
    assert "server 127.0.0.1:8001;" in before
    assert "changed=0 " in applied(server_name)
    assert host.file(path).content_string == before


def test_maintenance_page_takes_a_site_down_at_once_and_no_other(
    host: Host, client: Client
) -> None:
    page = "/etc/nginx/bedstone/maintenance/pay.html"
    host.check_output(f"echo 'Closed for stocktaking' > {page}")
    try:
        for method in ("GET", "POST"):
            answer = client.get("/api/x", method=method)
            assert (answer.status, answer.body) == (503, b"Closed for stocktaking\n")
            assert answer.header("Retry-After") == "30"
            assert answer.header("X-Content-Type-Options") == "nosniff"
        assert client.get("/", name="shop.example.com").status == 200
    finally:
        host.check_output(f"rm {page}")
    assert client.get("/").status == 200


def test_nginx_comes_back_when_it_crashes(
    host: Host, client: Client, wait_until: Callable[..., None]
) -> None:
    before = host.file("/run/nginx.pid").content_string
    host.check_output("systemctl kill --signal=KILL nginx.service")

    def serves() -> bool:
        try:
            return client.get("/").status == 200
        except OSError:
            return False

    wait_until(serves, what="nginx serves again")
    assert host.file("/run/nginx.pid").content_string != before


def test_slow_upload_goes_to_the_slot_that_serves_when_it_has_come(
    host: Host, client: Client
) -> None:
    """A slot is chosen by a link, without a reload, once a request is there as a whole."""
    upstreams = "/etc/nginx/bedstone/upstreams/shop-web.conf"
    link = "/etc/nginx/bedstone/serving/shop"
    host.check_output("cp -a %s /root/shop-web.conf; cp -a %s /root/shop", upstreams, link)
    slots = "".join(
        f"upstream shop-web-{slot} {{ server 127.0.0.1:{port}; }} "
        for slot, port in (("blue", 8003), ("green", 8001))
    )
    host.check_output("echo %s >> %s && systemctl reload nginx", slots, upstreams)
    workers = host.check_output("pgrep -f 'nginx: worker process$'")
    switch = "ln -s ../slots/{0} /root/new && mv -T /root/new " + link
    try:
        host.check_output(switch.format("blue"))
        head = "POST /upload HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 20\r\n"
        with client.tls("shop.example.com") as connection:
            connection.sendall(f"{head}Connection: close\r\n\r\n0123456789".encode())
            assert client.get("/", name="shop.example.com").json()["stub"] == "shop-web"
            host.check_output(switch.format("green"))
            # The previous slot is gone by the time that the rest comes.
            host.check_output("systemctl stop stub-shop-web")
            assert client.get("/", name="shop.example.com").json()["stub"] == "pay-web"
            answer = exchange(connection, b"0123456789")
        assert (answer.status, answer.json()["stub"]) == (200, "pay-web")
        assert answer.json()["body_bytes"] == 20
        assert host.check_output("pgrep -f 'nginx: worker process$'") == workers
    finally:
        host.check_output("systemctl start stub-shop-web")
        host.check_output("mv -T /root/shop %s; mv /root/shop-web.conf %s", link, upstreams)
        host.check_output("systemctl reload nginx")


def test_logs_are_rotated_by_size_and_soon(host: Host) -> None:
    host.check_output(
        "truncate -s 70M /var/log/nginx/access.log && systemctl start logrotate.service"
        " && test -s /var/log/nginx/access.log.1 && test ! -s /var/log/nginx/access.log"
        " && truncate -s 0 /var/log/nginx/access.log.1"
    )
    assert "/5:00" in host.check_output("systemctl show logrotate.timer -P TimersCalendar")
