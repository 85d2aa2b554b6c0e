"""Run commands of manage.py one after the other in one process: Django starts once for all."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from bedstone.migrations.in_image.common import DONE, question


def main() -> None:
    """Run each as Python would, and end here when one fails.

    Each prints and ends with what it does alone; the traceback too begins at manage.py.
    """
    for command in question()["commands"]:
        _run(command)
        # What follows is a question of ours, as `manage.py shell` asks it.
        sys.argv = [command[0], "shell"]
        # The app may have left a line without its end.
        print("\n" + DONE, flush=True)


def _run(command: list[str]) -> None:
    program = str(Path(command[0]).absolute())
    sys.argv = list(command)
    # PYTHONSAFEPATH keeps a script's directory out of the path.
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = str(Path(program).resolve().parent)
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as ended:
        if ended.code not in (None, 0):
            raise
    except Exception as error:
        place = error.__traceback__
        while place is not None and place.tb_frame.f_code.co_filename != program:
            place = place.tb_next
        place = place or error.__traceback__
        sys.excepthook(type(error), error.with_traceback(place), place)
        sys.exit(1)


main()
