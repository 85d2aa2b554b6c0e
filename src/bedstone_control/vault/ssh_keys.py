"""Make the key pairs with which servers log in to an SFTP destination."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

_OPENSSH = "-----BEGIN OPENSSH PRIVATE KEY-----"
_FEWEST_RSA_BITS = 2048
_Key = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def make_private_key() -> str:
    """Return a new Ed25519 private key as OpenSSH has it, without a passphrase."""
    return (
        ed25519.Ed25519PrivateKey.generate()
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        .decode()
    )


def public_line(private_key: str, comment: str) -> str:
    """Return the line for the authorized_keys of the account at the other end.

    Raises:
        ValueError: the private key can't be used.

    """
    public = _load(private_key).public_key()
    line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{line.decode()} {comment}"


def private_key_fault(text: object) -> str | None:
    """Return what is wrong with a private key, None when nothing is; never shows it."""
    try:
        _load(text if isinstance(text, str) else "")
    except ValueError as error:
        return str(error)
    return None


def _load(text: str) -> _Key:
    """Read a private key.

    Raises:
        ValueError: it has a passphrase or a form or a kind that can't be used.

    """
    ours = text.strip().startswith(_OPENSSH)
    load = serialization.load_ssh_private_key if ours else serialization.load_pem_private_key
    try:
        key = load(text.strip().encode() + b"\n", password=None)
    except TypeError as error:
        raise ValueError(
            "The private key has a passphrase, and at night nobody is there to type it. The "
            "vault protects it: take the passphrase off with `ssh-keygen -p -N ''`, or leave the "
            "key out for a new one."
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(
            "This is no private key as OpenSSH writes it (`-----BEGIN OPENSSH PRIVATE KEY-----` "
            "or PEM, all lines of it)."
        ) from error
    if not isinstance(key, _Key):
        wrong = "OpenSSH has no keys of this kind; leave the key out for a new one."
    elif isinstance(key, ed25519.Ed25519PrivateKey) and not ours:
        wrong = (
            "An Ed25519 key has to be in OpenSSH's own form, not PKCS#8; leave "
            "the key out for a new one."
        )
    elif isinstance(key, rsa.RSAPrivateKey) and key.key_size < _FEWEST_RSA_BITS:
        wrong = f"This RSA key has fewer than {_FEWEST_RSA_BITS} bits; leave it out for a new one."
    else:
        return key
    raise ValueError(wrong)
