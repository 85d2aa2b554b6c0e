"""Role ca: the servers' certificates, and the files of trusted authorities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone_control.pki import rotation
from bedstone_control.pki.authority import make_authority
from bedstone_control.roles.groups import EVERY_HOST
from bedstone_control.roles.role import Role, Secret, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone_control.roles.site import Site
    from bedstone_control.settings.root import Settings

_AUTHORITY_DAYS = 3650
BUNDLE = "/etc/bedstone/tls/ca.crt"
# update-ca-certificates reads these, one certificate a file.
ANCHOR = "/usr/local/share/ca-certificates/bedstone-ca-{number}.crt"


def authority_files(certificate: str, also_trusted: list[str]) -> list[dict[str, str]]:
    """Return the files that hold trusted authorities, as entries of converge's `files`.

    Args:
        certificate: the authority that issues, as PEM text.
        also_trusted: further ones.

    """
    # Sorted: when another of the trusted ones begins to sign, no file changes.
    texts = sorted({str(pem).strip() + "\n" for pem in (certificate, *also_trusted)})
    anchors = [
        {"path": ANCHOR.format(number=number), "content": text}
        for number, text in enumerate(texts, start=1)
    ]
    return [{"path": BUNDLE, "content": "".join(texts)}, *anchors]


def certificates(site: Site) -> list[dict[str, Any]]:
    """Return role ca's certificates for this host: those that its roles need."""
    return [
        dict(certificate)
        for role in site.roles
        if site.has(role.group.name)
        for certificate in role.certificates(site)
    ]


def also_trusted(site: Site) -> list[str]:
    """Return the authorities that are trusted while one replaces another, as PEM texts."""
    return rotation.also_trusted(_held(site))


def _held(site: Site) -> dict[str, Any]:
    """Return what the vault holds of the authority."""
    return dict(site.secrets.get("ca") or {})


def _secrets(_settings: Settings) -> Iterator[Secret]:
    def make(inventory: str) -> dict[str, str]:
        certificate, key = make_authority(f"Bedstone CA {inventory}".strip(), _AUTHORITY_DAYS)
        return {"certificate": certificate, "key": key}

    yield Secret(("ca",), "certificate and key of Bedstone's own certificate authority", make)


ROLE = Role(
    name="ca",
    group=EVERY_HOST,
    stage=Stage.MACHINE,
    arguments={
        "ca_certificates": certificates,
        "ca_also_trusted": also_trusted,
        "ca_trusted_first": lambda site: bool(_held(site).get("previous")),
        "ca_issued_after": lambda site: str(_held(site).get("issued_after") or ""),
    },
    expressions={
        "ca_certificate": "bedstone_secrets.ca.certificate",
        "ca_key": "bedstone_secrets.ca.key",
    },
    secrets=_secrets,
    filters=(authority_files,),
)
