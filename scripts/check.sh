#!/usr/bin/env bash
# The fast gate for every commit: all linters, all types, all unit tests. Runs the two
# slow ones side by side, and every one of them even when another failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

bin=.venv/bin
scratch=$(mktemp -d)
# In memory: a ledger brings every entry to the disk, and the tests make hundreds.
fast=$(mktemp -d -p /dev/shm bedstone-tests.XXXXXX 2>/dev/null) || fast=$scratch
trap 'rm -rf "$scratch" "$fast"' EXIT
# The tests start programs that they write; in a container that memory is often mounted noexec.
printf '#!/bin/sh\n' >"$fast/started" && chmod +x "$fast/started"
"$fast/started" 2>/dev/null || { rm -rf "$fast" && fast=$scratch; }
failed=0

# gate NAME COMMAND...: shows the output only of what failed
gate() {
  local name=$1 started=$SECONDS
  shift
  if "$@" >"$scratch/$name" 2>&1; then
    printf 'ok      %-14s %3d s\n' "$name" $((SECONDS - started))
  else
    printf 'FAILED  %-14s %3d s\n' "$name" $((SECONDS - started))
    cat "$scratch/$name"
    return 1
  fi
}

shell_scripts() {
  git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    [[ -f $file ]] && head -c 64 "$file" | head -n 1 | grep -aqE '^#!.*\b(ba)?sh\b' && printf '%s\0' "$file"
  done
}

gate ansible-lint "$bin/python" scripts/ansible_lint.py --offline -q &
lint=$!
gate ruff "$bin/ruff" check . || failed=1
gate ruff-format "$bin/ruff" format --check . || failed=1
gate yamllint "$bin/yamllint" --strict . || failed=1
gate shellcheck bash -c 'xargs -0 shellcheck' < <(shell_scripts) || failed=1
gate mypy "$bin/mypy" || failed=1
gate imports "$bin/lint-imports" --no-cache --no-logo || failed=1
# two processes: many tests wait for what they have started
gate unit-tests "$bin/pytest" -q -n 2 --basetemp="$fast/unit" || failed=1
wait "$lint" || failed=1
# the last line of the unit tests says how many ran
tail -n 1 "$scratch/unit-tests"
exit "$failed"
