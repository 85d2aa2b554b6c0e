"""The module's documentation against its arguments."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from plugins.modules import postgresql_accounts as module

DOCUMENTED = yaml.safe_load(module.DOCUMENTATION)["options"]


def compare(documented: dict[str, Any], arguments: dict[str, Any], where: str = "") -> None:
    assert set(documented) == set(arguments), where
    for name, option in arguments.items():
        for key in ("type", "elements", "required", "default"):
            assert documented[name].get(key) == option.get(key), f"{where}{name}: {key}"
        if "options" in option:
            compare(documented[name]["suboptions"], option["options"], f"{name}.")


def test_documentation_says_what_the_module_takes() -> None:
    compare(DOCUMENTED, module.ARGUMENTS)


def test_passwords_are_kept_out_of_logs() -> None:
    options = module.ARGUMENTS["databases"]["options"]
    for name in options:
        assert options[name].get("no_log", False) is name.endswith("password")


@pytest.mark.parametrize(
    ("server", "word"),
    [
        ({"data_checksums": False, "pending_restart": []}, "postgresql_enable_data_checksums"),
        ({"data_checksums": True, "pending_restart": ["max_connections"]}, "max_connections"),
    ],
)
def test_what_a_person_should_know_is_a_warning(server: dict[str, Any], word: str) -> None:
    (sentence,) = module.server_warnings(server)
    assert word in sentence
