"""An exact version from another repository. These tests come last: they exchange the packages."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from again import applied, refused
from testinfra.host import Host

UNITS = ["postgresql@*"]
Query = Callable[..., Any]


def test_exact_version_comes_from_the_repository_and_stays(
    host: Host, server_name: str, major: str, suite: str, query: Query
) -> None:
    """PGDG can't be had here; a signed repository of our own stands for it."""
    script = (Path(__file__).parent / "files/repository.sh").read_text()
    version = f"{major}.99-1.test"
    key = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / f"{suite}.asc"
    key.write_text(
        host.check_output("printf %%s %s | sh -s -- %s %s", script, major, version) + "\n"
    )
    repository = {
        "postgresql_repository_url": "file:///srv/repository",
        "postgresql_repository_suite": "test",
        "postgresql_repository_key": str(key),
    }
    said = refused(server_name, **repository, postgresql_version=f"{major}.98")
    assert f"postgresql-{major}=" in said
    assert query("SELECT 1").rc == 0

    arguments = {**repository, "postgresql_version": f"{major}.99"}
    applied(server_name, **arguments)
    for package in (f"postgresql-{major}", f"postgresql-client-{major}"):
        assert host.package(package).version == version
        assert "990" in host.check_output("apt-cache policy %s", package)
    assert query("SELECT 1").rc == 0
    assert "changed=0 " in applied(server_name, **arguments)


def test_repository_is_trusted_with_its_own_key_only(host: Host) -> None:
    sources = host.file("/etc/apt/sources.list.d/bedstone-postgresql.sources").content_string
    assert "Signed-By: /etc/apt/keyrings/bedstone-postgresql.asc" in sources
    assert not host.file("/etc/apt/trusted.gpg").exists


def test_no_repository_declared_takes_it_away_again(host: Host, server_name: str) -> None:
    applied(server_name)
    assert not host.file("/etc/apt/sources.list.d/bedstone-postgresql.sources").exists
    assert not host.file("/etc/apt/preferences.d/bedstone-postgresql").exists
