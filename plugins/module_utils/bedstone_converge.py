"""Brings a server into the declared state: packages, files, commands, units, in this order.

Nothing is moved into place before everything declared was found valid, and nothing that follows
from a change is forgotten when the run is killed in between.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import bedstone_diff as diffs
    import bedstone_files as fs
    import bedstone_manifest as manifests
    import bedstone_packages as packages
    import bedstone_stage as stages
    import bedstone_units as units
    from bedstone_desired import Desired, WantedCommand
    from bedstone_paths import matches_any
    from bedstone_run import ConvergeError, Runner
else:
    import ansible.module_utils.bedstone_diff as diffs
    import ansible.module_utils.bedstone_files as fs
    import ansible.module_utils.bedstone_manifest as manifests
    import ansible.module_utils.bedstone_packages as packages
    import ansible.module_utils.bedstone_stage as stages
    import ansible.module_utils.bedstone_units as units
    from ansible.module_utils.bedstone_paths import matches_any
    from ansible.module_utils.bedstone_run import ConvergeError

# After one of these a unit runs with its new files, or not at all.
SETTLING = {"start", "reload", "restart", "stop"}
UNIT_FILES = ["/etc/systemd/system/**", "/usr/local/lib/systemd/system/**"]


@dataclasses.dataclass
class Result:
    """The changes that a converge made, or in check mode would make."""

    changed_paths: list[str] = dataclasses.field(default_factory=list)
    removed_paths: list[str] = dataclasses.field(default_factory=list)
    kept_paths: list[str] = dataclasses.field(default_factory=list)
    packages: list[str] = dataclasses.field(default_factory=list)
    commands: list[list[str]] = dataclasses.field(default_factory=list)
    units: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    diff: list[dict[str, str]] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    needs_uploads: list[str] = dataclasses.field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Return whether anything is, or would be, different after the converge."""
        return bool(
            self.changed_paths or self.removed_paths or self.packages or self.commands or self.units
        )

    def did(self, action: str, unit: str) -> None:
        """Note an action on a unit."""
        self.units.setdefault(action, []).append(unit)

    def as_dict(self) -> dict[str, Any]:
        """Return the values as the module returns them."""
        return {"changed": self.changed, **dataclasses.asdict(self)}


@dataclasses.dataclass
class Plan:
    """The differences between the files declared and the server's."""

    files: list[tuple[fs.WantedFile, list[str]]] = dataclasses.field(default_factory=list)
    directories: list[tuple[fs.WantedDirectory, list[str]]] = dataclasses.field(
        default_factory=list
    )
    links: list[tuple[fs.WantedLink, list[str]]] = dataclasses.field(default_factory=list)
    removals: list[str] = dataclasses.field(default_factory=list)

    def changed_paths(self) -> list[str]:
        """Return the paths that are made or changed."""
        return [
            *(directory.path for directory, _ in self.directories),
            *(file.path for file, _ in self.files),
            *(link.path for link, _ in self.links),
        ]

    def __bool__(self) -> bool:
        """Return whether anything differs."""
        return bool(self.files or self.directories or self.links or self.removals)


