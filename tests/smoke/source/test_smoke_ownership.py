"""The rule of independent definitions: what is lacking, what is shared, what serves several."""

import pytest

from smoke.source.ownership import LOGS, NETWORK, OWN, REQUIRED, SECRET, Ownership, Use

GROUPS = Ownership(
    {"freeside": ["api", "worker", "freeside-migration"], "finn": ["finn"], "dixie": ["dixie"]}
)


def uses(owner: str, **changed: str) -> list[Use]:
    """Everything of a kind, and a secret, for one owner alone; `changed` by kind, with `_` for a blank."""
    things = {kind: f"{kind} of {owner}" for kind in OWN} | {SECRET: f"p/{GROUPS.of(owner)}/key"}
    things |= {kind.replace("_", " "): identity for kind, identity in changed.items()}
    return [Use(kind, identity, owner, identity) for kind, identity in things.items() if identity]


def told(uses: list[Use], *kinds: str) -> dict[str, list[str]]:
    return {group: [each.what for each in found] for group, found in GROUPS.shared(uses, kinds).items()}


def test_what_has_everything_for_itself_lacks_and_shares_nothing() -> None:
    found = [*uses("api"), *uses("finn"), *uses("dixie")]
    assert GROUPS.shared(found, [*OWN, SECRET]) == {}
    required = dict.fromkeys(("api", "finn", "dixie"), REQUIRED)
    assert [GROUPS.lacks(group, found, required) for group in GROUPS.groups] == [[], [], []]


@pytest.mark.parametrize("kind", OWN)
def test_a_shared_thing_concerns_both(kind: str) -> None:
    found = [*uses("finn", **{kind.replace(" ", "_"): "x"}), *uses("dixie", **{kind.replace(" ", "_"): "x"})]
    what = [f"dixie and finn share the {kind} x"]
    assert told(found, *OWN) == {"finn": what, "dixie": what}


def test_members_of_one_definition_may_share() -> None:
    together = [*uses("api", log_group="/x"), *uses("worker", log_group="/x")]
    assert told(together, LOGS) == {}
    assert set(Ownership({}).shared(together, [LOGS])) == {"api", "worker"}
    outsider = [*uses("finn", log_group="/x"), *uses("pgbouncer", log_group="/x")]
    assert set(told(outsider, LOGS)) == {"finn", "pgbouncer"}


def test_a_secret_belongs_to_the_group_in_its_path_even_if_that_one_does_not_use_it() -> None:
    what = ["finn uses the secret p/freeside/key of freeside"]
    assert told(uses("finn", secret="p/freeside/key"), SECRET) == {"finn": what, "freeside": what}


def test_a_secret_of_no_single_group() -> None:
    both = [*uses("finn", secret="p/redis"), *uses("dixie", secret="p/redis")]
    assert told(both, SECRET) == {}
    assert [each.what for each in GROUPS.communal(both)] == ["the secret p/redis serves dixie and finn"]
    assert GROUPS.communal(uses("finn", secret="p/redis")) == []


def test_what_is_lacking_is_named() -> None:
    bare = uses("finn", log_group="", security_group="", secret="")
    required = {"finn": REQUIRED}
    assert GROUPS.lacks("finn", bare, required) == [
        f"finn has no {NETWORK}",
        f"finn has no {LOGS}",
        "finn has no secret of its own",
    ]
    assert "finn of finn is not defined" in GROUPS.lacks("finn", [], required)
    assert GROUPS.lacks("freeside", uses("api"), {}) == []
