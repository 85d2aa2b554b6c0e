"""Check templates in settings and secrets: those with errors, and text that was not meant as one.

Ansible reads `{{`, `{%` and `{#` in every value of its files. A password that holds one of them is
another value, or none, unless it is written as `!unsafe`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bedstone_control.ansible_support.origin import is_template
from bedstone_control.checks.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from bedstone_control.checks.context import Locator, Place

_MARK = re.compile(r"\{[{%#]")
# One expression and nothing else: the way to take a value from elsewhere.
_EXPRESSION = re.compile(r"\s*\{\{.*\}\}\s*", re.DOTALL)
_SECRETS = "bedstone_secrets"
_EXAMPLES = {
    _SECRETS: "--vault-password-file inventories/NAME/.vault-password",
    "bedstone_operator": "authorized_keys: [\"{{ lookup('file', '~/.ssh/id_ed25519.pub') }}\"]",
}


def check(
    locator: Locator, name: str, value: Any, fault: Callable[[Any], str | None]
) -> Iterator[Problem]:
    """Check one variable as it was loaded; no message shows a value of the secrets.

    Args:
        locator: where it stands.
        name: the variable.
        value: what was loaded.
        fault: evaluates a value and returns why that is not possible, None when it is.

    """
    found = False
    for place, text in _texts((name,), value):
        wrong = _unmeant(name, text) or _faulty(name, text, fault)
        if wrong is not None:
            found = True
            example = f"{place[-1]}: !unsafe '…'" if len(place) > 1 else _EXAMPLES.get(name, "")
            yield Problem(wrong, _shown(place), locator.file(place), example)
    whole = None if found else fault(value)
    if whole is not None:
        text = f"This can't be evaluated: {whole}"
        yield Problem(text, name, locator.file((name,)), _EXAMPLES.get(name, ""))


def _texts(place: Place, value: Any) -> Iterator[tuple[Place, Any]]:
    """Return the texts below a place that Ansible evaluates and that hold a mark."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts((*place, str(key)), item)
    elif isinstance(value, str):
        if is_template(value) and _MARK.search(value):
            yield place, value
    elif isinstance(value, Sequence):
        for index, item in enumerate(value):
            yield from _texts((*place, index), item)


def _unmeant(name: str, text: str) -> str | None:
    """Return why a text is hardly meant as a template, None when it may be."""
    if "{#" in text:
        mark, does = "{#", "takes for the start of a comment and cuts out"
    elif name == _SECRETS and not _EXPRESSION.fullmatch(text):
        mark = "{%" if "{%" in text else "{{"
        does = "takes for a template and evaluates"
    else:
        return None
    return (
        f"This holds `{mark}`, which Ansible {does}: another value would arrive. Write it as "
        "`!unsafe` to have it taken as it is."
    )


def _faulty(name: str, text: str, fault: Callable[[Any], str | None]) -> str | None:
    """Return why a template can't be evaluated."""
    wrong = fault(text)
    if wrong is None:
        return None
    # Ansible's message may quote the template, and so the secret.
    said = "" if name == _SECRETS else f": {wrong.rstrip('.')}"
    return (
        f"This is a template that can't be evaluated{said}. If it is none, write it as `!unsafe`."
    )


def _shown(place: Place) -> str:
    text = str(place[0])
    for part in place[1:]:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return text
