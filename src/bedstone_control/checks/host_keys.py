"""Check the pinned ssh host keys of the servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone_control.checks.context import readable
from bedstone_control.checks.operators import host_key_fault
from bedstone_control.checks.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone_control.checks.context import Context

EXAMPLE = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…"]
# What playbooks/group_vars/all/wiring.yml gives to ssh has this filter in it.
OWN_ARGUMENTS = "pinned_ssh_args"
_MISSPELT = ("host_key", "hostkeys", "hosts_keys", "ssh_host_keys", "ansible_host_keys")
NAMES = ("host_keys", "ansible_connection", "ansible_ssh_args", *_MISSPELT)
_SSH = {None, "ssh", "smart", "ansible.builtin.ssh"}


def fault(keys: Any) -> tuple[int | None, str] | None:
    """Return what is wrong with a host's `host_keys`: index, None for the whole, and a sentence."""
    if isinstance(keys, str) or not isinstance(keys, list | tuple) or not keys:
        return None, "`host_keys` is a list of at least one public key of the server."
    for index, key in enumerate(keys):
        wrong = host_key_fault(key) if isinstance(key, str) else f"{key!r} is no public ssh key."
        if wrong is not None:
            return index, wrong
    return None


def check(context: Context) -> Iterator[Problem]:
    """Check that each host's keys are keys, and that ssh uses them."""
    for host, variables in context.host_variables.items():
        for name in _MISSPELT:
            if name in variables:
                message = (
                    f"Of the host {host}: unknown variable `{name}`. Did you mean `host_keys`?"
                )
                yield _problem(context, host, message, name, variables[name])
        keys = variables.get("host_keys")
        if keys is None:
            continue
        if (found := fault(keys)) is not None:
            index, message = found
            value = keys if index is None else keys[index]
            where = "host_keys" if index is None else f"host_keys[{index + 1}]"
            yield _problem(context, host, f"Of the host {host}: {message}", where, value)
        arguments = variables.get("ansible_ssh_args")
        if arguments is not None and OWN_ARGUMENTS not in str(arguments):
            message = (
                f"Of the host {host}: `ansible_ssh_args` takes the place of the arguments that pin "
                "`host_keys`; `ansible_ssh_common_args` is added to them."
            )
            example = {"ansible_ssh_common_args": str(arguments)}
            yield _problem(context, host, message, "ansible_ssh_args", arguments, example)
        if variables.get("ansible_connection") not in _SSH:
            message = (
                f"Of the host {host}: `host_keys` are checked by ssh, and `ansible_connection` is "
                f"{variables['ansible_connection']!r}."
            )
            example = {"ansible_connection": "ssh"}
            yield _problem(context, host, message, "ansible_connection", keys, example)


def _problem(
    context: Context,
    host: str,
    message: str,
    where: str,
    value: Any,
    example: dict[str, Any] | None = None,
) -> Problem:
    """Make a problem of a host's variable, with the file and line of its value."""
    shown = context.problem((), message, {host: example or {"host_keys": EXAMPLE}}).example
    origin = context.locator.origin_of(value)
    file = readable(context.inventory_directory / "hosts.yml")
    if origin is not None:
        path, line = origin
        file = f"{path}, line {line}" if line else path
    return Problem(message, f"{where} of {host}", file, shown)
