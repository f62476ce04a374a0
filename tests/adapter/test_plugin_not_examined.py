"""What a suite could not read is "not examined": each place is in the reports, and proves no goal."""

import re

import pytest

from tests.adapter.scenario import HTML, Suite

PLACES = ("alarms.tf:3: anomaly_detection_metric", "modules/api/main.tf:41: templatefile", "main.tf:9: count")
SETUP = "\n".join([f"not examined: {PLACES[0]} ({len(PLACES)} findings)", *PLACES[1:]])


@pytest.mark.parametrize(("severity", "verdict"), [("p0", "NO_VERDICT"), ("p1", "DEGRADED")])
@pytest.mark.parametrize("live", [True, False])
def test_no_goal_rests_on_what_was_not_examined(
    suite: Suite, severity: str, verdict: str, live: bool
) -> None:
    suite.checks(f"""
    from pytest_readiness import SetupError

    @pytest.mark.p0
    def test_read(evidence): passing(evidence)

    @pytest.mark.{severity}
    @pytest.mark.static
    def test_alarms(evidence):
        passing(evidence)
        raise SetupError({SETUP!r})
    """)
    if live:
        profile = (suite.root / "environments/local.toml").read_text()
        suite.write("environments/local.toml", profile.replace("live = false", "live = true"))
    run = suite.run("smoke", plugins=HTML)
    assert run.verdict == verdict, run.output()
    assert run.check("health/alarms")["class"] == "SETUP_ERROR"
    (goal,) = (row for row in run.model["goals"] if row["id"] == "G-1")
    assert goal["status"] == "PENDING"
    assert "not examined: alarms.tf:3" in goal["evidence"]
    reports = run.root / "reports"
    assert all(f"not examined: {place}" in run.out for place in PLACES), run.out
    for name in ("readiness.json", "readiness.html", "readiness.md"):
        shown = (reports / name).read_text().replace("\\", "")
        assert all(f"not examined: {place}" in shown for place in PLACES), name


def test_a_finding_does_not_hide_what_was_not_examined(suite: Suite) -> None:
    suite.checks(f"""
    @pytest.mark.p0
    def test_alarms(evidence):
        passing(evidence)
        assert not 1, {("ecs.tf:7: no alarm" + chr(10) + SETUP)!r}
    """)
    run = suite.run("smoke", plugins=HTML)
    assert run.verdict == "BROKEN", run.output()
    assert all(f"not examined: {place}" in run.out for place in PLACES), run.out
    for name in ("readiness.json", "readiness.html", "readiness.md"):
        text = (run.root / "reports" / name).read_text().replace("\\", "")
        assert all(f"not examined: {place}" in text for place in PLACES), name


def test_of_many_places_ten_are_shown_and_the_rest_counted(suite: Suite) -> None:
    """Each check's entry lists them, even when two checks share a cause."""
    for name, count in (("alarms", 25), ("roles", 3)):
        lines = [f"{name}.tf:{n}: for_each" for n in range(1, count + 1)]
        suite.checks(
            f"""
            from pytest_readiness import SetupError

            @pytest.mark.p0
            def test_{name}(evidence):
                passing(evidence)
                raise SetupError({"not examined: " + chr(10).join(lines)!r})
            """,
            f"smoke/test_{name}.py",
        )
    run = suite.run("smoke", plugins=HTML)
    assert len({str(entry) for entry in run.check("health/alarms")["evidence"]}) >= 25
    for text in (run.out, (run.root / "reports/readiness.md").read_text().replace("\\", "")):
        assert all(f"not examined: alarms.tf:{n}: for_each" in text for n in range(1, 11)), text
        assert all(f"not examined: roles.tf:{n}: for_each" in text for n in range(1, 4)), text
        assert "not examined: alarms.tf:15:" not in text
        assert re.search(r"and 1[45] more, in readiness\.json", text), text
