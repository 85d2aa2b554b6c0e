"""What the apps get to see, and what clients get back."""

from __future__ import annotations

import base64
import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from web_client import exchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host
    from web_client import Client

UNITS = ["nginx.service", "stub-pay-web.service"]
PAGES = ["/", "/?status=500", "/static/app.css", "/static/absent.css", "/new/", "/media/photo.png"]


@pytest.mark.parametrize(
    ("path", "stub"),
    [
        ("/", "pay-web"),
        ("/apix", "pay-web"),
        ("/api", "pay-api"),
        ("/api/", "pay-api"),
        ("/api/v1/x%20y?z=1&z=2", "pay-api"),
    ],
)
def test_longest_route_wins_and_the_path_is_passed_unchanged(
    client: Client, path: str, stub: str
) -> None:
    seen = client.get(path).json()
    assert (seen["stub"], seen["path"]) == (stub, path)


def test_each_site_has_its_own_app(client: Client) -> None:
    assert client.get("/", name="shop.example.com").json()["stub"] == "shop-web"


def test_client_is_described_by_nginx_alone(client: Client) -> None:
    lies = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Real-IP": "203.0.113.9",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Port": "1",
        "X-Forwarded-Prefix": "/evil",
        "X-Script-Name": "/evil",
        "X_Forwarded_For": "203.0.113.9",
        "Forwarded": "for=203.0.113.9",
        "Proxy": "http://evil.example",
    }
    headers = client.get("/", lies).json()["headers"]
    assert headers["host"] == "pay.example.com"
    assert headers["x-forwarded-host"] == "pay.example.com"
    assert headers["x-forwarded-proto"] == "https"
    assert headers["x-forwarded-for"] == headers["x-real-ip"]
    assert "203.0.113.9" not in json.dumps(headers)
    assert "evil" not in json.dumps(headers)


def test_port_of_the_host_header_is_passed(client: Client) -> None:
    headers = client.get("/", {"Host": "pay.example.com:8443"}).json()["headers"]
    assert headers["host"] == "pay.example.com:8443"


def test_host_header_beside_an_absolute_url_does_not_reach_the_app(client: Client) -> None:
    request = "GET https://pay.example.com/x HTTP/1.1\r\nHost: evil.example\r\nConnection: close"
    with client.tls() as connection:
        seen = exchange(connection, f"{request}\r\n\r\n".encode()).json()
    assert seen["headers"]["host"] == "pay.example.com"
    assert "evil" not in json.dumps(seen)


def logged(host: Host, wait_until: Callable[..., None], identity: str | None) -> str:
    """Return the line of the access log about a request: nginx writes it after it has answered."""
    find = f"grep {identity} /var/log/nginx/access.log"
    wait_until(lambda: host.run(find).stdout.endswith("\n"), what=f"{identity} is logged")
    return str(host.check_output(find))


def test_request_id_is_nginxs_and_the_same_everywhere(
    host: Host, client: Client, wait_until: Callable[..., None]
) -> None:
    answer = client.get("/traced?token=secret&own=1", {"X-Request-ID": "mine"})
    sent = answer.header("X-Request-ID")
    assert answer.json()["headers"]["x-request-id"] == sent
    assert sent not in ("mine", "the-apps-own")
    line = logged(host, wait_until, sent)
    entry = json.loads(line)
    assert (entry["path"], entry["status"], entry["upstream"]) == (
        "/traced",
        200,
        "127.0.0.1:8001",
    )
    assert isinstance(entry["seconds"], float)
    assert "secret" not in line


def test_referer_is_logged_without_its_query(
    host: Host, client: Client, wait_until: Callable[..., None]
) -> None:
    answer = client.get("/", {"Referer": "https://pay.example.com/reset?token=secret"})
    line = logged(host, wait_until, answer.header("X-Request-ID"))
    assert json.loads(line)["referer"] == "https://pay.example.com/reset"


def test_line_of_the_log_has_a_limit(
    host: Host, client: Client, wait_until: Callable[..., None]
) -> None:
    long = "\x01" * 7000
    answer = client.get(f"/{'a' * 7000}", {"User-Agent": long, "Referer": long})
    line = logged(host, wait_until, answer.header("X-Request-ID"))
    entry = json.loads(line)
    assert entry["user_agent"] == "\x01" * 256
    assert (len(entry["path"]), len(entry["referer"])) == (1024, 512)
    assert len(line) < 7000


def test_query_is_not_in_the_error_log_either(host: Host, client: Client) -> None:
    assert client.get("/new/?token=very-secret").status == 502
    assert client.get("/static/absent.css?token=very-secret").status == 404
    assert host.run("grep -r very-secret /var/log/nginx").rc == 1


