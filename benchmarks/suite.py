"""What the suite takes: against the embedded platform, and on a large repository.

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
import shutil
import subprocess

_SIX = ("health", "jwks", "auth", "invoke", "budget", "reputation", "loop")
_LIMITS = {"boot": 6.0, "suite, start to exit": 15.0, "collection above one empty test": 1.0}
_NO_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def suite(quick: bool) -> list[Row]:
    """The suite against the embedded platform, beside the mere calls and a smoke test in bash."""
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


FILES, TERRAFORM = 5_000, 200
_TREE = ROOT / "stack" / "source" / "tree"
_PROFILE = """\
name = "bench"
live = false
[freeside]
url = "http://127.0.0.1:9"
[dixie]
url = "http://127.0.0.1:9"
"""
_RESOURCES = """\
resource "aws_sqs_queue" "queue_{number}" {{
  name                       = "${{local.name_prefix}}-queue-{number}"
  visibility_timeout_seconds = {number}
  tags                       = {{ Purpose = "queue {number}" }}
}}

resource "aws_cloudwatch_log_group" "queue_{number}" {{
  name              = "/bench/queue-{number}"
  retention_in_days = 30
}}
"""
_SOURCES = {
    "ts": "export const value{number} = (input: number): number => input * {number};\n" * 20,
    "md": "# Note {number}\n\nWhat was decided, and why.\n" * 10,
    "sh": '#!/usr/bin/env bash\nset -euo pipefail\necho "step {number}"\n' * 5,
    "json": '{{"id": {number}}}\n',
}


def repository(quick: bool) -> list[Row]:
    """The static checks on a generated repository of 5,000 files, 200 of them Terraform."""
    files, terraform = (FILES // 10, TERRAFORM // 10) if quick else (FILES, TERRAFORM)
    with tempfile.TemporaryDirectory() as scratch:
        repository = Path(scratch, "repository")
        generate(repository, files, terraform)
        profile = Path(scratch, "bench.toml")
        profile.write_text(_PROFILE)
        reports = f"{scratch}/reports"
        elsewhere = ("--readiness-dir", reports, "--readiness-ledger", f"file:{scratch}/ledger")
        ran = ran_python(
            "-m", "pytest", "smoke", "-m", "static", "--env", str(profile), *elsewhere, *AS_INSTALLED,
            environ={"READINESS_IAC_DIR": str(repository)}, accepted=range(7),
        )  # fmt: skip
        checks = json.loads(Path(reports, "partial", "readiness.json").read_text())["checks"]
    took = sorted(((check["duration_s"], check["id"]) for check in checks), reverse=True)
    note = f"{len(took)} checks, {sum(check['outcome'] == 'passed' for check in checks)} passed"
    return [
        Row("static checks", sum(seconds for seconds, _ in took), "s", 5.0, note),
        *(Row(f"slowest: {name}", seconds) for seconds, name in took[:3]),
        Row("all of the run", ran.seconds, note="with start, collection and reports"),
        Row("peak memory", ran.peak_mib, "MiB"),
    ]


def generate(repository: Path, files: int, terraform: int) -> None:
    """Make a repository of this many files around the tree of the embedded platform, and commit it."""
    shutil.copytree(_TREE, repository)
    own = [path for path in repository.rglob("*") if path.is_file()]
    modules = repository / "infrastructure" / "terraform"
    for number in range(terraform - sum(path.suffix == ".tf" for path in own)):
        (modules / f"queue-{number:03}.tf").write_text(_RESOURCES.format(number=number))
    for number in range(files - terraform - sum(path.suffix != ".tf" for path in own)):
        suffix, text = [*_SOURCES.items()][number % len(_SOURCES)]
        folder = repository / "packages" / f"package-{number % 50:02}" / "src"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file-{number:04}.{suffix}").write_text(text.format(number=number))
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "All of it"]):
        author = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
        subprocess.run(["git", *author, *command], cwd=repository, check=True)  # noqa: S607
