"""Which build of each service is running, asked of a hook with a short deadline."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest

from .context import RunContext

DEADLINE_S = 5.0


def ask(config: pytest.Config, context: RunContext, moment: str) -> Mapping[str, str]:
    """Return service -> build id as the hook tells it, {} when nobody knows; what went wrong is noted."""
    told: list[Mapping[str, str]] = []
    problems: list[str] = []

    def call() -> None:
        try:
            answer = config.hook.pytest_readiness_build_identity(environment=context.environment)
            told.append({str(name): str(build or "") for name, build in (answer or {}).items()})
        except (Exception, pytest.fail.Exception, pytest.skip.Exception) as problem:
            problems.append(f"{type(problem).__name__}: {problem}")

    asker = threading.Thread(target=call, name="readiness-build-identity", daemon=True)
    asker.start()
    asker.join(DEADLINE_S)
    if asker.is_alive():
        problems.append(f"no answer within {DEADLINE_S:.0f} s")
    for problem in problems:
        context.notes.append(
            context.redactor.text(f"build identity unknown at the {moment} of the run: {problem}")
        )
    return told[0] if told else {}
