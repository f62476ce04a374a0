"""Phase operations: the platform's signing keys: their secrets, rotation and revocation."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import combinations, repeat

import pytest
from pytest_readiness import Environment, Eventually, Evidence, ExternalOutage, SafetyViolation, SetupError

from smoke.aws.reader import AwsReader
from smoke.keys.context import SERVICES, KeyContext, KeyPlatform, new_key, parse, pem_of
from smoke.keys.revocation import Revocation, bootstrap, contents
from smoke.keys.rotation import STEPS, Issuer, Rotation, TokenStream
from smoke.keys.store import CODES, NEXT, KeyFault, MissingSecret, failing_reads, prove
from smoke.keys.verifiers import TokenReply
from smoke.platform import tokens
from smoke.platform.answers import require_status
from smoke.platform.backends import Dixie, newcomer
from smoke.platform.freeside import Freeside, nonce, prompt_for
from smoke.platform.tokens import KeySet, SigningKey, SigningKeyLookup

pytestmark = [pytest.mark.phase("operations"), pytest.mark.requires("aws")]

#: A key can be changed only if its owner and all its verifiers are reachable.
OPERATED = [
    pytest.param("freeside", marks=pytest.mark.requires("freeside", "finn", "dixie")),
    pytest.param("finn", marks=pytest.mark.requires("finn", "dixie")),
    pytest.param("dixie", marks=pytest.mark.requires("dixie")),
]
#: Whose keys sign what ratings become on their way.
LOOP = ("freeside", "finn")
#: A rotation requires that every verifier accepts the current signing key.
PLANNED = [
    pytest.param(
        "freeside",
        marks=pytest.mark.requires("freeside", "dixie", "freeside.models", "finn.invoke", "dixie.query-user"),
    ),
    pytest.param("finn", marks=pytest.mark.requires("finn", "dixie", "dixie.query-service")),
    pytest.param("dixie", marks=pytest.mark.requires("dixie")),
]


@pytest.fixture
def keys(environment: Environment, evidence: Evidence, observed: AwsReader) -> Iterator[KeyPlatform]:
    """The signing keys, read-only: any write raises."""
    account = observed.account.forgetful()
    with KeyPlatform(environment, read_only=True, progress=evidence.note, account=account) as platform:
        yield platform


@pytest.fixture
def operator(
    environment: Environment, evidence: Evidence, signing_key: SigningKeyLookup, finn_key: SigningKeyLookup
) -> Iterator[KeyPlatform]:
    """The signing keys, writable for a drill; keys that a drill creates are kept out of every report.

    Later checks sign with the keys that it leaves.
    """
    with KeyPlatform(environment, progress=evidence.note) as platform:
        yield platform
        for service in SERVICES:
            # a drill that failed may have left a secret that cannot be read; its own check reports that
            with contextlib.suppress(AssertionError, SetupError, ExternalOutage):
                hide(platform, service)
    for name, lookup in (("auth.signing_key", signing_key), ("auth.finn_signing_key", finn_key)):
        environment.renew(name)
        lookup.forget()


@pytest.mark.p0
@pytest.mark.parametrize("service", SERVICES)
def test_secret_holds_a_p256_key(keys: KeyPlatform, service: str, evidence: Evidence) -> None:
    """The secret exists, was bootstrapped, and holds a key that ES256 can use."""
    try:
        (content,) = contents(keys, [service])
    except MissingSecret:
        refuse_the_wrong_place(keys)
        raise
    store = keys.store(service)
    if content.document is None:
        raise KeyFault(
            "the secret is a placeholder", where=store.secret_id, action=f"bootstrap --service {service}"
        )
    evidence.figure(f"keys in {store.secret_id}", len(content.document.keys), at_least=1)


@pytest.mark.p0
def test_secrets_differ(keys: KeyPlatform, evidence: Evidence) -> None:
    """No service has another one's key."""
    found = [content for content in contents(keys, SERVICES) if content.document]
    evidence.evaluated("two services hold different keys", len(list(combinations(found, 2))))


# waits for the platform itself, as long as a change may take
@pytest.mark.flaky(reruns=0)
@pytest.mark.p1
@pytest.mark.requires("freeside", "dixie")
def test_bootstrap_changes_nothing(keys: KeyPlatform, environment: Environment, evidence: Evidence) -> None:
    """A bootstrap never overwrites a key, nor treats an unreadable secret as empty."""
    before = {service: keys.store(service).labels() for service in SERVICES}
    findings = bootstrap(keys, SERVICES, evidence.note)
    after = {service: keys.store(service).labels() for service in SERVICES}
    evidence.figure(
        "versions that a second bootstrap changed", sum(after[s] != before[s] for s in SERVICES), expected=0
    )
    assert after == before
    reachable = [f for f in findings if f.service != "finn" or environment.finn.reachable]
    unchecked = [f"{finding.service}: {finding.unchecked}" for finding in reachable if finding.unchecked]
    assert not unchecked, f"keys that could not be compared with the published ones: {'; '.join(unchecked)}"
    for code in CODES:
        with (
            KeyPlatform(environment, read_only=True) as deaf,
            failing_reads(deaf.account, code),
            pytest.raises((SetupError, ExternalOutage)),
        ):
            bootstrap(deaf, SERVICES, evidence.note)
        evidence.evaluated(f"a secret whose read fails with {code} is not treated as empty")


