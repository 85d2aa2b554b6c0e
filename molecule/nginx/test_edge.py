"""What nginx does for one site before the app is reached; each promise with its attack."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from web_client import Answer, Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host

UNITS = ["nginx.service", "bedstone-firewall.service"]
NAME = "edge.example.com"
PASSWORD = "correct horse"
CURL = (
    "curl -sk --max-time 10 --resolve edge.example.com:443:{address} {options}"
    " https://edge.example.com{path}"
)


def get(client: Client, path: str, headers: dict[str, str] | None = None, **options: Any) -> Answer:
    return client.get(path, headers, name=NAME, **options)


def login(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def from_peer(peer: Host, address: str, path: str, options: str = "") -> tuple[int, str]:
    """Ask the site from another address; return the status and the body."""
    command = CURL.format(address=address, path=path, options=options + " -w '\\n%{http_code}'")
    body, _, status = peer.check_output(command).rpartition("\n")
    return int(status), body


def rates(host: Host, path: str) -> list[str]:
    """Return what the limit for requests did to those for a path."""
    lines = host.check_output("cat /var/log/nginx/access.log").splitlines()
    return [entry["rate"] for entry in map(json.loads, lines) if entry["path"] == path]


@pytest.fixture
def uncounted(host: Host, client: Client, wait_until: Callable[..., None]) -> None:
    """Begin without counted requests; a reload keeps them."""
    host.check_output("systemctl restart nginx")

    def serves() -> bool:
        try:
            return get(client, "/robots.txt").status == 200
        except OSError:
            return False

    wait_until(serves, what="nginx serves")


@pytest.mark.usefixtures("uncounted")
def test_requests_above_the_rate_are_first_only_counted(
    host: Host, client: Client, wait_until: Callable[..., None]
) -> None:
    path = "/counted"
    before = len(rates(host, path))
    assert [get(client, path).status for _ in range(6)] == [200] * 6
    wait_until(lambda: len(rates(host, path)) == before + 6, what="all are logged")
    assert rates(host, path)[before:] == ["PASSED"] * 4 + ["REJECTED_DRY_RUN"] * 2


@pytest.mark.usefixtures("uncounted")
def test_login_has_a_limit_of_its_own_which_is_enforced(client: Client) -> None:
    answers = [get(client, "/accounts/login/", method="POST", body=b"x") for _ in range(5)]
    assert [answer.status for answer in answers] == [200] * 3 + [429] * 2
    assert answers[-1].header("Retry-After") == "10"
    assert answers[-1].header("Cache-Control") == "no-store"
    assert answers[-1].header("X-Content-Type-Options") == "nosniff"
    assert b"Too many requests" in answers[-1].body
    # In another spelling too, and each other path still answers.
    assert get(client, "/accounts/%6Cogin//x").status == 429
    assert get(client, "/accounts/").status == 200


def test_exempt_network_is_not_counted(host: Host, peer: Host, address: str) -> None:
    asked = [from_peer(peer, address, "/accounts/login/?peer")[0] for _ in range(5)]
    assert asked == [200] * 5
    assert host.run('grep -c \'"rate":""\' /var/log/nginx/access.log').stdout.strip() != "0"


@pytest.mark.usefixtures("uncounted")
def test_addresses_of_one_ipv6_network_are_one_client(host: Host) -> None:
    """Requests over the server's own interface, each from another address of a /64."""
    first, second, other = "fd00:1:2:3::1", "fd00:1:2:3:4:5:6:7", "fd00:1:2:4::1"
    host.check_output("echo 0 > /proc/sys/net/ipv6/conf/lo/disable_ipv6")
    for one in (first, second, other):
        host.check_output(f"ip -6 address replace {one}/128 dev lo nodad")
    asked = (
        "curl -sk -o /dev/null -w '%{{http_code}} ' --interface {0}"
        " --resolve edge.example.com:443:[::1] https://edge.example.com/accounts/login/;"
    )
    try:
        said = host.check_output(
            asked.format(first) * 3 + asked.format(second) + asked.format(other)
        )
    finally:
        for one in (first, second, other):
            host.check_output(f"ip -6 address delete {one}/128 dev lo")
    assert said.split() == ["200", "200", "200", "429", "200"]


def test_redirected_name_keeps_path_query_and_method(client: Client) -> None:
    answer = client.get("/a/b?c=d&e=%20f", name="www.edge.example.com", method="POST")
    assert answer.status == 308
    assert answer.header("Location") == "https://edge.example.com/a/b?c=d&e=%20f"
    assert answer.header("Strict-Transport-Security") is not None
    plain = client.plain("/a?b", "www.edge.example.com")
    assert plain is not None
    assert plain.header("Location") == "https://www.edge.example.com/a?b"


def test_list_of_networks_lets_in_these_alone(client: Client, peer: Host, address: str) -> None:
    assert from_peer(peer, address, "/office/x")[0] == 200
    assert get(client, "/office/x").status == 403
    assert get(client, "/office").status == 403
    assert get(client, "/OFFICE/../office//x").status == 403


