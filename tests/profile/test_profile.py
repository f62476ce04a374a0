"""Environment profiles: values and where they come from, secrets, capabilities."""

from pathlib import Path
from typing import Any

import pytest
from pytest_readiness.core.errors import ProfileError
from pytest_readiness.profile.profile import Offer, Profile, SecretRef
from pytest_readiness.profile.schema import Schema

SCHEMA = """
[section.shop.url]
type = "url"
required = true
env = "SHOP_URL"
[section.shop.dialect]
type = "choice"
allowed = ["old", "new"]
default = "new"
env = "SHOP_DIALECT"
[section.bank.url]
type = "url"
[section.bank.reachable]
type = "bool"
env = "BANK_REACHABLE"
[section.auth.key]
type = "secret"
format = "p256-pem"
env = "SHOP_KEY"
env_kind = "file"
[section.auth.api_key]
type = "secret"
env = "SHOP_API_KEY"
[section.auth.tenant]
type = "string"
default = "t-1"
[section.budget.cents]
type = "int"
default = 200
env = "SHOP_CENTS"
[section.shop.paths]
type = "table"
[profile.protected]
env = "SHOP_PROTECTED"
[capability.key]
needs = ["auth.key"]
[capability.bank]
needs = ["bank.url"]
reachable = "bank.reachable"
[capability.drill]
option = "drills"
"""
PROFILE = 'name = "staging"\nlive = true\n[shop]\nurl = "https://shop.example/"\n'


def schema() -> Schema:
    return Schema.parse(SCHEMA, "environments/schema.toml")


def profile(text: str = PROFILE, **environ: str) -> Profile:
    return Profile.parse(text, "environments/staging.toml", schema(), environ)


def test_addresses_are_of_the_platform_and_hold_no_path() -> None:
    made = profile(PROFILE + '[bank]\nurl = "https://bank.example:8443/v2/an-api-key"\n')
    assert made.addresses == {"shop.url": "https://shop.example", "bank.url": "https://bank.example:8443"}
    assert profile().addresses == {"shop.url": "https://shop.example"}


def test_the_setting_that_names_a_host_is_found_by_host_and_port() -> None:
    made = profile(PROFILE + '[bank]\nurl = "https://bank.example:8443/v2"\n')
    asked = [("shop.example", 443), ("shop.example", None), ("bank.example", 8443), ("bank.example", 443)]
    assert [made.setting_of(*each) for each in asked] == ["shop.url", "shop.url", "bank.url", ""]


def test_the_setting_that_names_a_host_may_be_a_string() -> None:
    kinds = {"cache.host": "string", "cache.port": "int", "queue.host": "string", "store.at": "string"}
    more = "".join(f'[section.{key}]\ntype = "{kind}"\n' for key, kind in kinds.items())
    made = Profile.parse(
        f'{PROFILE}[cache]\nhost = "db.example"\nport = 6379\n[queue]\nhost = "db.example"\n'
        '[store]\nat = "redis://store.example:7000/0"\n',
        "environments/staging.toml",
        Schema.parse(f"{SCHEMA}{more}", "environments/schema.toml"),
        {},
    )
    asked = {
        ("db.example", 6379): "cache.host",
        ("db.example", 5432): "",
        ("store.example", 7000): "store.at",
    }
    assert {each: made.setting_of(*each) for each in asked} == asked


def test_values_by_name_and_by_attribute() -> None:
    made = profile()
    assert (made.name, made.live, made.protected) == ("staging", True, False)
    assert made.get("shop.url") == made.shop.url == "https://shop.example"
    assert made.shop.dialect == "new"
    assert made.budget.cents == 200
    assert made.bank.reachable is False


def test_what_is_not_there_is_an_attribute_error_that_says_what_is() -> None:
    made = profile()
    with pytest.raises(AttributeError, match=r"the profile has no shop\.uri; it has url, dialect"):
        _ = made.shop.uri
    with pytest.raises(AttributeError, match="no section 'shopp'"):
        _ = made.shopp
    with pytest.raises(ProfileError, match=r"shop\.uri: unknown field; the schema has shop\.url") as caught:
        made.get("shop.uri")
    assert caught.value.failure_class == "CHECK_ERROR"


