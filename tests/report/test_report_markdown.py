"""The Markdown report: known sections and columns in their order, and rows that no content can break.

GitHub's formats: annotations that no text can break out of, and a job summary that GitHub accepts.
"""

import re

import pytest
from hypothesis import given
from pytest_readiness.report import markdown
from pytest_readiness.report.document import identity

from tests.core import build
from tests.report import sample
from tests.report.hostile import HOSTILE, cells_by_lookbehind, cells_by_parity, hostile, outside_code, tables

SECTIONS = [
    "Blockers",
    "Goal Assessment",
    "Deferred Items",
    "Environment Inventory",
    "Operational Readiness",
    "Rollback Plan",
    "Decisions",
    "Staging Declaration",
]


def section(page: str, title: str) -> str:
    return page.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_the_sections_come_in_their_order() -> None:
    for model in (sample.ready(), sample.broken()):
        assert re.findall(r"^## (.+)$", markdown.render(model), re.M) == SECTIONS


def test_sections_without_data_are_absent() -> None:
    for model in (sample.unfinished(), {}):
        found = re.findall(r"^## (.+)$", markdown.render(model), re.M)
        assert found == ["Blockers", "Declaration"]


@pytest.mark.parametrize(
    ("title", "header"),
    [
        ("Goal Assessment", "| Goal | Status | Evidence |"),
        ("Deferred Items", "| Item | Severity | Rationale |"),
        ("Environment Inventory", "| Service | URL | CPU/Mem | Image |"),
        ("Decisions", "| Date | Decision | Rationale |"),
    ],
)
def test_the_tables_have_the_columns_of_a_launch_review(title: str, header: str) -> None:
    assert header in section(markdown.render(sample.ready()), title).splitlines()


def test_the_verdict_comes_first() -> None:
    lines = markdown.render(sample.broken()).splitlines()
    assert lines[:6:2] == [
        "# Freeside staging launch",
        "**Verdict: BROKEN**",
        "**Declaration: NOT READY** (the run is BROKEN)",
    ]


def test_the_headline_marks_a_partial_run() -> None:
    page = markdown.render({**sample.ready(), "scope": "partial"})
    assert "**Verdict: READY** (PARTIAL)" in page
    assert "PARTIAL" not in markdown.render(sample.ready())


def test_a_blocker_has_its_next_action_and_its_command() -> None:
    part = section(markdown.render(sample.broken()), "Blockers")
    assert (
        r"1. **auth/refused\[freeside-expired\]** (P0, G-2, PLATFORM_BUG): an expired token was accepted"
        in part
    )
    rule = "a P0 check that fails because of the platform makes the run BROKEN"
    assert f"   Rule: {rule}. Observed: status = 200, expected 401\n" in part
    assert "   Next: fix what serves POST http://127.0.0.1:41233/api/agents/invoke" in part
    assert f"   ```sh\n   {sample.REPRODUCE}\n   ```\n" in part


def test_operational_items_are_ticked_from_the_model() -> None:
    part = section(markdown.render(sample.ready()), "Operational Readiness")
    assert "- [x] Migration task definitions (one-shot, not startup): 3 checks passed" in part
    assert "- [ ] First deploy to staging (operational): no green live run yet" in part


def test_the_inventory_shows_what_was_observed_next_to_what_is_declared() -> None:
    part = section(markdown.render(sample.ready()), "Environment Inventory")
    image = "`arrakis-staging-api:$SHA` (observed arrakis-staging-api:9b1c2d3e, build 9b1c2d3e)"
    assert f"512/1024 (observed 512/1024) | {image} |" in part
    assert "| PgBouncer | `pgbouncer.arrakis-staging.local` | 256/512 | — |" in part


def test_waivers_and_what_became_of_the_cover_are_listed() -> None:
    part = section(markdown.render(sample.ready()), "Deferred Items")
    assert "| `alarms/dashboards-have-widgets` | unneeded | dashboards land with the next release (" in part
    assert "before validation (covers x402/payment-required; expires 2027-03-01T00:00:00.000Z) |" in part


