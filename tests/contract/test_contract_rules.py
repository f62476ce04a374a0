"""Every pair of a route and a rule has checks in the suite, or a written reason for having none."""

import pytest

from smoke.contract.model import ROUTES, RULES, Rule, accesses
from tests.selftest.project import checks

PLACES = {route.name for route in ROUTES} | {access.id for access in accesses()}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_is_tried_on_every_route(rule: Rule) -> None:
    assert set(rule.routes) <= PLACES
    assert set(rule.unchecked) <= set(rule.routes)
    for route, names in rule.pairs():
        assert names or rule.unchecked[route].strip(), f"nothing tries {rule.name} on {route}"
        assert set(names) <= set(checks()), f"{rule.name} on {route}"


def test_rules_have_names_of_their_own() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
