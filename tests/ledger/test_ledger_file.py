"""The file ledger: the chain, every kind of tampering, torn lines, concurrent writers, unusable paths."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_readiness.core.errors import LedgerError
from pytest_readiness.core.formats import canonical_json
from pytest_readiness.ledger import BLOCK, FileLedger, open_ledger, read_history
from pytest_readiness.ledger.chain import GENESIS, Link, inspect, sealed


def filled(path: Path, count: int) -> FileLedger:
    ledger = FileLedger(path / "staging.jsonl")
    for number in range(count):
        ledger.append({"run_id": f"r{number}", "verdict": "READY", "title": "µ"})
    return ledger


def rewrite(ledger: FileLedger, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    entries = [json.loads(line) for line in ledger.path.read_text(encoding="utf-8").splitlines()]
    change(entries)
    ledger.path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")


def test_entries_are_linked_and_come_back_in_order(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "new" / "folder", 3)
    entries = [*ledger.entries()]
    assert [entry["run_id"] for entry in entries] == ["r0", "r1", "r2"]
    assert [entry["seq"] for entry in entries] == [1, 2, 3]
    assert entries[0]["prev_hash"] == GENESIS
    assert entries[2]["prev_hash"] == entries[1]["hash"]
    assert ledger.verify().ok
    assert ledger.verify().entries == 3
    assert ledger.notes == ()


def test_a_key_that_an_entry_has_twice_is_an_edit(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 3)
    edited = ledger.path.read_bytes().replace(b'"verdict":', b'"verdict":"BROKEN","verdict":', 1)
    ledger.path.write_bytes(edited)
    assert ledger.verify().problem == "entry 1 (line 1) is not an entry: it was edited or damaged"


def test_no_file_is_an_empty_ledger_and_reading_creates_nothing(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path / "a.jsonl")
    assert [*ledger.entries()] == []
    assert ledger.verify().ok
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "first_bad", "problem"),
    [
        (lambda e: e[1].update(verdict="BROKEN"), 2, "was edited: its hash does not fit its content"),
        (lambda e: e[0].update(extra=1), 1, "was edited"),
        (lambda e: e[2].pop("hash"), 3, "was edited"),
        (lambda e: e.pop(1), 2, "says that it is entry 3: one before it was removed, added or moved"),
        (lambda e: e.pop(0), 1, "says that it is entry 2"),
        (lambda e: e.pop(3), 4, "entry 4 was removed: 4 were written"),
        (lambda e: e.clear(), 1, "entry 1 was removed: 4 were written"),
        (lambda e: e.reverse(), 1, "says that it is entry 4"),
        (lambda e: e.insert(2, e[1]), 3, "says that it is entry 2"),
        (lambda e: e.__setitem__(1, sealed({"run_id": "x"}, e[0])), 3, "does not follow the one before it"),
        (lambda e: e.__setitem__(3, sealed({"run_id": "x"}, e[2])), 4, "is not the one that was written"),
    ],
)
def test_tampering_is_reported_at_the_first_bad_entry(
    tmp_path: Path, change: Callable[[list[dict[str, Any]]], Any], first_bad: int, problem: str
) -> None:
    ledger = filled(tmp_path, 4)
    rewrite(ledger, change)
    found = ledger.verify()
    assert (found.ok, found.first_bad, found.entries) == (False, first_bad, first_bad - 1)
    assert problem in found.problem
    for use in (
        lambda: ledger.recent(2),
        lambda: [*ledger.entries()],
        lambda: ledger.append({"run_id": "next"}),
    ):
        with pytest.raises(LedgerError, match=f"entry {first_bad}") as caught:
            use()
        assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize("line", [b"", b"not json", b"[1]", b'{"a": NaN}', b"\xff"])
def test_a_line_that_is_not_an_entry_is_damage(tmp_path: Path, line: bytes) -> None:
    ledger = filled(tmp_path, 2)
    lines = ledger.path.read_bytes().splitlines()
    ledger.path.write_bytes(b"\n".join([lines[0], line, lines[1], b""]))
    found = ledger.verify()
    assert (found.ok, found.first_bad) == (False, 2)
    assert "line 2" in found.problem


@given(st.data())
@settings(deadline=None)
def test_any_change_to_any_chain_is_found(data: st.DataObject) -> None:
    chain: list[dict[str, Any]] = []
    for number in range(data.draw(st.integers(2, 6))):
        chain.append(sealed({"run_id": number}, chain[-1] if chain else None))
    place = data.draw(st.integers(0, len(chain) - 1))
    kind = data.draw(st.sampled_from(["edit", "remove", "swap", "repeat"]))
    changed = [dict(entry) for entry in chain]
    if kind == "edit":
        changed[place][data.draw(st.sampled_from(["run_id", "seq", "prev_hash", "hash", "new"]))] = "other"
    elif kind == "remove":
        place = min(place, len(chain) - 2)
        del changed[place]
    elif kind == "swap":
        place = min(place, len(chain) - 2)
        changed[place], changed[place + 1] = changed[place + 1], changed[place]
    else:
        changed.insert(place + 1, changed[place])
        place += 1
    found = inspect(Link(str(number), canonical_json(entry)) for number, entry in enumerate(changed))
    assert (found.ok, found.first_bad) == (False, place + 1)
    assert inspect(Link("", canonical_json(entry)) for entry in chain).ok


def test_a_torn_last_line_is_set_aside_and_noted(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 2)
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + b'{"run_id": "r2", "verd')
    assert len([*ledger.entries()]) == 2
    assert ledger.verify().notes == ("a torn last line of 22 bytes is not an entry",)
    assert ledger.append({"run_id": "r3"})["seq"] == 3
    aside = tmp_path / "staging.jsonl.torn-1"
    assert aside.read_bytes() == b'{"run_id": "r2", "verd'
    assert f"moved to {aside}" in ledger.notes[-1]
    assert [entry["run_id"] for entry in ledger.entries()] == ["r0", "r1", "r3"]
    assert ledger.verify().ok


def test_each_torn_line_has_its_own_file(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 0)
    for number in (1, 2):
        with ledger.path.open("ab") as stream:
            stream.write(f"torn {number}".encode())
        ledger.append({"run_id": str(number)})
    assert (tmp_path / "staging.jsonl.torn-2").read_bytes() == b"torn 2"
    assert len([*ledger.entries()]) == 2


def test_a_complete_last_entry_without_its_newline_is_kept(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 2)
    ledger.path.write_bytes(ledger.path.read_bytes().rstrip(b"\n"))
    assert len([*ledger.entries()]) == 2
    assert ledger.append({"run_id": "r2"})["seq"] == 3
    assert ledger.verify().ok


def test_a_writer_that_died_before_it_remembered_its_entry_does_no_harm(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 1)
    lock = tmp_path / "staging.jsonl.lock"
    remembered = lock.read_bytes()
    ledger.append({"run_id": "r1"})
    for content in (remembered, b"", b"{", b"{}", b"[]", b'{"seq":true,"hash":"x"}'):
        lock.write_bytes(content)
        assert ledger.verify().ok
    assert ledger.append({"run_id": "r2"})["seq"] == 3


APPEND = """
import sys
from pathlib import Path
from pytest_readiness.ledger import BLOCK, FileLedger
for number in range(20):
    FileLedger(Path(sys.argv[1])).append({"run_id": f"{sys.argv[2]}-{number}"})
