"""The app's one settings schema: every environment variable it reads.

`load()` reads them, checks all of them, and either returns a typed object or raises
`EnvironmentProblems` with every problem at once. `.env.example` and docs/environment.md
are generated from this file (see `config.environment_docs`).

A check that needs a second variable reads it from `info.data`, which holds the fields
above that were right: so one wrong variable never hides another's problem.
"""

from __future__ import annotations

import difflib
import os
import sys
import zoneinfo
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

EXIT_CODE = 78  # EX_CONFIG of sysexits.h: tells a supervisor that starting again won't help
RANDOM_VALUE = "$(python3 -c 'import secrets; print(secrets.token_urlsafe(50))')"
MINIMUM_SECRET_LENGTH = 50
MINIMUM_SECRET_CHARACTERS = 5


class SslMode(StrEnum):
    """libpq's sslmode: https://www.postgresql.org/docs/current/libpq-ssl.html."""

    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"

    @property
    def verifies(self) -> bool:
        """Whether the server's certificate is checked against a root certificate."""
        return self in {SslMode.VERIFY_CA, SslMode.VERIFY_FULL}


def _split(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _readable_file(value: str | None) -> str | None:
    if value is None or value == "system":
        return value
    path = Path(value)
    if not path.is_file():
        raise ValueError(f"names the file {value}, which does not exist")
    if not os.access(path, os.R_OK):
        raise ValueError(f"names the file {value}, which this user may not read")
    return value


def _time_zone(value: str) -> str:
    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"names no known time zone: {value!r}") from None
    return value


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path:
        raise ValueError(f"must hold origins (scheme and host, no path), and {value!r} is none")
    return value


def _proxy(value: str) -> str:
    if value != "*":
        try:
            ip_network(value)
        except ValueError:
            raise ValueError(f"must hold IP addresses or networks, and {value!r} is none") from None
    return value


def _secret_key(value: SecretStr) -> SecretStr:
    secret = value.get_secret_value()
    if secret.startswith("django-insecure-"):
        raise ValueError("begins with 'django-insecure-', so it is known to others")
    if len(secret) < MINIMUM_SECRET_LENGTH or len(set(secret)) < MINIMUM_SECRET_CHARACTERS:
        raise ValueError(
            f"must be at least {MINIMUM_SECRET_LENGTH} random characters, "
            f"and has {len(secret)} ({len(set(secret))} different ones)"
        )
    return value


Origin = Annotated[str, AfterValidator(_origin)]
Proxy = Annotated[str, AfterValidator(_proxy)]
Names = Annotated[list[str], NoDecode, BeforeValidator(_split)]
Origins = Annotated[list[Origin], NoDecode, BeforeValidator(_split)]
Proxies = Annotated[list[Proxy], NoDecode, BeforeValidator(_split)]
Secret = Annotated[SecretStr, AfterValidator(_secret_key)]
Secrets = Annotated[list[Secret], NoDecode, BeforeValidator(_split)]
ReadableFile = Annotated[str | None, AfterValidator(_readable_file)]
Level = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
]


def _field(group: str, description: str, example: str, **options: Any) -> Any:
    """Describe a variable: its group and text in the documentation, and a right value."""
    return Field(
        description=description,
        examples=[example],
        json_schema_extra={"group": group},
        **options,
    )