def test_denied_network_is_kept_out(client: Client, peer: Host, address: str) -> None:
    assert from_peer(peer, address, "/closed/x")[0] == 403
    assert get(client, "/closed/x").status == 200


def test_client_behind_a_declared_proxy_is_the_one_that_the_proxy_saw(
    client: Client, peer: Host, address: str
) -> None:
    """The first address of X-Forwarded-For is what the client said to the proxy."""
    spoofed = {"X-Forwarded-For": "198.51.100.7, 203.0.113.9"}
    option = "-H 'X-Forwarded-For: 198.51.100.7, 203.0.113.9'"
    seen = json.loads(from_peer(peer, address, "/", option)[1])["headers"]
    assert seen["x-forwarded-for"] == seen["x-real-ip"] == "203.0.113.9"
    # The proxy's own lists don't hold for its clients.
    assert from_peer(peer, address, "/office/", option)[0] == 403
    direct = get(client, "/", spoofed).json()["headers"]
    assert "203.0.113.9" not in json.dumps(direct)
    assert "198.51.100.7" not in json.dumps(direct)


def test_headers_of_a_pretended_proxy_do_not_reach_the_app(client: Client) -> None:
    names = [
        *("X-Forwarded-Ssl", "X-Forwarded-Scheme", "X-Forwarded-Protocol", "X-Forwarded-User"),
        *("X-Original-URL", "X-Rewrite-URL", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP"),
        *("Remote-User", "X-Remote-User", "Remote_User", "X_Forwarded_Proto", "Front-End-Https"),
        *("X-Url-Scheme", "Forwarded"),
    ]
    seen = get(client, "/", dict.fromkeys(names, "evil.example")).json()["headers"]
    assert "evil.example" not in json.dumps(seen)


def test_password_is_asked_for_and_not_passed_to_the_app(client: Client) -> None:
    asked = get(client, "/staff/x")
    assert asked.status == 401
    assert asked.header("WWW-Authenticate") == 'Basic realm="edge"'
    for wrong in (
        login("alice", "wrong"),
        login("mallory", PASSWORD),
        {"Authorization": "Bearer x"},
    ):
        assert get(client, "/staff/x", wrong).status == 401
    right = get(client, "/staff/x", login("alice", PASSWORD))
    assert right.status == 200
    assert "authorization" not in right.json()["headers"]
    # Elsewhere a login is the app's.
    other = get(client, "/x", login("alice", "own")).json()["headers"]
    assert other["authorization"] == login("alice", "own")["Authorization"]
    assert get(client, "/staff/hooks/x").status == 200


def test_password_is_kept_as_a_hash_that_others_can_not_read(host: Host) -> None:
    file = host.file("/etc/nginx/bedstone/auth/edge")
    assert (file.user, file.group, file.mode) == ("root", "www-data", 0o640)
    assert file.content_string.startswith("alice:$7$")
    assert host.run("grep -rF %s /etc/nginx /var/log/nginx", PASSWORD).rc == 1


def test_health_path_needs_no_password_from_the_server_itself(host: Host, client: Client) -> None:
    assert get(client, "/staff/health/").status == 401
    assert get(client, "/staff/health/", login("alice", PASSWORD)).status == 200
    for path, status in (("/staff/health/", "200"), ("/staff/health/x", "401")):
        command = CURL.format(
            address="127.0.0.1", path=path, options="-o /dev/null -w '%{http_code}'"
        )
        assert host.check_output(command) == status


def test_private_upload_comes_by_the_app_alone(client: Client) -> None:
    for path in ("/private/photo.png", "/private/%2e/photo.png", "//private/photo.png"):
        assert get(client, path).status == 404
    sent = get(client, "/download?file=/private/photo.png&own=1")
    assert (sent.status, sent.body) == (200, b"pretend")
    assert sent.header("X-Accel-Redirect") is None
    # What the app said of the response, or nginx's own.
    assert sent.header("X-Frame-Options") == "SAMEORIGIN"
    assert sent.header("X-Content-Type-Options") == "nosniff"
    assert "sandbox" in (sent.header("Content-Security-Policy") or "")
    assert (
        get(client, "/download?file=/private/attack.html").header("Content-Disposition")
        == "attachment"
    )
    assert get(client, "/download?file=/private/../../../../etc/passwd").status != 200


def test_app_can_not_be_made_to_show_nginxs_own_files(client: Client) -> None:
    answer = get(client, "/x", {"X-Accel-Redirect": "/private/photo.png"})
    assert answer.json()["stub"] == "shop-web"


def test_path_has_its_own_limit_for_bodies(client: Client) -> None:
    body = b"x" * (2 * 1024 * 1024)
    assert get(client, "/upload/", method="POST", body=body).json()["body_bytes"] == len(body)
    assert get(client, "/elsewhere/", method="POST", body=body).status == 413


def test_header_beyond_the_limit_is_refused(client: Client) -> None:
    assert get(client, "/", {"X-Large": "x" * 12_000}).status == 200
    assert get(client, "/", {"X-Large": "x" * 20_000}).status == 400
    assert get(client, f"/{'x' * 20_000}").status == 414
    many = {f"X-Number-{number}": "x" * 10_000 for number in range(9)}
    assert get(client, "/", many).status == 400


def test_pages_with_secrets_are_not_compressed(client: Client) -> None:
    asked = {"Accept-Encoding": "gzip"}
    assert get(client, "/secret/?filler=20000", asked).header("Content-Encoding") is None
    assert get(client, "/other/?filler=20000", asked).header("Content-Encoding") == "gzip"


def test_security_txt_is_published(client: Client) -> None:
    answer = get(client, "/.well-known/security.txt")
    assert answer.status == 200
    assert answer.header("Content-Type") == "text/plain; charset=utf-8"
    assert answer.body.decode().splitlines() == [
        "Contact: mailto:security@example.com",
        "Expires: 2027-06-30T00:00:00Z",
        "Canonical: https://edge.example.com/.well-known/security.txt",
    ]


def test_directives_of_the_operator_are_used(client: Client) -> None:
    assert get(client, "/robots.txt").body == b"Disallow: /"


def test_maintenance_page_lets_exempt_networks_pass(
    host: Host, client: Client, peer: Host, address: str
) -> None:
    page = "/etc/nginx/bedstone/maintenance/edge.html"
    host.check_output(f"echo Closed > {page}")
    try:
        for path in ("/", "/staff/x"):
            answer = get(client, path)
            assert (answer.status, answer.body) == (503, b"Closed\n")
            assert answer.header("Retry-After") == "30"
        assert from_peer(peer, address, "/")[0] == 200
        # A client of the proxy at that address is not it.
        assert from_peer(peer, address, "/", "-H 'X-Forwarded-For: 203.0.113.9'")[0] == 503
    finally:
        host.check_output(f"rm {page}")


SLOWLORIS = """
import select, socket, sys, time
address, number, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
waiting = {}
for index in range(number):
    one = socket.socket()
    one.setblocking(False)
    one.connect_ex((address, 80 if index % 2 else 443))
    waiting[one.fileno()] = one
held, end = [], time.monotonic() + seconds
while time.monotonic() < end:
    _, ready, _ = select.select([], waiting.values(), [], 0.2)
    for one in ready:
        del waiting[one.fileno()]
        if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            one.send(b"GET / HTTP/1.1\\r\\nHost: edge.example.com\\r\\nX-Slow: ")
            held.append(one)
print(len(held), flush=True)
"""


def test_slow_heads_from_one_address_are_limited_and_others_are_served(
    host: Host, client: Client, peer: Host, address: str, wait_until: Callable[..., None]
) -> None:
    """nginx would take all of them: it counts a request once its head is complete."""
    limit = 200
    attack = f"timeout 60 python3 -c %s {address} 400 5"
    with ThreadPoolExecutor() as pool:
        attacking = pool.submit(peer.check_output, attack, SLOWLORIS)
        count = "ss -Htn state established '( sport = :80 or sport = :443 )' | wc -l"
        wait_until(lambda: int(host.check_output(count)) >= limit, what="the attack is on")
        assert get(client, "/during").status == 200
        assert from_peer_status(peer, address) != 0
        assert int(attacking.result()) == limit
    rule = host.check_output("nft list chain inet bedstone clients | grep @clients_ipv4")
    assert "packets 0 " not in rule
    # nginx ends them, and the address is served again.
    wait_until(lambda: from_peer_status(peer, address) == 0, what="the peer is served")


SHORT = """
import socket, sys
for _ in range(1000):
    with socket.create_connection((sys.argv[1], 80), 10) as one:
        one.sendall(b"GET / HTTP/1.0\\r\\nHost: edge.example.com\\r\\n\\r\\n")
        while one.recv(4096):
            pass
"""


def test_connections_that_have_ended_are_not_counted(host: Host, peer: Host, address: str) -> None:
    dropped = "nft list chain inet bedstone clients | grep @clients_ipv4"
    before = host.check_output(dropped)
    peer.check_output("timeout 60 python3 -c %s %s", SHORT, address)
    assert host.check_output(dropped) == before


def from_peer_status(peer: Host, address: str) -> int:
    """Return curl's exit status for a request from the peer: 28 is a timeout."""
    command = CURL.format(address=address, path="/", options="-o /dev/null --connect-timeout 2")
    return int(peer.run(command).rc)


def test_request_whose_head_never_ends_is_ended_by_nginx(client: Client) -> None:
    with client.tls(NAME) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: edge.example.com\r\nX-Slow: ")
        connection.settimeout(20)
        assert exchange_end(connection) == b""


def exchange_end(connection: Any) -> bytes:
    """Return what comes until the server ends the connection; nginx sends a 408 to none."""
    try:
        return bytes(connection.recv(4096))
    except ConnectionError:
        return b""