class Converge:
    """One converge of one server. `result` holds what was done, also after an error."""

    def __init__(
        self,
        desired: Desired,
        *,
        run: Runner,
        root: Path = Path("/"),
        uploads: dict[str, str] | None = None,
        check: bool = False,
        with_diff: bool = False,
    ) -> None:
        """Take the declared state.

        Args:
            desired: the declared state.
            run: runs a program on the server.
            root: `/`, or a directory that stands for it in tests.
            uploads: where the content of a path lies that was transferred for it.
            check: change nothing, only find out what would change.
            with_diff: describe the changes.

        """
        self.desired = desired
        self.run = run
        self.root = root
        self.uploads = {path: Path(place) for path, place in (uploads or {}).items()}
        self.check = check
        self.with_diff = with_diff
        self.result = Result()
        self.ids: dict[str, fs.Ids] = {}
        self.manifest = manifests.Manifest(desired.name)

    def converge(self) -> Result:
        """Run the converge.

        Raises:
            ConvergeError: something doesn't work; `result` holds what was done until then.

        """
        with contextlib.nullcontext() if self.check else manifests.locked(self.root):
            self.result.needs_uploads = self._uploads_needed()
            if not self.result.needs_uploads:
                self._converge_packages()
                self._converge_files()
                self._run_commands()
                self._converge_units()
                self._finish()
        return self.result

    # Uploads

    def _uploads_needed(self) -> list[str]:
        """List the files whose content has to be transferred first (in check mode: to validate)."""
        if self.check and not self.desired.validators:
            return []
        needed = []
        for wanted in self.desired.files:
            if wanted.content is not None:
                continue
            upload = self.uploads.get(wanted.path)
            if upload is not None:
                if fs.sha256_of(upload) != wanted.sha256:
                    raise ConvergeError(
                        f"The upload for {wanted.path} arrived damaged. Run it again."
                    )
            elif {"created", "content", "type"} & set(self._differences(wanted, fs.Ids(-1, -1))):
                needed.append(wanted.path)
        return needed

    def _differences(self, wanted: fs.WantedFile, ids: fs.Ids) -> list[str]:
        return fs.file_differences(self.root, wanted, ids)

    # Packages

    def _converge_packages(self) -> None:
        missing = packages.missing_packages(self.desired.packages, self.run)
        if missing and not self.check:
            packages.install_packages(missing, self.run, self.root)
        self.result.packages = missing

    # Files

    def _converge_files(self) -> None:
        old = manifests.load(self.root, self.desired.name)
        plan = self._plan(old)
        self._warn_of_unknown_owners(plan)
        if plan:
            self._validate(plan)
        self.result.changed_paths = plan.changed_paths()
        self.result.removed_paths = list(plan.removals)
        if self.with_diff:
            self._describe(plan)
        self.manifest = self._next_manifest(old, plan)
        if self.check:
            return
        if self.manifest != old:
            both = dataclasses.replace(self.manifest, files={**old.files, **self.manifest.files})
            manifests.save(self.root, both)
        self._apply(plan)

    def _plan(self, old: manifests.Manifest) -> Plan:
        desired, plan = self.desired, Plan()
        for directory in sorted(desired.directories, key=lambda wanted: wanted.path):
            ids = self._ids(directory)
            if differences := fs.directory_differences(self.root, directory, ids):
                plan.directories.append((directory, differences))
        for wanted in desired.files:
            if differences := self._differences(wanted, self._ids(wanted)):
                plan.files.append((wanted, differences))
        for link in desired.links:
            if differences := fs.link_differences(self.root, link):
                plan.links.append((link, differences))
        exists = [path for path in desired.absent if fs.status_of(fs.below(self.root, path))]
        plan.removals = exists + self._to_prune(old, set(exists))
        return plan

    def _ids(self, wanted: fs.WantedFile | fs.WantedDirectory) -> fs.Ids:
        ids = fs.ids_of(wanted.owner, wanted.group, path=wanted.path, tolerate_unknown=self.check)
        self.ids[wanted.path] = ids
        return ids

    def _warn_of_unknown_owners(self, plan: Plan) -> None:
        """In check mode an unknown owner is only a warning: a run before this one may make it."""
        owned: list[tuple[fs.WantedFile | fs.WantedDirectory, list[str]]]
        owned = [*plan.files, *plan.directories]
        for wanted, _ in owned:
            if -1 in (self.ids[wanted.path].uid, self.ids[wanted.path].gid):
                self.result.warnings.append(
                    f"{wanted.owner}:{wanted.group}, who should own {wanted.path}, is not known "
                    "on this server yet."
                )

    def _to_prune(self, old: manifests.Manifest, absent: set[str]) -> list[str]:
        """List what earlier runs of this converge made and is no longer declared."""
        candidates = sorted(set(old.files) - self.desired.declared() - absent)
        if not candidates:
            return []
        others = manifests.paths_of_others(self.root, self.desired.name)
        prune = []
        for path in candidates:
            place = fs.below(self.root, path)
            status = fs.status_of(place)
            if status is None or path in others or stat.S_ISDIR(status.st_mode):
                continue
            if matches_any(path, self.desired.keep):
                self.result.kept_paths.append(path)
                continue
            seeded = old.files[path]
            if seeded is not None and fs.sha256_of(place) != seeded:
                self.result.warnings.append(
                    f"{path} is not declared any more. It was changed since it was made, so it "
                    "stays: remove it by hand when nobody needs it."
                )
                continue
            prune.append(path)
        return prune

    def _validate(self, plan: Plan) -> None:
        runnable = [command for command in self.desired.validators if self._can_run(command)]
        if not runnable:
            return
        with stages.new_stage(self.root) as stage:
            for wanted in self.desired.files:
                if wanted.create_only and fs.status_of(fs.below(self.root, wanted.path)):
                    continue
                stage.add_file(wanted, self.ids[wanted.path], self.uploads.get(wanted.path))
            for link in self.desired.links:
                stage.add_link(link)
            for path in plan.removals:
                stage.hide(path)
            for command in runnable:
                stages.validate(stage, command, self.run, self.desired.hide_secrets)

    def _can_run(self, command: list[str]) -> bool:
        """In check mode a validator whose program isn't there yet is skipped, with a warning."""
        if not self.check:
            return True
        if self.result.packages or shutil.which(command[0], path=os.defpath + ":/usr/sbin") is None:
            self.result.warnings.append(
                f"`{' '.join(command)}` was not run: its program, or packages, are not installed "
                "yet. The real run validates with it before it changes a file."
            )
            return False
        return True

    def _describe(self, plan: Plan) -> None:
        entries = self.result.diff
        for directory, _ in plan.directories:
            entries.extend(diffs.of_directory(self.root, directory))
        for wanted, differences in plan.files:
            entries.extend(diffs.of_file(self.root, wanted, differences))
        for link, _ in plan.links:
            entries.extend(diffs.of_link(self.root, link))
        entries.extend(diffs.of_removal(path) for path in plan.removals)

    def _next_manifest(self, old: manifests.Manifest, plan: Plan) -> manifests.Manifest:
        files: dict[str, str | None] = dict.fromkeys(sorted(self.desired.declared()))
        for wanted in self.desired.files:
            if wanted.create_only:
                created = wanted.path not in old.files or any(
                    path is wanted for path, _ in plan.files
                )
                files[wanted.path] = wanted.sha256 if created else old.files[wanted.path]
        files.update({path: old.files[path] for path in self.result.kept_paths})
        made = {
            parent
            for path in plan.changed_paths()
            for parent in fs.missing_parents(self.root, path)
        }
        made.update(wanted.path for wanted, found in plan.directories if "created" in found)
        changed = plan.changed_paths() + plan.removals
        return manifests.Manifest(
            name=self.desired.name,
            files=files,
            directories=sorted(made | set(old.directories)),
            pending=self._pending(old.pending, changed),
        )

    def _pending(self, old: manifests.Pending, changed: list[str]) -> manifests.Pending:
        pending = manifests.Pending(daemon_reload=old.daemon_reload)
        pending.daemon_reload |= any(matches_any(path, UNIT_FILES) for path in changed)
        for wanted in self.desired.units:
            for kind, patterns in (("restart", wanted.restart_on), ("reload", wanted.reload_on)):
                asked = any(matches_any(path, list(patterns)) for path in changed)
                if asked or old.units.get(wanted.name) == kind:
                    pending.units[wanted.name] = kind
                    break
        for entry in self.desired.commands:
            asked = any(matches_any(path, entry.when_changed) for path in changed)
            if asked or entry.command in old.commands or self._creates(entry):
                pending.commands.append(entry.command)
        return pending

    def _creates(self, entry: WantedCommand) -> bool:
        return entry.creates is not None and not fs.below(self.root, entry.creates).exists()

    def _apply(self, plan: Plan) -> None:
        for directory, _ in plan.directories:
            fs.make_parents(self.root, directory.path)
            fs.put_directory(self.root, directory, self.ids[directory.path])
        for wanted, differences in plan.files:
            fs.make_parents(self.root, wanted.path)
            upload = self.uploads.get(wanted.path)
            fs.put_file(self.root, wanted, self.ids[wanted.path], differences, upload)
        for link, _ in plan.links:
            fs.make_parents(self.root, link.path)
            fs.put_link(self.root, link)
        for path in plan.removals:
            unit = units.unit_of(path)
            if unit and not fs.below(self.root, path).is_symlink():
                units.retire(unit, self.run)
            fs.remove(self.root, path)

    # What follows from the change

    def _run_commands(self) -> None:
        self.result.commands = list(self.manifest.pending.commands)
        if self.check:
            return
        for command in self.result.commands:
            ended = self.run(command)
            if ended.code != 0:
                said = self.desired.hide_secrets(ended.text())
                raise ConvergeError(
                    f"`{' '.join(command)}` ended with exit code {ended.code}; the next run tries "
                    f"it again.\n{said}"
                )
            self.manifest.pending.commands.remove(command)
            manifests.save(self.root, self.manifest)

    def _converge_units(self) -> None:
        pending, wanted_units = self.manifest.pending, self.desired.units
        names = [wanted.name for wanted in wanted_units]
        statuses = units.show(names, self.run)
        if pending.daemon_reload or any(status.stale for status in statuses.values()):
            self.result.did("daemon_reload", "systemd")
            if not self.check:
                units.reload_daemon(self.run)
                pending.daemon_reload = False
                statuses = units.show(names, self.run)
        todo: list[tuple[str, str]] = []
        for wanted in wanted_units:
            if not self.check:
                units.check_possible(wanted, statuses[wanted.name])
            actions = units.actions_for(
                wanted, statuses[wanted.name], pending.units.get(wanted.name)
            )
            todo.extend((action, wanted.name) for action in actions)
            if not SETTLING & set(actions):
                pending.units.pop(wanted.name, "")
        # Enabling comes first: a unit that fails to start is there again after the next boot.
        first = ("unmask", "enable", "disable")
        for action, name in sorted(todo, key=lambda step: step[0] not in first):
            self.result.did(action, name)
            if self.check:
                continue
            units.act(action, name, self.run, self.desired.hide_secrets)
            if action in SETTLING and pending.units.pop(name, ""):
                manifests.save(self.root, self.manifest)
        if not self.check:
            touched = {name: action for action, name in todo if action in SETTLING - {"stop"}}
            units.check_they_stay_up(touched, self.run, self.desired.hide_secrets)

    # The end

    def _finish(self) -> None:
        self._remove_empty_directories()
        if not self.check and self.manifest != manifests.load(self.root, self.desired.name):
            manifests.save(self.root, self.manifest)

    def _remove_empty_directories(self) -> None:
        """Remove directories that earlier runs made, once nothing declared lies in them."""
        declared = self.desired.declared() | {wanted.path for wanted in self.desired.directories}
        for path in sorted(self.manifest.directories, reverse=True):
            if any(kept == path or kept.startswith(f"{path}/") for kept in declared):
                continue
            place = fs.below(self.root, path)
            if place.is_dir() and any(place.iterdir()):
                continue
            if place.is_dir():
                self.result.removed_paths.append(path)
            if not self.check:
                fs.remove(self.root, path)
                self.manifest.directories.remove(path)
