"""The history of full runs: append-only, hash-chained, one ledger for each environment."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path
from typing import IO, Any

from ..core.errors import LedgerError, remedy
from ..core.formats import canonical_json
from .chain import (
    Holder,
    Ledger,
    Link,
    Verification,
    announced,
    inspect,
    is_end,
    is_sealed,
    parsed,
    records,
    refuse_broken,
    remembered,
    sealed,
)

#: Bytes first read from the end of a ledger: more than most entries need.
BLOCK = 16_384


@dataclass(frozen=True, slots=True)
class End:
    """The end of a ledger: complete lines, newest last; the torn line after them; their end in the file.

    ``state`` changes with every change of the file by anyone: its size and its inode's time.
    """

    lines: list[bytes]
    torn: bytes
    at: int
    state: list[int]


class FileLedger:
    """JSON Lines at ``path``; ``<path>.lock`` serialises writers and remembers the newest entry.

    That record shows whether entries were cut off the end, which the chain by itself cannot. It also has the
    state of the file after the newest append: if it is unchanged, only the end is read; after any other
    change, such as copying, everything is verified. A torn last line (its writer was killed) is not an entry;
    the next append moves it to ``<path>.torn-<n>``. ``<path>.red-<run id>`` holds the announcement of a
    BROKEN run until its entry is in the ledger.
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

    def recent(self, count: int) -> list[dict[str, Any]]:
        """Return the newest entries, newest last; [] if there are none. LedgerError if broken."""
        with self._reading() as newest:
            end = self._verified_end(count, newest)
        if end.torn:
            self._notes.append(f"{self.location}: {_torn(end)}")
        return [entry for entry in map(parsed, end.lines[-count:]) if entry is not None]

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield all entries, oldest first; LedgerError, before any, that names the first bad one."""
        found = self.verify()
        refuse_broken(found, self.location)
        self._notes += [f"{self.location}: {note}" for note in found.notes]
        with self._translated("read"):
            for link in self._links(self._end(1)):
                if (entry := parsed(link.content)) is not None:
                    yield entry

    def append(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Add an entry after the newest one, also another process's; return it as recorded, on disk."""
        with self._writing() as lock:
            end = self._verified_end(1, _remembered(lock))
            record = sealed(entry, parsed(end.lines[-1]) if end.lines else None)
            if end.torn:
                self._set_aside(end)
            state = self._write(record)
            with contextlib.suppress(OSError):  # the entry is on disk and counts even without that record
                _remember(lock, record, state)
                self._mark(record).unlink(missing_ok=True)
        return record

    def prepare(self) -> None:
        """Refuse a directory or disk that cannot accept an entry, before the run starts."""
        with self._writing(), self.path.open("ab"):
            pass

    def announce(self, entry: Mapping[str, Any]) -> None:
        """Store the entry of a run that is already BROKEN, in case it is killed before it can append it."""
        mark = self._mark(entry)
        draft = mark.with_name(f".{mark.name}")
        with self._writing():
            self._announced = draft.open("wb")
            # Held while this process lives: another run must not settle for a living one.
            fcntl.flock(self._announced, fcntl.LOCK_EX)
            self._announced.write(canonical_json(sealed(entry, None)))
            self._announced.flush()
            os.fsync(self._announced.fileno())
            draft.replace(mark)

    def settle(self) -> list[str]:
        """Append the announced entries of runs that were killed; return their ids."""
        late = []
        with self._translated("read"):
            for mark in sorted(self.path.parent.glob(f"{glob.escape(self.path.name)}.red-*")):
                _refuse_device(mark)
                with contextlib.suppress(FileNotFoundError), mark.open("rb") as stream:
                    if not _is_free(stream):
                        continue
                    entry = announced(stream.read(), f"file:{mark}")
                    if not records(self, str(entry.get("run_id"))):  # its writer may have died just then
                        late.append(str(self.append(entry).get("run_id")))
                    mark.unlink(missing_ok=True)  # renamed, so that append does not find it
        return late

    def verify(self) -> Verification:
        """Check the complete chain, and that it still ends where the newest append left it."""
        with self._reading() as newest:
            return self._inspected(self._end(1), newest)

    def lease(self, key: str) -> FileLease:
        """Return the lease ``lease-<key>`` beside the ledger, shared by all environments kept there."""
        return FileLease(self.path.with_name(f"lease-{key}"))

    def _mark(self, entry: Mapping[str, Any]) -> Path:
        return self.path.with_name(f"{self.path.name}.red-{entry.get('run_id')}")

    def _verified_end(self, count: int, newest: Mapping[str, Any] | None) -> End:
        """Return the end with at least ``count`` entries; LedgerError if the chain is broken."""
        end = self._end(count)
        untouched = newest is not None and newest.get("state") == end.state
        if not (untouched and newest and is_end(end.lines, newest)):
            refuse_broken(self._inspected(end, newest), self.location)
        return end

    def _inspected(self, end: End, newest: Mapping[str, Any] | None) -> Verification:
        return inspect(self._links(end), newest, notes=(_torn(end),) if end.torn else ())

    def _links(self, end: End) -> Iterator[Link]:
        """Yield the complete lines up to an end, one in memory at a time."""
        if not end.at:
            return
        with self.path.open("rb") as stream:
            for number in numbers(1):
                line = stream.readline(end.at - stream.tell())
                if not line:
                    return
                yield Link(f"line {number}", line.removesuffix(b"\n"))

    def _end(self, count: int) -> End:
        """Read back from the end until there are ``count`` complete lines, or all."""
        try:
            stream = self.path.open("rb")
        except FileNotFoundError:
            return End([], b"", 0, [])
        with stream:
            start = size = stream.seek(0, os.SEEK_END)
            content = b""
            while start and content.count(b"\n") <= count:
                step = min(start, max(BLOCK, len(content)))
                start -= step
                stream.seek(start)
                content = stream.read(step) + content
            state = _state(stream)
        *lines, last = content.split(b"\n")
        complete = parsed(last)
        if complete is not None and is_sealed(complete):
            lines, last = [*lines, last], b""
        return End(lines[-count:] if start else lines, last, size - len(last), state)

    def _set_aside(self, end: End) -> None:
        """Move the incomplete last line to a separate file, then cut it off."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.torn-{number}")).exists():
            number += 1
        aside.write_bytes(end.torn)
        os.truncate(self.path, end.at)
        self._notes.append(f"a torn last line of {len(end.torn)} bytes was moved to {aside}")

    def _write(self, record: Mapping[str, Any]) -> list[int]:
        """Add the line of an entry, and return the state of the file with it."""
        with self.path.open("a+b") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - 1))
            gap = b"" if stream.read(1) in (b"", b"\n") else b"\n"
            stream.write(gap + canonical_json(record) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
            return _state(stream)

    @contextmanager
    def _reading(self) -> Iterator[Mapping[str, Any] | None]:
        """Keep writers away, if there ever was one, and yield the record that the latest one left."""
        with self._translated("read"):
            if not self._lock.exists():
                yield None
                return
            with self._lock.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH)
                yield _remembered(lock)

    @contextmanager
    def _writing(self) -> Iterator[IO[bytes]]:
        """Lock out other writers."""
        with self._translated("written"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock.open("a+b") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield lock

    def _translated(self, verb: str) -> AbstractContextManager[None]:
        return _translated(verb, self.location, self.path, self._lock)


class FileLease:
    """A locked file that names its holder. The system unlocks it whenever and however its holder ends."""

    renew_s = expires_s = 0.0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: IO[bytes] | None = None

    def take(self, own: Holder) -> Holder | None:
        """Take it if it is free or its holder is gone; otherwise return who has it."""
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
        """Remove the file, then unlock it: a waiting run checks whether it still exists."""
        if self._held is not None:
            with _translated("written", f"file:{self._path}"), self._held:
                self._path.unlink(missing_ok=True)
            self._held = None

    def _is_at_its_place(self, stream: IO[bytes]) -> bool:
        try:
            return os.path.samestat(os.fstat(stream.fileno()), self._path.stat())
        except FileNotFoundError:
            return False


#: What flock reports where the file system has no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_ELSEWHERE = (
    "its file system cannot lock files: keep the ledger on a local disk or in S3 (s3://BUCKET/PREFIX)"
)


@contextmanager
def _translated(verb: str, location: str, *paths: Path) -> Iterator[None]:
    try:
        for path in paths:
            _refuse_device(path)
        yield
    except OSError as problem:
        advice = f"{remedy(problem, 'correct the path or its permissions')}, or name another ledger"
        if problem.errno in _NO_LOCKS:
            advice = _ELSEWHERE
        raise LedgerError(
            f"cannot be {verb}: {problem.strerror or problem}",
            where=location,
            action=f"{advice}: --readiness-ledger URL, or url in [ledger] of the plan",
        ) from problem


def _refuse_device(path: Path) -> None:
    """Raise OSError for a device, a pipe or a socket, which may have no end or never answer."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, f"{path.name} is not a regular file", str(path))


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


