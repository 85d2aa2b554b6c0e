"""Remove what a killed operation has left, other than containers."""

from __future__ import annotations

from bedstone.core import files, paths
from bedstone.release.steps.prepare import STEP_KINDS
from bedstone.system.docker import environment_prefix


def sweep(app: str) -> None:
    """Remove half-made directories of static files, and files with secrets or probes in them.

    Call it only with the app's lock held.
    """
    for path in (paths.served(app) / "static").glob(".*.partial"):
        files.remove_tree(path)
    prefixes = [environment_prefix(f"bedstone-{app}-{kind}") for kind in STEP_KINDS]
    for prefix in (*prefixes, f"probe-{app}."):
        for path in paths.runtime().glob(f"{prefix}*"):
            path.unlink(missing_ok=True)
