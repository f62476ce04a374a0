"""Redaction: known shapes, live values in every form, and no part of a registered value survives."""

import base64
import html
import json
import re
import time
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from pytest_readiness.core.redaction import LONGEST, MARK, Redactor
from pytest_readiness.core.redaction.names import is_secret_name

PEM = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
)
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl-_"
HEX = "0x" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"token {JWT}.", "token [redacted jwt]."),
        ("unsigned eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "unsigned [redacted jwt]"),
        (f"a\n{PEM}b", "a\n[redacted private key]\nb"),
        (json.dumps({"pem": PEM}), '{"pem": "[redacted private key]\\n"}'),
        (PEM[:90], "[redacted private key]"),
        ("id AKIAIOSFODNN7EXAMPLE x", "id [redacted aws key id] x"),
        (
            "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            f"aws_secret_access_key = {MARK}",
        ),
        ('"SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPx"', f'"SecretAccessKey": "{MARK}"'),
        (f"wallet {HEX}", "wallet [redacted 32-byte hex]"),
        ("Authorization: Bearer abc.def-123", f"Authorization: Bearer {MARK}"),
        ("authorization: basic dXNlcjpwYXNz", f"authorization: basic {MARK}"),
        ("postgresql://finn:pw@db:5432/x", f"postgresql://{MARK}@db:5432/x"),
        (
            'Authorization: Digest username="u", nonce="n", response="6629fae49393a05397450978507c4ef1"',
            f'Authorization: Digest {MARK}"u", nonce="n", response="{MARK}"',
        ),
        ("CREATE USER u IDENTIFIED BY 'pa55'", f"CREATE USER u IDENTIFIED BY '{MARK}'"),
        ('alter user u identified with sha2 by "pa55";', f'alter user u identified with sha2 by "{MARK}";'),
        ("curl -s https://api/x -u admin:pa55", f"curl -s https://api/x -u admin:{MARK}"),
        ("curl --user=admin:pa55 https://api", f"curl --user=admin:{MARK} https://api"),
        ("run: ['curl', '-u', 'admin:pa55']", f"run: ['curl', '-u', 'admin:{MARK}']"),
        ("wget -U x --proxy-user u:pa55 h", f"wget -U x --proxy-user u:{MARK} h"),
        ("db.internal:5432:shop:admin:pa55", f"db.internal:5432:shop:admin:{MARK}"),
        ("a\n*:*:*:admin:pa:55\nb", f"a\n*:*:*:admin:{MARK}\nb"),
        ('{"auths": {"r": {"auth": "dXNlcjpwYXNz"}}}', f'{{"auths": {{"r": {{"auth": "{MARK}"}}}}}}'),
        ("//r/:_auth=dXNlcjpwYXNz", f"//r/:_auth={MARK}"),
        ("push with ghp_" + "aB3" * 12, "push with [redacted api key]"),
        ("xoxb-" + "1234567890-abc", "[redacted api key]"),
        ("key sk_live_" + "a1" * 12, "key [redacted api key]"),
        (
            "https://hooks.slack.com/services/" + "T0/B0/abcdefghijkl",
            f"https://hooks.slack.com/services/{MARK}",
        ),
    ],
    ids=range(27),  # ids made from the texts would contain a key that differs in each process
)
def test_known_shapes(text: str, expected: str) -> None:
    assert Redactor().text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        'WWW-Authenticate: Bearer realm="api"',
        "a bearer token was refused",
        "mail someone@example.org",
        "http://example.org:8080/a@b",
        "sha256 " + "ab" * 32,
        "commit " + "0123456789abcdef" * 2,
        "0x1234",
        "docker run -u app:app image; id -u user:group",
        "curl -u 1000:1000 x",
        "curl -u $USER:$PASSWORD https://api",
        "curl -u admin: https://api",
        '{"auth": "required"}',
        "identified by its address",
        "a.py:10:5:E501:line-too-long",
        'Digest realm="api", nonce="n"',
        "sk-learn and sk_live are names, risk-aware-of-many-things too",
        "",
    ],
)
def test_what_is_not_a_secret_stays(text: str) -> None:
    assert Redactor().text(text) == text


