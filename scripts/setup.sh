#!/usr/bin/env bash
# Makes this machine able to run Bedstone: system packages (named before they are
# installed) and the Python environment in .venv. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."

# runc, nft and iptables are there, which is not on every user's PATH
PATH=$PATH:/usr/sbin:/sbin

uv_version=0.13.8
PATH=$PATH:/usr/sbin:/sbin  # a user's PATH lacks where nft and iptables are

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# command:package; the command shows whether the package is needed
wanted=(podman:podman runc:runc mmdebstrap:mmdebstrap ssh:openssh-client
        nft:nftables iptables:iptables  # netavark calls the one or the other
        shellcheck:shellcheck newuidmap:uidmap curl:curl)
missing=()
for pair in "${wanted[@]}"; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
# what no command on the PATH shows
[[ -x /usr/lib/podman/aardvark-dns || -x /usr/libexec/podman/aardvark-dns ]] \
  || missing+=(aardvark-dns netavark)
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)

if ((${#missing[@]})); then
  command -v apt-get >/dev/null || die "these are missing and this is no Debian-like machine: ${missing[*]}"
  sudo=()
  if ((EUID)); then
    command -v sudo >/dev/null || die "to install ${missing[*]} this needs root, or a user with sudo"
    sudo=(sudo)
  fi
  say "installing Debian packages: ${missing[*]}"
  "${sudo[@]}" apt-get -qq update
  said=$(mktemp)
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
    "${missing[@]}" >"$said" 2>&1 || { cat "$said" >&2; die "apt-get could not install ${missing[*]}"; }
  rm "$said"
fi

# Only unpacked: the packages' own services would listen on all addresses of this machine.
tools=.cache/prometheus
if ! compgen -G "$tools/usr/bin/promtool" >/dev/null && ! command -v promtool >/dev/null; then
  command -v apt-get >/dev/null || die "promtool, prometheus and amtool are missing: install them on the PATH"
  say "unpacking Debian's prometheus into $tools"
  # A machine on which nothing was missing above may have no lists of packages.
  if [[ -z $(apt-cache madison prometheus) ]]; then
    root=()
    ((EUID == 0)) || root=(sudo)
    "${root[@]}" apt-get -qq update
  fi
  fetched=$(mktemp -d)
  packages=(prometheus prometheus-alertmanager)
  [[ -z $(apt-cache madison promtool) ]] || packages+=(promtool)  # its own package since Debian 13
  (cd "$fetched" && apt-get -qq download "${packages[@]}" >said 2>&1) \
    || { cat "$fetched/said" >&2; die "apt-get could not download ${packages[*]}"; }
  mkdir -p "$tools.new"
  for package in "$fetched"/*.deb; do dpkg-deb -x "$package" "$tools.new"; done
  rm -rf "$fetched" "$tools"
  mv "$tools.new" "$tools"
fi

if [[ ! -x .venv/bin/python ]]; then
  say "making the Python environment in .venv"
  python3 -m venv .venv
fi
if [[ "$(.venv/bin/uv --version 2>/dev/null)" != "uv $uv_version"* ]]; then
  # -qq: errors, but no warnings about how this machine reaches its package index
  .venv/bin/pip -qq --disable-pip-version-check install "uv==$uv_version"
fi
say "installing the pinned Python packages"
# What pip is told of this machine's network holds for uv as well: authorities, package index.
export UV_SYSTEM_CERTS=true
if [[ -z ${UV_DEFAULT_INDEX:-} ]]; then
  index=${PIP_INDEX_URL:-$(.venv/bin/pip config get global.index-url 2>/dev/null || true)}
  [[ -z $index ]] || export UV_DEFAULT_INDEX=$index
fi
.venv/bin/uv pip sync --quiet --python .venv/bin/python --require-hashes requirements.txt
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable .
say "this machine is ready"
