from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bedstone.core.errors import BedstoneError
from bedstone.core.process import Completed
from bedstone.system import certbot
from bedstone.system.certbot import AccountLostError, Certbot, Order

ORDER = Order("pay", ("a.example.com", "b.example.com"), "https://ca.example.com:14000/dir")
REFUSED = """\
Saving debug log to /var/log/letsencrypt.log
Requesting a certificate for a.example.com

Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these problems:
  Domain: a.example.com
  Type:   unauthorized
  Detail: 203.0.113.7: Invalid response from http://a.example.com/.well-known/x: 404

Some challenges have failed.
Ask for help or search for solutions at https://community.letsencrypt.org.
"""  # noqa: E501 - as certbot says it
UNEXPECTED = """\
Saving debug log to /root/cbl/letsencrypt.log
An unexpected error occurred:
{}
Ask for help or search for solutions at https://community.letsencrypt.org. See the logfile.
"""


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))


def saying(output: str, code: int = 1) -> tuple[Certbot, list[list[str]]]:
    calls: list[list[str]] = []

    def run(argv: Any, **_: Any) -> Completed:
        calls.append(list(argv))
        return Completed(tuple(argv), code, "", output, 0.1)

    return Certbot(run), calls


def test_what_the_authority_says_of_a_domain_is_the_reason() -> None:
    assert certbot.reason(REFUSED) == (
        "the authority refused: a.example.com: 203.0.113.7: Invalid response from"
        " http://a.example.com/.well-known/x: 404"
    )


def test_unexpected_error_is_the_line_after_its_head() -> None:
    words = "ValueError: Requesting localhost/dir: Connection refused"
    assert certbot.reason(UNEXPECTED.format(words)) == f"certbot failed: {words}"
    assert certbot.reason("") == "certbot failed: it said nothing"


@pytest.mark.parametrize(
    "words",
    [
        "Account https://localhost:14000/my-account/7d252261f8a1a675 not found.",
        'Account is not valid, has status "deactivated"',
        "urn:ietf:params:acme:error:accountDoesNotExist :: No account",
    ],
)
def test_lost_account_is_told_apart(words: str) -> None:
    program, _ = saying(UNEXPECTED.format(words))
    with pytest.raises(AccountLostError):
        program.order(ORDER)


def test_refusal_is_no_lost_account() -> None:
    program, _ = saying(REFUSED)
    with pytest.raises(BedstoneError) as caught:
        program.order(ORDER)
    assert not isinstance(caught.value, AccountLostError)


def test_files_are_those_that_the_links_lead_to(tmp_path: Path) -> None:
    live = tmp_path / "var/lib/bedstone/acme/certbot/live/pay"
    archive = tmp_path / "var/lib/bedstone/acme/certbot/archive/pay"
    for directory in (live, archive):
        directory.mkdir(parents=True)
    for name in ("fullchain", "privkey"):
        (archive / f"{name}3.pem").write_text("x")
        (live / f"{name}.pem").symlink_to(f"../../archive/pay/{name}3.pem")
    program, calls = saying("", 0)
    base = "/var/lib/bedstone/acme/certbot/archive/pay"
    assert program.order(ORDER) == (f"{base}/fullchain3.pem", f"{base}/privkey3.pem")
    assert calls[0][:2] == ["certbot", "certonly"]


def test_account_of_one_authority_is_forgotten_only(tmp_path: Path) -> None:
    accounts = tmp_path / "var/lib/bedstone/acme/certbot/accounts"
    lost, other = accounts / "ca.example.com:14000/dir/id", accounts / "other/dir/id"
    for each in (lost, other):
        each.mkdir(parents=True)
    program, _ = saying("")
    program.forget_account(ORDER.directory)
    program.forget_account("https://../../../x")
    assert (lost.exists(), other.exists()) == (False, True)


def test_keys_are_ecdsa_and_every_domain_is_named() -> None:
    found = certbot.arguments(Order(**{**vars(ORDER), "webroot": "/var/www/x", "profile": "p"}))
    assert " ".join(found).count("--domain ") == 2
    for pair in (("--key-type", "ecdsa"), ("--webroot-path", "/var/www/x")):
        assert found[found.index(pair[0]) + 1] == pair[1]
    assert found[found.index("--required-profile") + 1] == "p"


def test_key_of_an_external_account_is_in_a_file() -> None:
    found = certbot.arguments(Order(**{**vars(ORDER), "webroot": "/w", "external_account": True}))
    assert found[found.index("--config") + 1] == certbot.ACCOUNT


def test_records_are_made_by_a_plugin_or_by_the_hook() -> None:
    plugin = certbot.arguments(
        Order(**{**vars(ORDER), "dns": "rfc2136", "propagation_seconds": 9, "email": "o@e.com"})
    )
    assert plugin[plugin.index("--authenticator") + 1] == "dns-rfc2136"
    assert plugin[plugin.index("--dns-rfc2136-credentials") + 1] == certbot.CREDENTIALS
    assert plugin[plugin.index("--dns-rfc2136-propagation-seconds") + 1] == "9"
    hook = certbot.arguments(Order(**{**vars(ORDER), "dns": "hook"}))
    assert hook[hook.index("--manual-auth-hook") + 1] == f"{certbot.HOOK} create"
    assert "--webroot" not in hook
