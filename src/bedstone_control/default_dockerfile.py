"""The Dockerfile for a Django project that has none: what it needs to know, and its files."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

DOCKERFILE = ".bedstone/Dockerfile"
_REQUIREMENTS = (
    "requirements.txt",
    "requirements/production.txt",
    "requirements/prod.txt",
    "requirements/base.txt",
)
_INCLUDE = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)[\s=]+(\S+)", re.MULTILINE)
_SKIPPED = {"node_modules", "venv", "env", "site-packages", "tests"}

# Drivers that are compiled, and what they need: (name, build packages, runtime packages).
_COMPILED = (
    (
        re.compile(r"^psycopg2(?![\w-])", re.MULTILINE),
        "gcc libc6-dev python3-dev libpq-dev",
        "libpq5",
    ),
    (
        re.compile(r"^psycopg\[[^]]*\bc\b", re.MULTILINE),
        "gcc libc6-dev python3-dev libpq-dev",
        "libpq5",
    ),
    # A compiled requirements file names the extra as a package of its own: psycopg-binary
    # brings its libpq along, psycopg-c is compiled.
    (
        re.compile(r"^psycopg-c(?![\w-])", re.MULTILINE),
        "gcc libc6-dev python3-dev libpq-dev",
        "libpq5",
    ),
    (
        re.compile(r"(?ms)\A(?!.*^psycopg-(?:binary|c)(?![\w-])).*^psycopg(?![\w\[-])"),
        "",
        "libpq5",
    ),
)


@dataclass(frozen=True)
class DefaultDockerfile:
    """What the default Dockerfile knows about a project.

    Attributes:
        directory: where manage.py is, from the root of the source.
        wsgi: the WSGI module, None when there is none or more than one.
        wsgi_candidates: the modules that were found.
        generated: files that the source archive gets in addition, by path.
        build_args: build arguments that follow from the project.

    """

    directory: str
    wsgi: str | None
    wsgi_candidates: list[str]
    generated: dict[str, bytes]
    build_args: dict[str, str]


def detect(source: Path) -> DefaultDockerfile:
    """Look at a Django project and make what its default Dockerfile needs.

    Args:
        source: the directory with the project.

    Raises:
        ValueError: it is no Django project, or its requirements can't be found.

    """
    home = _home(source)
    requirements, text = _requirements(source, home)
    candidates = _wsgi_modules(home)
    args = {}
    if home != source:
        args["APP_DIRECTORY"] = home.relative_to(source).as_posix()
    for expression, build, runtime in _COMPILED:
        if expression.search(text):
            args |= {"BUILD_PACKAGES": build} if build else {}
            args["RUNTIME_PACKAGES"] = runtime
    template = files("bedstone_control").joinpath("templates/Dockerfile").read_bytes()
    return DefaultDockerfile(
        directory=home.relative_to(source).as_posix(),
        wsgi=candidates[0] if len(candidates) == 1 else None,
        wsgi_candidates=candidates,
        generated={DOCKERFILE: template, **requirements},
        build_args=args,
    )


def _home(source: Path) -> Path:
    """Return the directory of manage.py: the root or one below it."""
    if (source / "manage.py").is_file():
        return source
    found = sorted(path.parent for path in source.glob("*/manage.py"))
    if len(found) == 1:
        return found[0]
    raise ValueError(
        f"{source} has no Dockerfile, and the default one needs a manage.py there or in one "
        "directory below it."
    )


def _requirements(source: Path, home: Path) -> tuple[dict[str, bytes], str]:
    """Return the requirement files for the image, and their text."""
    for directory in dict.fromkeys((source, home)):
        for name in _REQUIREMENTS:
            if (directory / name).is_file():
                return _requirement_files(source, directory / name)
    for directory in dict.fromkeys((source, home)):
        if (directory / "pyproject.toml").is_file():
            return _from_pyproject(directory / "pyproject.toml")
    raise ValueError(
        f"{source} has no Dockerfile, and the default one needs a requirements.txt or a "
        "pyproject.toml with the project's dependencies."
    )


def _requirement_files(source: Path, first: Path) -> tuple[dict[str, bytes], str]:
    """Return a requirements file with all it includes, laid out as in the source."""
    root = source.resolve()
    name = first.resolve().relative_to(root).as_posix()
    result = {".bedstone/requirements.txt": f"-r files/{name}\n".encode()}
    texts: list[str] = []
    waiting, seen = [first.resolve()], set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        if not path.is_file() or not path.is_relative_to(root):
            raise ValueError(f"{first} includes {path}, which is no file within {source}.")
        content = path.read_bytes()
        texts.append(content.decode(errors="replace"))
        result[f".bedstone/files/{path.relative_to(root).as_posix()}"] = content
        waiting += [(path.parent / item).resolve() for item in _INCLUDE.findall(texts[-1])]
    return result, "\n".join(texts)


def _from_pyproject(path: Path) -> tuple[dict[str, bytes], str]:
    """Return the dependencies of a pyproject.toml as a requirements file."""
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}.") from error
    dependencies = project.get("dependencies")
    if not dependencies:
        raise ValueError(
            f"{path} has no [project] dependencies. Export them to a requirements.txt, or add a "
            "Dockerfile."
        )
    text = "".join(f"{line}\n" for line in dependencies)
    return {".bedstone/requirements.txt": text.encode()}, text


def _wsgi_modules(home: Path) -> list[str]:
    """Return the WSGI modules of a project, as Python imports them."""
    result = []
    for path in sorted([*home.glob("wsgi.py"), *home.glob("*/wsgi.py"), *home.glob("*/*/wsgi.py")]):
        parts = path.relative_to(home).with_suffix("").parts
        hidden = any(part in _SKIPPED or part.startswith(".") for part in parts)
        if not hidden and "get_wsgi_application" in path.read_text(errors="replace"):
            result.append(".".join(parts))
    return result
