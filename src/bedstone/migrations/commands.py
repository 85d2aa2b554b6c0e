"""Find the migration tool in an app's declared migrate commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

_SHELLS = {"sh", "bash", "dash", "ash"}
# What a shell would do more with than split it at spaces.
_SHELL_ONLY = re.compile(r"[$`|&;<>()*?\[\]{}~#\n]")
_DJANGO_PROGRAMS = {"manage.py", "django-admin", "django-admin.py"}
_DJANGO_KEPT = ("--settings", "--pythonpath")
_DJANGO_WITH_VALUE = {*_DJANGO_KEPT, "--database", "--verbosity", "-v"}
_ALEMBIC_WITH_VALUE = {"-c", "--config", "-n", "--name", "-x"}


@dataclass(frozen=True)
class Django:
    """A declared `manage.py migrate`, taken apart.

    Attributes:
        program: what stands before `migrate`: ``python manage.py``.
        options: those that lead to the settings; every command of Django takes them.
        label: the only app it migrates, or None for all.
        target: the migration it goes to, or None for the newest.
        database: the alias of the database.

    """

    program: tuple[str, ...]
    options: tuple[str, ...] = ()
    label: str | None = None
    target: str | None = None
    database: str = "default"


@dataclass(frozen=True)
class Alembic:
    """A declared `alembic upgrade`, taken apart.

    Attributes:
        program: what leads to Alembic, with its own options: ``alembic -c db.ini``.
        python: what runs a script with the Python that has Alembic.
        options: Alembic's own: ``-c db.ini``.
        target: the revision it goes to: ``head``.
        module: whether it runs as ``python -m alembic``, which looks for modules in the
            working directory.

    """

    program: tuple[str, ...]
    python: tuple[str, ...]
    options: tuple[str, ...] = ()
    target: str = "head"
    module: bool = False


def guess(commands: Sequence[Sequence[str]]) -> str:
    """Return the tool that migrate commands use, as far as a probe can ask it.

    Returns:
        ``django``, ``alembic``, or ``none``.

    """
    for command in commands:
        argv = plain(command)
        if alembic([argv]) is not None:
            return "alembic"
        if django([argv]) and any(
            PurePosixPath(part).name in _DJANGO_PROGRAMS or part == "django" for part in argv
        ):
            return "django"
    return "none"


def django(commands: Sequence[Sequence[str]]) -> tuple[Django, ...]:
    """Return those of the commands that migrate Django's default database."""
    found = [_django(plain(command)) for command in commands]
    return tuple(each for each in found if each is not None and each.database == "default")


def alembic(commands: Sequence[Sequence[str]]) -> Alembic | None:
    """Return the first of the commands that upgrades by Alembic, or None."""
    return next(
        (found for found in (_alembic(plain(command)) for command in commands) if found), None
    )


def plain(command: Sequence[str]) -> tuple[str, ...]:
    """Return the command without the shell around it, if that does nothing but start it.

    ``sh -c "exec python manage.py migrate"`` is the same as ``python manage.py migrate``.
    After a ``cd src &&`` the shell stays, for that alone. A shell that does more, with
    variables or a pipe, leaves the command as it is.
    """
    argv = tuple(command)
    match argv:
        case (shell, option, text) if PurePosixPath(shell).name in _SHELLS and re.fullmatch(
            r"-[a-z]*c", option
        ):
            directory, ands, rest = text.partition("&&")
            words = _words(rest if ands else text)
            if words is None:
                return argv
            if not ands:
                return words
            match _words(directory):
                case ("cd", path):
                    return (shell, "-c", f'cd {shlex.quote(path)} && exec "$@"', shell, *words)
    return argv


def _words(text: str) -> tuple[str, ...] | None:
    """Return a simple command's words, or None when a shell would do more with it."""
    if _SHELL_ONLY.search(text):
        return None
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    return tuple(words[1:] if words[:1] == ["exec"] else words)


def _django(argv: tuple[str, ...]) -> Django | None:
    if "migrate" not in argv[1:]:
        return None
    position = argv.index("migrate", 1)
    options: list[str] = []
    words: list[str] = []
    database = "default"
    rest = iter(argv[position + 1 :])
    for part in rest:
        name, equals, value = part.partition("=")
        if name in _DJANGO_WITH_VALUE:
            if not equals:
                value = next(rest, "")
            if name in _DJANGO_KEPT:
                options.append(f"{name}={value}")
            elif name == "--database":
                database = value
        elif not part.startswith("-"):
            words.append(part)
    return Django(
        program=argv[:position],
        options=tuple(options),
        label=words[0] if words else None,
        target=words[1] if len(words) > 1 else None,
        database=database,
    )


def _alembic(argv: tuple[str, ...]) -> Alembic | None:
    for position, part in enumerate(argv):
        module = part == "alembic" and position > 1 and argv[position - 1] == "-m"
        if module:
            python = argv[: position - 1]
        elif PurePosixPath(part).name == "alembic":
            # pip puts a program next to the Python that it is for; one that is found by PATH has
            # its Python there as well, or the probe looks into its first line.
            own = str(PurePosixPath(part).parent / "python3") if "/" in part else "python3"
            python = (*argv[:position], own)
        else:
            continue
        words = _positional(argv[position + 1 :])
        if len(words) > 1 and argv[position + 1 + words[0]] == "upgrade":
            command = position + 1 + words[0]
            return Alembic(
                program=argv[:command],
                python=python,
                options=argv[position + 1 : command],
                target=argv[position + 1 + words[1]],
                module=module,
            )
    return None


def _positional(arguments: Sequence[str]) -> list[int]:
    """Return the places of the arguments that are no options, nor an option's value."""
    found = []
    skip = False
    for position, part in enumerate(arguments):
        if skip:
            skip = False
        elif part in {*_ALEMBIC_WITH_VALUE, "--tag"}:
            skip = True
        elif not part.startswith("-"):
            found.append(position)
    return found
