"""Steps as common libraries and scripts print them, read from a rank's log. Pure.

For ranks that tell nothing by themselves. What is printed is rounded, and comes when it comes: a record says
from which kind of line it was read. No line of a rank's may take long: every repetition here has an end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from clusterctl.run.metrics.record import Told, from_values

INTERESTING = re.compile(rb"(?i)loss|it/s|s/it|SamplesPerSec|skipped=")
"""What a block of a log has in it that is worth to be read line by line."""
_LONGEST = 4096
_MOST_BARS = 16
_NUMBER = r"[-+]?(?:\d{1,30}(?:\.\d{0,30})?(?:[eE][-+]?\d{1,3})?|\.\d{1,30}|nan|inf)"
_ENDS = r"(?!\w|\.\d)"
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_BAR = re.compile(
    r"(?<!\d)(\d{1,12})/(\d{1,12}) \[[\d:?]{1,20}<[^,\]]{0,20}, {0,9}"
    r"(?:(\d{1,9}(?:\.\d{1,9})?)(it/s|s/it)|\?it/s)(.*)\]"
)
_RICH_BAR = re.compile(
    r"Epoch (\d{1,9})/\d{1,9}\s{1,9}[━╸╺]{1,300}\s{1,9}(\d{1,12})/(\d{1,12})\s.{0,60}?"
    r"(?:(\d{1,9}\.\d{1,9})it/s)?(?=\s*[a-z]\w*:)(.*)"
)
_DIGITS = re.compile(r"[\d\s]+")
_IN_QUOTES = re.compile(rf"""["']([\w/.\-]{{1,64}})["'] *: *["']?({_NUMBER})["']?(?=\s*[,}}])""")
_NAMED = re.compile(
    r"(?i)(?<![\w.])(train(?:ing)?[_ /]loss(?:_step)?|(?:val|valid|validation|eval|test)[_ /]loss"
    r"|lm loss|loss(?:_step)?|lr|learning[_ ]rate|grad(?:ient)?[_ ]norm|gnorm|mfu"
    r"|number of skipped iterations|elapsed time per iteration \(ms\)|time)"
    rf"\s{{0,9}}[:=]?\s{{0,9}}(?:tensor\()?({_NUMBER})(ms|s|%)?{_ENDS}"
)
_STEP = re.compile(
    r"(?i)(?<![\w.])(?:global[_ ]?step|step|iteration|iter)s?\s{0,9}[:=#]?\s{0,9}\[?\s{0,9}(\d{1,15})" + _ENDS
)
_EVALUATED = re.compile(r"\b(?:test|testing|val|valid|validation|eval|evaluation|sanity)\b")
_DEEPSPEED_SPEED = re.compile(
    r"global_step=(\d{1,15}), RunningAvgSamplesPerSec=[\d.]{1,40}, CurrSamplesPerSec=(\d{1,15}\.?\d{0,30})"
    r"(?:, MemAllocated=[\d.]{1,20}GB, MaxMemAllocated=(\d{1,9}\.?\d{0,9})GB)?"
)
_DEEPSPEED_STEP = re.compile(r"\bstep=(\d{1,15}), skipped=(\d{1,15}), lr=\[(" + _NUMBER + ")")
_OURS = {
    "learning_rate": "lr", "learning rate": "lr", "gnorm": "grad_norm", "grad norm": "grad_norm",
    "gradient norm": "grad_norm", "gradient_norm": "grad_norm", "lm loss": "loss",
    "number of skipped iterations": "skipped",
}  # fmt: skip


_Bar = tuple[str, int]
"""What stands before it, without numbers, and its total."""


