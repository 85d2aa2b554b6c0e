"""The list of renamed settings leads from names that are unknown today to names that are known."""

from __future__ import annotations

from pathlib import Path

import yaml

from bedstone_control.checks.variables import SETTINGS
from bedstone_control.settings import app, backup, gitserver, hooks, renamed, root, service

ROLES = Path(__file__).resolve().parents[4] / "roles"


def test_variables() -> None:
    specs = [
        yaml.safe_load(path.read_text())["argument_specs"]["main"]
        for path in ROLES.glob("*/meta/argument_specs.yml")
    ]
    current = SETTINGS | {name for spec in specs for name in spec.get("options", {})}
    assert "nginx_https_port" in current
    assert current.isdisjoint(renamed.RENAMED.keys() | renamed.REMOVED.keys())
    assert set(renamed.RENAMED.values()) <= current


def test_keys() -> None:
    places = (app, backup, gitserver, hooks, root, service)
    models = {name: model for place in places for name, model in vars(place).items()}
    for (model, old), new in renamed.RENAMED_KEYS.items():
        assert old not in models[model].model_fields
        assert new in models[model].model_fields
