"""The pattern language: two wildcards, all else literal."""

import pytest
from pytest_readiness.core.formats import matches, matching


@pytest.mark.parametrize(
    ("pattern", "text", "matched"),
    [
        ("auth/refused[expired]", "auth/refused[expired]", True),
        ("auth/refused[expired]", "auth/refusede", False),
        ("auth/refused[*]", "auth/refused[none]", True),
        ("auth/refused[*]", "auth/refused", False),
        ("G-?", "G-4", True),
        ("G-?", "G-10", False),
        ("auth.*", "auth/x", False),
        ("auth", "auth/x", False),
        ("*", "two\nlines", True),
    ],
)
def test_matches(pattern: str, text: str, matched: bool) -> None:
    assert matches(pattern, text) is matched


def test_matching_keeps_the_order_of_the_ids() -> None:
    ids = ["auth/refused[expired]", "jwks/keys", "auth/refused[none]"]
    assert matching(["auth/refused[none]", "auth/*"], ids) == [ids[0], ids[2]]
    assert matching([], ids) == []
