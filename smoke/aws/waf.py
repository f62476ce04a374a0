"""AWS WAF: which calls the rules of a web ACL refuse, as far as what is known about a call decides."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_readiness import SetupError

from smoke.source.infrastructure.entrances import is_everybody

from .account import AwsAccount

_NO_ACL = ("WAFNonexistentItemException",)
#: Text transformations that leave the calls of the contract as they are.
_HARMLESS = ("NONE", "LOWERCASE", "URL_DECODE", "NORMALIZE_PATH", "COMPRESS_WHITE_SPACE")
#: WAF actions that a program cannot pass: a block, and a question to a person or a browser.
_REFUSING = ("Block", "Captcha", "Challenge")


@dataclass(frozen=True, slots=True)
class PublicCall:
    """What is known about a call; if it is `authorized`, its header has a credential.

    `query` are the names and values of its query string; `size` is that of its body in bytes, 0 if unknown,
    and `most` the largest that it may have. Its answer may be `streamed`.
    """

    method: str
    path: str
    host: str
    authorized: bool = False
    query: tuple[tuple[str, str], ...] = ()
    size: int = 0
    most: int = 0
    streamed: bool = False


def read_web_acl(account: AwsAccount, resource: str) -> Mapping[str, Any] | None:
    """The web ACL in front of a load balancer; None without one."""
    found = account.find("wafv2", "get_web_acl_for_resource", _NO_ACL, ResourceArn=resource)
    acl: Mapping[str, Any] | None = _resolved(account, (found or {}).get("WebACL"))
    return acl


def read_global_acl(account: AwsAccount, arn: str) -> Mapping[str, Any] | None:
    """The web ACL of a CloudFront distribution; None without one."""
    found = _read(account, "get_web_acl", arn) if arn else None
    acl: Mapping[str, Any] | None = _resolved(account, (found or {}).get("WebACL"))
    return acl


def _read(account: AwsAccount, method: str, arn: str) -> Mapping[str, Any] | None:
    """What WAF says of a web ACL, a rule group or an IP set; SetupError if another region has it."""
    if arn.split(":")[3:4] != [account.region]:
        raise SetupError(f"not examined: what {arn} refuses, which is in another region")
    scope, _, name, key = arn.split(":")[5].split("/")
    scope = "CLOUDFRONT" if scope == "global" else "REGIONAL"
    return account.find("wafv2", method, _NO_ACL, Name=name, Scope=scope, Id=key)


def _resolved(account: AwsAccount, value: Any) -> Any:  # JSON of any shape
    """A web ACL with the addresses of its IP sets and the rules of its rule groups."""
    if isinstance(value, list):
        return [_resolved(account, each) for each in value]
    if not isinstance(value, Mapping):
        return value
    resolved = {key: _resolved(account, each) for key, each in value.items()}
    for kind, method, answer, part in _REFERENCES:
        if kind in resolved:
            found = _read(account, method, resolved[kind]["ARN"])
            # Firewall Manager's belong to another account
            resolved[kind] |= {part: _resolved(account, found[answer].get(part, []))} if found else {}
    return resolved


#: Statements that refer to something else, and the part of it that decides.
_REFERENCES = (
    ("IPSetReferenceStatement", "get_ip_set", "IPSet", "Addresses"),
    ("RuleGroupReferenceStatement", "get_rule_group", "RuleGroup", "Rules"),
)


def refused(acl: Mapping[str, Any], calls: Sequence[PublicCall]) -> Iterator[str]:
    """Which rules of a web ACL refuse which calls; one about unknown parts of a call may let it through."""
    found: dict[str, list[str]] = {}
    for call in calls:
        if by := _refused_by(acl, call):
            found.setdefault(by, []).append(f"{call.method} {call.path}")
        elif call.most and (by := _refused_by(acl, replace(call, size=call.most))):
            found.setdefault(by, []).append(f"{call.method} {call.path} of {call.most} bytes")
    for by, hit in found.items():
        yield f"{by} of {acl.get('Name')} (WAF) refuses {' and '.join(hit)}"


def _refused_by(acl: Mapping[str, Any], call: PublicCall) -> str:
    decided = _decided(acl.get("Rules", ()), call)
    return decided or (
        "the default action" if decided is None and "Block" in acl.get("DefaultAction", {}) else ""
    )


def _decided(rules: Iterable[Mapping[str, Any]], call: PublicCall) -> str | None:
    """The rule that refuses a call; empty if one may allow it, None if none decides."""
    for rule in sorted(rules, key=lambda each: int(each["Priority"])):
        (action,) = rule.get("Action") or ("",)
        statement = rule.get("Statement", {})
        hit = _matches(statement, call)
        if action == "Allow" and hit is not False:
            return ""
        if action in _REFUSING and hit and not _is_limit(rule):
            return f"the rule {rule.get('Name')}"
        # a rule group decides by itself, unless it only counts
        group = (
            statement.get("RuleGroupReferenceStatement", {})
            if "None" in rule.get("OverrideAction", {})
            else {}
        )
        replaced = group.get("RuleActionOverrides") or group.get("ExcludedRules")
        inside = None if replaced else _decided(group.get("Rules", ()), call)
        if inside is not None:
            return inside
    return None


def _is_limit(rule: Mapping[str, Any]) -> bool:
    """Whether a rule refuses calls beyond a rate with 429, as the contract allows."""
    answer = rule["Action"].get("Block", {}).get("CustomResponse", {})
    return "RateBasedStatement" in rule["Statement"] and answer.get("ResponseCode") == _TOO_MANY


def _matches(statement: Mapping[str, Any], call: PublicCall) -> bool | None:
    """Whether a call matches a statement; None if what is known about the call does not decide."""
    ((kind, about),) = statement.items() if len(statement) == 1 else [("", {})]
    if kind == "NotStatement":
        found = _matches(about["Statement"], call)
        return None if found is None else not found
    if kind in ("AndStatement", "OrStatement"):
        parts = [_matches(each, call) for each in about["Statements"]]
        decisive = kind == "OrStatement"
        places = [each.get("GeoMatchStatement", {}) for each in about["Statements"]]
        codes = {
            one for each in places if "ForwardedIPConfig" not in each for one in each.get("CountryCodes", ())
        }
        if decisive and len(codes) >= _COUNTRIES:
            return True
        return decisive if decisive in parts else None if None in parts else not decisive
    if kind == "SizeConstraintStatement":
        return _is_sized(about, call.size)
    if kind == "IPSetReferenceStatement" and "Addresses" in about and "IPSetForwardedIPConfig" not in about:
        return is_everybody(about["Addresses"]) or (None if about["Addresses"] else False)
    if kind == "RateBasedStatement":
        return _is_rated(about, call)
    of = _compared(about, call)
    if of is None:
        return None
    if kind == "RegexMatchStatement":
        return _contains(about["RegexString"], of)
    return _POSITIONS[about["PositionalConstraint"]](of, _text(about["SearchString"]))


def _contains(written: str, of: str) -> bool | None:
    """Whether a regular expression of WAF occurs in a text; None for what Python writes otherwise."""
    try:
        return None if "[[:" in written else re.search(written, of) is not None
    except re.error:
        return None


def _is_sized(about: Mapping[str, Any], size: int) -> bool | None:
    """Whether a body's size fits a statement; of a larger body, WAF sees at least the first bytes."""
    body = about.get("FieldToMatch", {}).get("Body")
    plain = all(each["Type"] == "NONE" for each in about.get("TextTransformations", ()))
    if body is None or not size or not plain or about["ComparisonOperator"] not in ("GT", "GE"):
        return None
    if size > _SEEN_BYTES and body.get("OversizeHandling", _SEES) != _SEES:
        return bool(body["OversizeHandling"] == "MATCH")
    fits = min(size, _SEEN_BYTES) - (about["ComparisonOperator"] == "GT") >= about["Size"]
    return fits or (None if size > _SEEN_BYTES else False)


