import dataclasses
import json
import tarfile
from pathlib import Path

import pytest

from testbed import apt, images, recipes
from testbed.errors import TestbedError

AROUND = recipes.Surroundings(
    mirror=apt.Mirror("https://m.example/debian/", None, None),
    keyring=apt.DEBIAN_KEYRING,
    apt_options=(),
    certificates=("PEM ONE\n",),
    pip={},
)


def test_the_same_ingredients_have_the_same_key() -> None:
    assert recipes.server("trixie", AROUND).key == recipes.server("trixie", AROUND).key


@pytest.mark.parametrize(
    "changed",
    [
        {"certificates": ("PEM TWO\n",)},
        {"apt_options": ('Acquire::Retries "3";',)},
        {"mirror": apt.Mirror("https://other.example/debian/", None, None)},
        {"pip": {"index-url": "https://p.example/simple"}},
        {"keyring": "/etc/apt/keyrings/own.gpg"},
    ],
)
def test_whatever_differs_changes_the_key(changed: dict[str, object]) -> None:
    other = dataclasses.replace(AROUND, **changed)  # type: ignore[arg-type]
    assert recipes.server("trixie", other).key != recipes.server("trixie", AROUND).key


def test_suites_and_kinds_differ() -> None:
    keys = {
        make(suite, AROUND).key
        for make in (recipes.server, recipes.python, recipes.node)
        for suite in recipes.SUITES
    }
    assert len(keys) == 6


def test_systemd_is_not_asked_to_narrow_the_kernels_own_capabilities() -> None:
    """What the manager drops is written to kernel.usermodehelper, which is the machine's."""
    texts = [text for _, text in recipes.server("trixie", AROUND).files.values()]
    assert not any("CapabilityBoundingSet" in text for text in texts)


def test_overlay_belongs_to_root(tmp_path: Path) -> None:
    recipes.overlay(recipes.server("trixie", AROUND), tmp_path / "files.tar")
    with tarfile.open(tmp_path / "files.tar") as archive:
        members = {member.name: member for member in archive.getmembers()}
        assert members[recipes.BOOT.lstrip("/")].mode == 0o755
        assert members["etc/sudoers.d/90-testbed"].mode == 0o440
        assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}


def test_docker_archive_names_its_layer_by_its_digest(tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    layer.write_bytes(b"not really a tar")
    images.docker_archive(layer, tmp_path / "image.tar", "bedstone-python:trixie")
    with tarfile.open(tmp_path / "image.tar") as archive:

        def read(name: str) -> bytes:
            handle = archive.extractfile(name)
            assert handle is not None
            return handle.read()

        (manifest,) = json.loads(read("manifest.json"))
        config = json.loads(read(manifest["Config"]))
        assert manifest["RepoTags"] == ["bedstone-python:trixie"]
        assert read(manifest["Layers"][0]) == layer.read_bytes()
        digest = config["rootfs"]["diff_ids"][0].removeprefix("sha256:")
        assert manifest["Layers"][0] == f"{digest}/layer.tar"


def test_unknown_suite_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TestbedError, match="trixie and testing"):
        images.check_suite("jessie")
