from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from bedstone_control.roles import ca
from bedstone_control.roles.base import (
    operator_problems,
    sysctl_settings,
    trusted_certificate_files,
)

if TYPE_CHECKING:
    from pathlib import Path


def key(kind: str = "ssh-ed25519") -> str:
    blob = len(kind).to_bytes(4) + kind.encode() + bytes(36)
    return f"{kind} {base64.b64encode(blob).decode()} alice@laptop"


CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    "good",
    [
        key(),
        key("ecdsa-sha2-nistp256"),
        key("sk-ssh-ed25519@openssh.com"),
        f'from="192.0.2.0/24",no-pty {key()}',
    ],
)
def test_public_keys_are_taken(good: str) -> None:
    assert operator_problems([good], "alice") == []


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "~/.ssh/id_ed25519.pub",
        "ssh-ed25519 AAAAC3Nza... alice@laptop",
        "ssh-ed25519 AAAA",
        key().replace("ssh-ed25519 ", "ssh-rsa "),
        f"{key()}\n{key()}",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
def test_what_is_no_public_key_is_named(bad: str) -> None:
    (problem,) = operator_problems([bad], "alice")
    assert "no public key" in problem


def test_long_entry_is_not_shown_whole() -> None:
    (problem,) = operator_problems(["x" * 500], "alice")
    assert "x" * 41 not in problem


def test_operator_without_keys_is_refused() -> None:
    (problem,) = operator_problems([], "alice")
    assert "nobody could log in as alice" in problem


@pytest.mark.parametrize("name", ["root", "Alice", "a b", "-x", "a" * 40])
def test_account_that_is_none_of_its_own_is_refused(name: str) -> None:
    (problem,) = operator_problems([key()], name)
    assert "base_operator_name" in problem


def test_no_operator_is_fine() -> None:
    assert operator_problems([], "") == []


def test_bundle_is_split_into_one_file_a_certificate(tmp_path: Path) -> None:
    bundle = tmp_path / "Our company.pem"
    bundle.write_text(f"# root\n{CERTIFICATE}# other\n{CERTIFICATE}")
    files = trusted_certificate_files([str(bundle)])
    assert [file["path"].rpartition("/")[2] for file in files] == [
        "bedstone-extra-Our-company-1.crt",
        "bedstone-extra-Our-company-2.crt",
    ]
    assert all(file["content"] == CERTIFICATE for file in files)


def test_no_file_takes_the_place_of_the_own_authority(tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"
    path.write_text(CERTIFICATE)
    (file,) = trusted_certificate_files([str(path)])
    assert file["path"] != ca.ANCHOR.format(number=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nothing", "holds no certificate"),
        (CERTIFICATE + "-----BEGIN PRIVATE KEY-----", "holds a private key"),
        (CERTIFICATE.replace("AAAA", "A"), "is damaged"),
    ],
)
def test_file_without_sound_certificates_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "ca.crt"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        trusted_certificate_files([str(path)])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.crt can't be read"):
        trusted_certificate_files([str(tmp_path / "absent.crt")])


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "ca.crt" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(CERTIFICATE)
    with pytest.raises(ValueError, match="two files named"):
        trusted_certificate_files([str(path) for path in paths])


def test_kernel_settings_are_added_replaced_and_taken_away() -> None:
    ours = {"net.ipv4.conf.*.rp_filter": 2, "kernel.core_pattern": "|/bin/false"}
    further = {"net.ipv4.conf.*.rp_filter": 1, "kernel.core_pattern": None, "vm.swappiness": 10}
    assert sysctl_settings(ours, further) == {"net.ipv4.conf.*.rp_filter": 1, "vm.swappiness": 10}


@pytest.mark.parametrize(
    ("further", "message"),
    [
        ({"swappiness": 10}, "'swappiness', which is no kernel setting"),
        ({"vm.swap piness": 10}, "no kernel setting"),
        ({"vm.swappiness": "10\nkernel.x = 1"}, "one line of text"),
        ({"kernel.sysrq": True}, "kernel.sysrq is True"),
        ({"vm.swappiness": ""}, "one line of text"),
        ({"vm.swappiness": [10]}, "one line of text"),
    ],
)
def test_what_is_no_kernel_setting_is_refused(further: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sysctl_settings({}, further)
