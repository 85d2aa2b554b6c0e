"""What a run in check mode says, as a report."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bedstone_control import drift

CALLED = ["ansible-playbook", "playbooks/drift.yml", "-i", "inventories/x", "--limit=web1"]
PASSWORD = "correct-horse-battery"


def document(results: dict[str, dict[str, Any]], **stats: int) -> str:
    """Return what ansible.posix.json prints for one host."""
    tasks = [
        {"task": {"name": name, "id": "1"}, "hosts": {"web1": result}}
        for name, result in results.items()
    ]
    counted = {"web1": {"failures": 0, "unreachable": 0, "changed": 0} | stats}
    return json.dumps(
        {"plays": [{"play": {"name": "x"}, "tasks": tasks}], "stats": counted}, indent=4
    )


def found(
    results: dict[str, dict[str, Any]], secrets: Any = None, code: int = 0, **stats: int
) -> drift.Report:
    return drift.report(code, document(results, **stats), "", secrets)


def test_command_is_the_typed_one_with_another_playbook_in_check_mode() -> None:
    typed = [*CALLED, "-vvv", "--verbose", "-v"]
    assert drift.command(typed, ("playbooks/drift.yml",), {}, "/p/site.yml") == [
        *("ansible-playbook", "-i", "inventories/x", "--limit=web1"),
        *("--check", "--diff", "/p/site.yml"),
    ]


@pytest.mark.parametrize(
    ("options", "instead"),
    [
        ({"ask_pass": True}, "--connection-password-file FILE"),
        ({"become_ask_pass": True}, "--become-password-file FILE"),
        ({"ask_vault_pass": True}, "--vault-password-file FILE"),
        ({"vault_ids": ["production@prompt"]}, "--vault-id NAME@FILE"),
    ],
)
def test_option_that_asks_for_a_password_is_refused(options: dict[str, Any], instead: str) -> None:
    with pytest.raises(ValueError, match="can't ask") as raised:
        drift.command(CALLED, ("playbooks/drift.yml",), options, "site.yml")
    assert instead in str(raised.value)


def test_nothing_changed_is_no_drift() -> None:
    said = found({"Configure": {"changed": False, "diff": [{"before": "a", "after": "b"}]}})
    assert list(said.lines()) == ["No drift."]


def test_difference_names_host_file_task_and_lines() -> None:
    entry = {
        "before_header": "/etc/nginx/nginx.conf",
        "after_header": "/etc/nginx/nginx.conf",
        "before": "a\nb\nby hand\n",
        "after": "a\nb\nc\n",
    }
    mode = {
        "before_header": "/etc/sudoers.d/x (owner and mode)",
        "before": "root:root 0644\n",
        "after": "root:root 0440\n",
    }
    said = found({"Configure nginx": {"changed": True, "diff": [entry, mode]}})
    assert list(said.lines()) == [
        "web1: /etc/nginx/nginx.conf",
        "    task: Configure nginx",
        "    --- now",
        "    +++ declared",
        "    @@ -2,2 +2,2 @@",
        "     b",
        "    -by hand",
        "    +c",
        "web1: /etc/sudoers.d/x",
        "    task: Configure nginx",
        "    --- now",
        "    +++ declared",
        "    @@ -1 +1 @@",
        "    -root:root 0644",
        "    +root:root 0440",
        "2 differences on web1.",
    ]


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        ({"diff": {"prepared": "2 packages\n"}}, ("2 packages",)),
        ({"diff": {"before": {"mode": "0644"}, "after": {"mode": "0640", "path": "/x"}}}, None),
        ({"msg": "payments would be released"}, ("payments would be released",)),
        ({"diff": []}, ("would change",)),
        (
            {"censored": "the output has been hidden"},
            ("hidden: the task handles secrets (no_log)",),
        ),
        ({"results": [{"changed": False}, {"changed": True, "msg": "one"}]}, ("one",)),
    ],
)
def test_any_form_of_a_changed_result_is_a_finding(
    result: dict[str, Any], lines: tuple[str, ...] | None
) -> None:
    (finding,) = found({"Task": {"changed": True, **result}}).findings
    if lines is None:
        assert finding.what == "/x"
        assert any('"mode": "0644"' in line for line in finding.diff)
    else:
        assert (finding.what, finding.diff) == ("Task", lines)


def test_sensitive_file_is_named_without_its_content() -> None:
    said = "/etc/x.env changes (sensitive, its content is not shown)"
    (finding,) = found({"T": {"changed": True, "diff": [{"prepared": f"{said}\n"}]}}).findings
    assert (finding.what, finding.diff) == ("/etc/x.env", (said,))


def test_unit_package_certificate_and_release_are_named() -> None:
    result = {
        "changed": True,
        "units": {"start": ["a.timer"], "reload": ["nginx.service"]},
        "packages": ["nginx"],
        "changes": ["role shop is made"],
        "issued": {"shop": ["21 days are left"]},
        "releases": [
            {"app": "shop", "changed": True, "reason": "the source is new"},
            {"app": "wiki", "changed": False},
        ],
    }
    assert [(each.what, *each.diff) for each in found({"Task": result}).findings] == [
        ("a.timer", "`systemctl start` would run"),
        ("nginx", "would be installed"),
        ("Task", "role shop is made"),
        ("certificate shop", "would be issued: 21 days are left"),
        ("app shop", "would be released: the source is new"),
    ]


def test_no_secret_of_the_vault_is_in_a_report() -> None:
    vault = {
        "ca": {"key": f"-----BEGIN KEY-----\n{PASSWORD}-2\n", "certificate": "public text"},
        "apps": {"shop": {"password": PASSWORD, "pin": "1234"}},
        "list": [f"{PASSWORD}-3"],
    }
    text = f"x {PASSWORD} {PASSWORD}-2 {PASSWORD}-3 public text 1234\n"
    entry = {"before_header": f"/etc/{PASSWORD}", "before": "", "after": text}
    result = {"changed": True, "diff": entry}
    said = found({"Task": result, "Other": {"failed": True, "msg": text}}, vault, 2, failures=1)
    shown = "\n".join(said.lines()) + said.as_json()
    assert PASSWORD not in shown
    assert "x (secret) (secret) (secret) public text 1234" in shown


def test_secret_is_hidden_as_a_json_file_has_it() -> None:
    secret = 'quote"and\\slash'
    entry = {"before_header": "/x.json", "before": json.dumps(secret) + "\n", "after": ""}
    said = found({"Task": {"changed": True, "diff": entry}}, {"a": secret})
    assert said.findings[0].diff[-1] == '-"(secret)"'


def test_task_that_check_mode_skips_is_named() -> None:
    skipped = {"skipped": True, "msg": "Command would have run if not in check mode"}
    said = found({"Ask": skipped, "When": {"skipped": True, "skip_reason": "Conditional"}})
    assert said.unseen == ("web1: Ask",)
    assert said.findings == ()


def test_failed_comparison_says_nothing_of_drift() -> None:
    results = {"Connect": {"unreachable": True, "msg": "No route to host"}}
    said = found(results, code=4, unreachable=1)
    assert said.summary() == "The comparison failed: web1, Connect: No route to host"
    rescued = found({"Try": {"failed": True, "msg": "x"}})
    assert rescued.failures == ()
    assert found({}, code=1).failures


@pytest.mark.parametrize("output", ["", "no json", "{\n broken"])
def test_output_that_is_no_json_is_a_failure_with_what_ansible_said(output: str) -> None:
    said = drift.report(1, output, f"ERROR! no such file {PASSWORD}\n", {"a": PASSWORD})
    assert said.summary() == (
        "The comparison failed: ansible-playbook ended with 1: ERROR! no such file (secret)"
    )