def _remember(lock: IO[bytes], record: Mapping[str, Any], state: list[int]) -> None:
    # Not synced: after a crash it may lag behind the ledger, which is harmless; it is never ahead of it.
    lock.truncate(0)
    lock.write(canonical_json({"seq": record["seq"], "hash": record["hash"], "state": state}))


def _state(stream: IO[bytes]) -> list[int]:
    found = os.fstat(stream.fileno())
    return [found.st_size, found.st_ctime_ns]


def _torn(end: End) -> str:
    return f"a torn last line of {len(end.torn)} bytes is not an entry"


__all__ = ["Ledger", "Verification", "open_ledger", "read_history", "refuse_broken"]

SCHEMES = "file:PATH, s3://BUCKET/PREFIX"


def open_ledger(url: str, rootdir: Path, environment: str = "") -> Ledger:
    """Return the ledger at a URL. Nothing is read or created yet; LedgerError for another scheme.

    ``{env}`` in the URL stands for the environment, and a relative path starts at ``rootdir``.
    """
    target = url.replace("{env}", environment)
    if target.startswith("file:") and target != "file:":
        return FileLedger(rootdir / target.removeprefix("file:").removeprefix("//"))
    if target.startswith("s3://") and target != "s3://":
        from .s3 import S3Ledger

        bucket, _, prefix = target.removeprefix("s3://").partition("/")
        return S3Ledger(bucket, prefix)
    raise LedgerError(f"{url!r} is not a ledger", where="ledger url", allowed=SCHEMES)


def read_history(
    ledger: Ledger,
    environment: str,
    is_enough: Callable[[Sequence[Mapping[str, Any]]], bool] = lambda _: False,
    first: int = 10,
) -> list[dict[str, Any]]:
    """Return the newest entries of an environment, newest last; LedgerError when they are broken.

    The newest ``first`` are read, then more until ``is_enough`` accepts those found, or all.
    """
    count = first
    while True:
        found = ledger.recent(count)
        own = [entry for entry in found if entry.get("environment", environment) == environment]
        if len(found) < count or is_enough(own):
            return own
        count *= 4
