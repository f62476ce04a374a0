"""Payments of the embedded platform, compared with the x402 project's own client and facilitator."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from smoke.contract.x402 import BadPayment, Terms, bad_payments, payment, terms_of
from smoke.platform.x402 import Wallet
from stack.launch import Stack
from stack.x402 import (
    ARTIFACT,
    CHAIN_ID,
    DEPLOYER,
    TOKEN,
    TRANSFER,
    Anvil,
    EthTester,
    Facilitator,
    Node,
    Rpc,
    encoded,
)
from tests.stack.embedded import Platform

BALANCE_OF = "0x70a08231"


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """What a test imports of Ethereum raises the recursion limit; the tests after it have the usual one."""
    before = sys.getrecursionlimit()
    yield
    sys.setrecursionlimit(before)


@pytest.fixture
def rpc(running: Stack) -> Rpc:
    return Rpc(running.profile["x402"]["rpc_url"])


@pytest.fixture
def wallet(running: Stack) -> Wallet:
    return Wallet(Path(running.profile["x402"]["wallet_key"].removeprefix("file:")).read_text())


@pytest.fixture
def url(platform: Platform) -> str:
    return f"{platform.freeside}/api/v1/x402/invoke"


@pytest.fixture
def terms(url: str) -> Terms:
    answer = httpx.post(url)
    assert answer.status_code == 402
    return terms_of(answer.json())


def good(terms: Terms, wallet: Wallet) -> dict[str, Any]:
    authorization = terms.authorization(wallet.address, time.time())
    return payment(terms, authorization, wallet.sign(terms.typed_data(authorization)))


def offered(bad: BadPayment) -> dict[str, Any]:
    import base64

    found: dict[str, Any] = json.loads(base64.b64decode(bad.header))
    return found


@pytest.fixture
def official(running: Stack) -> Any:
    from x402.mechanisms.evm.exact.v1.facilitator import ExactEvmSchemeV1
    from x402.mechanisms.evm.signers import FacilitatorWeb3Signer

    key = f"0x{1:064x}"
    return ExactEvmSchemeV1(FacilitatorWeb3Signer(key, running.profile["x402"]["rpc_url"]))


def test_the_facilitator_agrees_with_the_official_one(
    url: str, terms: Terms, wallet: Wallet, official: Any, rpc: Rpc
) -> None:
    """It refuses and accepts the same payments as that facilitator."""
    from x402.schemas.v1 import PaymentPayloadV1, PaymentRequirementsV1

    required = httpx.post(url).json()["accepts"][0]
    ours = Facilitator(rpc)
    documents = {
        one.name: offered(one) for one in bad_payments(terms, wallet, Wallet.throwaway(), time.time())
    }
    documents["good"] = good(terms, wallet)
    for name, document in documents.items():
        body = {"x402Version": 1, "paymentPayload": document, "paymentRequirements": required}
        found = ours.answer("/verify", body)
        theirs = official.verify(
            PaymentPayloadV1.model_validate(document), PaymentRequirementsV1.model_validate(required)
        )
        assert found["isValid"] == theirs.is_valid == (name == "good"), (name, found, theirs)


@pytest.mark.parametrize("kind", ["eth-tester", "anvil"])
def test_each_engine_has_the_token_and_the_money(
    kind: str, running: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    program = shutil.which("anvil")
    if kind == "anvil" and program is None:
        pytest.skip("no anvil on PATH")
    (tmp_path / "logs").mkdir()
    monkeypatch.chdir(tmp_path)
    key = running.profile["x402"]["wallet_key"].removeprefix("file:")
    monkeypatch.setenv("STACK_WALLET_KEY_FILES", key)
    node = Node(lambda: Anvil(str(program)) if kind == "anvil" else EthTester())

    def ask(method: str, *params: Any) -> Any:
        return node.answer("/", {"id": 1, "method": method, "params": params})

    assert ask("eth_chainId")["result"] == hex(CHAIN_ID)
    owner = Wallet(Path(key).read_text()).address
    call = {"to": TOKEN, "data": encoded(BALANCE_OF, owner)}
    assert int(ask("eth_call", call, "latest")["result"], 16) == 10**12
    refused = ask("eth_call", {"from": DEPLOYER, "to": TOKEN, "data": encoded(TRANSFER, *[0] * 9)}, "latest")
    assert "authorization is expired" in refused["error"]["message"]
    assert ask("eth_noSuchMethod")["error"]["code"] == -32601
    node.close()


def test_the_artifact_is_that_of_the_source() -> None:
    """Every function of the source is in the ABI; after a change of the source, compile it again."""
    source = ARTIFACT.with_suffix(".vy").read_text()
    artifact = json.loads(ARTIFACT.read_text())
    functions = {entry["name"] for entry in artifact["abi"] if entry["type"] == "function"}
    assert {"mint", "transfer", "transferWithAuthorization", "authorizationState"} < functions
    assert all(f"{name}:" in source or f"def {name}(" in source for name in functions)
    assert "0.4.3" in artifact["compiler"]
