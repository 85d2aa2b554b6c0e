"""The static files of a release."""

from __future__ import annotations

import shutil
from pathlib import Path

from bedstone import files, paths
from bedstone.rollout.commands import run_commands
from bedstone.rollout.context import Rollout

STATIC_SECONDS = 900.0


def static(rollout: Rollout) -> str:
    """Collect the static files into a directory of the release's own."""
    app = rollout.app
    if app.static is None or rollout.static is None:
        return "none declared"
    final = paths.host(rollout.static)
    partial = final.with_name(f".{rollout.id}.partial")
    files.remove_tree(partial)
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.mkdir(mode=0o755)
    if app.commands.static:
        # The container's user writes; afterwards nobody but root does.
        shutil.chown(partial, rollout.uid, rollout.gid)
        run_commands(
            rollout, "static", app.commands.static, "app.env", STATIC_SECONDS, str(partial)
        )
    else:
        rollout.host.docker.copy_out(rollout.image, app.static.path, partial)
    count = _readable_by_all(partial)
    partial.rename(final)
    files.sync_directory(final.parent)
    return f"{count} files"


def unstatic(rollout: Rollout) -> None:
    """Remove the release's static files."""
    if rollout.static is not None:
        final = paths.host(rollout.static)
        files.remove_tree(final)
        files.remove_tree(final.with_name(f".{rollout.id}.partial"))


def _readable_by_all(directory: Path) -> int:
    """Give a tree to root and let everybody read it; return the number of its files."""
    count = 0
    for path in [directory, *directory.rglob("*")]:
        if path.is_symlink():
            continue
        shutil.chown(path, 0, 0)
        path.chmod(0o755 if path.is_dir() else 0o644)
        count += path.is_file()
    return count
