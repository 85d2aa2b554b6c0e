"""Start the host program: this is `__main__` of the one file that goes to the server.

Python compiles again what it imports from an archive of sources, and that is more than half of a
short command's time. So root's first start writes a second archive that has the compiled modules as
well. Each program and each version of Python has one of its own, which is never changed: what
still runs goes on with its own modules when the program is replaced.
"""

import contextlib
import os
import sys
from pathlib import Path

# The digest of the program's modules, which the build of the file puts here.
DIGEST = ""
CACHE = "var/cache/bedstone"
# Of programs that may still run.
KEPT = 3


def compiled(archive: Path, cache: Path, digest: str = DIGEST) -> Path | None:
    """Return the archive with compiled modules, which root writes when it isn't there.

    Args:
        archive: the program's file.
        cache: the directory of compiled archives; only root may write to it.
        digest: of the program's modules.

    Returns:
        None where it can't be had: for other users, or a unit that may not write there.

    """
    target = cache / f"{digest}-{sys.implementation.cache_tag}.zip"
    if target.exists():
        return target
    if os.geteuid() != 0:
        return None
    try:
        cache.mkdir(mode=0o755, parents=True, exist_ok=True)
        _write(archive, target)
    except OSError:
        return None
    _forget(cache)
    return target


def _write(archive: Path, target: Path) -> None:
    # A start that finds its archive needs none of these.
    import py_compile  # noqa: PLC0415
    import tempfile  # noqa: PLC0415
    import zipfile  # noqa: PLC0415

    # Its name says which sources the archive has.
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-") as name:
        place = Path(name)
        result = place / target.name
        with zipfile.ZipFile(archive) as sources, zipfile.ZipFile(result, "w") as both:
            for member in sources.namelist():
                source = sources.extract(member, place)
                made = py_compile.compile(
                    source,
                    f"{source}c",
                    dfile=f"{target}/{member}",
                    doraise=True,
                    invalidation_mode=unchecked,
                )
                both.write(str(made), f"{member}c")
                # For the lines of a traceback.
                both.write(source, member)
        result.chmod(0o644)
        with result.open("rb+") as file:
            os.fsync(file.fileno())
        result.rename(target)


def _forget(cache: Path) -> None:
    """Remove all but the newest."""
    with contextlib.suppress(OSError):
        found = sorted(cache.glob("*.zip"), key=lambda path: path.stat().st_mtime)
        for old in found[:-KEPT]:
            old.unlink(missing_ok=True)


if __name__ == "__main__":
    here = Path(sys.path[0])
    # As in bedstone.core.paths, so that a test leaves the machine alone.
    root = Path(os.environ.get("BEDSTONE_ROOT") or "/")
    sys.path[0] = str(compiled(here, root / CACHE) or here)
    from bedstone.cli.main import main

    sys.exit(main())
