"""Whether the policies of topics, queues and keys let AWS send: an alarm to a topic, a topic to a queue.

A topic accepts alarms if its policy and its key admit CloudWatch, which publishes as the service
cloudwatch.amazonaws.com for an alarm in the topic's account, and lets SNS encrypt the message with the
topic's key on its behalf. Policies that cannot be read neither allow nor deny.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from smoke.source.checkout import Finding
from smoke.source.rules import is_like
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Resource
from smoke.source.terraform.references import entries, items, referenced
from smoke.source.terraform.values import Value, hidden, is_known, options, symbols, text

from .iam import Statement, names_action, statements

CLOUDWATCH, SNS = "cloudwatch.amazonaws.com", "sns.amazonaws.com"
#: Actions that SNS performs with the key on behalf of the publisher.
_KEY_ACTIONS = ("kms:decrypt", "kms:generatedatakey")
_ACCOUNT = re.compile(r"\d{12}|arn:[^:]*:iam::(?:\d{12}|\$\{.*\}):root|\$\{.*\.account_id\}")
_OWN_ACCOUNT = re.compile(r"\$\{(?:.*\.)?data\.aws_caller_identity\.[^}]*\.(?:account_id|id)\}")


def publishing(configuration: Configuration, topic: Resource, alarm: Resource | None) -> tuple[str, str]:
    """What keeps an alarm (None: any) from publishing to a topic, and what cannot be read."""
    wrong, unread = _by_key(configuration, topic)
    if wrong:
        return wrong, ""
    documents = [
        each.attribute("policy")
        for each in configuration.of_type("aws_sns_topic_policy")
        if any(is_for(topic, arn) for arn in items(each.attribute("arn")))
    ]  # fmt: skip
    own = topic.attribute("policy")
    for document in documents or ([own] if own is not None else []):
        said = allows_sender(document, ("sns:publish",), alarm, accounts=True)
        if said == "denied":
            return f"the policy of {topic.address} denies alarms permission to publish", ""
        if said == "not allowed":
            return f"the policy of {topic.address} does not allow alarms to publish", ""
        if said:
            unread = unread or f"whether the policy of {topic.address} lets alarms publish: {said}"
    return "", unread


#: The action with which a pipeline becomes a role, and the names of its token's entries.
_FEDERATED = "sts:assumerolewithwebidentity"
_OF_TOKEN = re.compile(r".+:(aud|sub)")


def unassumable(configuration: Configuration) -> Iterator[Finding]:
    """Return the roles for pipelines with tokens (OIDC) whose trust policy accepts no token."""
    for role in configuration.of_type("aws_iam_role"):
        unread: list[str] = []
        own = [each for each in statements(role.attribute("assume_role_policy"), unread)
               if (text(each.parts.get("Effect")) or "Allow") == "Allow"]  # fmt: skip
        federated = [each for each in own if any(map(_is_provider, _federated(each)))]
        if unread or not federated:
            continue
        allowed = [each for each in own if names_action(each.parts, _FEDERATED)]
        if not allowed and all(is_known(one) for each in own for one in items(each.parts.get("Action"))):
            what = f"no pipeline can assume {role.address}: a token needs sts:AssumeRoleWithWebIdentity"
            yield federated[0].at.finding(what)
        for what, at in _never_fits(allowed[0]) if len(allowed) == 1 else ():
            yield at.at.finding(f"no pipeline can assume {role.address}: {what}")


def _federated(statement: Statement) -> Iterator[Value]:
    """The principals of a statement that may be providers of tokens."""
    principal = statement.parts.get("Principal")
    return items(entries(principal).get("Federated") if entries(principal) else principal)


def _is_provider(principal: Value) -> bool:
    resource = referenced(principal)
    by_name = ":oidc-provider/" in text(principal)
    return by_name or (resource is not None and resource.type == "aws_iam_openid_connect_provider")


def _never_fits(statement: Statement) -> Iterator[tuple[str, Value]]:
    """Why no token meets the conditions of a statement: its audience, or a star that is compared as such."""
    named = [*_federated(statement)]
    providers = [*filter(None, map(referenced, named))]
    listed = [one.attribute("client_id_list") for one in providers]
    complete = len(providers) == len(named) and all(map(is_known, listed))
    accepted = {text(each) for one in listed for each in items(one)} if complete else set()
    for test, keys in entries(statement.parts.get("Condition")).items():
        for key, value in entries(keys).items():
            said, entry = [*items(value)], _OF_TOKEN.fullmatch(key)
            if entry is None or test != "StringEquals" or not said or not all(map(is_known, said)):
                continue
            if all(set(text(each)) & set("*?") for each in said):
                yield f"StringEquals compares {text(said[0])} without wildcards (StringLike has them)", value
            elif entry[1] == "aud" and accepted and not accepted & {*map(text, said)}:
                yield f"its provider accepts {' and '.join(sorted(accepted))}, not {text(said[0])}", value


def is_for(topic: Resource, value: Value) -> bool:
    """Whether a value refers to a topic, or is an ARN with its name."""
    written, name = text(value), text(topic.attribute("name"))
    by_name = bool(name) and written.startswith("arn:") and written.endswith(f":{name}")
    return by_name or any(symbol.resource is topic for symbol in symbols(value))


def _by_key(configuration: Configuration, topic: Resource) -> tuple[str, str]:
    """What keeps CloudWatch from the key of a topic, and what cannot be read."""
    for each in options(topic.attribute("kms_master_key_id")):
        written, resource = text(each), referenced(each)
        if each.content is None or written == "":
            continue
        if resource is not None and resource.type == "aws_kms_alias" and resource.block.type == "data":
            written = text(resource.attribute("name"))
        if written.rpartition(":")[2] == "alias/aws/sns":
            what = "is encrypted with SNS's own key, which does not allow alarms to publish"
            return f"{topic.address} {what}", ""
        key = key_of(configuration, each)
        if key is None:
            what = hidden(each) or f"{written} is not in the files"
            return "", f"whether the key of {topic.address} lets alarms publish: {what}"
        said = _lets(configuration, key, CLOUDWATCH)
        if said in ("denied", "not allowed"):
            return f"{topic.address} is encrypted with {key.address}, which CloudWatch may not use", ""
        if said:
            return "", f"whether the policy of {key.address} lets alarms publish: {said}"
    return "", ""


def unlocked(configuration: Configuration, queue: Resource) -> str:
    """What keeps SNS from using a queue's key; empty if nothing is known to."""
    for each in options(queue.attribute("kms_master_key_id")):
        if text(each).rpartition(":")[2] == "alias/aws/sqs":
            return f"{queue.address} is encrypted with SQS's own key, which does not allow SNS to send"
        key = key_of(configuration, each) if each.content is not None else None
        if key is not None and _lets(configuration, key, SNS) in ("denied", "not allowed"):
            return f"{queue.address} is encrypted with {key.address}, which SNS may not use"
    return ""


