"""Define where an image comes from, and how it is built: the app's, or that of one service."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from bedstone_control.settings.types import Model, Text


class Source(Model):
    """Where the app's image comes from: exactly one of path, git, image, archive."""

    path: str | None = Field(
        None,
        description="Directory with the app's source on your machine, relative to the inventory's "
        "directory. What git or .dockerignore ignores is left out.",
        examples=["../../app"],
    )
    git: str | None = Field(
        None,
        description="Repository that the server clones; needs `version`. A login in it is a "
        "secret: `https://deploy:${secret.git_token}@git.example.com/team/payments.git`.",
        examples=["https://git.example.com/team/payments.git"],
    )
    git_directory: bool = Field(
        False,
        description="Whether the build of a `path` gets a `.git` with the commit, its history and "
        "its tags, for versions by setuptools-scm or `git describe`.",
        examples=[True],
    )
    host_keys: list[str] = Field(
        default_factory=list,
        description="The public keys of `git`'s server, when that is reached by ssh: all lines "
        "that `ssh-keyscan HOST` prints, compared with those that the server's operator "
        "publishes. The key to log in with is the app's secret `deploy_key`.",
        examples=[["ssh-ed25519 AAAAC3Nza..."]],
    )
    version: Text | None = Field(
        None, min_length=1, description="Tag, branch or commit of `git`.", examples=["v1.4.2"]
    )
    image: str | None = Field(
        None,
        description="Image that the server pulls, with tag or digest.",
        examples=["registry.example.com/team/payments:1.4.2"],
    )
    registry_user: str | None = Field(
        None,
        description="Who logs in to the image's registry; the password is the app's secret "
        "`registry_password`.",
        examples=["deploy"],
    )
    archive: str | None = Field(
        None,
        description="Image archive (`docker save`) on your machine, relative to the inventory's "
        "directory.",
        examples=["../../payments-1.4.2.tar"],
    )


class Build(Model):
    """How the image is built from `source.path` or `source.git`."""

    dockerfile: str | None = Field(
        None,
        description="Dockerfile, from the source's directory; of a `path` it may be outside of "
        "that, too. Without one, a source with a manage.py and "
        "without a Dockerfile gets a default one for Django.",
        examples=["docker/Dockerfile"],
    )
    args: dict[str, Text] = Field(
        default_factory=dict,
        description="Build arguments. The default Dockerfile knows BASE_IMAGE, BUILD_PACKAGES, "
        "RUNTIME_PACKAGES and PIP_INDEX_URL. They stay in the image's history; for a secret there "
        "is `secrets`.",
        examples=[{"BASE_IMAGE": "python:3.13-slim"}],
    )
    secrets: dict[str, Text] = Field(
        default_factory=dict,
        description="Secrets of the build, which are in no layer of the image: "
        "`RUN --mount=type=secret,id=NAME` finds one in /run/secrets/NAME. The default Dockerfile "
        "knows PIP_INDEX_URL.",
        examples=[{"NPM_TOKEN": "${secret.npm_token}"}],
    )
    target: str | None = Field(
        None, min_length=1, description="Stage of the Dockerfile to build.", examples=["production"]
    )


@dataclass(frozen=True)
class Origin:
    """Where an image of an app comes from.

    Attributes:
        service: whose own it is; empty for the app's.
        source: its source.
        build: how it is built.

    """

    service: str
    source: Source
    build: Build

    @property
    def place(self) -> tuple[str, ...]:
        """The place of its settings below those of the app."""
        return ("services", self.service) if self.service else ()

    def secret(self, name: str) -> str:
        """Return the name of one of its logins among the app's secrets.

        A deploy key is for one repository, so a service's own image has another one.
        """
        return f"{self.service.replace('-', '_')}_{name}" if self.service else name
