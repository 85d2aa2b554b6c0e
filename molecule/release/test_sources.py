"""Where images come from, for real: a git server, and a registry with a login over TLS."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence

import pytest
from ledger_app import APP, STATE, Ledger
from testinfra.host import Host

pytestmark = pytest.mark.usefixtures("web_alone")

UNITS = ["bedstone-operation@ledger", "test-git", "test-registry", "docker.service"]
LOGIN = "/etc/bedstone/apps/ledger/registry.json"
REPOSITORY = "/srv/test-git/ledger.git"
URL = "git://127.0.0.1/ledger.git"
REGISTRY = "ledger.localhost:5000"
PASSWORD = "pass-of-the-registry"
GIT = "git -c user.name=Test -c user.email=test@example.com"


@pytest.fixture
def declared(host: Host) -> Iterator[None]:
    """Give the app its declaration back afterwards; the next test releases it from there."""
    kept = host.check_output("mktemp")
    host.check_output("cp --preserve %s %s", APP, kept)
    yield
    host.check_output("mv %s %s; rm -f %s", kept, APP, LOGIN)


def declare(host: Host, **image: object) -> None:
    """Let the app's image come from somewhere else."""
    app = json.loads(host.check_output("cat %s", APP))
    app["image"] = {"dockerfile": "Dockerfile", **image}
    host.check_output("printf '%%s' %s > %s.new && mv %s.new %s", json.dumps(app), APP, APP, APP)


# --- git -----------------------------------------------------------------------------------


@pytest.fixture
def git_server(host: Host, wait_until: Callable[..., None]) -> Iterator[None]:
    """A bare repository that `git daemon` serves."""
    host.check_output("mkdir -p /srv/test-git && git init -q --bare -b main %s", REPOSITORY)
    host.check_output(
        "systemd-run --quiet --collect --unit=test-git git daemon --reuseaddr --listen=127.0.0.1"
        " --base-path=/srv/test-git --export-all"
    )
    asked = f"git ls-remote {URL}"
    wait_until(lambda: host.run(asked).rc == 0, what="the git server answers")
    yield
    host.check_output("systemctl stop test-git; rm -rf /srv/test-git /root/test-work")


def push(host: Host, ledger: Ledger, name: str, *commands: str) -> tuple[str, str]:
    """Push a commit with another version of the app; return the version and the commit."""
    version = ledger.source(name)
    work = "/root/test-work"
    host.check_output(
        f"set -e; test -d {work} || git clone -q {REPOSITORY} {work}; cd {work};"
        f"git checkout -q -B main; find . -mindepth 1 -maxdepth 1 ! -name .git -exec rm -r {{}} +;"
        f"tar -xzf {STATE}/source.tar.gz; git add -A; {GIT} commit -q -m {name};"
        + "".join(f"{GIT} {command};" for command in commands)
        + "git push -q --tags origin main"
    )
    return version, str(host.check_output(f"git -C {work} rev-parse HEAD"))


@pytest.mark.usefixtures("declared", "git_server")
def test_git_branch_tag_and_commit(host: Host, ledger: Ledger) -> None:
    base = {"kind": "git", "url": URL, "args": {"BASE_IMAGE": "bedstone-python:trixie"}}
    first, commit = push(host, ledger, "plain-first")
    declare(host, **base, version="main")
    release = ledger.release()["release"]
    assert (ledger.answer()["version"], release.endswith(f"main-{commit[:8]}")) == (first, True)
    assert ledger.release("--if-changed")["changed"] is False

    second, _ = push(host, ledger, "plain-second", "tag -a v1.0 -m one")
    assert ledger.release("--if-changed")["changed"] is True
    assert ledger.answer()["version"] == second

    push(host, ledger, "plain-third")
    declare(host, **base, version="v1.0")
    ledger.release()
    assert ledger.answer()["version"] == second, "the tag, not the branch"

    declare(host, **base, version=commit)
    ledger.release()
    assert ledger.answer()["version"] == first

    declare(host, **base, version="v9.9")
    assert "no branch or tag 'v9.9'" in ledger.fails("release ledger")["error"]
    assert ledger.answer()["version"] == first


# --- git over ssh, and secrets of the build --------------------------------------------------

SSH = "/root/test-git-ssh"
SSH_URL = f"ssh://root@127.0.0.1:2222{REPOSITORY}"
SOURCE_SECRETS = "/etc/bedstone/apps/ledger/source.json"
TOKEN = "token-of-the-build"


