"""Escape sequences of a message, a header or an id reach neither the terminal nor a report."""

import re
from collections.abc import Callable

import pytest

from tests.adapter.scenario import HTML, Run, Suite

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
FAKE = "BROKEN\\r\\x1b[2J\\x1b[31mFAKE READY\\x1b]8;;http://evil\\x07\\u202eYDAER"
PLACES = {
    "assertion": f"assert False, '{FAKE}'",
    "exception": f"raise SetupError('{FAKE}')",
    "compared": f"assert '{FAKE}' == 'x'",
    "local": f"fake = '''{FAKE}'''\n    assert not fake",
    "skip": f"pytest.skip('{FAKE}')",
    "xfail": f"pytest.xfail('{FAKE}')",
    "printed": f"print('{FAKE}')\n    assert False",
    "logged": f"import logging; logging.getLogger().error('{FAKE}')\n    assert False",
    "warned": f"import warnings; warnings.warn('{FAKE}')\n    assert False",
    "figure": f"evidence.figure('{FAKE}', '{FAKE}', '{FAKE}')\n    assert False",
    "rule": f"evidence.evaluated('{FAKE}')\n    assert False",
    "note": f"evidence.note('{FAKE}')\n    assert False",
    "notes": f"error = AssertionError('x')\n    error.add_note('{FAKE}')\n    raise error",
    "group": f"raise ExceptionGroup('{FAKE}', [AssertionError('{FAKE}')])",
}


ARGUMENTS = {
    "v": ("-v",),
    "rA": ("-rA", "--tb=long", "-l"),
    "n1": ("-n1",),
    "s": ("-s",),
    "live-log": ("-o", "log_cli=true", "--log-cli-level=INFO"),
    "junit": ("--junitxml=reports/junit.xml",),
}


def raw_controls(run: Run) -> list[str]:
    shown = {"terminal": run.out + run.err}
    shown |= {path.name: path.read_text() for path in (run.root / "reports").iterdir() if path.is_file()}
    found = {place: CONTROLS.search(text) for place, text in shown.items()}
    return [
        f"{place}: {shown[place][max(0, at.start() - 60) : at.end() + 30]!r}"
        for place, at in found.items()
        if at is not None
    ]


@pytest.mark.parametrize("args", ARGUMENTS.values(), ids=ARGUMENTS)
def test_no_control_character_reaches_terminal_or_report(suite: Suite, args: tuple[str, ...]) -> None:
    suite.checks(
        "".join(
            f"\n@pytest.mark.p0\ndef test_{name}(evidence):\n    passing(evidence)\n    {body}\n"
            for name, body in PLACES.items()
        )
    )
    run = suite.run(*args, plugins=HTML)
    assert run.code == 1, run.output()
    assert not raw_controls(run)
    assert "FAKE READY" in run.out


@pytest.mark.parametrize(
    "spoil",
    [
        lambda suite: suite.checks(f"raise ValueError('{FAKE}')"),
        lambda suite: suite.checks(f"pytest.exit('{FAKE}')"),
    ],
    ids=["module", "exit"],
)
def test_no_control_character_of_a_collection_error_reaches_the_terminal(
    suite: Suite, spoil: Callable[[Suite], None]
) -> None:
    spoil(suite)
    run = suite.run()
    assert run.code not in (0, 1)
    assert not raw_controls(run)