class LogReader:
    """Of one rank's log, line by line; a carriage return ends a line, too."""

    def __init__(self) -> None:
        self._rest = b""
        self._bars: dict[_Bar, int] = {}
        self._main = ("", 0)
        """The bar that counts steps."""
        self._epochs: dict[_Bar, int] = {}
        self._stepped = False
        self._counted = 0

    def read(self, data: bytes) -> Iterator[tuple[Told, str]]:
        """What these bytes tell, and the kind of line that does."""
        data = self._rest + data
        if not INTERESTING.search(data):
            self._rest = data[data.rfind(b"\n") + 1 :][-_LONGEST:]
            return
        *lines, self._rest = re.split(rb"[\r\n]", data)
        self._rest = self._rest[-_LONGEST:]
        for line in lines:
            if len(line) <= _LONGEST and INTERESTING.search(line):
                found = self._line(_ESCAPE.sub("", line.decode(errors="replace")))
                if found is not None:
                    yield found

    def _line(self, line: str) -> tuple[Told, str] | None:
        speed, step = _DEEPSPEED_SPEED.search(line), _DEEPSPEED_STEP.search(line)
        if speed is not None:
            values = {"samples_per_s": float(speed[2])}
            if speed[3]:
                values["peak_bytes"] = float(speed[3]) * 2**30
            return _told(speed[1], values, "deepspeed")
        if step is not None and int(step[1]):  # at 0 it says how it begins
            return _told(step[1], {"skipped": float(step[2]), "lr": float(step[3])}, "deepspeed")
        bar = _BAR.search(line)
        if bar is not None:
            return self._bar(bar)
        if "━" in line:
            rich = _RICH_BAR.search(line)
            return self._rich_bar(rich) if rich is not None else None
        quoted = _IN_QUOTES.findall(line) if "{" in line else []
        if quoted:
            return self._dictionary({name: float(value) for name, value in quoted})
        return self._text(line)

    def _bar(self, bar: re.Match[str]) -> tuple[Told, str] | None:
        """A bar moves on; where it has a loss, that is a step's."""
        label = bar.string[: bar.start()].rpartition("\r")[2].partition("%|")[0].lower()
        if _EVALUATED.search(label):
            return None
        done, total = int(bar[1]), int(bar[2])
        which = (_DIGITS.sub("", label), total)
        before = self._bars.pop(which, 0)
        if done < before:
            self._epochs[which] = self._epochs.get(which, 0) + 1
        self._bars[which] = done
        if len(self._bars) > _MOST_BARS:
            self._epochs.pop(next(iter(self._bars)), None)
            del self._bars[next(iter(self._bars))]
        values = _named(bar[5])
        if "loss" not in values or not done:
            return None
        if bar[3] and float(bar[3]):
            values["step_s"] = 1 / float(bar[3]) if bar[4] == "it/s" else float(bar[3])
        self._stepped = True
        kind = "lightning" if "v_num=" in bar[5] else "tqdm"
        return _told(done + total * self._epochs.get(which, 0), values, kind)

    def _rich_bar(self, bar: re.Match[str]) -> tuple[Told, str] | None:
        """Lightning's, where rich is installed; it says its epoch, from 0."""
        values, done, total = _named(bar[5]), int(bar[2]), int(bar[3])
        if "loss" not in values or not done:
            return None
        if bar[4] and float(bar[4]):
            values["step_s"] = 1 / float(bar[4])
        self._stepped = True
        return _told(int(bar[1]) * total + done, values, "lightning")

    def _dictionary(self, told: dict[str, float]) -> tuple[Told, str] | None:
        """As transformers prints it, without its step: that is where the bar stands."""
        values = {_OURS.get(name, name): value for name, value in told.items()}
        step = values.pop("global_step", values.pop("step", None))
        if not {"loss", "eval_loss"} & values.keys():
            return None
        if step is None and "loss" in values and self._bars:
            self._main = next(reversed(self._bars))
        if step is None:
            step = self._bars.get(self._main)
        return self._at(step, values, "hf")

    def _text(self, line: str) -> tuple[Told, str] | None:
        values = _named(line)
        if not {"loss", "eval_loss"} & values.keys():
            return None
        if "loss" in values and _EVALUATED.search(line.lower().partition("loss")[0]):
            values.setdefault("eval_loss", values.pop("loss"))
        step = _STEP.search(line)
        return self._at(
            float(step[1]) if step else None, values, "megatron" if " | lm loss" in line else "text"
        )

    def _at(self, step: float | None, values: dict[str, float], kind: str) -> tuple[Told, str] | None:
        """Where nothing says which step it is, lines are counted, unless others have said it."""
        if step is not None:
            self._stepped = True
            return _told(step, values, kind)
        if self._stepped:
            return None
        if "loss" in values:
            self._counted += 1
        return _told(self._counted, values, f"{kind}, counted")


def _named(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, number, unit in _NAMED.findall(text):
        name, value = name.lower(), float(number)
        if name.startswith(("val", "eval", "test")):
            name = "eval_loss"
        elif name.startswith(("train", "loss")):
            name = "loss"
        elif name.startswith("elapsed"):
            name, value = "step_s", value / 1000
        elif name == "time":
            if not unit:
                continue
            name, value = "step_s", value / 1000 if unit == "ms" else value
        elif name == "mfu":
            value = value / 100 if unit == "%" else value
            if not 0 <= value <= 1:
                continue
        found.setdefault(_OURS.get(name, name), value)
    return found


def _told(step: float | str, values: dict[str, float], kind: str) -> tuple[Told, str] | None:
    told = from_values({"step": float(step), **values})
    return None if told is None else (told, f"log:{kind}")
