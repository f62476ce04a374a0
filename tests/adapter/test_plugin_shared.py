"""A shared fixture fails at teardown: which checks that counts against."""

import pytest

from tests.adapter.scenario import WORKERS, Suite

LAST = """
@pytest.mark.{}
def test_last(evidence): passing(evidence)
"""
SHARED = """
@pytest.fixture(scope="{}")
def shared():
    yield
    {}

class TestOne:
    @pytest.mark.{}
    def test_user(self, shared, evidence): passing(evidence)

    @pytest.mark.p1
    def test_other_user(self, shared, evidence): passing(evidence)
"""


@WORKERS
@pytest.mark.parametrize("scope", ["session", "module"])
@pytest.mark.parametrize(
    ("ends", "of", "last", "code", "failed"),
    [
        ("assert 0, 'left'", "p0", "p1", 1, "health/user"),
        ("assert 0, 'left'", "p1", "p0", 2, "health/other-user"),
        ("{}['id']", "p0", "p1", 6, "health/user"),
        ("pass", "p0", "p1", 0, None),
    ],
)
def test_a_fixtures_failure_counts_for_a_check_that_used_it(
    suite: Suite, scope: str, ends: str, of: str, last: str, code: int, failed: str
) -> None:
    suite.checks(SHARED.format(scope, ends, of) + LAST.format(last))
    run = suite.run()
    found = [name for name, outcome in run.outcomes().items() if outcome == "failed"]
    assert (run.code, found) == (code, [failed] if failed else []), run.output()
    if failed:
        assert run.check(failed)["summary"].startswith("in teardown: ")
        assert "user" in run.model["blockers"][0]["reproduce"]


def test_a_fixture_with_parameters_is_another_one_for_each(suite: Suite) -> None:
    suite.checks("""
    @pytest.fixture(scope="module", params=[1, 2])
    def shared(request):
        yield
        assert request.param == 1

    @pytest.mark.p0
    def test_user(shared, evidence): passing(evidence)
    """)
    outcomes = suite.run().outcomes()
    assert outcomes == {"health/user[1]": "passed", "health/user[2]": "failed"}


def test_the_worst_failure_of_several_fixtures_counts_for_the_most_severe_check(suite: Suite) -> None:
    suite.checks("""
    @pytest.fixture(scope="session")
    def first():
        yield
        assert 0, "left"

    @pytest.fixture(scope="session")
    def second():
        yield
        nome()

    @pytest.mark.p1
    def test_first(first, evidence): passing(evidence)

    @pytest.mark.p0
    def test_second(second, evidence): passing(evidence)
    """)
    run = suite.run()
    assert run.check("health/second")["class"] == "PLATFORM_BUG", run.output()
    assert (run.code, run.outcomes()["health/first"]) == (1, "passed")
