"""Money is conserved, to the µUSD, whatever happens at the same time (contract 1.5)."""

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import httpx
import pytest

from tests.stack.embedded import MAIN, OTHER, SMALL, Platform, cost, nonce, together
from tests.stack.tools import poll


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_random_crowd_is_charged_exactly(platform: Platform, seed: int) -> None:
    chance = random.Random(seed)
    before = {tenant: platform.budget(tenant) for tenant in (MAIN, OTHER, SMALL)}

    def call() -> tuple[str, Callable[[], httpx.Response]]:
        tenant = chance.choice((MAIN, MAIN, OTHER, SMALL))
        model = chance.choice(("cheap", "fast-code", "architect", "no-such-model"))
        prompt = f"{nonce()} " + "x" * chance.choice((1, 40, 800))
        return tenant, lambda: platform.invoke(prompt, tenant, model=model)

    calls = [call() for _ in range(16)]
    samples: list[dict[str, int]] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            samples.append(platform.budget(SMALL))

    watcher = threading.Thread(target=watch)
    watcher.start()
    answers = together([run for _, run in calls])
    stop.set()
    watcher.join()

    assert {answer.status_code for answer in answers} <= {200, 400, 402}
    for tenant in before:
        paid = sum(cost(a) for (payer, _), a in zip(calls, answers, strict=True) if payer == tenant)
        after = platform.settled(tenant)
        assert after["committed"] - before[tenant]["committed"] == paid
        assert after["limit"] == before[tenant]["limit"]
    assert samples
    for sample in samples:
        assert 0 <= sample["committed"] + sample["reserved"] <= sample["limit"]


def test_the_budget_limit_is_exact(platform: Platform) -> None:
    price = cost(platform.invoke("limit 00", MAIN))
    room = platform.budget(SMALL)["limit"]
    fits = room // price
    answers = together([partial(platform.invoke, f"limit {n:02}", SMALL) for n in range(fits + 6)])
    assert sorted(a.status_code for a in answers) == [200] * fits + [402] * 6
    assert platform.budget(SMALL) == {"committed": fits * price, "reserved": 0, "limit": room}


def test_a_fault_runs_the_model_for_refused_calls_only(platform: Platform) -> None:
    log = platform.stack.run_dir / "logs" / "provider.log"

    def runs() -> int:
        return log.read_text().count("POST /v1/complete")

    before, key = runs(), nonce()
    platform.fault("freeside-runs-over-budget-calls")
    assert platform.invoke("fits").status_code == 200
    for _ in range(2):  # an abandoned claim would make the second wait instead of being refused
        assert platform.invoke("x" * 100_000, SMALL, key=key).status_code == 402
    poll(lambda: runs() >= before + 3, 5, "every run is logged")
    assert runs() == before + 3
    platform.fault("provider-down")
    assert platform.invoke("x" * 100_000, SMALL, key=key).status_code == 402


def test_an_unanswered_call_is_free(platform: Platform) -> None:
    before = platform.budget()
    platform.fault("provider-down")
    answer = platform.invoke()
    assert (answer.status_code, answer.json()["error"]) == (503, "MODEL_PROVIDER_UNAVAILABLE")
    platform.control("DELETE", "/faults/provider-down")
    platform.control("POST", "/services/finn/stop")
    answer = platform.invoke()
    assert (answer.status_code, answer.json()["error"]) == (503, "SERVICE_UNAVAILABLE")
    platform.control("POST", "/services/finn/start")
    assert platform.settled() == before


def test_a_killed_process_leaves_no_reservation(platform: Platform) -> None:
    platform.fault("provider-slow", every=1, delay_s=20)
    before = platform.budget()
    call = threading.Thread(target=lambda: _ignoring_the_crash(platform), daemon=True)
    call.start()
    poll(lambda: platform.budget()["reserved"] > 0, 5, "the call has reserved")
    platform.control("POST", "/services/freeside/stop")
    platform.control("POST", "/services/freeside/start")
    assert platform.settled(within=10) == before
    call.join(5)


def _ignoring_the_crash(platform: Platform) -> None:
    with suppress(httpx.HTTPError):
        platform.invoke("abandoned")


def test_a_direct_call_to_finn_is_charged_like_any_other(platform: Platform) -> None:
    before, body = platform.budget(), {"agent": "smoke-agent-001", "prompt": nonce()}
    answer = platform.finn_call(body)
    assert answer.status_code == 200
    assert body["prompt"] in answer.json()["response"]
    assert platform.settled()["committed"] - before["committed"] == int(answer.json()["cost_micro"])
    room = platform.budget(SMALL)["limit"]
    refused = platform.finn_call({"agent": "a", "prompt": "x" * 50_000}, SMALL)
    assert (refused.status_code, refused.json()["code"]) == (402, "BUDGET_EXCEEDED")
    assert platform.budget(SMALL) == {"committed": 0, "reserved": 0, "limit": room}
