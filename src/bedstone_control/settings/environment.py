"""Build the environment variables of an app, and list the secrets they need."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from bedstone_control import names
from bedstone_control.settings import gitserver, placeholders
from bedstone_control.settings.placeholders import used

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedstone_control.settings.app import App

# The default variables, as placeholders: what they hold is said once, below.
DATABASE_VARIABLES: dict[str, str] = {
    "DATABASE_URL": "${database.url}",
    "POSTGRES_DB": "${database.name}",
    "POSTGRES_USER": "${database.user}",
    "POSTGRES_PASSWORD": "${database.password}",
    "POSTGRES_HOST": "${database.host}",
    "POSTGRES_PORT": "${database.port}",
    "POSTGRES_SSL_MODE": "${database.sslmode}",
    "POSTGRES_SSL_ROOT_CERT": "${database.sslrootcert}",
    # libpq reads it where an address names no authority.
    "PGSSLROOTCERT": "${database.sslrootcert}",
}
APP_VARIABLES: dict[str, str] = {
    "SECRET_KEY": "${app.secret_key}",
    "ALLOWED_HOSTS": "${app.domains}",
    "CSRF_TRUSTED_ORIGINS": "${app.origins}",
    # gunicorn and uvicorn read it: the proxies to trust that a request came over HTTPS. Only nginx
    # and the app's own containers reach the port, and nginx overwrites what strangers send.
    "FORWARDED_ALLOW_IPS": "*",
}

# What each placeholder is, for the documentation.
PLACEHOLDERS: dict[str, str] = {
    "database.url": "postgresql://… with user, password, host, port, name and TLS options",
    "database.postgres_url": "the same as postgres://…, for an app that takes no postgresql://",
    "database.host": "name of the database's host, as its certificate has it",
    "database.port": "its port",
    "database.name": "the app's database",
    "database.user": "the role to log in as, another one with each password; the migration role in "
    "migrations",
    "database.password": "that role's password",
    "database.sslmode": "verify-full",
    "database.sslrootcert": "path in the container of the authority's certificate",
    "app.secret_key": "the app's own secret key",
    "app.domains": "the domains, separated by commas",
    "app.origins": "the domains with https:// in front, separated by commas",
    "secret.NAME": "NAME of the app's secrets in the vault",
}

_HTTPS = 443

# Placeholders with the name of the database login in them.
_LOGIN = {"database.url", "database.postgres_url", "database.user"}
_SECRETS_BEHIND = {
    "database.url": "database_password",
    "database.postgres_url": "database_password",
    "database.password": "database_password",
    "app.secret_key": "secret_key",
}


def variables(app: App) -> dict[str, str]:
    """Return an app's variables with their placeholders still in place."""
    result: dict[str, str] = {}
    if app.default_env:
        if app.database:
            result |= DATABASE_VARIABLES
        result |= APP_VARIABLES
    for name, value in app.env.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = value
    return result


def secret_variables(app: App) -> list[str]:
    """Return the names of the variables whose values hold a secret, sorted."""
    return sorted(
        name
        for name, text in variables(app).items()
        if any(item in _SECRETS_BEHIND or item.startswith("secret.") for item in used(text))
    )


def login_variables(app: App) -> list[str]:
    """Return the names of the variables whose values hold the database login, sorted."""
    return sorted(name for name, text in variables(app).items() if _LOGIN.intersection(used(text)))


def database_login(
    app: App, secrets: Mapping[str, str], *, client_certificates: bool = False
) -> str | None:
    """Return the role that an app logs in to its database as, None without a database.

    Args:
        app: the app.
        secrets: its secrets, by name.
        client_certificates: whether PostgreSQL asks for certificates, whose common name is the
            role: then the name can't change with the password.

    Raises:
        ValueError: the password is missing.

    """
    if not app.database:
        return None
    database = app.database.name or names.database_name(app.name)
    if client_certificates:
        return names.app_role(database)
    return names.app_login(database, _password(app, secrets, "database_password"))


