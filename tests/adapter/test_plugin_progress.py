"""A run on a terminal shows its progress between pytest's own lines; redirected output has none."""

import os
import re
import subprocess
import sys

import pytest
from pytest_readiness.adapter.wiring import Estimate

from tests.adapter.scenario import DEFAULT, PLUGINS, QUIET, Suite

LEFT = r"(?:about \d+ (?:s|min)|less than a second) left"
LINE = re.compile(rf"readiness: phase \d of \d \(\w+\), \d of \d checks done(?:, {LEFT})?")


def _three(suite: Suite) -> None:
    for phase, count in (("health", 2), ("work", 1)):
        body = "".join(
            f"@pytest.mark.p0\ndef test_{phase}_{n}(evidence): passing(evidence)\n" for n in range(count)
        )
        suite.checks(body, f"smoke/test_{phase}.py", phase=phase)
    suite.run("smoke/none", plugins=())  # leaves out the phase without checks


def _on_a_terminal(suite: Suite, *args: str, **environ: str) -> list[str]:
    """Run pytest on a terminal of 100 columns; return the lines that it shows."""
    loaded = [word for name in (*DEFAULT, "xdist") for word in ("-p", PLUGINS[name])]
    master, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *loaded, "--reruns-delay=0", *QUIET, *args, "smoke"],
        cwd=suite.root,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(suite.root),
            "SCENARIO_ROOT": str(suite.root),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "TERM": "xterm",
            "COLUMNS": "100",
            **environ,
        },
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    with os.fdopen(master, "rb", buffering=0) as stream:
        try:
            while part := stream.read(4096):
                shown += part
        except OSError:  # what Linux raises once the other side is closed
            pass
    assert process.wait(timeout=30) == 0, shown.decode()
    return shown.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize(
    "args", [(), ("-q",), ("-v",), ("-vv",), ("-n2",), ("-n2", "-v"), ("-n1", "-q"), ("-s",)], ids=" ".join
)
def test_a_terminal_shows_how_far_the_run_is(suite: Suite, args: tuple[str, ...]) -> None:
    _three(suite)
    lines = _on_a_terminal(suite, *args, NO_COLOR="1")
    said = [line for line in lines if "readiness: phase" in line]
    assert said
    assert all(LINE.fullmatch(line) for line in said), lines
    assert ", 0 of 3 checks done" in said[0]
    if not any(arg.startswith("-n") for arg in args):  # workers can start with any phase
        assert said[0] == "readiness: phase 1 of 2 (health), 0 of 3 checks done"
        assert re.fullmatch(rf"readiness: phase 2 of 2 \(work\), 2 of 3 checks done, {LEFT}", said[1])
        at = lines.index(said[1])
        assert all((lines[at - 1], lines[at + 1])), lines  # no line is left empty for it
    assert "".join(lines).count("readiness: phase") == len(said)


def test_colour_follows_pytests_rules(suite: Suite) -> None:
    _three(suite)
    assert any("\x1b[36mreadiness: phase 1" in line for line in _on_a_terminal(suite))
    assert not any("\x1b[" in line for line in _on_a_terminal(suite, NO_COLOR="1"))


@pytest.mark.parametrize("args", [("-qq",), ("--readiness-progress=no",)], ids=" ".join)
def test_a_terminal_that_wants_no_progress_has_none(suite: Suite, args: tuple[str, ...]) -> None:
    _three(suite)
    assert not any("readiness: phase" in line for line in _on_a_terminal(suite, *args))


@pytest.mark.parametrize("plugins", [DEFAULT, (*DEFAULT, "html", "metadata")], ids=["plain", "html"])
def test_kept_output_has_progress_only_when_asked(suite: Suite, plugins: tuple[str, ...]) -> None:
    _three(suite)
    assert "readiness: phase" not in suite.run(plugins=plugins).output()
    asked = suite.run("--readiness-progress=yes", plugins=plugins)
    assert "readiness: phase 2 of 2 (work), 2 of 3 checks done" in asked.out
    assert "\x1b[" not in asked.out
    assert asked.code == 0


def test_the_last_full_run_says_how_long_this_one_takes(suite: Suite) -> None:
    _three(suite)
    assert suite.run().code == 0
    assert "0 of 3 checks done, less than a second left" in suite.run("--readiness-progress=yes").out


def _entry(complete: bool = True, **took_s: float) -> dict[str, object]:
    return {
        "complete": complete,
        "started_at": "2027-01-01T00:00:00Z",
        "finished_at": "2027-01-01T00:00:30Z",
        "checks": [{"id": name, "duration_s": seconds} for name, seconds in took_s.items()],
    }


@pytest.mark.parametrize(
    ("earlier", "done", "waiting", "left"),
    [
        ([], 0, ["a", "b"], None),
        ([], 1, ["a", "b"], 20.0),
        ([_entry()], 1, ["a", "b"], 20.0),
        ([_entry(a=0.0)], 1, ["a", "b"], 20.0),
        ([_entry(complete=False, a=5.0)], 0, ["a"], None),
        ([_entry(a=20.0, b=40.0)], 0, ["a", "b"], 30.0),  # two workers: 60 s of checks in 30 s
        ([_entry(a=20.0, b=40.0)], 1, ["b"], 20.0),
        ([_entry(a=20.0, b=40.0)], 1, ["new"], 15.0),
        ([_entry(a=1.0), _entry(a=20.0, b=40.0), _entry(complete=False, a=7.0)], 1, ["b"], 20.0),
    ],
)
def test_time_left(earlier: list[dict[str, object]], done: int, waiting: list[str], left: float) -> None:
    assert Estimate(earlier).left_s(done, waiting, elapsed_s=10.0) == left
