#!/usr/bin/env bash
# The whole product on this machine: hosts, a check, a training over two of them, the logs.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
# Whatever hostfile this shell or directory has: the demo trains on virtual hosts.
unset CLUSTERCTL_SSH_CONFIG
export CLUSTERCTL_HOSTFILE="${CLUSTERCTL_HOME:-$HOME/.clusterctl}/sandbox/default/hostfile"

bold='' plain=''
if [ -t 1 ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
step() {
  printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"
  "$@"
}

# Where the kernel refuses namespaces (its reason is printed), hosts on loopback addresses are better than none.
step clusterctl sandbox up || step clusterctl sandbox up --loopback
# 1 and 2 are verdicts on the hosts: whether that stops a run is for launch to say.
step clusterctl doctor || [ $? -le 2 ]
step clusterctl launch --nodes 2 -- --steps 40 --log_every 10
step clusterctl logs --tail 3
step find "$(printf '%s\n' "${CLUSTERCTL_HOME:-$HOME/.clusterctl}"/runs/*/logs | tail -1)" -type f
step clusterctl runs
cat <<'END'

The virtual hosts go on running. To try next:
  source .venv/bin/activate
  clusterctl launch --engine deepspeed -- --steps 40
  clusterctl exec -- hostname
  clusterctl sandbox down      # ends them and leaves nothing
END
