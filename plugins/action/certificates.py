"""The certificates action: decides on the controller what is due, and signs it there.

Documented in plugins/modules/certificates.py, which does the server's part.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import hashlib
import json
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from bedstone_control.ansible_support import once
from bedstone_control.pki import issue as ca

KNOWN = [
    "authority",
    "also_trusted",
    "certificates",
    "issued_after",
    "only_check",
    "trusted_first",
]


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Asks the server for its certificates and requests, signs, and hands over the results."""

    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = False
    _requires_connection = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        super().run(tmp, task_vars)
        now = dt.datetime.now(dt.UTC)
        arguments = {str(key): value for key, value in self._task.args.items()}
        try:
            authority, wanted = _checked(arguments, now)
            issued_after = _moment(arguments.get("issued_after") or "")
            if boolean(arguments.get("trusted_first") or False):
                self._check_trusted(arguments["authority"]["certificate"], task_vars or {})
            if arguments.get("only_check"):
                return {"changed": False}
            due = _Due(authority, wanted, now, issued_after)
            return self._once(arguments, due, task_vars or {})
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from None

    def _once(
        self,
        arguments: dict[str, Any],
        what: _Due,
        task_vars: dict[str, Any],
    ) -> dict[str, Any]:
        """Converge; what another play of this run has asked for already is left alone."""
        text = json.dumps(arguments, sort_keys=True, default=str)
        check = f"certificates_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        if once.done(task_vars, check):
            return {"changed": False, "skipped": True, "msg": "done earlier in this run"}
        return self._converge(what, task_vars) | {"ansible_facts": once.mark(check)}

    def _check_trusted(self, certificate: str, task_vars: dict[str, Any]) -> None:
        """Check that what runs on the server will accept what the authority signs.

        Raises:
            ValueError: something doesn't.

        """
        server = _Server(self, [], task_vars)
        lacking = server.call("distrusting", authority=certificate)["distrusting"]
        if lacking:
            raise ValueError(
                "The new authority is not trusted yet by all that runs on this server "
                f"({', '.join(lacking)}), so nothing is signed by it. Let the previous one "
                "sign again (`python -m bedstone_control rotate NAME ca --unsign`), run site.yml "
                "to its end on all hosts, then `--sign` and site.yml again."
            )

    def _converge(self, what: _Due, task_vars: dict[str, Any]) -> dict[str, Any]:
        authority, wanted, now = what.authority, what.wanted, what.now
        server = _Server(self, wanted, task_vars)
        found = server.call("inspect")
        due = {}
        for certificate in wanted:
            present = found["present"][certificate.name]["certificate"]
            reasons = ca.reasons_to_issue(present, certificate, authority, now, what.issued_after)
            if reasons:
                due[certificate.name] = reasons
        if not self._task.check_mode and (due or found["pending"]):
            requests = {name: entry["request"] for name, entry in found["present"].items()}
            if without := [name for name in due if not requests[name]]:
                fresh = [name for name in without if ca.REPLACED in due[name]]
                requests |= server.call("request", names=without, fresh=fresh)["requests"]
            signed = {
                certificate.name: ca.issue(requests[certificate.name], certificate, authority, now)
                for certificate in wanted
                if certificate.name in due
            }
            server.call("install", install=signed)
        changed = bool(due or found["pending"] or server.changed_paths or server.removed_paths)
        result: dict[str, Any] = {
            "changed": changed,
            "issued": due,
            "changed_paths": server.changed_paths,
            "removed_paths": server.removed_paths,
            "units": server.units,
        }
        if self._task.diff:
            result["diff"] = [
                {"prepared": f"certificate {name} is issued: {', '.join(reasons)}\n"}
                for name, reasons in due.items()
            ]
            result["diff"] += [
                {"prepared": f"{path} is removed\n"} for path in server.removed_paths
            ]
        return result


@dataclasses.dataclass(frozen=True)
class _Due:
    """What certificates are compared with."""

    authority: ca.Authority
    wanted: list[ca.Wanted]
    now: dt.datetime
    issued_after: dt.datetime | None


class _Server:
    """The module on the server, and what its calls did altogether."""

    def __init__(
        self, action: ActionModule, wanted: list[ca.Wanted], task_vars: dict[str, Any]
    ) -> None:
        self.action = action
        self.task_vars = task_vars
        self.pairs = [
            {
                "name": certificate.name,
                "owner": certificate.owner,
                "group": certificate.group,
                "reload": list(certificate.reload),
            }
            for certificate in wanted
        ]
        self.changed_paths: list[str] = []
        self.removed_paths: list[str] = []
        self.units: dict[str, list[str]] = {}

    def call(self, step: str, **more: Any) -> dict[str, Any]:
        """Run one step on the server.

        Raises:
            AnsibleActionFail: it failed, with the server's words.

        """
        result: dict[str, Any] = self.action._execute_module(  # noqa: SLF001 - how actions call modules
            module_name="certificates",
            module_args={"step": step, "pairs": self.pairs, **more},
            task_vars=self.task_vars,
        )
        if result.get("failed") or result.get("unreachable"):
            raise AnsibleActionFail(str(result.get("msg", result)), result=result)
        self.changed_paths += result["changed_paths"]
        self.removed_paths += result["removed_paths"]
        self.units |= result["units"]
        return result


def _moment(text: str) -> dt.datetime | None:
    """Return the time in an argument.

    Raises:
        ValueError: it is none.

    """
    if not text:
        return None
    try:
        return dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC)
    except ValueError:
        raise ValueError(
            f"ca_issued_after is {text!r}, which is no time; an example is 2026-11-29T12:00:00Z"
        ) from None


def _checked(arguments: dict[str, Any], now: dt.datetime) -> tuple[ca.Authority, list[ca.Wanted]]:
    for key in arguments:
        if key not in KNOWN:
            near = difflib.get_close_matches(key, KNOWN, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known are {', '.join(KNOWN)}."
            raise ValueError(f"certificates does not know {key!r}.{hint}")
    authority = arguments.get("authority") or {}
    for key in ("certificate", "key"):
        if not isinstance(authority.get(key), str) or not authority[key].strip():
            raise ValueError(f"certificates needs authority.{key}. {ca.AUTHORITY_HELP}")
    loaded = ca.load_authority(authority["certificate"], authority["key"], now)
    for number, pem in enumerate(arguments.get("also_trusted") or [], start=1):
        ca.load_trusted(str(pem), f"Trusted authority {number} of ca_also_trusted", now)
    entries = [dict(entry) for entry in arguments.get("certificates") or []]
    return loaded, ca.parse_wanted(entries)
