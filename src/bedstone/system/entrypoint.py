"""Check whether an image's ENTRYPOINT runs its command or takes it for arguments.

Docker puts a command behind the ENTRYPOINT. A script that ends in `exec "$@"` runs it; a server
(`ENTRYPOINT ["gunicorn", ...]`) starts, and goes on until it is stopped. Commands of a release
and of `bedstone run` then run without it. A service keeps it: its command may be arguments.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# They run what follows them, once their own options are over.
_INITS = {"tini", "docker-init", "dumb-init", "catatonit", "init", "env"}
_RUNNERS = {"uv", "poetry", "pipenv", "pdm", "hatch", "conda"}
_SHELLS = {"sh", "bash", "ash", "dash", "zsh"}
# Interpreters and servers: what follows is theirs.
_PROGRAMS = {
    *("gunicorn", "uvicorn", "uwsgi", "daphne", "hypercorn", "granian", "waitress-serve"),
    *("celery", "flask", "fastapi", "django-admin", "manage.py", "streamlit", "jupyter"),
    *("python", "python2", "python3", "pypy3", "node", "nodejs", "deno", "bun", "npm", "npx"),
    *("yarn", "pnpm", "next", "java", "dotnet", "php", "php-fpm", "ruby", "bundle", "rails"),
    *("puma", "perl", "mix", "nginx", "httpd", "apache2", "caddy", "supervisord"),
}


def swallows(entrypoint: Sequence[str]) -> bool:
    """Return whether an ENTRYPOINT is known to take a command for its own arguments."""
    words = list(entrypoint)
    while words and _name(words[0]) in _INITS:
        words.pop(0)
        while words and (words[0].startswith("-") or "=" in words[0]):
            words.pop(0)
    if not words:
        return False
    program, rest = _name(words[0]), words[1:]
    if program in _SHELLS:
        # `ENTRYPOINT gunicorn shop.wsgi` is `/bin/sh -c "gunicorn shop.wsgi"`.
        return "-c" in rest and not any("$@" in word or "$*" in word for word in rest)
    if any("entrypoint" in _name(word) for word in words):
        return False
    if program in _RUNNERS:
        return any(not word.startswith("-") and word != "run" for word in rest)
    return program in _PROGRAMS or program.startswith("python3.")


def _name(word: str) -> str:
    return PurePosixPath(word).name
