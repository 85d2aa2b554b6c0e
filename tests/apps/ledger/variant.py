"""Make an archive of this app's source as another release would have it.

    python3 tests/apps/ledger/variant.py OUT.tar.gz --version 2 --migration additive
    python3 tests/apps/ledger/variant.py OUT.tar.gz --version 3 --behaviour worker_dies

The migrations are the files of variants/, in the order given. Standard library only.
"""

from __future__ import annotations

import argparse
import gzip
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIRST = "0001_initial"
LEFT_OUT = {"variants", "variant.py", "README.md", "__pycache__", "collected", ".gitignore"}
# Columns that a migration adds or takes, in the model of the release that has it.
ADDED = {
    "additive": ("Entry", "note = models.CharField(max_length=64, null=True)"),
    "not_null": ("Entry", "kind = models.CharField(max_length=8)"),
    "half": ("Entry", "half = models.CharField(max_length=8, null=True)"),
    "locking": ("Entry", "late = models.IntegerField(null=True)"),
}
BEHAVIOURS = {"fail_check", "never_healthy", "fail_behind_nginx", "worker_dies"}


def known() -> list[str]:
    """Return the names of the migrations there are."""
    return sorted(path.stem for path in (HERE / "variants").glob("*.py"))


def names(migrations: Sequence[str]) -> list[str]:
    """Return the names that migrations have in an archive, the first one included."""
    return [FIRST, *(f"{number:04}_{name}" for number, name in enumerate(migrations, 2))]


def files(
    version: str, migrations: Sequence[str] = (), behaviours: Sequence[str] = ()
) -> dict[str, str]:
    """Return the source of a release: path to text."""
    found = {
        path.relative_to(HERE).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(HERE.rglob("*"))
        if path.is_file() and not LEFT_OUT & set(path.relative_to(HERE).parts)
    }
    found["ledger_version.py"] = f'"""Written by variant.py."""\n\nVERSION = "{version}"\n'
    if behaviours:
        baked = ", ".join(repr(name) for name in sorted(behaviours))
        found["ledger/behaviour.py"] = found["ledger/behaviour.py"].replace(
            "BAKED: frozenset[str] = frozenset()", f"BAKED = frozenset(({baked},))"
        )
    chain = names(migrations)
    for previous, name, kind in zip(chain, chain[1:], migrations, strict=False):
        text = (HERE / "variants" / f"{kind}.py").read_text(encoding="utf-8")
        found[f"entries/migrations/{name}.py"] = text.replace("{previous}", previous)
    found["entries/models.py"] = models(found["entries/models.py"], migrations)
    return found


def models(text: str, migrations: Sequence[str]) -> str:
    """Return the models as they are after the migrations."""
    lines = [
        line
        for line in text.splitlines()
        if not any(f'gone in the variant "{kind}"' in line for kind in migrations)
    ]
    for kind in migrations:
        if kind in ADDED:
            model, field = ADDED[kind]
            place = next(n for n, line in enumerate(lines) if line.startswith(f"class {model}("))
            lines.insert(place + 3, f"    {field}")
    return "\n".join(lines) + "\n"


def pack(
    target: Path,
    version: str,
    migrations: Sequence[str] = (),
    behaviours: Sequence[str] = (),
) -> Path:
    """Write an archive and return its path; equal sources make equal bytes.

    Raises:
        ValueError: there is no such migration or behaviour.

    """
    if unknown := (set(migrations) - set(known())) | (set(behaviours) - BEHAVIOURS):
        raise ValueError(f"Unknown: {', '.join(sorted(unknown))}.")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in sorted(files(version, migrations, behaviours).items()):
            data = text.encode()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    target.write_bytes(gzip.compress(buffer.getvalue(), mtime=0))
    return target


def main() -> None:
    """Make an archive as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("target", type=Path)
    parser.add_argument("--version", default="1")
    parser.add_argument("--migration", action="append", default=[], choices=known())
    parser.add_argument("--behaviour", action="append", default=[], choices=sorted(BEHAVIOURS))
    arguments = parser.parse_args()
    pack(arguments.target, arguments.version, arguments.migration, arguments.behaviour)


if __name__ == "__main__":
    main()
