"""Composite alarms: which alarms go off with them, and which never do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoke.aws.alarms import (
    CompositeAlarm,
    composite_of,
    hollow,
    judged,
    linked,
)
from smoke.source.rules import (
    goes_off_with,
)
from tests.smoke.aws.fakes import TOPIC, TOPIC_ARN, WATCH, alarm


def composite(name: str, rule: str, **changed: Any) -> CompositeAlarm:
    record = {
        "AlarmName": name,
        "AlarmArn": f"arn:aws:cloudwatch:us-east-1:1:alarm:{name}",
        "StateValue": "OK",
        "AlarmRule": rule,
        "ActionsEnabled": True,
        "AlarmActions": [TOPIC_ARN],
    }
    return composite_of({**record, **changed})


ARN = "arn:aws:cloudwatch:us-east-1:1:alarm:p-api-cpu-high"


@pytest.mark.parametrize(
    ("rule", "follows"),
    [
        ("ALARM(p-api-cpu-high)", True),
        ('ALARM("p-api-cpu-high")', True),
        (f"ALARM({ARN})", True),
        ("ALARM(other) OR ALARM(p-api-cpu-high)", True),
        ("NOT (NOT ALARM(p-api-cpu-high) AND NOT ALARM(other))", True),
        ("(ALARM(p-api-cpu-high) AND TRUE) OR OK(other)", True),
        ("ALARM(other) OR ALARM(p-api-cpu-high) AND ALARM(third)", False),
        ("ALARM(p-api-cpu-high) AND NOT ALARM(deploying)", False),
        ("NOT ALARM(p-api-cpu-high)", False),
        ("OK(p-api-cpu-high)", False),
        ("INSUFFICIENT_DATA(p-api-cpu-high)", False),
        ("ALARM(p-api-cpu-higher)", False),
        ("FALSE AND ALARM(p-api-cpu-high)", False),
    ],
)
def test_a_composite_alarm_counts_for_an_alarm_that_triggers_it_by_itself(rule: str, follows: bool) -> None:
    (found,) = linked([alarm(actions=())], [composite("p-all", rule)])
    judgement = judged([found], WATCH, TOPIC)
    assert (judgement.good is found) is follows
    assert judgement.unread == ()
    assert follows or "it has no target" in judgement.why


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"ActionsEnabled": False}, "p-all, which fires with it: its actions are disabled"),
        ({"AlarmActions": []}, "p-all, which fires with it: it has no target"),
        ({"AlarmActions": [f"{TOPIC_ARN}-2"]}, f", not {TOPIC_ARN}"),
        (
            {"ActionsSuppressedBy": "Alarm", "ActionsSuppressor": "p-deploying"},
            "its actions are suppressed by p-deploying",
        ),
    ],
)
def test_a_composite_alarm_must_notify_the_topic_itself(changed: dict[str, Any], why: str) -> None:
    (found,) = linked([alarm(enabled=False)], [composite("p-all", "ALARM(p-api-cpu-high)", **changed)])
    assert why in judged([found], WATCH, TOPIC).why


@pytest.mark.parametrize(
    ("suppressor", "ringing", "notifies"),
    [
        ("p-deploying", [], True),
        ("p-deploying", ["p-deploying"], False),
        ("arn:aws:cloudwatch:us-east-1:1:alarm:p-deploying", ["p-deploying"], False),
        ("p-api-cpu-high", [], False),  # in ALARM whenever the composite alarm would notify for it
        ("p-api-memory-high", [], True),
    ],
)
def test_a_composite_alarm_is_not_suppressed_when_it_must_notify(
    suppressor: str, ringing: list[str], notifies: bool
) -> None:
    rule = "ALARM(p-api-cpu-high) OR ALARM(p-api-memory-high)"
    arn = "arn:aws:cloudwatch:us-east-1:1:alarm:p-all"
    described = {"AlarmName": "p-all", "StateValue": "OK", "AlarmArn": arn, "AlarmRule": rule,
                 "ActionsEnabled": True, "AlarmActions": [TOPIC_ARN],
                 "ActionsSuppressor": suppressor}  # fmt: skip
    (found,) = linked([alarm(actions=())], [composite_of(described, ringing)])
    assert bool(found.notifiers(TOPIC)) is notifies


def test_composite_alarms_may_refer_to_each_other_in_any_order_and_in_a_circle() -> None:
    above = composite("p-page", "ALARM(p-all) OR ALARM(p-page)")
    between = composite("p-all", "ALARM(p-api-cpu-high) OR ALARM(p-page)", AlarmActions=[])
    (found,) = linked([alarm(actions=())], [above, between])
    assert [each.name for each in found.notifiers(TOPIC)] == ["p-page"]


@pytest.mark.parametrize("rule", ["AT_LEAST(1, ALARM, (p-api-cpu-high, p-b))", "ALARM(p-api-cpu-high) XOR x"])
def test_a_rule_that_is_not_understood_is_named(rule: str) -> None:
    (found,) = linked([alarm(actions=())], [composite("p-all", rule)])
    assert judged([found], WATCH, TOPIC).unread == (f"the rule {rule} of p-all",)
    (other,) = linked([alarm(actions=(), name="p-x")], [composite("p-all", rule)])
    assert judged([other], WATCH, TOPIC).unread == ()


RULES = st.recursive(
    st.sampled_from(["ALARM(a)", "ALARM(b)", "OK(b)", "ALARM(c)", "TRUE", "FALSE"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda each: f"({' '.join(each)})"),
        inner.map(lambda each: f"NOT {each}"),
    ),
)


@given(RULES, st.sampled_from(["ALARM", "OK"]), st.sampled_from(["ALARM", "OK"]))
def test_what_fires_with_an_alarm_does_so_whatever_the_others_do(rule: str, b: str, c: str) -> None:
    expression = rule
    for name, state in {"a": "ALARM", "b": b, "c": c}.items():
        for wanted in ("ALARM", "OK"):
            expression = expression.replace(f"{wanted}({name})", str(state == wanted))
    words = {"TRUE": "True", "FALSE": "False", "AND": "and", "OR": "or", "NOT": "not"}
    for word, python in words.items():
        expression = expression.replace(word, python)
    holds = eval(expression)
    assert not goes_off_with(rule, {"a"}) or holds


@pytest.mark.parametrize(
    ("rule", "changed", "dead"),
    [
        ("ALARM(a)", {}, False),
        ("ALARM(a) OR ALARM(gone)", {}, False),
        ("NOT ALARM(gone)", {}, False),
        ('ALARM("arn:aws:cloudwatch:us-east-1:1:alarm:a")', {}, False),
        ("FALSE", {"actions": ()}, False),  # a switch that others ask
        ("FALSE", {"actions": ("arn:aws:sns:us-east-1:1:other",)}, False),
        ("FALSE", {}, True),
        ("ALARM(gone) OR OK(gone)", {}, True),
        ("ALARM(a) AND ALARM(gone)", {}, True),
    ],
)
def test_a_composite_alarm_of_missing_alarms_never_fires(rule: str, changed: Any, dead: bool) -> None:
    arn = "arn:aws:cloudwatch:us-east-1:1:alarm:p-page"
    good = {"name": "p-page", "state": "OK", "arn": arn, "enabled": True, "actions": (TOPIC_ARN,)}
    composite = CompositeAlarm(**{**good, **changed}, rule=rule)
    assert bool(hollow([composite], {"a", "p-page"}, TOPIC)) is dead