@pytest.mark.p1
@pytest.mark.parametrize("service", PLANNED)
def test_key_rotation_dry_run(keys: KeyPlatform, service: str, evidence: Evidence) -> None:
    """A rotation could start, and its operator has the permissions."""
    plan = Rotation(keys.context(service)).plan()
    evidence.figure("steps planned", sum(line[0] != "0" for line in plan), expected=len(STEPS))
    for line in plan:
        evidence.note(line)
    evidence.note(permissions(keys, service))


@pytest.mark.p1
@pytest.mark.parametrize("service", SERVICES)
def test_revocation_dry_run(keys: KeyPlatform, service: str, evidence: Evidence) -> None:
    """A revocation could start, and its operator has the permissions."""
    plan = Revocation(keys.context(service)).plan()
    evidence.figure("steps planned", len(plan), at_least=3)
    for line in plan:
        evidence.note(line)
    evidence.note(permissions(keys, service))


def short_key(kid: str) -> SigningKey:
    """A key with a coordinate that begins with a zero byte; about one key in 128 has one."""
    keys = map(new_key, repeat(kid))
    return next(key for key in keys if min(_point(key)) < 1 << 248)


def _point(key: SigningKey) -> tuple[int, int]:
    numbers = key.private.public_key().public_numbers()
    return numbers.x, numbers.y


# a second attempt would meet the first one's lock, which records where it stopped
@pytest.mark.flaky(reruns=0)
@pytest.mark.timeout(7200)  # the old key stays published for as long as tokens live, an hour at most
@pytest.mark.p1
@pytest.mark.drill
@pytest.mark.parametrize("service", OPERATED)
def test_key_rotation_carried_out(
    operator: KeyPlatform,
    service: str,
    evidence: Evidence,
    request: pytest.FixtureRequest,
    eventually: Eventually,
) -> None:
    """A full rotation under a steady stream of valid tokens: none is refused, kids overlap, the old one ends.

    The new key is tried before it is published: verifiers must not keep refusing it afterwards. A verifier
    that sends the set's ETag must learn of every change. A coordinate of the key begins with a zero byte.
    Ratings, which both services sign for on their way, arrive as before.
    """
    context = operator.context(service)
    issuer = Issuer(context.store, context.named, operator.environment.keys.reread_s)
    seen: set[frozenset[str]] = set()
    sets_of: dict[str, set[frozenset[str]]] = {}
    through: Callable[[], None] = lambda: None  # noqa: E731
    if service == "freeside":
        request.getfixturevalue("alone")
        client: Freeside = request.getfixturevalue("freeside")
        through = lambda: invoke(client, operator.environment.auth.community_id, issuer)  # noqa: E731

    def key_set() -> KeySet:
        found = context.key_set()
        kids = frozenset(str(key.get("kid")) for key in found.keys)
        seen.add(kids)
        sets_of.setdefault(found.etag, set()).add(kids)
        return found

    def progress(text: str) -> None:
        evidence.note(text)
        if text.startswith("3/"):
            require_refused_yet(operator.context(service), evidence)
        if text.startswith("6/"):
            through()

    arrives: Callable[[], bool] = bool
    if service in LOOP:
        raters, shows = (request.getfixturevalue(name).unrecorded() for name in ("freeside", "dixie"))
        if service == "freeside":
            raters.key = shows.key = issuer
        within = operator.environment.limits.propagation_s
        arrives = partial(rating_arrives, raters, shows, within, eventually)
    rated = service in LOOP and counted_before(arrives, evidence)
    with TokenStream(operator.context(service).verifiers, issuer) as stream:
        outcome = Rotation(replace(context, key_set=key_set, progress=progress, make_key=short_key)).run()
    through()
    show(stream, evidence)
    assert not rated or arrives(), "a rating counted before the rotation, and none does since"
    for step, seconds in outcome.took.items():
        evidence.figure(f"step {step}, {STEPS[step - 1]}", seconds, "s")
    both = {outcome.old_kid, outcome.new_kid}
    evidence.figure("both kids were published together", any(both <= kids for kids in seen), expected=True)
    assert any(both <= kids for kids in seen), f"{' and '.join(sorted(both))} were never published together"
    kept = [etag for etag, sets in sets_of.items() if etag and len(sets) > 1]
    evidence.evaluated("an ETag of the key set stands for one set", len(sets_of))
    assert not kept, f"the key set changed under the ETag {kept[0]}: a verifier that offers it gets 304"
    evidence.note(
        f"left in the new state: {outcome.new_kid} signs for {service}, {outcome.old_kid} is refused"
    )
    if stream.refusals:
        raise SafetyViolation(
            f"{len(stream.refusals)} of {stream.sent} valid tokens refused; first: {stream.refusals[0]}"
        )


