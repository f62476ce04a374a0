"""The value next to a secret's name is redacted, in text and in data, in every usual spelling."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from pytest_readiness.core.redaction import Redactor

VALUES = ["swordfish9", "Zm9vYmFyMTIzNDU2Nzg5", "a1b2-c3d4-e5f6", "p@ss:w0rd!"]
NAMES = [
    "access_token",
    "accessToken",
    "refresh-token",
    "id_token",
    "sessionToken",
    "token",
    "password",
    "Password",
    "DB_PASSWORD",
    "PGPASSWORD",
    "passwd",
    "userPwd",
    "passphrase",
    "secret",
    "client_secret",
    "clientSecret",
    "AWS_SECRET_ACCESS_KEY",
    "secretAccessKey",
    "api_key",
    "apiKey",
    "API-KEY",
    "x-api-key",
    "DIXIE_API_KEY",
    "private_key",
    "privateKeyPem",
    "signing_key",
    "SecretString",
    "X-Vault-Token",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "webhook_secret",
    "secret_2",
    "db.password",
]
SPELLINGS: dict[str, Callable[[str, str], str]] = {
    "json": lambda name, value: json.dumps({name: value, "n": 1}),
    "json-tight": lambda name, value: f'{{"{name}":"{value}"}}',
    "json-in-json": lambda name, value: json.dumps(json.dumps({name: value})),
    "json-list": lambda name, value: json.dumps({name: [value, value]}),
    "json-below": lambda name, value: json.dumps({name: {"user": "u", "value": [{"deep": value}]}}),
    "repr": lambda name, value: f"request({ {name: value, 'n': 1} })",
    "repr-bytes": lambda name, value: repr({name: value.encode()}),
    "keyword": lambda name, value: f"Client({name}={value!r}, n=1)",
    "assignment": lambda name, value: f'{name} = "{value}"',
    "local-variable": lambda name, value: f"{name}      = '{value}'",
    "query": lambda name, value: f"GET https://host/p?a=1&{name}={quote(value, safe='')}&b=2",
    "query-in-json": lambda name, value: json.dumps({"url": f"/p?{name}={quote(value, safe='')}"}),
    "query-escaped": lambda name, value: f"/p?next={quote(f'/x?{name}={value}', safe='')}",
    "form": lambda name, value: f"{name}={value}",
    "environment": lambda name, value: f"export {name}={value}",
    "semicolons": lambda name, value: f"Server=db;{name}={value};Port=1",
    "header-line": lambda name, value: f"{name}: {value}",
    "header-among": lambda name, value: f"Accept: */*\r\n{name}: {value}\r\nHost: x",
    "header-coloured": lambda name, value: f"\x1b[36m{name}\x1b[0m: {value}",
    "xml": lambda name, value: f"<{name}>{value}</{name}>",
    "toml": lambda name, value: f"[auth]\n{name} = '{value}'",
    "xml-attribute": lambda name, value: f'<add key="{name}" value="{value}"/>',
    "html-input": lambda name, value: f'<input type="text" name="{name}" value="{value}">',
    "hcl": lambda name, value: f'{{ name = "{name}"\n value = "{value}" }}',
    "multipart": lambda name, value: f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n--x',
    "ruby": lambda name, value: f'{{:{name} => "{value}"}}',
    "pretty-json": lambda name, value: f'{{\n  "{name}" :\n    "{value}"\n}}',
    "flag": lambda name, value: f"tool --{name}={value} run",
    "environment-of-a-task": lambda name, value: json.dumps({"name": name, "value": value}),
}
CREDENTIALS = [
    "Set-Cookie: sid=abc; Path=/; HttpOnly",
    "set-cookie: sid=abc",
    "Cookie: a=abc; theme=dark",
    "'Set-Cookie': 'sid=abc; Path=/'",
    '"cookie":"sid=abc"',
    "[(b'set-cookie', b'sid=abc')]",
    '["X-Api-Key", "abc"]',
    "Authorization: Bearer abc",
    "authorization: basic abc",
    "Authorization: DPoP abc",
    "'authorization': 'Bearer abc'",
    "proxy-authorization: Basic abc",
    "X-Api-Key: abc",
    "https://user:abc@host/path",
    "postgresql://abc@host/path",
    "?token=abc",
    "password=abc",
    "&X-Amz-Signature=abc",
    "/p?sig=abcdefghijklmn0123456789",
    "/p?key=AIzaSyabc0123456789abcdef0123456",
    "Authorization: AWS4-HMAC-SHA256 Credential=x/us-east-1, SignedHeaders=host, Signature=abcdef0123",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_named_secret_is_taken_out_of_text(spelling: str) -> None:
    for number, name in enumerate(NAMES):
        value = VALUES[number % len(VALUES)]
        cleaned = Redactor().text(SPELLINGS[spelling](name, value))
        assert value not in cleaned, cleaned
        assert quote(value, safe="") not in cleaned, cleaned
        assert Redactor().text(cleaned) == cleaned


@pytest.mark.parametrize("text", CREDENTIALS)
def test_credentials_are_taken_out_of_text(text: str) -> None:
    cleaned = Redactor().text(text)
    assert "abc" not in cleaned
    assert Redactor().text(cleaned) == cleaned


@pytest.mark.parametrize("name", [*NAMES, "cookies", "credentials", "passwords", "Set-Cookie", "mnemonic"])
@pytest.mark.parametrize(
    "nested",
    [
        lambda value: value,
        lambda value: [value],
        lambda value: (value, [value]),
        lambda value: {"current": value, "old": {"values": [value]}},
    ],
    ids=["itself", "list", "tuple", "dict"],
)
def test_data_under_the_name_of_a_secret(name: str, nested: Callable[[str], Any]) -> None:
    cleaned = Redactor().data({"outer": [{name: nested("swordfish"), "kept": "seen"}]})
    assert "swordfish" not in str(cleaned)
    assert "seen" in str(cleaned)


def test_data_below_a_secret_name_shows_what_is_not_a_secret() -> None:
    data = {"token": {"valid": True, "uses": 3, "kind": None}, "password": "", "secret": "env:API_SECRET"}
    assert Redactor().data(data) == data
    assert Redactor().data({"password": 12345678}) == {"password": "[redacted]"}


def test_a_private_jwk_in_text() -> None:
    jwk = {"kty": "EC", "crv": "P-256", "x": "public-x-0123456789abc", "d": "private-0123456789abcdef"}
    cleaned = Redactor().text(f"keys: {json.dumps([jwk])} {jwk}")
    assert "private-0123456789abcdef" not in cleaned
    assert cleaned.count("public-x-0123456789abc") == 2


@pytest.mark.parametrize(
    "form", ['"password":"{}"', "password={}&x=1", "Cookie: a={}; b={}", "X-Api-Key: {}", "<token>{}</token>"]
)
def test_a_secret_of_any_length_is_removed_completely(form: str) -> None:
    assert "a1b2" not in Redactor().text(form.replace("{}", "a1b2" * 12_000))


def test_basic_credentials_without_the_name_of_their_header() -> None:
    assert Redactor().text("sent Basic dXNlcjpwYXNz twice") == "sent Basic [redacted] twice"
    assert Redactor().text("Basic authentication is off") == "Basic authentication is off"


def test_the_names_of_secrets_stay_readable() -> None:
    cleaned = Redactor().text('{"access_token":"abc","token_type":"Bearer","expires_in":300}')
    assert json.loads(cleaned) == {
        "access_token": "[redacted]",
        "token_type": "Bearer",
        "expires_in": 300,
    }
    assert re.fullmatch(r"Authorization: Bearer \[redacted\]", Redactor().text("Authorization: Bearer abc"))


SECRET = "Zx9-qwErty7Uv2Lm4Kp"
BESIDE = {
    "header-bytes": f"[(b'Authorization', b'Bearer {SECRET}'), (b'X-Api-Key', b'{SECRET}')]",
    "header-tight": f"GET / HTTP/1.1\r\nHost: h\r\nX-API-Key:{SECRET}\r\n\r\n",
    "header-token": f"Authorization: token {SECRET}",
    "proxy": f"Proxy-Authorization: ApiKey {SECRET}",
    "cookies": f"Cookie: theme=dark; session={SECRET}; lang=en",
    "aws-4": f"Authorization: AWS4-HMAC-SHA256 Credential=x/2026, SignedHeaders=host, Signature={SECRET}",
    "sas": f"https://a.example/c?sv=2022&sig={SECRET}",
    "fragment": f"https://app.example/cb#access_token={SECRET}&expires_in=1",
    "xml-with-attribute": f"<password type='text'>{SECRET}</password>",
    "xml-in-namespace": f"<wsse:Password Type='t'>{SECRET}</wsse:Password>",
    "xml-pair": f'<add key="ApiKey" value="{SECRET}"/>',
    "yaml-block": f"api_key: >-\n  {SECRET}\nnext: 1",
    "yaml-literal": f"password: |\n    {SECRET}\n",
    "yaml-list": f"- POSTGRES_PASSWORD={SECRET}",
    "arrow": f"password -> {SECRET}",
    "arrow-quoted": f"api_key -> '{SECRET}'",
    "hash-rocket": f'{{:password=>"{SECRET}"}}',
    "go": f"{{User:bob Password:{SECRET} Host:x}}",
    "data-class": f"Credentials(user='u', secret_key='{SECRET}')",
    "sql": f"ALTER USER x WITH PASSWORD '{SECRET}'",
    "netrc": f"machine h login u password {SECRET}",
    "option": f"tool --password {SECRET} --verbose",
    "option-key": f"tool --api-key '{SECRET}' --verbose",
    "option-equals": f"tool --api-key={SECRET}",
    "powershell": f'$env:API_KEY = "{SECRET}"',
    "redis": f"redis://:{SECRET}@h:6379/0",
    "odbc": f"Server=h;Uid=u;Pwd={SECRET};",
    "multipart": f'Content-Disposition: form-data; name="password"\r\n\r\n{SECRET}\r\n--b--',
    "graphql": f'mutation {{ login(password: "{SECRET}") {{ ok }} }}',
    "logfmt": f"level=info token={SECRET} msg=ok",
    "seed": f'{{"seed_phrase": "{SECRET}"}}',
}


@pytest.mark.parametrize("text", BESIDE.values(), ids=BESIDE.keys())
def test_what_stands_beside_a_name_in_other_languages(text: str) -> None:
    cleaned = Redactor().text(text)
    assert SECRET not in cleaned
    assert Redactor().text(cleaned) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "the password 'expired' is refused",
        "give --token to the tool",
        "use --password with care",
        "password -> required",
        "the password accepted here",
    ],
)
def test_prose_beside_a_name_stays(text: str) -> None:
    assert Redactor().text(text) == text


def test_bytes_under_a_name_are_hidden() -> None:
    assert SECRET not in repr(Redactor().data({"password": SECRET.encode(), "n": b"x"}))
