"""The steps from one authority to the next, as changes of `bedstone_secrets.ca`.

    add     {certificate, key}            -> {certificate, key, next: {certificate, key}}
    sign    next becomes the authority    -> {certificate, key, previous: {certificate, key}}
    unsign  and back                      -> {certificate, key, next: {certificate, key}}
    forget  previous is dropped           -> {certificate, key}

A step that was done before changes nothing, one out of turn is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def added(present: Mapping[str, Any], next_one: Mapping[str, str]) -> dict[str, Any]:
    """Return the authority with the next one, which is to be trusted as well.

    Raises:
        ValueError: an exchange is not finished.

    """
    if present.get("next"):
        return dict(present)
    if present.get("previous"):
        raise ValueError(
            "The previous authority is still trusted: finish that exchange first, by "
            "`rotate … ca --forget` and site.yml."
        )
    return {**present, "next": dict(next_one)}


def signing(present: Mapping[str, Any]) -> dict[str, Any]:
    """Return the next authority as the one that signs, the present one as trusted.

    Raises:
        ValueError: there is no next one.

    """
    if present.get("next"):
        return _exchanged(present, "next", "previous")
    if present.get("previous"):
        return dict(present)
    raise ValueError(
        "There is no next authority that the hosts could trust: first `rotate … ca`, then site.yml."
    )


def unsigned(present: Mapping[str, Any]) -> dict[str, Any]:
    """Return the previous authority as the one that signs again, the present one as the next.

    Raises:
        ValueError: there is no previous one.

    """
    if present.get("previous"):
        return _exchanged(present, "previous", "next")
    if present.get("next"):
        return dict(present)
    raise ValueError("There is no previous authority that could sign again.")


def _exchanged(present: Mapping[str, Any], taken: str, left: str) -> dict[str, Any]:
    pair = {name: present[name] for name in ("certificate", "key")}
    kept = {name: value for name, value in present.items() if name != taken}
    return {**kept, **present[taken], left: pair}


def forgotten(present: Mapping[str, Any]) -> dict[str, Any]:
    """Return the authority alone.

    Raises:
        ValueError: the next one does not sign yet.

    """
    if present.get("next"):
        raise ValueError(
            "The next authority does not sign yet: first site.yml, then `rotate … ca --sign`."
        )
    return {name: value for name, value in present.items() if name != "previous"}


def also_trusted(present: Mapping[str, Any]) -> list[str]:
    """Return the certificates of the authorities that are trusted next to the one that signs."""
    others = [present.get(name) or {} for name in ("next", "previous")]
    own = [one["certificate"] for one in others if "certificate" in one]
    return [*own, *(present.get("also_trusted") or [])]