def test_a_profile_cannot_be_changed() -> None:
    made: Any = profile()
    with pytest.raises(AttributeError):
        made.live = False
    with pytest.raises(TypeError):
        made.values["shop.url"] = "x"


def test_variables_win_over_the_file() -> None:
    made = profile(
        SHOP_URL="http://127.0.0.1:1",
        SHOP_DIALECT="old",
        BANK_REACHABLE="yes",
        SHOP_CENTS="3",
        SHOP_PROTECTED="1",
        SHOP_KEY="/keys/k.pem",
        SHOP_API_KEY="the secret itself",
        OTHER="ignored",
    )
    assert (made.shop.url, made.shop.dialect, made.bank.reachable) == ("http://127.0.0.1:1", "old", True)
    assert (made.budget.cents, made.protected) == (3, True)
    assert made.secret_ref("auth.key") == SecretRef("file", "/keys/k.pem")
    assert made.secret_ref("auth.api_key") == SecretRef("env", "SHOP_API_KEY")
    assert "the secret itself" not in repr(made)


def test_an_overlay_is_validated_and_variables_win_over_it() -> None:
    made = profile(SHOP_DIALECT="old").overlaid(
        {"name": "local", "live": False, "shop": {"url": "http://127.0.0.1:9", "dialect": "new"}}, "the stack"
    )
    assert (made.name, made.live) == ("local", False)
    assert (made.shop.url, made.shop.dialect) == ("http://127.0.0.1:9", "old")
    assert made.where("shop.url") == "the stack: shop.url"
    assert made.where("shop.dialect") == "environment variable SHOP_DIALECT: shop.dialect"
    assert made.where("auth.tenant") == "environments/staging.toml: auth.tenant"
    with pytest.raises(ProfileError, match=r"the stack: shop\.uri: unknown key"):
        made.overlaid({"shop": {"uri": "x"}}, "the stack")


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("env:NAME", "env", "NAME"),
        ("file:/a:b", "file", "/a:b"),
        ("secretsmanager:p/key", "secretsmanager", "p/key"),
    ],
)
def test_secret_references(text: str, kind: str, name: str) -> None:
    made = profile(PROFILE + f'[auth]\nkey = "{text}"')
    assert made.secret_ref("auth.key") == SecretRef(kind, name)
    assert str(made.secret_ref("auth.key")) == text


def test_a_secret_that_is_not_offered_has_no_reference() -> None:
    assert profile().secret_ref("auth.key") is None
    with pytest.raises(ProfileError, match=r"auth\.tenant: not a secret"):
        profile().secret_ref("auth.tenant")


@pytest.mark.parametrize(
    ("extra", "name", "status", "reason"),
    [
        ("", "key", Offer.ABSENT, "environments/staging.toml: auth.key is not set, nor is SHOP_KEY"),
        ('[auth]\nkey = "env:K"', "key", Offer.UNKNOWN_SECRET, ""),
        ("", "bank", Offer.ABSENT, "environments/staging.toml: bank.reachable is false"),
        ("[bank]\nreachable = true", "bank", Offer.ABSENT, "environments/staging.toml: bank.url is not set"),
        ('[bank]\nreachable = true\nurl = "http://b"', "bank", Offer.OFFERED, ""),
        ("", "drill", Offer.OFFERED, ""),
    ],
)
def test_capabilities(extra: str, name: str, status: Offer, reason: str) -> None:
    found = profile(PROFILE + extra).capability(name)
    assert (found.status, found.reason) == (status, reason)


def test_a_capability_names_the_secrets_and_the_option_that_it_needs() -> None:
    assert profile(PROFILE + '[auth]\nkey = "env:K"').capability("key").secrets == ("auth.key",)
    assert profile().capability("drill").option == "drills"


def test_a_protected_environment_offers_no_drill() -> None:
    found = profile("protected = true\n" + PROFILE).capability("drill")
    assert (found.status, found.reason) == (Offer.ABSENT, "environments/staging.toml: protected is true")


