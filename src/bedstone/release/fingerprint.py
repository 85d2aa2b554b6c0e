"""Compute the digests that show whether a release would change anything."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedstone.apps import environment, source_secrets
from bedstone.core import paths
from bedstone.release.source import digest_of_file
from bedstone.system import container

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedstone.apps.config import App


@dataclass(frozen=True)
class Fingerprint:
    """The digests of a release.

    Attributes:
        whole: of all it is made of: description, environment, mounted files, source.
        declared: the same without the values of secrets: what the operator decided on.
        builds: of what each image is built from, or None when it isn't built here; the app's
            as ``""``, others by their service.

    """

    whole: str
    declared: str
    builds: Mapping[str, str | None]

    @property
    def build(self) -> str | None:
        """The digest of what the app's own image is built from."""
        return self.builds[""]


def compute(app: App, identities: Mapping[str, str]) -> Fingerprint:
    """Return the digests of what would be released now.

    Args:
        app: as declared.
        identities: of its sources, by :func:`bedstone.release.source.identify_all`.

    Raises:
        ConfigError: one of the files can't be read.

    """
    environments = set(app.environment_files.values())
    files = sorted({*environments, *(mount.source for mount in app.mounts)})
    parts: dict[str, Any] = {
        "generation": container.GENERATION,
        "app": _described(app),
        "source": identities[""],
        "files": {name: _digest(name) for name in files},
    }
    if further := {service: text for service, text in identities.items() if service}:
        # Left out where there are none: releases of earlier versions are the same.
        parts["sources"] = further
    without_secrets = {
        **parts,
        "files": {
            name: _without_secrets(app, name) if name in environments else digest
            for name, digest in parts["files"].items()
        },
    }
    secret_args = {
        service: dict(source_secrets.load(app.name, service).args) for service in app.images
    }
    args = secret_args.pop("")
    whole = {**parts, "args": args} if args else parts
    if any(secret_args.values()):
        whole = {**whole, "service_args": secret_args}
    builds = {service: _build(app, service, identities[service]) for service in app.images}
    return Fingerprint(_hash(whole), _hash(without_secrets), builds)


def _described(app: App) -> dict[str, Any] | None:
    """Return what app.json says, without the login: that is one of the environment's secrets."""
    if not app.text:
        return None
    described: dict[str, Any] = json.loads(app.text)
    if described.get("database"):
        described["database"].pop("login", None)
    return described


def _build(app: App, service: str, identity: str) -> str | None:
    image = app.images[service]
    if image.kind not in {"build", "git"}:
        return None
    # The build's secrets are left out, as BuildKit leaves them out: they don't show in the image.
    args = {**image.args, **source_secrets.load(app.name, service).args}
    return _hash([identity, image.dockerfile, args, image.target])


def _digest(name: str) -> str:
    path = paths.host(name)
    # A mounted directory's contents are the operator's own and change without us.
    return "directory" if path.is_dir() else digest_of_file(path)


def _without_secrets(app: App, name: str) -> dict[str, str]:
    variables = environment.load(paths.host(name))
    rotating = app.rotating_variables
    return {key: "" if key in rotating else value for key, value in variables.items()}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
