"""Files installed in one host's view of the machine's file system."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from clusterctl.errors import ClusterctlError

# Says what the path is on this host, then the path without links (of the nearest directory, for a new file).
_LOOK = """
path=$1
if [ -f "$path" ]; then echo file; exec realpath "$path"; fi
[ ! -e "$path" ] || exit 3
dir=$(dirname "$path"); while [ ! -d "$dir" ]; do dir=$(dirname "$dir"); done
echo new; exec realpath "$dir"
"""

# Three ways to make one directory of the machine writable for one host, best first: the kernel's overlay, the
# same with its own writable part in memory (the disk's file system may refuse), and a directory of links.
_OPEN_DIRECTORY = """
dir=$1; own=$2; extra=$3
mkdir -p "$own/upper" "$own/work"
mode=$(stat -c %a "$dir")
try() {
  chmod "$mode" "$1/upper"
  mount -t overlay overlay -o "lowerdir=$dir,upperdir=$1/upper,workdir=$1/work$extra" "$dir" 2>/dev/null
}
try "$own" && exit 0
own=$own/memory; mkdir "$own"
mount -t tmpfs installed "$own" && mkdir "$own/upper" "$own/work" "$own/lower" || exit 1
try "$own" && exit 0
mount --rbind "$dir" "$own/lower" || exit 1
chmod "$mode" "$own/upper"
for entry in "$own/lower"/* "$own/lower"/.[!.]*; do
  [ -e "$entry" ] || [ -L "$entry" ] || continue
  ln -s "$entry" "$own/upper/" || exit 1
done
mount --bind "$own/upper" "$dir"
"""

_WRITE = 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"'


class View(Protocol):
    """A host, as far as its view of files goes."""

    name: str
    directory: Path

    def environment(self) -> dict[str, str]: ...
    def admin(self, argv: Sequence[str]) -> str: ...


def install_file(host: View, path: str, content: str | bytes, mode: int) -> None:
    """See `VirtualHost.install`."""
    if not path.startswith("/"):
        raise ClusterctlError(f"{host.name}: {path!r} is not an absolute path")
    text = content.encode() if isinstance(content, str) else content
    try:
        kind, place = host.admin(["/bin/sh", "-c", _LOOK, "look", path]).splitlines()
    except ClusterctlError as error:
        raise ClusterctlError(f"{host.name}: cannot install {path}: it is not a file") from error
    number = len(list((host.directory / "installed").iterdir()))
    own = host.directory / "installed" / f"{number:04d}"
    own.mkdir(mode=0o755)
    source = own / "content"
    source.write_bytes(text)
    source.chmod(mode)
    if kind == "file":
        host.admin(["mount", "--bind", str(source), place])
        return
    if not _is_own(host, place):
        extra = ",userxattr" if os.geteuid() else ""
        host.admin(["/bin/sh", "-c", _OPEN_DIRECTORY, "open", place, str(own), extra])
        (own / "opened").write_text(place, encoding="utf-8")
    host.admin(["/bin/sh", "-c", 'exec < "$3"; ' + _WRITE, "write", path, f"{mode:o}", str(source)])


def _is_own(host: View, place: str) -> bool:
    """Whether the host alone sees what is written to this directory."""
    opened = {file.read_text(encoding="utf-8") for file in (host.directory / "installed").glob("*/opened")}
    private = [Path(p) for p in (host.environment()["HOME"], "/tmp", "/var/tmp", "/run", "/dev/shm")]
    return place in opened or any(Path(place) == p or p in Path(place).parents for p in private)
