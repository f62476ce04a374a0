"""The worked example of CONTRIBUTING.md, done to a copy of the project."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.selftest.project import ROOT

COPIED = ("smoke", "stack", "environments", "conftest.py", "pyproject.toml", "readiness.toml")


def test_the_example_is_short_and_its_fault_is_detected(tmp_path: Path) -> None:
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    parts = re.findall(r"(?s)[Aa]t the end of `([^`]+)`:\n\n```\w+\n(.*?)```", text)
    assert [name for name, _ in parts] == ["smoke/health/test_health.py", "smoke/health/faults.toml"]
    assert sum(len(part.splitlines()) for _, part in parts) <= 24, "with the line in CHANGELOG.md at most 25"
    for name, part in parts:
        with (tmp_path / name).open("a") as file:
            file.write(f"\n\n{part}")
    command = [sys.executable, "-m", "pytest_readiness.cli", "self-test", "--only", "*-health-as-text"]
    done = subprocess.run(
        [*command, "--workers", "1"],
        cwd=tmp_path,
        env={"STACK_HOME": str(ROOT / ".stack"), **os.environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "detected 3 of 3, 0 false alarms" in done.stdout
