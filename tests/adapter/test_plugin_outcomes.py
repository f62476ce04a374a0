"""Outcomes of a check: setup and teardown errors, expected failures, nothing measured."""

import pytest

from tests.adapter.scenario import WORKERS, Suite

WAYS = """
@pytest.fixture
def bad_setup():
    raise ConnectionError("no route")

@pytest.fixture
def bad_teardown():
    yield
    raise ConnectionError("no way back")

@pytest.mark.p0
def test_setup_error(bad_setup, evidence):
    passing(evidence)

@pytest.mark.p0
def test_teardown_error(bad_teardown, evidence):
    passing(evidence)

@pytest.mark.p0
def test_skipped_inside(evidence):
    passing(evidence)
    pytest.skip("not now")

@pytest.mark.p0
@pytest.mark.skip(reason="not ever")
def test_skipped_by_mark():
    pass

@pytest.mark.p0
@pytest.mark.xfail(reason="known", strict=True)
def test_expected_to_fail(evidence):
    passing(evidence)
    assert False

@pytest.mark.p0
@pytest.mark.xfail(reason="known", strict=False)
def test_passes_unexpectedly(evidence):
    passing(evidence)

@pytest.mark.p0
@pytest.mark.xfail(reason="known", strict=True)
def test_passes_unexpectedly_strict(evidence):
    passing(evidence)

@pytest.mark.p0
@pytest.mark.parametrize("kind", ["no token", "<b>"])
def test_family(kind, evidence):
    passing(evidence)

@pytest.mark.p1
def test_measures_nothing(evidence):
    evidence.note("looked at it")

@pytest.mark.p1
def test_evaluates_nothing(evidence):
    evidence.evaluated("money is conserved", times=0)

@pytest.mark.p1
def test_asks_for_no_evidence():
    assert True

class TestGroup:
    @pytest.mark.p1
    def test_in_a_class(self, evidence):
        evidence.evaluated("a rule")
"""
EXPECTED = {
    "health/setup-error": ("failed", "PLATFORM_BUG", "in setup: ConnectionError: no route"),
    "health/teardown-error": ("failed", "PLATFORM_BUG", "in teardown: ConnectionError: no way back"),
    "health/skipped-inside": ("skipped", None, "not now"),
    "health/skipped-by-mark": ("skipped", None, "not ever"),
    "health/expected-to-fail": ("skipped", None, "expected to fail: known"),
    "health/passes-unexpectedly": ("skipped", None, "passed although expected to fail: known"),
    "health/passes-unexpectedly-strict": ("failed", "CHECK_ERROR", "[XPASS(strict)] known"),
    "health/family[no token]": ("passed", None, ""),
    "health/family[<b>]": ("passed", None, ""),
    "health/measures-nothing": ("failed", "CHECK_ERROR", "NothingMeasured: the check passed but measured"),
    "health/evaluates-nothing": ("failed", "CHECK_ERROR", "NothingMeasured: the check passed but measured"),
    "health/asks-for-no-evidence": ("failed", "CHECK_ERROR", "NothingMeasured: the check passed but"),
    "health/in-a-class": ("passed", None, ""),
}


@WORKERS
def test_ways_to_end(suite: Suite) -> None:
    suite.checks(WAYS)
    run = suite.run()
    assert run.code == 1, run.output()
    found = {
        check["id"]: (check["outcome"], check["class"], check["summary"]) for check in run.model["checks"]
    }
    assert found.keys() == EXPECTED.keys()
    for name, (outcome, failure_class, summary) in EXPECTED.items():
        assert found[name][:2] == (outcome, failure_class), name
        assert found[name][2].startswith(summary) if summary else found[name][2] == "", name


def test_evidence_can_be_optional(suite: Suite) -> None:
    suite.plan("[policy]\nrequire_evidence = false\n")
    suite.checks("@pytest.mark.p0\ndef test_up(): assert True")
    assert suite.run().code == 0


@pytest.mark.parametrize("kind", ["expected", "unexpected"])
def test_expected_failure_of_a_p0_is_never_green(suite: Suite, kind: str) -> None:
    body = "assert False" if kind == "expected" else "passing(evidence)"
    suite.checks(f"@pytest.mark.p0\n@pytest.mark.xfail(reason='known')\ndef test_up(evidence):\n    {body}")
    suite.expect("NO_VERDICT")


