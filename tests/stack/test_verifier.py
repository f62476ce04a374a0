"""A faulty verifier believes the forgeries of its fault only; `test_smoke_forgeries` tries the honest one."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from smoke.platform.forgeries import forgeries
from stack.common import keys
from stack.common.verifier import Claims, Issuer, TokenRefused
from stack.faults.proxy import Faults
from stack.faults.tokens import _SAME_RULE, FaultyVerifier
from tests.smoke.test_smoke_forgeries import KEY, MADE, REQUIRED, Keys, embedded


def _refused() -> Iterator[tuple[str, tuple[str, str | None]]]:
    """Yield the case of every refusal, with a kind of token and a header that is refused for it."""
    for kind in ("user", "call"):
        genuine = MADE[kind]()
        for forgery in forgeries(genuine):
            try:
                embedded(genuine, forgery.header)
            except TokenRefused as refused:
                for case in (refused.case, *_SAME_RULE.get(refused.case, ())):
                    yield case, (kind, forgery.header)


#: Each case in which a verifier refuses a token; the fault of `missing-exp` is `no-exp`.
CASES = sorted({case for case, _ in _refused()} - {"missing-exp"})


@pytest.fixture(scope="module")
def forged() -> dict[str, tuple[str, str | None]]:
    """Return a fresh forgery for each case: those that told the cases may have expired since."""
    return dict(_refused())


class SwitchedVerifier:
    """A verifier with its fault file in a temporary directory."""

    def __init__(self, directory: Path, kind: str = "user") -> None:
        self._file = directory / "faults.json"
        self.genuine = MADE[kind]()
        issuers = {self.genuine.kind.issuer: Issuer(Keys(), REQUIRED[kind])}
        self._verifier = FaultyVerifier(Faults(self._file), "freeside", self.genuine.audience, issuers)
        self.turn_on()

    def turn_on(self, *fault_ids: str) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps({"generation": 1, "active": {name: {} for name in fault_ids}}))
        fresh.replace(self._file)

    def verify(self, authorization: str | None) -> Claims:
        return asyncio.run(self._verifier.verify(authorization))


def test_the_platform_mints_what_pyjwt_verifies(tmp_path: Path) -> None:
    verifier, key = SwitchedVerifier(tmp_path), keys.SigningKey(KEY.kid, KEY.private)
    minted = keys.mint(key, verifier.genuine.claims)
    found = jwt.decode(minted, KEY.public_pem(), algorithms=["ES256"], audience="arrakis", issuer="arrakis")
    assert found == verifier.verify(f"Bearer {minted}").raw
    assert jwt.PyJWK(key.jwk()).key.public_numbers() == key.public().key.public_numbers()


@pytest.mark.parametrize("case", CASES)
def test_a_forgery_is_refused_until_its_fault_is_on(
    tmp_path: Path, case: str, forged: dict[str, tuple[str, str | None]]
) -> None:
    kind, header = forged[case]
    verifier = SwitchedVerifier(tmp_path, kind)
    for faults in ((), (f"dixie-accepts-{case}",)):
        verifier.turn_on(*faults)
        with pytest.raises(TokenRefused):
            verifier.verify(header)
    verifier.turn_on(f"freeside-accepts-{case}")
    assert verifier.verify(header).tenant_id
    assert verifier.verify(f"Bearer {verifier.genuine.token()}")
    verifier.turn_on()
    with pytest.raises(TokenRefused):
        verifier.verify(header)


def test_a_verifier_can_lock_callers_out_after_refusals(tmp_path: Path) -> None:
    verifier = SwitchedVerifier(tmp_path)
    good = f"Bearer {verifier.genuine.token()}"
    verifier.turn_on("freeside-locks-out")
    for _ in range(5):
        assert verifier.verify(good)
        with pytest.raises(TokenRefused):
            verifier.verify(None)
    with pytest.raises(TokenRefused):
        verifier.verify(good)
    verifier.turn_on()
    assert verifier.verify(good)
