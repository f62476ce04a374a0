"""The readiness command, through its entry point and as a process."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pytest_readiness.cli import main
from pytest_readiness.core.assess import entry_of
from pytest_readiness.ledger import open_ledger

from tests.core.build import PLAN, model


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "readiness.toml").write_text(PLAN, encoding="utf-8")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    return tmp_path


def record(project: Path, *run_ids: str) -> Path:
    for run_id in run_ids:
        made = entry_of({**model(), "run_id": run_id, "finished_at": datetime.now(UTC).isoformat()})
        open_ledger("file:.readiness/{env}.jsonl", project, "local").append(made)
    return project / ".readiness" / "local.jsonl"


def test_show_names_a_red_run_that_was_killed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(project, "r1")
    made = entry_of({**model(), "run_id": "r2", "verdict": "BROKEN", "complete": False})
    open_ledger("file:.readiness/{env}.jsonl", project, "local").announce(made)
    assert main(["ledger", "show"]) == 0
    _, _, killed, last = capsys.readouterr().out.splitlines()
    assert killed.split()[4:6] == ["BROKEN", "r2"]
    assert killed.endswith("(incomplete)")
    assert last.startswith("streak of local: 0/3 (none after run r2 of ")


def test_show_lists_the_runs_and_the_streak(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(project, "r1", "r2")
    assert main(["ledger", "show"]) == 0
    head, first, second, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["Run", "Finished", "Verdict", "Id", "Checks"]
    assert head.index("Verdict") == first.index("READY")
    assert first.split()[3:] == ["UTC", "READY", "r1", "2", "passed"]
    assert "r2" in second
    assert last == "streak of local: 2/3 (counted from the ledger's first run)"


def test_show_without_a_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "show", "--env", "staging"]) == 0
    assert capsys.readouterr().out == f"no run in file:{project}/.readiness/staging.jsonl\n"


def test_verify_an_intact_chain(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record(project, "r1")
    assert main(["ledger", "verify"]) == 0
    assert capsys.readouterr().out == f"file:{path}: 1 entry, chain verified\n"


def test_an_unknown_environment_has_no_chain(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "environments").mkdir()
    for name in ("schema", "local", "staging"):
        (project / "environments" / f"{name}.toml").touch()
    record(project, "r1")
    for action in ("show", "verify"):
        assert main(["ledger", action, "--env", "stagin"]) == 4
        assert capsys.readouterr().err == (
            f"file:{project}/.readiness/stagin.jsonl: "
            "environment 'stagin' has no profile, and its ledger is empty\n"
            "  allowed: an environment with a profile or with runs: local, staging\n"
            "  next: name one with --env\n"
        )
    assert main(["ledger", "verify", "--env", "staging"]) == 0
    assert capsys.readouterr().out == f"no run in file:{project}/.readiness/staging.jsonl\n"
    assert main(["ledger", "verify"]) == 0


def test_verify_names_the_first_bad_entry(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record(project, "r1", "r2")
    path.write_text(path.read_text().replace('"r2"', '"r3"'))
    assert main(["ledger", "verify"]) == 1
    assert capsys.readouterr().out == (
        f"file:{path}: chain broken: entry 2 (line 2) was edited: its hash does not fit its content\n"
    )
    assert main(["ledger", "show"]) == 4
    assert "entry 2" in capsys.readouterr().err


def test_a_torn_line_is_noted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with record(project, "r1").open("a") as stream:
        stream.write('{"torn')
    assert main(["ledger", "verify"]) == 0
    assert capsys.readouterr().out.startswith("note: a torn last line of 6 bytes is not an entry\n")
    assert main(["ledger", "show"]) == 0
    assert "note: " in capsys.readouterr().out


def test_a_ledger_named_by_its_url_needs_no_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = record(tmp_path, "r1")
    monkeypatch.chdir(tmp_path)
    assert main(["ledger", "verify", "--ledger", f"file:{path}"]) == 0
    assert main(["ledger", "show", "--ledger", "file:.readiness/{env}.jsonl"]) == 0
    assert "r1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ledger", "verify", "--ledger", "ftp://x"], "ledger url: 'ftp://x' is not a ledger"),
        (["ledger", "show", "--env", ""], "argument --env: empty"),
        (["ledger", "verify", "--env= "], "argument --env: empty"),
        (["ledger", "show", "--ledger", ""], "argument --ledger: empty"),
        (["self-test", "--report="], "argument --report: empty"),
        (["self-test", "--only", " "], "argument --only: empty"),
        (["ledger", "erase"], "invalid choice: 'erase'"),
        (["ledger"], "the following arguments are required: show|verify|export"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_bad_input_is_exit_4_in_at_most_three_lines(
    project: Path, arguments: list[str], expected: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_readiness.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=project,
    )
    assert done.returncode == 4
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) <= 3


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"title = ", "readiness.toml: not valid TOML"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_an_unreadable_plan_is_exit_4(
    project: Path, content: bytes, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "readiness.toml").write_bytes(content)
    assert main(["ledger", "show"]) == 4
    assert expected in capsys.readouterr().err


def test_without_a_plan_and_without_a_url_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ledger", "show"]) == 4
    assert capsys.readouterr().err == (
        "no readiness.toml in this directory or its parents\n"
        "  next: run it in a directory with a readiness.toml, or name one with --ledger URL\n"
    )


def test_an_export_is_a_separate_ledger(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record(project, "r1", "r2")
    assert main(["ledger", "export"]) == 0
    exported = project / "exported.jsonl"
    exported.write_text(capsys.readouterr().out)
    assert main(["ledger", "verify", "--ledger", f"file:{exported}"]) == 0
    assert capsys.readouterr().out == f"file:{exported}: 2 entries, chain verified\n"
    path.write_text(path.read_text().replace('"r2"', '"r3"'))
    assert main(["ledger", "export"]) == 4
    out, err = capsys.readouterr()
    assert (out, "entry 2" in err) == ("", True)


@pytest.mark.parametrize("name", ["run", "gate"])
def test_a_run_outside_a_project_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_other.py").write_text("raise SystemExit('collected')")
    monkeypatch.chdir(tmp_path)
    assert main([name]) == 4
    assert capsys.readouterr().err.splitlines() == [
        "no readiness.toml in this directory or its parents",
        "  next: run it in a directory with a readiness.toml, or create one: readiness init",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["test_other.py"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["waivers", "--state", "expird"], "'active', 'expiring', 'expired'"),
        (["checks", "--severity", "p3"], "'P0', 'P1'"),
        (["verify", "x", "--key", "y", "--accept", "GREEN"], "'READY', 'DEGRADED'"),
    ],
)
def test_a_wrong_choice_is_answered_with_the_words(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 4
    # Python 3.14 leaves out the quotes.
    assert words.replace("'", "") in capsys.readouterr().err.replace("'", "")


def test_an_unknown_option_is_refused_in_the_name_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["goals", "--env", "staging"])
    assert ended.value.code == 4
    assert capsys.readouterr().err.splitlines() == [
        "readiness goals: unrecognized arguments: --env staging",
        "  next: readiness goals --help",
    ]


@pytest.mark.parametrize("option", ["--env", "--drills", "--attest", "docs/suite.md"])
@pytest.mark.parametrize("name", ["run", "gate"])
def test_the_help_of_a_run_names_its_options(
    name: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert option in capsys.readouterr().out