def test_setup_error_keeps_its_class(suite: Suite) -> None:
    suite.checks("""
    @pytest.fixture
    def key():
        raise SetupError("no key: export TOKEN")

    @pytest.mark.p0
    def test_up(key, evidence):
        passing(evidence)
    """)
    run = suite.run()
    assert (run.code, run.check("health/up")["class"]) == (6, "SETUP_ERROR"), run.output()


def test_cover_of_the_plan_reaches_the_verdict(suite: Suite) -> None:
    suite.plan("""
    [[deferral]]
    check = "health/later"
    item = "later"
    severity = "Medium"
    rationale = "not yet"
    [[waiver]]
    check = "health/waived"
    reason = "known"
    approver = "a person"
    issued = 2024-01-01T00:00:00Z
    expires = 2099-01-01T00:00:00Z
    [[waiver]]
    check = "work/money-is-kept"
    reason = "known"
    approver = "a person"
    issued = 2024-01-01T00:00:00Z
    expires = 2099-01-01T00:00:00Z
    """)
    failing = "@pytest.mark.p0\ndef test_{}(evidence):\n    passing(evidence)\n    assert False\n"
    suite.checks(failing.format("later") + failing.format("waived"))
    assert (run := suite.run()).code == 0, run.output()
    assert run.outcomes() == {"health/later": "deferred", "health/waived": "deferred"}
    suite.checks(failing.format("money_is_kept"), "smoke/test_money.py", phase="work")
    assert (run := suite.run()).code == 1, run.output()
    assert run.outcomes()["work/money-is-kept"] == "failed"


@WORKERS
def test_failed_part_fails_its_check(suite: Suite) -> None:
    suite.checks("""
    def tries():
        with open(pathlib.Path(os.environ["SCENARIO_ROOT"], "tries"), "a") as stream:
            stream.write("x")

    @pytest.mark.p0
    def test_parts(evidence, subtests):
        tries()
        for number in range(3):
            with subtests.test(number=number):
                passing(evidence)
                if number == 1: raise ConnectionError("lost")
                if number == 2: raise SafetyViolation("accepted")

    @pytest.mark.p0
    def test_parts_that_pass(evidence, subtests):
        for number in range(3):
            with subtests.test(number=number):
                passing(evidence)
    """)
    run = suite.expect("BROKEN", "-p", "no:terminal")
    check = run.check("health/parts")
    assert (check["outcome"], check["attempts"], check["summary"]) == (
        "failed",
        1,
        "SafetyViolation: accepted",
    )
    assert len(check["evidence"]) == 3
    assert suite.wrote("tries") == "x"
    assert run.check("health/parts-that-pass")["outcome"] == "passed"
    assert len(run.check("health/parts-that-pass")["evidence"]) == 3


def test_flaky_part_makes_its_check_flaky(suite: Suite) -> None:
    suite.checks("""
    @pytest.mark.p0
    def test_parts(evidence, subtests, request):
        with subtests.test("first"):
            passing(evidence)
            if request.node.execution_count == 1: raise ConnectionResetError
    """)
    run = suite.run()
    assert (run.code, run.outcomes()) == (2, {"health/parts": "flaky"}), run.output()


@WORKERS
def test_an_exception_without_words_is_a_failure_like_any_other(suite: Suite) -> None:
    suite.checks("""
        class Mute(Exception):
            def __str__(self):
                raise ValueError("no words")

        @pytest.mark.p0
        def test_up(evidence):
            evidence.figure("thing", Mute())
            raise Mute
    """)
    run = suite.run(plugins=("readiness",))  # pytest-rerunfailures asks for words too
    assert (run.code, run.verdict) == (6, "NO_VERDICT"), run.output()
    assert run.check("health/up")["summary"] == "Mute: <Mute with a text that raises ValueError>"


def test_a_fixture_that_does_not_exist_is_not_the_platforms_fault(suite: Suite) -> None:
    suite.checks("@pytest.mark.p0\ndef test_up(evidense): pass")
    run = suite.expect("NO_VERDICT")
    assert run.check("health/up")["class"] == "CHECK_ERROR"
