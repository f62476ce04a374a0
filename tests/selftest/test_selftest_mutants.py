"""A check that lost its assertions is found by the self-test: at exactly the fault that names it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from pytest_readiness.selftest.bench import Bench, Setup
from pytest_readiness.selftest.catalogue import Fault, load
from pytest_readiness.selftest.judging import Finding
from pytest_readiness.selftest.runner import Runner

from tests.selftest.project import PLAN, ROOT

#: One fault, hence one check, for every kind of thing that the suite looks at.
SAMPLE = [
    "freeside-health-degraded",
    "inventory-api-cpu",
    "finn-jwks-private-member",
    "dixie-accepts-wrong-aud",
    "freeside-serves-null",
    "freeside-stream-ids-stand-still",
    "freeside-ignores-key-conflict",
    "dixie-invents-scores",
    "topic-unsubscribed",
    "source-gate-removed",
]


@dataclass(frozen=True)
class Laboratory:
    """One platform and the faults to try on it."""

    bench: Bench
    faults: dict[str, Fault]
    node_ids: dict[str, str]

    def attempt(self, name: str, mutant: str) -> Finding:
        """Try a fault by its named checks alone, with the body of one check removed."""
        fault = self.faults[name]
        finding, leak = self.bench.attempt(
            replace(
                fault,
                select=tuple(self.node_ids[check] for check in fault.named),
                args=("-p", "tests.selftest.mutant", "--mutant", mutant),
            )
        )
        assert leak is None
        return finding


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    work = tmp_path_factory.mktemp("self-test")
    runner = Runner(PLAN.suite, ROOT, work)
    setup = Setup(
        command=PLAN.self_test.platform,
        root=ROOT,
        suite=PLAN.suite,
        work=work,
        runner=runner,
        stopping=threading.Event(),
    )
    bench = Bench(1, setup)
    try:
        bench.boot()
        node_ids = {name: check.nodeid for name, check in runner.listing.result().items()}
        catalogue = load(ROOT, PLAN.self_test.catalogue, runner.listing.result())
        yield Laboratory(bench, {fault.id: fault for fault in catalogue.faults}, node_ids)
    finally:
        runner.close()
        bench.close()


@pytest.mark.parametrize("name", SAMPLE)
def test_a_check_without_assertions_is_found_at_its_fault(laboratory: Laboratory, name: str) -> None:
    check = laboratory.faults[name].checks[0]
    mutant = laboratory.node_ids[check.id]
    blind = laboratory.attempt(name, mutant)
    assert not blind.detected
    assert blind.why.startswith(f"{check.id}: outcome passed, not failed")
    neighbour = SAMPLE[(SAMPLE.index(name) + 1) % len(SAMPLE)]
    seen = laboratory.attempt(neighbour, mutant)
    assert seen.detected, seen.why
