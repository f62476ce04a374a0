"""Reading the catalogue of faults: what is refused, in three lines; what no fault names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_readiness.selftest.catalogue import load, require_known
from pytest_readiness.selftest.coverage import uncovered
from pytest_readiness.selftest.errors import CatalogueError

Write = Callable[..., Path]

GOALS = ("G-1", "G-2")
CHECK = '{ id = "auth/expired", severity = "P0", class = "PLATFORM_BUG" }'
FAULT = f"""
[[fault]]
id = "expired"
goal = "G-2"
service = "api"
what = "An expired token is accepted"
action = "restart:api"
params = {{ seconds = 2 }}
select = ["smoke/auth/test_tokens.py", "--drills"]
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
    (fault,) = load(write(FAULT), "faults", GOALS).faults
    assert (fault.id, fault.goal, fault.verdict, fault.takes_s) == ("expired", "G-2", "BROKEN", 20)
    assert (fault.select, fault.args) == (("smoke/auth/test_tokens.py",), ("--drills", "--reruns", "0"))
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
    assert len(load(write(FAULT), where, GOALS).faults) == 1


def test_the_digest_is_of_the_meaning(write: Write) -> None:
    other = FAULT.replace('"expired"', '"late"')
    one = load(write(FAULT + other), "faults", GOALS).digest
    write(FAULT.replace('what = "', '# why\nwhat   =   "'))
    assert load(write(other, "faults/b.toml"), "faults", GOALS).digest == one
    assert load(write(other.replace("P0", "P1"), "faults/b.toml"), "faults", GOALS).digest != one


@pytest.mark.parametrize(
    ("old", "new", "where", "what", "allowed"),
    [
        ("goal =", "gaol =", "fault[1].gaol", "unknown key", "also, args, checks"),
        ('"BROKEN"', '"RED"', "fault[1].verdict", "unknown value 'RED'", "READY, BROKEN, DEGRADED"),
        ('"G-2"', '"G-9"', "fault[1].goal", "unknown value 'G-9'", "G-1, G-2"),
        ('"P0"', '"P2"', "fault[1].checks[1].severity", "unknown value 'P2'", "P0, P1"),
        ('"PLATFORM_BUG"', '"BUG"', "[1].class", "unknown value 'BUG'", "PLATFORM_BUG, "),
        ("severity", "weight", "fault[1].checks[1].severity", "missing", "P0, P1"),
        ("class =", 'outcome = "passed", class =', "[1].outcome", "unknown value 'passed'", "failed, "),
        (CHECK, "", "fault[1].checks", "empty: nothing would notice it", "at least one, or verdict READY"),
        (CHECK, f"{CHECK}, {CHECK}", "fault[1].checks", "a check is named twice", "each check once"),
        ('what = "An expired token is accepted"', "", "fault[1].what", "missing", "a string"),
        ("takes_s = 20", 'takes_s = "20"', "fault[1].takes_s", "'20' is not an integer", "an integer >= 0"),
        ("[[fault]]", "[[failure]]", "failure", "unknown key", "fault, unfaulted"),
    ],
)  # fmt: skip
def test_a_malformed_fault(write: Write, old: str, new: str, where: str, what: str, allowed: str) -> None:
    assert old in FAULT
    with pytest.raises(CatalogueError) as refused:
        load(write(FAULT.replace(old, new)), "faults", GOALS)
    first, second = str(refused.value).splitlines()
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
        ("", "faults: no fault in it"),
        (FAULT + 2 * UNFAULTED.format(name="x"), "unfaulted[2].check: 'auth/x' is used twice"),
        (
            FAULT + UNFAULTED.format(name="expired"),
            "'auth/expired' is called unfaulted, yet a fault names it",
        ),
    ],
)
def test_a_malformed_catalogue(write: Write, text: str, what: str) -> None:
    with pytest.raises(CatalogueError) as refused:
        load(write(text), "faults", GOALS)
    assert what in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 3


def test_the_same_id_in_two_files(write: Write) -> None:
    write(FAULT)
    with pytest.raises(CatalogueError, match=r"faults/b.toml: fault\[1\].id: 'expired' is used twice"):
        load(write(FAULT, "faults/b.toml"), "faults", GOALS)


@pytest.mark.parametrize("where", ["", "nowhere", "nowhere/*.toml"])
def test_no_catalogue(write: Write, where: str) -> None:
    with pytest.raises(CatalogueError, match=r"\[self_test\] catalogue: "):
        load(write(FAULT), where, GOALS)


def test_a_condition_to_bear_needs_something_to_run(write: Write) -> None:
    bearable = FAULT.replace("BROKEN", "READY").replace(CHECK, "")
    assert load(write(bearable), "faults", GOALS).faults[0].checks == ()
    with pytest.raises(CatalogueError, match=r"select: empty: nothing would run"):
        load(write(bearable.replace('"smoke/auth/test_tokens.py"', '"-x"')), "faults", GOALS)


def test_a_fault_names_checks_that_there_are(write: Write) -> None:
    catalogue = load(write(FAULT + UNFAULTED.format(name="gone")), "faults", GOALS)
    require_known(catalogue, ["auth/expired", "auth/gone"], "faults")
    with pytest.raises(CatalogueError, match=r"expired names a check .*: 'auth/expired'"):
        require_known(catalogue, ["auth/gone"], "faults")
    with pytest.raises(CatalogueError, match=r"\[\[unfaulted\]\] names a check .*: 'auth/gone'"):
        require_known(catalogue, ["auth/expired"], "faults")


def test_every_member_of_a_family_needs_a_fault_of_its_own(write: Write) -> None:
    catalogue = load(write(FAULT + UNFAULTED.format(name="meta")), "faults", GOALS)
    checks = ["auth/valid", "auth/expired", "auth/expired[late]", "auth/meta"]
    assert uncovered(catalogue, checks) == ["auth/valid", "auth/expired[late]"]
