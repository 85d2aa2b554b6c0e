"""Errors a person can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# What takes the secrets out of a text before it is shown or kept; the command line sets it.
_MASKS: list[Callable[[str], str]] = []


def mask_with(mask: Callable[[str], str]) -> None:
    """Let a function take the secrets out of all messages and outputs from now on."""
    _MASKS[:] = [mask]


def masked(text: str) -> str:
    """Return a text without secrets."""
    for mask in _MASKS:
        text = mask(text)
    return text


class BedstoneError(Exception):
    """Something failed that the person at the keyboard can do something about.

    ``message`` says what is wrong, ``hint`` what to do, ``details`` holds the
    lines (of a log, of a command) that show why. The command line prints all
    three and exits with ``exit_code``.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None, details: str = "") -> None:
        message = masked(message)
        super().__init__(message)
        self.message = message
        self.hint = hint
        # From here they go to the terminal, the journal, the ledger, the hooks, and Ansible.
        self.details = masked(details)

    def text(self) -> str:
        """Return message, details and hint as one text for a terminal."""
        parts = [self.message]
        if self.details:
            parts.append("\n".join(f"  | {line}" for line in self.details.splitlines()))
        if self.hint:
            parts.append(f"hint: {self.hint}")
        return "\n".join(parts)


class RefusedError(BedstoneError):
    """The request was understood and deliberately not carried out (exit code 3)."""

    exit_code = 3


class ConfigError(BedstoneError):
    """A configuration file on this server is missing or wrong."""


class CommandError(BedstoneError):
    """A command that bedstone called failed or took too long."""

    def __init__(self, message: str, *, returncode: int | None, output: str) -> None:
        super().__init__(message, details=output)
        self.returncode = returncode
