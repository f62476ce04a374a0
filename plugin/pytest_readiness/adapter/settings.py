"""What this run was asked for, read once."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .options import PLAN_NAME

#: pytest's options with which no check runs, so that there is nothing to judge.
_INERT_OPTIONS = ("collectonly", "showfixtures", "show_fixtures_per_test", "setupplan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The invocation, as the adapter needs it. ``worker`` is the id of an xdist worker, "" elsewhere."""

    root: Path
    environment: str
    gate: bool
    drills: bool
    degraded_exit_code: int
    reports: Path
    ledger_url: str
    inert: bool
    worker: str
    distribution: str

    @classmethod
    def from_config(cls, config: pytest.Config) -> Settings:
        """Read the options of a configured run."""
        directory = config.getoption("readiness_dir")
        workerinput: dict[str, Any] = getattr(config, "workerinput", {})
        return cls(
            root=config.rootpath,
            environment=config.getoption("readiness_env") or "local",
            gate=config.getoption("readiness_gate"),
            drills=config.getoption("readiness_drills"),
            degraded_exit_code=config.getoption("readiness_degraded_exit_code"),
            reports=(config.invocation_params.dir / directory)
            if directory
            else (config.rootpath / "reports"),
            ledger_url=config.getoption("readiness_ledger") or "",
            inert=any(config.getoption(name, False) for name in _INERT_OPTIONS),
            worker=str(workerinput.get("workerid", "")),
            distribution=_distribution(config),
        )

    @property
    def plan_path(self) -> Path:
        """The plan's file."""
        return self.root / PLAN_NAME

    @property
    def is_controller(self) -> bool:
        """True in the process that judges: the only one, or xdist's controller."""
        return not self.worker

    @property
    def is_distributed(self) -> bool:
        """True on the controller of a run that xdist distributes."""
        return self.is_controller and self.distribution != "no"


def was_given(config: pytest.Config, *names: str) -> bool:
    """Tell whether the user wrote one of these options: on the command line, in PYTEST_ADDOPTS or addopts."""
    written = [
        *map(str, config.invocation_params.args),
        *shlex.split(os.environ.get("PYTEST_ADDOPTS", "")),
        *config.getini("addopts"),
    ]
    return any(word == name or word.startswith(f"{name}=") for word in written for name in names)


def _distribution(config: pytest.Config) -> str:
    return str(config.getoption("dist", "no")) if config.getoption("tx", []) else "no"
