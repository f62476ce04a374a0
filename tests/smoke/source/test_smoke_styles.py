"""Small repositories in common styles, each with its exact expected findings."""

import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from smoke.source.checkout import Examined
from smoke.source.infrastructure.alarms import connection_alarms, coverage
from smoke.source.infrastructure.definitions import ROLES, read, unnamed
from smoke.source.infrastructure.notifications import notified
from smoke.source.infrastructure.tasks import images, inventory, startup_migrations
from smoke.source.rules import FAMILY, LOGS, NETWORK, OWN, SECRET, Ownership
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.references import undeclared
from tests.smoke.source.repository import repository

STYLES = Path(__file__).with_name("styles")
WITHIN = {"health_s": 600, "others_s": 900}
GROUPS = {"finn": ["finn"], "dixie": ["dixie"]}
INVENTORY: list[Mapping[str, Any]] = [
    {"ecs": "finn", "cpu": 512, "memory": 1024, "image": "p-finn"},
    {"ecs": "dixie", "cpu": 256, "memory": 512, "image": "p-dixie"},
]


def examine(configuration: Configuration) -> dict[str, Examined]:
    """Apply every rule, with a plan of two services; alarms must watch finn."""
    ownership, defined = Ownership(GROUPS), read(configuration, [*GROUPS])
    alone = Examined([], list(defined.not_examined))
    alone.not_examined.extend(ownership.unclear(defined.uses, [*OWN, SECRET]))
    for group, members in GROUPS.items():
        alone.findings.extend(ownership.shared(defined.uses, (FAMILY, NETWORK, LOGS, SECRET)).get(group, []))
        for what in ownership.lacks(group, defined.uses, defined.required(members)):
            configuration.lacks(alone, f"{group} is incomplete: {what}", members)
    shared = ownership.shared(defined.uses, list(ROLES)).values()
    finn = next((each for each in defined.definitions if each.service and each.name == "finn"), None)
    watched = Examined()
    if finn is None:
        configuration.lacks(watched, "there is no service finn", ("finn",))
    else:
        watched = coverage(configuration, finn, WITHIN)
    rows = [inventory(configuration, defined, row)[1] for row in INVENTORY]
    return {
        "read": Examined([], configuration.unread),
        "references": undeclared(configuration)[1],
        "stand-alone": alone,
        "named": unnamed(defined, ownership),
        "roles": Examined([finding for each in shared for finding in each]),
        "images": images(configuration)[1],
        "migrations": startup_migrations(configuration, defined, []),
        "inventory": Examined(
            [finding for row in rows for finding in row.findings],
            [finding for row in rows for finding in row.not_examined],
        ),
        "alarms": watched,
        "notified": notified(configuration),
        "connections": connection_alarms(configuration, 75, WITHIN)[1],
    }


@pytest.mark.parametrize("style", sorted(path.name for path in STYLES.iterdir() if path.is_dir()))
def test_every_style_is_judged_as_expected(tmp_path: Path, style: str) -> None:
    shutil.copytree(STYLES / style, tmp_path / "repo", ignore=shutil.ignore_patterns("expected.toml"))
    configuration = Configuration(repository(tmp_path / "repo", {}), ".")
    expected = tomllib.loads((STYLES / style / "expected.toml").read_text("utf-8"))
    not_examined = expected.pop("not_examined", {})
    for rule, examined in examine(configuration).items():
        found = sorted({str(finding) for finding in examined.findings})
        unread = sorted({str(finding) for finding in examined.not_examined})
        if rule == "connections" and rule not in expected:
            continue  # the other repositories have no database
        _fit(rule, expected.get(rule, []), found)
        if rule in not_examined or rule not in SPREAD:
            _fit(f"not examined: {rule}", not_examined.get(rule, []), unread)


#: Rules that report the same unread parts as other rules.
SPREAD = {"migrations", "inventory", "alarms"}


def _fit(rule: str, wanted: list[str], found: list[str]) -> None:
    """Each expected text is in a different finding, and there are no others."""
    for text in wanted:
        assert any(text in each for each in found), f"{rule}: no {text!r} in {found}"
    surplus = [each for each in found if not any(text in each for text in wanted)]
    assert not surplus, f"{rule}: {surplus}"
