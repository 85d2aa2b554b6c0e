"""The controller's side: what is rendered, what is sent, what is transferred."""

from __future__ import annotations

import base64
import importlib.util
import json
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from tests.unit.fixtures.checkout import ROOT

PLUGIN = ROOT / "plugins/action/converge.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("converge_action", PLUGIN)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ACTION = load()


class Run:
    """One task with a role of its own, and a server that answers what the test says."""

    def __init__(self, role: Path) -> None:
        self.role = role
        self.sent: list[dict[str, Any]] = []
        self.transferred: dict[str, bytes] = {}
        self.answers: list[dict[str, Any]] = [{"changed": False, "needs_uploads": []}]

    def write(self, path: str, content: str | bytes) -> None:
        place = self.role / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)

    def __call__(
        self, arguments: dict[str, Any], variables: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        loader = DataLoader()
        loader.set_basedir(str(self.role.parent.parent))
        task = Mock(async_val=0, check_mode=False, args=arguments, action="converge")
        task._role = SimpleNamespace(get_name=lambda: self.role.name, _role_path=str(self.role))
        task.get_search_path.return_value = [str(self.role)]
        shell = Mock(tmpdir=None, join_path=lambda *parts: "/".join(parts))
        action = ACTION.ActionModule(
            task, Mock(_shell=shell), Mock(), loader, Templar(loader=loader), None
        )

        def execute(module_name: str, module_args: dict[str, Any], **_: Any) -> dict[str, Any]:
            assert module_name == "converge"
            self.sent.append(module_args)
            return self.answers[len(self.sent) - 1]

        def make_tmp_path() -> None:
            shell.tmpdir = "/tmp/ansible"

        def transfer(local: str, remote: str) -> str:
            self.transferred[remote] = Path(local).read_bytes()
            return remote

        action._execute_module = execute
        action._make_tmp_path = make_tmp_path
        action._transfer_file = transfer
        action._fixup_perms2 = Mock()
        result: dict[str, Any] = action.run(task_vars=variables or {})
        return result

    def desired(self) -> dict[str, Any]:
        packed = self.sent[0]["desired"]
        desired: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
        return desired

    def files(self) -> dict[str, Any]:
        return {entry["path"]: entry for entry in self.desired()["files"]}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a task of role `web`, which has no files yet."""
    (tmp_path / "roles" / "web").mkdir(parents=True)
    return Run(tmp_path / "roles" / "web")


def test_tree_is_rendered_and_other_files_are_verbatim(run: Run) -> None:
    run.write("templates/web/etc/a.conf.j2", "{% for x in xs %}\n{{ x }}\n{% endfor %}\nend\n")
    run.write("templates/web/etc/b", "{{ verbatim }}")
    run.write("templates/web/opt/c", b"\xff\x00")
    run({"tree": "web"}, {"xs": [1, 2]})
    assert run.files() == {
        "/etc/a.conf": {"path": "/etc/a.conf", "content": "1\n2\nend\n"},
        "/etc/b": {"path": "/etc/b", "content": "{{ verbatim }}"},
        "/opt/c": {"path": "/opt/c", "base64": "/wA="},
    }
    assert run.desired()["name"] == "web"


def test_attributes_of_the_tree_are_sent(run: Run) -> None:
    run.write("templates/x/etc/a", "")
    run({"tree": "x", "attributes": [{"match": "/etc/*", "mode": "0600", "sensitive": True}]})
    assert run.files()["/etc/a"]["mode"] == "0600"
    assert run.desired()["name"] == "web-x"


def test_template_has_its_own_variables_includes_and_header(run: Run) -> None:
    run.write("templates/a.j2", "# {{ ansible_managed }}\n{% include 'part.j2' %}\n")
    run.write("templates/part.j2", "{{ site }} {{ port }}")
    entry = {"path": "/a", "template": "a.j2", "variables": {"site": "one"}, "mode": "0640"}
    run({"files": [entry]}, {"port": 1, "site": "zero"})
    assert run.files()["/a"] == {
        "path": "/a",
        "mode": "0640",
        "content": "# Written by Bedstone from roles/web/templates/a.j2: the next run undoes "
        "changes.\none 1\n",
    }


def test_variables_are_evaluated_as_far_as_they_hold_expressions(run: Run) -> None:
    run.write("templates/a.j2", "{{ outer }} {{ data }}")
    run(
        {"files": [{"path": "/a", "template": "a.j2"}]},
        {"outer": trust_as_template("{{ inner }}"), "inner": "x", "data": "{{ inner }}"},
    )
    assert run.files()["/a"]["content"] == "x {{ inner }}"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ missing }}", "'missing' is undefined"),
        ("{{ {}.missing }}", "no attribute 'missing'"),
        ("a\n{% if %}", "line 2"),
    ],
)
def test_error_in_a_template_names_it_and_sends_nothing(
    run: Run, template: str, words: str
) -> None:
    run.write("templates/web/etc/a.conf.j2", template)
    with pytest.raises(AnsibleActionFail) as error:
        run({"tree": "web"})
    assert "roles/web/templates/web/etc/a.conf.j2" in str(error.value)
    assert "which makes /etc/a.conf" in str(error.value)
    assert words in str(error.value)
    assert run.sent == []


@pytest.mark.parametrize(("value", "text"), [(5, "5"), (True, "True"), (None, ""), ("x", "x")])
def test_template_that_is_one_value_becomes_text(run: Run, value: object, text: str) -> None:
    run.write("templates/a.j2", "{{ value }}")
    run({"files": [{"path": "/a", "template": "a.j2"}]}, {"value": value})
    assert run.files()["/a"]["content"] == text


def test_template_that_renders_to_a_dictionary_is_refused(run: Run) -> None:
    run.write("templates/a.j2", "{{ value }}")
    with pytest.raises(AnsibleActionFail, match="to_nice_json"):
        run({"files": [{"path": "/a", "template": "a.j2"}]}, {"value": {"a": 1}})


@pytest.mark.parametrize(
    "arguments",
    [
        {"tree": "nothing"},
        {"files": [{"path": "/a", "template": "nothing.j2"}]},
        {"files": [{"path": "/a", "source": "nothing"}]},
    ],
    ids=["tree", "template", "source"],
)
def test_what_does_not_exist_is_named(run: Run, arguments: dict[str, Any]) -> None:
    with pytest.raises(AnsibleActionFail, match=r"There is no 'nothing"):
        run(arguments)


def test_wrong_argument_is_refused_before_anything_is_sent(run: Run) -> None:
    with pytest.raises(AnsibleActionFail, match="Did you mean 'tree'"):
        run({"three": "web"})
    assert run.sent == []


def test_path_in_tree_and_files_is_refused(run: Run) -> None:
    run.write("templates/web/etc/a", "")
    with pytest.raises(AnsibleActionFail, match="Declared twice: /etc/a"):
        run({"tree": "web", "files": [{"path": "/etc/a", "content": ""}]})


def test_small_source_travels_with_the_call(run: Run) -> None:
    run.write("files/a", "text")
    run({"files": [{"path": "/a", "source": "a"}]})
    assert run.files()["/a"]["content"] == "text"
    assert len(run.sent) == 1


def test_large_source_is_transferred_only_when_the_server_asks(run: Run) -> None:
    content = b"\x01" * 1_000_000
    run.write("files/big", content)
    entry = {"path": "/opt/big", "source": str(run.role / "files/big"), "mode": "0755"}
    run({"files": [entry]})
    assert len(run.sent) == 1
    assert len(run.sent[0]["desired"]) < 1000
    run.sent.clear()
    run.answers = [{"needs_uploads": ["/opt/big"]}, {"changed": True, "needs_uploads": []}]
    assert run({"files": [entry]}) == {"changed": True}
    assert run.transferred == {"/tmp/ansible/upload-0": content}
    assert run.sent[1]["uploads"] == {"/opt/big": "/tmp/ansible/upload-0"}


def test_secret_stands_only_in_the_argument_that_is_never_logged(run: Run) -> None:
    run({"files": [{"path": "/s", "content": "hunter22", "sensitive": True}]})
    (sent,) = run.sent
    assert set(sent) == {"name", "desired", "uploads"}
    assert "hunter22" not in str(sent)


def test_task_outside_of_a_role_needs_a_name(run: Run) -> None:
    run.role = Path("/")
    action = ACTION.ActionModule(Mock(_role=None), Mock(), Mock(), Mock(), Mock(), None)
    with pytest.raises(ValueError, match="needs a name"):
        action._default_name(None)
