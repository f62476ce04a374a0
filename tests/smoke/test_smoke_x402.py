"""x402 terms, wallet and receipts: what the suite accepts, and what it never signs."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from pytest_readiness import SafetyViolation, SetupError

from smoke.contract.x402 import CHAIN_IDS, PATH, Terms, bad_payments, challenge_violations, terms_of
from smoke.platform.answers import ContractViolation
from smoke.platform.spend import Once
from smoke.platform.x402 import Balances, Chain, FundedWallet, Wallet, receipt_of, transferred

CHAIN = CHAIN_IDS["base-sepolia"]
TERMS = Terms("base-sepolia", "0x" + "a1" * 20, "0x" + "b2" * 20, 10_000, 60, "USDC", "2", CHAIN)
OFFER = {
    "scheme": "exact", "network": "base-sepolia", "maxAmountRequired": "10000", "payTo": TERMS.pay_to,
    "resource": f"https://platform.example.com{PATH}", "description": "", "mimeType": "application/json",
    "maxTimeoutSeconds": 60, "asset": TERMS.asset, "extra": {"name": "USDC", "version": "2"},
}  # fmt: skip


def challenge(*offers: Any, **other: Any) -> dict[str, Any]:
    return {"x402Version": 1, "error": "payment required", "accepts": [*offers], **other}


def found(document: Any) -> list[str]:
    return [violation.where for violation in challenge_violations(document, PATH)]


def test_the_terms_of_the_contract() -> None:
    assert found(challenge(OFFER)) == []
    assert terms_of(challenge(OFFER)) == TERMS


def test_other_offers_do_not_matter() -> None:
    other = {"scheme": "upto", "network": "solana"}
    assert found(challenge(other, OFFER)) == []
    assert terms_of(challenge(other, OFFER)) == TERMS


def test_a_gateway_may_put_a_prefix_before_the_resource() -> None:
    assert not [*challenge_violations(challenge(OFFER), f"/staging{PATH}")]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"maxAmountRequired": 10_000}, "accepts.maxAmountRequired"),
        ({"maxAmountRequired": "0"}, "accepts.maxAmountRequired"),
        ({"maxAmountRequired": "-1"}, "accepts.maxAmountRequired"),
        ({"payTo": "0x" + "00" * 20}, "accepts.payTo"),
        ({"payTo": TERMS.asset}, "accepts.payTo"),
        ({"asset": "USDC"}, "accepts.asset"),
        ({"maxTimeoutSeconds": "60"}, "accepts.maxTimeoutSeconds"),
        ({"network": "base"}, "accepts.network"),
        ({"resource": "https://platform.example.com/"}, "accepts.resource"),
        ({"resource": PATH}, "accepts.resource"),
        ({"resource": f"https://platform.example.com{PATH}?model=other"}, "accepts.resource"),
        ({"resource": "https://platform.example.com/api/agents/invoke"}, "accepts.resource"),
        ({"extra": {"name": "USDC"}}, "accepts.extra.version"),
    ],
)
def test_other_terms_are_violations(change: dict[str, Any], where: str) -> None:
    assert found(challenge(OFFER | change)) == [where]


@pytest.mark.parametrize("document", [challenge(), challenge("exact"), challenge(OFFER, x402Version=2), []])
def test_what_is_not_a_challenge(document: Any) -> None:
    assert found(document)


def test_bad_payments_differ_and_never_pay_anybody_else() -> None:
    """Whatever the wallet signs for the real token and a moment that is now pays the payee or the wallet."""
    signed: list[dict[str, Any]] = []

    class Recorder(Wallet):
        def sign(self, typed_data: Any) -> str:
            signed.append(typed_data)
            return super().sign(typed_data)

    wallet, other = Recorder("0x" + "11" * 32), Wallet("0x" + "22" * 32)
    bad = [*bad_payments(TERMS, wallet, other, 1_800_000_000)]
    assert len({one.name for one in bad}) == len({one.header for one in bad}) == len(bad) > 20
    for document in signed:
        domain, to = document["domain"], document["message"]["to"]
        assert to in (TERMS.pay_to, wallet.address)
        assert domain["chainId"] in (CHAIN, CHAIN + 1)


def rpc(answers: dict[str, Any]) -> Chain:
    """A chain that gives each method its answer; a callable is asked with the parameters."""

    def answer(request: httpx.Request) -> httpx.Response:
        call = json.loads(request.content)
        if call["method"] not in answers:
            return httpx.Response(200, json={"id": 1, "error": {"code": -32601, "message": "none"}})
        value = answers[call["method"]]
        return httpx.Response(
            200, json={"id": 1, "result": value(*call["params"]) if callable(value) else value}
        )

    return Chain(
        httpx.Client(transport=httpx.MockTransport(answer)), "https://rpc.example.com/key-of-the-rpc"
    )


def never() -> str:
    raise AssertionError("the key was asked for")


@pytest.mark.parametrize("allowed", ["", "1", "8453,11155111"])
def test_on_another_chain_not_even_the_key_is_read(allowed: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="nothing was signed"):
        FundedWallet(never, rpc({"eth_chainId": hex(CHAIN)}), allowed, 10**6, Once(tmp_path))
    with pytest.raises(SetupError, match="8453, nothing was signed"):
        FundedWallet(never, rpc({"eth_chainId": hex(8453)}), str(CHAIN), 10**6, Once(tmp_path))


def funded(directory: Path, cap: int, key: str = "0x" + "11" * 32, has: int = 0) -> FundedWallet:
    chain = rpc({"eth_chainId": hex(CHAIN), "eth_call": hex(has)})
    return FundedWallet(lambda: key, chain, f"1, {CHAIN}", cap, Once(directory))


def test_a_run_signs_away_no_more_than_its_cap(tmp_path: Path) -> None:
    import time

    first = funded(tmp_path, 25_000)

    def sign(wallet: FundedWallet, **other: object) -> str:
        return wallet.sign(TERMS.typed_data(TERMS.authorization(wallet.address, time.time(), **other)))

    for _ in range(2):
        sign(first)
    second = funded(tmp_path, 25_000)  # another process of the run
    with pytest.raises(SetupError, match=r"raise \[x402\] max_spend"):
        sign(second)
    sign(second, value=5_000)
    sign(second, to=second.address)
    sign(second, validBefore=1)
    with pytest.raises(SetupError):
        sign(second, value=1)


def test_an_empty_wallet_is_not_the_platforms_fault(tmp_path: Path) -> None:
    wallet = funded(tmp_path, 10**6, has=25_000)
    wallet.require(20_000, TERMS.asset)
    wallet.require(20_000, TERMS.asset)  # the first payment was not carried out: all is still there
    with pytest.raises(SetupError, match="fund it"):
        wallet.require(30_000, TERMS.asset)


@pytest.mark.parametrize("key", ["", "0x12", "not a key", "0x" + "11" * 33])
def test_what_is_not_a_key_is_not_shown(key: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="32 bytes in hex") as refusal:
        funded(tmp_path, 1, key)
    assert not key or key not in str(refusal.value)


def test_a_chain_that_does_not_answer_is_not_the_platforms_fault() -> None:
    for chain in (rpc({}), rpc({"eth_chainId": None}), rpc({"eth_chainId": "x"}), rpc({"eth_call": "0x"})):
        with pytest.raises(SetupError) as refusal:
            _ = chain.chain_id
        assert "key-of-the-rpc" not in str(refusal.value)
        with pytest.raises(SetupError):
            chain.balance(TERMS.asset, "0x1")


def test_the_early_call_of_a_chain_has_no_effect() -> None:
    rpc({}).wake()
    closed = httpx.Client()
    closed.close()
    Chain(closed, "http://127.0.0.1:9").wake()


def test_any_other_movement_of_money_is_a_violation() -> None:
    owned = {TERMS.pay_to[2:]: 5, "11" * 20: 100}

    def call(request: Any, _: Any) -> str:
        return hex(next(value for owner, value in owned.items() if request["data"].endswith(owner)))

    chain = rpc({"eth_call": call})
    balances = Balances(chain, TERMS, "0x" + "11" * 20, live=False)
    live = Balances(chain, TERMS, "0x" + "11" * 20, live=True)
    balances.require_moved(0, "nothing")
    owned["11" * 20] -= 10
    owned[TERMS.pay_to[2:]] += 10
    balances.require_moved(10, "a payment")
    with pytest.raises(SafetyViolation, match="lost 10"):
        balances.require_moved(0, "a refused payment")
    owned[TERMS.pay_to[2:]] += 3
    live.require_moved(10, "others also pay")
    with pytest.raises(SafetyViolation, match="got 13"):
        balances.require_moved(10, "a payment")


def test_money_may_be_shown_late_but_not_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smoke.platform.x402.SHOWN_WITHIN_S", 1.0)
    read = iter([100, 5, 100, 5, 90, 5, 90, 15])
    balances = Balances(rpc({"eth_call": lambda *_: hex(next(read))}), TERMS, "0x" + "11" * 20, live=False)
    balances.require_moved(10, "a payment that is shown at the third look")
    assert next(read, None) is None
    unpaid = Balances(rpc({"eth_call": "0x5"}), TERMS, "0x" + "11" * 20, live=False)
    with pytest.raises(SafetyViolation, match="lost 0, the payee got 0, expected 10"):
        unpaid.require_moved(10, "a payment")


def test_a_transfer_by_another_authorization_does_not_count() -> None:
    from smoke.platform.x402 import TRANSFERRED, USED

    payment = TERMS.authorization("0x" + "11" * 20, 0)
    payer, payee = (f"0x{payment[name][2:]:0>64}" for name in ("from", "to"))
    used: dict[str, Any] = {
        "address": TERMS.asset.upper().replace("X", "x"),
        "topics": [USED, payer, payment["nonce"]],
        "data": "0x",
    }
    moved = {"address": TERMS.asset, "topics": [TRANSFERRED, payer, payee], "data": hex(10_000)}
    assert transferred({"logs": [used, moved]}, TERMS, payment) == 10_000
    assert transferred({"logs": [moved]}, TERMS, payment) == 0
    assert transferred({"logs": [used, moved | {"address": TERMS.pay_to}]}, TERMS, payment) == 0
    assert transferred({"logs": [used | {"topics": [USED, payer, payee]}, moved]}, TERMS, payment) == 0


def receipt(document: Any) -> httpx.Response:
    text = document if isinstance(document, str) else base64.b64encode(json.dumps(document).encode()).decode()
    request = httpx.Request("POST", f"https://platform.example.com{PATH}")
    return httpx.Response(200, headers={"x-payment-response": text}, request=request)


GOOD = {"success": True, "transaction": "0x" + "1" * 64, "network": "base-sepolia", "payer": "0x" + "1" * 40}


@pytest.mark.parametrize(
    "document",
    ["%%%", [], {}, GOOD | {"success": False}, GOOD | {"success": "true"}, GOOD | {"transaction": "0x12"}],
)
def test_invalid_receipts_are_violations(document: Any) -> None:
    assert receipt_of(receipt(GOOD)).network == "base-sepolia"
    with pytest.raises(ContractViolation, match="x-payment-response"):
        receipt_of(receipt(document))


def test_signing_leaves_the_recursion_limit() -> None:
    code = "import sys; before = sys.getrecursionlimit(); from smoke.platform.x402 import Wallet; "
    code += "Wallet.throwaway().sign; assert sys.getrecursionlimit() == before"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
