"""A run imports the filters once, not once in each task's process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.unit.fixtures.checkout import ROOT

FILTER = """\
import os
from pathlib import Path

with Path(__file__).with_name("imported").open("a") as file:
    file.write(f"{os.getpid()}\\n")

class FilterModule:
    def filters(self):
        return {"shout": str.upper}
"""
TASK = {"ansible.builtin.debug": {"msg": "{{ 'heard' | shout }} {{ missing | default('too') }}"}}


def test_filters_are_imported_by_the_main_process_alone(tmp_path: Path) -> None:
    (tmp_path / "counted.py").write_text(FILTER)
    play = [{"hosts": "all", "gather_facts": False, "tasks": [TASK, TASK, TASK]}]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("--inventory=one,two,", "--connection=local", str(tmp_path / "play.yml")),
        ],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_FILTER_PLUGINS": f"{ROOT / 'plugins/filter'}:{tmp_path}",
            "ANSIBLE_NOCOLOR": "1",
        },
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("HEARD too") == 6
    assert "WARNING" not in done.stdout + done.stderr
    imported = (tmp_path / "imported").read_text().split()
    assert len(imported) == 1