def _lets(configuration: Configuration, key: Resource, sender: str) -> str:
    """Whether a key's policy lets a service use it, in the words of `allows_sender`."""
    documents = [key.attribute("policy"), *(
        other.attribute("policy") for other in configuration.of_type("aws_kms_key_policy")
        if referenced(other.attribute("key_id")) is key
    )]  # fmt: skip
    document = next((one for one in documents[::-1] if one is not None), None)
    if document is None:
        return "not allowed"
    return allows_sender(document, _KEY_ACTIONS, None, accounts=False, sender=sender)


def key_of(configuration: Configuration, value: Value | None) -> Resource | None:
    """The key that a value names, by a reference or an alias; None for one that is not in the files."""
    resource = referenced(value)
    if resource is None and text(value).rpartition(":")[2].startswith("alias/"):
        alias = text(value).rpartition(":")[2]
        aliases = configuration.of_type("aws_kms_alias")
        resource = next((each for each in aliases if text(each.attribute("name")) == alias), None)
    if resource is not None and resource.type == "aws_kms_alias":
        resource = referenced(resource.attribute("target_key_id"))
    if resource is None or resource.type != "aws_kms_key" or resource.block.type == "data":
        return None
    return resource


def allows_sender(
    document: Value | None, actions: Iterable[str], source: Resource | None, *, accounts: bool,
    sender: str = CLOUDWATCH,
) -> str:  # fmt: skip
    """Whether a policy lets a `sender` do all of `actions`: "", "denied", "not allowed", or the unread part.

    `source` is the alarm, or the topic, for which it acts. `accounts`: an account's own alarms also publish
    in its name.
    """
    why: list[str] = []
    found = list(statements(document, why))
    for action in actions:
        allowed: list[str | bool] = []
        for each in found:
            if not names_action(each.parts, action):
                continue
            effect = each.parts.get("Effect")
            if hidden(effect):
                why.append(f"Effect {text(effect)}")
                continue
            denies = text(effect).lower() == "deny"
            applies = _applies(each, source, accounts=accounts and not denies, sender=sender)
            if denies and applies is True:
                return "denied"
            if denies and applies:
                why.append(str(applies))
            elif not denies:
                allowed.append(applies)
        unread = [str(each) for each in allowed if each not in (True, False)]
        if True not in allowed:
            why += unread
            if not why:
                return "not allowed"
    return why[0] if why else ""


