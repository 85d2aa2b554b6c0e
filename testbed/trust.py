"""Find this machine's authorities and its way to the Python registry, for its servers.

Company networks put a certificate authority and a registry of their own between
a machine and the world. Both are read from the host each time; nothing of it is
ever written to the repository.
"""

import ast
import os
import ssl
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from testbed.errors import TestbedError
from testbed.paths import ROOT
from testbed.shell import run

BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
DISTRIBUTED = Path("/usr/share/ca-certificates")
BUNDLE_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
# How every certificate begins in its binary form.
SEQUENCE = b"\x30"
# What in pip's configuration says how to reach a registry.
PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
# `pip config list` names the level each value comes from, the weakest first here.
PIP_LEVELS = ("global", "user", "site", ":env:")


def certificates(text: str) -> dict[bytes, str]:
    """Return the certificates in a PEM text by their binary form."""
    found: dict[bytes, str] = {}
    for part in text.split(BEGIN)[1:]:
        body = part.partition(END)[0]
        pem = f"{BEGIN}{body}{END}\n"
        try:
            der = ssl.PEM_cert_to_DER_cert(pem)
        except ValueError:
            continue
        if der.startswith(SEQUENCE):
            found[der] = pem
    return found


def extra(bundles: Iterable[str], distributed: Iterable[str]) -> list[str]:
    """Return the certificates of the bundles that Debian itself does not ship."""
    ours: dict[bytes, str] = {}
    for text in bundles:
        ours.update(certificates(text))
    for text in distributed:
        for der in certificates(text):
            ours.pop(der, None)
    return [ours[der] for der in sorted(ours)]


def extra_certificates() -> list[str]:
    """Return the authorities (PEM) that this machine trusts beyond Debian's own."""
    paths = {BUNDLE, *(Path(p) for v in BUNDLE_VARIABLES if (p := os.environ.get(v)))}
    bundles = [p.read_text(errors="replace") for p in sorted(paths) if p.is_file()]
    if not DISTRIBUTED.is_dir():
        # Not a Debian-like machine: its bundle can't be told from what it adds.
        return []
    shipped = [p.read_text(errors="replace") for p in sorted(DISTRIBUTED.rglob("*.crt"))]
    return extra(bundles, shipped)


def pip_settings(listing: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings a server's pip needs, from what `pip config list` prints.

    Indexes that are directories of this machine are left out: a server can't see them.
    """
    values: dict[str, dict[str, str]] = {level: {} for level in PIP_LEVELS}
    for line in listing.splitlines():
        name, _, literal = line.partition("=")
        level, _, key = name.partition(".")
        key = key.replace("_", "-")
        if level not in values or key not in PIP_KEYS:
            continue
        try:
            values[level][key] = str(ast.literal_eval(literal))
        except (SyntaxError, ValueError):
            continue
    merged: dict[str, str] = {}
    for level in PIP_LEVELS:
        merged.update(values[level])
    for key in ("index-url", "extra-index-url"):
        urls = [u for u in merged.get(key, "").split() if u.startswith(("http://", "https://"))]
        merged[key] = " ".join(urls)
    proxy = environment.get("https_proxy") or environment.get("HTTPS_PROXY")
    if proxy:
        merged.setdefault("proxy", proxy)
    return {key: merged[key] for key in PIP_KEYS if merged.get(key)}


def host_pip_settings() -> dict[str, str]:
    """Return the pip settings of this machine that its servers need as well."""
    for python in (sys.executable, "python3", str(ROOT / ".venv/bin/python")):
        try:
            listed = run([python, "-m", "pip", "config", "list"], check=False, timeout_seconds=60)
        except TestbedError:
            continue
        if listed.returncode == 0:
            return pip_settings(listed.stdout, os.environ)
    return pip_settings("", os.environ)


def pip_conf(settings: Mapping[str, str], *, own_authorities: bool) -> str:
    """Return the text of a pip.conf.

    Args:
        settings: as `pip_settings` returns them.
        own_authorities: there are extra certificates, which pip's own bundle lacks.

    """
    lines = ["[global]", *(f"{key} = {value}" for key, value in settings.items())]
    if own_authorities:
        lines.append(f"cert = {BUNDLE}")
    return "\n".join(lines) + "\n"
