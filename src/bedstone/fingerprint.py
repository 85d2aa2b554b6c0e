"""Whether a release would change anything: one digest over all that goes into it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from bedstone import container, paths
from bedstone.source import digest_of_file

if TYPE_CHECKING:
    from bedstone.config import App


def of(app: App, identity: str) -> str:
    """Return the digest of an app's description, environment, mounted files and source.

    Raises:
        ConfigError: one of the files can't be read.

    """
    files = [app.environment_file, *(mount.source for mount in app.mounts)]
    if app.migrate_environment_file:
        files.append(app.migrate_environment_file)
    parts = {
        "generation": container.GENERATION,
        "app": json.loads(app.text) if app.text else None,
        "source": identity,
        "files": {name: _digest(name) for name in sorted(set(files))},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _digest(name: str) -> str:
    path = paths.host(name)
    # A mounted directory's contents are the operator's own and change without us.
    return "directory" if path.is_dir() else digest_of_file(path)