@pytest.mark.flaky(reruns=0)
@pytest.mark.timeout(900)
@pytest.mark.p1
@pytest.mark.drill
@pytest.mark.parametrize("service", OPERATED)
def test_revocation_in_time(operator: KeyPlatform, service: str, evidence: Evidence) -> None:
    """Every service stops accepting the old key in time and permanently, and accepts the new one."""
    context = operator.context(service)
    context.together().control(context.read().document.active)
    report = Revocation(context).run()
    for one in report.timelines:
        evidence.figure(
            f"{one.name}: old key last accepted after",
            round(one.last_accepted or 0, 2),
            "s",
            limit=report.limit_s,
        )
        evidence.figure(
            f"{one.name}: new key accepted after", round(one.new_accepted or 0, 2), "s", limit=report.limit_s
        )
        evidence.evaluated(f"{one.name} keeps refusing a key that it has refused once", one.polls)
    evidence.note(f"left in the new state: {report.new_kid} signs for {service}")
    if report.unseen:
        raise SetupError(f"revoked, but not observed from this runner: {'; '.join(report.unseen)}")


def require_refused_yet(context: KeyContext, evidence: Evidence) -> None:
    """Try the key that a rotation has created but not published yet; SafetyViolation if it is accepted."""
    store = context.store
    document = parse(store.read_version(store.labels()[NEXT]).text, store.secret_id)
    key = document.pending if document else None
    assert key, f"{store.secret_id}: the version {NEXT} holds no new key"
    answers = context.together().ask(key)
    evidence.evaluated("a key that is not published yet is refused", len(answers))
    for name, answer in answers.items():
        if answer is TokenReply.ACCEPTED:
            raise SafetyViolation(f"{name} accepted {key.kid}, which is not published yet")


def hide(platform: KeyPlatform, service: str) -> None:
    """Keep the current keys of a secret out of every report."""
    for content in contents(platform, [service]):
        for key in content.document.keys if content.document else ():
            platform.environment.hide(f"key {key.kid or service}", pem_of(key))


def permissions(keys: KeyPlatform, service: str) -> str:
    """The permissions to write the secret; SetupError names what is not allowed."""
    return prove(keys.account, keys.store(service).describe(), operator=keys.environment.keys.operator_arn)


def refuse_the_wrong_place(keys: KeyPlatform) -> None:
    """SetupError if no secret of the platform exists: the region, account or prefix must be wrong."""
    for service in SERVICES:
        try:
            keys.store(service).describe()
        except MissingSecret:
            continue
        return
    prefix, region = keys.environment.aws.prefix, keys.environment.aws.region
    raise SetupError(
        f"no secret of {prefix} exists in {region}: correct aws.region, aws.prefix or the account"
    )


def counted_before(arrives: Callable[[], bool], evidence: Evidence) -> bool:
    """Whether a rating counts yet; other checks say why none does."""
    with contextlib.suppress(AssertionError, SetupError):
        if arrives():
            return True
    evidence.note("not examined: ratings after the rotation, as none counted before it")
    return False


def rating_arrives(freeside: Freeside, dixie: Dixie, within: float, eventually: Eventually) -> bool:
    """Whether a rating gives a new agent a score in time."""
    agent = newcomer()
    freeside.rate(dixie.tenant, agent, "excellent")
    try:
        eventually(lambda: dixie.score(agent) is not None, within=within, what=f"a rating of {agent} counts")
    except AssertionError:
        return False
    return True


def invoke(freeside: Freeside, tenant: str, sign: Callable[[], SigningKey]) -> None:
    """One call through Freeside to Finn: both sign and verify with the keys in force."""
    word = nonce()
    body = json.dumps(freeside.invoke_body(prompt_for(word))).encode()
    credential = lambda: tokens.bearer(sign(), tokens.user_claims(tenant))  # noqa: E731
    require_status(freeside.post_invoke(body, tenant=tenant, credential=credential), 200)


def show(stream: TokenStream, evidence: Evidence) -> None:
    """Record the stream's figures; a verifier that accepted nothing fails the drill."""
    for name, count in stream.counts.items():
        accepted, sent = count.answers[TokenReply.ACCEPTED], sum(count.answers.values())
        evidence.figure(f"{name}: valid tokens accepted", accepted)
        evidence.figure(f"{name}: valid tokens without a conclusive answer", count.answers[TokenReply.SILENT])
        evidence.figure(f"{name}: longest time without an answer", round(count.longest_gap_s, 3), "s")
        assert accepted, f"{name} accepted none of {sent} valid tokens"
    evidence.figure("valid tokens refused", len(stream.refusals), expected=0)
