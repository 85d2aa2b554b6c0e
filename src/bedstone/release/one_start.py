"""Run a command of the app and what follows it in one container, with one start of the app.

The first command's failure is told as if it ran alone. When what follows it fails, the caller runs
that by itself, and its errors are the same as those of an app whose commands need a start each.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone import migrations
from bedstone.core import paths
from bedstone.core.errors import BedstoneError
from bedstone.release import commands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bedstone.migrations import Probe
    from bedstone.release.commands import Image
    from bedstone.system.host import Host


def run(
    host: Host,
    image: Image,
    probe: Probe,
    kind: str,
    seconds: float,
    *,
    declared: tuple[str, ...],
    on_line: Callable[[str], None] | None = None,
    static_source: str | None = None,
) -> str | None:
    """Run a probe that begins with a command of the app.

    Args:
        host: the server.
        image: which image, with the migrations' environment.
        probe: of :mod:`bedstone.migrations.probe`.
        kind: ends the container's name.
        seconds: how long all of it may take.
        declared: the first command, as an error names it.
        on_line: called with every line that is printed.
        static_source: see :func:`bedstone.apps.containers.for_command`.

    Returns:
        what was printed; None when the first command succeeded and what follows it failed.

    Raises:
        BedstoneError: the first command failed.

    """
    has_succeeded = False

    def see(line: str) -> None:
        nonlocal has_succeeded
        if line == migrations.DONE:
            has_succeeded = True
        elif on_line is not None:
            on_line(line)

    try:
        with script(image.app.name, probe.script) as path:
            return commands.run(
                host,
                image,
                probe.command,
                kind,
                seconds,
                on_line=see,
                variables=probe.variables,
                mounts=[(str(path), migrations.PATH)],
                static_source=static_source,
                declared=declared,
            ).stdout
    except BedstoneError:
        if not has_succeeded:
            raise
        return None


@contextmanager
def script(app: str, text: str) -> Iterator[Path]:
    """Write a script where a container can read it; the directory around it is root's alone."""
    directory = paths.ensure_private(paths.runtime())
    descriptor, name = tempfile.mkstemp(prefix=f"probe-{app}.", suffix=".py", dir=directory)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
        path.chmod(0o644)
        yield path
    finally:
        path.unlink(missing_ok=True)
