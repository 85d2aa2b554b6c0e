"""An inventory that is right in everything, and a way to check it after a change."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bedstone_control.ansible_support.origin import origin_of, written
from bedstone_control.ansible_support.plain import plain
from bedstone_control.checks import check_settings
from bedstone_control.checks.context import Context, Locator
from bedstone_control.inventory import create
from bedstone_control.vault import content

if TYPE_CHECKING:
    from bedstone_control.checks.problems import Problem

# A real public key of a pair made for this file; its other half was not kept.
PUBLIC_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq4CGbm2WSYr4OcyuMe4Ghru52w1OmI5a5OZINx7oOq alice@laptop"
)

GOOD: dict[str, Any] = {
    "bedstone_apps": [
        {
            "name": "payments",
            "domains": ["pay.example.com"],
            "source": {"path": "../app"},
            "services": {
                "web": {"command": "gunicorn config.wsgi", "port": 8000, "health": "/health/"},
                "worker": {"command": "celery -A config worker", "replicas": 2},
            },
            "env": {"LOG_LEVEL": "INFO", "DB_HOST": "${database.host}"},
            "static": "/app/staticfiles",
            "media": "/app/media",
        },
        {
            "name": "shop",
            "domains": ["shop.example.com"],
            "source": {"image": "registry.example.com/team/shop:1.0"},
            "services": {"web": {"port": 3000}},
            "database": False,
            "commands": [],
        },
    ],
    "bedstone_operator": {"name": "alice", "authorized_keys": [PUBLIC_KEY]},
    "bedstone_timezone": "Europe/Berlin",
}


@dataclass
class Site:
    """An inventory on the disk whose parts a test may change before it is checked.

    Attributes:
        directory: the inventory.
        settings: the content of settings.yml.
        secrets: the content of vault.yml.
        groups: the inventory's groups.
        host_variables: further variables of the host.
        encrypted: whether the vault is written encrypted.

    """

    directory: Path
    settings: dict[str, Any]
    secrets: dict[str, Any]
    groups: dict[str, list[str]]
    host_variables: dict[str, Any]
    encrypted: bool = True

    @property
    def app(self) -> dict[str, Any]:
        """The first app's settings."""
        found: dict[str, Any] = self.settings["bedstone_apps"][0]
        return found

    @property
    def other(self) -> dict[str, Any]:
        """The second app's settings."""
        found: dict[str, Any] = self.settings["bedstone_apps"][1]
        return found

    @property
    def app_secrets(self) -> dict[str, Any]:
        """The first app's secrets."""
        found: dict[str, Any] = self.secrets["bedstone_secrets"]["apps"]["payments"]
        return found

    @property
    def settings_file(self) -> Path:
        """Where the settings are."""
        return self.directory / create.SETTINGS_FILE

    @property
    def vault_file(self) -> Path:
        """Where the secrets are."""
        return self.directory / create.VAULT_FILE

    def write(self) -> None:
        """Write settings and secrets to the disk."""
        self.settings_file.write_text(yaml.safe_dump(self.settings, sort_keys=False))
        if not self.secrets:
            self.vault_file.unlink(missing_ok=True)
        elif self.encrypted:
            content.write_vault(
                self.vault_file, self.secrets, self.directory / create.PASSWORD_FILE
            )
        else:
            self.vault_file.write_text(yaml.safe_dump(self.secrets))

    def check(self) -> list[Problem]:
        """Write everything, load it as Ansible does, and return the problems."""
        self.write()
        return self.look()

    def look(self) -> list[Problem]:
        """Load what is on the disk as Ansible does, and return the problems."""
        loader = DataLoader()
        password = (self.directory / create.PASSWORD_FILE).read_bytes().strip()
        loader.set_vault_secrets([("default", VaultSecret(password))])
        loaded: dict[str, Any] = dict(loader.load_from_file(str(self.settings_file)) or {})
        if self.vault_file.exists():
            loaded |= loader.load_from_file(str(self.vault_file))
        variables = {name: value for name, value in loaded.items() if name.startswith("bedstone_")}
        context = Context(
            variables=plain(variables),
            locator=Locator(loaded, origin_of, self.directory),
            inventory_directory=self.directory,
            groups=self.groups,
            host_variables={"web1": {**dict.fromkeys(loaded), **self.host_variables}},
            loaded=variables,
            written_of=written,
            role_arguments={"nginx": frozenset({"nginx_hsts_seconds", "nginx_https_port"})},
        )
        return check_settings(context)


def self_signed(domain: str, days: int = 90) -> tuple[str, str]:
    """Return a certificate for a domain and its key, as PEM texts.

    Args:
        domain: its only name.
        days: until it ends; below 0 it ended already.

    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, domain)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=365))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()