def test_a_deferred_item_without_a_check_is_a_plain_statement() -> None:
    part = section(markdown.render(sample.ready()), "Deferred Items")
    assert (
        "| NATS event streaming | Low | `NATS_OPTIONAL=true` (IMP-009) — reputation uses direct DB writes |"
        in part
    )


def test_a_rollback_says_whether_it_was_verified() -> None:
    model = sample.ready()
    evidence = model["rollback"][0]["evidence"]
    assert f"\nVerified: {evidence}\n" in section(markdown.render(model), "Rollback Plan")
    model["rollback"][0].update(verified=None, evidence="not verified in this run")
    assert "\nnot verified in this run\n" in section(markdown.render(model), "Rollback Plan")


def test_a_blocker_of_the_launch_names_its_goal_or_the_launch() -> None:
    model = sample.broken()
    model["blockers"][0].update(check="", severity="", **{"class": None})
    model["blockers"][2].update(check="", also=[], goal="", severity="")
    page = markdown.render(model)
    assert "1. **G-2**: an expired" in page
    assert "3. **the launch**: not run: dixie is down" in page


def test_every_check_and_every_figure_is_in_the_detail() -> None:
    page = markdown.render(sample.broken())
    for check in sample.broken()["checks"]:
        columns = [check[name] or "" for name in ("goal", "severity", "outcome", "class")]
        assert f"| `{check['id']}` | {' | '.join(columns)} |" in page
    assert "| Σ charges | 22100 µUSD | 22100 µUSD |  |" in page
    assert "| p95 | 0.0417342 s |  | at most 10 s |" in page
    assert "| I-1 committed + reserved ≤ limit | compared 10× |  |  |" in page


def test_the_exchanges_of_what_did_not_pass_are_in_the_detail() -> None:
    page = markdown.render(sample.broken())
    row = "| `auth/refused[freeside-expired]` | `POST http://127.0.0.1:41233/api/agents/invoke` | 200 | {"
    assert row in page
    assert "| `health/freeside` | `POST" not in page
    assert "did not pass" not in markdown.render(sample.ready())


def test_the_self_test_is_quoted() -> None:
    assert "this suite detected 72/72 seeded faults, 0 false alarms, on 2026-03-01" in markdown.render(
        sample.ready()
    )
    partly = {**sample.ready()["self_test"], "uncovered": ["health/mood"]}
    assert "0 false alarms, 1 check without a fault" in markdown.render(
        {**sample.ready(), "self_test": partly}
    )
    assert "seeded faults" not in markdown.render({**sample.ready(), "self_test": None})


@pytest.mark.parametrize(
    ("build", "shown"),
    [
        ("2026.12.1", "2026.12.1"),
        ("v4.0.0-rc.1+linux", "v4.0.0-rc.1+linux"),
        ("20261201041522", "20261201041522"),
        ("a" * 40, f"{'a' * 12}…"),
        (f"sha256:{'0' * 64}", f"sha256:{'0' * 12}…"),
        ("", ""),
    ],
)
def test_a_version_is_shown_whole_and_a_commit_by_its_beginning(build: str, shown: str) -> None:
    assert identity(build) == shown


def test_nothing_found_differs_from_nothing_known() -> None:
    assert "None." in section(markdown.render(sample.ready() | {"blockers": []}), "Blockers")
    nothing = section(markdown.render(sample.unfinished()), "Blockers")
    assert nothing.strip() == "Unknown: the run recorded no check."


def test_a_model_without_a_verdict_is_never_shown_as_a_better_one() -> None:
    assert "**Verdict: NO_VERDICT**" in markdown.render({})


