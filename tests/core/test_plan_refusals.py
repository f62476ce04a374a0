"""Every way to get a plan wrong, each with its exact lines."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_readiness.core.errors import CORRECT, PlanError
from pytest_readiness.core.plan import Plan
from pytest_readiness.core.toml import LONGEST_TEXT, parse_toml

from tests.core.build import PLAN, lines
from tests.core.test_plan import DEFERRAL, WAIVER


def refusal(text: str) -> str:
    with pytest.raises(PlanError) as caught:
        Plan.parse(text, "readiness.toml")
    return str(caught.value)


BASE = PLAN.strip()
TOP = (
    "chart, decision, declaration, deferral, facts, goal, inventory, lease, ledger, not_waivable, "
    "operational, owner, phases, policy, renamed, retired, rollback, schema_version, self_test, suite, "
    "title, waiver"
)
POLICY = (
    "allowed_deferral_severity, check_limit_s, max_uncounted_runs, require_evidence, secret_prefixes, "
    "streak_accepts_degraded, streak_length, streak_max_age_days, streak_min_spacing_s"
)
MOMENT = "an RFC 3339 time with an offset, such as 2027-03-01T00:00:00Z"


@pytest.mark.parametrize(
    ("more", "what", "allowed"),
    [
        ("[[goal]]\nid = 'G-1'\ntitle = 'again'", "goal[4].id: 'G-1' is used twice", "a unique id"),
        ("[[goal]]\nid = 'G-8'\ntitle = 't'\nstreak = true", "goal[4].streak: a second streak goal",
         "at most one goal with streak = true"),
        ("[polcy]\nstreak_length = 1", "polcy: unknown key", TOP),
        ("[policy]\nstreak_lenght = 1", "policy.streak_lenght: unknown key", POLICY),
        ("[policy]\nstreak_length = 0", "policy.streak_length: 0 is not an integer >= 1", "an integer >= 1"),
        ("[policy]\nstreak_length = true", "policy.streak_length: True is not an integer >= 1",
         "an integer >= 1"),
        ("[policy]\nsecret_prefixes = ['to']",
         "policy.secret_prefixes: 'to' is not the prefix of an API key",
         'two letters or more, then "_" or "-", such as "sk_"'),
        ("[policy]\nrequire_evidence = 'no'", "policy.require_evidence: 'no' is not a boolean",
         "true, false"),
        ("[policy]\nallowed_deferral_severity = 'Severe'",
         "policy.allowed_deferral_severity: unknown value 'Severe'", "Low, Medium, High"),
        (DEFERRAL + 'goal = "G-9"', "deferral[1].goal: unknown value 'G-9'", "G-1, G-2, G-7"),
        (DEFERRAL + 'goal = "G-1"\ncheck = "a/*"', "deferral[1].check: a deferral names a goal and a check",
         "goal, check, or neither"),
        (DEFERRAL + "expires = 2027-03-01T00:00:00",
         "deferral[1].expires: 2027-03-01 00:00:00 is not a time with an offset", MOMENT),
        (DEFERRAL + 'expires = "next week"', "deferral[1].expires: 'next week' is not a time with an offset",
         MOMENT),
        (WAIVER.replace('approver = "A"\n', ""), "waiver[1].approver: missing", "a string"),
        (WAIVER.replace('"A"', '" "'), "waiver[1].approver: empty", "a non-empty string"),
        (WAIVER.replace("2026-02-01", "2025-02-01"), "waiver[1].expires: not after issued",
         "a time after issued"),
        ("[[operational]]\nitem = 'x'", "operational[1].checks: an item is ticked by checks or by a rule",
         "exactly one of checks, rule"),
        ("[[operational]]\nitem = 'x'\nrule = 'hope'", "operational[1].rule: unknown value 'hope'",
         "live-run, streak"),
        ("[[rollback]]\ntitle = 'x'\nkind = 'full'\nsteps = []", "rollback[1].steps: empty",
         "at least one step"),
        ("[ledger]\nurl = 'ftp://x'", "ledger.url: 'ftp://x' is not a ledger",
         "file:PATH, s3://BUCKET/PREFIX"),
        ("[facts]\nlimit = nan", "facts.limit: a number that is not finite",
         "numbers other than nan and inf"),
        ("[facts]\nlimits = [1, { most = [inf] }]", "facts.limits[2].most[1]: a number that is not finite",
         "numbers other than nan and inf"),
        ("[renamed]\n'a/x' = 'a/y'\n'a/y' = 'a/z'", "renamed.a/x: 'a/y' is itself renamed",
         "the id that the check has now"),
        ("[renamed]\n'a/x' = 1", "renamed.a/x: 1 is not a string", "a string"),
        ("[goals]\n", "goals: unknown key", TOP),
    ],
)  # fmt: skip
def test_an_addition_is_refused(more: str, what: str, allowed: str) -> None:
    assert refusal(f"{BASE}\n{more}") == lines(f"readiness.toml: {what}", allowed, CORRECT)


@pytest.mark.parametrize(
    ("text", "what", "allowed"),
    [
        (BASE.replace('"Shop launch"', "3"), "title: 3 is not a string", "a string"),
        ('phases = ["a", "a"]\n' + BASE, "phases: 'a' is used twice", "each phase once"),
        ('not_waivable = "auth/*"\n' + BASE, "not_waivable: 'auth/*' is not an array", "an array of strings"),
        ("not_waivable = [1]\n" + BASE, "not_waivable: 1 is not a non-empty string",
         "an array of strings"),
        (BASE.replace("schema_version = 1", "schema_version = 2"), "schema_version: unknown version 2", "1"),
        ('schema_version = 1\ntitle = "t"\nsuite = "s"', "goal: missing",
         "at least one [[goal]] with id and title"),
        ('schema_version = 1\ntitle = "t"\nsuite = "s"\ngoal = 3', "goal: not an array of tables",
         "[[goal]]"),
        ("policy = 3\n" + BASE, "policy: 3 is not a table", "[policy]"),
        *(
            (f"retired = ['a/b', {pattern!r}]\n" + BASE, f"retired: {pattern!r} does not begin with a phase",
             'ids of checks, such as "auth/old-*"')
            for pattern in ("*", "**", "?*", "*/*", "*e*", "*/old", "a*", "auth", "auth/")
        ),
        *(
            (BASE.replace('suite = "smoke"', f"suite = {text}"),
             f"suite: {shown!r} is not a directory under the plan's", "a relative path without ..")
            for text, shown in (
                ("'/etc'", "/etc"), ("'..'", ".."), ("'../smoke'", "../smoke"), ("'a/../../b'", "a/../../b"),
                (r'"a\nb"', "a b"), (r'"a\u001bb"', "a\ufffdb"), (f"'{'s' * 256}'", f"{'s' * 59}…"),
            )
        ),
    ],
)  # fmt: skip
def test_a_plan_is_refused(text: str, what: str, allowed: str) -> None:
    assert refusal(text) == lines(f"readiness.toml: {what}", allowed, CORRECT)


def test_a_missing_version_is_refused_with_its_place() -> None:
    text, place = BASE.replace("schema_version = 1", ""), "add it above the first [table] of the file"
    assert refusal(text) == lines("readiness.toml: schema_version: missing", "an integer >= 1", place)


def test_text_that_is_not_toml_is_refused() -> None:
    problem = "readiness.toml: not valid TOML: Invalid value (at end of document)"
    assert refusal("title = ") == lines(problem, action="correct readiness.toml and run again")


def test_a_byte_order_mark_is_not_a_mistake() -> None:
    assert parse_toml("\ufefftitle = 1") == {"title": 1}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("#" + "x" * 2**18, "longer than 262144 characters"),
        (f"title = '{'x' * 10_000}'", "line 1 is longer than 10000 characters"),
        (f"[facts]\n{'.'.join('a' * 20_000)} = 1", "line 2 is longer than 10000 characters"),
        (f"[facts]\n{' . '.join('a' * 51)} = 1", "line 2 has a key of more than 50 parts"),
        ("[" + ".".join(['"a b"'] * 51) + "]", "line 1 has a key of more than 50 parts"),
        ("facts = { " + ".".join(["''"] * 51) + " = 1 }", "line 1 has a key of more than 50 parts"),
        (f"title = {'[' * 9_000}", "nested too deeply"),
    ],
)  # fmt: skip
def test_a_text_that_takes_long_to_read_is_refused(text: str, what: str) -> None:
    action = "correct readiness.toml and run again"
    assert refusal(text) == lines(f"readiness.toml: not valid TOML: {what}", action=action)


@pytest.mark.parametrize(
    "line",
    ["[a.k{n}]\n" + ".".join("b" * 49) + " = 1\n", "k{n} = {{ a.b.c = 1 }}\n", "[k{n}]\na.b = 1\n"],
    ids=["long keys", "inline tables", "tables"],
)
def test_the_longest_text_takes_no_time(line: str) -> None:
    count = LONGEST_TEXT // len(line.format(n=99_999))
    text = "".join(line.format(n=n) for n in range(count))
    began = time.process_time()
    assert parse_toml(text)
    assert time.process_time() - began < 5  # a fifth of it on an idle machine


def test_dots_in_text_make_no_key() -> None:
    plan = Plan.parse(f"{BASE}\n[facts]\nrow = '{'. ' * 200}{'....' * 50}'\nversion = '{'1.' * 40}'", "p")
    assert plan.facts["version"] == "1." * 40


@pytest.mark.parametrize("char", ["\\u0000", "\\n", "\\t", "\\u001b[2J", "\\u202e"])
@pytest.mark.parametrize(
    "text",
    [
        '[ledger]\nurl = "file:a{}b"',
        '[self_test]\ncatalogue = "a{}b"',
        '[self_test]\nvariants = "a{}b"',
        '[[inventory]]\nservice = "x"\nurl = "http://a{}b"',
    ],
)
def test_a_path_or_url_with_a_control_character_is_refused(text: str, char: str) -> None:
    message = refusal(f"{BASE}\n{text.format(char)}")
    assert "NUL" in message or "not a path or a URL" in message
    assert not {"\0", "\x1b", "\u202e"} & {*message}


@pytest.mark.parametrize("declared", ["READY", "IN VALIDATION 1/3", "Ready for launch"])
def test_a_text_for_what_no_run_declares_is_refused(declared: str) -> None:
    message = refusal(f'{BASE}\n[[declaration.prose]]\nwhen = "{declared}"\ntext = "x"')
    assert f"declaration.prose[1].when: unknown value '{declared}'\n  allowed: READY FOR LAUNCH" in message


def test_a_misspelt_key_comes_before_the_key_that_is_missing() -> None:
    message = refusal(f"{BASE}\n[[decision]]\ndate = 2026-11-20\ndecison = 'x'")
    assert message.startswith("readiness.toml: decision[1].decison: unknown key (allowed: date, decision")


def test_all_mistakes_are_reported_at_once() -> None:
    text = BASE + (
        "\n[policy]\nstreak_length = 0\nstreak_max_age_days = 99999999999999\nodd = 1\n"
        + WAIVER.replace("issued = 2026-01-01T00:00:00Z", 'issued = "soon"').replace('"A"', '" "')
        + "[[operational]]\nitem = 'x'\nrule = 'hope'\n"
    )
    *lines, last = refusal(text).splitlines()
    assert [line.partition(" (allowed: ")[0] for line in lines] == [
        f"readiness.toml: {mistake}"
        for mistake in (
            "policy.odd: unknown key",
            "policy.streak_length: 0 is not an integer >= 1",
            "policy.streak_max_age_days: 99999999999999 is not an integer >= 1 and <= 36500",
            "waiver[1].approver: empty",
            "waiver[1].issued: 'soon' is not a time with an offset",
            "operational[1].rule: unknown value 'hope'",
        )
    ]
    assert last == "  next: correct these 6 mistakes"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            ("policy.streak_length", value)
            for value in ("1001", "nan", "inf", "1e3", "-1", "0x" + "f" * 5000)
        ),
        ("policy.streak_min_spacing_s", "99999999999999"),
        ("policy.streak_max_age_days", "36501"),
        ("policy.max_uncounted_runs", "2147483648"),
        ("policy.max_uncounted_runs", "-1"),
        ("ledger.url", '"file:\\u0000"'),
        ("waiver", "[" * 100_000),
        ("facts.number", "9" * 5000),
        ("facts.number", "0x" + "f" * 5000),
    ],
)
def test_values_that_would_fail_later_are_refused_at_once(key: str, value: str) -> None:
    message = refusal(f"{key} = {value}\n{BASE}")
    assert message.startswith("readiness.toml: ")
    assert len(message.splitlines()) <= 3


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
def test_a_time_without_a_day_in_utc_is_refused(moment: str) -> None:
    for written in (moment, f'"{moment}"'):
        assert "deferral[1].expires: " in refusal(BASE + "\n" + DEFERRAL + f"expires = {written}")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["goal", "policy", "deferral", "waiver", "inventory", "operational", "rollback", "decision", "phases"]


@given(st.sampled_from(KEYS), json_values)
def test_any_value_anywhere_is_read_or_refused_in_three_lines_or_one_for_each_mistake(
    key: str, value: Any
) -> None:
    text = f'schema_version = 1\ntitle = "t"\nsuite = "s"\n{key} = {_toml(value)}\n'
    if key != "goal":
        text += '[[goal]]\nid = "G-1"\ntitle = "t"\n'
    message = "readiness.toml: "
    try:
        Plan.parse(text, "readiness.toml")
    except PlanError as error:
        message = str(error)
    assert message.startswith("readiness.toml: ")
    lines = message.splitlines()
    assert len(lines) <= 3 or lines[-1] == f"  next: correct these {len(lines) - 1} mistakes"


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
