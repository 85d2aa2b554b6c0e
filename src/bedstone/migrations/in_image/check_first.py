"""Run the app's own check in the process that a probe goes on in: Django starts once for both."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from bedstone.migrations.in_image.common import CHECKED, question


def check_first() -> None:
    """Run `manage.py check` as Python would, and end here when it fails.

    It prints and ends with what it does alone; the traceback too begins at manage.py.
    """
    command = question()["check"]
    program = str(Path(command[0]).absolute())
    sys.argv = list(command)
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
    sys.argv = [command[0], "shell"]
    # The app may have left a line without its end.
    print("\n" + CHECKED, flush=True)


check_first()
