"""A pytest plugin, loaded by name in the collecting process: lists the suite's checks and warms it up."""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path
from typing import Any

#: The environment variable that names the file to write.
VARIABLE = "READINESS_SELFTEST_LISTING"
_COLLECTOR = "readiness-collector"


def pytest_sessionfinish(session: Any) -> None:
    """Write what a catalogue needs of every check, in the order of the run, and warm the suite up."""
    collector = session.config.pluginmanager.get_plugin(_COLLECTOR)
    selected = collector.catalogue.selected if collector is not None else {}
    checks = [
        {"id": check.id, "nodeid": nodeid, "severity": check.severity, "goal": check.goal}
        for nodeid, check in selected.items()
    ]
    Path(os.environ[VARIABLE]).write_text(json.dumps(checks), encoding="utf-8")
    if checks:
        try:
            session.config.hook.pytest_readiness_warm()
        except Exception:
            traceback.print_exc()  # to the log: the runs are only slower