def test_an_unknown_capability_is_refused() -> None:
    with pytest.raises(ProfileError) as caught:
        profile().capability("kee")
    assert str(caught.value) == (
        "environments/schema.toml: unknown capability 'kee'\n  allowed: key, bank, drill"
    )


def test_the_projects_own_profiles_are_well_formed() -> None:
    folder = Path(__file__).parents[2] / "environments"
    own = Schema.parse((folder / "schema.toml").read_text(encoding="utf-8"), "environments/schema.toml")
    for name, is_live in (("local", False), ("staging", True)):
        made = Profile.parse((folder / f"{name}.toml").read_text(encoding="utf-8"), name, own, {})
        assert (made.name, made.live) == (name, is_live)
    made.check_complete()


def test_a_table_of_strings() -> None:
    assert profile().get("shop.paths") == {}
    found = profile(PROFILE + '[shop.paths]\n"/a" = "/b"\n')
    assert found.shop.paths == {"/a": "/b"}
    for wrong in ("paths = 1", "paths = { a = 1 }", 'paths = { a = "" }'):
        with pytest.raises(ProfileError, match="not a table of strings"):
            profile(PROFILE + wrong)
    with pytest.raises(ProfileError, match="a variable cannot hold a table"):
        Schema.parse('[section.a.b]\ntype = "table"\nenv = "X"', "s.toml")


DERIVED = SCHEMA.replace(
    '[section.bank.url]\ntype = "url"\n',
    '[section.bank.url]\ntype = "url"\nderived = "http://{shop.url}"\n'
    '[section.bank.secure_url]\ntype = "url"\nderived = "https://{shop.url}"\n'
    '[section.bank.key]\ntype = "secret"\nderived = "secretsmanager:{auth.tenant}/key"\n',
)


def derived(text: str = PROFILE, **environ: str) -> Profile:
    return Profile.parse(text, "environments/staging.toml", Schema.parse(DERIVED, "schema.toml"), environ)


def test_what_follows_from_other_values_need_not_be_given() -> None:
    made = derived()
    assert (made.bank.url, made.bank.secure_url) == ("http://shop.example", "https://shop.example")
    assert (made.bank.key, made.where("bank.key")) == (
        "secretsmanager:t-1/key",
        "derived from auth.tenant: bank.key",
    )
    later = derived(SHOP_URL="https://b.example")
    assert later.bank.url == "http://b.example"
    assert later.overlaid({"auth": {"tenant": "t-2"}}, "hook").bank.key == "secretsmanager:t-2/key"


@pytest.mark.parametrize(
    ("url", "plain", "secure"),
    [
        ("http://shop.example", "", ""),
        ("https://shop.example:8443", "", "https://shop.example:8443"),
        ("https://shop.example/a", "http://shop.example/a", "https://shop.example/a"),
    ],
)
def test_an_address_is_derived_from_an_https_url(url: str, plain: str, secure: str) -> None:
    made = derived(SHOP_URL=url)
    assert (made.bank.url, made.bank.secure_url) == (plain, secure)


def test_what_is_given_is_not_derived_even_if_it_is_empty() -> None:
    made = derived(PROFILE + '[bank]\nkey = ""\nurl = "http://other.example"\n')
    assert (made.bank.key, made.bank.url) == ("", "http://other.example")
    assert derived(PROFILE + '[auth]\ntenant = ""\n').bank.key == ""
    assert derived().overlaid({"bank": {"key": ""}}, "hook").bank.key == ""


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("{auth.tenant}/key", "{auth.tenent}/key", "'auth.tenent': not a field that a profile sets"),
        ("{auth.tenant}/key", "{bank.url}/key", "'bank.url': not a field that a profile sets"),
        ('type = "int"', 'type = "int"\nderived = "{shop.url}"', "a value of type int is not derived"),
    ],
)
def test_a_derivation_that_cannot_be_made_is_refused(old: str, new: str, what: str) -> None:
    with pytest.raises(ProfileError, match=what):
        Schema.parse(DERIVED.replace(old, new), "schema.toml")
