"""Every way to get a profile or its schema wrong, each with its exact lines."""

import pytest
from pytest_readiness.core.errors import CORRECT, ProfileError
from pytest_readiness.profile.schema import Schema

from tests.core.build import lines
from tests.profile.test_profile import PROFILE, profile


def refusal(text: str, **environ: str) -> str:
    with pytest.raises(ProfileError) as caught:
        profile(text, **environ).check_complete()
    return str(caught.value)


URL = "an http:// or https:// URL without user info, query or fragment"
ABOVE = "add it above the first [table] of the file"
BOOLEAN = "true, 1, yes, on, false, 0, no, off"
REFERENCE = "env:NAME, file:PATH, secretsmanager:ID, or empty where it is not offered"


@pytest.mark.parametrize(
    ("text", "what", "allowed"),
    [
        ('name = "Sta/ging"\nlive = true', "name: 'Sta/ging' is not a valid environment name",
         "a-z, 0-9, '.', '_' and '-'"),
        (PROFILE + "[shp]\n", "shp: unknown section", "name, live, protected, shop, bank, auth, budget"),
        (PROFILE + "uri = 1", "shop.uri: unknown key", "url, dialect, paths"),
        (PROFILE + 'dialect = "newer"', "shop.dialect: unknown value 'newer'", "old, new"),
        (PROFILE.replace("https", "ftp"), "shop.url: 'ftp://shop.example/' is not a usable URL",
         f"{URL}; in the schema, another address is of type string, or with a password of type secret"),
        (PROFILE.replace("shop.example", "u:p@shop.example"), "shop.url: the URL carries user info", URL),
        (PROFILE.replace("shop.example/", "shop:port"), "shop.url: 'https://shop:port' is not a URL", URL),
        (PROFILE.replace('"https://shop.example/"', "3"), "shop.url: 3 is not a string", "a string"),
        (PROFILE + "[bank]\nreachable = 1", "bank.reachable: 1 is not a boolean", "true, false"),
        (PROFILE + "[budget]\ncents = -1", "budget.cents: -1 is not an integer >= 0", "an integer >= 0"),
        (PROFILE + '[auth]\nkey = "hunter2-the-secret"', "auth.key: not a reference to a secret", REFERENCE),
        (PROFILE + "shop = 3", "shop.shop: unknown key", "url, dialect, paths"),
        ('name = "x"\nlive = true\nshop = 3', "shop: 3 is not a table", "[shop]"),
    ],
)  # fmt: skip
def test_refusals(text: str, what: str, allowed: str) -> None:
    assert refusal(text) == lines(f"environments/staging.toml: {what}", allowed, CORRECT)


@pytest.mark.parametrize(
    ("text", "missing", "allowed", "action"),
    [
        ("live = true", "name", "a string", ABOVE),
        ('name = "x"', "live", "true, false", ABOVE),
        ('name = "x"\nlive = true', "shop.url", URL, "add it to [shop], or set SHOP_URL"),
    ],
)
def test_what_is_missing_is_refused_with_its_place(
    text: str, missing: str, allowed: str, action: str
) -> None:
    assert refusal(text) == lines(f"environments/staging.toml: {missing}: missing", allowed, action)


def test_text_that_is_not_toml_is_refused() -> None:
    problem = "environments/staging.toml: not valid TOML: Invalid value (at line 1, column 8)"
    next_action = "correct environments/staging.toml and run again"
    assert refusal("name = staging") == lines(problem, action=next_action)


@pytest.mark.parametrize(
    ("environ", "what", "allowed"),
    [
        ({"SHOP_DIALECT": "newer"}, "SHOP_DIALECT: shop.dialect: unknown value 'newer'", "old, new"),
        ({"BANK_REACHABLE": "perhaps"}, "BANK_REACHABLE: bank.reachable: 'perhaps' is not a boolean",
         BOOLEAN),
        ({"SHOP_CENTS": "1.5"}, "SHOP_CENTS: budget.cents: '1.5' is not an integer >= 0", "an integer >= 0"),
        ({"SHOP_PROTECTED": "maybe"}, "SHOP_PROTECTED: protected: 'maybe' is not a boolean", BOOLEAN),
    ],
)  # fmt: skip
def test_refused_variables(environ: dict[str, str], what: str, allowed: str) -> None:
    action = f"correct {what.partition(':')[0]}, or unset it to use the profile's value"
    assert refusal(PROFILE, **environ) == lines(f"environment variable {what}", allowed, action)