@pytest.fixture
def ssh_server(host: Host, wait_until: Callable[..., None]) -> Iterator[None]:
    """A sshd of its own, which lets one key in."""
    config = f"""
Port 2222
ListenAddress 127.0.0.1
HostKey {SSH}/host
AuthorizedKeysFile {SSH}/authorized
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
PidFile none
"""
    host.check_output(
        f"set -e; mkdir -m 0700 {SSH}; cd {SSH}; mkdir -p /run/sshd; for name in host deploy other;"
        " do ssh-keygen -q -t ed25519 -N '' -f $name; done; cp deploy.pub authorized;"
        f"printf '%%s' %s > config",
        config,
    )
    host.check_output(
        f"systemd-run --quiet --collect --unit=test-git-ssh /usr/sbin/sshd -D -f {SSH}/config"
    )
    wait_until(
        lambda: host.run("ssh-keyscan -p 2222 127.0.0.1 | grep -q ed25519").rc == 0,
        what="the ssh server answers",
    )
    yield
    host.check_output(f"systemctl stop test-git-ssh; rm -rf {SSH} {SOURCE_SECRETS} /root/test-said")


def keep(host: Host, *, key: str, host_key: str) -> None:
    """Lay out what role app would of the source's secrets."""
    public = " ".join(host.check_output(f"cat {SSH}/{host_key}.pub").split()[:2])
    content = {
        "deploy_key": host.check_output(f"cat {SSH}/{key}") + "\n",
        "known_hosts": f"[127.0.0.1]:2222 {public}\n",
        "secrets": {"npm": TOKEN},
        "args": {"HIDDEN": TOKEN},
    }
    host.check_output("umask 077; printf '%%s' %s > %s", json.dumps(content), SOURCE_SECRETS)


def with_dockerfile(host: Host, line: str) -> None:
    """Push a commit whose Dockerfile has another last line."""
    host.check_output(
        "set -e; cd /root/test-work; sed -i '/--mount/d' Dockerfile;"
        f"printf '%%s\\n' %s >> Dockerfile; {GIT} commit -qam dockerfile;"
        "git push -q origin HEAD:main",
        line,
    )


@pytest.mark.usefixtures("declared", "git_server", "ssh_server")
def test_git_over_ssh_with_a_deploy_key_and_secrets_of_the_build(
    host: Host, ledger: Ledger
) -> None:
    version, _ = push(host, ledger, "plain-ssh")
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    mount = "RUN --mount=type=secret,id=npm,required=true,mode=0444"
    with_dockerfile(host, f"{mount} echo '{digest}  /run/secrets/npm' | sha256sum -c")
    args = {"BASE_IMAGE": "bedstone-python:trixie", "HIDDEN": "${secret.hidden}"}
    declare(host, kind="git", url=SSH_URL, version="main", args=args, secrets=["npm"])

    keep(host, key="deploy", host_key="other")
    refused = ledger.fails("release ledger")
    assert "host_keys" in refused["hint"], refused
    keep(host, key="other", host_key="host")
    refused = ledger.fails("release ledger")
    assert "deploy key" in refused["hint"], refused

    keep(host, key="deploy", host_key="host")
    run = host.run("bash -c %s", spying("bedstone release ledger --json", "token-of-the-buil[d]"))
    assert (run.rc, run.stdout) == (0, ""), host.check_output("cat /root/test-said")
    assert ledger.answer()["version"] == version
    image = host.check_output("docker images -q bedstone/ledger | head -n 1")
    assert TOKEN not in host.check_output(f"docker history --no-trunc {image}")
    assert host.run(f"grep -rl {TOKEN} /var/lib/bedstone /run/bedstone").stdout == ""
    assert host.run("find /run/bedstone -name 'git-*'").stdout == "", "the key is gone"

    # What a failed build prints of it is masked wherever it shows.
    with_dockerfile(host, f"{mount} cat /run/secrets/npm; exit 3")
    failed = ledger.fails("release ledger")
    assert "***" in failed["details"], failed
    assert TOKEN not in json.dumps(failed)
    assert TOKEN not in host.check_output("journalctl --no-pager -o cat -b")
    assert host.run(f"grep -rl {TOKEN} /var/lib/bedstone").stdout == ""
    assert ledger.answer()["version"] == version


# --- a registry ----------------------------------------------------------------------------


