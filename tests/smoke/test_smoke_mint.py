"""`python -m smoke.platform mint`: every case of a report can be recreated by its name."""

import json
import shlex
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization as form

from smoke.contract.model import SERVICES, Access, accesses
from smoke.contract.verifier import Accepted, times
from smoke.platform import __main__ as command
from smoke.platform.batch import mint_command
from smoke.platform.forgeries import Genuine, forgeries, varieties
from smoke.platform.tokens import SigningKey

KEYS = {name: SigningKey.throwaway(f"{name}-kid") for name in ("freeside", "finn")}
#: What a profile says of a service's address in a table.
TABLES = ("paths", "headers")
BODY = '{"agent": "a"}'


class FakeEnvironment:
    """A profile of a platform that publishes both keys."""

    live = False

    class auth:
        community_id = "community"

    def get(self, key: str) -> Any:
        service, _, name = key.partition(".")
        return f"http://{service}" if name == "url" else {} if name in TABLES else ""

    def secret(self, key: str) -> str:
        signer = {value: name for name, value in command.SECRETS.items()}[key]
        private = KEYS[signer].private
        return private.private_bytes(
            form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
        ).decode()


def published(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"keys": [KEYS[request.url.host].public_jwk()]})


def genuine(access: Access) -> Genuine:
    fake: Any = FakeEnvironment()
    with httpx.Client(transport=httpx.MockTransport(published)) as pool:
        return command.genuine_of(fake, pool, access, BODY)


@pytest.mark.parametrize("access", accesses(), ids=lambda access: access.id)
def test_good_token_is_made_for_every_way_in(access: Access) -> None:
    made = genuine(access)
    assert made.verdict(command.header_of(made, "")) == Accepted()
    assert made.audience == SERVICES[access.service].audience


@pytest.mark.parametrize("access", accesses(["freeside.models", "finn.invoke", "dixie.query"]), ids=str)
def test_every_case_is_found_by_its_name(access: Access) -> None:
    made = genuine(access)
    derived: list[Any] = [*forgeries(made), *varieties(made), *times(0.0)]
    names = [each.name for each in derived]
    assert "the key of another issuer" in names
    assert len(set(names)) == len(names)
    for name in names[::20]:
        command.header_of(made, name)
    with pytest.raises(LookupError, match="no case"):
        command.header_of(made, "none such")


def test_command_is_written_as_it_is_read() -> None:
    words = shlex.split(mint_command("finn.invoke", "kid 'x'", BODY.encode(), jti="a b"))
    assert words[:6] == ["python", "-m", "smoke.platform", "mint", "--to", "finn.invoke"]
    assert words[words.index("--case") + 1] == "kid 'x'"
    assert words[words.index("--body") + 1] == BODY
    assert words[words.index("--claim") + 1] == f"jti={json.dumps('a b')}"


def test_claims_of_a_good_token_can_be_other(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(command, "load_environment", lambda _: FakeEnvironment())
    monkeypatch.setattr(
        command, "http_pool", lambda *_, **__: httpx.Client(transport=httpx.MockTransport(published))
    )
    arguments = ["mint", "--env", "x", "--to", "freeside.models"]
    assert command.main([*arguments, "--claim", 'tenant_id="other"']) == 0
    token = capsys.readouterr().out.strip().removeprefix("Authorization: Bearer ")
    assert jwt.decode(token, options={"verify_signature": False})["tenant_id"] == "other"
    assert command.main([*arguments, "--case", "no header"]) == 0
    assert capsys.readouterr().out.strip() == "Authorization:"
    assert command.main([*arguments, "--case", "none such"]) == 1
    assert "none such" in capsys.readouterr().err
