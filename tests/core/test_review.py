"""Content of a launch review: figures in sentences, charts, changes, owners of blockers."""

from typing import Any

import pytest
from pytest_readiness.core.errors import PlanError
from pytest_readiness.core.history import differences

from tests.core.build import check, entry, model, plan


def figure(name: str, value: Any, unit: str = "", **bounds: Any) -> dict[str, Any]:
    return {
        "kind": "figure",
        "name": name,
        "value": value,
        "unit": unit,
        "expected": None,
        "limit": None,
        **bounds,
    }


def with_figure(text: str, name: str = "charge") -> Any:
    head = f'figure = [{{ checks = "orders/*", name = "{name}", text = "{text}" }}]'
    return plan(f'[[goal]]\nid = "G-3"\ntitle = "Money"\n{head}')


def filled(text: str, *checks: Any, name: str = "charge") -> list[str]:
    made = model(*checks, plan_=with_figure(text, name))
    found: list[str] = next(goal["figures"] for goal in made["goals"] if goal["id"] == "G-3")
    return found


CHARGES = (
    check("orders/a", evidence=[figure("charge", 12000, "µUSD", expected=12000)]),
    check("orders/b", evidence=[figure("charge", 3, "µUSD", expected=3, limit=9), figure("odd", True)]),
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{count} calls: {sum} {unit} = {expected_sum}", "2 calls: 12,003 µUSD = 12,003"),
        ("{value} of {expected}, limit {limit}", "3 of 3, limit 9"),
        ("{min} to {max} in {checks} checks, {failed} failed", "3 to 12,000 in 2 checks, 0 failed"),
        ("{values}", "12,000, 3"),
    ],
)
def test_figures_fill_a_sentence(text: str, line: str) -> None:
    assert filled(text, *CHARGES) == [line]


def test_a_rule_that_was_broken_is_held_less_often_than_it_was_tried() -> None:
    held = check("orders/a", evidence=[{"kind": "evaluated", "rule": "charge", "times": 3}])
    broken = check("orders/b", evidence=[figure("charge", 2, expected=4)])
    assert filled("{sum} of {expected_sum}", held, broken) == ["5 of 7"]


def test_what_nothing_was_recorded_for_is_left_out() -> None:
    assert filled("{value}", check("orders/a")) == []
    assert filled("{value}", check("payments/a", evidence=[figure("charge", 1)])) == []


def test_checks_that_did_not_pass_are_counted_after_the_sentence() -> None:
    failed = check("orders/c", "failed", evidence=[figure("charge", 1)])
    assert filled("{count} calls", *CHARGES, failed) == ["3 calls (1 of 3 checks did not pass)"]


def test_a_rule_counts_its_comparisons() -> None:
    rules = [{"kind": "evaluated", "rule": f"I-{n}", "times": 5} for n in (1, 2)]
    assert filled("{sum} times", check("orders/a", evidence=rules), name="I-*") == ["10 times"]


@pytest.mark.parametrize("value", [None, "a {value} b", [], {}, True, 10**400])
def test_a_value_of_any_kind_is_not_an_error(value: Any) -> None:
    odd = check("orders/a", evidence=[figure("charge", value)])
    assert len(filled("{value} {sum} {min} {short}", odd)) == 1


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(PlanError, match=r"unknown field \{total\}"):
        with_figure("{total}")


CHART = '[[chart]]\ntitle = "Latency"\nname = "p*"\nchecks = "orders/*"\n'
LATENCY = check("orders/slow", evidence=[figure("p50", 20, "ms"), figure("p95", 90, "ms", limit=100)])


def test_a_chart_has_each_figure_with_its_limit() -> None:
    (chart,) = model(LATENCY, plan_=plan(CHART))["charts"]
    assert chart == {
        "title": "Latency",
        "kind": "bars",
        "unit": "ms",
        "points": [
            {"label": "p50", "value": 20, "limit": None},
            {"label": "p95", "value": 90, "limit": 100},
        ],
    }


def test_figures_of_one_name_are_distinguished_by_their_checks() -> None:
    checks = [check(f"orders/{name}", evidence=[figure("p", n)]) for n, name in enumerate("aab")]
    (chart,) = model(*checks, plan_=plan(CHART))["charts"]
    assert [point["label"] for point in chart["points"]] == ["orders/a", "orders/a #2", "orders/b"]


def test_a_total_adds_up_to_its_limit() -> None:
    made = model(
        *CHARGES, plan_=plan('[[chart]]\ntitle = "T"\nname = "charge"\nkind = "total"\nlimit = 20000')
    )
    assert [(point["value"], point["limit"]) for point in made["charts"][0]["points"]] == [
        (12000, 20000),
        (12003, 20000),
    ]


def test_a_chart_without_figures_is_left_out() -> None:
    assert model(check("orders/a"), plan_=plan(CHART))["charts"] == []


def test_changes_since_the_last_green_run() -> None:
    passed = [{"id": name, "severity": "P0", "outcome": "passed"} for name in ("orders/a", "orders/slow")]
    green = entry(run_id="run-1", build_identity={"shop": "b0"}, checks=passed, figures={"Latency: p95": 20})
    red = entry(run_id="run-2", verdict="BROKEN", checks=[{"id": "orders/slow", "outcome": "failed"}])
    made = model(
        check("orders/a", "failed", cls="PLATFORM_BUG"),
        check("orders/new", "failed", cls="PLATFORM_BUG"),
        LATENCY,
        plan_=plan(CHART),
        history={"local": [green, red]},
    )
    assert {key: value for key, value in made["changes"].items() if key != "finished_at"} == {
        "run_id": "run-1",
        "builds": [{"service": "shop", "before": "b0", "after": "b1"}],
        "failing": ["orders/a"],
        "fixed": ["orders/slow"],
        "moved": [{"name": "Latency: p95", "before": 20, "after": 90, "unit": "ms"}],
    }
    assert [run["run_id"] for run in made["runs"]] == ["run-1", "run-2", "run-now"]


