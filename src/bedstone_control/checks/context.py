"""Hold the values that the checks read, with the file and place of each."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bedstone_control.checks.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bedstone_control.settings.app import App

Place = tuple[str | int, ...]
Origin = tuple[str, int | None]
VAULT = b"$ANSIBLE_VAULT"


def _no_origin(_value: Any) -> Origin | None:
    return None


def _unwritten(_value: Any, _key: Any) -> str | None:
    return None


def _plain(path: Path) -> bytes | None:
    text = path.read_bytes()
    return None if text.startswith(VAULT) else text


@dataclass(frozen=True)
class Locator:
    """Finds the file and line of a value.

    Attributes:
        variables: the variables as loaded, with whatever marks their origin.
        origin_of: returns the file and line of a loaded value, None when it has none.
        directory: the inventory's directory, for values that are not there at all.

    """

    variables: Mapping[str, Any] = field(default_factory=dict)
    origin_of: Callable[[Any], Origin | None] = _no_origin
    directory: Path = Path("inventories/example")

    def origin(self, place: Place) -> Origin | None:
        """Return the file and line of the deepest known part of a place."""
        found: Origin | None = None
        value: Any = self.variables
        for part in place:
            if isinstance(value, Mapping):
                key = next((key for key in value if key == part), None)
                if key is None:
                    break
                found = self.origin_of(key) or found
                value = value[key]
            elif isinstance(value, Sequence) and not isinstance(value, str):
                if not isinstance(part, int) or part >= len(value):
                    break
                value = value[part]
            else:
                break
            # The key says it better than the value, which may begin lines later.
            if not isinstance(part, str) or found is None:
                found = self.origin_of(value) or found
        return found

    def file(self, place: Place) -> str:
        """Return the file of a place, with its line when known."""
        origin = self.origin(place)
        if origin is None:
            name = "vault.yml" if place and place[0] == "bedstone_secrets" else "settings.yml"
            return readable(self.directory / "group_vars" / "all" / name)
        path, line = origin
        return f"{readable(Path(path))}, line {line}" if line else readable(Path(path))


def readable(path: Path) -> str:
    """Return a path as an operator at the prompt would write it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@dataclass(frozen=True)
class Context:
    """Everything the checks of the settings look at.

    Attributes:
        variables: the variables `bedstone_*`, templated.
        locator: where they stand.
        inventory_directory: where paths of the settings start.
        groups: the inventory's groups and their hosts.
        host_variables: all variables of each host.
        role_arguments: the arguments of each role, by role.
        loaded: the variables `bedstone_*`, templated, with whatever marks their origin.
        written_of: returns a loaded scalar, given with its key, as its file has it, None when that
            is unknown.
        decrypted: returns the content of a file, decrypted if it is encrypted with the vault; None
            when that can't be done.

    """

    variables: Mapping[str, Any]
    locator: Locator = field(default_factory=Locator)
    inventory_directory: Path = Path("inventories/example")
    groups: Mapping[str, list[str]] = field(default_factory=dict)
    host_variables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    role_arguments: Mapping[str, frozenset[str]] = field(default_factory=dict)
    loaded: Mapping[str, Any] = field(default_factory=dict)
    written_of: Callable[[Any, Any], str | None] = _unwritten
    decrypted: Callable[[Path], bytes | None] = _plain

    @property
    def secrets(self) -> Mapping[str, Any]:
        """The vault's content; empty when it is missing or no mapping."""
        value = self.variables.get("bedstone_secrets")
        return value if isinstance(value, Mapping) else {}

    def app_secrets(self, app: App) -> Mapping[str, Any]:
        """Return what the vault holds for an app."""
        apps = self.secrets.get("apps")
        value = apps.get(app.name) if isinstance(apps, Mapping) else None
        return value if isinstance(value, Mapping) else {}

    def problem(self, place: Place, message: str, example: Any) -> Problem:
        """Make a problem of a place.

        Args:
            place: variable, then keys and indexes.
            message: what is wrong.
            example: a right value: text as it would be written, or a value to be shown as YAML.

        """
        shown = example if isinstance(example, str) else as_yaml(example)
        return Problem(message, self.describe(place), self.locator.file(place), shown)

    def describe(self, place: Place) -> str:
        """Return a place as text: `bedstone_apps[payments].services.web.port`."""
        value: Any = self.variables
        text = ""
        for part in place:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                value = None
            if isinstance(part, int):
                name = value.get("name") if isinstance(value, Mapping) else None
                text += f"[{name if isinstance(name, str) else part + 1}]"
            else:
                text += f".{part}" if text else str(part)
        return text

    def path(self, text: str) -> Path:
        """Return a path of the settings as an absolute one."""
        return (self.inventory_directory / Path(text).expanduser()).resolve()


def as_yaml(value: Any) -> str:
    """Return a value as an operator would write it."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
    return text.removesuffix("...\n").rstrip()


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that a wrong one was probably meant to be."""
    found = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest right name, or with all of them."""
    names = list(known)
    match = nearest(name, names)
    if match:
        return f"Did you mean `{match}`?"
    return "Known are " + ", ".join(f"`{item}`" for item in names) + "."
