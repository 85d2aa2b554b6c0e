"""What the default Dockerfile finds out about a Django project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bedstone_control.default_dockerfile import detect

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
