"""No placement of a secret survives redaction, and no artifact that holds one passes the last scan."""

from __future__ import annotations

import pytest
from pytest_readiness.core.redaction import Redactor
from pytest_readiness.core.redaction.names import Kind

from tests.core.secret_corpus import ENCODED, PREFIXES, REGISTERED, SHAPED, WRITTEN, is_visible

#: A cut of these leaves nothing secret: the header of a token, a fifth of a key.
_OTHER_CASE = {"upper-case": str.upper, "lower-case": str.lower}
_HARMLESS_CUTS = {"cut-42", "cut-80"}


#: way -> its placements: the secret's name, the secret, the text that holds it.
PLACEMENTS = {
    way: [(name, secret, write(secret)) for name, secret in known.items()]
    for ways, secrets in ((WRITTEN, REGISTERED | SHAPED), (ENCODED, REGISTERED))
    for way, write in ways.items()
    for known in (REGISTERED if way in _HARMLESS_CUTS else secrets,)
}


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor(REGISTERED.values(), PREFIXES)


def test_the_corpus_is_as_large_as_promised() -> None:
    assert sum(map(len, PLACEMENTS.values())) >= 600


@pytest.mark.parametrize("way", PLACEMENTS)
def test_no_placement_of_a_secret_survives_redaction(redactor: Redactor, way: str) -> None:
    for name, secret, text in PLACEMENTS[way]:
        if way in _OTHER_CASE:
            secret = _OTHER_CASE[way](secret)
        assert is_visible(text, secret) or "..." in text, f"{name}: the oracle is blind"
        cleaned = redactor.text(text)
        assert not is_visible(cleaned, secret), f"{name}: {text}\n-> {cleaned}"
        assert redactor.text(cleaned) == cleaned, name


FILES = {
    **{way: WRITTEN[way] for way in ("alone", "json", "json-in-json", "html", "html-of-json", "xml", "url")},
    **{way: WRITTEN[way] for way in ("xml-colour", "percent-each", "url-strict", "after-letter-n-escape")},
    **{way: ENCODED[way] for way in ("base64", "base64-after-1", "base64-in-url", "hex", "hex-upper")},
}


@pytest.mark.parametrize("way", FILES)
def test_the_last_scan_names_a_registered_secret(way: str) -> None:
    for name, secret in REGISTERED.items():
        redactor = Redactor()
        redactor.add(secret, f"shop.{name}")
        assert redactor.leaks(f"{'x' * 50} {FILES[way](secret)} y".encode()) == [f"shop.{name}"]


@pytest.mark.parametrize("way", [way for way in FILES if way in WRITTEN])
def test_the_last_scan_names_a_shape(redactor: Redactor, way: str) -> None:
    for name, secret in SHAPED.items():
        text = FILES[way](secret)
        assert redactor.leaks(text.encode()), f"{name} is not found"
        assert redactor.leaks(redactor.text(text).encode()) == [], name


@pytest.mark.parametrize("way", PLACEMENTS)
def test_a_text_that_is_not_searched_holds_nothing(redactor: Redactor, way: str) -> None:
    for name, _, text in PLACEMENTS[way]:
        assert not redactor._found(text) or not redactor._is_innocent(text), f"{name}: {text}"
        if redactor._data([{"text": text}], Kind.NONE) != [{"text": text}]:
            assert not redactor._is_innocent_data([{"text": text}]), f"{name}: {text}"


@pytest.mark.parametrize(
    "name", ["pass_word", "Pass-Word", "to.ken", "d", "x-API-key", "seed_phrase", "Api Key"]
)
def test_a_name_marks_a_secret_however_it_is_punctuated(redactor: Redactor, name: str) -> None:
    member = {"kty": "EC", name: "S3krit9Value8Of7Six6"}
    assert redactor.data([member]) != [member]


@pytest.mark.parametrize("before", [2**20 - 9, 2**20 + 2**17 - 9, 2**20 + 2**18 - 9, 2**21 + 2**18])
@pytest.mark.parametrize("filling", [b"word ", b"-"], ids=["words", "one-word"])
def test_a_secret_in_a_large_file_is_found_wherever_it_stands(before: int, filling: bytes) -> None:
    redactor, key = Redactor(["a-secret-of-this-run"]), SHAPED["pem-rsa"].encode()
    padding = filling * 2**22
    for secret, name in ((b"a-secret-of-this-run", "secret-1"), (key, "private key")):
        assert redactor.leaks(padding[:before] + secret + padding[: 2**21]) == [name]
    assert redactor.leaks(padding) == []
