"""G-3, phase invoke: each prompt gets its own answer in time.

Malformed calls and calls to a pool out of reach are refused and cost nothing.
"""

import json
import re
import unicodedata
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

import httpx
import pytest
from pytest_readiness import Evidence, SafetyViolation

from smoke.contract.intake import longest_name
from smoke.contract.model import POOLS, TIER_POOLS
from smoke.contract.neighbours import (
    BadCall,
    Reach,
    above_the_tier,
    bad_bodies,
    bad_keys,
    bad_media,
    bad_methods,
    bad_sizes,
    direct,
    misspelled,
    not_allowed,
    not_json,
    of_all_lists,
    of_no_pool,
    shared,
    twice,
)
from smoke.contract.schemas import shown
from smoke.platform.answers import UUID, error_code, fields_of, header, require_json_error, require_status
from smoke.platform.attacks import UNKNOWN_MODEL
from smoke.platform.batch import Batch, Case, answering, at_once, mint_command
from smoke.platform.freeside import (
    INVOKE_PATH,
    Answer,
    Freeside,
    Tenants,
    answer_of,
    cost_in,
    nonce,
    prompt_for,
)
from smoke.platform.http import retry_after
from smoke.platform.invariants import Conservation
from smoke.platform.parameters import ANSWERS, Way, all_ways, controlled

pytestmark = [
    pytest.mark.goal("G-3"),
    pytest.mark.phase("invoke"),
    pytest.mark.requires("freeside", "key", "signing"),
    pytest.mark.usefixtures("alone"),
]

#: The pools of the five invokes: mostly the cheapest one, because they cost money.
FIVE = ("cheap", "cheap", "cheap", "fast-code", "reviewer")
PARALLEL = 10
#: The size of the burst that may meet a rate limit; a platform that allows more is not pushed further.
BURST = 12
#: What comes before a long prompt's question. Escaped on the way, it is beyond the limit of a body.
LONG = ("\N{LATIN SMALL LETTER E WITH ACUTE}" * 10 + " ") * 2_200
#: No tokenizer has longer tokens on average.
BYTES_PER_TOKEN = 200
#: Conversations that end by asking for a word, by the role that named it: the model must get each role's
#: messages.
_ASKED = ("user", "Which word is it? Reply with that word and nothing else.")
_AGREED = (("assistant", "Very well."), ("user", "Wait."))
TALKS = {
    "the system named": (("system", "The word is {word}."), _ASKED),
    "the assistant named": (("user", "Make up a word."), ("assistant", "The word is {word}."), _ASKED),
    "the user named long before": (("user", "The word is {word}."), *_AGREED * 8, _AGREED[0], _ASKED),
}
#: Line ends in Unicode that are not line ends in JSON Lines and event streams.
SEPARATORS = "\u2028\u2029\u0085"


