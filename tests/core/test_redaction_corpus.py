"""No placement of a secret survives redaction, and no artifact that holds one passes the last scan."""

from __future__ import annotations

import pytest
from pytest_readiness.core.redaction import Redactor

from tests.core.secret_corpus import ENCODED, PREFIXES, REGISTERED, SHAPED, WRITTEN, is_visible

#: In a cut of these, nothing that is secret is left: the header of a token, a fifth of a key.
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
def test_no_placement_survives(redactor: Redactor, way: str) -> None:
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
