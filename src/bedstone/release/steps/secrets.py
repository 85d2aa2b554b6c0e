"""Put the current secrets into a kept release's environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def merged(
    then: Mapping[str, str], declared: Mapping[str, str], secret: Collection[str]
) -> dict[str, str]:
    """Return a release's environment with the secrets of today.

    A password that was changed is changed in the database, too: with the one of that time
    the release could not even start.

    Args:
        then: its variables, as it was made with.
        declared: those that are declared now.
        secret: names of the variables that hold secrets, or the database login of one.

    """
    return {
        name: declared[name] if name in secret and name in declared else value
        for name, value in then.items()
    }