@pytest.fixture
def registry(host: Host, address: str) -> Iterator[None]:
    """Debian's docker-registry with a login, behind the certificate of Bedstone's authority."""
    config = f"""
version: 0.1
storage: {{filesystem: {{rootdirectory: /srv/test-registry}}}}
http:
  addr: {address}:5000
  tls: {{certificate: /etc/bedstone/tls/ledger.crt, key: /etc/bedstone/tls/ledger.key}}
auth: {{htpasswd: {{realm: test, path: /root/test-htpasswd}}}}
"""
    certs = f"/etc/docker/certs.d/{REGISTRY}"
    host.check_output("printf '%%s\\n' %s > /root/test-registry.yml", config)
    host.check_output(
        f"set -e; htpasswd -bBn deploy {PASSWORD} > /root/test-htpasswd; mkdir -p {certs};"
        f"cp /etc/bedstone/tls/ca.crt {certs}/ca.crt; cp /etc/hosts /root/test-hosts;"
        # Not by the loopback: there Docker asks no registry for a certificate.
        f"echo '{address} ledger.localhost' >> /etc/hosts"
    )
    host.check_output(
        "systemd-run --quiet --collect --unit=test-registry docker-registry serve"
        " /root/test-registry.yml"
    )
    yield
    host.check_output(
        "systemctl stop test-registry; cat /root/test-hosts > /etc/hosts;"
        f"rm -rf /srv/test-registry /root/test-* {certs}"
    )


def store(host: Host, ledger: Ledger, tag: str) -> str:
    """Build an image, push it, and forget it here; return its version."""
    version = ledger.source(f"plain-{tag}")
    name = f"{REGISTRY}/team/ledger:{tag}"
    host.check_output(
        # A new directory each time: BuildKit takes a file for unchanged by its size and time.
        f"set -e; cd $(mktemp -d /root/test-context-XXXXXX);"
        f"tar -xzf {STATE}/source.tar.gz;"
        f"docker build -q --build-arg BASE_IMAGE=bedstone-python:trixie -t {name} . ;"
        "export DOCKER_CONFIG=/root/test-docker;"
        f"echo {PASSWORD} | docker login -u deploy --password-stdin {REGISTRY} 2> /dev/null;"
        f"docker push -q {name}; docker image rm {name}"
    )
    return version


@pytest.mark.usefixtures("declared", "registry")
def test_registry_with_a_login_over_tls(host: Host, ledger: Ledger, address: str) -> None:
    # curl has an opinion of its own on where names below .localhost lead.
    ask = f"curl -s --resolve {REGISTRY}:{address} https://{REGISTRY}/v2/"
    ledger.wait_until(lambda: host.run(ask).rc == 0, what="the registry answers")
    version = store(host, ledger, "one")
    declare(host, kind="pull", reference=f"{REGISTRY}/team/ledger:one")
    refused = ledger.fails("release ledger")
    assert "no basic auth credentials" in f"{refused['error']}{refused['details']}"

    login = {"server": REGISTRY, "username": "deploy", "password": PASSWORD}
    host.check_output("umask 077; printf '%%s' %s > %s", json.dumps(login), LOGIN)
    run = host.run("bash -c %s", spying("bedstone release ledger --json", "pass-of-the-registr[y]"))
    assert (run.rc, run.stdout) == (0, ""), "the password is in nobody's arguments"
    assert ledger.answer()["version"] == version
    assert nowhere_on_disk(host, ["/root/.docker", "/var/lib/bedstone", "/run/bedstone"]) == ""
    assert PASSWORD not in host.check_output("journalctl --no-pager -o cat -b")

    # Another image under the same name is seen.
    version = store(host, ledger, "one")
    assert ledger.release("--if-changed")["changed"] is True
    assert ledger.answer()["version"] == version


def spying(command: str, secret: str) -> str:
    """Return a script that looks at everybody's arguments while a command runs.

    Args:
        command: what runs.
        secret: a pattern of what must not be in them, which does not match itself.

    """
    return f"""
    {command} > /root/test-said & release=$!
    while kill -0 $release 2> /dev/null; do
        for file in /proc/[0-9]*/cmdline; do
            grep -aq "{secret}" $file 2> /dev/null && echo "found in $file"
        done
        sleep 0.05
    done
    wait $release"""


def nowhere_on_disk(host: Host, directories: Sequence[str]) -> str:
    """Return the files that hold the password, or its form in Docker's configuration."""
    coded = host.check_output(f"printf deploy:{PASSWORD} | base64")
    return str(
        host.run(f"grep -rlE '{PASSWORD}|{coded}' {' '.join(directories)} 2> /dev/null").stdout
    )
