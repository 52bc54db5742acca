"""W&B and trackio, as far as a run needs them. Only the process that sends to them loads either."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from clusterctl.errors import ClusterctlError

TrackerName = Literal["wandb", "trackio"]
_PROJECT = "clusterctl"


class Tracker(Protocol):
    """One run there. May raise whatever its library does."""

    where: str
    """Where people find it."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Also of a step that was told of before: a run that has begun again goes through some twice."""

    def finish(self, status: str, exit_code: int) -> None:
        """It is over, and all is sent."""


def is_installed(name: TrackerName) -> bool:
    """In the Python that runs clusterctl here."""
    return importlib.util.find_spec(name) is not None


def open_tracker(
    name: TrackerName, run: str, config: dict[str, Any], folder: Path, project: str = ""
) -> Tracker:
    """The run by its own id, new or to go on with. What a library keeps on this disk of a run that is not
    sent goes to ``folder``. ``project``: where its own variable names none. Raises ClusterctlError where it
    is not installed."""
    if not is_installed(name):
        raise ClusterctlError(f"{name} is not installed here", hint=f"pip install {name}")
    project = os.environ.get(f"{name.upper()}_PROJECT") or project or _PROJECT
    return _Wandb(run, config, folder, project) if name == "wandb" else _Trackio(run, config, project)


class _Wandb:
    """The x axis is the step of the run; W&B's own only grows."""

    def __init__(self, run: str, config: dict[str, Any], folder: Path, project: str) -> None:
        os.environ.setdefault("WANDB_DIR", str(folder))
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        wandb = importlib.import_module("wandb")
        # This process is not the training: nothing of it, of its machine or of its directory is sent.
        settings = wandb.Settings(
            console="off", x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True,
            disable_git=True, save_code=False, disable_job_creation=True, x_save_requirements=False,
        )  # fmt: skip
        self._run = wandb.init(
            project=project, id=run, name=run, config=config, resume="allow", settings=settings
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        self.where = str(self._run.url or self._run.settings.sync_dir)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def finish(self, status: str, exit_code: int) -> None:
        self._run.summary["status"] = status
        self._run.finish(exit_code=exit_code)


class _Trackio:
    def __init__(self, run: str, config: dict[str, Any], project: str) -> None:
        self._trackio = importlib.import_module("trackio")
        self._trackio.init(
            project=project, name=run, config=config, resume="allow", embed=False,
            auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip
        self.where = f"trackio show --project {project}"

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._trackio.log(dict(values), step=step)

    def finish(self, status: str, exit_code: int) -> None:
        self._trackio.finish()
