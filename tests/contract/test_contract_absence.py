"""A resource can exist and still be useless: each way has a fault, or a written reason why it has none.

A declared resource can be switched off, watch something else, or belong to another place.
"""

from collections.abc import Mapping

import pytest

from tests.selftest.project import catalogue

#: Ways in which a resource can be useless.
WAYS = {
    "absent": "it does not exist",
    "disabled": "it exists and is switched off, suspended, or scaled to nothing",
    "empty": "it exists and holds, reaches or concerns nothing",
    "of another": "it exists for something else",
    "elsewhere": "it exists in another region, account or place",
    "unfinished": "it was begun and never became effective",
}

#: resource → way → the fault that covers it; or, in parentheses, why there is none.
ABSENCES: Mapping[str, Mapping[str, str]] = {
    "alarm": {
        "absent": "alarm-api-health-missing",
        "disabled": "alarm-api-cpu-switched-off",
        "empty": "alarm-finn-memory-tells-nobody",
        "of another": "alarm-api-memory-of-another",
        "elsewhere": "alarm-connections-in-another-account",
        "unfinished": "latency-without-data",
    },
    "topic": {
        "absent": "topic-missing",
        "disabled": "notifications-lost",
        "empty": "topic-unsubscribed",
        "of another": "topic-filtered",
        "elsewhere": "alarm-dixie-memory-elsewhere",
        "unfinished": "topic-unconfirmed",
    },
    "service": {
        "absent": "ecs-worker-missing",
        "disabled": "ecs-api-scaled-to-zero",
        "empty": "ecs-worker-not-running",
        "of another": "image-finn-other-build",
        "elsewhere": "inventory-dixie-url",
        "unfinished": "ecs-finn-rollout-failed",
    },
    "log group": {
        "absent": "log-group-missing",
        "disabled": "(a log group has no switch)",
        "empty": "(what is in the logs is nothing that the contract speaks of)",
        "of another": "shared-log-group",
        "elsewhere": "logs-of-worker-elsewhere",
        "unfinished": "logs-of-dixie-for-ever",
    },
    "dashboard": {
        "absent": "dashboard-missing",
        "disabled": "(a dashboard has no switch)",
        "empty": "dashboard-empty",
        "of another": "(which metrics a dashboard shows is left to its authors)",
        "elsewhere": "(dashboards have no region)",
        "unfinished": "(a dashboard is there or not)",
    },
    "secret": {
        "absent": "secret-missing-freeside",
        "disabled": "dixie-ignores-secret",
        "empty": "secret-empty-dixie",
        "of another": "secret-shared-by-dixie-and-freeside",
        "elsewhere": "(a task names its secret by its ARN, and that of another is a shared one)",
        "unfinished": "secret-placeholder-dixie",
    },
    "migration": {
        "absent": "migration-freeside-undefined",
        "disabled": "source-gate-skipped-by-default",
        "empty": "(what a migration does is its product's)",
        "of another": "migration-dixie-in-a-service",
        "elsewhere": "source-gate-passed-by-another-job",
        "unfinished": "migration-dixie-running",
    },
    "name in Cloud Map": {
        "absent": "cloud-map-without-finn",
        "disabled": "(a registration without instances is a name that resolves to nothing)",
        "empty": "cloud-map-without-dixie",
        "of another": "(an address does not say whose it is)",
        "elsewhere": "(the namespace is looked up by its name, in the region of the profile)",
        "unfinished": "(an instance is registered or not)",
    },
    "certificate": {
        "absent": "freeside-served-without-tls",
        "disabled": "certificate-dixie-untrusted",
        "empty": "(a certificate without names is one of another host)",
        "of another": "certificate-dixie-of-another-host",
        "elsewhere": "(it is read from the host itself)",
        "unfinished": "certificate-freeside-expired",
    },
}


@pytest.mark.parametrize("thing", ABSENCES)
def test_every_way_is_tried_or_has_a_reason(thing: str) -> None:
    assert ABSENCES[thing].keys() == WAYS.keys()
    known = {fault.id for fault in catalogue().faults}
    for way, entry in ABSENCES[thing].items():
        assert entry in known or (entry.startswith("(") and len(entry) > 20), f"{thing} {way}: {entry}"
