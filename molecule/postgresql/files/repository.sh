#!/bin/sh
# Makes a signed apt repository in /srv/repository that holds Debian's PostgreSQL under another
# version number, and prints its key: repository.sh MAJOR VERSION
set -eu
major=$1 version=$2
architecture=$(dpkg --print-architecture)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GNUPGHOME="$work/gnupg" DEBIAN_FRONTEND=noninteractive
mkdir -m 0700 "$GNUPGHOME"
{
  apt-get -qq update
  apt-get -qq install -y --no-install-recommends apt-utils gpg gpg-agent
  rm -rf /srv/repository
  packages=/srv/repository/dists/test/main/binary-$architecture
  mkdir -p "$packages" /srv/repository/pool
  cd "$work"
  for package in "postgresql-$major" "postgresql-client-$major"; do
    debian=$(apt-cache madison "$package" | awk 'NR == 1 {print $3}')
    apt-get -qq -o APT::Sandbox::User=root download "$package=$debian"
    dpkg-deb --raw-extract "$package"_*.deb "$package"
    sed -i "s/^Version: .*/Version: $version/" "$package/DEBIAN/control"
    dpkg-deb -Zgzip -z1 --build "$package" /srv/repository/pool/
  done
  cd /srv/repository
  apt-ftparchive packages pool > "$packages/Packages"
  apt-ftparchive -o APT::FTPArchive::Release::Suite=test release dists/test > "$work/Release"
  gpg --batch --passphrase '' --quick-generate-key test ed25519 sign never
  gpg --batch --clearsign --output dists/test/InRelease "$work/Release"
} >&2
gpg --batch --armor --export test
