"""The start of the host program from its one file."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bedstone.cli import archive_main
from bedstone_control.roles import zipapp

DIGEST = "0123456789abcdef"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("shop/__init__.py", "")
        made.writestr("shop/till.py", "def open():\n    raise ValueError('no money')\n")
    return path


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.mark.usefixtures("as_root")
def test_root_writes_an_archive_with_compiled_modules_once(archive: Path, tmp_path: Path) -> None:
    cache = tmp_path / "var/cache"
    written = archive_main.compiled(archive, cache, DIGEST)
    assert written
    assert zipfile.ZipFile(written).namelist() == [
        "shop/__init__.pyc", "shop/__init__.py", "shop/till.pyc", "shop/till.py",
    ]  # fmt: skip
    assert (written.stat().st_mode & 0o777, cache.stat().st_mode & 0o777) == (0o644, 0o755)
    assert list(cache.iterdir()) == [written]

    archive.unlink()
    assert archive_main.compiled(archive, cache, DIGEST) == written


@pytest.mark.usefixtures("as_root")
def test_modules_come_compiled_and_tracebacks_have_their_lines(
    archive: Path, tmp_path: Path
) -> None:
    written = archive_main.compiled(archive, tmp_path / "cache", DIGEST)
    code = """if True:
        import sys, traceback
        sys.path.insert(0, sys.argv[1])
        from shop import till
        print(till.__file__)
        try:
            till.open()
        except ValueError:
            traceback.print_exc()
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(written)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{written}/shop/till.pyc\n"
    assert f'File "{written}/shop/till.py", line 2, in open' in done.stderr
    assert "raise ValueError('no money')" in done.stderr


@pytest.mark.usefixtures("as_root")
def test_what_can_not_be_written_is_done_without(archive: Path, tmp_path: Path) -> None:
    # A file is where the directory would be: no privilege helps.
    (tmp_path / "cache").touch()
    assert archive_main.compiled(archive, tmp_path / "cache", DIGEST) is None


@pytest.mark.usefixtures("as_root")
def test_archive_of_another_python_or_program_is_another_one(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = archive_main.compiled(archive, tmp_path / "cache", DIGEST)
    second = archive_main.compiled(archive, tmp_path / "cache", DIGEST[::-1])
    monkeypatch.setattr(sys.implementation, "cache_tag", "cpython-99")
    third = archive_main.compiled(archive, tmp_path / "cache", DIGEST)
    assert len({first, second, third}) == 3
    assert archive_main.KEPT == 3
    archive_main.compiled(archive, tmp_path / "cache", "fedcba")
    assert len(list((tmp_path / "cache").iterdir())) == archive_main.KEPT


def test_other_users_read_and_never_write(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert archive_main.compiled(archive, cache, DIGEST) is None
    assert not cache.exists()

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    written = archive_main.compiled(archive, cache, DIGEST)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert archive_main.compiled(archive, cache, DIGEST) == written


def test_the_file_names_its_own_modules(tmp_path: Path) -> None:
    program = zipapp.build(tmp_path / "built")
    with zipfile.ZipFile(program) as archive:
        main = archive.read("__main__.py").decode()
    assert 'DIGEST = ""' not in main

    done = subprocess.run(
        [str(program), "--version"],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"BEDSTONE_ROOT": str(tmp_path / "root")},
    )
    assert done.stdout.strip()
    made = list((tmp_path / "root").rglob("*.zip"))
    assert len(made) == (1 if os.geteuid() == 0 else 0)