def test_a_long_summary_is_cut_and_marked() -> None:
    model = sample.broken()
    model["blockers"][0]["summary"] = "long " * 500
    line = next(line for line in markdown.render(model).splitlines() if line.startswith("1. **auth/refused"))
    assert len(line) < 600
    assert line.endswith("long…")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("<script>", "&lt;script&gt;"),
        ("PLATFORM_BUG _x_", r"PLATFORM_BUG \_x\_"),
        ("`code`", "`code`"),
        ("`a|b`", r"\`a\|b\`"),
        ("`", r"\`"),
        ("&lt; R&D", "&amp;lt; R&amp;D"),
        ("api:$SHA", "api:$SHA"),
        ("$A and $B", r"\$A and \$B"),
        ("~~gone~~", r"\~\~gone\~\~"),
    ],
)
def test_markdown_in_a_text_stays_text(text: str, escaped: str) -> None:
    assert markdown.escape(text) == escaped


def test_a_step_does_not_start_a_block() -> None:
    model = sample.ready()
    model["rollback"][0]["steps"] = ["# shout", "- list"]
    assert "\n1. \\# shout\n2. \\- list\n" in markdown.render(model)


@pytest.mark.parametrize("text", ["# no heading", "- no list", "+ no list", "1. no list", "=== no rule"])
def test_a_text_does_not_start_a_block(text: str) -> None:
    page = markdown.render({**sample.ready(), "notes": [text], "reasons": [text]})
    assert not re.search(rf"^(- )?{re.escape(text)}", page, re.M)


def test_a_command_with_backticks_stays_inside_its_fence() -> None:
    model = sample.broken()
    model["blockers"][0]["reproduce"] = "pytest '```x'"
    assert "   ````sh\n   pytest '```x'\n   ````\n" in markdown.render(model)


def test_a_blocker_says_how_many_checks_share_its_reason() -> None:
    assert "**reputation/seeded-score and 2 more checks**" in markdown.render(sample.broken())


def test_a_long_report_leaves_detail_to_the_others() -> None:
    model = sample.broken()
    model["checks"] = [{**check, "id": f"{check['id']}-{n}"} for check in model["checks"] for n in range(60)]
    page = markdown.render(model)
    assert len(page.encode()) <= 60_000
    assert "All checks: in readiness.html." in page
    assert "<summary>Run record</summary>" in page


def test_measured_figures_stand_before_the_count_of_checks() -> None:
    model = sample.ready()
    model["goals"][0]["figures"] = ["p95 0.12 s of 40 invokes", "0 | broken"]
    assert r"| p95 0.12 s of 40 invokes; 0 \| broken (" in markdown.render(model)


def test_what_was_observed_differently_is_marked() -> None:
    model = sample.ready()
    model["inventory"][0]["differs"] = ["memory"]
    assert "512/1024 (DIFFERS: observed 512/1024)" in markdown.render(model)


def test_the_verdict_without_cover_is_shown_where_it_differs() -> None:
    page = markdown.render({**sample.ready(), "without_cover": "BROKEN"})
    assert "Without deferrals and waivers the verdict would be BROKEN." in page
    assert "would be" not in markdown.render({**sample.ready(), "without_cover": "READY"})


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("traceparent", f"00-{32 * 'a'}-{16 * 'b'}-01", True),
        ("Traceparent", f"01-{32 * 'a'}-{16 * 'b'}-01-more", True),
        ("traceparent", f"ff-{32 * 'a'}-{16 * 'b'}-01", False),
        ("traceparent", f"00-{32 * '0'}-{16 * 'b'}-01", False),
        ("traceparent", 5, False),
        ("x-trace", f"00-{32 * 'a'}-{16 * 'b'}-01", False),
    ],
)
def test_the_trace_of_a_request_can_be_looked_up(name: str, value: object, shown: bool) -> None:
    entry = {**sample.EXCHANGE, "request": {"headers": {name: value}}}
    failed = build.check("a/a", "failed", cls="PLATFORM_BUG", evidence=(entry,))
    assert (f"trace {32 * 'a'}" in markdown.render(build.model(failed))) is shown


COMMAND = re.compile(
    r"::(error|warning) (?:file=[^:,\s][^:,\n]*,)?(?:line=\d+,)?title=[^:,\n]+::([^\n\r]*)", re.S
)


