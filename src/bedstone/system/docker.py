"""Call Docker by its command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from bedstone.core import names, paths
from bedstone.core.errors import BedstoneError, CommandError, ConfigError
from bedstone.core.process import Completed, Runner, run
from bedstone.system.container import LABEL_APP
from bedstone.system.entrypoint import swallows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bedstone.system.container import Container

BUILD_SECONDS = 3600.0
PULL_SECONDS = 1800.0
# A build takes what the apps leave: see role docker's bedstone-build.slice.
# Ends the name of the container that an image is looked into with.
LOOK = "look"
_FIRST_WITH_BUILDX = 23
_SECRET = "BEDSTONE_BUILD_SECRET_"  # noqa: S105 - how the names of variables begin
_LONGEST_LINE_BYTES = 60_000
# An image's /etc/passwd may be of any size, this process's memory not.
_LONGEST_TABLE_BYTES = 4 * 1024**2

_BRIDGE_NAME = "com.docker.network.bridge.name"
# Docker 20.10 to 24, and later ones.
_NO_SUCH_PATH = re.compile(r"No such container:path|Could not find the file", re.IGNORECASE)


@dataclass(frozen=True)
class ImageFacts:
    """An image: its id, the user its processes run as, its ENTRYPOINT."""

    id: str
    user: str
    entrypoint: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    """The IPv4 part of a network.

    Attributes:
        subnet: all of its addresses.
        ip_range: those that Docker gives by itself.
        bridge: the interface's name, None for one that Docker chose.
        in_use: whether containers are connected.

    """

    subnet: str
    ip_range: str | None
    bridge: str | None = None
    in_use: bool = False


@dataclass(frozen=True)
class ContainerFacts:
    """A container; ``pid`` is that of its first process."""

    name: str
    running: bool
    exit_code: int
    labels: Mapping[str, str]
    id: str = ""
    pid: int = 0
    stop_signal: str | None = None


class Docker:
    """Docker on this server."""

    def __init__(self, runner: Runner = run) -> None:
        self._run = runner
        # By the images' ids; what an id stands for never changes.
        self._entrypoints: dict[str, tuple[str, ...]] = {}

    # --- images ------------------------------------------------------------------------

    def build(
        self,
        context: Path,
        *,
        dockerfile: str,
        args: Mapping[str, str],
        target: str | None,
        labels: Mapping[str, str],
        secret_args: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        fresh: bool = False,
        on_line: Callable[[str], None] | None = None,
    ) -> str:
        """Build an image and return its id.

        Args:
            context: the directory that is built.
            dockerfile: its Dockerfile, from there.
            args: build arguments, which stay in the image's history.
            target: the stage to build.
            labels: of the image.
            secret_args: build arguments whose values are not to be seen in ``argv``; they go
                before those of the same name.
            secrets: what `RUN --mount=type=secret,id=NAME` finds; no layer holds them.
            fresh: take nothing from earlier builds.
            on_line: is called with each line of the output.

        Raises:
            CommandError: the build failed.
            ConfigError: there are secrets, and no BuildKit, which alone keeps them.

        """
        buildkit = self.has_buildkit()
        if secrets and not buildkit:
            raise ConfigError(
                "The build has secrets, and this server's Docker has no BuildKit.",
                hint="Install it: `apt install docker-buildx`.",
            )
        # Both go by the environment of the docker command itself.
        environment = {"DOCKER_BUILDKIT": "1" if buildkit else "0", **(secret_args or {})}
        environment |= {f"{_SECRET}{name}": text for name, text in (secrets or {}).items()}
        with tempfile.TemporaryDirectory(prefix="bedstone-build-") as temporary:
            id_file = Path(temporary) / "id"
            argv = [
                "docker",
                "build",
                "--iidfile",
                str(id_file),
                "--file",
                str(context / dockerfile),
            ]
            for name, value in sorted(args.items()):
                hidden = secret_args is not None and name in secret_args
                argv += ["--build-arg", name if hidden else f"{name}={value}"]
            for name in sorted(secrets or {}):
                argv += ["--secret", f"id={name},env={_SECRET}{name}"]
            for name, value in sorted(labels.items()):
                argv += ["--label", f"{name}={value}"]
            argv += ["--cgroup-parent", names.BUILD_SLICE]
            if target:
                argv += ["--target", target]
            if fresh:
                argv += ["--pull", "--no-cache"]
            self._run(
                [*argv, str(context)],
                timeout=BUILD_SECONDS,
                env=environment,
                on_line=on_line,
            )
            return id_file.read_text(encoding="utf-8").strip()

    def has_buildkit(self) -> bool:
        """Return whether BuildKit can be used: from Docker 23 on it needs the buildx plugin."""
        version = self._run(["docker", "version", "--format", "{{.Client.Version}}"]).stdout.strip()
        major = version.partition(".")[0]
        if major.isdigit() and int(major) < _FIRST_WITH_BUILDX:
            return True
        return self._run(["docker", "buildx", "version"], check=False).returncode == 0

    def pull(self, reference: str, config: str | None = None) -> None:
        """Pull an image, with the logins in the directory ``config`` if one is given."""
        self._run(
            ["docker", *(["--config", config] if config else []), "pull", "--quiet", reference],
            timeout=PULL_SECONDS,
        )

    def login(self, config: str, server: str, username: str, password: str) -> None:
        """Log in to a registry; the login is kept in the directory ``config`` alone."""
        self._run(
            ["docker", "--config", config, "login", "--username", username, "--password-stdin"]
            + ([server] if server else []),
            input_text=password,
        )

    def load(self, archive: Path) -> str:
        """Load an archive of `docker save` and return the name or id of its image.

        Raises:
            BedstoneError: it holds no image, or more than one.

        """
        names = self.load_all(archive)
        if len(names) != 1:
            raise BedstoneError(
                f"{archive} holds {len(names)} images; one is needed.",
                hint="Make it by `docker save NAME:TAG`, with one name.",
                details="\n".join(names),
            )
        return names[0]

    def load_all(self, archive: Path) -> list[str]:
        """Load an archive of `docker save` and return the names or ids of its images."""
        output = self._run(["docker", "load", "--input", str(archive)], timeout=PULL_SECONDS).stdout
        return [
            line.partition(": ")[2].strip()
            for line in output.splitlines()
            if line.startswith(("Loaded image: ", "Loaded image ID: "))
        ]

    def save(self, names: Sequence[str], target: Path) -> None:
        """Write images into a file, as :meth:`load` takes it."""
        argv = ["docker", "image", "save", "--output", str(target), *names]
        self._run(argv, timeout=BUILD_SECONDS)

    def image_size(self, reference: str) -> int | None:
        """Return the bytes of an image, or None when it isn't here."""
        found = self._inspect("image", reference)
        return None if found is None else int(found["Size"])

    def image(self, reference: str) -> ImageFacts | None:
        """Return what is known of an image, or None when it isn't here."""
        found = self._inspect("image", reference)
        if found is None:
            return None
        told = found.get("Config") or {}
        entrypoint = tuple(told.get("Entrypoint") or ())
        self._entrypoints[found["Id"]] = entrypoint
        return ImageFacts(found["Id"], str(told.get("User") or ""), entrypoint)

    def layer_dates(self, image: str) -> list[datetime]:
        """Return when each layer of an image was made, the newest first, the lowest last."""
        said = self._run(
            ["docker", "history", "--no-trunc", "--format", "{{.CreatedAt}}", image], timeout=15
        ).stdout
        found = []
        for line in said.split():
            with suppress(ValueError):
                found.append(datetime.fromisoformat(line))
        return found

    def tag(self, image: str, name: str) -> None:
        """Give an image a name."""
        self._run(["docker", "tag", image, name])

    def untag(self, name: str) -> None:
        """Take a name away; the image goes with its last one, unless a container uses it."""
        self._run(["docker", "image", "rm", name], check=False, timeout=300)

    def tags(self, repository: str) -> list[str]:
        """Return the tags of a repository that are on this server."""
        output = self._run(["docker", "image", "ls", "--format", "{{.Tag}}", repository]).stdout
        return [line for line in output.split() if line != "<none>"]

    def image_ids(self, repository: str) -> dict[str, str]:
        """Return the tags of a repository that are on this server, and their images' ids."""
        output = self._run(
            ["docker", "image", "ls", "--no-trunc", "--format", "{{.Tag}} {{.ID}}", repository]
        ).stdout
        rows = (line.split() for line in output.splitlines())
        return {row[0]: row[1] for row in rows if len(row) == 2 and row[0] != "<none>"}  # noqa: PLR2004

    def names(self, repository: str) -> list[tuple[str, str]]:
        """Return all names of a repository's images on this server, each with the image's id."""
        shown = ["--no-trunc", "--digests", "--format", "{{.Tag}} {{.Digest}} {{.ID}}"]
        output = self._run(["docker", "image", "ls", *shown, repository]).stdout
        found = []
        for tag, digest, image in (line.split() for line in output.splitlines()):
            # A name without a tag is what was pulled by its digest, or has lost its tag.
            if tag != "<none>":
                found.append((f"{repository}:{tag}", image))
            elif digest != "<none>":
                found.append((f"{repository}@{digest}", image))
        return found

    def image_sizes(self) -> list[dict[str, str]]:
        """Return every image with its sizes in Docker's words: UniqueSize, SharedSize, ID."""
        output = self._run(
            ["docker", "system", "df", "--verbose", "--format", "{{json .Images}}"], timeout=30
        ).stdout
        return list(json.loads(output) or [])

    def volumes(self, image: str) -> list[str]:
        """Return the directories that an image's Dockerfiles name as `VOLUME`."""
        found = self._inspect("image", image) or {}
        return sorted((found.get("Config") or {}).get("Volumes") or {})

    def remove_dangling(self, label: str) -> None:
        """Remove images that have a label and no name and that no container uses."""
        self._run(
            ["docker", "image", "prune", "--force", "--filter", f"label={label}"],
            check=False,
            timeout=300,
        )

    def copy_out(
        self, image: str, path: str, target: Path, *, app: str, missing_ok: bool = False
    ) -> None:
        """Copy what is below a path in an image of an app into a directory, owned by root.

        Args:
            image: which one.
            path: a directory in it.
            target: an existing directory.
            app: whose it is.
            missing_ok: copy nothing when the image has no such path.

        """
        with self._laid_open(image, app) as container:
            try:
                self._run(["docker", "cp", f"{container}:{path}/.", str(target)], timeout=600)
            except CommandError as error:
                if not (missing_ok and _NO_SUCH_PATH.search(error.details or "")):
                    raise

    def added(self, container: str) -> list[str]:
        """Return the paths that were added to a container's own file system; none if it is gone."""
        done = self._run(["docker", "diff", container], check=False)
        if done.returncode != 0:
            return []
        return [line[2:] for line in done.stdout.splitlines() if line.startswith("A ")]

    @contextmanager
    def _laid_open(self, image: str, app: str) -> Iterator[str]:
        """Make a container that never runs, to look into an image; it has a name to be found by."""
        name = names.command_container(app, LOOK)
        # Left by a process that was killed: only the holder of the app's lock removes containers.
        self.remove(name)
        label = f"{LABEL_APP}={app}"
        self._run(["docker", "create", "--name", name, "--label", label, image, "none"])
        try:
            yield name
        finally:
            self.remove(name)

    def ids(self, image: str, user: str, *, app: str) -> tuple[int, int]:
        """Return the numeric user and group that ``user`` is in an image of an app.

        Read from the image's own /etc/passwd and /etc/group, so that nothing
        has to run in it.

        Raises:
            BedstoneError: the image has no such user or group.

        """
        name, _, group = user.partition(":")
        if not name:
            return 0, 0
        if name.isdigit() and group.isdigit():
            return int(name), int(group)
        with self._laid_open(image, app) as container:
            users = self._table(container, "/etc/passwd")
            groups = self._table(container, "/etc/group")
        entry = next((row for row in users if row[0] == name or row[2] == name), None)
        if entry is None and not name.isdigit():
            raise BedstoneError(
                f"The image runs as {name!r}, but its /etc/passwd has no such user.",
                hint="Create the user in the Dockerfile, or name it by number: `USER 10001:10001`.",
            )
        uid = int(name) if entry is None else int(entry[2])
        if not group:
            return uid, 0 if entry is None else int(entry[3])
        if group.isdigit():
            return uid, int(group)
        found = next((row for row in groups if row[0] == group), None)
        if found is None:
            raise BedstoneError(f"The image's /etc/group has no group {group!r}.")
        return uid, int(found[2])

    def _table(self, container: str, path: str) -> list[list[str]]:
        # `docker cp CONTAINER:PATH -` writes a tar to standard output.
        with tempfile.TemporaryFile() as archive:
            done = self._run(
                ["docker", "cp", "--follow-link", f"{container}:{path}", "-"],
                stdout=archive,
                check=False,
            )
            if done.returncode != 0:
                return []
            archive.seek(0)
            with tarfile.open(fileobj=archive) as tar:
                for member in tar:
                    content = tar.extractfile(member)
                    if content is not None:
                        text = content.read(_LONGEST_TABLE_BYTES).decode("utf-8", "replace")
                        rows = [line.split(":") for line in text.splitlines()]
                        # Name, x, id, ...
                        return [row for row in rows if len(row) >= 3 and row[2].isdigit()]  # noqa: PLR2004
        return []

    # --- containers --------------------------------------------------------------------

    def container(self, name: str) -> ContainerFacts | None:
        """Return what is known of a container, or None when there is none of that name.

        Raises:
            CommandError: Docker doesn't answer.

        """
        found = self._inspect("container", name)
        if found is None:
            return None
        state = found["State"]
        told = found.get("Config") or {}
        return ContainerFacts(
            name,
            bool(state["Running"]),
            int(state["ExitCode"]),
            told.get("Labels") or {},
            id=str(found.get("Id") or ""),
            pid=int(state.get("Pid") or 0),
            stop_signal=told.get("StopSignal"),
        )

    def start(self, container: Container) -> None:
        """Start a container in the background."""
        with _environment_file(container) as (arguments, variables):
            self._run(
                ["docker", "run", "--detach", *arguments, *self._arguments(container)],
                timeout=120,
                env=variables,
            )

    def run_once(
        self,
        container: Container,
        *,
        timeout: float,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run a container until it ends, and remove it, whatever happens.

        Raises:
            CommandError: its command failed, or took longer than ``timeout`` seconds.

        """
        with _environment_file(container) as (arguments, variables):
            try:
                return self._run(
                    ["docker", "run", "--rm", *arguments, *self._arguments(container)],
                    timeout=timeout,
                    env=variables,
                    on_line=on_line,
                )
            except BaseException:
                # Ending the docker command leaves its container running.
                self.remove(container.name)
                raise

    def run_in(self, name: str, command: Sequence[str], *, timeout: float) -> str:
        """Run a command in a running container; return why it failed, nothing when it succeeded."""
        try:
            self._run(["docker", "exec", name, *command], timeout=timeout)
        except CommandError as error:
            last = (error.details or "").strip().rpartition("\n")[2]
            ended = (
                f"took longer than {timeout:g} seconds"
                if error.returncode is None
                else f"ended with exit code {error.returncode}"
            )
            return f"`{' '.join(command)}` {ended}" + (f" ({last})" if last else "")
        return ""

    def run_attached(self, container: Container, *, terminal: bool) -> int:
        """Run a container on this process's own terminal and return its exit code."""
        with _environment_file(container) as (arguments, variables):
            argv = ["docker", "run", "--rm", "--interactive", *(["--tty"] if terminal else [])]
            return subprocess.call(
                [*argv, *arguments, *self._arguments(container)], env={**os.environ, **variables}
            )

    def _arguments(self, container: Container) -> list[str]:
        """Return the arguments of `docker run`; a one-off command has no ENTRYPOINT to hold it."""
        if container.one_off and swallows(self._entrypoint(container.image)):
            return ["--entrypoint", "", *container.arguments()]
        return container.arguments()

    def _entrypoint(self, image: str) -> tuple[str, ...]:
        if image in self._entrypoints:
            return self._entrypoints[image]
        # Whatever is wrong with Docker, the run itself says.
        with suppress(CommandError):
            facts = self.image(image)
            return () if facts is None else facts.entrypoint
        return ()

    def remove(self, *containers: str, timeout: float = 60) -> None:
        """Remove containers, running or not, if they are there, with their volumes without a name.

        Args:
            containers: their names.
            timeout: seconds to wait for dockerd.

        """
        if containers:
            argv = ["docker", "rm", "--force", "--volumes", *containers]
            self._run(argv, check=False, timeout=timeout)

    def containers(self, *labels: str) -> list[str]:
        """Return the names of all containers that have all of the labels."""
        filters = [part for label in labels for part in ("--filter", f"label={label}")]
        output = self._run(["docker", "ps", "--all", "--format", "{{.Names}}", *filters]).stdout
        return output.split()

    def pids(self, *labels: str) -> dict[str, int]:
        """Return the first process of each running container that has all of the labels."""
        filters = [part for label in labels for part in ("--filter", f"label={label}")]
        found = self._run(["docker", "ps", "--quiet", *filters]).stdout.split()
        if not found:
            return {}
        form = "{{.Name}} {{.State.Pid}}"
        # One that has ended since makes it fail, after it has printed the others.
        shown = self._run(["docker", "inspect", "--format", form, *found], check=False).stdout
        pairs = (line.rsplit(" ", 1) for line in shown.splitlines() if " " in line)
        return {name.removeprefix("/"): int(pid) for name, pid in pairs if pid != "0"}

    def oom_kills(self, label: str, since: float, until: float) -> list[dict[str, str]]:
        """Return the labels of each container that the kernel took a process of, for its memory.

        dockerd remembers its last 256 events, and none from before its own start.

        Args:
            label: of the containers.
            since: seconds since 1970.
            until: seconds since 1970.

        """
        output = self._run(
            [
                *("docker", "events", "--format", "{{json .Actor.Attributes}}"),
                *("--since", f"{since:.3f}", "--until", f"{until:.3f}"),
                *("--filter", "type=container", "--filter", "event=oom"),
                *("--filter", f"label={label}"),
            ]
        ).stdout
        return [dict(json.loads(line)) for line in output.splitlines()]

    def environment_values(self, *labels: str) -> list[str]:
        """Return the values of all variables of the running containers that have the labels."""
        found: list[str] = []
        for name in self.containers(*labels):
            facts = self._inspect("container", name)
            if facts is not None and facts["State"]["Running"]:
                lines = (facts.get("Config") or {}).get("Env") or []
                found += [line.partition("=")[2] for line in lines]
        return found

    # --- networks ----------------------------------------------------------------------

    def network(self, name: str) -> Network | None:
        """Return a network's IPv4 part, or None when there is no such network."""
        found = self._inspect("network", name)
        if found is None:
            return None
        for entry in found["IPAM"]["Config"] or []:
            if ":" not in str(entry["Subnet"]):
                bridge = (found.get("Options") or {}).get(_BRIDGE_NAME)
                in_use = bool(found.get("Containers"))
                return Network(str(entry["Subnet"]), entry.get("IPRange"), bridge, in_use)
        return None

    def create_network(
        self,
        name: str,
        *,
        labels: Mapping[str, str],
        subnet: str | None,
        ip_range: str | None,
        bridge: str,
    ) -> None:
        """Make a bridge network; without a subnet Docker takes a free one of its pools."""
        argv = ["docker", "network", "create", "--driver", "bridge"]
        argv += ["--opt", f"{_BRIDGE_NAME}={bridge}"]
        if subnet:
            argv += ["--subnet", subnet]
        if ip_range:
            argv += ["--ip-range", ip_range]
        for label, value in sorted(labels.items()):
            argv += ["--label", f"{label}={value}"]
        self._run([*argv, name])

    def remove_network(self, name: str) -> None:
        """Remove a network that no container uses, if it is there."""
        self._run(["docker", "network", "rm", name], check=False)

    def _inspect(self, kind: str, name: str) -> dict[str, Any] | None:
        done = self._run(["docker", kind, "inspect", name], check=False)
        if done.returncode == 0:
            return dict(json.loads(done.stdout)[0])
        if "no such" in done.stderr.lower() or "not found" in done.stderr.lower():
            return None
        raise CommandError(
            f"Docker doesn't answer (`docker {kind} inspect {name}` failed).",
            returncode=done.returncode,
            output=done.stderr,
        )


def environment_prefix(container: str) -> str:
    """Return how the names of a container's short-lived environment files begin."""
    # A dot is in no name: `web-blue` and `web` are distinguished.
    return f"environment-{container}."


def become_exec(container: str, command: Sequence[str], *, terminal: bool) -> NoReturn:
    """Become `docker exec` of a command in a running container."""
    argv = ["docker", "exec", "--interactive", *(["--tty"] if terminal else [])]
    os.execvp("docker", [*argv, container, *command])  # noqa: S606 - no shell is needed


class _environment_file:  # noqa: N801 - reads as a function at its uses
    """Hand an environment to `docker run`: by a file that lives as long as the call.

    Docker's format has no line breaks in values, drops a carriage return at their end, and ends
    at lines of 64 KiB, so such variables go by the environment of the docker command itself
    (`--env NAME`). Neither way shows a value in ``argv``.
    """

    def __init__(self, container: Container) -> None:
        self._environment = container.environment
        self._prefix = environment_prefix(container.name)
        self._path: Path | None = None

    def __enter__(self) -> tuple[list[str], dict[str, str]]:
        broken = {
            name: value
            for name, value in self._environment.items()
            if "\n" in value
            or value.endswith("\r")
            or len(f"{name}={value}".encode()) >= _LONGEST_LINE_BYTES
        }
        directory = paths.ensure_private(paths.runtime())
        # A container of this name is started once at a time: what is there, a kill has left.
        for left in directory.glob(f"{self._prefix}*"):
            left.unlink(missing_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=self._prefix, dir=directory)
        self._path = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.writelines(
                f"{name}={value}\n"
                for name, value in sorted(self._environment.items())
                if name not in broken
            )
        arguments = ["--env-file", name]
        for variable in sorted(broken):
            arguments += ["--env", variable]
        return arguments, broken

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
