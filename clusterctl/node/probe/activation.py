"""What a profile's activation line does to the environment, asked of bash once.

The line reaches bash over stdin, so no process list ever shows it. bash starts clean (no start-up files):
what differs afterwards is what the line did.
"""

import os
import re
import tempfile

from ..shared.files import which

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# A shell's own bookkeeping, and prompts: nothing that a run needs.
IGNORED = ("SHLVL", "_", "PWD", "OLDPWD", "PS1", "BASH_ENV")
TELLING = re.compile(r"error|not found|notfound|no such|cannot|could not|denied", re.IGNORECASE)

# `conda activate` and `module load` are functions, which only interactive and login shells define: each is
# looked for where its installers put it, and only when the line wants it. The environment goes to the first
# stdout; the line's own output goes nowhere, and it finds no stdin to wait for.
SCRIPT = r"""
IFS= read -r -d '' clusterctl_line
exec {clusterctl_told}>&1 >/dev/null </dev/null
clusterctl_env=$(type -P env)
clusterctl_wants() { [[ $clusterctl_line =~ (^|[^A-Za-z0-9_./-])($1)[[:space:]] ]]; }
clusterctl_source() {
  local file
  for file; do
    if [ -r "$file" ]; then . "$file"; return; fi
  done
}
if clusterctl_wants 'conda|mamba'; then
  clusterctl_named=$(sed -n "s/^__conda_setup=.*'\(.*\)\/bin\/conda' 'shell.bash' 'hook'.*/\1/p" ~/.bashrc)
  clusterctl_found=$(type -P conda)
  clusterctl_roots=(${clusterctl_found:+"${clusterctl_found%/*/*}"} ${CONDA_EXE:+"${CONDA_EXE%/*/*}"}
    ${clusterctl_named:+"${clusterctl_named%%$'\n'*}"}
    ~/{miniforge3,miniconda3,mambaforge,anaconda3,conda} /opt/{conda,miniforge3,miniconda3,anaconda3})
  clusterctl_source "${clusterctl_roots[@]/%//etc/profile.d/conda.sh}" /etc/profile.d/conda.sh
  if clusterctl_wants mamba; then
    clusterctl_source "${clusterctl_roots[@]/%//etc/profile.d/mamba.sh}"
  fi
fi 2>/dev/null
if clusterctl_wants micromamba; then
  for clusterctl_found in "$(type -P micromamba)" "$MAMBA_EXE" ~/.local/bin/micromamba ~/bin/micromamba; do
    if [ -x "$clusterctl_found" ]; then eval "$("$clusterctl_found" shell hook --shell bash)"; break; fi
  done
fi 2>/dev/null
if clusterctl_wants 'module|ml' && ! type -t module >/dev/null; then
  clusterctl_source "$LMOD_PKG/init/bash" "$MODULESHOME/init/bash" /etc/profile.d/{lmod,z00_lmod,modules}.sh \
    /usr/share/{lmod/lmod,modules,Modules}/init/bash
fi 2>/dev/null
eval "$clusterctl_line"
clusterctl_code=$?
[ "$clusterctl_code" -eq 0 ] && "$clusterctl_env" -0 >&"$clusterctl_told"
exit "$clusterctl_code"
"""


def activate(line, environ, timeout):
    """``{"variables", "removed", "error"}``: how ``line`` changes ``environ``, which is not touched.

    With an error nothing has changed. A line that does not end within ``timeout`` seconds is ended; what it
    has started ends with this process group.
    """
    import subprocess  # here: most hosts have no line, and it costs as much as all of theirs

    bash = which("bash", environ.get("PATH", os.defpath)) or which("bash", os.defpath)
    if not bash:
        return failed("there is no bash on this host")
    # Files rather than pipes: what a line leaves running in the background holds a pipe open for ever.
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            [bash, "--noprofile", "--norc", "-c", SCRIPT, "activate"],
            stdin=subprocess.PIPE,
            stdout=told,
            stderr=said,
            cwd=environ.get("HOME") or "/",
            env=environ,
        )
        try:
            child.communicate(line.encode("utf-8"), timeout=timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return failed(with_last_words("did not end within %g s" % timeout, said))
        told.seek(0)
        after = told.read()
        if child.returncode or not after:
            how = (
                "ended with exit code %d" % child.returncode
                if child.returncode
                else "ended the shell (exit or exec)"
            )
            return failed(with_last_words(how, said))
    return difference(environ, after)


def difference(before, after):
    """Between a mapping and the NUL-separated text of `env -0`. Exported functions are no variables."""
    texts = [each.decode("utf-8", "surrogateescape").partition("=") for each in after.split(b"\0")]
    known = {name: value for name, _, value in texts if counts(name)}
    return {
        "variables": {
            name: value
            for name, value in sorted(known.items())
            if before.get(name) != value and is_text(value)
        },
        "removed": sorted(name for name in before if counts(name) and name not in known),
        "error": "",
    }


def counts(name):
    return bool(NAME.match(name)) and name not in IGNORED and not name.startswith("clusterctl_")


def is_text(value):
    """Bytes that are no UTF-8 cannot travel in JSON."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def failed(error):
    return {"variables": {}, "removed": [], "error": error}


def with_last_words(how, said):
    """``how`` it ended and the last line of stderr; of several the last that names an error, as conda adds
    advice below."""
    said.seek(0)
    lines = [line.strip() for line in said.read().decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines:
        return how
    last = next((line for line in reversed(lines) if TELLING.search(line)), lines[-1])
    return "%s: %s" % (how, re.sub(r"^\S*activate: (eval: )?line \d+: ", "", last)[:300])
