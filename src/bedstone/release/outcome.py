"""Report the outcome of an operation on an app, as text and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bedstone.core.errors import BedstoneError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bedstone.ledger.releases import Kind


def _nothing(line: str) -> None:
    del line


@dataclass
class StreamedOutput:
    """The receivers of an operation's output.

    Attributes:
        say: called with lines of text, as the operation goes.
        on_line: called with every line that builds and the app's commands print.

    """

    say: Callable[[str], None] = _nothing
    on_line: Callable[[str], None] | None = None


@dataclass
class StepReport:
    """The result of a step; ``seconds`` it took, and the text it ``said``."""

    name: str
    state: str
    seconds: float
    said: str


@dataclass
class Outcome:
    """The outcome of an operation.

    Attributes:
        app: whose it is.
        changed: whether anything on the server did.
        kind: ``release``, ``rollback`` or ``restart``.
        release: the release that serves now.
        previous: the one that served before.
        reason: why there was something to do.
        seconds: how long it took.
        steps: the steps that were begun.
        put_right: what differed from the ledger before, and no longer does.
        interrupted: operations that were killed before, a sentence each.
        warnings: what went wrong without making it fail.
        restore_point: the backup that was made on the way.
        failed_step: the step that failed, if one did.
        error: why.
        hint: what to do about it.
        details: the last lines that say why.
        exit_code: of the command, when it failed.

    """

    app: str
    changed: bool
    kind: Kind = "release"
    release: str | None = None
    previous: str | None = None
    reason: str = ""
    seconds: float = 0.0
    steps: list[StepReport] = field(default_factory=list)
    put_right: list[str] = field(default_factory=list)
    interrupted: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    restore_point: str | None = None
    failed_step: str | None = None
    error: str | None = None
    hint: str | None = None
    details: str = ""
    exit_code: int = 1

    @property
    def ok(self) -> bool:
        """Return whether the app is as it should be."""
        return self.error is None

    def as_json(self) -> dict[str, Any]:
        """Return all of it for a machine."""
        return {"ok": self.ok, **asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Outcome:
        """Return what :meth:`as_json` made the data of."""
        values = {name: value for name, value in data.items() if name != "ok"}
        values["steps"] = [StepReport(**step) for step in values.get("steps", [])]
        return cls(**values)

    def fail(self, step: str, error: BedstoneError) -> None:
        """Take down why it failed."""
        self.failed_step = step
        self.error, self.hint, self.details = error.message, error.hint, error.details
        self.exit_code = error.exit_code

    def forgive(self) -> None:
        """Clear the failure."""
        self.failed_step = self.error = self.hint = None
        self.details = ""


def never_begun(app: str, error: BedstoneError) -> dict[str, Any]:
    """Return for a machine that an operation couldn't even begin, and why."""
    outcome = Outcome(app, changed=False)
    outcome.fail("begin", error)
    return outcome.as_json()
