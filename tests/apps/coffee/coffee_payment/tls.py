"""How the database is reached over TLS: libpq's options, from POSTGRES_SSL_*."""

from collections.abc import Mapping
from pathlib import Path

MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
FILES = {
    "sslcert": "POSTGRES_SSL_CERT",
    "sslkey": "POSTGRES_SSL_KEY",
    "sslrootcert": "POSTGRES_SSL_ROOT_CERT",
}


def options(environment: Mapping[str, str]) -> dict[str, str]:
    """Return libpq's options.

    Raises:
        SystemExit: a mode is unknown or a file missing: plain text would be the alternative.

    """
    mode = environment.get("POSTGRES_SSL_MODE", "")
    if not mode:
        return {}
    if mode not in MODES:
        raise SystemExit(f"POSTGRES_SSL_MODE is {mode!r}; it is one of {', '.join(MODES)}.")
    found = {option: environment[name] for option, name in FILES.items() if environment.get(name)}
    for option, path in found.items():
        if not Path(path).is_file():
            raise SystemExit(f"{FILES[option]} is {path}, and there is no such file.")
    return {"sslmode": mode, **found}


def told(given: Mapping[str, str]) -> str:
    """Return the line that is logged at the start."""
    if not given:
        return "database over TLS: disabled"
    return "database over TLS: " + " ".join(f"{name}={given[name]}" for name in sorted(given))
