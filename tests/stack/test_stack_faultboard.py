"""Faults are set, cleared and undone; what each fault of the catalogue does to the platform can be done."""

import json
from pathlib import Path
from typing import Any

import pytest

from stack import StackError, faultboard, pgbouncer
from stack.aws.alterations import ALTERATIONS
from stack.faultboard import FaultBoard, UnknownFault, catalogue

PARTS = {"postgres", "pgbouncer", "aws", "provider", "finn", "dixie", "freeside", "worker"}
VERBS = {"stop", "restart", "pause"}


class Recorder:
    """Stands for the supervisor, an alterable part: records its calls."""

    def __init__(self, refuses: str = "") -> None:
        self.asked: list[str] = []
        self._refuses = refuses

    def __getattr__(self, verb: str) -> Any:
        def ask(*arguments: Any) -> None:
            if verb == self._refuses:
                raise StackError("it cannot be done")
            self.asked.append(" ".join([verb, *map(str, arguments)]))

        return ask


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
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaultBoard:
    monkeypatch.setattr(faultboard, "catalogue", lambda: FAULTS)
    recorders: dict[str, Any] = {part: Recorder() for part in ("supervisor", "aws", "source", "pooler")}
    return FaultBoard(tmp_path / "faults.json", recorders.pop("supervisor"), recorders)


def _file(board: FaultBoard) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(board._path.read_text())
    return found


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


def test_setting_an_alteration_again_undoes_it_first(board: FaultBoard) -> None:
    board.set("session-mode", {})
    board.set("session-mode", {"size": 1})
    said = ["alter session-mode {}", "restore", "alter session-mode {'size': 1}"]
    assert board._alterable["pooler"].asked == said  # type: ignore[attr-defined]
    assert _file(board)["active"] == {"session-mode": {"size": 1}}


@pytest.mark.parametrize(
    ("fault_id", "done"),
    [
        ("stops", ["stop finn", "start finn"]),
        ("pauses", ["pause dixie", "start dixie"]),
        ("restarts", ["restart freeside"]),
    ],
)
def test_an_action_on_a_process_is_undone_once(board: FaultBoard, fault_id: str, done: list[str]) -> None:
    board.set(fault_id, {})
    board.clear(fault_id)
    board.clear(fault_id)
    assert board._supervisor.asked == done  # type: ignore[attr-defined]


def test_clearing_one_alteration_keeps_the_others(board: FaultBoard) -> None:
    for fault_id in ("no-alarm", "no-topic", "fly"):
        board.set(fault_id, {})
    board.clear("no-alarm")
    assert board._alterable["aws"].asked == [  # type: ignore[attr-defined]
        "alter alarm-missing {'alarm': 'x'}", "alter topic-missing {}", "restore", "alter topic-missing {}"
    ]  # fmt: skip
    board.clear("fly")
    assert board._alterable["source"].asked[-1] == "restore"  # type: ignore[attr-defined]


def test_the_pooler_is_altered_and_restored(board: FaultBoard) -> None:
    board.set("session-mode", {})
    board.clear("session-mode")
    board.set("session-mode", {})
    board.reset()
    board.reset()
    said = ["alter session-mode {}", "restore", "alter session-mode {}", "restore"]
    assert board._alterable["pooler"].asked == said  # type: ignore[attr-defined]


def test_a_reset_turns_everything_off_and_begins_a_generation(board: FaultBoard) -> None:
    board.set("plain", {})
    board.reset()
    assert _file(board) == {"generation": 1, "active": {}}


def test_a_fault_with_a_failed_action_stays_off(board: FaultBoard) -> None:
    board._supervisor = Recorder(refuses="stop")  # type: ignore[assignment]
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
