"""Run certbot, with directories of its own: other uses of it on this server go on undisturbed.

Written for certbot 4.0 (Debian 13). Neither a key nor a password is among its arguments.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bedstone.core import paths, process
from bedstone.core.errors import BedstoneError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bedstone.core.process import Completed, Runner

HOOK = "/usr/local/lib/bedstone/acme-dns-hook"
CREDENTIALS = "/etc/bedstone/acme-dns.ini"
ACCOUNT = "/etc/bedstone/acme-account.ini"
_SECONDS = 900.0
_KEPT_LOGS = "30"
# Words of Let's Encrypt's and of pebble's answers to an account that is gone.
_ACCOUNT = re.compile(
    r"account\b.{0,200}\b(?:not found|does not exist|deactivated|not valid|revoked)"
    r"|accountDoesNotExist",
    re.IGNORECASE | re.DOTALL,
)
_DOMAIN, _DETAIL = re.compile(r"^\s*Domain:\s*(.+)$"), re.compile(r"^\s*Detail:\s*(.+)$")
_EMPTY_WORDS = re.compile(r"^(?:An unexpected error occurred:|Ask for help|Saving debug log|- -)")


class AccountLostError(BedstoneError):
    """The authority doesn't know the account, or has closed it."""


@dataclass(frozen=True)
class Order:
    """What a certificate is asked for with.

    Attributes:
        name: of the certificate.
        domains: what it is for.
        directory: the authority's.
        email: of the account, or None.
        external_account: whether a file holds the key of an account at the authority.
        profile: the certificate's profile, or None.
        webroot: where the challenge's files are served from; None: by DNS.
        dns: certbot's plugin, or `hook`.
        propagation_seconds: how long the plugin waits, or None.

    """

    name: str
    domains: tuple[str, ...]
    directory: str
    email: str | None = None
    external_account: bool = False
    profile: str | None = None
    webroot: str | None = None
    dns: str | None = None
    propagation_seconds: int | None = None


class Certbot:
    """certbot on this server."""

    def __init__(self, runner: Runner = process.run) -> None:
        self._run = runner

    def order(self, order: Order) -> tuple[str, str]:
        """Get a certificate with a new key; return the paths of the chain and the key.

        Raises:
            AccountLostError: the account can't be used any more.
            BedstoneError: the authority refused, or can't be reached; says why.

        """
        ended = self._certbot("certonly", arguments(order))
        if ended.returncode != 0:
            kind = AccountLostError if _ACCOUNT.search(ended.output) else BedstoneError
            raise kind(
                reason(ended.output),
                hint=f"{self._directory / 'log'}/letsencrypt.log has the whole conversation.",
            )
        live = self._directory / "certbot" / "live" / order.name
        found = ((live / f"{name}.pem").resolve() for name in ("fullchain", "privkey"))
        chain, key = (f"/{path.relative_to(paths.root().resolve())}" for path in found)
        return chain, key

    def forget_account(self, directory: str) -> None:
        """Remove the key of an account that can't be used any more; the next order makes one."""
        url = urlsplit(directory)
        accounts = self._directory / "certbot" / "accounts"
        place = (accounts / f"{url.netloc}{url.path}").resolve()
        if place.is_relative_to(accounts.resolve()) and place.exists():
            shutil.rmtree(place)

    def delete(self, name: str) -> None:
        """Remove a certificate, its key and all earlier ones of the same name.

        Raises:
            BedstoneError: it can't be done.

        """
        ended = self._certbot("delete", ["--cert-name", name])
        if ended.returncode != 0 and "No certificate found" not in ended.output:
            raise BedstoneError(reason(ended.output))

    @property
    def _directory(self) -> Path:
        return paths.acme()

    def _certbot(self, verb: str, more: Sequence[str]) -> Completed:
        own = paths.ensure_private(self._directory)
        return self._run(
            [
                *("certbot", verb, "--non-interactive", "--max-log-backups", _KEPT_LOGS),
                *("--config-dir", str(own / "certbot"), "--work-dir", str(own / "work")),
                *("--logs-dir", str(own / "log"), *more),
            ],
            timeout=_SECONDS,
            check=False,
        )


def arguments(order: Order) -> list[str]:
    """Return the arguments of an order."""
    found = ["--agree-tos", "--no-eff-email", "--no-autorenew", "--cert-name", order.name]
    found += ["--server", order.directory, "--key-type", "ecdsa", "--elliptic-curve", "secp256r1"]
    found += ["--force-renewal", "--renew-with-new-domains", "--no-directory-hooks"]
    for domain in order.domains:
        found += ["--domain", domain]
    found += ["--email", order.email] if order.email else ["--register-unsafely-without-email"]
    found += ["--config", ACCOUNT] if order.external_account else []
    # Not preferred: a certificate of another life than the declared one would be a surprise.
    found += ["--required-profile", order.profile] if order.profile else []
    if order.webroot is not None:
        return [*found, "--webroot", "--webroot-path", order.webroot]
    if order.dns == "hook":
        found += ["--manual", "--preferred-challenges", "dns"]
        return [
            *found,
            *("--manual-auth-hook", f"{HOOK} create", "--manual-cleanup-hook", f"{HOOK} remove"),
        ]
    plugin = f"dns-{order.dns}"
    found += ["--authenticator", plugin, f"--{plugin}-credentials", CREDENTIALS]
    if order.propagation_seconds is not None:
        found += [f"--{plugin}-propagation-seconds", str(order.propagation_seconds)]
    return found


def reason(output: str) -> str:
    """Return why certbot failed, in one line: what the authority says of each domain."""
    found, domain = [], ""
    for line in output.splitlines():
        if match := _DOMAIN.match(line):
            domain = match[1].strip()
        elif match := _DETAIL.match(line):
            found.append(f"{domain}: {match[1].strip()}")
    if found:
        return "the authority refused: " + "; ".join(found)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if not _EMPTY_WORDS.match(line)]
    marked = [n for n, line in enumerate(lines) if line.startswith("An unexpected error")]
    if marked and marked[-1] + 1 < len(lines):
        return f"certbot failed: {lines[marked[-1] + 1]}"
    return f"certbot failed: {told[-1] if told else 'it said nothing'}"
