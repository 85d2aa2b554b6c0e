"""Lets the tests import what Ansible ships to a server by its plain name.

On a server these files are `ansible.module_utils.bedstone_*`, and so they import one another. A
test that says `import bedstone_files` gets that very module, not a second copy of its classes.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import ansible.module_utils
import pytest

from tests.unit.fixtures.checkout import ROOT
from tests.unit.fixtures.fake_server import FakeServer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

MODULE_UTILS = ROOT / "plugins" / "module_utils"


class OneCopy(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers `import bedstone_x` with `ansible.module_utils.bedstone_x`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname.startswith("bedstone_") and (MODULE_UTILS / f"{fullname}.py").is_file():
            return importlib.util.spec_from_loader(fullname, self)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return importlib.import_module(f"ansible.module_utils.{spec.name}")

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module has been executed."""


ansible.module_utils.__path__.append(str(MODULE_UTILS))
sys.meta_path.insert(0, OneCopy())


@pytest.fixture
def server(tmp_path: Path) -> FakeServer:
    """Return a bare server below a temporary directory."""
    return FakeServer(tmp_path)
