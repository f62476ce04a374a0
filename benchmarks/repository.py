"""The static checks on a generated repository of 5,000 files, 200 of them Terraform."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.measure import AS_INSTALLED, ROOT, Row, ran_python

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


def run(quick: bool) -> list[Row]:
    """Return what the checks take, and the slowest of them."""
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