def _password(app: App, secrets: Mapping[str, str], name: str) -> str:
    if name not in secrets:
        raise ValueError(f"The vault has no {name} for the app {app.name}.")
    return secrets[name]


def required_secrets(app: App) -> list[str]:
    """Return the names of the secrets that an app needs in the vault."""
    texts = [
        *variables(app).values(),
        *(file.content or "" for file in app.files),
        *app.build.args.values(),
        *app.build.secrets.values(),
        app.source.git or "",
    ]
    mentioned = [name for text in texts for name in used(text)]
    wanted = {"database_password", "database_migrate_password"} if app.database else set()
    if app.source.registry_user is not None:
        wanted.add("registry_password")
    server = gitserver.parse(app.source.git) if app.source.git is not None else None
    if server is not None and server.ssh:
        wanted.add("deploy_key")
    for name in mentioned:
        kind, _, rest = name.partition(".")
        if kind == "secret" and rest:
            wanted.add(rest)
        elif name in _SECRETS_BEHIND and (app.database or kind != "database"):
            wanted.add(_SECRETS_BEHIND[name])
    return sorted(wanted)


def placeholder_values(
    app: App,
    secrets: Mapping[str, str],
    *,
    migrate: bool = False,
    https_port: int = 443,
    client_certificates: bool = False,
) -> dict[str, str]:
    """Return what each placeholder of an app stands for.

    Args:
        app: the app.
        secrets: its secrets, by name.
        migrate: whether the values are for migrations, which use a role of their own.
        https_port: the port on which nginx answers.
        client_certificates: whether PostgreSQL asks for certificates.

    Raises:
        ValueError: a secret is missing.

    """
    values: dict[str, str] = {}
    if app.database:
        database = app.database.name or names.database_name(app.name)
        secret = "database_migrate_password" if migrate else "database_password"
        password = _password(app, secrets, secret)
        role = names.migrate_role(database)
        if not migrate:
            role = str(database_login(app, secrets, client_certificates=client_certificates))
        values |= _database_values(database, role, password)
    if "secret_key" in secrets:
        values["app.secret_key"] = secrets["secret_key"]
    values["app.domains"] = ",".join(app.domains)
    port = "" if https_port == _HTTPS else f":{https_port}"
    values["app.origins"] = ",".join(f"https://{domain}{port}" for domain in app.domains)
    values |= {f"secret.{name}": value for name, value in secrets.items()}
    return values


def _database_values(database: str, role: str, password: str) -> dict[str, str]:
    """Return the placeholders `database.*`."""
    options = urlencode(
        {"sslmode": "verify-full", "sslrootcert": names.CA_IN_CONTAINER}, safe="/", quote_via=quote
    )
    host, port = names.DATABASE_HOST, str(names.DATABASE_PORT)
    place = f"{role}:{quote(password, safe='')}@{host}:{port}/{database}?{options}"
    return {
        "database.url": f"postgresql://{place}",
        "database.postgres_url": f"postgres://{place}",
        "database.host": host,
        "database.port": port,
        "database.name": database,
        "database.user": role,
        "database.password": password,
        "database.sslmode": "verify-full",
        "database.sslrootcert": names.CA_IN_CONTAINER,
    }


def environment(
    app: App,
    secrets: Mapping[str, str],
    *,
    migrate: bool = False,
    https_port: int = 443,
    client_certificates: bool = False,
) -> dict[str, str]:
    """Return an app's environment with every placeholder replaced.

    Args:
        app: the app.
        secrets: its secrets, by name.
        migrate: whether it is for migrations.
        https_port: the port on which nginx answers.
        client_certificates: whether PostgreSQL asks for certificates.

    Raises:
        ValueError: a secret is missing or a placeholder unknown.

    """
    values = placeholder_values(
        app,
        secrets,
        migrate=migrate,
        https_port=https_port,
        client_certificates=client_certificates,
    )
    result = {}
    for name, text in variables(app).items():
        try:
            result[name] = placeholders.expand(text, values)
        except ValueError as error:
            raise ValueError(f"App {app.name}, variable {name}: {error}") from error
    return result
