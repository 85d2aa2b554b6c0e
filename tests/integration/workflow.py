"""Run the steps of a GitHub workflow's job on this machine, with stand-ins for what is outside.

What runs is what a runner would run: each `run:` in a bash of its own, as GitHub starts it, with
the environment that workflow, job and step give it. Expressions are looked up in a table, and one
that isn't there is an error.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

LIMIT_SECONDS = 600
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
# Programs that need a server: each notes how it was called, and ends as `codes` says.
_PROGRAM = """\
#!{python} -I
import json, os, sys
from pathlib import Path
name, folder = Path(sys.argv[0]).name, Path({folder!r})
call = {{"program": name, "arguments": sys.argv[1:], "input": sys.stdin.read()}}
if "-i" in sys.argv:
    key = Path(sys.argv[sys.argv.index("-i") + 1])
    call |= {{"key": key.read_text(), "mode": oct(key.stat().st_mode), "key_path": str(key)}}
call["environment"] = sorted(os.environ)
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps(call) + "\\n")
codes = json.loads((folder / "codes").read_text())
print(name, "was called")
sys.exit(codes.get(name, 0))
"""


class Outside:
    """Stand-ins for docker and ssh, first on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.end_with({})
        for name in ("docker", "ssh"):
            program = folder / name
            program.write_text(_PROGRAM.format(python=sys.executable, folder=str(folder)))
            program.chmod(0o755)

    def end_with(self, codes: Mapping[str, int]) -> None:
        """Let programs end with a code, and forget the calls."""
        (self.folder / "codes").write_text(json.dumps(codes))
        (self.folder / "calls").write_text("")

    def calls(self) -> list[dict[str, Any]]:
        """Return how they were called."""
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]


@dataclass(frozen=True)
class Ran:
    """A step that ran.

    Attributes:
        name: the step.
        code: its exit code.
        said: what it printed.

    """

    name: str
    code: int
    said: str


@dataclass(frozen=True)
class Repository:
    """A checkout with workflows, and what a run of theirs has.

    Attributes:
        path: the checkout.
        outside: the stand-ins.
        known: the values of expressions.
        environment: variables in place of those of a runner and of its service containers.

    """

    path: Path
    outside: Outside
    known: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def workflow(self, name: str) -> dict[str, Any]:
        """Return a workflow."""
        text = (self.path / f".github/workflows/{name}.yml").read_text()
        found: dict[str, Any] = yaml.safe_load(text)
        return found

    def run(self, workflow: str, job: str) -> list[Ran]:
        """Run a job's steps up to the first that fails, then those for a failure."""
        about = self.workflow(workflow)
        its = about["jobs"][job]
        ran: list[Ran] = []
        failed = False
        for step in its["steps"]:
            if "uses" in step or step.get("if", "success()") != (
                "failure()" if failed else "success()"
            ):
                continue
            ran.append(self._step(step, [about, its, step]))
            failed = failed or ran[-1].code != 0
        return ran

    def run_step(self, workflow: str, job: str, name: str) -> Ran:
        """Run one step."""
        about = self.workflow(workflow)
        its = about["jobs"][job]
        (step,) = [step for step in its["steps"] if step.get("name") == name]
        return self._step(step, [about, its, step])

    def _step(self, step: dict[str, Any], levels: list[dict[str, Any]]) -> Ran:
        given: dict[str, str] = {}
        for level in levels:
            given |= {name: str(value) for name, value in level.get("env", {}).items()}
        done = subprocess.run(
            ["bash", "-e", "-c", self._evaluated(step["run"])],
            cwd=self.path,
            env={
                **os.environ,
                **{name: self._evaluated(value) for name, value in given.items()},
                **self.environment,
                "PATH": f"{self.outside.folder}:{os.environ['PATH']}",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        return Ran(step["name"], done.returncode, done.stdout)

    def _evaluated(self, text: str) -> str:
        return _EXPRESSION.sub(lambda found: self.known[found[1]], text)