"""


def test_two_processes_append_to_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "local.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", APPEND, str(path), name]) for name in "ab"]
    assert [writer.wait(30) for writer in writers] == [0, 0]
    ledger = FileLedger(path)
    assert ledger.verify().ok
    assert {entry["run_id"] for entry in ledger.entries()} == {f"{w}-{n}" for w in "ab" for n in range(20)}


def test_one_fsync_for_each_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    filled(tmp_path, 3)
    assert len(synced) == 3


def test_an_unusable_path_is_an_error_of_three_lines(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LedgerError) as caught:
        FileLedger(tmp_path / "file" / "a.jsonl").append({})
    assert str(caught.value) == (
        f"file:{tmp_path}/file/a.jsonl: cannot be written: File exists\n"
        "  next: correct the path or its permissions, or name another ledger: --readiness-ledger URL, "
        "or url in [ledger] of the plan"
    )
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(LedgerError, match="cannot be read: Is a directory"):
        [*FileLedger(tmp_path / "folder.jsonl").entries()]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOLCK, "keep the ledger on a local disk or in S3"),
        (errno.ENOTSUP, "keep the ledger on a local disk or in S3"),
        (errno.ENOSPC, "free space there, or name another ledger"),
        (errno.EFBIG, "(ulimit -f), or name another ledger"),
        (errno.EROFS, "correct the path or its permissions, or name another ledger"),
    ],
)
def test_an_error_of_the_file_system_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(LedgerError) as caught:
        filled(tmp_path, 1)
    assert f"cannot be written: {os.strerror(number)}\n" in str(caught.value)
    assert advice in str(caught.value)


def test_urls(tmp_path: Path) -> None:
    assert open_ledger("file:.readiness/{env}.jsonl", tmp_path, "local").location == (
        f"file:{tmp_path}/.readiness/local.jsonl"
    )
    assert open_ledger("file:///var/x.jsonl", tmp_path).location == "file:/var/x.jsonl"
    for url in ("", "file:", "ftp://x", "runs.jsonl"):
        with pytest.raises(LedgerError, match="is not a ledger"):
            open_ledger(url, tmp_path)


def test_history_of_several_environments_in_one_file_or_in_one_each(tmp_path: Path) -> None:
    for url in ("file:one.jsonl", "file:{env}.jsonl"):
        for name in ("local", "staging", "local"):
            open_ledger(url, tmp_path, name).append({"environment": name})
        found = {
            name: len(read_history(open_ledger(url, tmp_path, name), name))
            for name in ("local", "staging", "production")
        }
        assert found == {"local": 2, "staging": 1, "production": 0}


def test_what_a_killed_run_announced_is_appended_before_anything_else(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 2)
    killed = FileLedger(ledger.path)
    killed.announce({"run_id": "killed", "verdict": "BROKEN"})
    assert ledger.settle() == [], "its run is alive"
    assert [entry["run_id"] for entry in ledger.entries()] == ["r0", "r1"]
    del killed
    assert ledger.settle() == ["killed"]
    assert ledger.settle() == []
    assert [entry["run_id"] for entry in ledger.entries()] == ["r0", "r1", "killed"]
    assert ledger.verify().ok


def test_a_run_that_lives_to_append_its_entry_has_nothing_to_settle(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 1)
    ledger.announce({"run_id": "alive", "verdict": "BROKEN"})
    ledger.append({"run_id": "alive", "verdict": "BROKEN", "complete": True})
    assert ledger.settle() == []
    assert [entry["run_id"] for entry in ledger.entries()] == ["r0", "alive"]


def test_an_announcement_that_was_edited_is_refused(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 1)
    FileLedger(ledger.path).announce({"run_id": "killed", "verdict": "BROKEN"})
    mark = ledger.path.with_name("staging.jsonl.red-killed")
    mark.write_bytes(mark.read_bytes().replace(b"BROKEN", b"READY"))
    with pytest.raises(LedgerError, match=r"red-killed: a BROKEN run .* edited or damaged"):
        ledger.settle()


@pytest.mark.parametrize("line", ["[" * 100_000, '{"a":' * 100_000, '{"hash": ' + "9" * 5000 + "}"])
def test_a_line_that_no_parser_can_read_is_not_an_entry(tmp_path: Path, line: str) -> None:
    ledger = filled(tmp_path, 1)
    with ledger.path.open("a", encoding="utf-8") as stream:
        stream.write(f"{line}\n")
    assert ledger.verify().problem == "entry 2 (line 2) is not an entry: it was edited or damaged"


def test_a_ledger_that_cannot_be_written_is_found_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.lock").mkdir()
    with pytest.raises(LedgerError, match="cannot be written"):
        FileLedger(tmp_path / "a.jsonl").prepare()


@pytest.mark.parametrize("name", ["staging.jsonl", "staging.jsonl.lock", "staging.jsonl.red-1"])
def test_a_pipe_in_place_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    ledger = filled(tmp_path, 1)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(LedgerError, match=f"{name} is not a regular file"):
        [*ledger.settle(), *map(str, ledger.entries())]


def long(path: Path, count: int = 600) -> FileLedger:
    """Return a ledger so long that an append does not read its first entries."""
    ledger = FileLedger(path / "long.jsonl")
    last: dict[str, Any] | None = None
    with ledger.path.open("wb") as stream:
        for number in range(count):
            last = sealed({"run_id": f"r{number}", "verdict": "BROKEN", "why": "x" * 100}, last)
            stream.write(canonical_json(last) + b"\n")
    ledger.append({"run_id": "newest"})
    assert ledger.path.stat().st_size > 4 * BLOCK
    return ledger


def swapped(content: bytes) -> bytes:
    lines = content.split(b"\n")
    lines[1], lines[2] = lines[2], lines[1]
    return b"\n".join(lines)


@pytest.mark.parametrize(
    ("change", "first_bad"),
    [
        (lambda content: content.replace(b'"r7"', b'"x7"', 1), 8),
        (swapped, 2),
        (lambda content: content.split(b"\n", 1)[1], 1),
        (lambda content: content.split(b"\n", 1)[0] + b"\n" + content, 2),
        (lambda content: content[: content.rstrip().rindex(b"\n") + 1], 601),
        (lambda content: content[: content.rindex(b"\n", 0, -2000) - 20], 0),
    ],
    ids=["edited", "reordered", "first removed", "repeated", "last removed", "cut in a line"],
)
@pytest.mark.parametrize("in_place", [True, False])
def test_a_change_to_old_entries_is_noticed_when_the_ledger_is_opened(
    tmp_path: Path, change: Callable[[bytes], bytes], first_bad: int, in_place: bool
) -> None:
    ledger = long(tmp_path)
    changed = change(ledger.path.read_bytes())
    if in_place:
        ledger.path.write_bytes(changed)
    else:
        (tmp_path / "copy").write_bytes(changed)
        (tmp_path / "copy").replace(ledger.path)
    os.utime(ledger.path, ns=(0, 0))
    first_bad = first_bad or changed.count(b"\n") + 1
    for use in (lambda: ledger.recent(1), lambda: ledger.append({"run_id": "next"})):
        with pytest.raises(LedgerError, match=f"entry {first_bad} "):
            use()
    assert ledger.verify().first_bad == first_bad


def test_a_copy_of_a_ledger_is_verified_once_and_then_read_at_its_end(tmp_path: Path) -> None:
    ledger = long(tmp_path)
    copy = FileLedger(tmp_path / "copy.jsonl")
    copy.path.write_bytes(ledger.path.read_bytes())
    assert copy.append({"run_id": "next"})["seq"] == 602
    assert copy.recent(2) == [ledger.recent(1)[0], copy.recent(1)[0]]
    assert (
        json.loads(copy.path.with_name("copy.jsonl.lock").read_bytes())["state"][0]
        == copy.path.stat().st_size
    )


def test_a_ledger_of_an_older_version_is_read_and_goes_on(tmp_path: Path) -> None:
    """Its memory has no state, and nothing says in which form its lines are written."""
    ledger = long(tmp_path)
    lock = ledger.path.with_name("long.jsonl.lock")
    memory = json.loads(lock.read_bytes())
    rewrite(ledger, lambda _: None)
    lock.write_text(json.dumps({"seq": memory["seq"], "hash": memory["hash"]}))
    assert ledger.recent(1)[0]["run_id"] == "newest"
    assert ledger.append({"run_id": "next"})["seq"] == 602
    assert ledger.verify().ok


def test_a_run_that_was_appended_and_then_killed_is_not_appended_again(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 1)
    killed = FileLedger(ledger.path)
    killed.announce({"run_id": "killed", "verdict": "BROKEN"})
    mark = ledger.path.with_name("staging.jsonl.red-killed")
    kept = mark.read_bytes()
    killed.append({"run_id": "killed", "verdict": "BROKEN"})
    ledger.append({"run_id": "later"})
    mark.write_bytes(kept)
    assert ledger.settle() == []
    assert not mark.exists()
    assert [entry["run_id"] for entry in ledger.entries()] == ["r0", "killed", "later"]


@given(st.data())
@settings(deadline=None)
def test_the_hash_by_bytes_agrees_with_the_parser(data: st.DataObject) -> None:
    """An entry can hold texts and keys that look like parts of the chain."""
    words = st.sampled_from(["hash", "prev_hash", "seq", '"hash":"', GENESIS, "a"])
    values = st.recursive(
        words | st.integers() | st.none(), lambda inner: st.dictionaries(words, inner), max_leaves=4
    )
    facts = data.draw(st.dictionaries(st.sampled_from(["a", "m", "runs", "z"]), values))
    first = sealed(facts, None)
    entry = sealed(facts, first)
    content = canonical_json(entry)
    links = [Link("", canonical_json(first)), Link("", content)]
    assert inspect(links).ok
    place = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(32, 126))
    edited = content[:place] + bytes([byte]) + content[place + 1 :]
    assert inspect([links[0], Link("", edited)]).ok == (edited == content)
