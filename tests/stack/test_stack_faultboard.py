"""Faults are set, cleared and undone; the platform can apply every fault of the catalogue."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import pytest

from stack import control, pgbouncer
from stack.aws.alterations import ALTERATIONS
from stack.control import FaultBoard, UnknownFault, catalogue
from stack.host import StackError
from stack.supervisor import Supervisor

PARTS = {"postgres", "pgbouncer", "aws", "provider", "finn", "dixie", "freeside", "worker"}
VERBS = {"stop", "restart", "pause", "abandon"}


FAULTS = {
    "plain": {"params": {"rate": 3}},
    "rewrites": {"what": "It is slow", "service": "finn", "action": "rewrite:GET /health", "delay_s": 2},
    "stops": {"action": "stop:finn"},
    "pauses": {"action": "pause:dixie"},
    "restarts": {"action": "restart:freeside"},
    "no-alarm": {"action": "aws:alarm-missing", "params": {"alarm": "x"}},
    "session-mode": {"action": "pooler:session-mode"},
    "no-topic": {"action": "aws:topic-missing"},
    "fly": {"action": "source:edit", "params": {"path": "Dockerfile", "append": "fly.io"}},
}


@pytest.fixture
def supervisor() -> Mock:
    return Mock(spec=Supervisor)


@pytest.fixture
def alterable() -> dict[str, Mock]:
    return {name: Mock(spec=["alter", "restore"]) for name in ("aws", "source", "pooler")}


@pytest.fixture
def board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supervisor: Mock, alterable: dict[str, Mock]
) -> FaultBoard:
    monkeypatch.setattr(control, "catalogue", lambda: FAULTS)
    return FaultBoard(tmp_path / "faults.json", supervisor, alterable, {})


def _file(board: FaultBoard) -> Any:
    return json.loads(board._path.read_text())


def test_services_know_of_a_fault_before_anything_is_altered(
    board: FaultBoard, alterable: dict[str, Mock]
) -> None:
    seen: list[Any] = []
    alterable["aws"].alter.side_effect = lambda *_: seen.append(_file(board)["active"])
    board.set("no-topic", {})
    assert seen == [{"no-topic": {}}]


def test_a_fault_that_cannot_be_made_is_off_again(board: FaultBoard, alterable: dict[str, Mock]) -> None:
    alterable["aws"].alter.side_effect = StackError("no such topic")
    with pytest.raises(StackError):
        board.set("no-topic", {})
    assert _file(board)["active"] == board.active == {}


def test_given_parameters_replace_those_of_the_catalogue(board: FaultBoard) -> None:
    assert _file(board) == {"generation": 0, "active": {}}
    board.set("plain", {})
    assert _file(board)["active"] == {"plain": {"rate": 3}}
    board.set("plain", {"rate": 5})
    assert _file(board)["active"] == {"plain": {"rate": 5}}
    board.clear("plain")
    assert _file(board)["active"] == {}


def test_the_fault_proxy_gets_its_rule(board: FaultBoard) -> None:
    board.set("rewrites", {})
    rule = {"rewrite": "GET /health", "service": "finn", "delay_s": 2}
    assert _file(board)["active"] == {"rewrites": rule}
    board.set("rewrites", {"delay_s": 5})
    assert _file(board)["active"] == {"rewrites": rule | {"delay_s": 5}}


@pytest.mark.parametrize(
    ("fault_id", "done"),
    [
        ("stops", [call.stop("finn"), call.start("finn")]),
        ("pauses", [call.pause("dixie"), call.start("dixie")]),
        ("restarts", [call.restart("freeside")]),
    ],
)
def test_an_action_on_a_process_is_undone_once(
    board: FaultBoard, supervisor: Mock, fault_id: str, done: list[Any]
) -> None:
    board.set(fault_id, {})
    board.clear(fault_id)
    board.clear(fault_id)
    assert supervisor.method_calls == done


def test_setting_an_alteration_again_undoes_it_first(board: FaultBoard, alterable: dict[str, Mock]) -> None:
    board.set("session-mode", {})
    board.set("session-mode", {"size": 1})
    assert alterable["pooler"].method_calls == [
        call.alter("session-mode", {}), call.restore(), call.alter("session-mode", {"size": 1})
    ]  # fmt: skip
    assert _file(board)["active"] == {"session-mode": {"size": 1}}


def test_clearing_one_alteration_keeps_the_others(board: FaultBoard, alterable: dict[str, Mock]) -> None:
    for fault_id in ("no-alarm", "no-topic", "fly"):
        board.set(fault_id, {})
    board.clear("no-alarm")
    no_topic = call.alter("topic-missing", {})
    assert alterable["aws"].method_calls == [
        call.alter("alarm-missing", {"alarm": "x"}), no_topic, call.restore(), no_topic
    ]  # fmt: skip
    board.clear("fly")
    assert alterable["source"].method_calls[-1] == call.restore()


def test_the_pooler_is_restored_only_when_altered(board: FaultBoard, alterable: dict[str, Mock]) -> None:
    board.set("session-mode", {})
    board.clear("session-mode")
    board.set("session-mode", {})
    board.reset()
    board.reset()
    assert alterable["pooler"].method_calls == [call.alter("session-mode", {}), call.restore()] * 2


def test_a_reset_turns_everything_off_and_begins_a_generation(board: FaultBoard) -> None:
    board.set("plain", {})
    board.reset()
    assert _file(board) == {"generation": 1, "active": {}}


def test_a_fault_with_a_failed_action_stays_off(board: FaultBoard, supervisor: Mock) -> None:
    supervisor.stop.side_effect = StackError("it cannot be done")
    with pytest.raises(StackError, match="cannot be done"):
        board.set("stops", {})
    assert board.active == {}
    assert _file(board)["active"] == {}


def test_an_unknown_fault_is_refused_with_similar_ids(board: FaultBoard) -> None:
    with pytest.raises(UnknownFault, match="near: no-alarm, no-topic") as caught:
        board.set("no-dashboard", {})
    assert len(str(caught.value).splitlines()) == 3
    with pytest.raises(UnknownFault):
        board.clear("other")


def test_every_action_of_the_catalogue_can_be_done() -> None:
    faults = catalogue()
    assert faults
    for fault_id, entry in faults.items():
        verb, _, target = entry.get("action", "").partition(":")
        if verb == "aws":
            assert target in ALTERATIONS, fault_id
        elif verb == "pooler":
            assert target in pgbouncer.ALTERATIONS, fault_id
        elif verb and verb not in ("source", "rewrite"):
            assert verb in VERBS, fault_id
            assert target in PARTS - {"aws"} or (verb, target) == ("pause", "aws"), fault_id
