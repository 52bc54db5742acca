"""The one shape of a judgement, for doctor, lint and why alike."""

from __future__ import annotations

from typing import Literal

import msgspec

from clusterctl.checks.remedy import Remedy

Severity = Literal["fail", "warn", "info", "unknown"]
Status = Literal["pass", "warn", "fail", "unknown", "skip"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """``symptom`` is what the user would meet later without the fix; ``fix`` is what to type."""

    code: str
    severity: Severity
    hosts: tuple[str, ...]
    observed: str
    expected: str = ""
    symptom: str = ""
    fix: str = ""


class Cure(msgspec.Struct, frozen=True, kw_only=True):
    """What cures a finding on one of its hosts; ``host`` is "" where none is at fault."""

    code: str
    severity: Severity
    host: str
    observed: str
    expected: str
    remedy: Remedy


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """That a check ran, and how it ended: a check that ran is told apart from one that did not."""

    code: str
    status: Status
    hosts: tuple[str, ...]
    reason: str = ""
