"""Where Dixie caches scores, the checks of the loop wait for that cache together, not one after another."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smoke.platform.scores import WAITED
from stack.launch import VARIANTS
from tests.test_architecture import ROOT

#: Complete waits that the phase needs with all keys: one after another, they would be more than twenty.
MOST_WAITS = 3


def waits_in(document: Any) -> Iterator[float]:
    if isinstance(document, dict):
        if document.get("name") == WAITED:
            yield document["value"]
        document = list(document.values())
    if isinstance(document, list):
        for part in document:
            yield from waits_in(part)


@pytest.mark.timeout(240)
def test_the_loop_waits_for_the_cache_a_few_times(tmp_path: Path) -> None:
    cache_s = VARIANTS["cached-scores"].profile["dixie.cache_s"]
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "smoke/loop", "--env", "local", "-q", "-p", "no:cacheprovider"),
            *("--readiness-dir", str(tmp_path), "--readiness-ledger", f"file:{tmp_path / 'ledger.jsonl'}"),
        ],
        cwd=ROOT,
        env=os.environ | {"STACK_VARIANT": "cached-scores"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    report = next(tmp_path.rglob("readiness.json"))
    waits = [*waits_in(json.loads(report.read_text()))]
    assert len(waits) > 5
    assert sum(waits) / cache_s <= MOST_WAITS
