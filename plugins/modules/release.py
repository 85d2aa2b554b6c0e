"""Run `bedstone release` for each app and report exactly what changed: the release module."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: release
short_description: Release the declared apps of this server
description:
  - Runs C(bedstone release APP --if-changed) for each app, and C(bedstone retire) for those that
    are to be retired.
  - An app whose source, settings and environment are those that serve is left alone.
  - One that is under way already, from a run whose connection broke, is waited for, however long
    it takes.
  - When the release of an app fails, the one that served before serves on, the other apps are
    released all the same, and the module fails at the end.
options:
  apps:
    description: Names of the apps.
    type: list
    elements: str
    required: true
  accept:
    description: Migrations or rules that a release is not to stop at; C(bedstone release --accept)
      explains them.
    type: list
    elements: str
    default: []
  retire:
    description: Apps to stop that the settings no longer have; names of other servers' are ignored.
      One that isn't named serves on, with a warning.
    type: list
    elements: str
    default: []
  rebuild:
    description: Build on the newest base images and release, whether anything else is new or not;
      C(bedstone release --rebuild). An image that isn't built here is left alone.
    type: bool
    default: false
  pending_paths:
    description: Paths that the task before changed. In check mode they haven't changed yet, and an
      app with one of them would be released.
    type: list
    elements: str
    default: []
  program:
    description: The host program.
    type: path
    default: /usr/local/bin/bedstone
attributes:
  check_mode:
    description: Nothing is released; says which apps would be.
    support: full
  diff_mode:
    support: none
author: Bedstone
"""

EXAMPLES = r"""
- name: Release the apps
  release:
    apps: [payments, wiki]
"""

RETURN = r"""
releases:
  description: What C(bedstone release --json) said of each app.
  returned: always
  type: list
  elements: dict
service_units:
  description: Paths of the units of the services that a kept release has; a rollback needs them.
  returned: always
  type: list
  elements: str
retired:
  description: Apps that were stopped because they are no longer declared.
  returned: always
  type: list
  elements: str
"""

CONFIG_DIRECTORY = "/etc/bedstone/apps"
STATE_DIRECTORY = "/var/lib/bedstone/apps"
UNIT_DIRECTORY = "/etc/systemd/system"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "apps": {"type": "list", "elements": "str", "required": True},
            "accept": {"type": "list", "elements": "str", "default": []},
            "retire": {"type": "list", "elements": "str", "default": []},
            "rebuild": {"type": "bool", "default": False},
            "pending_paths": {"type": "list", "elements": "str", "default": []},
            "program": {"type": "path", "default": "/usr/local/bin/bedstone"},
        },
        supports_check_mode=True,
    )
    program = module.params["program"]
    if module.check_mode:
        forecast(module, program)
    if shutil.which(program) is None:
        module.fail_json(
            msg=f"{program} isn't on this server: the role host_program comes before this one."
        )
    retired = retire(module, program)
    wishes = [part for name in module.params["accept"] for part in ("--accept", name)]
    wishes += ["--rebuild"] if module.params["rebuild"] else []
    releases = [
        ask(module, [program, "release", app, "--if-changed", "--json", *wishes])
        for app in module.params["apps"]
    ]
    finish(module, releases, retired)


def forecast(module: AnsibleModule, program: str) -> None:
    """Report what a run would change, and exit."""
    pending = touched(module.params["apps"], module.params["pending_paths"])
    installed = shutil.which(program) is not None
    retired = []
    if installed:
        retired = retire(module, program, "--dry-run")
    wishes = ["--rebuild"] if module.params["rebuild"] else []
    releases = []
    for app in module.params["apps"]:
        if app in pending or not installed:
            releases.append({"app": app, "ok": True, "changed": True, "reason": "its files change"})
        else:
            releases.append(ask(module, [program, "release", app, "--dry-run", "--json", *wishes]))
    finish(module, releases, retired)


def retire(module: AnsibleModule, program: str, *options: str) -> list[str]:
    """Retire the apps that were named and that the settings no longer have; return them."""
    command = [program, "retire", "--json", *options]
    undeclared = ask(module, command).get("undeclared", [])
    wanted = [app for app in undeclared if app in module.params["retire"]]
    if wanted:
        undeclared = ask(module, [*command, *wanted]).get("undeclared", [])
    for app in undeclared:
        module.warn(
            f"{app} serves on this server and isn't in the settings: it serves on."
            f" `-e retire={app}` stops it."
        )
    return wanted


def touched(apps: list[str], paths: list[str]) -> set[str]:
    """Return the apps that one of the paths belongs to."""
    return {
        app
        for app in apps
        for path in paths
        if path.startswith((f"{CONFIG_DIRECTORY}/{app}/", f"{STATE_DIRECTORY}/{app}/"))
    }


def service_units(state: str = STATE_DIRECTORY) -> list[str]:
    """Return the paths of the units that a kept release's services run in.

    A retired app has none: they are created again when it is declared again.

    Args:
        state: the directory of the apps' states.

    """
    units: set[str] = set()
    for path in Path(state).glob("*/releases/*/app.json"):
        app = path.parts[-4]
        if (Path(state) / app / "retired.json").exists():
            continue
        try:
            services = list(json.loads(path.read_text(encoding="utf-8"))["services"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # half written when the server went down: no rollback can use it
        units.update(f"{UNIT_DIRECTORY}/bedstone-{app}-{name}@.service" for name in services)
    return sorted(units)


def ask(module: AnsibleModule, command: list[str]) -> dict[str, Any]:
    """Run the program, for as long as it takes, and return the JSON that it prints at the end.

    It prints some when it fails, too.
    """
    code, out, err = module.run_command(
        command, environ_update={"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    )
    try:
        answer = json.loads(out)
    except ValueError:
        module.fail_json(
            msg=f"`{' '.join(command)}` failed with exit code {code}.\n{err or out}".rstrip()
        )
    if not isinstance(answer, dict):
        module.fail_json(msg=f"`{' '.join(command)}` printed no object: {out[:200]}")
    return dict(answer)


def finish(module: AnsibleModule, releases: list[dict[str, Any]], retired: list[str]) -> None:
    """Report the results, and fail when a release did."""
    result = {
        "changed": bool(retired) or any(entry.get("changed") for entry in releases),
        "releases": releases,
        "retired": retired,
        "service_units": service_units(),
    }
    for entry in releases:
        for warning in entry.get("warnings") or []:
            module.warn(f"{entry['app']}: {warning}")
    failed = [entry for entry in releases if not entry.get("ok")]
    if failed:
        module.fail_json(msg="\n\n".join(map(explain, failed)), **result)
    module.exit_json(**result)


def explain(entry: dict[str, Any]) -> str:
    """Return in words why a release failed and what serves now."""
    lines = [f"{entry['app']}: the release failed at `{entry['failed_step']}`: {entry['error']}"]
    lines += [f"  | {line}" for line in (entry.get("details") or "").splitlines()]
    if entry.get("hint"):
        lines.append(f"  hint: {entry['hint']}")
    if entry.get("restore_point"):
        lines.append(f"  The data of before is in the restore point {entry['restore_point']}.")
    if entry.get("previous"):
        lines.append(f"  Release {entry['previous']} serves on.")
    elif "previous" in entry:
        lines.append("  Nothing of it serves yet.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