class Environment(BaseSettings):
    """Everything the app can be told from outside."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        validate_default=True,
        use_attribute_docstrings=False,
    )

    # --- The app -------------------------------------------------------------------
    secret_key: Secret = _field(
        "The app",
        "Signs sessions and password reset links. At least 50 random characters.",
        RANDOM_VALUE,
    )
    secret_key_fallbacks: Secrets = _field(
        "The app",
        "Earlier values of SECRET_KEY, comma separated: what they signed stays valid while "
        "the key is being replaced.",
        RANDOM_VALUE,
        default=[],
    )
    debug: bool = _field(
        "The app",
        "Django's debug pages. They show source and settings to anybody: for development only.",
        "false",
        default=False,
    )
    allowed_hosts: Names = _field(
        "The app",
        "The names under which the app is served, comma separated. `*` is accepted with DEBUG "
        "only.",
        "pay.example.com",
    )
    csrf_trusted_origins: Origins = _field(
        "The app",
        "Origins that may send forms, comma separated. Only needed where a proxy changes the "
        "Host header.",
        "https://pay.example.com",
        default=[],
    )
    time_zone: Annotated[str, AfterValidator(_time_zone)] = _field(
        "The app", "The time zone in which pages show times.", "Europe/Berlin", default="UTC"
    )
    media_root: Path = _field(
        "The app",
        "The folder for uploaded invoices; the only one the app writes to, apart from /tmp.",
        "/app/media",
        default=Path("media"),
    )

    # --- PostgreSQL ----------------------------------------------------------------
    postgres_db: str = _field("PostgreSQL", "The database's name.", "payments")
    postgres_user: str = _field(
        "PostgreSQL",
        "The role to log in as. It needs SELECT, INSERT, UPDATE and DELETE; migrations run as "
        "another one.",
        "payments_app",
    )
    postgres_password: SecretStr = _field("PostgreSQL", "The role's password.", RANDOM_VALUE)
    postgres_host: str = _field("PostgreSQL", "The server's name.", "postgres")
    postgres_port: int = _field(
        "PostgreSQL", "The server's port.", "5432", default=5432, ge=1, le=65535
    )
    postgres_ssl_mode: SslMode = _field(
        "PostgreSQL",
        "How the connection is encrypted, in libpq's words. An unknown one refuses to start: "
        "nothing falls back to plain text by itself.",
        "verify-full",
        default=SslMode.VERIFY_FULL,
    )
    postgres_ssl_root_cert: ReadableFile = _field(
        "PostgreSQL",
        "The certificate authority that the server's certificate must come from: a file, or "
        "`system` for the system's own list. Needed for verify-ca and verify-full.",
        "/run/bedstone/ca.crt",
        default=None,
    )
    postgres_ssl_cert: ReadableFile = _field(
        "PostgreSQL",
        "A client certificate file, where the server asks for one.",
        "/run/bedstone/client.crt",
        default=None,
    )
    postgres_ssl_key: ReadableFile = _field(
        "PostgreSQL",
        "The client certificate's private key file. libpq wants it readable by its owner alone.",
        "/run/bedstone/client.key",
        default=None,
    )
    postgres_connect_timeout: int = _field(
        "PostgreSQL", "Seconds to wait for a connection.", "5", default=5, ge=1, le=60
    )
    postgres_conn_max_age: int = _field(
        "PostgreSQL",
        "Seconds for which a connection is kept for the next request; 0 closes it each time.",
        "60",
        default=60,
        ge=0,
    )

    postgres_pool_mode: Literal["session", "transaction"] = _field(
        "PostgreSQL",
        "`transaction` behind a pool (PgBouncer) that gives each transaction another connection: "
        "no cursor outlives its transaction then.",
        "transaction",
        default="session",
    )

    # --- Logs ----------------------------------------------------------------------
    log_level: Level = _field(
        "Logs", "DEBUG, INFO, WARNING, ERROR or CRITICAL.", "INFO", default="INFO"
    )
    log_format: Literal["json", "text"] = _field(
        "Logs", "json (one object a line) or text (for people).", "json", default="json"
    )

    # --- HTTPS ---------------------------------------------------------------------
    https_enforced: bool = _field(
        "HTTPS",
        "Serve over HTTPS only. The three switches below follow it unless set themselves.",
        "true",
        default=True,
    )
    secure_ssl_redirect: bool | None = _field(
        "HTTPS", "Send HTTP requests on to HTTPS (health checks excepted).", "true", default=None
    )
    session_cookie_secure: bool | None = _field(
        "HTTPS", "Send the session cookie over HTTPS only.", "true", default=None
    )
    csrf_cookie_secure: bool | None = _field(
        "HTTPS", "Send the CSRF cookie over HTTPS only.", "true", default=None
    )
    secure_hsts_seconds: int = _field(
        "HTTPS",
        "How long browsers shall remember to use HTTPS only; 0 sends no such header.",
        "31536000",
        default=31_536_000,
        ge=0,
    )

    # --- gunicorn ------------------------------------------------------------------
    port: int = _field("gunicorn", "The port to listen on.", "8000", default=8000, ge=1, le=65535)
    web_concurrency: int | None = _field(
        "gunicorn",
        "Worker processes. Without it: one more than the cores this container may use, 9 at most.",
        "3",
        default=None,
        ge=1,
        le=64,
    )
    gunicorn_threads: int = _field(
        "gunicorn", "Threads in each worker.", "4", default=4, ge=1, le=64
    )
    gunicorn_timeout: int = _field(
        "gunicorn",
        "Seconds after which a worker that no longer answers is replaced.",
        "60",
        default=60,
        ge=1,
    )
    gunicorn_graceful_timeout: int = _field(
        "gunicorn",
        "Seconds that requests get to finish at a stop. Keep it under what the supervisor waits.",
        "25",
        default=25,
        ge=1,
    )
    gunicorn_keepalive: int = _field(
        "gunicorn",
        "Seconds to keep an idle connection. Keep it over the proxy's own limit (nginx: 60).",
        "75",
        default=75,
        ge=0,
    )
    forwarded_allow_ips: Proxies = _field(
        "gunicorn",
        "Proxies whose X-Forwarded-Proto is believed: addresses or networks, comma separated, or "
        "`*` where nothing but the proxy can reach the port.",
        "172.16.0.0/12",
        default=["127.0.0.1", "::1"],
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if not value:
            raise ValueError("holds no name")
        for host in value:
            if host == "*" and info.data.get("debug"):
                continue
            if host == "*":
                raise ValueError("is '*', which accepts every Host header, and DEBUG is off")
            if "/" in host or " " in host:
                raise ValueError(f"must hold host names (no scheme, no path), and {host!r} is none")
        return value

    @field_validator("postgres_ssl_root_cert")
    @classmethod
    def _root_cert_where_needed(cls, value: str | None, info: ValidationInfo) -> str | None:
        mode = info.data.get("postgres_ssl_mode")
        if isinstance(mode, SslMode) and mode.verifies and value is None:
            raise ValueError(f"is not set, and POSTGRES_SSL_MODE={mode} needs it")
        if value == "system" and mode is not None and mode is not SslMode.VERIFY_FULL:
            raise ValueError(f"is 'system', which needs POSTGRES_SSL_MODE=verify-full, not {mode}")
        return value

    @field_validator("postgres_ssl_key")
    @classmethod
    def _key_with_certificate(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "postgres_ssl_cert" in info.data:
            certificate = info.data["postgres_ssl_cert"]
            if certificate and not value:
                raise ValueError("is not set, and POSTGRES_SSL_CERT is useless without it")
            if value and not certificate:
                raise ValueError("is set, and POSTGRES_SSL_CERT is not: they come together")
        return value

    @field_validator("secure_ssl_redirect", "session_cookie_secure", "csrf_cookie_secure")
    @classmethod
    def _follow_https_enforced(cls, value: bool | None, info: ValidationInfo) -> bool:  # noqa: FBT001
        return bool(info.data.get("https_enforced", True)) if value is None else value


class EnvironmentProblems(ValueError):  # noqa: N818 - it is not one error
    """Every problem of the environment, one sentence each, in `problems`."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = [f"payments can't start: its environment has {count}.", ""]
        lines += [f"  - {problem}" for problem in problems]
        lines += ["", "Every variable is described in docs/environment.md."]
        super().__init__("\n".join(lines))


