"""What makes a shell ask, and where it looks for that."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

BASH = r"""# clusterctl completion bash
_clusterctl() {
    local answer
    mapfile -t answer < <(_CLUSTERCTL_COMPLETE=bash COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" \
        COMP_WORDBREAKS="$COMP_WORDBREAKS" @PROGRAM@ 2>/dev/null </dev/null)
    COMPREPLY=("${answer[@]:1}")
    case ${answer[0]} in
        files) ;;
        dirs) compopt -o dirnames +o default +o bashdefault ;;
        more) compopt -o nospace +o default +o bashdefault ;;
        *) compopt +o default +o bashdefault ;;
    esac
}
complete -o default -o bashdefault -F _clusterctl clusterctl
"""

ZSH = r"""#compdef clusterctl
# clusterctl completion zsh
_clusterctl() {
    local -a answer
    local kind
    answer=("${(@f)$(_CLUSTERCTL_COMPLETE=zsh @PROGRAM@ "${(@Q)words[2,CURRENT]}" 2>/dev/null </dev/null)}")
    kind=$answer[1]
    shift answer
    case $kind in
        files) [[ $PREFIX == --*=* ]] && compset -P '*='; _files ;;
        dirs) [[ $PREFIX == --*=* ]] && compset -P '*='; _files -/ ;;
        more) _describe -V -t values clusterctl answer -S '' ;;
        *) (( $#answer )) && _describe -V -t values clusterctl answer ;;
    esac
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
if [[ $funcstack[1] == _clusterctl ]]; then _clusterctl "$@"; else compdef _clusterctl clusterctl; fi
"""

FISH = r"""# clusterctl completion fish
function __clusterctl_complete
    set -l token (commandline -ct)
    set -l words (commandline -opc)
    set -l answer (_CLUSTERCTL_COMPLETE=fish @PROGRAM@ $words[2..-1] "$token" 2>/dev/null </dev/null)
    switch "$answer[1]"
        case files
            __fish_complete_path "$token"
        case dirs
            __fish_complete_directories "$token"
        case '*'
            printf '%s\n' $answer[2..-1]
    end
end
complete -c clusterctl -f -k -a '(__clusterctl_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def script(shell: str, program: str) -> str:
    """For ``shell``; ``program`` is how clusterctl itself is started, whatever PATH is."""
    return SCRIPTS[shell].replace("@PROGRAM@", program)


def program() -> str:
    """This one."""
    here = Path(sys.argv[0])
    if here.name == "__main__.py":
        return shlex.join([sys.executable, "-m", "clusterctl"])
    return shlex.quote(str(here.absolute()))


def install(shell: str, program: str, environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Put it where the shell finds it: the files that were written or added to. Raises OSError."""
    home = Path.home()
    if shell == "fish":
        config = _folder(environ, "XDG_CONFIG_HOME", home / ".config")
        return [_write(config / "fish" / "completions" / "clusterctl.fish", script(shell, program))]
    data = _folder(environ, "XDG_DATA_HOME", home / ".local" / "share")
    path = _write(data / "clusterctl" / f"completion.{shell}", script(shell, program))
    start = home / ".bashrc" if shell == "bash" else Path(environ.get("ZDOTDIR") or home) / ".zshrc"
    line = f"[ -f {shlex.quote(str(path))} ] && . {shlex.quote(str(path))}  # clusterctl completion\n"
    text = start.read_text(encoding="utf-8", errors="surrogateescape") if start.exists() else ""
    if line in text:
        return [path]
    with start.open("a", encoding="utf-8") as stream:
        stream.write(line if not text or text.endswith("\n") else f"\n{line}")
    return [path, start]


def _folder(environ: Mapping[str, str], name: str, default: Path) -> Path:
    named = environ.get(name, "")
    return Path(named) if named.startswith("/") else default


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