def _applies(statement: Statement, source: Resource | None, *, accounts: bool, sender: str) -> bool | str:
    """Whether a statement is about a sender that acts for a source; a text names an unread part."""
    key = "Principal" if "Principal" in statement.parts else "NotPrincipal"
    principal: bool | str = False
    for name in _principals(statement.parts.get(key)):
        written = text(name)
        if written in ("*", sender) or (accounts and _ACCOUNT.fullmatch(written)):
            principal = True
            break
        if hidden(name) and not _ACCOUNT.fullmatch(written):
            principal = hidden(name)
    if key == "NotPrincipal":
        principal = not principal if isinstance(principal, bool) else principal
    if principal is False:
        return False
    held = [_holds(*each, source) for each in _conditions(statement.parts.get("Condition"))]
    if False in held:
        return False
    return next((each for each in [principal, *held] if each is not True), True)


def _principals(principal: Value | None) -> Iterator[Value]:
    """The names in a principal: of services and accounts, "*" for all."""
    named = entries(principal)
    for each in named.values() if named else [principal]:
        yield from items(each)


def _conditions(condition: Value | None) -> Iterator[tuple[str, str, list[Value]]]:
    """The test, the lower-case key, and the values of each condition."""
    if condition is not None and not entries(condition):
        yield hidden(condition) or f"Condition {text(condition)}", "", []
    for test, keys in entries(condition).items():
        if not entries(keys):
            yield test, "", []
        for key, values in entries(keys).items():
            yield test, key.lower(), list(items(values))


def _holds(test: str, key: str, values: list[Value], source: Resource | None) -> bool | str:
    """Whether a condition holds for a message from a source; a text names an unread part."""
    name = re.sub(r"^ForA(?:ny|ll)Values:|IfExists$", "", test)
    negated = "Not" in name
    if name == "Null" and key in _ALWAYS_THERE and values:
        return all(text(each).lower() == "false" for each in values)
    said: list[bool | str] = []
    for each in values:
        written = text(each)
        if key in ("aws:securetransport", "aws:principalisawsservice"):
            said.append(written.lower() == "true")
        elif key in ("aws:sourceaccount", "aws:sourceowner", "kms:calleraccount"):
            said.append(True if _OWN_ACCOUNT.search(written) else f"{key} {written}")
        elif key in ("aws:sourcearn", "aws:principalarn"):
            said.append(_is_of(each, written, source) if key == "aws:sourcearn" else f"{key} {written}")
        else:
            said.append(f"{test} {key}".strip())
    if not values:
        return f"{test} {key}".strip()
    if True in said:
        return not negated
    unread = [each for each in said if isinstance(each, str)]
    return unread[0] if unread else negated


#: Condition keys that are always present when an alarm publishes.
_ALWAYS_THERE = ("aws:sourcearn", "aws:sourceaccount")
_ALARM_ARN = re.compile(
    r"arn:[^:]*:(?P<service>[^:]*):(?:\$\{[^}]*\}|[^:])*:(?:\$\{[^}]*\}|[^:])*:(?P<what>.*)"
)


def _is_of(value: Value, written: str, source: Resource | None) -> bool | str:
    """Whether aws:SourceArn, which is an alarm's ARN or a topic's, fits a value."""
    resource = referenced(value)
    if resource is not None:
        if source is not None and resource.type == source.type:
            return resource is source
        return False if resource.type.startswith("aws_") and "alarm" not in resource.type else written
    if written == "*":
        return True
    found = _ALARM_ARN.fullmatch(written)
    if found is None:
        return f"aws:SourceArn {written}"
    service, kind, called = "cloudwatch", "alarm:", "alarm_name"
    if source is not None and source.type == TOPIC:
        service, kind, called = "sns", "", "name"
    if "$" not in found["service"] and not is_like(service, found["service"]):
        return False
    name = (text(source.attribute(called)) if source is not None else "") or "$"
    what = found["what"]
    if what in ("*", f"{kind}*"):
        return True
    if "$" in what + name:
        return f"aws:SourceArn {written}"
    return is_like(f"{kind}{name}", what)


TOPIC = "aws_sns_topic"
