"""Payments of the embedded platform: a chain with a token on it, and the facilitator that settles there."""

from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec

from stack import services
from stack.host import LOOPBACK, RunDir, answers_ok
from stack.supervisor import Command, Part

NETWORK = "base-sepolia"
CHAIN_ID = 84532
#: Pays for gas and deploys the token: the first account of eth-tester, whose key is the number 1. The address
#: of its first contract follows from that, on any chain.
DEPLOYER = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
TOKEN = "0xF2E246BB76DF876Cef8b38ae84130F4F55De395b"
PAYEE = "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"
PROCESSES = ("chain", "facilitator")


def payable() -> bool:
    """Whether the extra `x402` is installed. Without it calls have terms, and there is no way to pay."""
    return find_spec("eth_account") is not None


def urls(ports: Mapping[str, int]) -> dict[str, str]:
    """Where the two processes answer."""
    return {name: f"http://{LOOPBACK}:{ports[name]}" for name in PROCESSES}


def settings(ports: Mapping[str, int]) -> dict[str, str]:
    """What Freeside has to know: who settles, who is paid, and in which token."""
    return {
        "STACK_FACILITATOR_URL": urls(ports)["facilitator"],
        "STACK_X402_NETWORK": NETWORK,
        "STACK_X402_ASSET": TOKEN,
        "STACK_X402_PAYEE": PAYEE,
    }


def parts(run: RunDir, ports: Mapping[str, int], wallet_key: str) -> list[Part]:
    """The two processes, ready in no time: the chain comes to life at the first call."""
    where = urls(ports)
    environ = {
        **services.base_environ(),
        "STACK_CHAIN_URL": where["chain"],
        "STACK_WALLET_KEY_FILE": wallet_key,
    }
    return [
        Part(
            name,
            Command(
                services.python(f"stack.x402.{name}"), environ | {"STACK_PORT": str(ports[name])}, run.path
            ),
            ready=partial(answers_ok, f"{where[name]}/health"),
            volatile=name == "chain",
        )
        for name in PROCESSES
    ]
