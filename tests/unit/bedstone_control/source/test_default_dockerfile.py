"""What the default Dockerfile finds out about a Django project."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bedstone_control.source.default_dockerfile import detect, wheel_fault

if TYPE_CHECKING:
    from collections.abc import Callable

REQUIREMENTS = ".bedstone/requirements.txt"


def test_project_with_requirements(django: Callable[..., Path]) -> None:
    found = detect(django())
    assert found.wsgi == "config.wsgi"
    assert found.directory == "."
    assert found.build_args == {}
    assert found.generated[REQUIREMENTS] == b"-r files/requirements.txt\n"
    assert found.generated[".bedstone/files/requirements.txt"] == b"django\n"


def test_dockerfile_has_two_stages_no_root_and_a_base_to_choose(
    django: Callable[..., Path],
) -> None:
    text = detect(django()).generated[".bedstone/Dockerfile"].decode()
    assert text.count("FROM ${BASE_IMAGE}") == 2
    assert "ARG BASE_IMAGE=python:" in text
    assert text.rstrip().splitlines()[-1] == "USER 10001:10001"
    assert "# syntax" not in text  # would be pulled from a registry


def test_included_requirements_come_along(django: Callable[..., Path]) -> None:
    root = django(
        **{
            "requirements/production.txt": "-r base.txt\ngunicorn\n",
            "requirements/base.txt": "-c ../constraints.txt\ndjango\n",
            "constraints.txt": "django<6\n",
        }
    )
    (root / "requirements.txt").unlink()
    generated = detect(root).generated
    assert generated[REQUIREMENTS] == b"-r files/requirements/production.txt\n"
    assert ".bedstone/files/requirements/base.txt" in generated
    assert ".bedstone/files/constraints.txt" in generated


def test_include_from_outside_is_refused(django: Callable[..., Path]) -> None:
    root = django(**{"requirements.txt": "-r ../other.txt\n"})
    with pytest.raises(ValueError, match="which is no file within"):
        detect(root)


def test_project_with_pyproject(django: Callable[..., Path]) -> None:
    root = django(**{"pyproject.toml": '[project]\nname = "x"\ndependencies = ["django>=5"]\n'})
    (root / "requirements.txt").unlink()
    assert detect(root).generated[REQUIREMENTS] == b"django>=5\n"


@pytest.mark.parametrize("text", ["[tool.poetry]\n", "[project]\nname = 'x'\n"])
def test_pyproject_without_dependencies_is_told(django: Callable[..., Path], text: str) -> None:
    root = django(**{"pyproject.toml": text})
    (root / "requirements.txt").unlink()
    with pytest.raises(ValueError, match=r"no .project. dependencies"):
        detect(root)


def test_project_without_requirements_is_told(django: Callable[..., Path]) -> None:
    root = django()
    (root / "requirements.txt").unlink()
    with pytest.raises(ValueError, match=r"needs a requirements.txt or a pyproject.toml"):
        detect(root)


def test_project_below_the_root(django: Callable[..., Path]) -> None:
    root = django(**{"src/manage.py": "", "src/shop/wsgi.py": "get_wsgi_application()"})
    (root / "manage.py").unlink()
    found = detect(root)
    assert found.build_args == {"APP_DIRECTORY": "src"}
    assert found.wsgi == "shop.wsgi"


def test_no_django_project_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no Dockerfile, and the default one needs a manage"):
        detect(tmp_path)


def test_several_wsgi_modules_are_not_guessed_among(django: Callable[..., Path]) -> None:
    found = detect(django(**{"other/wsgi.py": "get_wsgi_application()"}))
    assert found.wsgi is None
    assert found.wsgi_candidates == ["config.wsgi", "other.wsgi"]


def test_foreign_code_is_no_candidate(django: Callable[..., Path]) -> None:
    root = django(
        **{
            "venv/x/wsgi.py": "get_wsgi_application()",
            ".tox/x/wsgi.py": "get_wsgi_application()",
            "werkzeug/wsgi.py": "",
        }
    )
    assert detect(root).wsgi == "config.wsgi"


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("psycopg2==2.9", {"BUILD_PACKAGES", "RUNTIME_PACKAGES"}),
        ("psycopg[c]>=3", {"BUILD_PACKAGES", "RUNTIME_PACKAGES"}),
        ("psycopg>=3", {"RUNTIME_PACKAGES"}),
        ("psycopg[binary]>=3", set()),
        ("psycopg2-binary==2.9", set()),
        ("psycopg-pool", set()),
        ("psycopg==3.3\npsycopg-binary==3.3", set()),
        ("psycopg==3.3\npsycopg-c==3.3", {"BUILD_PACKAGES", "RUNTIME_PACKAGES"}),
    ],
)
def test_compiled_drivers_bring_their_packages(
    django: Callable[..., Path], line: str, arguments: set[str]
) -> None:
    root = django(**{"requirements.txt": f"django\n{line}\n"})
    assert set(detect(root).build_args) == arguments


@pytest.mark.parametrize("line", ["-rbase.in", "-r base.in", "--requirement=base.in", "-cbase.in"])
def test_every_way_to_include_a_file_is_followed(django: Callable[..., Path], line: str) -> None:
    root = django(**{"requirements.txt": f"{line}\n", "base.in": "six\n"})
    assert detect(root).generated[".bedstone/files/base.in"] == b"six\n"


def test_constraints_by_their_address_are_left_to_pip(django: Callable[..., Path]) -> None:
    root = django(**{"requirements.txt": "-c https://example.com/constraints.txt\ndjango\n"})
    assert set(detect(root).generated) == {
        ".bedstone/Dockerfile",
        REQUIREMENTS,
        ".bedstone/files/requirements.txt",
    }


@pytest.mark.parametrize(
    ("line", "copied"),
    [
        ("-e .", True),
        ("-e.[dev]", True),
        ("--editable=./libs/foo", True),
        ("./libs/foo", True),
        (".", True),
        ("foo @ file:./libs/foo ; python_version > '3'", True),
        ("django", False),
        ("-e git+https://example.com/x.git#egg=x", False),
        ("x @ https://example.com/../x.whl", False),
        ("# see ./README", False),
    ],
)
def test_source_is_there_before_pip_where_the_requirements_name_a_part_of_it(
    django: Callable[..., Path], line: str, *, copied: bool
) -> None:
    text = detect(django(**{"requirements.txt": f"{line}\n"})).generated[".bedstone/Dockerfile"]
    first = text.decode().partition("pip install")[0]
    assert ("COPY . /app\nWORKDIR /app/.\n" in first) is copied


def test_requirement_outside_of_the_source_is_refused(django: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"\.\./libs, which is outside"):
        detect(django(**{"requirements.txt": "-e ../libs\n"}))


@pytest.mark.parametrize(
    ("name", "text", "image"),
    [
        ("runtime.txt", "python-3.11.9\n", "python:3.11-slim"),
        (".python-version", "3.12\n", "python:3.12-slim"),
        (".python-version", "3.12.4\n3.11.9\n", "python:3.12-slim"),
    ],
)
def test_python_that_the_project_names_is_the_base_images(
    django: Callable[..., Path], name: str, text: str, image: str
) -> None:
    assert detect(django(**{name: text})).build_args["BASE_IMAGE"] == image


def test_python_that_is_not_known_is_told(django: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"\.python-version names no Python"):
        detect(django(**{".python-version": "myenv\n"}))


@pytest.mark.parametrize(
    ("requirements", "image", "message"),
    [
        ("psycopg2-binary==2.9.9", None, "has no wheel for the Python 3.13.*2.9.10.*python:3.12"),
        ("psycopg2-binary==2.9.9", "python:3.12-slim", None),
        ("psycopg2-binary==2.9.10", None, None),
        ("psycopg2-binary==2.8.6", "registry.example.com/python:3.11.2", "python:3.10-slim"),
        ("psycopg2-binary", None, None),
        ("psycopg2-binary==2.9.1", "bedstone-python:trixie", None),
    ],
)
def test_driver_without_a_wheel_for_the_base_images_python_is_told_before_the_build(
    requirements: str, image: str | None, message: str | None
) -> None:
    found = wheel_fault(requirements, image)
    assert (found is None) is (message is None)
    assert message is None or re.search(message, found or "")


def test_index_with_a_login_is_a_secret_of_the_build(django: Callable[..., Path]) -> None:
    text = detect(django(), secrets=["PIP_INDEX_URL"]).generated[".bedstone/Dockerfile"].decode()
    installs = [part for part in text.split("RUN ") if "pip install" in part]
    assert len(installs) == 2
    assert all("--mount=type=secret,id=PIP_INDEX_URL" in part for part in installs)
    assert "type=secret" not in detect(django()).generated[".bedstone/Dockerfile"].decode()
