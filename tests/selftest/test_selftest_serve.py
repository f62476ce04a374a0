"""A platform that another team writes in Python: `serve` speaks the protocol of the self-test for it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_readiness.selftest.platform import Address, Control, Platform, PlatformError

PLATFORM = """
from pytest_readiness.selftest.platform import serve

class Till:
    def __init__(self):
        self.factor, self.sold = 1, []
    def set_fault(self, fault, params):
        if fault != "adds/twice":
            raise LookupError(f"no fault {fault!r}")
        self.factor = params["factor"]
        self.sold.append("tea")
    def clear_fault(self, fault):
        self.factor = 1
    def reset(self):
        assert self.factor == 1, "a fault is still on"
        self.sold.clear()
    def state(self):
        return {"sold": self.sold, "by": Till}

serve(Till(), profile='name = "local"', env={"TILL": "on"})
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[Address]:
    (tmp_path / "till.py").write_text(PLATFORM)
    platform = Platform([sys.executable, "till.py"], tmp_path, tmp_path / "log")
    try:
        yield platform.await_ready()
    finally:
        platform.stop()
    assert (tmp_path / "log").read_text() == ""


def test_it_announces_itself_and_serves_requests(address: Address) -> None:
    assert Path(address.profile).read_text() == 'name = "local"'
    assert address.env == {"TILL": "on"}
    control = Control(address.control)
    clean = control.state()
    assert "faults on: none" in clean
    control.set("adds/twice", {"factor": 2})
    assert "faults on: adds/twice" in control.state()
    control.clear("adds/twice")
    assert "faults on: none" in control.state()
    assert control.state() != clean
    control.set("adds/twice", {"factor": 3})
    assert control.reset() == clean


def test_it_says_what_it_cannot_do(address: Address) -> None:
    control = Control(address.control)
    with pytest.raises(PlatformError, match="409: LookupError: no fault 'unknown'"):
        control.set("unknown", {})
    assert "faults on: none" in control.state()
    with pytest.raises(PlatformError, match="404: this platform does not offer POST /trace"):
        control.trace()


def test_it_ends_when_stdin_is_closed(tmp_path: Path) -> None:
    (tmp_path / "till.py").write_text(PLATFORM)
    platform = Platform([sys.executable, "till.py"], tmp_path, tmp_path / "log")
    profile = Path(platform.await_ready().profile)
    platform.stop()
    assert not profile.exists()
