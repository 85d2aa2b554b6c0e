"""Report what differs between servers and their declared state, by a run in check mode."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# ansible-playbook's own output goes to the report alone: -v would put lines between the JSON.
_VERBOSE = re.compile(r"-v+|--verbose")
_ASKED = {
    "ask_pass": "--connection-password-file",
    "become_ask_pass": "--become-password-file",
    "ask_vault_pass": "--vault-password-file",
}
ENVIRONMENT = {
    "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    "ANSIBLE_VERBOSITY": "0",
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_FORCE_COLOR": "0",
}
_NOT_RUN = "check mode"
_SHORTEST_SECRET = 6
HIDDEN = "(secret)"
_HIDDEN_DIFF = "hidden: the task handles secrets (no_log)"
# What follows from another difference of the same task.
_CONSEQUENCES = {"reload", "restart", "reload-or-restart", "daemon_reload", "daemon-reload"}
_OWN_LINES = re.compile(r" \(.*\)$")


@dataclass(frozen=True)
class Finding:
    """One difference.

    Attributes:
        host: the server.
        what: the file, or the task of a role where no file is known.
        task: the task that would change it.
        diff: from the state that is there to the declared one, in lines.

    """

    host: str
    what: str
    task: str
    diff: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What a run in check mode found.

    Attributes:
        findings: the differences.
        failures: why the comparison is incomplete, in sentences; empty when it is complete.
        unseen: tasks that check mode skips, with their hosts.

    """

    findings: tuple[Finding, ...]
    failures: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return the result in a sentence."""
        if self.failures:
            return f"The comparison failed: {self.failures[0]}"
        hosts = {finding.host for finding in self.findings}
        if not hosts:
            return "No drift."
        return f"{len(self.findings)} differences on {', '.join(sorted(hosts))}."

    def as_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    def lines(self) -> Iterator[str]:
        """Return it as text, by host."""
        for finding in self.findings:
            yield f"{finding.host}: {finding.what}"
            yield f"    task: {finding.task}"
            yield from (f"    {line}" for line in finding.diff)
        if self.unseen:
            yield "Not compared, because check mode skips it:"
            yield from (f"    {text}" for text in self.unseen)
        yield from (f"Failed: {text}" for text in self.failures)
        yield self.summary()


def command(
    arguments: Sequence[str], playbooks: Iterable[str], options: Mapping[str, Any], site: str
) -> list[str]:
    """Return the command that compares, with the options of the one that was typed.

    Args:
        arguments: the command as it was typed.
        playbooks: the playbooks in it.
        options: its options as Ansible parsed them.
        site: the playbook that is run in check mode.

    Raises:
        ValueError: an option asks for a password.

    """
    for option, instead in _ASKED.items():
        if options.get(option):
            raise ValueError(f"drift.yml can't ask for passwords. Use {instead} FILE.")
    if any(str(each).endswith("prompt") for each in options.get("vault_ids") or ()):
        raise ValueError("drift.yml can't ask for passwords. Use --vault-id NAME@FILE.")
    left_out = set(playbooks)
    kept = [each for each in arguments if each not in left_out and not _VERBOSE.fullmatch(each)]
    return [*kept, "--check", "--diff", site]


def report(code: int, output: str, errors: str, secrets: Any) -> Report:
    """Return what a run in check mode says.

    Args:
        code: its exit code.
        output: what the callback ansible.posix.json printed.
        errors: its standard error.
        secrets: the vault's content, which is taken out of all texts.

    """
    hide = _hider(secrets)
    start = output.find("{\n")
    try:
        document = json.loads(output[start:]) if start >= 0 else None
    except ValueError:
        document = None
    if document is None:
        said = (errors.strip() or output.strip()).splitlines()[-20:]
        reason = hide("\n".join(said)) or "it printed nothing"
        return Report((), (f"ansible-playbook ended with {code}: {reason}",))
    results = list(_results(document))
    findings = (found for host, task, result in results for found in _findings(host, task, result))
    failed = {
        host: stats["failures"] + stats["unreachable"] for host, stats in document["stats"].items()
    }
    failures = [
        f"{host}, {task}: {hide(str(result.get('msg', 'failed')))}"
        for host, task, result in results
        if (result.get("failed") or result.get("unreachable")) and failed.get(host)
    ]
    if code and not failures:
        failures = [f"ansible-playbook ended with {code}: {hide(errors.strip())}"]
    return Report(
        tuple(
            Finding(each.host, hide(each.what), each.task, tuple(map(hide, each.diff)))
            for each in findings
        ),
        tuple(failures),
        tuple(f"{host}: {task}" for host, task, result in results if _is_unseen(result)),
    )


def _results(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Return the host, the task and the result of each task; of a loop, each item's."""
    for play in document["plays"]:
        for task in play["tasks"]:
            for host, result in task["hosts"].items():
                for each in result.get("results") or [result]:
                    if isinstance(each, dict):
                        yield host, task["task"]["name"], each


