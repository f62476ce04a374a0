"""Reading the fault catalogue: three-line refusals, and checks that no fault names."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_readiness.selftest.catalogue import CatalogueError, SuiteCheck, load, with_controls

Write = Callable[..., Path]

SUITE = {
    name: SuiteCheck(nodeid=f"smoke/test_{name.replace('/', '.py::test_')}", severity=severity, goal=goal)
    for name, severity, goal in [
        ("auth/expired", "P0", "G-2"),
        ("auth/meta", "P1", "G-1"),
        ("health/up[api]", "P0", ""),
        ("health/up[shop]", "P1", "G-1"),
    ]
}
CHECK = '{ id = "auth/expired", severity = "P0", class = "PLATFORM_BUG" }'
FAULT = f"""
[[fault]]
id = "expired"
goal = "G-2"
service = "api"
what = "An expired token is accepted"
action = "restart:api"
params = {{ seconds = 2 }}
select = ["smoke/auth/test_tokens.py"]
args = ["--reruns", "0"]
checks = [{CHECK}]
also = ["auth/*"]
verdict = "BROKEN"
takes_s = 20
"""
UNFAULTED = '[[unfaulted]]\ncheck = "auth/{name}"\nreason = "it only looks on"\n'


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str, name: str = "faults/a.toml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return tmp_path

    return written


def test_a_fault_is_read(write: Write) -> None:
    (fault,) = load(write(FAULT), "faults", SUITE).faults
    assert (fault.id, fault.goal, fault.verdict, fault.takes_s) == ("expired", "G-2", "BROKEN", 20)
    assert (fault.select, fault.args) == (("smoke/auth/test_tokens.py",), ("--reruns", "0"))
    assert fault.params == {"seconds": 2}
    assert fault.checks[0].as_data() == {
        "id": "auth/expired",
        "severity": "P0",
        "outcome": "failed",
        "class": "PLATFORM_BUG",
    }
    assert fault.matches("exp*")
    assert fault.matches("G-2")
    assert not fault.matches("G-1")


@pytest.mark.parametrize("where", ["faults", "faults/*.toml", "faults/a.toml"])
def test_where_a_catalogue_is(write: Write, where: str) -> None:
    assert len(load(write(FAULT), where, SUITE).faults) == 1


def test_the_digest_covers_the_content_and_not_the_layout(write: Write) -> None:
    other = FAULT.replace('"expired"', '"late"')
    one = load(write(FAULT + other), "faults", SUITE).digest
    write(FAULT.replace('what = "', '# why\nwhat   =   "'))
    assert load(write(other, "faults/b.toml"), "faults", SUITE).digest == one
    assert load(write(other.replace("P0", "P1"), "faults/b.toml"), "faults", SUITE).digest != one


@pytest.mark.parametrize(
    ("old", "new", "where", "what", "allowed"),
    [
        ("goal =", "gaol =", "fault[1].gaol", "unknown key", "also, append, args, body"),
        ('"BROKEN"', '"RED"', "fault[1].verdict", "unknown value 'RED'", "READY, BROKEN, DEGRADED"),
        ('"G-2"', '"G-9"', "fault[1].goal", "unknown value 'G-9'", "G-1, G-2"),
        ("checks =", 'check = "auth/meta"\nchecks =', "fault[1].check", "there is `checks` as well", "one"),
        ('"auth/*"', '"auth/[a-z]*"', "fault[1].also", "matches no check of the suite", "ids, with * and ?"),
        ("class =", 'outcome = "skipped", clasp =', "checks[1].clasp", "unknown key", "class, id, outcome"),
        ('class = "PLATFORM_BUG"', 'outcome = "skipped"', "checks[1].class", "missing", "PLATFORM_BUG"),
        ("checks =", "chek =", "fault[1].chek", "unknown key", "also, "),
        ('"P0"', '"P2"', "fault[1].checks[1].severity", "unknown value 'P2'", "P0, P1"),
        ('"PLATFORM_BUG"', '"BUG"', "[1].class", "unknown value 'BUG'", "PLATFORM_BUG, "),
        ("severity", "weight", "fault[1].checks[1].weight", "unknown key", "severity"),
        ("class =", 'outcome = "passed", class =', "[1].outcome", "unknown value 'passed'", "failed, "),
        (CHECK, "", "fault[1].checks", "empty: nothing would detect it", "at least one, or verdict READY"),
        (CHECK, f"{CHECK}, {CHECK}", "fault[1].checks", "a check is named twice", "each check once"),
        ('what = "An expired token is accepted"', "", "fault[1].what", "missing", "a string"),
        ("takes_s = 20", 'takes_s = "20"', "fault[1].takes_s", "'20' is not an integer", "an integer >= 0"),
        ("[[fault]]", "[[failure]]", "failure", "unknown key", "fault, unfaulted"),
    ],
)  # fmt: skip
def test_a_malformed_fault(write: Write, old: str, new: str, where: str, what: str, allowed: str) -> None:
    assert old in FAULT
    with pytest.raises(CatalogueError) as refused:
        load(write(FAULT.replace(old, new)), "faults", SUITE)
    first, second, *_ = str(refused.value).splitlines()
    assert first.startswith("faults/a.toml: ")
    assert where in first
    assert what in first
    assert second.startswith("  allowed: ")
    assert allowed in second


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (FAULT + FAULT, "faults/a.toml: fault[2].id: 'expired' is used twice"),
        ("id = ", "faults/a.toml: not valid TOML"),
        ("", "faults: contains no fault"),
        (FAULT + 2 * UNFAULTED.format(name="meta"), "unfaulted[2].check: 'auth/meta' is used twice"),
        (
            FAULT.replace("auth/expired", "a/b"),
            "fault[1].checks[1].id: the suite has no check 'a/b'",
        ),
        (FAULT + UNFAULTED.format(name="gone"), "unfaulted[1].check: the suite has no check 'auth/gone'"),
        (
            FAULT + UNFAULTED.format(name="expired"),
            "'auth/expired' is listed as unfaulted, but a fault names it",
        ),
    ],
)
def test_a_malformed_catalogue(write: Write, text: str, what: str) -> None:
    with pytest.raises(CatalogueError) as refused:
        load(write(text), "faults", SUITE)
    assert what in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 3


def test_the_same_id_in_two_files(write: Write) -> None:
    write(FAULT)
    with pytest.raises(CatalogueError, match=r"faults/b.toml: fault\[1\].id: 'expired' is used twice"):
        load(write(FAULT, "faults/b.toml"), "faults", SUITE)


@pytest.mark.parametrize("where", ["", "nowhere", "nowhere/*.toml"])
def test_no_catalogue(write: Write, where: str) -> None:
    with pytest.raises(CatalogueError, match=r"\[self_test\] catalogue: "):
        load(write(FAULT), where, SUITE)


def test_a_tolerated_condition_states_its_verdict_and_what_to_run(write: Write) -> None:
    bearable = FAULT.replace("BROKEN", "READY").replace(CHECK, "")
    assert load(write(bearable), "faults", SUITE).faults[0].checks == ()
    for line in ('select = ["smoke/auth/test_tokens.py"]', 'verdict = "READY"'):
        with pytest.raises(CatalogueError, match=line.partition(" ")[0]):
            load(write(bearable.replace(line, "")), "faults", SUITE)


@pytest.mark.parametrize(
    ("checks", "verdict"),
    [
        ('check = "auth/expired"', "BROKEN"),
        ('check = "auth/meta"', "DEGRADED"),
        ('checks = ["auth/meta", "auth/expired"]', "BROKEN"),
        ('checks = [{id = "auth/expired", class = "SETUP_ERROR"}]', "NO_VERDICT"),
        ('checks = [{id = "auth/expired", outcome = "flaky"}]', "DEGRADED"),
        ('checks = [{id = "auth/expired", severity = "P1"}]', "DEGRADED"),
    ],
)
def test_marks_give_severity_and_severity_gives_the_verdict(write: Write, checks: str, verdict: str) -> None:
    (fault,) = load(write(f'[[fault]]\nid = "x"\nwhat = "X"\n{checks}'), "faults", SUITE).faults
    assert fault.verdict == verdict
    assert fault.goal == SUITE[fault.checks[0].id].goal
    assert fault.select == tuple(SUITE[check.id].nodeid for check in fault.checks)


def test_a_family_is_a_fault_for_each_service_and_case(write: Write) -> None:
    family = """
    [[fault]]
    id = "{service}-{case}"
    services = ["api", "shop"]
    cases = ["slow", "odd"]
    what = "{Service} is {case}"
    action = "rewrite:GET /{service}"
    params = {of = ["{case}"]}
    also = ["*[{service}]"]
    check = "health/up[{service}]"
    """
    faults = load(write(family), "faults", SUITE).faults
    assert [fault.id for fault in faults] == ["api-slow", "api-odd", "shop-slow", "shop-odd"]
    last = faults[-1]
    assert (last.what, dict(last.params), last.also) == ("Shop is odd", {"of": ["odd"]}, ("*[shop]",))
    assert (last.goal, last.verdict, *last.named) == ("G-1", "DEGRADED", "health/up[shop]")
    told = r"fault\[1\].id: 'x' is used twice\n.*put \{service\} and \{case\} in it"
    with pytest.raises(CatalogueError, match=told):
        load(write(family.replace("{service}-{case}", "x")), "faults", SUITE)


def test_every_member_of_a_parametrised_check_needs_a_fault(write: Write) -> None:
    catalogue = load(write(FAULT + UNFAULTED.format(name="meta")), "faults", SUITE)
    assert catalogue.uncovered(SUITE) == ["health/up[api]", "health/up[shop]"]


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("nowhere/*.toml", "no such file: 'nowhere"),
        ("/etc/*.toml", "an absolute pattern: '/etc/"),
        pytest.param(
            "**faults",
            "not a pattern: '..faults': Invalid pattern",
            marks=pytest.mark.skipif(sys.version_info >= (3, 13), reason="a pattern since Python 3.13"),
        ),
        ("f" * 300, "cannot be searched for: File name too long|no such file"),  # Python 3.14 tells no reason
    ],
)
def test_a_catalogue_that_is_not_found_is_refused_with_its_reason(
    tmp_path: Path, where: str, why: str
) -> None:
    with pytest.raises(CatalogueError, match=why):
        load(tmp_path, where, SUITE)


def test_a_catalogue_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "faults.toml")
    with pytest.raises(CatalogueError, match="not a regular file"):
        load(tmp_path, "faults.toml", SUITE)


def test_a_check_runs_with_its_controls_and_theirs() -> None:
    """Each check appears once, after the checks it requires; one that is not in the suite is left out."""
    suite = {
        name: SuiteCheck(nodeid=f"smoke/test_x.py::{name}", severity="P0", goal="G-1", controls=controls)
        for name, controls in {"c": ("b",), "b": ("a", "gone"), "a": (), "d": ("d", "a")}.items()
    }
    assert with_controls(["c", "b", "d"], suite) == ["a", "b", "c", "d"]
