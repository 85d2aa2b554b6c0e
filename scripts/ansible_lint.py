"""Run ansible-lint with one check of the syntax for all playbooks and roles.

ansible-lint starts an `ansible-playbook --syntax-check` for each playbook, for each role and again
for each import of a playbook: four fifths of its time. Here one process checks all of them. When
that fails, ansible-lint's own checks say where.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_compat.runtime import Runtime
from ansiblelint import __main__ as program
from ansiblelint.runner import Runner

BIN = Path(sys.executable).parent
# By their names: with another version of ansible-lint that lacks one, this program fails.
EACH_FILE = Runner._map_syntax_check_workers  # noqa: SLF001
EACH_IMPORT = Runtime.has_playbook


def passes(files: list[Any], environment: dict[str, str]) -> bool:
    """Return whether ansible can parse all of these playbooks and roles."""
    plays = [
        {"hosts": "localhost", "tasks": [{"ansible.builtin.import_role": {"name": str(file.path)}}]}
        for file in files
        if file.kind == "role"
    ]
    playbooks = [str(file.path) for file in files if file.kind == "playbook"]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as roles:
        json.dump(plays, roles)
        roles.flush()
        command = [str(BIN / "ansible-playbook"), "--syntax-check", *playbooks]
        done = subprocess.run(
            [*command, roles.name] if plays else command,
            env=environment | {"PYTHONWARNINGS": "ignore"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    return done.returncode == 0


def check_at_once(runner: Runner, worker: Callable[[Any], Any], files: list[Any]) -> list[Any]:
    """Check the syntax of all files together, and each on its own when one is wrong."""
    if not passes(files, dict(runner.app.runtime.environ)):
        return EACH_FILE(runner, worker, files)
    checked = {file.path.resolve() for file in files}

    def has_playbook(runtime: Runtime, playbook: str, *, basedir: Path | None = None) -> bool:
        if (basedir or Path()).joinpath(playbook).resolve() in checked:
            return True
        return EACH_IMPORT(runtime, playbook, basedir=basedir)

    Runtime.has_playbook = has_playbook
    return [[] for _ in files]


if __name__ == "__main__":
    Runner._map_syntax_check_workers = check_at_once  # noqa: SLF001
    # Its first argument tells it where ansible's programs are.
    sys.exit(program.main([str(BIN / "ansible-lint"), *sys.argv[1:]]))