def test_each_cause_is_an_annotation_at_its_place() -> None:
    model = sample.broken()
    next(c for c in model["checks"] if c["id"] == "invoke/nonce")["where"] = "smoke/test_invoke.py:17"
    found = markdown.workflow_commands(model)
    assert len(found) == len(model["blockers"])
    assert found[0] == (
        "::error file=smoke/test_auth.py,title=P0 PLATFORM_BUG auth/refused[freeside-expired]"
        "::an expired token was accepted: status 200, allowed 401 or 403"
        ". Next: fix what serves POST http://127.0.0.1:41233/api/agents/invoke (answered 200),"
        " redeploy, then rerun the check"
    )
    assert found[1].startswith("::error file=smoke/test_invoke.py,line=17,title=P0 FLAKE invoke/nonce::")
    assert found[2].startswith("::warning ")


def test_what_a_ready_run_still_needs_is_a_notice() -> None:
    (found,) = markdown.workflow_commands(sample.ready())
    assert found.startswith("::notice title=G-7::")


def test_a_run_without_causes_has_no_annotation() -> None:
    assert markdown.workflow_commands(sample.unfinished()) == []


def test_there_are_at_most_ten_annotations() -> None:
    model = sample.broken()
    assert len(markdown.workflow_commands({**model, "blockers": model["blockers"] * 9})) == 10


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("50%", "50%25"),
        ("a\n::error::b", "a ::error::b"),
        ("a\r\nb", "a b"),
        ("%0A::error::b", "%250A::error::b"),
    ],
)
def test_a_message_is_escaped_as_github_reads_it(text: str, shown: str) -> None:
    model = {"blockers": [{"check": "a,b:c", "severity": "P0", "summary": text}]}
    assert markdown.workflow_commands(model) == [f"::error title=P0 a%2Cb%3Ac::{shown}"]


@given(HOSTILE)
def test_no_content_makes_another_command(text: str) -> None:
    for line in markdown.workflow_commands(hostile(sample.broken(), f"x{text}")):
        assert COMMAND.fullmatch(line), line
        assert line.splitlines() == [line]


def test_the_summary_is_the_markdown_report() -> None:
    assert markdown.job_summary(sample.broken()) == "\n" + markdown.render(sample.broken())


def test_a_summary_that_does_not_fit_ends_between_sections() -> None:
    model = sample.broken()
    taken = markdown.SUMMARY_LIMIT - len(markdown.render(model).encode()) // 2
    text = markdown.job_summary(model, taken)
    assert taken + len(text.encode()) < markdown.SUMMARY_LIMIT
    assert text.endswith("The rest is in readiness.md.\n")
    assert markdown.render(model).startswith(text.partition("\n\nThe rest")[0].strip())
    assert text.count("<details>") == text.count("</details>")


@pytest.mark.parametrize("left", [0, 1, 40])
def test_nothing_is_added_to_a_full_summary(left: int) -> None:
    assert markdown.job_summary(sample.broken(), markdown.SUMMARY_LIMIT - left) == ""


@given(HOSTILE)
def test_no_content_breaks_a_row(text: str) -> None:
    page = markdown.render(hostile(sample.broken(), text))
    assert page.encode("utf-8")
    assert re.findall(r"^## (.+)$", page, re.M)[: len(SECTIONS) - 1] == SECTIONS[:-1]
    for rows in tables(page):
        assert {len(cells_by_parity(row)) for row in rows} == {len(cells_by_lookbehind(row)) for row in rows}
        assert {len(cells_by_parity(row)) for row in rows} == {len(cells_by_parity(rows[0]))}


@given(HOSTILE)
def test_no_content_becomes_html(text: str) -> None:
    page = re.sub(r"^ +(`{3,})sh\n.*\n +\1$", "", markdown.render(hostile(sample.broken(), text)), flags=re.M)
    tags = [line for line in page.splitlines() if "<" in outside_code(line)]
    titles = ["Run record", "Exchanges of checks that did not pass", "All checks", "Figures"]
    assert tags == [tag for t in titles for tag in ("<details>", f"<summary>{t}</summary>", "</details>")]
