"""Making images with mmdebstrap and keeping them."""

import hashlib
import io
import json
import os
import platform
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from testbed import recipes
from testbed.errors import TestbedError
from testbed.paths import CACHE, IMAGES, SHARED, lock, make_directories
from testbed.recipes import Recipe
from testbed.shell import podman, run, say, which

LABEL = "bedstone.testbed"
REPOSITORY = "localhost/bedstone-testbed"
DEFAULT_SUITE = recipes.SUITES[0]
# Far more than a slow mirror needs; a hanging one must not hang the caller for ever.
BUILD_TIMEOUT_SECONDS = 1200
# Docker's names for architectures, by the kernel's.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def check_suite(suite: str) -> None:
    """Refuse a suite that no image can be made of."""
    if suite not in recipes.SUITES:
        known = " and ".join(recipes.SUITES)
        raise TestbedError(f"There is no suite {suite!r} here; known are {known}.")


def debootstrap(recipe: Recipe, target: Path) -> None:
    """Make a root file system archive from a recipe.

    Raises:
        TestbedError: mmdebstrap failed; the message holds the end of its output.

    """
    with tempfile.TemporaryDirectory(prefix="bedstone-testbed-") as scratch:
        files = Path(scratch, "files.tar")
        recipes.overlay(recipe, files)
        Path(scratch).chmod(0o755)
        run(
            [
                which("mmdebstrap") or "mmdebstrap",
                "--variant=minbase",
                f"--include={','.join(recipe.packages)}",
                *(f"--aptopt={option}" for option in recipe.apt_options),
                *(f"--dpkgopt={option}" for option in recipe.dpkg_options),
                f"--customize-hook=tar-in {files} /",
                *(f"--customize-hook={hook}" for hook in recipe.hooks),
                recipe.suite,
                str(target),
                *recipe.sources,
            ],
            timeout_seconds=BUILD_TIMEOUT_SECONDS,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )


def rootfs(recipe: Recipe) -> Path:
    """Return the archive made from a recipe, made now unless it is kept already."""
    kept = IMAGES / f"{recipe.kind}-{recipe.suite}-{recipe.key}.tar"
    if not kept.exists():
        # mmdebstrap derives the format from the name's end.
        draft = kept.with_name(f"draft-{kept.name}")
        draft.unlink(missing_ok=True)
        debootstrap(recipe, draft)
        draft.replace(kept)
    return kept


def server_tag(recipe: Recipe) -> str:
    """Return podman's name of a server image."""
    return f"{REPOSITORY}:{recipe.suite}-{recipe.key}"


def server_image(suite: str) -> str:
    """Return the tag of a suite's server image, made now unless it exists.

    Raises:
        TestbedError: the suite is unknown, or making it failed.

    """
    check_suite(suite)
    with lock(f"image-server-{suite}"):
        recipe = recipes.server(suite, recipes.look_around())
        tag = server_tag(recipe)
        if podman(["image", "exists", tag], check=False).returncode == 0:
            return tag
        say(f"making the image of a bare {suite} server (about half a minute, once)")
        archive = rootfs(recipe)
        change = [f"--change=LABEL {LABEL}=1", f'--change=CMD ["{recipes.BOOT}"]']
        podman(["import", "--quiet", *change, str(archive), tag])
        return tag


def app_name(kind: str, suite: str) -> str:
    """Return the file name under which servers find a base image for apps."""
    return f"bedstone-{kind}-{suite}.tar"


def python_image(suite: str) -> Path:
    """Return the base image for apps in Python; see `app_image`."""
    return app_image(recipes.python, suite)


def node_image(suite: str) -> Path:
    """Return the base image for apps in Python with a front end of Node.js; see `app_image`."""
    return app_image(recipes.node, suite)


def app_image(make: Callable[[str, recipes.Surroundings], Recipe], suite: str) -> Path:
    """Return a base image as an archive for `docker load`, made now unless kept.

    Servers find it as /opt/testbed/bedstone-KIND-SUITE.tar, and trixie's also as
    /opt/testbed/bedstone-KIND.tar. It loads as `bedstone-KIND:SUITE`.

    Raises:
        TestbedError: the suite is unknown, or making it failed.

    """
    check_suite(suite)
    recipe = make(suite, recipes.look_around())
    kind = recipe.kind
    with lock(f"image-{kind}-{suite}"):
        kept = IMAGES / f"docker-{kind}-{suite}-{recipe.key}.tar"
        if not kept.exists():
            say(f"making the {suite} base image for apps, {kind} (about half a minute, once)")
            layer = rootfs(recipe)
            draft = kept.with_name(f"draft-{kept.name}")
            docker_archive(layer, draft, f"bedstone-{kind}:{suite}")
            draft.replace(kept)
            layer.unlink()
        publish(kept, app_name(kind, suite))
        if suite == DEFAULT_SUITE:
            publish(kept, f"bedstone-{kind}.tar")
    return SHARED / app_name(kind, suite)


def publish(kept: Path, name: str) -> None:
    """Show servers a file under a name: a hard link, changed in one step."""
    shared = SHARED / name
    if shared.exists() and shared.samefile(kept):
        return
    draft = SHARED / f".{name}"
    draft.unlink(missing_ok=True)
    draft.hardlink_to(kept)
    draft.replace(shared)


def docker_archive(layer: Path, target: Path, reference: str) -> None:
    """Wrap a root file system archive into what `docker load` reads.

    Args:
        layer: the root file system, a plain tar archive.
        target: where to write.
        reference: name:tag that the image gets.

    """
    with layer.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    machine = platform.machine()
    config = json.dumps(
        {
            "architecture": ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Cmd": ["python3"],
                "Env": [
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "LANG=C.UTF-8",
                ],
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "bedstone testbed"}],
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps(
        [{"Config": config_name, "RepoTags": [reference], "Layers": [f"{digest}/layer.tar"]}]
    ).encode()
    with tarfile.open(target, "w") as archive:
        for name, data in ((config_name, config), ("manifest.json", manifest)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        archive.add(layer, f"{digest}/layer.tar")


def current_keys() -> set[str]:
    """Return the keys of the images that would be made now."""
    around = recipes.look_around()
    return {
        make(suite, around).key
        for suite in recipes.SUITES
        for make in (recipes.server, recipes.python, recipes.node)
    }


def prune(*, everything: bool = False) -> list[str]:
    """Remove images that are no longer current (or all), and say which.

    An image that a server still runs from is left.
    """
    make_directories()
    keep = set() if everything else current_keys()
    removed = []
    if everything:
        for path in SHARED.glob("*.tar"):
            path.unlink()
    for path in sorted(IMAGES.iterdir()):
        if not any(path.name.endswith(f"-{key}.tar") for key in keep):
            path.unlink()
            removed.append(str(path.relative_to(CACHE)))
    listed = podman(["images", "--format={{.Repository}}:{{.Tag}}", f"--filter=label={LABEL}=1"])
    for tag in listed.stdout.split():
        current = any(tag.endswith(f"-{key}") for key in keep)
        if not current and podman(["rmi", tag], check=False).returncode == 0:
            removed.append(tag)
    return removed
