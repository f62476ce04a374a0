"""A ledger in a file: JSON Lines, one lock, one fsync for each entry; and a lease in a file beside it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

from ..core.errors import LedgerError
from ..core.formats import canonical_json
from .chain import (
    Link,
    Verification,
    announced,
    ending,
    inspect,
    is_sealed,
    parsed,
    refuse_broken,
    remembered,
    sealed,
)
from .lease import Holder


class FileLedger:
    """JSON Lines at ``path``; ``<path>.lock`` serialises writers and remembers the newest entry.

    That memory shows when entries were cut off the end, which a chain alone cannot. A torn last line (its
    writer was killed) is no entry; the next append moves it to ``<path>.torn-<n>``. ``<path>.red-<run id>``
    holds what a BROKEN run announced, until its entry is in the ledger.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = path.with_name(f"{path.name}.lock")
        self._notes: list[str] = []
        self._announced: IO[bytes] | None = None

    @property
    def location(self) -> str:
        """Where it is, for people."""
        return f"file:{self.path}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What was noticed while reading or appending."""
        return tuple(self._notes)

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries, newest last; [] when there are none. LedgerError when unreadable or broken."""
        with self._reading() as newest:
            links, torn = self._read()
        if torn:
            self._notes.append(f"{self.location}: a torn last line of {len(torn)} bytes is no entry")
        return self._whole(links, newest)

    def append(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Add an entry after the newest one, also another process's; return it as recorded, on disk."""
        with self._writing() as lock:
            links, torn = self._read()
            before = self._whole(links, _remembered(lock))
            record = sealed(entry, before[-1] if before else None)
            if torn:
                self._set_aside(torn)
            self._write(record)
            with contextlib.suppress(OSError):  # the entry is on disk: without its memory it counts, too
                _remember(lock, record)
                self._mark(record).unlink(missing_ok=True)
        return record

    def prepare(self) -> None:
        """Refuse a directory or a disk that could not take an entry, before the run that would make it."""
        with self._writing(), self.path.open("ab"):
            pass

    def announce(self, entry: Mapping[str, Any]) -> None:
        """Keep the entry of a run that is BROKEN before its end, in case it does not live to append it."""
        mark = self._mark(entry)
        draft = mark.with_name(f".{mark.name}")
        with self._writing():
            self._announced = draft.open("wb")
            # Held for as long as this process lives: a run that lives is not for another one to settle.
            fcntl.flock(self._announced, fcntl.LOCK_EX)
            self._announced.write(canonical_json(sealed(entry, None)))
            self._announced.flush()
            os.fsync(self._announced.fileno())
            draft.replace(mark)

    def settle(self) -> list[str]:
        """Append what runs announced that were killed before they could; return their ids."""
        late = []
        with self._translated("read"):
            for mark in sorted(self.path.parent.glob(f"{glob.escape(self.path.name)}.red-*")):
                _refuse_device(mark)
                with contextlib.suppress(FileNotFoundError), mark.open("rb") as stream:
                    if not _is_free(stream):
                        continue
                    record = self.append(announced(stream.read(), f"file:{mark}"))
                    mark.unlink(missing_ok=True)  # renamed, it is not where append looks for it
                    late.append(str(record.get("run_id")))
        return late

    def verify(self) -> Verification:
        """Check the complete chain, and that it still ends where the newest append left it."""
        with self._reading() as newest:
            links, torn = self._read()
        notes = (f"a torn last line of {len(torn)} bytes is no entry",) if torn else ()
        return ending(inspect(links), links, newest, notes)

    def lease(self, key: str) -> FileLease:
        """Return the lease ``lease-<key>`` beside the ledger: of all environments that are kept there."""
        return FileLease(self.path.with_name(f"lease-{key}"))

    def _mark(self, entry: Mapping[str, Any]) -> Path:
        return self.path.with_name(f"{self.path.name}.red-{entry.get('run_id')}")

    def _whole(self, links: list[Link], newest: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        refuse_broken(ending(inspect(links), links, newest), self.location)
        return [link.entry for link in links if link.entry is not None]

    def _read(self) -> tuple[list[Link], bytes]:
        """Return the lines as links, and the torn end: a last line without newline that is incomplete."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            content = b""
        lines = content.split(b"\n")
        last = lines.pop()
        links = [Link(place=f"line {number}", entry=parsed(line)) for number, line in enumerate(lines, 1)]
        complete = parsed(last)
        if complete is not None and is_sealed(complete):
            return [*links, Link(place=f"line {len(lines) + 1}", entry=complete)], b""
        return links, last

    def _set_aside(self, torn: bytes) -> None:
        """Move the torn end to a file of its own, then cut it off."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.torn-{number}")).exists():
            number += 1
        aside.write_bytes(torn)
        os.truncate(self.path, self.path.stat().st_size - len(torn))
        self._notes.append(f"a torn last line of {len(torn)} bytes was moved to {aside}")

    def _write(self, record: Mapping[str, Any]) -> None:
        with self.path.open("a+b") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - 1))
            gap = b"" if stream.read(1) in (b"", b"\n") else b"\n"
            stream.write(gap + canonical_json(record) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    @contextmanager
    def _reading(self) -> Iterator[Mapping[str, Any] | None]:
        """Hold off writers, where there ever was one, and give what the newest of them remembered."""
        with self._translated("read"):
            if not self._lock.exists():
                yield None
                return
            with self._lock.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH)
                yield _remembered(lock)

    @contextmanager
    def _writing(self) -> Iterator[IO[bytes]]:
        """Be the only writer."""
        with self._translated("written"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock.open("a+b") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield lock

    def _translated(self, verb: str) -> AbstractContextManager[None]:
        return _translated(verb, self.location, self.path, self._lock)


class FileLease:
    """A locked file that names its holder. The system unlocks it however its holder ends."""

    renew_s = expires_s = 0.0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: IO[bytes] | None = None

    def take(self, own: Holder) -> Holder | None:
        """Take it if it is free, or its holder is gone; return who has it otherwise."""
        with _translated("written", f"file:{self._path}", self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            while self._held is None:
                stream = self._path.open("a+b")
                # Unlike flock's, this lock does not pass to a forked process that outlives the run.
                try:
                    fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except (BlockingIOError, PermissionError):
                    with stream:
                        stream.seek(0)
                        return Holder.read(stream.read())
                if self._is_at_its_place(stream):
                    self._held = stream
                else:
                    stream.close()
            self._held.truncate(0)
            self._held.write(own.encoded())
            self._held.flush()
        return None

    def renew(self) -> Holder | None:
        """Do nothing: it lives as long as this process."""
        return None

    def release(self) -> None:
        """Take the file away, then unlock it: who waits for it looks whether it is still there."""
        if self._held is not None:
            with _translated("written", f"file:{self._path}"), self._held:
                self._path.unlink(missing_ok=True)
            self._held = None

    def _is_at_its_place(self, stream: IO[bytes]) -> bool:
        try:
            return os.path.samestat(os.fstat(stream.fileno()), self._path.stat())
        except FileNotFoundError:
            return False


@contextmanager
def _translated(verb: str, location: str, *paths: Path) -> Iterator[None]:
    try:
        for path in paths:
            _refuse_device(path)
        yield
    except OSError as problem:
        raise LedgerError(
            f"cannot be {verb}: {problem.strerror or problem}",
            where=location,
            action="correct the path or its permissions, or name another with --readiness-ledger",
        ) from problem


def _refuse_device(path: Path) -> None:
    """Raise OSError for what may have no end, or never answer: a device, a pipe, a socket."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, f"{path.name} is no regular file", str(path))


def _is_free(stream: IO[bytes]) -> bool:
    """Tell whether the process that wrote an announcement is gone."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remembered(lock: IO[bytes]) -> Mapping[str, Any] | None:
    lock.seek(0)
    return remembered(lock.read())


def _remember(lock: IO[bytes], record: Mapping[str, Any]) -> None:
    # Not synced: after a crash it may lag behind the ledger, which is harmless; it is never ahead of it.
    lock.truncate(0)
    lock.write(canonical_json({"seq": record["seq"], "hash": record["hash"]}))
