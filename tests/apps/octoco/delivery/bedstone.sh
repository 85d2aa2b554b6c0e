#!/usr/bin/env bash
# Run a command of Bedstone on an environment's server, as its deploy account.
#
#   delivery/bedstone.sh staging release octoco --if-changed
#   delivery/bedstone.sh production rollback octoco
#
# delivery/ENVIRONMENT.env names the account, delivery/known_hosts has the servers' keys. DEPLOY_KEY is the
# account's private key; without it ssh uses the keys of its agent and ~/.ssh. The exit code is Bedstone's,
# or 255 when ssh failed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

die() { printf 'error: %s\n' "$*" >&2; exit 2; }

(($# >= 2)) || die "usage: delivery/bedstone.sh ENVIRONMENT COMMAND [ARGUMENT...]"
environment=$1
shift
[[ $environment =~ ^[a-z]+$ && -f $here/$environment.env ]] || die "there is no delivery/$environment.env"
# shellcheck source=/dev/null
source "$here/$environment.env"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
options=(
  -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=8
  -o StrictHostKeyChecking=yes -o UserKnownHostsFile="$here/known_hosts" -o GlobalKnownHostsFile=/dev/null
)
if [[ -n ${DEPLOY_KEY:-} ]]; then
  # printf is the shell's own: the key is in a file for this run, and in no command line.
  (umask 077 && printf '%s\n' "$DEPLOY_KEY" >"$scratch/key")
  options+=(-i "$scratch/key" -o IdentitiesOnly=yes -o IdentityAgent=none)
fi
unset DEPLOY_KEY

# The server's shell reads the command: each word is quoted for it.
printf -v command ' %q' "$@"
code=0
ssh -T "${options[@]}" -- "$SERVER" "sudo bedstone$command" </dev/null || code=$?
if ((code == 255)); then
  printf 'error: ssh to %s failed, or the connection broke. An operation that began goes on:\n' "$SERVER" >&2
  printf 'hint: delivery/bedstone.sh %s status %q\n' "$environment" "${2:-APP}" >&2
fi
exit "$code"
