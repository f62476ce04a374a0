"""What a web ACL of WAF does with a call, as far as its rules are about what is known of a call."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .account import AwsAccount

_NO_ACL = ("WAFNonexistentItemException",)
#: A change of what is compared that leaves the calls of the contract as they are.
_HARMLESS = ("NONE", "LOWERCASE", "URL_DECODE", "NORMALIZE_PATH", "COMPRESS_WHITE_SPACE")
#: What no program answers: a block, and a question to a person or a browser.
_REFUSING = ("Block", "Captcha", "Challenge")


@dataclass(frozen=True, slots=True)
class PublicCall:
    """What is known of a call; one that is `authorized` has a credential in its header."""

    method: str
    path: str
    host: str
    authorized: bool = False


def read_web_acl(account: AwsAccount, resource: str) -> Mapping[str, Any] | None:
    """The web ACL in front of a balancer; None if there is none."""
    found = account.find("wafv2", "get_web_acl_for_resource", _NO_ACL, ResourceArn=resource)
    return (found or {}).get("WebACL")


def refused(acl: Mapping[str, Any], calls: Sequence[PublicCall]) -> Iterator[str]:
    """What of a web ACL refuses which calls. A rule on what is not known of a call may let it through."""
    found: dict[str, list[str]] = {}
    for call in calls:
        if by := _refused_by(acl, call):
            found.setdefault(by, []).append(f"{call.method} {call.path}")
    for by, hit in found.items():
        yield f"{by} of {acl.get('Name')} (WAF) refuses {' and '.join(hit)}"


def _refused_by(acl: Mapping[str, Any], call: PublicCall) -> str:
    for rule in sorted(acl.get("Rules", ()), key=lambda each: int(each["Priority"])):
        (action,) = rule.get("Action") or ("",)  # a group of rules decides by itself
        hit = _matches(rule.get("Statement", {}), call)
        if action == "Allow" and hit is not False:
            return ""
        if action in _REFUSING and hit:
            return f"the rule {rule.get('Name')}"
    return "the default action" if "Block" in acl.get("DefaultAction", {}) else ""


def _matches(statement: Mapping[str, Any], call: PublicCall) -> bool | None:
    """Whether a call is what a statement is about; None where what is known of it does not say."""
    ((kind, about),) = statement.items() if len(statement) == 1 else [("", {})]
    if kind == "NotStatement":
        found = _matches(about["Statement"], call)
        return None if found is None else not found
    if kind in ("AndStatement", "OrStatement"):
        parts = [_matches(each, call) for each in about["Statements"]]
        decisive = kind == "OrStatement"
        return decisive if decisive in parts else None if None in parts else not decisive
    of = _compared(about, call)
    if of is None:
        return None
    if kind == "RegexMatchStatement":
        return re.search(about["RegexString"], of) is not None
    return _POSITIONS[about["PositionalConstraint"]](of, _text(about["SearchString"]))


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
    """The part of a call that a statement compares; None where it is about another."""
    if not {"RegexString", "SearchString"} & about.keys():
        return None
    if any(each["Type"] not in _HARMLESS for each in about.get("TextTransformations", ())):
        return None
    field = about.get("FieldToMatch", {})
    lowered = any(each["Type"] == "LOWERCASE" for each in about.get("TextTransformations", ()))
    parts = {"UriPath": call.path, "Method": call.method}
    header = field.get("SingleHeader", {}).get("Name", "").lower()
    found = call.host if header == "host" else next((parts[each] for each in field if each in parts), None)
    return found.lower() if found and lowered else found