@pytest.mark.parametrize("path", PAGES)
def test_security_headers_are_on_every_answer(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert answer.header("X-Frame-Options") == "DENY"
    assert answer.header("Referrer-Policy") == "strict-origin-when-cross-origin"
    assert answer.header("X-Permitted-Cross-Domain-Policies") == "none"
    assert answer.header("Strict-Transport-Security") == "max-age=31536000"
    assert answer.header("Server") == "nginx"


def test_headers_of_the_app_are_the_apps(client: Client) -> None:
    answer = client.get("/?own=1")
    assert answer.header("X-Frame-Options") == "SAMEORIGIN"
    assert answer.header("Strict-Transport-Security") == "max-age=5"
    assert answer.header("X-Powered-By") is None


def test_plain_http_does_not_speak_of_https_only(client: Client) -> None:
    answer = client.plain("/", "pay.example.com")
    assert answer is not None
    assert answer.header("Strict-Transport-Security") is None


def test_large_answers_are_compressed(client: Client) -> None:
    answer = client.get("/?filler=20000", {"Accept-Encoding": "gzip"})
    assert answer.header("Content-Encoding") == "gzip"
    assert answer.header("Vary") == "Accept-Encoding"
    assert json.loads(gzip.decompress(answer.body))["filler"] == "x" * 20000


def test_body_over_the_limit_is_refused_and_one_below_is_not(client: Client) -> None:
    assert client.get("/", method="POST", body=b"x" * (1024 * 1024 + 1)).status == 413
    taken = client.get("/", method="POST", body=b"x" * (1024 * 1024))
    assert taken.json()["body_bytes"] == 1024 * 1024


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_service_without_a_release_gets_a_page_that_is_no_cached_error(
    client: Client, method: str
) -> None:
    answer = client.get("/new/", method=method, body=b"x" if method == "POST" else b"")
    assert answer.status == 502
    assert answer.header("Content-Type") == "text/html"
    assert answer.header("Cache-Control") == "no-store"
    assert answer.header("Retry-After") == "30"
    assert b"Back in a moment" in answer.body


def test_page_can_not_be_asked_for(client: Client) -> None:
    assert client.get("/.bedstone/unavailable").status == 404


def test_errors_of_the_app_pass_unchanged(client: Client) -> None:
    answer = client.get("/?status=503")
    assert answer.status == 503
    assert answer.json()["stub"] == "pay-web"


def test_silent_app_is_given_up_after_the_sites_time(client: Client) -> None:
    answer = client.get("/?seconds=13")
    assert answer.status == 504
    assert b"Back in a moment" in answer.body


def test_post_is_never_sent_twice(client: Client) -> None:
    before = client.get("/").json()["dropped"]
    assert client.get("/drop", method="POST", body=b"pay").status == 502
    assert client.get("/").json()["dropped"] == [*before, "POST"]


def test_websocket_is_passed_through(client: Client) -> None:
    request = (
        "GET /websocket HTTP/1.1\r\nHost: pay.example.com\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n\r\n"
    )
    with client.tls() as connection:
        connection.sendall(request.encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(4096)
        assert received.startswith(b"HTTP/1.1 101")
        connection.sendall(b"ping")
        while not received.endswith(b"echo ping"):
            part = connection.recv(4096)
            assert part, received
            received += part


def test_no_other_upgrade_is_passed(client: Client) -> None:
    sent = {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AA"}
    headers = client.get("/", sent).json()["headers"]
    assert "upgrade" not in headers
    assert "Upgrade" not in headers.get("connection", "")


def test_one_address_can_not_take_all_connections(client: Client) -> None:
    # Long enough that all forty have come before the first is through, on a busy machine too.
    with ThreadPoolExecutor(max_workers=40) as pool:
        answers = list(pool.map(lambda _: client.get("/?seconds=8").status, range(40)))
    assert set(answers) == {200, 429}
    assert answers.count(200) == 30


def test_hashed_static_file_is_kept_forever(client: Client) -> None:
    answer = client.get("/static/app.4f1e9c0a7b2d.css")
    assert answer.header("Cache-Control") == "public, max-age=31536000, immutable"
    assert answer.header("Content-Type") == "text/css"


@pytest.mark.parametrize("name", ["app.css", "report-20260101.json"])
def test_static_file_without_a_hash_is_kept_for_minutes(client: Client, name: str) -> None:
    assert client.get(f"/static/{name}").header("Cache-Control") == "public, max-age=300"


def test_absent_static_file_is_not_kept(client: Client) -> None:
    answer = client.get("/static/absent.4f1e9c0a7b2d.css")
    assert answer.status == 404
    assert answer.header("Cache-Control") is None


def test_compressed_copy_of_a_static_file_is_served(host: Host, client: Client) -> None:
    answer = client.get("/static/big.js", {"Accept-Encoding": "gzip"})
    size = host.file("/srv/bedstone/pay/static/current/big.js.gz").size
    assert answer.header("Content-Encoding") == "gzip"
    assert len(answer.body) == size


@pytest.mark.parametrize("path", ["/static/secret.txt", "/media/secret.txt"])
def test_link_out_of_a_directory_is_not_followed(client: Client, path: str) -> None:
    assert client.get(path).status == 403


@pytest.mark.parametrize("path", ["/static../r1/app.css", "/static/../../media/photo.png"])
def test_path_does_not_lead_out_of_a_directory(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status == 400 or answer.json()["stub"] == "pay-web"


@pytest.mark.parametrize("name", ["attack.html", "attack.svg"])
def test_upload_that_could_run_is_downloaded_into_a_sandbox(client: Client, name: str) -> None:
    answer = client.get(f"/media/{name}")
    assert answer.status == 200
    assert answer.header("Content-Disposition") == "attachment"
    assert "sandbox" in (answer.header("Content-Security-Policy") or "")


@pytest.mark.parametrize("name", ["photo.png", "invoice.pdf"])
def test_upload_that_browsers_show_is_shown(client: Client, name: str) -> None:
    answer = client.get(f"/media/{name}")
    assert answer.status == 200
    assert answer.header("Content-Disposition") is None


def test_upload_is_not_changed_by_clients(client: Client) -> None:
    assert client.get("/media/photo.png", method="PUT", body=b"x").status == 405
