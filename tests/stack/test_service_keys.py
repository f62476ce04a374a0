"""Keys as Secrets Manager has them: followed, published, and kept when a read or a value is bad."""

from collections.abc import Iterator

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stack.common.keys import SigningKey
from tests.stack.embedded import Platform
from tests.stack.tools import poll


def pem(curve: ec.EllipticCurve | None = None) -> str:
    return (
        ec.generate_private_key(curve or ec.SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        .decode()
    )


def kids(platform: Platform) -> list[str]:
    return [key["kid"] for key in httpx.get(f"{platform.freeside}/.well-known/jwks.json").json()["keys"]]


def accepts(platform: Platform, key: SigningKey) -> bool:
    """Whether Freeside takes a good token under the key."""
    platform.keys["freeside"] = key
    answer = platform.http.get(f"{platform.freeside}/api/agents/models", headers=platform.user())
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


@pytest.fixture
def restored(platform: Platform) -> Iterator[Platform]:
    """The secret is put back afterwards, and the services follow."""
    value, published = platform.secret("freeside"), kids(platform)
    platform.keys["freeside"] = first = SigningKey.from_pem(value)
    yield platform
    platform.keys["freeside"] = first
    platform.put_secret("freeside", value)
    poll(lambda: kids(platform) == published, 10, "the first key is back in the JWKS")
    poll(lambda: platform.invoke().status_code == 200, 10, "Finn has followed")


@pytest.mark.parametrize("service", ["freeside", "finn"])
def test_a_key_from_before_the_reset_is_not_kept(platform: Platform, service: str) -> None:
    before, value = SigningKey.from_pem(platform.secret("freeside")), pem()
    platform.keys["freeside"] = lost = SigningKey.from_pem(value)

    def known(key: SigningKey) -> bool:
        if service == "freeside":
            return accepts(platform, key)
        platform.keys["freeside"] = key
        return platform.finn_call({"agent": "smoke-agent-001"}).status_code != 401

    platform.put_secret("freeside", value)
    poll(lambda: known(lost), 10, "the new key is in force")
    platform.control("POST", "/reset")
    platform.fault(f"{service}-keeps-old-keys")
    poll(lambda: not known(lost), 5, "the key before the reset is forgotten")
    # What the fault does: a key in force since the reset outlives its rotation.
    assert known(before)
    platform.put_secret("freeside", pem())
    poll(lambda: before.kid not in kids(platform), 5, "the key is rotated")
    for _ in range(3):
        assert known(before)


def test_the_keys_before_a_reset_are_not_published_again(platform: Platform) -> None:
    def published() -> list[str]:
        url = f"{platform.dixie}/api/auth/.well-known/jwks.json"
        return [key["kid"] for key in httpx.get(url).json()["keys"]]

    at_boot, value = published(), pem()
    platform.put_secret("dixie", value)
    poll(lambda: published() == [SigningKey.from_pem(value).kid], 5, "the new key is published")
    platform.control("POST", "/reset")
    platform.fault("dixie-jwks-keeps-old-keys")
    poll(lambda: published() == at_boot, 5, "only the key of the boot is published")


@pytest.mark.parametrize(
    "value", ["PLACEHOLDER", "{}", "not a key", pem(ec.SECP384R1()), '{"activeKid": "x"}']
)
def test_a_bad_value_changes_nothing(restored: Platform, value: str) -> None:
    published = kids(restored)
    log = restored.stack.run_dir / "logs" / "freeside.log"
    seen = log.read_text().count("keeping the previous keys")
    restored.put_secret("freeside", value)
    poll(lambda: log.read_text().count("keeping the previous keys") > seen, 5, "the bad value was read")
    assert kids(restored) == published
    assert restored.invoke().status_code == 200


def test_a_bad_value_is_never_quoted(restored: Platform) -> None:
    marker = "c2VjcmV0LW1hdGVyaWFs"
    log = restored.stack.run_dir / "logs" / "freeside.log"
    seen = log.read_text().count("keeping the previous keys")
    restored.put_secret("freeside", f"-----BEGIN PRIVATE KEY-----\n{marker}\n-----END PRIVATE KEY-----\n")
    poll(lambda: log.read_text().count("keeping the previous keys") > seen, 5, "the bad value was read")
    for path in log.parent.glob("*.log"):
        assert marker not in path.read_text()
        assert "BEGIN" not in path.read_text()
