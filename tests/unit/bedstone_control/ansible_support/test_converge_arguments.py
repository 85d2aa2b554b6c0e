"""A wrong converge task is refused before anything is rendered, in words that help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bedstone_control.ansible_support import converge_arguments as arguments
from bedstone_control.ansible_support.template_tree import apply_attributes, list_tree
from tests.unit.fixtures.checkout import ROOT

RIGHT = {
    "packages": ["nginx", "postgresql-17=17.*"],
    "tree": "nginx",
    "name": "nginx-sites",
    "attributes": [{"match": "/etc/x/*", "mode": "0640", "sensitive": True}],
    "files": [
        {"path": "/etc/a", "content": "", "owner": "root", "group": "root", "mode": "4755"},
        {"path": "/etc/b", "template": "b.j2", "variables": {"x": 1}, "mode": None},
        {"path": "/etc/c", "source": "c", "create_only": False},
    ],
    "directories": [{"path": "/srv/a"}],
    "links": [{"path": "/l", "target": "../x"}],
    "absent": ["/etc/old"],
    "keep": ["/etc/systemd/system/web-*@.service"],
    "validate": [{"command": ["nginx", "-t"]}],
    "commands": [{"command": ["x"], "creates": "/y"}],
    "units": [{"name": "web@blue.service", "state": "started", "reload_on": ["/etc/**"]}],
}

WRONG = [
    ({"file": []}, "does not know 'file'. Did you mean 'files'?"),
    ({"packages": "nginx"}, "packages is a list of names like [nginx, openssl], not text."),
    ({"packages": [1]}, "packages[0] is text, not 1."),
    ({"files": {"path": "/x"}}, "files is a list, not a dictionary."),
    ({"files": ["/x"]}, "files[0] is a dictionary with path, template"),
    (
        {"files": [{"path": "/x"}]},
        "files[0] (/x) needs exactly one of template, content and source",
    ),
    (
        {"files": [{"path": "/x", "content": "", "source": "y"}]},
        "exactly one of template, content and source, and has content and source.",
    ),
    ({"files": [{"path": "x", "content": ""}]}, "an absolute path like /etc/nginx/nginx.conf"),
    ({"files": [{"path": "/a/../b", "content": ""}]}, "absolute path"),
    ({"files": [{"path": "/a/", "content": ""}]}, "absolute path"),
    ({"files": [{"content": ""}]}, "files[0] needs path"),
    ({"files": [{"path": "/x", "content": {"a": 1}}]}, "content is text, not a dictionary."),
    ({"files": [{"path": "/x", "content": "", "mode": 420}]}, 'octal digits in quotes like "0640"'),
    ({"files": [{"path": "/x", "content": "", "mode": "u=rw"}]}, "octal digits"),
    ({"files": [{"path": "/x", "content": "", "variables": {}}]}, "variables but no template"),
    ({"files": [{"path": "/x", "content": "", "sensitive": "yes"}]}, "true or false, not 'yes'"),
    (
        {"files": [{"path": "/x", "content": "", "crate_only": True}]},
        "files[0] (/x) does not know 'crate_only'. Did you mean 'create_only'?",
    ),
    ({"attributes": [{"match": "/x"}]}, "there is no tree"),
    ({"attributes": [{"match": "x"}], "tree": "t"}, "absolute pattern"),
    ({"validate": [{"command": "nginx -t"}]}, "a list of words like [nginx, -t, -q], not text."),
    ({"validate": [{"command": []}]}, "a list of words"),
    ({"commands": [{"command": ["x"]}]}, "commands[0] never runs"),
    ({"units": [{"name": "nginx"}]}, "a unit's full name like nginx.service, not 'nginx'"),
    ({"units": [{"name": "a.service", "state": "restarted"}]}, "started or stopped"),
    ({"units": [{"name": "a.service", "reload_on": "/etc"}]}, "a list of absolute patterns"),
    ({"name": "My Name"}, "small letters"),
    ({"links": [{"path": "/x"}]}, "links[0] (/x) needs target"),
]


def test_right_arguments_pass_and_null_is_left_out() -> None:
    checked = arguments.check(RIGHT)
    assert checked["files"][1] == {"path": "/etc/b", "template": "b.j2", "variables": {"x": 1}}


@pytest.mark.parametrize(("given", "words"), WRONG)
def test_wrong_argument(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        arguments.check(given)
    assert words in str(error.value)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)packages.*units"):
        arguments.check({"packages": "x", "units": [{"name": "nginx"}]})


def test_no_message_holds_content() -> None:
    entry = {"path": "x", "content": ["hunter22"], "variables": "hunter22", "sensitive": "hm"}
    with pytest.raises(ValueError, match="content is text") as error:
        arguments.check({"files": [entry]})
    assert "hunter22" not in str(error.value)


def test_path_declared_twice_or_declared_and_absent() -> None:
    arguments.check_paths(["/a", "/b"], ["/c"])
    with pytest.raises(ValueError, match=r"Declared twice: /a\."):
        arguments.check_paths(["/a", "/b", "/a"], [])
    with pytest.raises(ValueError, match=r"Declared and absent at once: /a\."):
        arguments.check_paths(["/a"], ["/a"])


def test_documentation_names_the_same_options() -> None:
    text = (ROOT / "plugins/modules/converge.py").read_text()
    options = yaml.safe_load(text.split('DOCUMENTATION = r"""')[1].split('"""')[0])["options"]
    assert set(options) == set(arguments.SCALARS) | set(arguments.ENTRIES)
    for key, known in arguments.ENTRIES.items():
        assert set(options[key]["suboptions"]) == set(known)


def test_tree_is_laid_out_like_the_server(tmp_path: Path) -> None:
    for name in ("etc/a.conf.j2", "etc/a.d/b", "opt/x.sh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path for path, _ in list_tree(tmp_path)] == ["/etc/a.conf", "/etc/a.d/b", "/opt/x.sh"]


def test_empty_tree_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no file"):
        list_tree(tmp_path)


def test_attributes_apply_in_order_and_have_to_fit() -> None:
    files: list[dict[str, Any]] = [{"path": "/etc/a"}, {"path": "/etc/b"}]
    apply_attributes(
        files,
        [{"match": "/etc/*", "mode": "0640", "group": "x"}, {"match": "/etc/b", "group": "y"}],
    )
    assert files == [
        {"path": "/etc/a", "mode": "0640", "group": "x"},
        {"path": "/etc/b", "mode": "0640", "group": "y"},
    ]
    with pytest.raises(ValueError, match=r"/etc/c fits no file of the tree. It holds /etc/a"):
        apply_attributes(files, [{"match": "/etc/c", "mode": "0600"}])
