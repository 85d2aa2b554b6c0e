#!/bin/sh
# The floor: what any tool has to do at least. Installs the packages named as arguments and
# builds the app's image from the source archive on standard input. It configures nothing.
set -eu
export DEBIAN_FRONTEND=noninteractive
rm -rf /tmp/source
mkdir /tmp/source
tar -xf - -C /tmp/source

apt-get -qq update
apt-get -qq install -y --no-install-recommends "$@" >/dev/null

docker load --quiet --input /opt/testbed/bedstone-python.tar >/dev/null
DOCKER_BUILDKIT=1 docker build --quiet --build-arg BASE_IMAGE=bedstone-python:trixie \
  --tag payments:floor /tmp/source >/dev/null
