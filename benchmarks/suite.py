"""The suite against the embedded platform, beside the mere calls and a smoke test in bash.

The floor is the time in which at least one call of the run was under way: what a plain script takes that
makes the same calls, as much side by side, and looks at no answer. ``smoke.sh`` does the six phases with
curl, jq and openssl; it makes fewer calls, so a call of the one is set beside a call of the other.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import measure
from benchmarks.measure import AS_INSTALLED, ROOT, Ran, Row, ran, ran_python

if TYPE_CHECKING:
    from stack.launch import Stack

_SIX = ("health", "jwks", "auth", "invoke", "budget", "reputation", "loop")
_LIMITS = {"boot": 6.0, "suite, start to exit": 15.0, "collection above one empty test": 1.0}
_NO_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def run(quick: bool) -> list[Row]:
    """Return the medians of the rounds, with their range. Every round measures all of it."""
    times = _measured(1 if quick else 3)
    middle = {what: statistics.median(seconds) for what, seconds in times.items()}
    ratio = middle.pop("six phases: checks to floor")
    suite, bash = middle.pop("a call of the six phases"), middle.pop("a call of smoke.sh")
    return [
        *(
            Row(what, seconds, limit=_LIMITS.get(what), note=_range(times[what]))
            for what, seconds in middle.items()
        ),
        Row("six phases: checks to floor", ratio, "×", 1.3),
        Row("a call of the six phases", suite * 1000, "ms"),
        Row("a call of smoke.sh", bash * 1000, "ms"),
        Row("the suite's call to that of smoke.sh", suite / bash, "×", 0.2),
    ]


def _measured(rounds: int) -> Mapping[str, list[float]]:
    from stack.launch import Stack

    times: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "test_empty.py").write_text("def test_empty():\n    pass\n")
        for _ in range(rounds):
            start = time.perf_counter()
            with Stack.start() as stack:
                times["boot"].append(time.perf_counter() - start)
                _run_suite(stack, Path(scratch), times)
                _run_six(stack, Path(scratch), times)
                _run_bash(stack, Path(scratch), times)
            collection = ran_python("-m", "pytest", "--collect-only", "-q", "smoke", *AS_INSTALLED)
            empty = ran_python("-m", "pytest", "--collect-only", "-q", cwd=Path(scratch), environ=_NO_PLUGINS)
            times["collection above one empty test"].append(collection.seconds - empty.seconds)
    return times


def _run_suite(stack: Stack, scratch: Path, times: Mapping[str, list[float]]) -> None:
    done, model = _pytest(stack, scratch, "smoke")
    times["suite, start to exit"].append(done.seconds)
    times["suite: checks"].append(_span(model))
    times["suite: start, collection and reports"].append(done.seconds - _span(model))


def _run_six(stack: Stack, scratch: Path, times: Mapping[str, list[float]]) -> None:
    notes = scratch / "calls.json"
    folders = [f"smoke/{phase}" for phase in _SIX]
    _, model = _pytest(stack, scratch, *folders, "-p", "benchmarks.measure", calls=notes)
    spans = json.loads(notes.read_text())
    times["six phases: checks"].append(_span(model))
    floor = measure.under_way(spans)
    times["six phases: a call is under way (the floor)"].append(floor)
    times["six phases: checks to floor"].append(_span(model) / floor)
    times["a call of the six phases"].append(_span(model) / len(spans))


def _run_bash(stack: Stack, scratch: Path, times: Mapping[str, list[float]]) -> None:
    import boto3

    profile = stack.profile
    secrets = boto3.client(
        "secretsmanager",
        endpoint_url=profile["aws"]["endpoint_url"],
        region_name=profile["aws"]["region"],
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - the emulator takes any
    )
    id_ = profile["auth"]["signing_key"].removeprefix("secretsmanager:")
    key = scratch / "key.pem"
    key.write_text(secrets.get_secret_value(SecretId=id_)["SecretString"])
    environ = {service.upper(): profile[service]["url"] for service in ("freeside", "finn", "dixie")}
    environ |= {
        "KEY": str(key),
        "COMMUNITY": profile["auth"]["community_id"],
        "AGENT": profile["auth"]["nft_id"],
    }
    done = ran(["bash", str(ROOT / "benchmarks" / "smoke.sh")], environ=environ)
    times["smoke.sh"].append(done.seconds)
    times["a call of smoke.sh"].append(done.seconds / int(done.output))


def _pytest(
    stack: Stack, scratch: Path, *arguments: str, calls: Path | None = None
) -> tuple[Ran, Mapping[str, Any]]:
    reports = scratch / "reports"
    elsewhere = ("--readiness-dir", str(reports), "--readiness-ledger", f"file:{scratch}/ledger")
    environ = {**stack.environ, **({"BENCHMARK_CALLS": str(calls)} if calls else {})}
    done = ran_python(
        "-m",
        "pytest",
        *arguments,
        "--env",
        str(stack.profile_path),
        *elsewhere,
        *AS_INSTALLED,
        environ=environ,
    )
    found = reports / "partial" / "readiness.json" if calls else reports / "readiness.json"
    return done, json.loads(found.read_text(encoding="utf-8"))


def _span(model: Mapping[str, Any]) -> float:
    start, end = (datetime.fromisoformat(model[key]) for key in ("started_at", "finished_at"))
    return (end - start).total_seconds()


def _range(seconds: list[float]) -> str:
    return f"{min(seconds):.2f} to {max(seconds):.2f} s in {len(seconds)} rounds" if len(seconds) > 1 else ""
