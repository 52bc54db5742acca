"""docs/why.md, written from the signatures themselves: ``python -m clusterctl.report.signatures``."""

from __future__ import annotations

import re
import sys

from clusterctl.advise.signatures import FAMILIES

_HEAD = """# What `clusterctl why` knows

Written by `python -m clusterctl.report.signatures > docs/why.md`; do not edit by hand.

Which rank failed first is decided by what happened: how it ended, what it raised and when
([launch.md](launch.md)). What that *means* is in this table, by texts of the libraries themselves. A *root*
explains itself. A *cascade* only follows from another failure: look there. A *confirmation* is no cause
alone, but speaks for one.

- What a rank raised is judged, and where it raised nothing, the end of its log: from its last traceback on,
  or its last 60 lines. What was printed before proves nothing and is told as `seen`.
- A signal from outside (SIGKILL, SIGTERM, SIGHUP) is explained by nothing that the victim had printed. A
  bare SIGKILL is no proof of a lack of memory; the kernel's own word is.
- Of a long log the first 4 MiB and the last 16 MiB are read, of other ranks' the last 64 KiB; what was not
  read is said.
- Where nothing fits, `no known signature` stands there with the last lines and the traceback.
- Warnings of the hosts while the run lived (full disks, memory limits, the kernel's log, links, GPUs) are
  told with it.

`--json`: one object, `schema` `clusterctl.why/1`. `{...}` in a sentence is what the line or the run says
there.
"""


def render() -> str:
    """The whole page as Markdown."""
    parts = [_HEAD]
    for title, signatures in FAMILIES:
        parts.append(f"\n## {title}\n\n| code | role | seen as | it means | what to do |\n|-|-|-|-|-|\n")
        parts.extend(
            f"| `{each.code}` | {each.role} | {_code(each.sign[0])}{' …' * (len(each.sign) > 1)} "
            f"| {_cell(each.means)} | {_cell(each.hint)} |\n"
            for each in signatures
        )
    return "".join(parts)


def _code(text: str) -> str:
    return f"`` {_pipes(text)} ``" if "`" in text else f"`{_pipes(text)}`"


def _cell(template: str) -> str:
    """A template as a reader would write it: what is said only where it is known is said."""
    plain = re.sub(r"\[([^\[\]]*)\]", r"\1", template)
    return _pipes(re.sub(r"\{(\w+)\}", r"`{\1}`", plain).replace("<", "&lt;"))


def _pipes(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render())
