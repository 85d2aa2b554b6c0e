"""The services of an app whose data was replaced."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from bedstone.apps import current, services, slots
from bedstone.apps.slots import Made, Slot
from bedstone.system.systemd import Systemd

STATES = {
    "web@blue": ("active", "success"),
    "worker@1": ("failed", "start-limit-hit"),
    "worker@2": ("inactive", "success"),
    # Stopped by an operator, with an exit code of its own.
    "beat@1": ("failed", "exit-code"),
}


def test_running_services_and_those_at_their_limit_start_again(
    root: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    del root
    for key in STATES:
        service, _, name = key.partition("@")
        slots.write("shop", Slot(service, name, "1", Made("sha256:1", 0, 0)))
    restarted: list[str] = []

    def properties(_self: Systemd, units: Sequence[str], _names: object) -> dict[str, Any]:
        keys = [unit.removeprefix("bedstone-shop-").removesuffix(".service") for unit in units]
        return {
            unit: dict(zip(("ActiveState", "Result"), STATES[key], strict=True))
            for unit, key in zip(units, keys, strict=True)
        }

    web = SimpleNamespace(stop_seconds=1, health_timeout_seconds=1)
    serving = SimpleNamespace(app=SimpleNamespace(services={"web": web}))
    monkeypatch.setattr(current, "load", lambda _app: serving)
    monkeypatch.setattr(Systemd, "properties", properties)
    monkeypatch.setattr(Systemd, "restart", lambda _, units, **__: restarted.extend(units))
    assert services.restart("shop") == tuple(restarted)
    assert restarted == ["bedstone-shop-web@blue.service", "bedstone-shop-worker@1.service"]