@pytest.mark.requires("freeside.invoke")
@pytest.mark.p0
@pytest.mark.establishes("invoke")
def test_call_is_answered(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """One call to the cheapest pool is answered as the contract says; all checks of calls depend on it."""
    evidence.figure("cost of a call", freeside.invoke(tenants.main, prompt_for()).usage.cost_micro, "µUSD")


@pytest.mark.requires("invoke")
@pytest.mark.p0
def test_five_prompts_are_answered(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """Every prompt gets its own answer from the requested pool."""
    answers = []
    for pool in FIVE:
        word = nonce()
        answer = freeside.invoke(tenants.main, prompt_for(word), model=pool)
        assert word in answer.content, f"the answer from {pool} does not answer its prompt: it lacks {word}"
        assert answer.model == pool, f"asked the pool {pool}, but was served by {answer.model}"
        assert not answer.replayed, "a new idempotency key got a stored answer"
        answers.append(answer)
    traces = {answer.trace_id for answer in answers}
    evidence.figure("answered", len(answers), expected=len(FIVE))
    evidence.figure("distinct trace ids", len(traces), expected=len(FIVE))
    assert len(traces) == len(FIVE), f"{len(FIVE)} answers have {len(traces)} distinct trace ids"


@pytest.mark.requires("invoke")
@pytest.mark.p0
def test_concurrent_answers_stay_apart(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """Ten at once from two communities: each answer carries its own nonce and no other's."""
    words = [nonce() for _ in range(PARALLEL)]
    payers = [(tenants.main, tenants.other)[n % 2] for n in range(PARALLEL)]
    answers = at_once(
        [partial(freeside.invoke, payer, prompt_for(word)) for payer, word in zip(payers, words, strict=True)]
    )
    for word, answer in zip(words, answers, strict=True):
        require_own_answer(word, answer, words)
    evidence.evaluated("an answer carries its own nonce and no other's", PARALLEL)
    assert len({answer.trace_id for answer in answers}) == PARALLEL, "answers share trace ids"


def require_own_answer(word: str, answer: Answer, words: list[str]) -> None:
    """SafetyViolation when an answer carries the nonce of another call."""
    foreign = [other for other in words if other != word and other in answer.content]
    if foreign:
        raise SafetyViolation(f"an answer for {answer.tenant} has another call's nonce: {foreign[0]}")
    assert word in answer.content, f"an answer for {answer.tenant} does not answer its prompt"


def prompts(way: Way) -> Iterator[tuple[str, str, bytes | Sequence[bytes]]]:
    """Prompts that a service on the way to the model could change: a name, the expected word, the body."""
    words = {
        "letters outside ASCII": "\N{LATIN SMALL LETTER Z WITH CARON}lut\N{LATIN SMALL LETTER Y WITH ACUTE}",
        "letters of other scripts": "\N{GREEK SMALL LETTER LAMDA}\N{CYRILLIC SMALL LETTER ZHE}",
        "a character of four bytes": "\N{ROCKET}",
        "characters that JSON and HTML escape": '&<b>"\\',
        "placeholders of templates and format strings": r"{{0}}${a}{b}%s%d\n",
        "words that end a stream or report a failure": "[DONE]error",
        "characters that forms and pages encode": "%41%2Ba&amp;&#97;",
    }
    for name, marks in words.items():
        word = f"{nonce()}-{marks}-"
        body = way.body(prompt_for(word))
        yield name, word, way.encoded(body)
        if not marks.isascii():
            yield f"{name}, unescaped in UTF-8", word, json.dumps(body, ensure_ascii=False).encode()
    word = nonce()
    yield "a slash before it", word, way.encoded(way.body(f"/{word} {prompt_for(word)}"))
    word = nonce()
    # a model may omit these from its answer, so the expected word comes before them
    body = way.body(prompt_for(f"{word}{SEPARATORS}"))
    yield "separators of lines", word, way.encoded(body)
    yield "separators of lines, unescaped in UTF-8", word, json.dumps(body, ensure_ascii=False).encode()
    word = nonce()
    # it begins with a new word: a model that has its beginning in a cache may not count those tokens
    body = way.body(f"{nonce()} {LONG}\n{prompt_for(word)}")
    yield f"{len(LONG)} characters before it", word, json.dumps(body, ensure_ascii=False).encode()
    word = nonce()
    encoded = way.encoded(way.body(prompt_for(word)))
    yield "a body in chunks", word, [encoded[:9], encoded[9:]]
    if way.prompt == "messages":
        for name, talk in TALKS.items():
            word = nonce()
            said = [{"role": role, "content": text.format(word=word)} for role, text in talk]
            yield f"a word that {name}", word, way.encoded({**way.body(""), "messages": said})


def rarities(way: Way) -> Iterator[tuple[str, bytes, Mapping[str, str]]]:
    """Calls that services may serve or refuse, but rarely get: a name, the body, the headers."""
    body = way.body(prompt_for())
    yield "an agent outside ASCII", way.encoded(way.body(prompt_for(), agent="smoke-\N{ROCKET}")), {}
    yield "a byte outside UTF-8", way.encoded(way.body(f"{prompt_for()}?")).replace(b"?", b"\xff"), {}
    yield "a body in UTF-16", json.dumps(body).encode("utf-16"), {}
    yield "a Content-Encoding that it does not have", way.encoded(body), {"Content-Encoding": "gzip"}


@pytest.mark.requires("invoke", "budget")
@pytest.mark.p1
@pytest.mark.parametrize("route", all_ways())
def test_prompts_arrive_complete(
    route: str,
    ways: Callable[[str], Way],
    tenants: Tenants,
    batch: Batch,
    watch: Conservation,
    evidence: Evidence,
) -> None:
    """The model receives the complete prompt; any Unicode normal form will do. Each is charged its cost.

    Its usage counts the prompt's tokens, and so more for a much longer one. A character that not every store
    accepts is served or refused, and breaks nothing; so is what few callers send. A service may ask for the
    length of a body in chunks (RFC 9112, 6.3).
    """
    way, rule = ways(route), "the answer is to the prompt that was sent (1.2)"
    counted: list[tuple[int, int]] = []

    def judging(word: str, size: int, *refused: int) -> Callable[[httpx.Response], None]:
        def judge(answer: httpx.Response) -> None:
            if require_status(answer, 200, *refused).status_code in refused:
                return
            content = unicodedata.normalize("NFKC", way.content(answer))
            found = unicodedata.normalize("NFKC", word) in content
            assert found, f"{route}: the answer has no {word!r}, which its prompt asks for"
            assert "\N{REPLACEMENT CHARACTER}" not in content, f"{route}: a character was not decoded"
            if not refused:
                counted.append((size, way.prompt_tokens(answer)))

        return judge

    answers = batch.run(
        [
            Case(
                f"{route}: {name}",
                rule,
                partial(way.post, body, tenants.main),
                judging(word, len(body), *(() if isinstance(body, bytes) else (411,))),
            )
            for name, word, body in prompts(way)
        ]
        + [
            Case(
                f"{route}: {name}",
                "a prompt with it is served or refused (1.3)",
                partial(way.post, way.encoded(way.body(prompt_for(f"{nonce()}{odd}"))), tenants.main),
                lambda answer: require_status(answer, 200, 400, 422),
            )
            for name, odd in (("NUL", "\0"), ("half a character", "\ud800"))
        ]
        + [
            Case(
                f"{route}: {name}",
                "what few callers send is served or refused (1.3)",
                partial(way.post, body, tenants.main, headers=headers),
                answering(200, 400, 415, 422),
            )
            for name, body, headers in rarities(way)
        ]
    )
    watch.charged([cost_in(answer) for answer in answers if answer.is_success])
    (short, few), (long, many) = min(counted), max(counted)
    evidence.figure("tokens of the longest prompt", many, at_least=few + (long - short) // BYTES_PER_TOKEN)
    assert many - few >= (long - short) // BYTES_PER_TOKEN, (
        f"{route}: a body of {short} bytes has {few} prompt tokens, one of {long} bytes {many}"
    )


@pytest.mark.requires("invoke")
@pytest.mark.p1
@controlled("freeside")
def test_429_says_when_to_return(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """A 429 carries Retry-After. A small burst that costs nothing tries to provoke one."""
    body, limited = freeside.invoke_body(prompt_for(), model=UNKNOWN_MODEL), 0
    for _ in range(BURST):
        answer = freeside.http.once("POST", INVOKE_PATH, freeside.credential(tenants.main), json=body)
        if answer.status_code == 429:
            limited += 1
            evidence.figure("Retry-After", retry_after(answer), "s")
        require_json_error(require_status(answer, 400, 429))
    evidence.figure("requests that were rate limited", limited, "requests", limit=BURST)


@pytest.mark.requires("invoke")
@pytest.mark.p1
def test_call_ids_are_returned(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """An answer carries a trace id and an idempotency key, even if the request had no key."""
    answer = freeside.try_invoke(tenants.main, prompt_for(), keyed=False)
    answer_of(require_status(answer, 200), tenants.main)
    trace = header(answer, "x-trace-id")
    evidence.figure("x-trace-id", trace)
    assert re.fullmatch(UUID, trace.lower()), f"x-trace-id is {trace!r}, expected a uuid"


#: How a call with good claims must be refused; a bad token may be refused for its own fault.
BY_POOL, BY_TOKEN = (403,), (400, 401, 403)


def reaches(way: Way) -> Iterable[Reach]:
    """Calls to pools out of reach on a route; spellings of lists and pools are tried on one route only."""
    if way.direct:
        return direct()
    spelled = [*misspelled()]
    spelled = spelled[:40] if way.streamed else [*spelled, *of_no_pool()]
    return [*above_the_tier(), *not_allowed(), *spelled]


def judging(reach: Reach, way: Way) -> Callable[[httpx.Response], object]:
    """Refused for the pool; Finn may also ignore the pool that its token names, and serve one of the tier."""

    def judge(answer: httpx.Response) -> None:
        if way.direct and answer.status_code == 200:
            tier = str(reach.claims.get("tier", "enterprise"))
            fields_of(answer).text("model", among=TIER_POOLS[tier])
            return
        extended = (400,) if reach.body else ()
        require_status(answer, *(BY_POOL if reach.ordinary else BY_TOKEN), *extended)
        require_json_error(answer)
        if reach.ordinary and not extended:
            codes = ("POOL_ACCESS_DENIED",) if way.direct else ("MODEL_NOT_ALLOWED",)
            assert error_code(answer) in codes, f"403 {error_code(answer)}"

    return judge


@pytest.mark.p1
@pytest.mark.requires("budget")
@pytest.mark.parametrize("route", all_ways())
def test_pools_out_of_reach_are_refused(
    route: str, ways: Callable[[str], Way], batch: Batch, tenants: Tenants, watch: Conservation
) -> None:
    """A pool above the tier, or not in the token's list, is refused on every route, at no cost."""
    way = ways(route)
    cases = [
        Case(
            f"{route}: {reach.name}", "a token reaches the pools of its tier that it allows (1.1)",
            lambda reach=reach: way.post(  # type: ignore[misc]
                {**way.body(prompt_for(), reach.pool), **reach.body}, tenants.main,
                headers=reach.headers, **reach.claims,
            ),
            judging(reach, way),
        )
        for reach in reaches(way)
    ]  # fmt: skip
    answers = batch.run(cases)
    served = [cost_in(answer) for answer in answers if answer.status_code == 200]
    if served:
        watch.charged(served)
    else:
        watch.unchanged(f"{len(cases)} calls of {route} to pools out of reach")


@pytest.mark.p1
@pytest.mark.requires("budget")
@pytest.mark.requires("freeside.models")
def test_models_are_the_effective_pools(freeside: Freeside, tenants: Tenants, batch: Batch) -> None:
    """A token's models are the pools of its tier that are in its list (1, 1.1).

    So are an admin's, tried with every second list.
    """
    quiet = freeside.unrecorded()
    found = [
        ({**claims, **({"role": "admin"} if number % 2 else {})}, pools)
        for number, (claims, pools) in enumerate(of_all_lists())
    ]

    def judge(pools: Collection[str], answer: httpx.Response) -> None:
        fields = fields_of(require_status(answer, 200))
        listed = fields.raw("models", "a list")
        if not (isinstance(listed, list) and len(listed) == len(pools) and all(p in listed for p in pools)):
            fields.refuse("models", "exactly " + ", ".join(sorted(pools)), shown(listed))

    batch.run(
        [
            Case(
                f"{claims['tier']} {claims.get('role', 'user')}, allowed {'+'.join(claims['allowed_pools'])}",
                "the models of a token are its effective pools (1.1)",
                partial(quiet.models, quiet.credential(tenants.main, **claims)),
                partial(judge, pools),
                partial(mint_command, "freeside.models", **claims),
            )
            for claims, pools in found
        ]
    )


@pytest.mark.p1
@pytest.mark.requires("budget")
@pytest.mark.requires("freeside.invoke")
@pytest.mark.parametrize(
    ("order", "route"),
    [
        pytest.param(order, route, id=f"{order}{suffix}", marks=pytest.mark.requires(route, ANSWERS[route]))
        for route, suffix in (("freeside.invoke", ""), ("freeside.stream", "-stream"))
        for order in ("first", "last")
    ],
)
def test_duplicate_pool_grants_nothing(
    order: str, route: str, ways: Callable[[str], Way], tenants: Tenants, watch: Conservation
) -> None:
    """A second pool named in the body or the query never grants a pool out of reach.

    Stream events do not name the pool; the stream's stored answer does.
    """
    way, key = ways(route), str(uuid.uuid4())
    inside, outside = TIER_POOLS["free"][0], POOLS[-1]
    names = (outside, inside) if order == "first" else (inside, outside)
    body = twice(way.body(prompt_for(), names[0]), way.pool, names[1]).encode()
    query = {way.pool: outside, "pool_id": outside}
    answer = way.post(body, tenants.main, key=key, params=query, tier="free", allowed_pools=[inside])
    if answer.status_code == 200:
        cost = cost_in(answer)
        if way.streamed:
            complete = ways("freeside.invoke")
            answer = complete.post(body, tenants.main, key=key, tier="free", allowed_pools=[inside])
        fields_of(require_status(answer, 200)).text("model", among=(inside,))
        watch.charged([cost])
        return
    watch.unchanged(f"a body that names a pool twice: {answer.status_code}")
    require_json_error(require_status(answer, 400, 403))


#: How a direct call is refused: the contract defines no statuses for Finn's routes.
BY_FINN = (400, 404, 405, 413, 415, 422)


def bad_calls(way: Way) -> Iterable[BadCall]:
    """All near misses of a good call to a route."""
    prompt = prompt_for()
    yield from bad_bodies(way.body(prompt, POOLS[0], "smoke-elsewhere"), way.schema)
    for number, pool in enumerate(POOLS[1:], 1) if way.pool and not way.streamed else ():
        names = [
            bad for bad in bad_bodies(way.body(prompt, pool), way.schema) if bad.name.startswith(way.pool)
        ]
        yield from shared(names, number)
    content = way.encoded(way.body(prompt))
    yield from not_json(way.body(prompt), way.prompt)
    yield from bad_methods(content)
    if not way.direct:  # the contract states these rules for Freeside only
        yield from bad_media(content)
        yield from bad_sizes(content)
        yield from bad_keys(content)


@pytest.mark.p1
@pytest.mark.requires("budget")
@pytest.mark.parametrize("route", all_ways())
def test_bad_calls_are_refused(
    route: str, ways: Callable[[str], Way], batch: Batch, tenants: Tenants, watch: Conservation
) -> None:
    """An almost valid call gets a 4xx with a JSON error and costs nothing; the valid one is answered.

    The valid call's agent has the longest name that every service accepts. All pools are misspelled on one
    route, one pool on the others.
    """
    way = ways(route)
    cases = [
        Case(
            f"{route}: {bad.name}", "an invalid call is refused (1.3)",
            lambda bad=bad: way.post(bad.content, tenants.main, headers=bad.headers, method=bad.method),  # type: ignore[misc]
            answering(*(BY_FINN if way.direct else bad.statuses)),
        )
        for bad in bad_calls(way)
    ]  # fmt: skip
    batch.run(cases)
    watch.unchanged(f"{len(cases)} refused calls of {route}")
    good = way.body(prompt_for(), agent=longest_name("smoke-elsewhere"))
    answer = require_status(way.post(good, tenants.main), 200)
    watch.charged([cost_in(answer)])
