"""A caller of the running platform: mints tokens, reads budgets, turns faults on."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import boto3
import httpx

from stack.common.keys import SigningKey, mint, parse, req_hash
from stack.common.verifier import POOLS
from stack.launch import Stack
from tests.stack.tools import poll, request

MAIN, SMALL = "test-community-staging-001", "test-community-staging-003"
AGENT = "smoke-agent-001"


class Platform:
    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.freeside = stack.profile["freeside"]["url"]
        self.finn = stack.profile["finn"]["url"]
        self.dixie = stack.profile["dixie"]["url"]
        self.http = httpx.Client(timeout=30)
        self.keys: dict[str, SigningKey] = {}

    @cached_property
    def secrets(self) -> Any:
        environ = self.stack.environ
        return boto3.client(
            "secretsmanager",
            endpoint_url=self.stack.profile["aws"]["endpoint_url"],
            region_name="us-east-1",
            aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
        )

    def secret(self, service: str) -> str:
        name = f"arrakis-staging/{service}/es256-private-key"
        return str(self.secrets.get_secret_value(SecretId=name)["SecretString"])

    def put_secret(self, service: str, value: str) -> None:
        self.secrets.put_secret_value(
            SecretId=f"arrakis-staging/{service}/es256-private-key", SecretString=value
        )

    def user(self, tenant: str = MAIN, **changes: Any) -> dict[str, str]:
        """A fresh user token's header; a claim of None is left out."""
        claims = {
            "iss": "arrakis",
            "aud": "arrakis",
            "sub": "0x" + "ab" * 20,
            "tenant_id": tenant,
            "tier": "enterprise",
            "pool_id": "cheap",
            "allowed_pools": list(POOLS),
        } | changes
        return self._header("freeside", claims)

    def finn_call(self, body: dict[str, Any], tenant: str = MAIN, **changes: Any) -> httpx.Response:
        """A direct call of Finn with a fresh S2S token."""
        raw = json.dumps(body).encode()
        claims = {
            "iss": "arrakis",
            "aud": "loa-finn",
            "sub": "a-caller",
            "tenant_id": tenant,
            "tier": "free",
            "req_hash": req_hash(raw),
        } | changes
        headers = {**self._header("freeside", claims), "content-type": "application/json"}
        return self.http.post(f"{self.finn}/api/v1/invoke", content=raw, headers=headers)

    def service(self, **changes: Any) -> dict[str, str]:
        """The header of Finn's own token for Dixie."""
        return self._header("finn", {"iss": "loa-finn", "aud": "loa-dixie"} | changes)

    def _header(self, owner: str, claims: dict[str, Any]) -> dict[str, str]:
        if owner not in self.keys:
            self.keys[owner] = parse(self.secret(owner)).active
        token = mint(self.keys[owner], {k: v for k, v in claims.items() if v is not None})
        return {"authorization": f"Bearer {token}"}

    def invoke(
        self, prompt: str = "hello", tenant: str = MAIN, *, model: str = "cheap", key: str = "", **claims: Any
    ) -> httpx.Response:
        headers = self.user(tenant, **claims) | ({"x-idempotency-key": key} if key else {})
        body = {"prompt": prompt, "model": model}
        return self.http.post(f"{self.freeside}/api/agents/invoke", json=body, headers=headers)

    def budget(self, tenant: str = MAIN) -> dict[str, int]:
        """committed, reserved and limit in µUSD."""
        url = f"{self.freeside}/api/v1/communities/{tenant}/budget"
        body = self.http.get(url, headers=self.user(tenant)).raise_for_status().json()
        return {
            "committed": int(body["committedMicro"]),
            "reserved": int(body["reservedMicro"]),
            "limit": body["monthlyBudgetCents"] * 10_000,
        }

    def score(self, agent: str = AGENT) -> float:
        """The public query for an agent that has a score, asked with a user's token."""
        url = f"{self.dixie}/api/reputation/query"
        headers = self.user(aud="loa-dixie")
        answer = self.http.get(url, params={"routingKey": f"nft:{agent}"}, headers=headers)
        score = answer.raise_for_status().json()["score"]
        assert isinstance(score, float)
        return score

    def rate(self, quality: str, agent: str = AGENT) -> None:
        body = {"routingKey": f"nft:{agent}", "quality": quality, "source": "test"}
        answer = self.http.post(f"{self.freeside}/api/agents/quality", json=body, headers=self.user())
        assert answer.status_code == 202, answer.text

    def control(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = request(method, f"{self.stack.control_url}{path}", body)
        assert status == 200, answer
        return answer

    def fault(self, fault_id: str, **params: Any) -> None:
        self.control("PUT", f"/faults/{fault_id}", params)

    def settled(self, tenant: str = MAIN, within: float = 10) -> dict[str, int]:
        """The budget once nothing is reserved any more."""
        poll(lambda: self.budget(tenant)["reserved"] == 0, within, f"{tenant} has nothing reserved")
        return self.budget(tenant)


def together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run all at once, started by one barrier."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait(60)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def nonce() -> str:
    return f"nonce-{uuid.uuid4().hex[:12]}-{time.monotonic_ns() % 1000}"
