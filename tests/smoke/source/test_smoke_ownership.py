"""The rule of independent definitions: missing, shared, and serving several services."""

import pytest

from smoke.source.rules import LOGS, NETWORK, OWN, REQUIRED, SECRET, Ownership, Use, elsewhere

GROUPS = Ownership(
    {"freeside": ["api", "worker", "freeside-migration"], "finn": ["finn"], "dixie": ["dixie"]}
)


def uses(owner: str, **changed: str) -> list[Use]:
    """Everything of a kind, and a secret, for one owner alone; `changed` by kind, with `_` for a blank."""
    things = {kind: f"{kind} of {owner}" for kind in OWN} | {SECRET: f"p/{GROUPS.of(owner)}/key"}
    things |= {kind.replace("_", " "): identity for kind, identity in changed.items()}
    return [Use(kind, identity, owner, identity) for kind, identity in things.items() if identity]


def reported(uses: list[Use], *kinds: str) -> dict[str, list[str]]:
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
    assert reported(found, *OWN) == {"finn": what, "dixie": what}


def test_members_of_one_definition_may_share() -> None:
    together = [*uses("api", log_group="/x"), *uses("worker", log_group="/x")]
    assert reported(together, LOGS) == {}
    assert set(Ownership({}).shared(together, [LOGS])) == {"api", "worker"}
    outsider = [*uses("finn", log_group="/x"), *uses("pgbouncer", log_group="/x")]
    assert set(reported(outsider, LOGS)) == {"finn", "pgbouncer"}


def test_a_secret_belongs_to_the_group_in_its_path_even_if_that_one_does_not_use_it() -> None:
    what = ["finn uses the secret p/freeside/key of freeside"]
    assert reported(uses("finn", secret="p/freeside/key"), SECRET) == {"finn": what, "freeside": what}


def test_a_secret_of_no_single_group() -> None:
    both = [*uses("finn", secret="p/redis"), *uses("dixie", secret="p/redis")]
    assert reported(both, SECRET) == {}
    assert [each.what for each in GROUPS.communal(both)] == ["the secret p/redis serves dixie and finn"]
    assert GROUPS.communal(uses("finn", secret="p/redis")) == []


def test_one_thing_is_one_finding_with_all_places() -> None:
    found = [
        Use(SECRET, "p/finn/key", "dixie", "p/finn/key", "uses", "a.tf", 3),
        Use(SECRET, "p/finn/key", "dixie", "p/finn/key", "may read", "b.tf", 9),
        Use(SECRET, "p/finn/key", "api", "p/finn/key", "may read", "c.tf", 1),
        Use(SECRET, "p/finn/key", "finn", "p/finn/key", "uses", "d.tf", 1),
    ]
    (finding,) = GROUPS.shared(found, [SECRET])["finn"]
    assert str(finding) == (
        "a.tf:3: api may read and dixie uses the secret p/finn/key of finn (also b.tf:9, c.tf:1)"
    )


def test_a_one_shot_task_belongs_to_a_service_of_its_group() -> None:
    services = {"api", "worker", "finn"}

    def crowded(*owners: str) -> bool:
        found = [use for owner in owners for use in uses(owner, log_group="/x")]
        return bool(GROUPS.crowded(found, services, [LOGS]))

    assert not crowded("api", "freeside-migration")
    assert not crowded("freeside-migration", "freeside-migration")
    assert crowded("api", "worker")
    assert crowded("finn", "freeside-migration")
    assert crowded("freeside-migration", "dixie")


def test_what_the_files_hide_is_unclear_unless_it_is_the_same() -> None:
    hidden = [Use(LOGS, "${var.x}", owner, "${var.x}", why="no value") for owner in ("finn", "dixie")]
    assert [each.what for each in GROUPS.unclear(hidden, [LOGS])] == [
        "the log group of dixie: no value", "the log group of finn: no value",
    ]  # fmt: skip
    assert reported(hidden, LOGS)["finn"] == ["dixie and finn share the log group ${var.x}"]


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


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("acme-production/dixie/key", True),
        ("/ecs/acme-dev/api", True),
        ("acme-prod-api", True),
        ("acme-staging/dixie/key", False),
        ("acme-stagingx", False),
        ("acme-products/key", False),
        ("other-production/key", False),
        ("acme/key", False),
    ],
)
def test_what_another_environment_has(name: str, found: bool) -> None:
    use = Use(SECRET, name, "dixie", name)
    wanted = [f"dixie uses the secret {name}, which belongs to another environment"]
    assert [each.what for each in elsewhere([use], "acme-staging")] == (wanted if found else [])
    assert elsewhere([use], "staging") == elsewhere([use], "acme-platform") == []
