"""Check that an app's list of destinations holds for its containers."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from bedstone.apps import config, network, slots
from bedstone.core import names, paths
from bedstone.core.errors import ConfigError
from bedstone.notify.alarms import Alarm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

_RULES = "/var/lib/bedstone/firewall/confirmed.nft"


def gather() -> list[tuple[str, str]]:
    """Return the apps whose list doesn't hold, each with the reason."""
    found = []
    for name in config.declared():
        limited = False
        # A damaged file is reported by the app's next operation.
        with suppress(ConfigError):
            limited = config.load(name).limited
        if not limited or slots.serving(name) is None:
            continue
        if f'iifname "{names.bridge(name)}" goto' not in _rules():
            found.append((name, "the firewall has no rules for it"))
        elif not network.is_limited(name):
            found.append((name, "its network was made by an earlier version"))
    return found


def _rules() -> str:
    """Return the rules that the operator's login confirmed."""
    try:
        return paths.host(_RULES).read_text(encoding="utf-8")
    except OSError:
        return ""


def judge(found: Sequence[tuple[str, str]], _now: datetime) -> Iterator[Alarm]:
    """Yield an alarm for each app that connects to more than its list has."""
    for name, reason in found:
        yield Alarm(
            f"egress/{name}",
            "red",
            f"the containers of {name} can connect to more than `egress` lists: {reason}",
            "run site.yml, which applies role firewall; then, once, on the server: "
            + network.made_again(name),
            name,
        )
