#!/usr/bin/env bash
# Makes .venv and brings the system parts the product works with. Instant when all of it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

# The pinned versions are for 3.11 and up, so 3.10 comes last.
pick_python() {
  for python in "${PYTHON:-}" python3.11 python3.12 python3.13 python3.14 python3 python3.10; do
    [ -n "$python" ] && command -v "$python" >/dev/null || continue
    "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null || continue
    command -v "$python"
    return
  done
}

# What is not here, as Debian packages. Never openssh-server: installing it would start a listening service;
# the sandbox keeps a private copy of the program instead.
look() {
  required=() optional=()
  has ip || required+=(iproute2)
  has ssh || required+=(openssh-client)
  has iptables || optional+=(iptables)
  has pdsh || optional+=(pdsh)
  python=$(pick_python)
  if [ -z "$python" ]; then
    required+=(python3 python3-venv)
  elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    required+=("$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')")
  fi
}
has() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }

# Package lists may be missing or old: fetch them when a first try fails, and show what apt says of the second.
apt() {
  export DEBIAN_FRONTEND=noninteractive
  local install=(apt-get install -y -qq --no-install-recommends "$@")
  "${install[@]}" </dev/null >/dev/null 2>&1 || { apt-get update -qq && "${install[@]}" </dev/null >/dev/null; }
}

look
missing=("${required[@]}" "${optional[@]}")
if [ ${#missing[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  say "installing ${missing[*]}"
  apt "${missing[@]}" || true
  look
fi
if [ ${#required[@]} -gt 0 ]; then
  say "error: missing on this machine: ${required[*]} (Debian's names)"
  say "hint: sudo apt-get install --no-install-recommends ${required[*]} ${optional[*]}"
  [ -n "$python" ] || say "hint: any Python from 3.10 to 3.14 will do: PYTHON=/path/to/python make ..."
  exit 1
fi
if [ ${#optional[@]} -gt 0 ]; then
  say "not on this machine: ${optional[*]}; going on without (pdsh: DeepSpeed's own fan-out, iptables: tests of firewalls)"
  say "hint: sudo apt-get install --no-install-recommends ${optional[*]}"
fi

stamp=.venv/.made-from
wanted=$(cat pyproject.toml envs/constraints-cpu.txt .ci/setup.sh | sha256sum)
here=$(pwd -P)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted $here" ]; then
  exit 0
fi
say "making .venv with $python: 2 GB on disk, more where torch comes with CUDA; a minute or more"
# Programs in a virtual environment know its path: one that was moved, or half made, is made again.
if ! grep -qsF "$here/.venv" .venv/bin/activate || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  "$python" -m venv --clear .venv
fi
pinned=(--constraint envs/constraints-cpu.txt)
.venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || pinned=()
# pip compiles one file after the other, for half a minute; some packages hold files that no Python reads.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile "${pinned[@]}" \
  --editable '.[sft,tui,serve,dev,docs]'
.venv/bin/python -m compileall -qq -j 0 .venv/lib || true
printf '%s' "$wanted $here" >"$stamp"
