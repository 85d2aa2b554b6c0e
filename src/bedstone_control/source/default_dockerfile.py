"""Write the Dockerfile of a Django project that has none."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DOCKERFILE = ".bedstone/Dockerfile"
# The build secret with the package index's address, for one that has a login in it.
INDEX_SECRET = "PIP_INDEX_URL"  # noqa: S105 - its name
_BASE_IMAGE = "python:3.13-slim"
_REQUIREMENTS = (
    "requirements.txt",
    "requirements/production.txt",
    "requirements/prod.txt",
    "requirements/base.txt",
)
# Files that pip includes: `-r base.in`, `-rbase.in`, `--requirement=base.in`; no addresses.
_INCLUDE = re.compile(
    r"^\s*(?:-[rc]\s*|--(?:requirement|constraint)[\s=]+)(?![a-z+]+://)([^\s#]+)", re.MULTILINE
)
# What pip looks for from the directory it runs in: `-e .`, `./libs/foo`, `name @ file:./foo`.
_LOCAL = re.compile(
    r"^\s*(?:-e\s*|--editable[\s=]+)?"
    r"(?:[\w.-]+(?:\[[^]]*\])?\s*@\s*)?(?:file:(?!//))?"
    r"(?P<path>\.{1,2}(?:/[^\s#;\[]*)?)(?=\s|[;#\[]|$)",
    re.MULTILINE,
)
# Lines of the template that some projects need otherwise.
_COPY = b"COPY .bedstone/ /tmp/bedstone/\n"
_PIP = b"RUN /opt/venv/bin/p"
_PIP_WITH_SECRET = (
    b"RUN --mount=type=secret,id=PIP_INDEX_URL,required=true \\\n"
    b'    export PIP_INDEX_URL="$(cat /run/secrets/PIP_INDEX_URL)" && \\\n'
    b"    /opt/venv/bin/p"
)
_PINNED_BINARY = re.compile(r"^\s*psycopg2-binary\s*==\s*([0-9.]+)", re.MULTILINE)
_PYTHON_IMAGE = re.compile(r"(?:.*/)?python:3\.(\d+)(?:[.-].*)?$")
# The first psycopg2-binary with a wheel for Python 3.N (https://www.psycopg.org/docs/news.html).
_FIRST_BINARY = {11: (2, 9, 5), 12: (2, 9, 9), 13: (2, 9, 10), 14: (2, 9, 11)}
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
    """The facts about a project for the default Dockerfile.

    Attributes:
        directory: where manage.py is, from the root of the source.
        wsgi: the WSGI module, None when there is none or more than one.
        wsgi_candidates: the modules that were found.
        generated: files that the source archive gets in addition, by path.
        build_args: build arguments that follow from the project.
        requirements: the text of the requirement files.

    """

    directory: str
    wsgi: str | None
    wsgi_candidates: list[str]
    generated: dict[str, bytes]
    build_args: dict[str, str]
    requirements: str


def detect(source: Path, secrets: Sequence[str] = ()) -> DefaultDockerfile:
    """Inspect a Django project and return what its default Dockerfile needs.

    Args:
        source: the directory with the project.
        secrets: the names of the build's secrets.

    Raises:
        ValueError: it is no Django project, or its requirements can't be found.

    """
    home = _home(source)
    requirements, text, beside = _requirements(source, home)
    candidates = _wsgi_modules(home)
    args = {}
    if home != source:
        args["APP_DIRECTORY"] = home.relative_to(source).as_posix()
    python = _python_version(source, home)
    if python is not None:
        args["BASE_IMAGE"] = f"python:{python}-slim"
    for expression, build, runtime in _COMPILED:
        if expression.search(text):
            args |= {"BUILD_PACKAGES": build} if build else {}
            args["RUNTIME_PACKAGES"] = runtime
    template = files("bedstone_control").joinpath("templates/Dockerfile").read_bytes()
    if any(_inside(source, beside, found["path"]) for found in _LOCAL.finditer(text)):
        # pip builds them from where they are, so the source is there before it runs.
        place = beside.relative_to(source).as_posix()
        template = template.replace(_COPY, _COPY + f"COPY . /app\nWORKDIR /app/{place}\n".encode())
    if INDEX_SECRET in secrets:
        template = template.replace(_PIP, _PIP_WITH_SECRET)
    return DefaultDockerfile(
        directory=home.relative_to(source).as_posix(),
        wsgi=candidates[0] if len(candidates) == 1 else None,
        wsgi_candidates=candidates,
        generated={DOCKERFILE: template, **requirements},
        build_args=args,
        requirements=text,
    )


def wheel_fault(requirements: str, base_image: str | None) -> str | None:
    """Return why a pinned psycopg2-binary can't be installed, None when it can or nothing is known.

    Without a wheel pip compiles it, and stops at the missing pg_config.
    """
    image = _PYTHON_IMAGE.match(base_image or _BASE_IMAGE)
    pinned = _PINNED_BINARY.search(requirements)
    first = _FIRST_BINARY.get(int(image[1])) if image else None
    if image is None or pinned is None or first is None:
        return None
    if _numbers(pinned[1]) >= first:
        return None
    needed = ".".join(map(str, first))
    fitting = max(
        (minor for minor, one in _FIRST_BINARY.items() if one <= _numbers(pinned[1])), default=10
    )
    return (
        f"psycopg2-binary {pinned[1]} has no wheel for the Python 3.{image[1]} of the base image; "
        f"{needed} is the first that has. Raise it, or build on python:3.{fitting}-slim."
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


def _inside(source: Path, directory: Path, path: str) -> bool:
    """Return whether a path of the requirements leads into the source.

    Raises:
        ValueError: it leads out of it.

    """
    if not (directory / path).resolve().is_relative_to(source.resolve()):
        raise ValueError(
            f"The requirements name {path}, which is outside of {source} and can't be sent along. "
            "Move the source's directory up, or add a Dockerfile."
        )
    return True


def _python_version(source: Path, home: Path) -> str | None:
    """Return the Python that the project names, as 3.N; its patch level is the base image's."""
    for directory in dict.fromkeys((source, home)):
        for name in (".python-version", "runtime.txt"):
            if (directory / name).is_file():
                text = (directory / name).read_text(encoding="utf-8", errors="replace")
                found = re.match(r"\s*(?:c?python-)?(3\.\d+)(?:\.\d+)?\s*(?:$|\n)", text)
                if found is None:
                    raise ValueError(
                        f"{directory / name} names no Python that the default Dockerfile knows, "
                        "for example 3.13. Add a Dockerfile, or set `build.args.BASE_IMAGE`."
                    )
                return found[1]
    return None


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


def _requirements(source: Path, home: Path) -> tuple[dict[str, bytes], str, Path]:
    """Return the requirement files for the image, their text, and where pip is run from."""
    for directory in dict.fromkeys((source, home)):
        for name in _REQUIREMENTS:
            if (directory / name).is_file():
                return *_requirement_files(source, directory / name), directory
    for directory in dict.fromkeys((source, home)):
        if (directory / "pyproject.toml").is_file():
            return *_from_pyproject(directory / "pyproject.toml"), directory
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
