"""G-3, phase invoke: each prompt gets its own answer in time; bad requests are refused and cost nothing."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import partial

import httpx
import pytest
from pytest_readiness import Evidence, SafetyViolation

from smoke.platform.answers import (
    UUID,
    Answer,
    answer_of,
    header,
    require_json_error,
    require_status,
)
from smoke.platform.attacks import UNKNOWN_MODEL
from smoke.platform.batch import Batch, Case, at_once
from smoke.platform.freeside import INVOKE_PATH, Freeside, Tenants, nonce, prompt_for
from smoke.platform.http import retry_after
from smoke.platform.parameters import Way, all_ways, controlled

pytestmark = [
    pytest.mark.goal("G-3"),
    pytest.mark.phase("invoke"),
    pytest.mark.requires("freeside", "key", "signing", "invoke"),
    pytest.mark.usefixtures("alone"),
]

#: The pools of the five invokes: mostly the cheapest, as they are paid for.
FIVE = ("cheap", "cheap", "cheap", "fast-code", "reviewer")
PARALLEL = 10
#: The burst that may meet a rate limit; a platform that allows more is not pushed further.
BURST = 12
#: A prompt of so many characters, with what is asked at its end.
LONG = 24_000
#: What ends a line for Unicode, and not for JSON Lines and event streams.
SEPARATORS = "\u2028\u2029\u0085"


@pytest.mark.p0
@pytest.mark.establishes("invoke")
def test_call_is_answered(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """One call to the cheapest pool is answered as the contract says: what else calls rests on that."""
    evidence.figure("cost of a call", freeside.invoke(tenants.main, prompt_for()).usage.cost_micro, "µUSD")


@pytest.mark.p0
def test_five_prompts_are_answered(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """Every prompt gets its own answer from the pool that was asked for."""
    answers = []
    for pool in FIVE:
        word = nonce()
        answer = freeside.invoke(tenants.main, prompt_for(word), model=pool)
        assert word in answer.content, f"the answer from {pool} does not answer its prompt: no {word} in it"
        assert answer.model == pool, f"asked the pool {pool}, served by {answer.model}"
        assert not answer.replayed, "a new idempotency key was answered with a stored answer"
        answers.append(answer)
    traces = {answer.trace_id for answer in answers}
    evidence.figure("answered", len(answers), expected=len(FIVE))
    evidence.figure("distinct trace ids", len(traces), expected=len(FIVE))
    assert len(traces) == len(FIVE), f"{len(FIVE)} answers carry {len(traces)} trace ids"


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
        raise SafetyViolation(f"an answer for {answer.tenant} carries another call's nonce {foreign[0]}")
    assert word in answer.content, f"an answer for {answer.tenant} does not answer its prompt"


def prompts(way: Way) -> Iterator[tuple[str, str, bytes]]:
    """Prompts that a service on the way to the model could change: a name, the word asked for, the body."""
    words = {
        "letters outside ASCII": "\N{LATIN SMALL LETTER Z WITH CARON}lut\N{LATIN SMALL LETTER Y WITH ACUTE}",
        "letters of other scripts": "\N{GREEK SMALL LETTER LAMDA}\N{CYRILLIC SMALL LETTER ZHE}",
        "a character of four bytes": "\N{ROCKET}",
        "marks that JSON and HTML escape": '&<b>"\\',
    }
    for name, marks in words.items():
        word = f"{nonce()}-{marks}-"
        body = way.body(prompt_for(word))
        yield name, word, way.encoded(body)
        yield f"{name}, unescaped in UTF-8", word, json.dumps(body, ensure_ascii=False).encode()
    word = nonce()
    # a model may leave these out of its answer, and the word that is asked for stands before them
    body = way.body(prompt_for(f"{word}{SEPARATORS}"))
    yield "separators of lines", word, way.encoded(body)
    yield "separators of lines, unescaped in UTF-8", word, json.dumps(body, ensure_ascii=False).encode()
    word = nonce()
    yield f"{LONG} characters before it", word, way.encoded(way.body(prompt_for(word, padding=LONG)))


@pytest.mark.p1
@pytest.mark.parametrize("route", all_ways())
def test_prompts_arrive_complete(
    route: str, ways: Callable[[str], Way], tenants: Tenants, batch: Batch
) -> None:
    """The model is asked what the caller sent, to the last character; any normal form will do."""
    way, rule = ways(route), "the answer is to the prompt that was sent (1.2)"

    def judging(word: str) -> Callable[[httpx.Response], None]:
        def judge(answer: httpx.Response) -> None:
            content = way.content(require_status(answer, 200))
            found = unicodedata.normalize("NFKC", word) in unicodedata.normalize("NFKC", content)
            assert found, f"{route}: the answer has no {word!r}, which its prompt asks for"

        return judge

    batch.run(
        [
            Case(f"{route}: {name}", rule, partial(way.post, body, tenants.main), judging(word))
            for name, word, body in prompts(way)
        ]
    )


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


@pytest.mark.p1
def test_call_ids_are_returned(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """An answer carries a trace id, and an idempotency key also where the request brought none."""
    answer = freeside.try_invoke(tenants.main, prompt_for(), keyed=False)
    answer_of(require_status(answer, 200), tenants.main)
    trace = header(answer, "x-trace-id")
    evidence.figure("x-trace-id", trace)
    assert re.fullmatch(UUID, trace.lower()), f"x-trace-id is {trace!r}, expected a uuid"
