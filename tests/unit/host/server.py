"""A server that exists in memory: it answers docker, systemctl, nginx and journalctl."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from bedstone.core import paths
from bedstone.core.errors import CommandError
from bedstone.core.process import Completed
from bedstone.release.context import Host
from bedstone.system.http_check import Answer

Answered = tuple[int, str, str]
DONE: Answered = (0, "", "")
IMAGE = "sha256:" + "1" * 64
SUBNET = "172.20.0.0/24"
APP: dict[str, Any] = {
    "schema": 1,
    "name": "shop",
    "domains": ["shop.example.com"],
    "image": {
        "kind": "build",
        "archive": "/var/lib/bedstone/apps/shop/source.tar.gz",
        "dockerfile": "Dockerfile",
        "args": {"BASE_IMAGE": "python"},
        "target": None,
        "default_dockerfile": False,
    },
    "services": {
        "web": {"command": ["serve"], "port": 8000, "route": "/", "health": "/health/"},
        "api": {"command": ["api"], "port": 9000, "route": "/api/", "health": None},
        "worker": {"command": ["work"], "port": None, "replicas": 2},
    },
    "commands": {
        "check": [["manage", "check"]],
        "migrate": [["manage", "migrate"]],
        "static": [["manage", "collect"]],
    },
    "environment_file": "/etc/bedstone/apps/shop/app.env",
    "migrate_environment_file": "/etc/bedstone/apps/shop/migrate.env",
    "network": "bedstone-shop",
    "hosts": {"postgres": "172.17.0.1"},
    "mounts": [{"source": "/etc/bedstone/tls/ca.crt", "target": "/run/bedstone/ca.crt"}],
    "static": {"path": "/app/static", "url": "/static/"},
    "media": {"path": "/app/media", "url": "/media/"},
    "user": None,
    "read_only": True,
    "tmpfs": ["/tmp"],
    "database": None,
}


class Server:
    """Keeps images, containers, units; `broken` holds what fails, by name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[list[str]] = []
        self.inputs: list[str] = []
        self.environments: list[Mapping[str, str]] = []
        self.broken: set[str] = set()
        self.good: set[str | None] = set()
        self.images: dict[str, str] = {}
        self.registry: dict[str, str] = {}
        self.networks: dict[str, str] = {}
        self.ip_ranges: dict[str, str] = {}
        self.active: set[str] = set()
        self.enabled: set[str] = set()
        self.removed_containers: list[str] = []
        self.in_image = ["copied.css"]
        self.left_running: set[str] = set()
        self.variables: dict[str, list[str]] = {}
        self.synced: dict[str, list[str]] = {}
        self.reloads: list[dict[str, str]] = []
        self.journal = ""
        self.front_status = 200
        self.front_doors: list[tuple[str, str]] = []
        self.builds = 0
        self.volumes: dict[str, dict[str, str]] | None = None
        self.during: dict[str, Callable[[], None]] = {}

    # --- what the program sees -----------------------------------------------------------

    def host(self) -> Host:
        return Host(run=self.run, front_door=self.front_door)

    def front_door(self, domain: str, path: str, port: int) -> Answer:
        assert port == 443
        self.front_doors.append((domain, path))
        status = 500 if "front door" in self.broken else self.front_status
        said = f"https://{domain}{path} answered {status}"
        return Answer(status not in {400, 500}, said, status)

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float | None = 60,  # noqa: ARG002
        check: bool = True,
        input_text: str | None = None,
        env: Mapping[str, str] | None = None,  # noqa: ARG002
        cwd: str | None = None,  # noqa: ARG002
        stdin: IO[bytes] | None = None,  # noqa: ARG002
        stdout: IO[bytes] | None = None,
        on_line: Callable[[str], None] | None = None,  # noqa: ARG002
    ) -> Completed:
        words = list(argv)
        self.calls.append(words)
        if input_text is not None:
            self.inputs.append(input_text)
        code, out, err = self.answer(words, stdout)
        if check and code != 0:
            raise CommandError(f"`{' '.join(words)}` failed", returncode=code, output=err or out)
        return Completed(tuple(words), code, out, err, 0.0)

    def answer(self, words: list[str], stdout: IO[bytes] | None) -> Answered:
        """Call the method that plays the program: `docker image ls` is docker_image_ls."""
        program, *rest = words
        if program == "systemctl":
            verb, *units = [word for word in rest if not word.startswith("--")]
            return self.systemctl(verb, units)
        if program == "systemd-run":
            return (1, "", "no such bus") if "systemd-run" in self.broken else DONE
        if program == "docker" and rest[0] in {"image", "network"}:
            program, rest = f"docker_{rest[0]}", rest[1:]
        if program in {"nginx", "journalctl", "tar", "sync"}:
            method: Callable[..., Answered] = getattr(self, program)
            return method(words)
        method = getattr(self, f"{program}_{rest[0]}", self.unknown)
        return method(rest[1:], stdout) if rest[0] == "cp" else method(rest[1:])

    def unknown(self, rest: list[str]) -> Answered:
        raise AssertionError(f"nobody told the server what to answer: {self.calls[-1]} {rest}")

    def tar(self, words: list[str]) -> Answered:
        subprocess.run(words, check=True)
        return DONE

    def sync(self, words: list[str]) -> Answered:
        directory = Path(words[-1])
        self.synced[directory.name] = sorted(path.name for path in directory.iterdir())
        return (1, "", "sync: Input/output error") if "disk" in self.broken else DONE

    def nginx(self, _words: list[str]) -> Answered:
        return (1, "", "nginx: unknown directive") if "nginx" in self.broken else DONE

    def journalctl(self, _words: list[str]) -> Answered:
        return 0, self.journal, ""

    def docker_version(self, _rest: list[str]) -> Answered:
        return 0, "20.10.24\n", ""

    def docker_image_inspect(self, rest: list[str]) -> Answered:
        found = self.images.get(rest[0]) or (rest[0] if rest[0] in self.images.values() else None)
        if found is None:
            return 1, "[]", f"Error: No such image: {rest[0]}"
        return (
            0,
            json.dumps([{"Id": found, "Config": {"User": "web", "Volumes": self.volumes}}]),
            "",
        )

    def docker_tag(self, rest: list[str]) -> Answered:
        self.images[rest[1]] = rest[0]
        return DONE

    def docker_pull(self, rest: list[str]) -> Answered:
        self.images[rest[-1]] = self.registry.get(rest[-1], IMAGE)
        return DONE

    def docker_load(self, _rest: list[str]) -> Answered:
        self.images["shop:loaded"] = IMAGE
        return 0, "Loaded image: shop:loaded\n", ""

    def docker_image_rm(self, rest: list[str]) -> Answered:
        return DONE if self.images.pop(rest[0], None) else (1, "", "No such image")

    def docker_image_ls(self, rest: list[str]) -> Answered:
        found = [n.split(":")[1] for n in self.images if n.startswith(f"{rest[-1]}:")]
        if "--digests" in rest:
            found = [f"{tag} <none> {self.images[f'{rest[-1]}:{tag}']}" for tag in found]
        return 0, "\n".join(found), ""

    def docker_image_prune(self, _rest: list[str]) -> Answered:
        return DONE

    def docker_ps(self, _rest: list[str]) -> Answered:
        return 0, "\n".join(["bedstone-shop-web-blue", *sorted(self.left_running)]), ""

    def docker_container(self, rest: list[str]) -> Answered:
        if rest[1] not in self.variables:
            return 1, "[]", f"Error: No such container: {rest[1]}"
        told = {"State": {"Running": True}, "Config": {"Env": self.variables[rest[1]]}}
        return 0, json.dumps([told]), ""

    def docker_cp(self, rest: list[str], stdout: IO[bytes] | None) -> Answered:
        source = rest[-2]
        if stdout is None and not self.in_image:
            return 1, "", f"Error response from daemon: Could not find the file {source}"
        if stdout is None:
            for name in self.in_image:
                (Path(rest[-1]) / name).write_text("body {}")
        else:
            text = "root:x:0:0::/:/bin/sh\nweb:x:10001:10002::/:/bin/sh\n"
            write_tar(stdout, source.rpartition("/")[2], text)
        return DONE

    def docker_create(self, _rest: list[str]) -> Answered:
        return 0, "0123abcd\n", ""

    def docker_rm(self, rest: list[str]) -> Answered:
        self.removed_containers.append(rest[-1])
        self.left_running.discard(rest[-1])
        return DONE

    def docker_network_inspect(self, rest: list[str]) -> Answered:
        if rest[0] not in self.networks:
            return 1, "[]", f"Error: No such network: {rest[0]}"
        config = {"Subnet": self.networks[rest[0]]}
        if rest[0] in self.ip_ranges:
            config["IPRange"] = self.ip_ranges[rest[0]]
        return 0, json.dumps([{"IPAM": {"Config": [config]}}]), ""

    def docker_network_create(self, rest: list[str]) -> Answered:
        subnet = rest[rest.index("--subnet") + 1] if "--subnet" in rest else SUBNET
        self.networks[rest[-1]] = subnet
        self.ip_ranges.pop(rest[-1], None)
        if "--ip-range" in rest:
            self.ip_ranges[rest[-1]] = rest[rest.index("--ip-range") + 1]
        return DONE

    def docker_network_rm(self, rest: list[str]) -> Answered:
        self.networks.pop(rest[0], None)
        return DONE

    def docker_build(self, rest: list[str]) -> Answered:
        id_file = Path(rest[rest.index("--iidfile") + 1])
        if "build" in self.broken:
            return 1, "", "no space left on device"
        self.builds += 1
        image = f"sha256:{self.builds:064d}"
        self.images[f"<none>:{self.builds}"] = image
        id_file.write_text(image)
        return DONE

    def docker_run(self, rest: list[str]) -> Answered:
        whole = rest[rest.index("--name") + 1]
        if whole in self.left_running:
            return 125, "", f"docker: Conflict. The container name {whole} is already in use."
        name = whole.rpartition("-")[2]
        file = Path(rest[rest.index("--env-file") + 1])
        self.environments.append(
            {"": name, "file": file.read_text(), "mode": oct(file.stat().st_mode)}
        )
        if name in self.during:
            self.during[name]()
        if name in self.broken:
            return 1, "starting\n", f"{name}: it is broken"
        if name == "static":
            mount = next(w for w in rest if w.endswith("target=/app/static"))
            source = mount.split("source=")[1].split(",")[0]
            (Path(source) / "site.css").write_text("body {}")
        return DONE

    def systemctl(self, verb: str, units: list[str]) -> Answered:
        if verb == "show":
            return 0, self.show(units[1:]), ""
        if verb in {"start", "restart"}:
            if verb == "restart":
                self.active -= set(units)
            self.active |= {unit for unit in units if not self.fails(unit)}
            if any(self.fails(unit) for unit in units):
                return 1, "", "Job failed. See journalctl."
        elif verb == "stop":
            self.active -= set(units)
        elif verb == "enable":
            self.enabled |= set(units)
        elif verb == "disable":
            self.enabled -= set(units)
        elif verb == "reload":
            if "reload" in self.broken:
                return 1, "", "reload failed"
            self.reloads.append(self.upstreams())
        return DONE

    def fails(self, unit: str) -> bool:
        """Say whether a unit is broken; what ran well before still does."""
        key = unit.removeprefix("bedstone-shop-").removesuffix(".service")
        path = self.root / f"var/lib/bedstone/apps/shop/slots/{key}.json"
        release = json.loads(path.read_text())["release"] if path.exists() else None
        return release not in self.good and any(word in unit for word in self.broken)

    def show(self, units: list[str]) -> str:
        return "\n\n".join(
            f"Id={unit}\nActiveState={'active' if unit in self.active else 'inactive'}\n"
            f"SubState=running\nUnitFileState={'enabled' if unit in self.enabled else 'disabled'}"
            for unit in units
        )

    # --- what tests look at ----------------------------------------------------------------

    def upstreams(self) -> dict[str, str]:
        """Return where nginx sends the requests of each service now."""
        directory = self.root / "etc/nginx/bedstone/upstreams"
        result = {}
        for path in directory.iterdir():
            app = path.stem.partition("-")[0]
            link = self.root / "etc/nginx/bedstone/serving" / app
            name = f"{path.stem}-{link.readlink().name}" if link.is_symlink() else path.stem
            block = path.read_text().partition(f"upstream {name} {{")[2]
            result[path.stem] = block.partition("server ")[2].partition(";")[0]
        return result

    def slots(self) -> set[str]:
        directory = self.root / "var/lib/bedstone/apps/shop/slots"
        return {path.stem for path in directory.glob("*.json")}

    def serves(self) -> dict[str, str]:
        """Return the release in each slot that is running."""
        directory = self.root / "var/lib/bedstone/apps/shop/slots"
        return {
            path.stem: json.loads(path.read_text())["release"]
            for path in sorted(directory.glob("*.json"))
            if f"bedstone-shop-{path.stem}.service" in self.active
        }

    def static(self) -> str | None:
        link = self.root / "srv/bedstone/shop/static/current"
        return str(link.readlink()) if link.is_symlink() else None


def write_tar(target: IO[bytes], name: str, text: str) -> None:
    with tarfile.open(fileobj=target, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text.encode()))


def declare(server: Server, *, app: dict[str, Any] | None = None, source: str = "one") -> None:
    """Put an app's files on the server, as role app does."""
    config = APP if app is None else app
    directory = paths.apps_config() / config["name"]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "app.json").write_text(json.dumps(config))
    (directory / "app.env").write_text('SECRET=tell-nobody\nCERTIFICATE="a\\nb"\n')
    (directory / "migrate.env").write_text("SECRET=tell-nobody\nROLE=migrate\n")
    state = paths.app_state(config["name"])
    state.mkdir(parents=True, exist_ok=True)
    with tarfile.open(state / "source.tar.gz", "w") as tar:
        for name, text in (("Dockerfile", "FROM x"), ("version", source)):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    for path in ("etc/nginx/bedstone/upstreams", "etc/bedstone/tls"):
        (server.root / path).mkdir(parents=True, exist_ok=True)
    (server.root / "etc/bedstone/tls/ca.crt").write_text("certificate")
