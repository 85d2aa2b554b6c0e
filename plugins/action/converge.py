"""The converge action: renders a role's files on the controller and sends all of it at once.

Documented in plugins/modules/converge.py, which does the work on the server.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

from bedstone_control.ansible_support import converge_arguments as arguments
from bedstone_control.ansible_support.template_tree import apply_attributes, list_tree

# Smaller ones travel with the call, larger ones only when the server's differ.
INLINE_BYTES = 16 * 1024
BLOCK_BYTES = 1024 * 1024


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Renders, collects, calls the module, and transfers what it asks for."""

    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = False
    _requires_connection = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        task_vars = task_vars or {}
        super().run(tmp, task_vars)
        try:
            given = arguments.check(_plain(self._task.args))
            sources: dict[str, str] = {}
            desired = self._desired(given, task_vars, sources)
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from None
        try:
            return self._converge(desired, sources, task_vars)
        finally:
            for source in sources.values():
                self._loader.cleanup_tmp_file(source)

    def _converge(
        self, desired: dict[str, Any], sources: dict[str, str], task_vars: dict[str, Any]
    ) -> dict[str, Any]:
        packed = base64.b64encode(zlib.compress(json.dumps(desired).encode())).decode()
        call = {"name": desired["name"], "desired": packed, "uploads": {}}
        result = self._call(call, task_vars)
        needed = result.get("needs_uploads", [])
        if needed and not result.get("failed"):
            call["uploads"] = self._upload(needed, sources)
            result = self._call(call, task_vars)
        result.pop("needs_uploads", None)
        return result

    def _call(self, call: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module(
            module_name="converge", module_args=dict(call), task_vars=task_vars
        )
        return result

    def _upload(self, needed: list[str], sources: dict[str, str]) -> dict[str, str]:
        """Transfer files into Ansible's temporary directory there, which cleanup removes."""
        shell = self._connection._shell  # noqa: SLF001 - as Ansible's own copy action does
        if shell.tmpdir is None:
            self._make_tmp_path()
        places = {}
        for number, path in enumerate(needed):
            place = shell.join_path(shell.tmpdir, f"upload-{number}")
            places[path] = self._transfer_file(sources[path], place)
        self._fixup_perms2((shell.tmpdir, *places.values()), execute=False)
        return places

    def _desired(
        self, given: dict[str, Any], task_vars: dict[str, Any], sources: dict[str, str]
    ) -> dict[str, Any]:
        files = []
        if "tree" in given:
            files += self._tree(given["tree"], given["attributes"], task_vars)
        files += [self._file(entry, task_vars, sources) for entry in given["files"]]
        declared = [entry["path"] for entry in (*files, *given["directories"], *given["links"])]
        arguments.check_paths(declared, given["absent"])
        lists = ("packages", "directories", "links", "absent", "keep")
        steps = ("validate", "commands", "units")
        return {
            "name": given.get("name") or self._default_name(given.get("tree")),
            "files": files,
            **{key: given[key] for key in (*lists, *steps)},
        }

    def _default_name(self, tree: str | None) -> str:
        role = self._task._role  # noqa: SLF001 - the public way to a task's role is this one
        if role is None:
            raise ValueError("Outside of a role, converge needs a name for what it makes.")
        name = str(role.get_name()).rpartition(".")[2]
        part = (tree or name).replace("/", "-").strip("-")
        return name if part == name else f"{name}-{part}"

    def _tree(
        self, tree: str, attributes: list[dict[str, Any]], task_vars: dict[str, Any]
    ) -> list[dict[str, Any]]:
        folder = Path(self._find("templates", tree))
        if not folder.is_dir():
            raise ValueError(f"tree is a folder below templates, but {folder} is a file.")
        files = [
            {"path": path, **self._content(source, path, task_vars, {})}
            for path, source in list_tree(folder)
        ]
        apply_attributes(files, attributes)
        return files

    def _file(
        self, entry: dict[str, Any], task_vars: dict[str, Any], sources: dict[str, str]
    ) -> dict[str, Any]:
        entry = dict(entry)
        path = entry["path"]
        if "template" in entry:
            source = Path(self._find("templates", entry.pop("template")))
            variables = entry.pop("variables", {})
            return {**entry, "content": self._render(source, path, task_vars, variables)}
        if "source" in entry:
            source = Path(self._find("files", entry.pop("source")))
            return {**entry, **self._source(source, path, sources)}
        return entry

    def _content(
        self, source: Path, path: str, task_vars: dict[str, Any], variables: dict[str, Any]
    ) -> dict[str, str]:
        if source.name.endswith(".j2"):
            return {"content": self._render(source, path, task_vars, variables)}
        return _as_json(Path(self._loader.get_real_file(str(source))).read_bytes())

    def _source(self, source: Path, path: str, sources: dict[str, str]) -> dict[str, Any]:
        if source.is_dir():
            raise ValueError(f"source is a file, but {source} is a directory.")
        real = Path(self._loader.get_real_file(str(source)))
        size = real.stat().st_size
        if size <= INLINE_BYTES:
            content = _as_json(real.read_bytes())
            self._loader.cleanup_tmp_file(str(real))
            return content
        digest = hashlib.sha256()
        with real.open("rb") as stream:
            while block := stream.read(BLOCK_BYTES):
                digest.update(block)
        sources[path] = str(real)
        return {"sha256": digest.hexdigest(), "size": size}

    def _render(
        self, source: Path, path: str, task_vars: dict[str, Any], variables: dict[str, Any]
    ) -> str:
        """Render a template as `ansible.builtin.template` does, with its default settings."""
        named = self._shown(source)
        template = trust_as_template(self._loader.get_text_file_contents(str(source)))
        available = {
            "ansible_managed": f"Written by Bedstone from {named}: the next run undoes changes.",
            "template_path": named,
            "template_destpath": path,
            **task_vars,
            **variables,
        }
        role = self._task._role  # noqa: SLF001
        search = [str(source.parent), self._loader.get_basedir()]
        if role is not None:
            search.insert(1, str(Path(role._role_path) / "templates"))  # noqa: SLF001
        templar = self._templar.copy_with_new_env(searchpath=search, available_variables=available)
        try:
            rendered = templar.template(
                template, escape_backslashes=False, overrides={"trim_blocks": True}
            )
        except AnsibleError as error:
            # Of all errors in templates, only those of syntax have a line.
            line = getattr(error.__cause__, "lineno", None)
            where = f"{named}, line {line}" if line else named
            raise AnsibleActionFail(f"{where}, which makes {path}, can't be rendered.") from error
        if rendered is None:
            return ""
        if isinstance(rendered, (str, int, float)):
            return str(rendered)
        raise ValueError(
            f"{named}, which makes {path}, renders to a {type(rendered).__name__}, not to text. "
            "End it with `| to_nice_json` or `| to_nice_yaml`."
        )

    def _find(self, folder: str, name: str) -> str:
        try:
            return str(self._find_needle(folder, name))
        except AnsibleError as error:
            raise ValueError(f"There is no {name!r} below the role's {folder}: {error}") from error

    def _shown(self, source: Path) -> str:
        """Name a template by its path below the project, the same on every controller."""
        role = self._task._role  # noqa: SLF001
        base = Path(role._role_path).parent.parent if role else Path(self._loader.get_basedir())  # noqa: SLF001
        try:
            return str(source.relative_to(base))
        except ValueError:
            return source.name


def _as_json(content: bytes) -> dict[str, str]:
    try:
        return {"content": content.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}


def _plain(value: Any) -> Any:
    """Turn Ansible's lazy and tagged values into Python's own."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
