"""Define the errors that an operator can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# What takes the secrets out of a text before it is shown or kept; the command line sets it.
_MASKS: list[Callable[[str], str]] = []


def mask_with(mask: Callable[[str], str]) -> None:
    """Set the function that removes the secrets from all messages and outputs from now on."""
    _MASKS[:] = [mask]


def masked(text: str) -> str:
    """Return a text without secrets."""
    for mask in _MASKS:
        text = mask(text)
    return text


# Control characters, but for tab and line break, and those that turn the direction of writing:
# in a terminal they move the cursor, change its title or colours, or make text look different.
_CONTROLS = {
    number: f"\\x{number:02x}"
    for number in (*range(0x20), *range(0x7F, 0xA0))
    if chr(number) not in "\t\n"
}
_CONTROLS |= {
    number: f"\\u{number:04x}" for number in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


def printable(text: str) -> str:
    """Return text that an app may have produced with its control characters written out."""
    return text.replace("\r\n", "\n").translate(_CONTROLS)


class BedstoneError(Exception):
    """Something failed that the operator can fix.

    ``message`` says what is wrong, ``hint`` what to do, ``details`` holds the
    lines (of a log, of a command) that show why. The command line prints all
    three and exits with ``exit_code``.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None, details: str = "") -> None:
        # Masked first: a secret may hold what is written out then.
        message = printable(masked(message))
        super().__init__(message)
        self.message = message
        self.hint = hint if hint is None else printable(hint)
        # From here they go to the terminal, the journal, the ledger, the hooks, and Ansible.
        self.details = printable(masked(details))

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
