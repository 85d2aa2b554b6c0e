"""What an attacker tries who runs code in an app's container; test_isolation.py sends it there.

Standard library, and what an app's image has: psycopg and redis. Standard input holds a list of
probes, each the name of a function here and its arguments; a list of what came of them is printed.
"""

import json
import os
import socket
import sys
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CONNECT_SECONDS = 4.0
READ_BYTES = 1_000_000
# The kernel's own, and what the image's packages brought: no secret of an app gets there.
_PASSED_OVER = ("/proc", "/sys", "/dev", "/usr")


def connect(targets: list[tuple[str, int]]) -> list[str]:
    """Return what came of TCP connections: "reached", or the error."""

    def one(target: tuple[str, int]) -> str:
        try:
            socket.create_connection(target, CONNECT_SECONDS).close()
        except TimeoutError:
            return "timed out"
        except OSError as error:
            return error.strerror or str(error)
        return "reached"

    with ThreadPoolExecutor(64) as pool:
        return list(pool.map(one, map(tuple, targets)))


def resolve(names: list[str]) -> list[str]:
    """Return the addresses of names, or the error."""

    def one(name: str) -> str:
        try:
            return socket.gethostbyname(name)
        except OSError as error:
            return error.strerror or str(error)

    return [one(name) for name in names]


def raw_socket() -> str:
    """Return what came of a socket that reads and forges the packets of a network."""
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    except OSError as error:
        return error.strerror or str(error)
    return "opened"


def look(paths: list[str]) -> list[str]:
    """Return what there is at paths: "directory", "file", "socket", or the error."""

    def one(path: str) -> str:
        try:
            list(Path(path).iterdir())
        except NotADirectoryError:
            return "socket" if Path(path).is_socket() else "file"
        except OSError as error:
            return error.strerror or str(error)
        return "directory"

    return [one(path) for path in paths]


def mounts() -> str:
    """Return where the container's files come from."""
    return Path("/proc/self/mountinfo").read_text()


def processes() -> list[str]:
    """Return the command lines of all processes in sight."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip())
        except OSError:
            continue
    return found


def search(texts: list[str]) -> list[list[str]]:
    """Return for each text where it is: environments of processes, and files that can be read."""
    found: dict[str, list[str]] = {text: [] for text in texts}
    for path in [*Path("/proc").glob("[0-9]*/environ"), *_files()]:
        try:
            with path.open("rb") as file:
                content = file.read(READ_BYTES)
        except OSError:
            continue
        for text in texts:
            if text.encode() in content:
                found[text].append(str(path))
    return [found[text] for text in texts]


def _files() -> list[Path]:
    found = []
    for directory, inner, names in os.walk("/"):
        inner[:] = [name for name in inner if str(Path(directory, name)) not in _PASSED_OVER]
        found += [Path(directory, name) for name in names]
    return [path for path in found if path.is_file()]


def database(statements: list[str], **other: str) -> list[str]:
    """Return the first value of each statement, or the error; each has a session of its own.

    Args:
        statements: SQL.
        other: parameters of the connection in place of the app's own.

    """
    import psycopg

    if url := os.environ.get("DATABASE_URL"):
        parameters: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(url)
    else:
        given = {"host": "HOST", "port": "PORT", "dbname": "NAME", "user": "USER"}
        given["password"] = "PASSWORD"
        parameters = {name: os.environ[f"DB_{variable}"] for name, variable in given.items()}
    parameters |= {"connect_timeout": 10, "autocommit": True, **other}

    def one(statement: str) -> str:
        try:
            with psycopg.connect(**parameters) as connection:
                row = connection.execute(statement).fetchone()
        except psycopg.Error as error:
            return f"{error.sqlstate or 'refused'}: {error}".strip()
        return str(row[0]) if row else ""

    return [one(statement) for statement in statements]


def valkey(port: int | None, login: str, commands: list[str]) -> list[str]:
    """Return the answers of an instance to commands, or the errors.

    Args:
        port: its port; that of the app's own store by default.
        login: "own" for the app's user and password, "none" for none.
        commands: with spaces between their words.

    """
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    own = urllib.parse.urlsplit(os.environ["CELERY_BROKER_URL"])
    client = redis.Redis(
        own.hostname or "",
        port or own.port or 0,
        username=own.username if login == "own" else None,
        password=urllib.parse.unquote(own.password or "") if login == "own" else None,
        socket_timeout=CONNECT_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        decode_responses=True,
        retry=Retry(NoBackoff(), 0),
        protocol=2,  # 3 begins with a command of its own, which is refused in other words
    )

    def one(command: str) -> str:
        try:
            return str(client.execute_command(*command.split()))
        except redis.RedisError as error:
            return f"{type(error).__name__}: {error}"

    return [one(command) for command in commands]


PROBES: dict[str, Callable[..., Any]] = {
    probe.__name__: probe
    for probe in (
        connect, resolve, raw_socket, look, mounts, processes, search, database, valkey,
    )
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps([PROBES[name](**given) for name, given in json.load(sys.stdin)]))
