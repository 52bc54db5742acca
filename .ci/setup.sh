#!/usr/bin/env bash
# Makes .venv and brings the system parts the product works with. Instant when all of it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

# System parts: by apt as root, else a sentence that can be pasted. Never openssh-server: installing it would
# start a listening service; the sandbox keeps a private copy of the program instead.
missing=()
need() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing+=("$2"); }
need ip iproute2
need iptables iptables
need ssh openssh-client
need pdsh pdsh

pick_python() {
  for python in "${PYTHON:-}" python3.11 python3.12 python3.10 python3; do
    [ -n "$python" ] && command -v "$python" >/dev/null 2>&1 || continue
    "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null || continue
    command -v "$python"
    return
  done
}
python=$(pick_python)
if [ -z "$python" ]; then
  say "error: no Python 3.10 to 3.12 found"
  say "hint: sudo apt-get install python3 python3-venv, or PYTHON=/path/to/python make ..."
  exit 1
fi
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  missing+=("$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')")

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
      { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; }
  else
    say "missing on this machine: ${missing[*]}"
    say "hint: sudo apt-get install --no-install-recommends ${missing[*]}"
    case " ${missing[*]} " in
      *-venv*) exit 1 ;;
    esac
    say "going on without: only the sandbox needs iproute2, its firewall iptables, and --engine deepspeed uses pdsh"
  fi
fi

stamp=.venv/.made-from
wanted=$(cat pyproject.toml envs/constraints-cpu.txt .ci/setup.sh | sha256sum)
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
  say "making .venv with $python (about 2 GB on disk, a minute or more)"
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  # deepspeed comes as source; without wheel pip falls back to a way of installing it that is going away.
  .venv/bin/python -m pip install --quiet --disable-pip-version-check wheel
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint envs/constraints-cpu.txt --editable '.[train,dev]'
  printf '%s' "$wanted" >"$stamp"
fi
