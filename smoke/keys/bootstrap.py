"""The bootstrap: creates a key for each secret that was never filled, and touches nothing else.

"Never filled" means a placeholder, or a secret without a version. A secret that cannot be read does not count
as empty.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from smoke.platform.answers import ContractViolation, UnexpectedStatus

from .context import Document, KeyPlatform, Progress, new_key, parse, rotation_kid, same_key
from .store import CURRENT, NEXT, Conflict, KeyFault, MissingVersion, SecretStore, Unproved


class Action(StrEnum):
    """What bootstrap does with one secret."""

    KEPT = "live key, left alone"
    WRITTEN = "bootstrapped"
    PLANNED = "would be bootstrapped"


@dataclass(frozen=True, slots=True)
class BootstrapResult:
    """One secret. ``unchecked`` says why its key was not compared with the published one, "" when it was."""

    service: str
    action: Action
    kids: tuple[str, ...]
    unchecked: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """A secret's content: a document, or None; then ``version`` may be replaced (None: there is none)."""

    service: str
    document: Document | None
    version: str | None


def contents(platform: KeyPlatform, services: Sequence[str]) -> list[Content]:
    """The secrets' contents. KeyFault for one that is missing, unusable, or shares its key with another.

    SetupError or ExternalOutage if one cannot be read; then none is judged.
    """
    found = [_content(platform.store(service), service) for service in services]
    keyed = [(one.service, key) for one in found if one.document for key in one.document.keys]
    for n, (service, key) in enumerate(keyed):
        twin = next((other for other, its in keyed[:n] if other != service and same_key(its, key)), None)
        if twin is not None:
            raise KeyFault(
                f"{twin} and {service} hold the same private key: each can sign for the other",
                where=platform.store(service).secret_id,
                allowed="a key of its own for each service",
                action=f"rotate --service {service}",
            )
    return found


def bootstrap(
    platform: KeyPlatform, services: Sequence[str], progress: Progress, *, dry_run: bool = False
) -> list[BootstrapResult]:
    """Fill secrets that were never filled, then compare every key with the published one.

    All secrets are read before the first is written. KeyFault also if a service does not publish its secret's
    keys.
    """
    results = []
    for content in contents(platform, services):
        if content.document is not None:
            action, document = Action.KEPT, content.document
        elif dry_run:
            results.append(BootstrapResult(content.service, Action.PLANNED, (), "no key yet"))
            continue
        else:
            action, document = _fill(platform.store(content.service), content)
        unchecked = _cross_check(platform, content.service, document)
        kids = tuple(key.kid or "(bare PEM)" for key in document.keys)
        results.append(BootstrapResult(content.service, action, kids, unchecked))
    for result in results:
        progress(_line(result))
    return results


def _content(store: SecretStore, service: str) -> Content:
    try:
        stored = store.read()
    except MissingVersion:
        if CURRENT in store.labels():
            raise
        return Content(service, None, None)
    return Content(service, parse(stored.text, store.secret_id), stored.version)


def _fill(store: SecretStore, content: Content) -> tuple[Action, Document]:
    document = Document(new_key(rotation_kid(content.service)))
    version = store.put(document.to_secret(), NEXT)
    try:
        # AWS itself makes a secret's very first version the current one
        if store.labels().get(CURRENT) != version:
            store.move(CURRENT, to=version, expected=content.version)
    except Conflict:
        other = _content(store, content.service).document
        if other is None:
            raise KeyFault("the placeholder changed while it was replaced", where=store.secret_id) from None
        return Action.KEPT, other
    finally:
        store.drop(NEXT, version)
    return Action.WRITTEN, document


def _cross_check(platform: KeyPlatform, service: str, document: Document) -> str:
    """Compare with the published keys, within the propagation time; say why if that was not possible."""

    def unmet() -> str:
        try:
            keys = platform.key_set(service)
        except (ContractViolation, UnexpectedStatus) as problem:
            return str(problem).splitlines()[0]
        for key in document.keys:
            kid = keys.kid_of(key.private.public_key())
            if not kid or key.kid not in ("", kid):
                return f"{keys.route} does not publish {key.kid or 'the public half of the PEM'}"
        return ""

    try:
        platform.timing.steadily(
            unmet,
            what="the published keys are those of the secret",
            where=service,
            action=f"make {service} follow its secret (a restart reads it)",
        )
    except Unproved as problem:
        return str(problem).splitlines()[0]
    return ""


def _line(result: BootstrapResult) -> str:
    line = f"{result.service}: {result.action}"
    line += f", {' and '.join(result.kids)}" if result.kids else ""
    return f"{line}; not compared with the published keys: {result.unchecked}" if result.unchecked else line