def test_without_a_green_run_nothing_has_changed() -> None:
    assert model(check())["changes"] is None


OWNERS = """
[[owner]]
team = "Money"
contact = "#money"
runbook = "https://wiki/money"
goals = ["G-1"]
[[owner]]
team = "Shop"
services = ["shop"]
[[owner]]
team = "Keys"
checks = ["orders/keys-*"]
"""


@pytest.mark.parametrize(
    ("name", "cls", "team"),
    [
        ("orders/create", "PLATFORM_BUG", "Money"),
        ("orders/create[shop-1]", "PLATFORM_BUG", "Shop"),
        ("orders/keys-of[shop]", "PLATFORM_BUG", "Keys"),
        ("orders/create", "SETUP_ERROR", "the runner"),
        ("orders/create", "CHECK_ERROR", "the suite"),
        ("orders/create", "EXTERNAL_OUTAGE", "a third party"),
    ],
)
def test_a_blocker_names_who_acts(name: str, cls: str, team: str) -> None:
    made = model(check(name, "failed", cls=cls), plan_=plan(OWNERS))
    assert made["blockers"][0]["whose"]["team"] == team


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        ('team = "x"', "owns nothing"),
        ('team = "x"\ngoals = ["G-99"]', "unknown goal 'G-99'"),
        ('team = "x"\ngoals = ["G-1"]\nrunbook = "javascript:alert(1)"', "is not a web address"),
    ],
)
def test_a_bad_owner_is_refused(owner: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(f"[[owner]]\n{owner}")


WAIVER = '[[waiver]]\ncheck = "orders/a"\nreason = "r"\napprover = "Ada"\nissued = 2026-01-01T00:00:00Z\n'


@pytest.mark.parametrize(
    ("expires", "outcome", "state", "verdict"),
    [
        ("2026-09-01T00:00:00Z", "failed", "active", "READY"),
        ("2026-06-04T11:00:00Z", "failed", "expiring", "READY"),
        ("2026-06-04T12:00:00Z", "failed", "expiring", "READY"),
        ("2026-06-04T12:00:01Z", "failed", "active", "READY"),
        ("2026-06-01T11:00:00Z", "failed", "expired", "BROKEN"),
        ("2026-09-01T00:00:00Z", "passed", "unneeded", "READY"),
    ],
)
def test_a_waiver_goes_through_its_states(expires: str, outcome: str, state: str, verdict: str) -> None:
    cls = "PLATFORM_BUG" if outcome == "failed" else None
    made = model(check("orders/a", outcome, cls=cls), plan_=plan(f"{WAIVER}expires = {expires}"))
    assert (made["waivers"][0]["state"], made["verdict"]) == (state, verdict)
    assert made["without_cover"] == ("BROKEN" if outcome == "failed" else "READY")


def test_a_waiver_of_no_check_is_unknown() -> None:
    made = model(check("orders/b"), plan_=plan(f"{WAIVER}expires = 2026-09-01T00:00:00Z"))
    assert made["waivers"][0]["state"] == "unknown"


def test_no_one_approves_their_own_waiver() -> None:
    with pytest.raises(PlanError, match="'Ada' is also the owner"):
        plan(f'{WAIVER}owner = "ada "\nexpires = 2026-09-01T00:00:00Z')


def test_what_only_the_report_shows_is_not_in_the_digest() -> None:
    shown = CHART + OWNERS + '[declaration]\ntitle = "T"'
    assert plan(shown).digest == plan().digest
    assert with_figure("{sum}").digest == with_figure("{count}").digest


def test_differences_between_two_runs() -> None:
    names = ("stays", "breaks", "heals", "fades", "goes", "waits")
    ends = ("passed", "passed", "failed", "passed", "passed", "passed")
    before = entry(build_identity={"shop": "b1", "old": "o"}, figures={"p95": 1.0, "p50": 1.0, "p99": 0})
    before["checks"] = [
        {"id": name, "severity": "P0", "outcome": end, "class": None, "duration_s": 1.0}
        for name, end in zip(names, ends, strict=True)
    ]
    after = entry(build_identity={"shop": "b2"}, figures={"p95": 1.6, "p50": 1.4, "p99": "-", "new": 5})
    after["checks"] = [
        {"id": name, "severity": "P1", "outcome": end, "class": cls, "duration_s": took}
        for name, end, cls, took in (
            ("stays", "flaky", "FLAKE", 1.6),
            ("breaks", "failed", "PLATFORM_BUG", 0.4),
            ("heals", "passed", None, 1.5),
            ("fades", "skipped", None, 1.0),
            ("waits", "deferred", "PLATFORM_BUG", 1.0),
            ("comes", "failed", "PLATFORM_BUG", 9.0),
        )
    ]
    found = differences(before, after)
    assert found["builds"] == [
        {"service": "old", "before": "o", "after": ""},
        {"service": "shop", "before": "b1", "after": "b2"},
    ]
    ids = {kind: [row["id"] for row in found[kind]] for kind in found if kind not in ("builds", "moved")}
    assert ids == {
        "failing": ["breaks", "waits"],
        "fixed": ["heals"],
        "silent": ["fades"],
        "new": ["comes"],
        "gone": ["goes"],
        "slower": ["stays"],
        "faster": ["breaks"],
    }
    assert found["failing"][0]["class"] == "PLATFORM_BUG"
    assert found["moved"] == [{"name": "p95", "before": 1.0, "after": 1.6}]
    assert not any(differences(before, before).values())
