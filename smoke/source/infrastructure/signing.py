"""Secrets whose values Terraform makes: signing keys that are none, and parts that a secret does not have."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator

from smoke.source.checkout import Finding
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Resource
from smoke.source.terraform.references import entries, items, secret
from smoke.source.terraform.values import Symbol, Text, Value, decoded, flat, is_known, options, settle, text

from .definitions import Definitions, containers

#: Where a signing key is in a secret of JSON, and how Terraform's own generator writes it for the contract.
_DEMANDED = ("activeKid", "privateKey")
_VERSION, _SIGNING = "schemaVersion", "/es256-private-key"
_KEY_MEMBERS, _PKCS8 = ("privateKey", "pendingPrivateKey"), "private_key_pem_pkcs8"


def generated(configuration: Configuration, names: Collection[str]) -> Iterator[Finding]:
    """Return where Terraform makes a signing key that is no P-256 key in PKCS#8, or one key for two secrets.

    `names` are those of the secrets. A key from anywhere else, or one that is replaced later, says nothing.
    """
    held: dict[str, str] = {}
    for name, version, whole in _made(configuration):
        if name not in names:
            continue
        for what, value in _wrong_members(whole):
            yield version.finding(f"the key of {name} {what}", value)
        for value in _keys_in(whole):
            made = value.content.resource if isinstance(value.content, Symbol) else None
            if not isinstance(made, Resource) or made.block.type == "data":
                continue
            if made.type.startswith("random_"):
                yield version.finding(f"the key of {name} is {made.address}, which is not a key", value)
            if made.type != "tls_private_key":
                continue
            for what in _unfit(made, value.content.path[0] if value.content.path else _PKCS8):
                yield version.finding(f"the key of {name} {what}", value)
            first = held.setdefault(made.address, name)
            if first != name:
                yield version.finding(f"{name} and {first} share one key, {made.address}", value)


def _made(configuration: Configuration) -> Iterator[tuple[str, Resource, Value]]:
    """The secrets that Terraform alone gives a value: name, version, value."""
    for version in configuration.of_type("aws_secretsmanager_secret_version"):
        of = version.attribute("secret_id")
        known = secret(of) if of is not None else None
        replaced = any("ignore_changes" in each.attributes for each in version.block.nested("lifecycle"))
        replaced = replaced or version.attribute("version_stages") is not None
        whole = version.attribute("secret_string") or version.attribute("secret_string_wo")
        if known is not None and whole is not None and not version.uncertain and not replaced:
            yield known.name, version, whole


#: A secret as a container is given it, with the member of its JSON that is asked for.
_PART = re.compile(r"(?:\$\{[^}]*\}|arn:.*:secret:[^:]+):(?P<member>[^:${}]+):[^:]*:[^:]*")
#: The members of a signing key's JSON.
_MEMBERS = frozenset(
    {"schemaVersion", "activeKid", "privateKey", "pendingKid", "pendingPrivateKey", "revocation"}
)


def partless(configuration: Configuration, defined: Definitions) -> Iterator[Finding]:
    """Return which tasks never start since they ask for a member that the JSON of a secret does not have."""
    made = defaultdict[str, list[Value]](list)
    for name, _, whole in _made(configuration):
        made[name] += options(whole)
    for each in defined.definitions:
        for task in each.tasks:
            given = (
                entries(pair) for box in containers(task)[0] for pair in items(box.entries.get("secrets"))
            )
            for value in (pair["valueFrom"] for pair in given if "valueFrom" in pair):
                asked, of = _PART.fullmatch(text(flat(value))), secret(value)
                if asked is not None and of is not None:
                    for what in _without(asked["member"], of.name, made[of.name]):
                        yield task.finding(f"{each.name} asks {what}, so it never starts", value)


def _without(member: str, name: str, values: Collection[Value]) -> Iterator[str]:
    """What says that no value of a secret has a member."""
    if name.endswith(_SIGNING) and member not in _MEMBERS:
        yield f"{name} for {member}, which is not in a signing key"
        return
    members = [entries(decoded(each)) for each in values]
    if members and all(each and member not in each for each in members):
        yield f"{name} for {member}, but its JSON has only {' and '.join(sorted(members[0]))}"
    elif values and all(map(_is_no_json, values)):
        yield f"{name} for {member}, but it is not JSON"


def _is_no_json(value: Value) -> bool:
    """Whether a value begins as no object does, or is a password of Terraform's."""
    content = settle(value).content
    if isinstance(content, Text | str):
        first = content.parts[0] if isinstance(content, Text) else content
        return isinstance(first, str) and bool(first.strip()) and not first.lstrip().startswith("{")
    return isinstance(content, Symbol) and getattr(content.resource, "type", "").startswith("random_")


def _keys_in(value: Value) -> Iterator[Value]:
    """The private keys in a secret: the secret itself, or members of its JSON."""
    for each in options(value):
        members = entries(decoded(each))
        found = [members[name] for name in _KEY_MEMBERS if name in members] if members else [each]
        yield from (one for key in found for one in options(key))


def _wrong_members(value: Value) -> Iterator[tuple[str, Value]]:
    """What the JSON of a key does not say, or says otherwise; an empty one is filled in by a bootstrap."""
    for each in options(value):
        members = entries(decoded(each))
        version = flat(members[_VERSION]) if _VERSION in members else each.to(1)
        if is_known(version) and (version.content != 1 or isinstance(version.content, bool)):
            said = f'"{text(version)}"' if isinstance(version.content, str) else text(version)
            yield f"has the {_VERSION} {said}, not 1", version
        missing = [name for name in _DEMANDED if name not in members] if members else []
        if missing:
            yield f"is JSON without {' and '.join(missing)}", each


def _unfit(made: Resource, attribute: str) -> Iterator[str]:
    """What of a key that Terraform makes is not as the contract has it; a P-224 key is the default."""
    algorithm, curve = made.attribute("algorithm"), made.attribute("ecdsa_curve")
    said = text(flat(algorithm)) if algorithm is not None and is_known(algorithm) else ""
    if said and said != "ECDSA":
        yield f"is {said}, not P-256"
    elif said and (curve is None or (is_known(curve) and text(flat(curve)) != "P256")):
        yield f"is {text(flat(curve)) if curve is not None else 'P224'}, not P-256"
    if attribute != _PKCS8:
        yield f"is stored as {attribute}, not as PKCS#8"