SECRET = 's3cr"t/<va>lue+&='


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        json.dumps(SECRET),
        html.escape(SECRET),
        html.escape(SECRET, quote=False),
        html.escape(json.dumps(SECRET)),
        html.escape(json.dumps(SECRET)).replace("&quot;", "&#34;"),
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        base64.b64encode(f"user:{SECRET}".encode()).decode(),
        base64.b64encode(f"u:{SECRET}!".encode()).decode(),
        base64.b64encode(f"us:{SECRET}".encode()).decode(),
    ],
)
def test_a_live_value_is_found_in_every_form(shown: str) -> None:
    redactor = Redactor()
    redactor.add(SECRET, "shop.password")
    assert redactor.leaks(f"x {shown} y".encode()) == ["shop.password"]
    cleaned = redactor.text(f"x {shown} y")
    assert MARK in cleaned
    assert redactor.leaks(cleaned.encode()) == []


def test_a_single_line_of_a_private_key_is_recognised() -> None:
    redactor = Redactor([PEM])
    line = PEM.splitlines()[1]
    assert "secret-1" in redactor.leaks(f"E   {line}".encode())
    assert redactor.text(f"E   {line}") == "E   [redacted private key]"


@pytest.mark.parametrize("dsn", ["postgresql://finn:pass%20word@db/x", "host=db password=pass%20word"])
def test_the_password_of_a_connection_string_is_a_separate_secret(dsn: str) -> None:
    redactor = Redactor([dsn])
    assert redactor.leaks(b"login finn pass%20word") == ["secret-1"]
    assert redactor.text("login finn pass%20word") == f"login finn {MARK}"


@pytest.mark.parametrize(
    "text",
    [
        *("ab+" * 60_000, "a://" * 50_000, "eyJ" + "a" * 200_000, "bearer " * 30_000, "eyJ-" * 9_000),
        *(
            "token=" * 40_000,
            "token: " * 15_000,
            "token=a," * 30_000,
            "token=x(" * 30_000,
            "bearer:" * 30_000,
        ),
        *('"password":{' * 20_000, "password=(" * 8_000, 'secret="' * 30_000, "token>" * 40_000),
        *("-----BEGIN PRIVATE KEY-----\n" * 8_000, "-----END PRIVATE KEY-----\n" * 8_000, "MA" * 100_000),
        *("Cookie: a=b" * 20_000, "%41" * 60_000, "\\u0041" * 40_000, "&amp;" * 40_000, "a\n" * 100_000),
        *("..." * 60_000, "LS0tLS1CRUdJTi" * 15_000, "0x" * 100_000, "AKIA" * 50_000, "key: a " * 30_000),
    ],
    ids=lambda text: str(text[:12]).replace("\n", "-"),
)
def test_long_texts_take_no_time(text: str) -> None:
    redactor = Redactor([SECRET, "v3ry-l0ng-" * 40], ["acme_"])
    before = time.process_time()
    redactor.text(text)
    assert time.process_time() - before < 2


@pytest.mark.parametrize(
    "text",
    [
        "x" * 5_000_000,
        "\\" * 5_000_000,
        "%41" * 1_700_000,
        '{"a": 1, "token": 2}\n' * 250_000,
        "a\n" * 2_500_000,
    ],
    ids=["one line", "backslashes", "escapes", "json", "lines"],
)
def test_of_an_endless_text_the_beginning_is_shown(text: str) -> None:
    redactor = Redactor([SECRET, "v3ry-l0ng-" * 40], ["acme_"])
    before = time.process_time()
    shown = redactor.shown(text)
    assert time.process_time() - before < 4  # a quarter of it on an idle machine
    assert shown.startswith(text[:2])
    assert re.search(r"\n… [45],\d{3},\d{3} more characters are left out\n$", shown)
    assert len(shown) < LONGEST
    assert redactor.shown(shown) == shown


@pytest.mark.parametrize("break_", ["", "\n"], ids=["one line", "lines"])
@pytest.mark.parametrize("spelled", ["{}", "token={}", '"password": "{}"', "\\u0041{}", "{}{}"])
def test_no_part_of_a_secret_is_shown_where_a_text_is_cut(break_: str, spelled: str) -> None:
    value = "".join(f"{n:04x}" for n in range(0x8000, 0x8040))
    redactor = Redactor([value])
    said = spelled.format(value, value)
    for at in range(2**17 - len(said) - 2, 2**17 + 2, 23):
        text = "z" * (at - 5) + break_ + " " + said + " " + "z" * LONGEST
        shown = redactor.text(text)
        assert not any(value[n : n + 6] in shown for n in range(len(value) - 5)), at


