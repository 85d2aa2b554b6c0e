"""Hold the parts of the server that an operation moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bedstone.core.process import Runner, run
from bedstone.system import http_check, nginx
from bedstone.system.docker import Docker
from bedstone.system.systemd import Systemd


@dataclass
class Host:
    """The server's parts that a release moves; tests put fakes in their place."""

    run: Runner = run
    front_door: Callable[[str, str, int], http_check.Answer] = http_check.front_door
    docker: Docker = field(init=False)
    systemd: Systemd = field(init=False)
    nginx: nginx.Nginx = field(init=False)

    def __post_init__(self) -> None:
        self.docker = Docker(self.run)
        self.systemd = Systemd(self.run)
        self.nginx = nginx.Nginx(self.run, self.systemd)
