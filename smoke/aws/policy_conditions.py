"""Conditions of policies: whether they hold for a request of which only some is known."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

#: A variable of a policy, such as `${aws:PrincipalTag/team}`.
VARIABLE = re.compile(r"\$\{[^}]*\}")
#: What a request says of itself, by the condition keys in small letters: the values that it may have, none
#: where it has no such key. Of a key that is not here, nothing is known.
Context = Mapping[str, Sequence[str]]
#: Keys that no request has that a service of AWS makes by itself: it comes from no network of anybody's.
NO_NETWORK: Context = dict.fromkeys(("aws:sourcevpc", "aws:sourcevpce", "aws:vpcsourceip"), ())
_OPERATOR = re.compile(
    r"(?i)(?P<kind>string|arn|bool|date|null|(?=(?:not)?ip))(?P<not>not)?"
    r"(?P<how>equals|like|equalsignorecase|ipaddress|(?:less|greater)than(?:equals)?)?(?P<ifexists>ifexists)?"
)
_NOW = "aws:currenttime"


def met(statement: Mapping[str, Any], context: Context) -> bool | None:
    """Whether the conditions of a statement hold for a request; None where its context does not decide."""
    found = [
        _holds(_OPERATOR.fullmatch(operator), [str(one) for one in _listed_values(value)], context, key)
        for operator, keys in (statement.get("Condition") or {}).items()
        for key, value in keys.items()
    ]
    return False if False in found else None if None in found else True


def permitted(statements: Sequence[Mapping[str, Any]], context: Context) -> bool:
    """Whether statements about one request allow it, and none surely denies it."""
    denied = any(
        each.get("Effect") == "Deny" and met(each, context) and not VARIABLE.search(str(each.get("Resource")))
        for each in statements
    )
    return not denied and any(
        each.get("Effect") == "Allow" and met(each, context) is not False for each in statements
    )


def _holds(operator: re.Match[str] | None, named: Sequence[str], context: Context, key: str) -> bool | None:
    values = [key] if key.lower() == _NOW else context.get(key.lower())
    if operator is None or values is None:
        return None
    kind, negated = operator["kind"].lower(), bool(operator["not"])
    if kind == "null":
        return ([each.lower() for each in named] == ["true"]) is (not values)
    if not values:  # the key is absent
        return negated or bool(operator["ifexists"])
    each = [_compares(kind, (operator["how"] or "").lower(), value, named) for value in values]
    if None in each or len({*each}) > 1:
        return None
    return each[0] is not negated


def _compares(kind: str, how: str, value: str, named: Sequence[str]) -> bool | None:
    """Whether a value is one of those named; for a date, whether it is before or after one."""
    if kind == "date":
        return _dated(how, named)
    if how == "ipaddress":
        return None
    patterns = [each for each in named if not VARIABLE.search(each)]
    if kind == "string" and how != "like":  # a star is no wildcard there
        patterns = [re.sub(r"([*?])", r"[\1]", each.replace("[", "[[]")) for each in patterns]
    else:
        patterns = [each.replace("[", "[[]") for each in patterns]
    if how == "equalsignorecase" or kind == "bool":
        value, patterns = value.lower(), [each.lower() for each in patterns]
    found = any(fnmatchcase(value, each) for each in patterns)
    return found or (False if len(patterns) == len(named) else None)  # what a variable stands for is unknown


def _dated(how: str, named: Sequence[str]) -> bool | None:
    """Whether now is before or after one of some dates."""
    try:
        dates = [datetime.fromisoformat(each) for each in named]
    except ValueError:
        return None
    now = datetime.now(UTC)
    ends = [each if each.tzinfo else each.replace(tzinfo=UTC) for each in dates]
    if not how.startswith(("less", "greater")):
        return None
    return any(now < each if how.startswith("less") else now > each for each in ends)


def _listed_values(value: Any) -> Sequence[Any]:
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    return values