def test_no_line_of_a_private_key_is_shown_where_a_text_is_cut() -> None:
    body = [f"{n:064x}" for n in range(0xABCDEF, 0xABCDEF + 50)]
    key = "\n".join(["-----BEGIN RSA PRIVATE KEY-----", *body, "-----END RSA PRIVATE KEY-----"])
    for at in range(2**17 - len(key) - 2, 2**17 + 2, 301):
        shown = Redactor().text("log line\n" * (at // 9) + key + "\n" + "z" * LONGEST)
        assert not any(line in shown for line in body), at


def test_short_values_are_not_registered() -> None:
    redactor = Redactor(["test", "  a  ", ""])
    assert redactor.text("a test") == "a test"
    assert redactor.leaks(b"a test") == []


@pytest.mark.parametrize("word", ["BROKEN", "passed", "NO_VERDICT", "PLATFORM_BUG", "DEGRADED"])
def test_words_of_the_report_are_no_secrets(word: str) -> None:
    assert Redactor([word]).data({"verdict": word}) == {"verdict": word}


def test_data_is_redacted_by_content_and_by_key() -> None:
    data = {
        "headers": {"Authorization": "Bearer abc", "Cookie": "a=b", "x-api-key": "k", "accept": "*/*"},
        "jwk": {"kty": "EC", "x": "public", "d": "private"},
        "vector": {"d": "distance"},
        "list": [f"token {JWT}", 3, None, ("a", "b")],
        "password": "",
        f"key {HEX}": 1,
    }
    assert Redactor().data(data) == {
        "headers": {"Authorization": f"Bearer {MARK}", "Cookie": MARK, "x-api-key": MARK, "accept": "*/*"},
        "jwk": {"kty": "EC", "x": "public", "d": MARK},
        "vector": {"d": "distance"},
        "list": ["token [redacted jwt]", 3, None, ["a", "b"]],
        "password": "",
        "key [redacted 32-byte hex]": 1,
    }


secrets = st.text(st.characters(codec="utf-8", exclude_characters="[]"), min_size=8, max_size=40).filter(
    lambda text: len(text.strip()) >= 8
)


@given(st.lists(secrets, min_size=1, max_size=4), st.lists(st.text(max_size=10), max_size=4))
def test_no_part_of_a_registered_value_survives_redaction(values: list[str], around: list[str]) -> None:
    redactor = Redactor(values)
    text = "".join(part for pair in zip([*around, "", "", "", ""], values, strict=False) for part in pair)
    cleaned = redactor.text(text)
    assert redactor.leaks(cleaned.encode(errors="replace")) == []


@given(st.lists(secrets, max_size=3), st.text(max_size=60))
def test_redacting_twice_changes_nothing_more(values: list[str], text: str) -> None:
    redactor = Redactor(values)
    assert redactor.text(redactor.text(text)) == redactor.text(text)


PRINTABLE = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=10)
INNOCENT_NAMES = PRINTABLE.filter(lambda name: not is_secret_name(name))


@given(
    st.recursive(
        st.none() | st.integers() | PRINTABLE,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(INNOCENT_NAMES, inner, max_size=3),
        max_leaves=8,
    )
)
def test_data_without_secrets_is_unchanged(data: Any) -> None:
    assert Redactor().data(data) == data


def test_a_text_found_clean_is_looked_at_again_when_a_secret_is_added() -> None:
    redactor = Redactor()
    assert redactor.text("the word is hunter22") == "the word is hunter22"
    redactor.add("hunter22")
    assert redactor.text("the word is hunter22") == "the word is [redacted]"


def test_keys_of_the_platform_are_known_by_the_prefixes_that_the_plan_names() -> None:
    redactor = Redactor(prefixes=["dxk_", "sk+"])
    assert redactor.text("key dxk_live_0123456789, sk+abcdef") == "key [redacted api key], [redacted api key]"
    assert Redactor().text("key dxk_live_0123456789") == "key dxk_live_0123456789"
