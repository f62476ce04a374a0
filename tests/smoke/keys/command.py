"""Runs of `python -m smoke.keys` and how they ended."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass

WITHIN_S = 60


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


class Command:
    """Starts commands."""

    def __init__(self, start: Callable[..., "subprocess.Popen[str]"]) -> None:
        self.start = start

    def __call__(self, *arguments: str) -> Ended:
        """Run one command to its end."""
        return self.end(self.start(*arguments))

    def end(self, process: "subprocess.Popen[str]") -> Ended:
        """Wait for a started command."""
        out, err = process.communicate(timeout=WITHIN_S)
        return Ended(process.returncode, out, err)

    def until(self, line: str, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command and return when it has said a line that begins so."""
        process = self.start(*arguments)
        assert process.stdout is not None
        for said in process.stdout:
            if said.startswith(line):
                return process
        raise AssertionError(f"ended without saying {line!r}: {self.end(process)}")
