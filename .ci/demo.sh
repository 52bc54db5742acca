#!/usr/bin/env bash
# The whole product on this machine: hosts, a check, a training over two of them, the logs.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"

step() {
  printf '\n\033[1m$ %s\033[0m\n' "$*"
  "$@"
}

step clusterctl sandbox up
step clusterctl doctor
step clusterctl launch --nodes 2 -- --steps 40 --log_every 10
step clusterctl logs --tail 3
step clusterctl runs
printf '\nThe sandbox goes on running. Try `clusterctl launch --nodes 2 --engine deepspeed` or\n'
printf '`clusterctl exec -- hostname` (in %s), and end it with\n`clusterctl sandbox down`.\n' "$PWD/.venv/bin"
