"""The server's side of certificates, with the real openssl below a temporary root."""

from __future__ import annotations

import datetime as dt
import os
import stat
from typing import TYPE_CHECKING

import pytest
from bedstone_certificates import Certificates, Pair
from bedstone_run import ConvergeError, Ended, run

from bedstone_control.pki.authority import make_authority
from bedstone_control.pki.issue import Wanted, issue, load_authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = dt.datetime.now(dt.UTC)
AUTHORITY = load_authority(*make_authority("Test", 400), NOW)
ME = {"owner": str(os.getuid()), "group": str(os.getgid())}


class Host:
    """A server where openssl is real and systemd only records its calls."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[list[str]] = []
        self.failing: str = ""
        self.before: Callable[[list[str]], None] = lambda _: None

    def run(self, command: list[str], **_: object) -> Ended:
        self.calls.append(command)
        self.before(command)
        if command[0] == "openssl":
            return run(command)
        if command[:2] == ["systemctl", "show"]:
            status = "LoadState=loaded\nActiveState=active\nSubState=running\nCanReload=yes"
            return Ended(0, "\n\n".join([status] * (len(command) - 4)), "")
        return Ended(1 if command[1] == self.failing else 0, "", "")

    def certificates(self, *names: str, check: bool = False) -> Certificates:
        self.calls.clear()
        pairs = [Pair(name, **ME, reload=["nginx.service"]) for name in names]
        return Certificates(pairs, run=self.run, root=self.root, check=check)

    def sign(self, request: str, name: str = "site", days: int = 90) -> str:
        return issue(request, Wanted(name, name, (name,), days=days), AUTHORITY, NOW)

    def issue(self, *names: str) -> None:
        """Issue what is missing, as the action does."""
        certificates = self.certificates(*names)
        found = certificates.inspect()["present"]
        missing = {name: entry["request"] for name, entry in found.items() if entry["request"]}
        certificates.install({name: self.sign(text, name) for name, text in missing.items()})

    def file(self, name: str) -> Path:
        return self.root / "etc/bedstone/tls" / name

    def openssl_calls(self) -> int:
        return sum(call[0] == "openssl" for call in self.calls)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_first_run_makes_a_key_that_never_was_readable_for_others(host: Host) -> None:
    certificates = host.certificates("site")
    request = certificates.inspect()["present"]["site"]["request"]
    waiting = host.root / "var/lib/bedstone/certificates/site.key"
    assert mode(waiting) == 0o600
    assert mode(waiting.parent) == 0o700
    certificates.install({"site": host.sign(request)})
    assert mode(host.file("site.key")) == 0o640
    assert mode(host.file("site.crt")) == 0o644
    assert not waiting.exists()
    assert ["systemctl", "reload", "--", "nginx.service"] in host.calls


def test_pair_in_a_directory_of_its_own_comes_and_goes_with_it(host: Host) -> None:
    host.issue("pay_app/postgresql", "site")
    assert mode(host.file("pay_app")) == 0o755
    assert mode(host.file("pay_app/postgresql.key")) == 0o640
    host.issue("pay_app/postgresql", "site")
    assert host.calls == []
    host.issue("site")
    assert not host.file("pay_app").exists()
    assert not (host.root / "var/lib/bedstone/certificates/pay_app").exists()
    assert host.file("site.key").exists()


def test_second_run_starts_no_program(host: Host) -> None:
    host.issue("site")
    found = host.certificates("site").inspect()
    assert found["pending"] == []
    assert found["present"]["site"]["request"] is None
    assert "BEGIN CERTIFICATE" in found["present"]["site"]["certificate"]
    assert host.calls == []


def test_answers_hold_no_private_key(host: Host) -> None:
    certificates = host.certificates("site")
    found = certificates.inspect()
    assert "PRIVATE" not in str(found)
    host.issue("site")
    assert "PRIVATE" not in str(host.certificates("site").requests(["site"], fresh=[]))


def test_renewal_keeps_the_key(host: Host) -> None:
    host.issue("site")
    key, certificate = host.file("site.key").read_text(), host.file("site.crt").read_text()
    certificates = host.certificates("site")
    certificates.inspect()
    request = certificates.requests(["site"], fresh=[])["site"]
    certificates.install({"site": host.sign(request)})
    assert host.file("site.key").read_text() == key
    assert host.file("site.crt").read_text() != certificate
    assert certificates.changed_paths == ["/etc/bedstone/tls/site.crt"]


def test_key_is_replaced_on_request_and_only_with_its_certificate(host: Host) -> None:
    host.issue("site")
    key, certificate = host.file("site.key").read_text(), host.file("site.crt").read_text()
    certificates = host.certificates("site")
    certificates.inspect()
    request = certificates.requests(["site"], fresh=["site"])["site"]
    assert host.file("site.key").read_text() == key
    assert host.file("site.crt").read_text() == certificate
    certificates.install({"site": host.sign(request)})
    assert host.file("site.key").read_text() != key
    assert host.certificates("site").inspect()["present"]["site"]["certificate"]
    assert mode(host.file("site.key")) == 0o640


def test_trust_is_asked_of_the_server_and_of_what_containers_see(host: Host) -> None:
    old, new = make_authority("Old", 9)[0], make_authority("New", 9)[0]
    assert host.certificates().distrusting(new) == []
    own = host.file("ca.crt")
    own.parent.mkdir(parents=True)
    own.write_text(old)
    assert host.certificates().distrusting(new) == [str(own)]
    own.write_text(f"{old}\n{new}")
    assert host.certificates().distrusting(new) == []
    for process, text in ((7, old + new), (8, old)):
        file = host.root / f"proc/{process}/root/run/bedstone/ca.crt"
        file.parent.mkdir(parents=True)
        file.write_text(text)
    (host.root / "proc/9").mkdir()
    assert [path.split("/proc/")[1] for path in host.certificates().distrusting(new)] == [
        "8/root/run/bedstone/ca.crt"
    ]


@pytest.mark.parametrize("broken", ["site.key", "site.crt"])
def test_damaged_half_is_issued_anew(host: Host, broken: str) -> None:
    host.issue("site")
    host.file(broken).write_text("damaged")
    assert host.certificates("site").inspect()["present"]["site"]["certificate"] is None
    host.issue("site")
    assert host.certificates("site").inspect()["present"]["site"]["certificate"]


def test_key_of_another_kind_is_replaced(host: Host) -> None:
    host.issue("site")
    run(["openssl", "genrsa", "-out", str(host.file("site.key")), "2048"])
    host.issue("site")
    public = run(["openssl", "pkey", "-in", str(host.file("site.key")), "-noout", "-text_pub"])
    assert "P-256" in public.output


def test_pair_made_by_hand_is_taken_over(host: Host) -> None:
    host.issue("site")
    (host.root / "var/lib/bedstone/certificates/state.json").unlink()
    key = host.file("site.key").read_text()
    assert host.certificates("site").inspect()["present"]["site"]["certificate"]
    assert host.file("site.key").read_text() == key


def test_certificate_for_another_key_is_not_installed(host: Host) -> None:
    host.issue("site", "other")
    certificates = host.certificates("site", "other")
    foreign = certificates.requests(["other"], fresh=[])["other"]
    before = host.file("site.crt").read_text()
    with pytest.raises(ConvergeError, match="is not for this server's key"):
        certificates.install({"site": host.sign(foreign)})
    assert host.file("site.crt").read_text() == before


def test_check_mode_makes_nothing(host: Host) -> None:
    found = host.certificates("site", check=True).inspect()
    assert found["present"] == {"site": {"certificate": None, "request": None}}
    assert list(host.root.rglob("*")) == []


def test_mode_is_set_right_and_reported(host: Host) -> None:
    host.issue("site")
    host.file("site.key").chmod(0o644)
    assert host.certificates("site", check=True).inspect()
    assert mode(host.file("site.key")) == 0o644
    certificates = host.certificates("site")
    certificates.inspect()
    assert certificates.changed_paths == ["/etc/bedstone/tls/site.key"]
    assert mode(host.file("site.key")) == 0o640


def test_pair_no_longer_declared_is_removed(host: Host) -> None:
    host.issue("site", "old")
    certificates = host.certificates("site")
    certificates.inspect()
    assert certificates.removed_paths == [
        "/etc/bedstone/tls/old.crt",
        "/etc/bedstone/tls/old.key",
    ]
    assert sorted(path.name for path in host.file("").iterdir()) == ["site.crt", "site.key"]


class Killed(BaseException):
    """Ends a run as a kill does."""


def test_reload_that_a_killed_run_left_is_done_by_the_next(host: Host) -> None:
    def kill(command: list[str]) -> None:
        if command[1] == "reload":
            raise Killed

    host.before = kill
    with pytest.raises(Killed):
        host.issue("site")
    host.before = lambda _: None
    certificates = host.certificates("site")
    assert certificates.inspect()["pending"] == ["nginx.service"]
    certificates.install({})
    assert certificates.units == {"reload": ["nginx.service"]}
    assert host.certificates("site").inspect()["pending"] == []


def test_failed_reload_is_tried_again(host: Host) -> None:
    host.failing = "reload"
    with pytest.raises(ConvergeError, match=r"systemctl reload nginx\.service"):
        host.issue("site")
    assert host.certificates("site").inspect()["pending"] == ["nginx.service"]


def test_run_killed_between_key_and_certificate_is_repaired(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.issue("site")
    host.file("site.key").unlink()
    original = Certificates._write

    def kill_after_key(self: Certificates, pair: Pair, path: str, *rest: object) -> None:
        original(self, pair, path, *rest)  # type: ignore[arg-type]
        raise Killed

    monkeypatch.setattr(Certificates, "_write", kill_after_key)
    with pytest.raises(Killed):
        host.issue("site")
    monkeypatch.setattr(Certificates, "_write", original)
    host.issue("site")
    assert host.certificates("site").inspect()["present"]["site"]["certificate"]
