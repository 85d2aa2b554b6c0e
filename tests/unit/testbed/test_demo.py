import pytest

from testbed import demo
from testbed.errors import TestbedError

RECAP = """
TASK [x] ***
changed: [demo]

PLAY RECAP *********************************************************************
\x1b[0;33mdemo\x1b[0m  : \x1b[0;32mok=12  \x1b[0m \x1b[0;33mchanged=3   \x1b[0m unreachable=0
web2                   : ok=2    changed=1    unreachable=0    failed=0
"""


def test_changes_are_counted_over_all_hosts() -> None:
    assert demo.changes(RECAP) == 4
    assert demo.changes("PLAY RECAP ***\ndemo : ok=2 changed=0 unreachable=0\n") == 0


def test_output_without_a_recap_is_not_taken_for_no_changes() -> None:
    with pytest.raises(ValueError, match="no recap"):
        demo.changes("changed=0")


def test_port_of_an_existing_server_is_kept() -> None:
    assert demo.choose_port(["8450:443"], free=lambda _: False) == 8450


def test_first_free_port_is_taken() -> None:
    assert demo.choose_port([], free=lambda port: port > 8444) == 8445
    with pytest.raises(TestbedError, match="No port"):
        demo.choose_port([], free=lambda _: False)


def test_passwords_are_shown_once() -> None:
    first = demo.farewell(8443, [("rosa", "s3cret")], 9, 100.0)
    second = demo.farewell(8443, [], 0, 9.0)
    assert "s3cret" in first
    assert "nothing had to be changed" in second
    assert "new passwords" in second
    assert "https://payments.localhost:8443/" in first
