"""Each way in which a thing may be there and yet not be has a fault of the catalogue, or a written reason."""

import pytest

from smoke.contract.absence import ABSENCES, WAYS
from tests.selftest.project import catalogue


@pytest.mark.parametrize("thing", ABSENCES)
def test_every_way_is_tried_or_has_a_reason(thing: str) -> None:
    assert ABSENCES[thing].keys() == WAYS.keys()
    known = {fault.id for fault in catalogue().faults}
    for way, entry in ABSENCES[thing].items():
        assert entry in known or (entry.startswith("(") and len(entry) > 20), f"{thing} {way}: {entry}"