def _is_unseen(result: Mapping[str, Any]) -> bool:
    text = f"{result.get('msg', '')} {result.get('skip_reason', '')}"
    return bool(result.get("skipped")) and _NOT_RUN in text


def _findings(host: str, task: str, result: Mapping[str, Any]) -> Iterator[Finding]:
    if not result.get("changed") or result.get("skipped"):
        return
    if "censored" in result:
        yield Finding(host, task, task, (_HIDDEN_DIFF,))
        return
    diff = result.get("diff") or []
    found = False
    for entry in [diff] if isinstance(diff, dict) else diff:
        what, lines = _entry(entry)
        if lines:
            found = True
            yield Finding(host, what or task, task, tuple(lines))
    for what, line in _further(result):
        found = True
        yield Finding(host, what or task, task, (line,))
    if not found:
        said = result.get("msg") or result.get("cmd") or "would change"
        yield Finding(host, task, task, tuple(str(said).splitlines()))


def _further(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return what our own modules would do apart from files: what it is done to, and a line."""
    for verb, units in (result.get("units") or {}).items():
        if verb not in _CONSEQUENCES:
            yield from ((unit, f"`systemctl {verb}` would run") for unit in units)
    yield from ((name, "would be installed") for name in result.get("packages") or [])
    yield from (("", line) for line in result.get("changes") or [])
    for name, reasons in (result.get("issued") or {}).items():
        yield f"certificate {name}", f"would be issued: {', '.join(reasons)}"
    for release in result.get("releases") or []:
        if release.get("changed"):
            yield (
                f"app {release['app']}",
                f"would be released: {release.get('reason') or 'changed'}",
            )


def _entry(entry: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the file of a difference and its lines."""
    if "prepared" in entry:
        lines = str(entry["prepared"]).strip().splitlines()
        first = lines[0].split(" ", 1)[0] if lines else ""
        return first if first.startswith("/") else "", lines
    before, after = _text(entry.get("before")), _text(entry.get("after"))
    header = str(entry.get("before_header") or entry.get("after_header") or "")
    if not header and isinstance(entry.get("after"), dict):
        header = str(entry["after"].get("path") or "")
    diff = difflib.unified_diff(before, after, "now", "declared", lineterm="", n=1)
    return _OWN_LINES.sub("", header), list(diff)


def _text(value: Any) -> list[str]:
    text = value if isinstance(value, str) else json.dumps(value, indent=1, sort_keys=True)
    return text.splitlines()


def _hider(secrets: Any) -> Any:
    """Return a function that takes the secrets out of a text."""
    parts = {part for text in _leaves(secrets) for part in text.split("\n")}
    parts |= {json.dumps(part)[1:-1] for part in parts}  # as a JSON file has it
    longest_first = sorted(parts, key=len, reverse=True)
    known = [re.escape(part) for part in longest_first if len(part) >= _SHORTEST_SECRET]
    pattern = re.compile("|".join(known)) if known else None
    return lambda text: pattern.sub(HIDDEN, text) if pattern else text


def _leaves(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, key)
    elif key != "certificate" and value is not None:
        yield str(value).strip()
