"""Every way to get a plan wrong, each with its exact lines."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_readiness.core.errors import PlanError
from pytest_readiness.core.plan import Plan

from tests.core.build import PLAN, told

WAIVER = (
    '[[waiver]]\ncheck = "a/*"\nreason = "r"\napprover = "A"\n'
    "issued = 2026-01-01T00:00:00Z\nexpires = 2026-02-01T00:00:00+01:00\n"
)
DEFERRAL = '[[deferral]]\nitem = "Later"\nseverity = "Low"\nrationale = "r"\n'


def refusal(text: str) -> str:
    with pytest.raises(PlanError) as caught:
        Plan.parse(text, "readiness.toml")
    return str(caught.value)


BASE = PLAN.strip()
TOP = (
    "decision, deferral, facts, goal, inventory, ledger, not_waivable, operational, phases, policy, "
    "rollback, schema_version, self_test, suite, title, waiver"
)
POLICY = (
    "allowed_deferral_severity, max_uncounted_runs, require_evidence, secret_prefixes, "
    "streak_accepts_degraded, streak_length, streak_max_age_days, streak_min_spacing_s"
)
MOMENT = "an RFC 3339 time with an offset, such as 2027-03-01T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "what", "allowed", "action"),
    [
        (BASE.replace('"Shop launch"', "3"), "title: 3 is not a string", "a string", ""),
        (
            BASE + "\n[[goal]]\nid = 'G-1'\ntitle = 'again'",
            "goal[4].id: 'G-1' is used twice",
            "an id of its own",
            "",
        ),
        (
            BASE + "\n[[goal]]\nid = 'G-8'\ntitle = 't'\nstreak = true",
            "goal[4].streak: a second streak goal",
            "at most one goal with streak = true",
            "",
        ),
        (BASE + "\n[polcy]\nstreak_length = 1", "polcy: unknown key", TOP, ""),
        (
            BASE + "\n[policy]\nstreak_lenght = 1",
            "policy.streak_lenght: unknown key",
            POLICY,
            "",
        ),
        (
            BASE + "\n[policy]\nstreak_length = 0",
            "policy.streak_length: 0 is not an integer >= 1",
            "an integer >= 1",
            "",
        ),
        (
            BASE + "\n[policy]\nstreak_length = true",
            "policy.streak_length: True is not an integer >= 1",
            "an integer >= 1",
            "",
        ),
        (
            BASE + "\n[policy]\nsecret_prefixes = ['to']",
            "policy.secret_prefixes: 'to' is not the beginning of an API key",
            'two letters or more, then "_" or "-", such as "sk_"',
            "",
        ),
        (
            BASE + "\n[policy]\nrequire_evidence = 'no'",
            "policy.require_evidence: 'no' is not a boolean",
            "true, false",
            "",
        ),
        (
            BASE + "\n[policy]\nallowed_deferral_severity = 'Severe'",
            "policy.allowed_deferral_severity: unknown value 'Severe'",
            "Low, Medium, High",
            "",
        ),
        (
            BASE + "\n" + DEFERRAL + 'goal = "G-9"',
            "deferral[1].goal: unknown value 'G-9'",
            "G-1, G-2, G-7",
            "",
        ),
        (
            BASE + "\n" + DEFERRAL + 'goal = "G-1"\ncheck = "a/*"',
            "deferral[1].check: a deferral names a goal and a check",
            "goal, check, or neither",
            "",
        ),
        (
            BASE + "\n" + DEFERRAL + "expires = 2027-03-01T00:00:00",
            "deferral[1].expires: 2027-03-01 00:00:00 is not a time with an offset",
            MOMENT,
            "",
        ),
        (
            BASE + "\n" + DEFERRAL + 'expires = "next week"',
            "deferral[1].expires: 'next week' is not a time with an offset",
            MOMENT,
            "",
        ),
        (BASE + "\n" + WAIVER.replace("approver", "aprover"), "waiver[1].approver: missing", "a string", ""),
        (
            BASE + "\n" + WAIVER.replace('"A"', '" "'),
            "waiver[1].approver: empty",
            "a string that is not empty",
            "",
        ),
        (
            BASE + "\n" + WAIVER.replace("2026-02-01", "2025-02-01"),
            "waiver[1].expires: not after issued",
            "a time after issued",
            "",
        ),
        (
            BASE + "\n[[operational]]\nitem = 'x'",
            "operational[1].checks: an item is ticked by checks or by a rule",
            "exactly one of checks, rule",
            "",
        ),
        (
            BASE + "\n[[operational]]\nitem = 'x'\nrule = 'hope'",
            "operational[1].rule: unknown value 'hope'",
            "live-run, streak",
            "",
        ),
        (
            BASE + "\n[[rollback]]\ntitle = 'x'\nkind = 'full'\nsteps = []",
            "rollback[1].steps: empty",
            "at least one step",
            "",
        ),
        (
            BASE + "\n[ledger]\nurl = 'ftp://x'",
            "ledger.url: 'ftp://x' is not a ledger",
            "file:PATH, s3://BUCKET/PREFIX",
            "",
        ),
        (BASE + "\n[goals]\n", "goals: unknown key", TOP, ""),
        ('phases = ["a", "a"]\n' + BASE, "phases: 'a' is used twice", "each phase once", ""),
        (
            'not_waivable = "auth/*"\n' + BASE,
            "not_waivable: 'auth/*' is not an array",
            "an array of strings",
            "",
        ),
        (
            "not_waivable = [1]\n" + BASE,
            "not_waivable: 1 is not a string with content",
            "an array of strings",
            "",
        ),
        (
            BASE.replace("schema_version = 1", "schema_version = 2"),
            "schema_version: unknown version 2",
            "1",
            "",
        ),
        (
            BASE.replace("schema_version = 1", ""),
            "schema_version: missing",
            "an integer >= 1",
            "add it above the first [table] of the file",
        ),
        (
            'schema_version = 1\ntitle = "t"\nsuite = "s"',
            "goal: missing",
            "at least one [[goal]] with id and title",
            "",
        ),
        (
            'schema_version = 1\ntitle = "t"\nsuite = "s"\ngoal = 3',
            "goal: not an array of tables",
            "[[goal]]",
            "",
        ),
        ("policy = 3\n" + BASE, "policy: 3 is not a table", "[policy]", ""),
        (
            "title = ",
            "not valid TOML: Invalid value (at end of document)",
            "",
            "correct readiness.toml and run again",
        ),
    ],
)
def test_refusals(text: str, what: str, allowed: str, action: str) -> None:
    assert refusal(text) == told(f"readiness.toml: {what}", allowed, action)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["goal", "policy", "deferral", "waiver", "inventory", "operational", "rollback", "decision", "phases"]


@given(st.sampled_from(KEYS), json_values)
def test_any_value_anywhere_is_read_or_refused_in_three_lines(key: str, value: Any) -> None:
    text = f'schema_version = 1\ntitle = "t"\nsuite = "s"\n{key} = {_toml(value)}\n'
    if key != "goal":
        text += '[[goal]]\nid = "G-1"\ntitle = "t"\n'
    message = "readiness.toml: "
    try:
        Plan.parse(text, "readiness.toml")
    except PlanError as error:
        message = str(error)
    assert message.startswith("readiness.toml: ")
    assert len(message.splitlines()) <= 3


def _toml(value: Any) -> str:
    if value is None:
        return '""'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_quoted(key)} = {_toml(one)}' for key, one in value.items())}}}"
    return str(value)


def _quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(char):08X}" for char in text if not 0xD800 <= ord(char) < 0xE000) + '"'
