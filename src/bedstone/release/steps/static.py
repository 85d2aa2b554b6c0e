"""Publish the static files of a release, and keep the previous ones that open pages request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.core import files, paths, safe_tree
from bedstone.release import commands

if TYPE_CHECKING:
    from bedstone.release.context import Rollout

STATIC_SECONDS = 900.0
_OWN = "static.txt"


def static(rollout: Rollout) -> str:
    """Collect the static files into a directory of the release's own."""
    app = rollout.app
    if app.static is None or rollout.static is None:
        return "none declared"
    final = paths.host(rollout.static)
    partial = _partial(rollout)
    if rollout.collected:
        pass
    elif app.commands.static:
        lay_out(rollout)
        for command in app.commands.static:
            commands.run(
                rollout.host,
                commands.image_of_release(rollout),
                command,
                "static",
                STATIC_SECONDS,
                on_line=rollout.on_line,
                static_source=str(partial),
            )
    else:
        _make(partial)
        made = rollout.made.of(app.static.service or "")
        rollout.host.docker.copy_out(made.image, app.static.path, partial, app=app.name)
    own = safe_tree.publish(partial)
    # A name with a line break, or in no encoding, isn't inherited by the next release.
    listed = "".join(f"{path}\n" for path in own if path.isprintable())
    files.write(rollout.directory / _OWN, listed, mode=0o600)
    inherited = _inherit(rollout, partial)
    # A power cut just after the release would leave them by name alone, all of them empty.
    files.sync_filesystem(partial, rollout.host.run)
    partial.rename(final)
    files.sync_directory(final.parent)
    return (
        f"{len(own)} files, {inherited} of the release before"
        if inherited
        else (f"{len(own)} files")
    )


def lay_out(rollout: Rollout) -> Path:
    """Make the directory that the static files are collected into, with what the image has."""
    app, partial = rollout.app, _partial(rollout)
    if app.static is None:
        raise ValueError(app.name)
    _make(partial)
    # What the image's build has put there (`compress`, a bundler) would be hidden by the mount.
    rollout.host.docker.copy_out(
        rollout.image, app.static.path, partial, app=app.name, missing_ok=True
    )
    # The container's user writes; afterwards only root does.
    safe_tree.give(partial, rollout.uid, rollout.gid)
    return partial


def _make(partial: Path) -> None:
    files.remove_tree(partial)
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.mkdir(mode=0o755)


def _partial(rollout: Rollout) -> Path:
    return paths.host(rollout.static or "").with_name(f".{rollout.id}.partial")


def undo_static(rollout: Rollout) -> None:
    """Remove the release's static files."""
    if rollout.static is not None:
        files.remove_tree(paths.host(rollout.static))
        files.remove_tree(_partial(rollout))


def _inherit(rollout: Rollout, target: Path) -> int:
    """Keep the previous release's files, which pages that are open in browsers still request.

    Hard links take no space. Only that release's own files are taken, not those that it had from
    the one before it.
    """
    old = rollout.old.release if rollout.old is not None else ""
    own = paths.release(rollout.app.name, old) / _OWN
    source = paths.served(rollout.app.name) / "static" / old
    if not old or not own.is_file() or not source.is_dir():
        return 0
    return safe_tree.link_missing(source, target, own.read_text(encoding="utf-8").splitlines())
