"""Let nginx serve a certificate: checked in a handshake in memory, switched in one rename."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from bedstone.core import files, paths, x509
from bedstone.core.errors import BedstoneError
from bedstone.system.nginx import Nginx

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bedstone.acme.record import Issued

_TURNS = 10


def text(issued: Issued, *, trusted: bool) -> str:
    """Return the lines that nginx includes for a site's certificate.

    The variable lets it send HSTS: with a certificate that browsers refuse, that header would
    lock visitors out.
    """
    return (
        "# Written by `bedstone certificates renew`: don't edit.\n"
        f"ssl_certificate {issued.certificate};\n"
        f"ssl_certificate_key {issued.key};\n"
        f'set $bedstone_trusted "{int(trusted) or ""}";\n'
    )


def serve(name: str, issued: Issued, domains: Iterable[str], nginx: Nginx | None = None) -> bool:
    """Let nginx serve a certificate; return whether it served another one.

    Raises:
        BedstoneError: certificate and key don't belong together, or nginx doesn't take them; the
            previous certificate serves on.

    """
    nginx = nginx or Nginx()
    path = paths.site_certificate(name)
    if not path.exists():
        # The site isn't there (yet): role nginx makes it, with the file.
        return False
    former = path.read_text(encoding="utf-8")
    wanted = text(issued, trusted=trusted(issued, domains))
    owed = paths.acme() / f"{name}.reload-owed"
    if former == wanted and not owed.exists():
        return False
    files.write(owed, "nginx has to be reloaded for this certificate.\n", mode=0o600)
    files.write(path, wanted)
    try:
        nginx.test()
        nginx.reload()
    except BedstoneError:
        files.write(path, former)
        owed.unlink()
        raise
    owed.unlink()
    return True


def trusted(issued: Issued, domains: Iterable[str]) -> bool:
    """Return whether clients with this server's authorities accept a certificate for all domains.

    Raises:
        BedstoneError: its files can't be read, or don't belong together.

    """
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        own.load_cert_chain(paths.host(issued.certificate), paths.host(issued.key))
    except (OSError, ValueError) as error:
        raise BedstoneError(
            f"{issued.certificate} and {issued.key} can't be served: {error}",
            hint="`bedstone certificates renew APP --force` gets new ones.",
        ) from error
    others = x509.browser_context()
    try:
        for domain in domains:
            _shake_hands(own, others, domain)
    except ssl.SSLError:
        return False
    return True


def _shake_hands(own: ssl.SSLContext, others: ssl.SSLContext, domain: str) -> None:
    """Make a TLS handshake between two ends in this process.

    Raises:
        ssl.SSLError: the client's end refuses.

    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = others.wrap_bio(to_client, to_server, server_hostname=domain)
    server = own.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_TURNS):
        done = 0
        for end in (client, server):
            try:
                end.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                continue
        if done == 2:  # noqa: PLR2004 - both ends
            return
    raise ssl.SSLError("the handshake doesn't end")
