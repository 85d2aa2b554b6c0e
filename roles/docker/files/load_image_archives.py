#!/usr/bin/python3
"""Load image archives into Docker, those whose images it doesn't have.

    load-image-archives ARCHIVE...

An archive names its images and the digest of each one's configuration, which is Docker's id of
the image: nothing is unpacked to see whether it is there. Prints `loaded ARCHIVE` for each one
that was not.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path


def images_in(archive: Path) -> dict[str, str]:
    """Return the id of each image by its name; an image without a name stands under its id.

    Raises:
        ValueError: this is no image archive.

    """
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile("manifest.json")
            manifest = json.load(member) if member else []
    except (KeyError, tarfile.TarError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{archive} is no image archive (`docker save` makes one): {error}"
        ) from error
    images = {}
    for entry in manifest:
        digest = Path(entry["Config"]).name.removesuffix(".json")
        image_id = f"sha256:{digest}"
        for name in entry.get("RepoTags") or [image_id]:
            images[name] = image_id
    return images


def present_id(name: str) -> str | None:
    """Return the id of the image Docker has under a name, if any."""
    command = ["docker", "image", "inspect", "--format", "{{.Id}}", name]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None


def main(archives: list[Path]) -> int:
    """Load what is missing; return 1 when an archive can't be read or loaded."""
    for archive in archives:
        try:
            wanted = images_in(archive)
        except (OSError, ValueError) as error:
            sys.stderr.write(f"{error}\n")
            return 1
        if all(present_id(name) == image_id for name, image_id in wanted.items()):
            continue
        command = ["docker", "load", "--quiet", "--input", str(archive)]
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode != 0:
            return 1
        sys.stdout.write(f"loaded {archive}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]]))
