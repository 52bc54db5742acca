"""The same packages on all hosts, and those that the profile expects."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import msgspec

from clusterctl.checks.consistency import deviations, unlike
from clusterctl.checks.finding import Severity
from clusterctl.checks.remedy import Remedy, package, path, shell
from clusterctl.checks.rule import Blocked, Evidence, Hit, Rule, Skipped, Verdict
from clusterctl.checks.sw.interpreter import bare_hosts, with_python, without_python
from clusterctl.facts.model import Facts
from clusterctl.facts.versions import is_range, version


def same_version(
    name: str, *, required: bool, severity: Severity, build: bool = True
) -> Callable[[Evidence], Iterator[Verdict]]:
    """One version everywhere or nowhere; ``required`` packages may not be missing everywhere either.

    Without ``build`` the tag behind a ``+`` is left to another rule, unless the profile asks for it.
    """

    def judge(evidence: Evidence) -> Iterator[Verdict]:
        yield from without_python(evidence)
        asked = with_python(evidence)
        bare = bare_hosts(evidence)
        if name != "torch":
            for host in bare:
                yield Blocked(host, "its interpreter has few of the packages: sw.torch")
                del asked[host]
        versions = {host: facts.python.packages.get(name, "") for host, facts in asked.items()}
        wanted = evidence.expect.get(name, "")
        if not any(versions.values()) and not required and not wanted:
            yield Skipped(f"{name} is on no host")
            return
        lacking = tuple(host for host, told in versions.items() if not told)
        right = wanted or _newest(versions.values())
        for host in lacking:
            cure = _installed(asked[host], name, _whole(versions.values(), right))
            alone = host not in bare
            yield Hit(
                hosts=(host,),
                observed=f"{name} is not installed"
                + ("" if alone else f" in {asked[host].python.executable}, nor most of what the others have"),
                expected=f"{name} {right}".rstrip(),
                severity=severity,
                symptom=f"“No module named '{name.replace('-', '_')}'” there, while the other ranks wait",
                fix=cure if alone else msgspec.structs.replace(_ANOTHER, instead=cure.commands),
                cause="missing" if alone else "bare",
            )
        present = {
            host: told if build or wanted else told.partition("+")[0]
            for host, told in versions.items()
            if told
        }
        if wanted:
            hits = tuple(unlike(present, wanted, of=name, severity=severity))
        else:
            hits = tuple(deviations(present, of=name, severity=severity))
            # Without a majority nobody knows which is right.
            right = hits[0].expected.removeprefix(f"{name} ").partition(",")[0] if hits else ""
            right = right if version(right) else ""
        for hit in hits:
            for host in hit.hosts if right else ():
                cure = _installed(asked[host], name, _whole(versions.values(), right))
                yield msgspec.structs.replace(hit, hosts=(host,), fix=cure, cause=hit.observed)
            if not right:
                yield hit

    return judge


_ANOTHER = Remedy(
    advice="where the packages lie in another environment, name its interpreter in the profile, as "
    "`python: /path/to/venv/bin/python`"
)


def _whole(versions: Iterable[str], wanted: str) -> str:
    """With the build tag that most hosts have of it."""
    counted = Counter(told for told in versions if told in (wanted, f"{wanted}+{told.partition('+')[2]}"))
    return counted.most_common(1)[0][0] if counted else wanted


def _installed(facts: Facts, name: str, wanted: str) -> Remedy:
    python = path(facts.python.executable) if facts.python.executable else "python3"
    number, _, build = wanted.partition("+")
    asked = number if is_range(wanted) or not wanted else f"=={number}"
    values = (python, package(f"{name}{asked}"))
    if name == "torch" and re.fullmatch(r"cpu|cu\d{2,3}", build):
        index = f"https://download.pytorch.org/whl/{build}"
        return shell("{} -m pip install {} --index-url {}", values=(*values, index))
    return shell("{} -m pip install {}", values=values)


def _newest(versions: Iterable[str]) -> str:
    """Without its build tag: what pip would be asked for."""
    known = [found for found in map(version, versions) if found]
    return max(known).public if known else ""


ALIGN = "install the same version everywhere; a profile's `expect` holds them to it"


_LIBRARIES = {
    **dict.fromkeys(
        ("transformers", "accelerate", "datasets", "tokenizers", "peft"),
        "hosts may read a model, a tokenizer or a data set differently",
    ),
    "numpy": "arrays pickled on one host do not load on another, and seeds give other numbers",
    "flash-attn": "ranks compute attention differently, or one dies at its import",
    "triton": "kernels are compiled differently: one host fails or is slower",
    "bitsandbytes": "quantised weights of one host do not load on another",
}


RULES: tuple[Rule, ...] = (
    Rule(
        code="sw.deepspeed",
        severity="fail",
        looks_at="deepspeed's version",
        judge=same_version("deepspeed", required=False, severity="fail"),
        needs=("python",),
        symptom="ZeRO partitions and checkpoints of different versions do not fit together",
        fix=ALIGN,
    ),
    *(
        Rule(
            code=f"sw.{name}",
            severity="warn",
            looks_at=f"{name}'s version",
            judge=same_version(name, required=False, severity="warn"),
            needs=("python",),
            symptom=symptom,
            fix=ALIGN,
        )
        for name, symptom in _LIBRARIES.items()
    ),
)
