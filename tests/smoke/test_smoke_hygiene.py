"""What an error must not show, and what it may well say; what a 400 of Finn tells about a token."""

from typing import Any

import httpx
import pytest

from smoke.keys.verifiers import Answer, finn_verifier
from smoke.platform.attacks import leak
from smoke.platform.tokens import SigningKey


@pytest.mark.parametrize(
    ("message", "shows"),
    [
        ("SELECT sub FROM freeside.spent WHERE jti = $1", True),
        ('{"password": "hunter2"}', True),
        ("password=hunter2", True),
        ("Select a community first", False),
        ("no password is needed here", False),
    ],
)
def test_only_internals_are_taken_for_internals(message: str, shows: bool) -> None:
    assert bool(leak(httpx.Response(401, text=message))) is shows


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (400, {"error": "no", "code": "REQ_HASH_MISMATCH"}, Answer.ACCEPTED),
        (400, {"error": "no", "code": "INVALID_REQUEST"}, Answer.SILENT),
        (401, {"error": "no", "code": "JWT_INVALID"}, Answer.REFUSED),
        (200, {"response": "yes"}, Answer.ACCEPTED),
        (503, {"error": "no"}, Answer.SILENT),
    ],
)
def test_finn_accepts_a_token_when_only_its_hash_is_wrong(status: int, body: Any, answer: Answer) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=body))
    with httpx.Client(transport=transport) as http:
        assert finn_verifier("http://finn", "c", "agent", http).ask(SigningKey.throwaway()) is answer
