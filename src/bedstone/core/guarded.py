"""Run a long program and call a check while it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

from bedstone.core.errors import CommandError
from bedstone.core.process import Completed, tail

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import IO

    from bedstone.core.process import Runner

GRACE_SECONDS = 10.0


def run(
    argv: Sequence[str],
    *,
    watch: Callable[[], None],
    env: Mapping[str, str] | None = None,
    stdout: IO[bytes] | None = None,
    allowed: Collection[int] = (0,),
    descriptors: Collection[int] = (),
    every_seconds: float = 0.5,
    with_children: bool = False,
) -> str:
    """Run a program to its end and return its standard error.

    Args:
        argv: program and arguments; no shell is involved.
        watch: called repeatedly while it runs; its exception stops the program.
        env: variables added to this process's environment.
        stdout: gets its standard output, which is dropped by default.
        allowed: exit codes that aren't a failure.
        descriptors: open files that it inherits under their numbers.
        every_seconds: time between two calls of ``watch``.
        with_children: end those that it has started, too, which would go on by themselves.

    Raises:
        CommandError: it isn't there or failed.

    """
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=stdout if stdout is not None else subprocess.DEVNULL,
                stderr=errors,
                cwd="/",
                pass_fds=descriptors,
                env={**os.environ, **(env or {})},
                start_new_session=with_children,
            )
        except OSError as error:
            raise CommandError(
                f"{argv[0]!r} can't be started: {error}.", returncode=None, output=""
            ) from error
        try:
            while True:
                try:
                    returncode = process.wait(every_seconds)
                    break
                except subprocess.TimeoutExpired:
                    watch()
        except BaseException:
            _end(process)
            if with_children:
                # Those that didn't end with it.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            raise
        errors.seek(0)
        text = errors.read().decode("utf-8", "replace")
    if returncode not in allowed:
        raise CommandError(
            f"`{argv[0]}` failed with exit code {returncode}.",
            returncode=returncode,
            output=tail(text),
        )
    return text


def runner(watch: Callable[[], None]) -> Runner:
    """Return what runs programs as ``process.run`` does, but watched and without a limit.

    What ends a program ends its children.

    Args:
        watch: called repeatedly while it runs; its exception stops the program.

    """

    def call(
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdout: IO[bytes] | None = None,
        **_: object,
    ) -> Completed:
        arguments = list(argv)
        with tempfile.TemporaryFile() as kept:
            output = stdout if stdout is not None else kept
            try:
                errors = run(arguments, watch=watch, env=env, stdout=output, with_children=True)
            except CommandError as error:
                kept.seek(0)
                said = kept.read().decode("utf-8", "replace")
                raise CommandError(
                    error.message,
                    returncode=error.returncode,
                    output=tail(f"{said}\n{error.details}"),
                ) from error
            kept.seek(0)
            said = kept.read().decode("utf-8", "replace")
        return Completed(tuple(arguments), 0, said, errors, 0.0)

    return call


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