@pytest.mark.parametrize(
    ("text", "what", "allowed"),
    [
        ('[section.shop.url]\ntype = "uri"', "section.shop.url.type: unknown value 'uri'",
         "url, string, choice, bool, int, secret, table"),
        ('[section.shop.d]\ntype = "choice"',
         "section.shop.d.allowed: a choice, and only a choice, lists its values", "an array of strings"),
        ('[section.shop.d]\ntype = "choice"\nallowed = ["a"]\ndefault = "b"',
         "section.shop.d.default: unknown value 'b'", "a"),
        ('[section.shop.d]\ntype = "url"\nrequird = true', "section.shop.d.requird: unknown key",
         "allowed, default, derived, env, env_kind, format, required, type"),
        ('[section.name.d]\ntype = "url"', "section.name: a built-in name",
         "a section name other than name, live, protected"),
        ('[section.a.b]\ntype = "url"\n[capability.c]\nneeds = ["a.c"]',
         "capability.c.needs: unknown field 'a.c'", "a.b"),
        ('[section.a.b]\ntype = "bool"\n[capability.c]\nreachable = "a.c"',
         "capability.c.reachable: unknown value 'a.c'", "a.b"),
        ('[profile.colour]\nenv = "X"', "profile.colour: not a built-in value", "name, live, protected"),
    ],
)  # fmt: skip
def test_refused_schemas(text: str, what: str, allowed: str) -> None:
    with pytest.raises(ProfileError) as caught:
        Schema.parse(text, "s.toml")
    assert str(caught.value) == lines(f"s.toml: {what}", allowed, CORRECT)


@pytest.mark.parametrize("char", ["\\u0000", "\\n", "\\t", "\\u001b[2J", "\\u202e"])
@pytest.mark.parametrize(
    "line",
    [
        '[bank]\nurl = "http://a{}b"',
        '[auth]\nkey = "file:a{}b"',
        '[auth]\napi_key = "secretsmanager:a{}b"',
        '[auth]\ntenant = "a{}b"',
        'paths = {{ "/v1" = "/a{}b" }}',
        'paths = {{ "/a{}b" = "/v1" }}',
    ],
)
def test_a_control_character_is_refused_and_not_shown(line: str, char: str) -> None:
    message = refusal(PROFILE + line.format(char))
    assert "contains a control character" in message
    assert not {"\0", "\x1b", "\u202e"} & {*message}


@pytest.mark.parametrize("variable", ["SHOP_URL", "SHOP_KEY"])
@pytest.mark.parametrize("text", ["/a\nb", "/a\x1b[2J", "/a\udcff"])
def test_a_variable_with_a_control_character_is_refused(variable: str, text: str) -> None:
    assert "contains a control character" in refusal(PROFILE, **{variable: text})


def test_all_mistakes_of_a_schema_are_reported_at_once() -> None:
    with pytest.raises(ProfileError) as caught:
        Schema.parse(
            """
            [section.shop.url]
            type = "ulr"
            default = 3
            requird = true
            [section.shop.dialect]
            type = "choice"
            default = "x"
            [section.shop.reachable]
            type = "bool"
            default = 1
            [capability.shop]
            needs = ["shop.uri", "shop.url", "bank.url"]
            reachable = "shop.url"
            [capability.bank]
            needs = 3
            [profile.live]
            [profile.odd]
            env = "X"
            [extra]
            """,
            "s.toml",
        )
    assert [line.partition(" (")[0] for line in str(caught.value).splitlines()] == [
        "s.toml: section.shop.url.type: unknown value 'ulr'",
        "s.toml: section.shop.url.requird: unknown key",
        "s.toml: section.shop.dialect.allowed: a choice, and only a choice, lists its values",
        "s.toml: section.shop.reachable.default: 1 is not a boolean",
        "s.toml: capability.shop.needs: unknown field 'shop.uri', 'bank.url'",
        "s.toml: capability.bank.needs: 3 is not an array",
        "s.toml: profile.live.env: missing",
        "s.toml: profile.odd: not a built-in value",
        "s.toml: extra: unknown key",
        "  next: correct these 9 mistakes",
    ]


def test_all_mistakes_of_a_profile_and_its_variables_are_reported_at_once() -> None:
    message = refusal(
        PROFILE + "[bank]\nreachable = 3", SHOP_URL="ftp://x", SHOP_DIALECT="odd", BANK_REACHABLE=""
    )
    assert [line.partition(" (")[0] for line in message.splitlines()] == [
        "environments/staging.toml: bank.reachable: 3 is not a boolean",
        "environment variable SHOP_URL: shop.url: 'ftp://x' is not a usable URL",
        "environment variable SHOP_DIALECT: shop.dialect: unknown value 'odd'",
        "environment variable BANK_REACHABLE: bank.reachable: empty",
        "  next: correct these 4 mistakes",
    ]


@pytest.mark.parametrize(
    "variable", ["SHOP_URL", "SHOP_PROTECTED", "SHOP_KEY", "SHOP_API_KEY", "SHOP_DIALECT"]
)
@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_a_variable_that_is_set_and_empty_is_refused(variable: str, text: str) -> None:
    message = refusal(PROFILE, **{variable: text})
    assert message.startswith(f"environment variable {variable}: ")
    action = f"correct {variable}, or unset it to use the profile's value"
    assert message.endswith(f"empty\n  allowed: a value\n  next: {action}")
