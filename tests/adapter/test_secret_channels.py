"""No output of a run shows a secret: terminal, logs, caches, reports of pytest and of its plugins.

Each case is a run of pytest with a secret that its profile refers to; all that it printed and every file that
it left are searched.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapter.leaky import ALONE, CONFTESTS, FAILS, FIELDS, JWT, V, check, named
from tests.adapter.scenario import HTML, WORKERS, Run, Suite
from tests.core.secret_corpus import KEYS, is_visible

TOKEN = "s3cr3t/value+with=specials"
LONG = "v3ry-" + "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST" * 8
LINES = "first-line-of-it-all\nsecond/line+42==and-on"
ALL_REPORTS = ("--junitxml=reports/junit.xml", "-rA", "-vv", "--durations=0")


def left(run: Run) -> Iterator[tuple[str, str]]:
    """Yield the name and text of all that a run printed and wrote; not the files of the suite itself."""
    yield "stdout", run.out
    yield "stderr", run.err
    for path in sorted(run.root.rglob("*")):
        if path.is_file() and path.suffix not in {".py", ".toml", ".ini", ".pem"}:
            yield str(path.relative_to(run.root)), path.read_text(errors="replace")


def nowhere(run: Run, *secrets: str) -> None:
    for name, text in left(run):
        for secret in secrets:
            assert not is_visible(text, secret), f"{name}:\n{text[:6000]}"


def go(suite: Suite, body: str, *args: str, secret: str = TOKEN) -> Run:
    suite.checks(V + body)
    run = suite.run(*ALL_REPORTS, *args, plugins=HTML, environ={"SCENARIO_TOKEN": secret})
    nowhere(run, secret, JWT)
    return run


@WORKERS
def test_fields_of_reports(suite: Suite) -> None:
    """All in one run; the channels are independent."""
    for field, source in FIELDS.items():
        name = field.replace("-", "_")
        suite.checks(V + source.replace("test_x", f"test_{name}"), f"smoke/test_{name}.py")
    run = suite.run(*ALL_REPORTS, plugins=HTML, environ={"SCENARIO_TOKEN": TOKEN})
    nowhere(run, TOKEN, JWT)
    assert run.verdict != "READY", run.output()
    assert len({check["id"] for check in run.model["checks"]}) == len(FIELDS)
    assert (run.root / "reports/junit.xml").exists(), "withheld, so a field is not visited"


@WORKERS
@pytest.mark.parametrize("field", ALONE)
def test_what_ends_a_run(suite: Suite, field: str) -> None:
    run = go(suite, ALONE[field])
    assert run.verdict not in ("READY", "BROKEN"), run.output()


@pytest.mark.parametrize(
    "option",
    [
        ("--full-trace",),
        ("--tb=native",),
        ("--tb=no",),
        ("--tb=line",),
        ("--tb=short", "-l"),
        ("-l",),
        ("-s",),
        ("--capture=tee-sys",),
        ("-o", "log_cli=true", "--log-cli-level=DEBUG"),
        ("--log-file=logs.txt", "--log-file-level=DEBUG"),
        ("-o", "log_file=logs.txt", "-o", "log_file_level=DEBUG"),
        ("--debug=trace.log",),
        ("--setup-show",),
        ("--trace-config",),
        ("-x",),
        ("--color=yes",),
        ("-q", "-q"),
    ],
    ids=" ".join,
)
def test_options_that_show_more(suite: Suite, option: tuple[str, ...]) -> None:
    run = go(suite, FAILS, *option)
    assert run.verdict != "READY", run.output()


@pytest.mark.parametrize("secret", [LONG, LINES], ids=["long", "lines"])
@pytest.mark.parametrize("option", [("-l",), ("--setup-show", "-s"), ("--color=yes", "-l")], ids=" ".join)
def test_values_that_pytest_cuts_or_spreads(suite: Suite, option: tuple[str, ...], secret: str) -> None:
    go(suite, FAILS, *option, secret=secret)


@pytest.mark.parametrize("key", ["pkcs8", "rsa", "openssh"])
def test_a_private_key_that_the_run_does_not_know(suite: Suite, key: str) -> None:
    suite.write("other.pem", KEYS[key])
    suite.checks(
        check(
            "p = pathlib.Path('other.pem').read_text(); [print(n) for n in p.splitlines()]; raise OSError(p)"
        )
    )
    for option in ("-s", "-l"):
        nowhere(suite.run(*ALL_REPORTS, option, plugins=HTML), KEYS[key])


@pytest.mark.parametrize("quiet", ["-v", "-q", "-qq"])
@pytest.mark.parametrize("only", ["--collect-only", "--setup-plan", "--fixtures-per-test"])
def test_runs_that_only_collect(suite: Suite, only: str, quiet: str) -> None:
    suite.checks(V + FIELDS["own-id"] + FIELDS["fixture-id"].replace("test_x", "test_y"))
    run = suite.run(only, quiet, environ={"SCENARIO_TOKEN": TOKEN})
    assert run.code == 0, run.output()
    nowhere(run, TOKEN)


@pytest.mark.parametrize("way", CONFTESTS)
def test_conftests_and_hooks(suite: Suite, way: str) -> None:
    suite.write("smoke/conftest.py", f"import os\n{V}{CONFTESTS[way]}\n")
    go(suite, check("pass"), "--full-trace")


def test_a_secret_that_a_check_made_itself(suite: Suite) -> None:
    making = "made = '-'.join(['made', 'by', 'the', 'check', '0123456789']); environment.hide('made', made); "
    suite.checks(check(making + "print(made); assert made == 1", "environment"))
    nowhere(suite.run(*ALL_REPORTS, plugins=HTML), "made-by-the-check-0123456789")


def test_ids_that_differ_in_a_secret_only_stay_two_checks(suite: Suite) -> None:
    run = go(suite, named(", ids=[V, V + V]", "1, 2", "assert n == 2"))
    assert len(run.model["checks"]) == 2
    assert len({check["id"] for check in run.model["checks"]}) == 2
    assert run.verdict == "DEGRADED"


def test_a_run_that_has_nothing_to_do_with_the_suite_is_left_alone(suite: Suite) -> None:
    suite.write("tests/test_plain.py", "import os\ndef test_plain(): print(os.environ['SCENARIO_TOKEN'])\n")
    run = suite.run("tests", "-s", environ={"SCENARIO_TOKEN": TOKEN})
    assert TOKEN in run.out


@pytest.mark.parametrize("folder", ["other", "tests"])  # before and after the suite in what is remembered
def test_a_secret_that_pytests_cache_has_from_another_run_is_no_leak_of_this_one(
    suite: Suite, folder: str
) -> None:
    cases = f"import pytest\n@pytest.mark.parametrize('n', ['{JWT}'])\ndef test_plain(n): pass\n"
    suite.write(f"{folder}/test_plain.py", cases)
    assert suite.run(folder).code == 0
    remembered = suite.root / ".pytest_cache" / "v" / "cache" / "nodeids"
    assert JWT in remembered.read_text()
    suite.checks(check("pass"))
    suite.expect("READY", "smoke")
    assert JWT in remembered.read_text()


@pytest.mark.parametrize("place", [".pytest_cache", "~/elsewhere", "$SCENARIO_ROOT/elsewhere"])
def test_a_value_that_a_check_puts_into_the_cache_is_removed(suite: Suite, place: str) -> None:
    source = check("request.config.cache.set('shop/login', {'answer': V})", "request")
    run = go(suite, source, "-o", f"cache_dir={place}")
    assert (run.verdict, "login" in run.out) == ("BROKEN", True), run.output()


def test_the_pastebin_is_refused(suite: Suite) -> None:
    suite.checks(check("pass"))
    run = suite.run("--pastebin=all")
    assert run.code == 4, run.output()
    assert "--pastebin" in run.err
