"""A negative check proves something only when its positive control passed in the same run."""

import pytest

from tests.adapter.scenario import WORKERS, Suite

GOOD = "test_good_token_is_accepted"
CHECKS = """
@pytest.mark.p0
def test_good_token_is_accepted(evidence):
    passing(evidence)
    {good}

@pytest.mark.p0
@pytest.mark.control("health/good-token-is-accepted")
def test_bad_token_is_refused(evidence):
    passing(evidence)
    {bad}
"""


@WORKERS
def test_a_refusal_where_everything_is_refused_proves_nothing(suite: Suite) -> None:
    suite.checks(CHECKS.format(good="assert False, 'refused: 401'", bad="pass"))
    run = suite.run()
    check = run.check("health/bad-token-is-refused")
    assert (run.code, check["outcome"], check["class"]) == (1, "not-run", None), run.output()
    assert "its positive control did not pass (health/good-token-is-accepted failed" in check["summary"]
    (blocker,) = run.model["blockers"]
    assert blocker["behind"] == ["health/bad-token-is-refused"]


def test_a_control_that_proves_nothing_itself_is_not_a_control(suite: Suite) -> None:
    chained = (
        "\n@pytest.mark.p1\n@pytest.mark.control('health/bad-token-is-refused')\ndef test_next(evidence):"
    )
    suite.checks(f"{CHECKS.format(good='assert False', bad='pass')}{chained}\n    passing(evidence)\n")
    run = suite.run()
    assert [*run.outcomes().values()] == ["failed", "not-run", "not-run"], run.output()
    (blocker,) = run.model["blockers"]
    assert blocker["behind"] == ["health/bad-token-is-refused", "health/next"]


@pytest.mark.parametrize(
    "args", [("-k", "refused"), ("--deselect", "smoke/test_checks.py::test_good_token_is_accepted")]
)
def test_without_its_control_in_the_run_a_refusal_proves_nothing(suite: Suite, args: tuple[str, ...]) -> None:
    suite.checks(CHECKS.format(good="pass", bad="pass"))
    run = suite.expect("NO_VERDICT", *args)
    assert "not in this run" in run.check("health/bad-token-is-refused")["summary"]


@pytest.mark.parametrize(
    "good", ["pytest.skip('no key')", "raise SetupError('no key')", "raise ExternalOutage('x')"]
)
def test_a_control_without_an_answer_is_not_a_control(suite: Suite, good: str) -> None:
    suite.checks(CHECKS.format(good=good, bad="pass"))
    run = suite.expect("NO_VERDICT")
    assert run.outcomes()["health/bad-token-is-refused"] == "not-run"


def test_with_its_control_a_refusal_counts(suite: Suite) -> None:
    suite.checks(CHECKS.format(good="pass", bad="pass"))
    suite.expect("READY")


def test_what_was_accepted_is_a_proof_without_any_control(suite: Suite) -> None:
    suite.checks(CHECKS.format(good="assert False", bad="raise SafetyViolation('accepted')"))
    run = suite.run()
    assert run.outcomes() == {
        "health/good-token-is-accepted": "failed",
        "health/bad-token-is-refused": "failed",
    }, run.output()


@pytest.mark.parametrize("named", ["health/no-such", "health/bad-token-is-refused"])
def test_a_control_that_is_not_another_check_is_refused(suite: Suite, named: str) -> None:
    suite.checks(
        CHECKS.format(good="pass", bad="pass").replace(
            'control("health/good-token-is-accepted"', f'control("{named}"'
        )
    )
    run = suite.run()
    assert run.code == 4, run.output()
    assert f"control names '{named}', which is not another check of this suite" in run.err
    assert named not in run.err.partition("allowed:")[2], "a check is no control of itself"


def test_the_error_for_a_mistyped_control_names_the_nearest_check(suite: Suite) -> None:
    suite.checks(CHECKS.format(good="pass", bad="pass").replace("good-token-is", "god-token-is"))
    assert "such as health/good-token-is-accepted" in suite.run().err