def variable(field_name: str) -> str:
    """Return the environment variable's name for a field of the schema."""
    return field_name.upper()


def example(field: FieldInfo) -> str:
    """Return a right value for a field, as it stands in the environment."""
    return str((field.examples or [""])[0])


def is_secret(field: FieldInfo) -> bool:
    """Tell whether a field's value must never be shown."""
    return example(field) == RANDOM_VALUE


def load() -> Environment:
    """Read and check the environment.

    Raises:
        EnvironmentProblems: if anything is missing or wrong; it names all of it.

    """
    try:
        return Environment()
    except ValidationError as error:
        problems = [_sentence(problem) for problem in error.errors(include_url=False)]
        raise EnvironmentProblems(problems) from None


def load_or_exit() -> Environment:
    """Read and check the environment; print what is wrong and end the process (code 78)."""
    try:
        return load()
    except EnvironmentProblems as problems:
        _exit(str(problems))


def _exit(message: str) -> NoReturn:
    print(message, file=sys.stderr)  # noqa: T201 - no logging is set up yet
    raise SystemExit(EXIT_CODE)


def _sentence(problem: Any) -> str:
    """Turn one of pydantic's errors into a sentence; never shows a secret's value."""
    field_name = str(problem["loc"][0])
    name = variable(field_name)
    field = Environment.model_fields[field_name]
    context = problem.get("ctx", {})
    shown = "" if is_secret(field) else f", and is {problem['input']!r}"
    match problem["type"]:
        case "missing":
            text = f"is not set{_nearest(name)}"
        case "value_error":
            text = str(context["error"])
        case "int_parsing" | "int_type":
            text = f"must be a whole number{shown}"
        case "bool_parsing" | "bool_type":
            text = f"must be true or false{shown}"
        case "literal_error" | "enum":
            text = f"must be {context['expected'].replace(chr(39), '')}{shown}"
        case "greater_than_equal":
            text = f"must be at least {context['ge']}{shown}"
        case "less_than_equal":
            text = f"must be at most {context['le']}{shown}"
        case _:
            text = f"is wrong ({problem['msg']}){shown}"
    return f"{name} {text}. Example: {name}={example(field)}"


def _nearest(name: str) -> str:
    """Point at a variable that looks like a misspelt one."""
    known = {variable(field) for field in Environment.model_fields}
    others = [other for other in os.environ if other not in known]
    near = difflib.get_close_matches(name, others, n=1, cutoff=0.85)
    return f" (but {near[0]} is: a typing mistake?)" if near else ""