def _is_rated(about: Mapping[str, Any], call: PublicCall) -> bool | None:
    """Whether a limit of an address, or of all together, is lower than what one caller sends."""
    if call.method == "GET" and not call.authorized:
        return None  # nobody has to ask for health or keys so often
    within = _matches(about["ScopeDownStatement"], call) if "ScopeDownStatement" in about else True
    often = about["Limit"] * _WINDOW_S / about.get("EvaluationWindowSec", _WINDOW_S) > _SENT
    return within and (None if often or about.get("AggregateKeyType") == "CUSTOM_KEYS" else True)


#: Calls that a caller must be able to send in WAF's usual window: ten invokes in a row, five and ten at once,
#: and the readings of the budget around them.
_WINDOW_S, _SENT = 300, 50
_TOO_MANY = 429
#: All countries: a shorter list may leave out those that a platform serves.
_COUNTRIES = 249
_SEEN_BYTES, _SEES = 8192, "CONTINUE"
_POSITIONS: Mapping[str, Callable[[str, str], bool]] = {
    "EXACTLY": lambda of, text: of == text,
    "STARTS_WITH": lambda of, text: of.startswith(text),
    "ENDS_WITH": lambda of, text: of.endswith(text),
    "CONTAINS": lambda of, text: text in of,
    "CONTAINS_WORD": lambda of, text: re.search(rf"(?<!\w){re.escape(text)}(?!\w)", of) is not None,
}


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _compared(about: Mapping[str, Any], call: PublicCall) -> str | None:
    """The part of a call that a statement compares; None if it compares another part."""
    if not {"RegexString", "SearchString"} & about.keys():
        return None
    if any(each["Type"] not in _HARMLESS for each in about.get("TextTransformations", ())):
        return None
    field = about.get("FieldToMatch", {})
    lowered = any(each["Type"] == "LOWERCASE" for each in about.get("TextTransformations", ()))
    query = "&".join(map("=".join, call.query))
    parts = {"UriPath": call.path, "Method": call.method, "QueryString": query}
    header = field.get("SingleHeader", {}).get("Name", "").lower()
    found = call.host if header == "host" else next((parts[each] for each in field if each in parts), None)
    return found.lower() if found and lowered else found
