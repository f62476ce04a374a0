"""The self-test finds a check that lost its assertions, at exactly the fault that names it."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pytest
from pytest_readiness.selftest.campaign import Setup, Worker
from pytest_readiness.selftest.catalogue import Fault, Finding, SuiteCheck, load

from tests.selftest.project import PLAN, ROOT, running

#: One fault, and so one check, for each kind of object that the suite examines.
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

    worker: Worker
    faults: dict[str, Fault]
    node_ids: dict[str, str]
    suite: Mapping[str, SuiteCheck]

    def controls(self, fault: Fault) -> list[str]:
        """Return the prerequisites of the fault's checks."""
        return [control for check in fault.named for control in self.suite[check].controls]

    def attempt(self, name: str, mutant: str) -> Finding:
        """Try a fault with only its named checks, one of them without its body."""
        fault = self.faults[name]
        finding, leak = self.worker.attempt(
            replace(
                fault,
                select=tuple(self.node_ids[check] for check in (*fault.named, *self.controls(fault))),
                args=("-p", "tests.selftest.mutant", "--mutant", mutant),
            )
        )
        assert leak is None
        return finding


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    work = tmp_path_factory.mktemp("self-test")
    with running(PLAN.suite, ROOT, work) as runner:
        setup = Setup(
            command=PLAN.self_test.platform,
            root=ROOT,
            suite=PLAN.suite,
            work=work,
            runner=runner,
            stopping=threading.Event(),
        )
        worker = Worker(1, setup)
        try:
            worker.boot()
            faults = load(ROOT, PLAN.self_test.catalogue, runner.checks()).faults
            node_ids = {name: check.nodeid for name, check in runner.checks().items()}
            yield Laboratory(worker, {fault.id: fault for fault in faults}, node_ids, runner.checks())
        finally:
            worker.close()


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
