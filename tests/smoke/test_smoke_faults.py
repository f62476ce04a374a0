"""The project's suite and fault catalogue: phases are folders, and every check has a fault."""

from stack import control
from tests.selftest.project import PLAN, ROOT, catalogue, checks


def test_the_phase_of_a_check_is_its_folder() -> None:
    for name, check in checks().items():
        assert check.nodeid.startswith(f"{PLAN.suite}/{name.partition('/')[0]}/")


def test_every_phase_of_the_plan_has_a_module_and_its_faults() -> None:
    folders = {path.parent.name for path in (ROOT / PLAN.suite).glob("*/test_*.py")}
    assert (
        folders == {*PLAN.phases} == {path.parent.name for path in (ROOT / PLAN.suite).glob("*/faults.toml")}
    )


def test_every_check_is_named_by_a_fault() -> None:
    assert not catalogue().unfaulted
    assert catalogue().uncovered(checks()) == []


def test_the_platform_reads_the_same_faults() -> None:
    read = control.catalogue()
    assert [fault.id for fault in catalogue().faults] == list(read)
    assert {fault.id: dict(fault.params) for fault in catalogue().faults if fault.params} == {
        name: entry["params"] for name, entry in read.items() if "params" in entry
    }


def test_each_fault_runs_the_checks_that_it_names() -> None:
    for fault in catalogue().faults:
        for name in fault.named:
            node = checks()[name].nodeid
            selected = [
                word for word in fault.select if node == word or node.startswith((f"{word}::", f"{word}["))
            ]
            assert selected, f"{fault.id} does not run {name}"


def test_every_module_runs_completely_for_some_fault() -> None:
    """Only then is a failure noticed that no fault expects."""
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "smoke").glob("*/test_*.py")}
    assert not modules - {word for fault in catalogue().faults for word in fault.select}
