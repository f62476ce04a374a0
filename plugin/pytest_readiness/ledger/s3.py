"""A ledger in a bucket: one object for each entry, created only if absent, so that no chain can fork.

A lease is also an object; only a run that has read the current version can replace it.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from random import uniform
from threading import Event
from typing import Any, TypeVar

from ..aws import aws_session, in_time, require
from ..core.errors import LedgerError
from ..core.formats import canonical_json
from .chain import (
    Holder,
    Link,
    Verification,
    announced,
    inspect,
    is_end,
    parsed,
    records,
    refuse_broken,
    remembered,
    sealed,
)

T = TypeVar("T")

_ENTRY = re.compile(r"\d{8}\.json")
_NEWEST = "newest.json"
_PROBE = "probe.json"
_RED = "red/"
#: How often a writer that lost the race for a place tries the next one; how many objects are read at once.
ATTEMPTS, READERS = 20, 8
#: How many entries the record of the newest ones holds, and how many a bundle.
KEPT, BUNDLE = 32, 256
#: Total time for one object or listing: name look-up, credentials, three attempts.
DEADLINE_S = 30.0
#: Seconds between renewals of a lease, and until it expires without one.
RENEW_S, EXPIRES_S = 15.0, 60.0
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_NO_OBJECT = frozenset({"NoSuchKey", "404"})
_ADVICE = {
    "NoSuchBucket": "create the bucket, or correct the ledger's url",
    "AccessDenied": "allow s3:ListBucket on the bucket, s3:GetObject and s3:PutObject on its prefix",
    "NoCredentialsError": "give the runner AWS credentials",
    "TimeoutError": "correct the runner's DNS, its route to AWS, or the source of its credentials",
}


class S3Ledger:
    """``<prefix>/00000001.json`` and so on; ``<prefix>/newest.json`` records the newest entries.

    Region, credentials and endpoint are botocore's own (AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL_S3 ...).
    This record is written after the entry, so it may lag behind the chain but never be ahead of it. It holds
    the ``KEPT`` newest entries, so that a run reads the end of the ledger in three calls. Every ``BUNDLE``
    entries are also written as lines of ``<prefix>/00000001-00000256.jsonl.gz``, so that a ledger is verified
    in few calls; without a bundle, the entries themselves are read. ``<prefix>/red/`` holds the announcements
    of BROKEN runs, emptied once they are in the ledger, because a runner need not be allowed to delete.
    ``<prefix>/probe.json`` serves to test that the store creates only objects that do not exist yet.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self._notes: list[str] = []
        self._announced: set[str] = set()
        self.bucket, self.prefix = bucket, prefix.strip("/")
        self._client: Any = None
        require(self.location, LedgerError)

    @property
    def location(self) -> str:
        """Where it is, for people."""
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks from appending."""
        return tuple(self._notes)

    def recent(self, count: int) -> list[dict[str, Any]]:
        """Return the newest entries, newest last; LedgerError if unreadable or broken."""
        return [entry for entry in map(parsed, self._end(count)[-count:]) if entry is not None]

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield all entries, oldest first; LedgerError, before any, that names the first bad one."""
        refuse_broken(self.verify(), self.location)
        for link in self._links(max(self._sizes(self._memory()), default=0)):
            if (entry := parsed(link.content)) is not None:
                yield entry

    def append(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Add an entry after the newest one, or after another writer's if that was faster."""
        self.prepare()
        for _ in range(ATTEMPTS):
            before = self._end(KEPT - 1)
            record = sealed(entry, parsed(before[-1]) if before else None)
            name, content = _name(record["seq"]), canonical_json(record)
            if self._create(name, content):
                self._refuse_other(name, content)
                self._remember(record, [*before, content])
                self._bundle_up(record)
                return record
            Event().wait(uniform(0.05, 0.5))  # noqa: S311 - to fall out of step, not a secret
        raise LedgerError(
            f"other runs took the next place {ATTEMPTS} times", where=self.location, action="run again"
        )

    def prepare(self) -> None:
        """Refuse a bucket that cannot accept an entry, or that lets two writers overwrite each other."""
        for _ in range(2):  # the first write may create it, the second must not
            if not self.put(_PROBE, b"{}", IfNoneMatch="*"):
                return
        raise self._unconditional()

    def announce(self, entry: Mapping[str, Any]) -> None:
        """Store the entry of a run that is already BROKEN, in case it is killed before it can append it."""
        self.put(_mark(entry), canonical_json(sealed(entry, None)))
        self._announced.add(_mark(entry))

    def settle(self) -> list[str]:
        """Append the announced entries of runs that were killed; return their ids."""
        late = []
        for name in [name for name, size in self._listed(_RED) if size]:
            entry = announced(self._get(name) or b"", f"{self.location}/{name}")
            if not records(self, str(entry.get("run_id"))):
                late.append(str(self.append(entry).get("run_id")))
            self.put(name, b"")
        return late

    def verify(self) -> Verification:
        """Check the complete chain, and that it still ends where the newest append left it."""
        newest = self._memory()
        return inspect(self._links(max(self._sizes(newest), default=0)), newest)

    def lease(self, key: str) -> S3Lease:
        """Return the lease ``<prefix>/lease-<key>.json``."""
        return S3Lease(self, f"lease-{key}.json")

    def put(self, name: str, body: bytes, **condition: str) -> bool:
        """Write an object; False if the existing one does not meet the condition."""

        def write() -> bool:
            try:
                self._s3().put_object(
                    Bucket=self.bucket,
                    Key=self._key(name),
                    Body=body,
                    ContentType="application/json",
                    **condition,
                )
            except self._s3().exceptions.ClientError as problem:
                if condition and _code(problem) in _TAKEN | _NO_OBJECT:
                    return False
                raise
            return True

        return self._within("written", write)

    def stored(self, name: str) -> Stored | None:
        """Return an object with its version and its age by the store's own clock, or None."""

        def read() -> Stored | None:
            try:
                found = self._s3().get_object(Bucket=self.bucket, Key=self._key(name))
                return Stored(found["Body"].read(), found.get("ETag", ""), _age(found))
            except self._s3().exceptions.ClientError as problem:
                if _code(problem) in _NO_OBJECT:
                    return None
                raise

        return self._within("read", read)

    def _memory(self) -> Mapping[str, Any] | None:
        return remembered(self._get(_NEWEST) or b"")

    def _sizes(self, newest: Mapping[str, Any] | None) -> dict[int, int]:
        """Return number and size of the recorded entries, and of all added since."""
        seq = newest["seq"] if newest else 0
        found = self._listed("", after=_name(max(0, seq - KEPT)))
        sizes = {int(name[:8]): size for name, size in found if _ENTRY.fullmatch(name)}
        return {seq: -1, **sizes} if seq else sizes

    def _end(self, count: int) -> list[bytes]:
        """Return the newest entries. A recorded entry is read only if its object has another size.

        The newest recorded one is always read: if its predecessors were changed, the links do not fit.
        """
        newest = self._memory()
        sizes = self._sizes(newest)
        extent = max(sizes, default=0)
        if newest is not None:
            held = {each.get("seq"): canonical_json(each) for each in _entries(newest)[:-1]}
            wanted = range(max(1, extent - count + 1), extent + 1)
            held = {each: held[each] for each in wanted if len(held.get(each, b"")) == sizes.get(each)}
            read = self._read([_name(each) for each in wanted if each not in held])
            found = [held[each] if each in held else next(read) for each in wanted]
            if is_end(found, newest):
                return found
        end = deque[bytes](maxlen=count)
        refuse_broken(inspect(_kept(self._links(extent), end), newest), self.location)
        return [*end]

    def _links(self, extent: int) -> Iterator[Link]:
        """Yield the entries up to a number, with a few bundles read ahead, so that memory stays flat."""
        starts = range(1, extent + 1, BUNDLE)
        full = starts[: extent // BUNDLE]
        coming = deque[Future[list[bytes]]]()
        with ThreadPoolExecutor(READERS) as pool:
            for place, start in enumerate(starts):
                for later in full[place + len(coming) : place + READERS]:
                    coming.append(pool.submit(self._unpacked, _bundle(later)))
                if coming and (lines := coming.popleft().result()):
                    yield from (Link(_bundle(start), line) for line in lines)
                else:
                    names = [_name(each) for each in range(start, min(start + BUNDLE, extent + 1))]
                    yield from map(Link, names, self._read(names))

    def _bundle_up(self, newest: Mapping[str, Any]) -> None:
        """Also write a full bundle of entries as one object; without it, they are read one by one.

        Nothing edited or removed goes into a bundle, because from then on ``verify`` reads only the bundle.
        """
        first = newest["seq"] - BUNDLE + 1
        if newest["seq"] % BUNDLE:
            return
        problem = "its entries are not linked: see readiness ledger verify"
        try:
            lines = [*self._read([_name(each) for each in range(first, first + BUNDLE)])]
            if is_end(lines, newest):
                self.put(_bundle(first), packed(lines), IfNoneMatch="*")
                return
        except LedgerError as refused:
            problem = refused.what
        self._notes.append(f"{_bundle(first)} is not written: {problem}")

    def _listed(self, start: str, after: str = "") -> list[tuple[str, int]]:
        """Return name and size of the objects whose names begin with ``start`` and follow ``after``, sorted.

        Entries begin with a digit; other objects are returned only if they share a page of the listing.
        """
        root = self._key("")

        def read() -> list[tuple[str, int]]:
            found: list[tuple[str, int]] = []
            list_objects = self._s3().get_paginator("list_objects_v2").paginate
            for page in list_objects(Bucket=self.bucket, Prefix=root + start, StartAfter=root + after):
                objects = page.get("Contents", ())
                found += ((each["Key"].removeprefix(root), each.get("Size", -1)) for each in objects)
                if not start and found and found[-1][0] > ":":
                    break
            return sorted(each for each in found if each[0].startswith(start) and each[0] > after)

        return self._within("read", read)

    def _read(self, names: Sequence[str]) -> Iterator[bytes]:
        """Read objects concurrently; a missing one is left out."""
        with ThreadPoolExecutor(READERS) as pool:
            return iter([content or b"" for content in pool.map(self._get, names)])

    def _unpacked(self, bundle: str) -> list[bytes]:
        """Read the entries of a bundle; none if it is missing or not a bundle."""
        content = self._get(bundle) or b""
        try:
            return gzip.decompress(content).splitlines()
        except (EOFError, OSError, zlib.error):
            return [content]

    def _get(self, name: str) -> bytes | None:
        found = self.stored(name)
        return found.content if found else None

    def _create(self, name: str, body: bytes) -> bool:
        """Create an object; False if another writer has that place.

        A lost answer is not a refusal: a client that repeats the call finds its own object there.
        """
        try:
            return self.put(name, body, IfNoneMatch="*") or self._get(name) == body
        except LedgerError:
            if self._get(name) == body:
                return True
            raise

    def _remember(self, record: Mapping[str, Any], end: Sequence[bytes]) -> None:
        """Record the newest entries; the entry is in the chain and counts even without this."""
        held = b'{"entries":[%b],"hash":"%b","seq":%d}'
        try:
            self.put(_NEWEST, held % (b",".join(end[-KEPT:]), record["hash"].encode(), record["seq"]))
            if (mark := _mark(record)) in self._announced:
                self.put(mark, b"")
        except LedgerError as problem:
            self._notes.append(f"{_NEWEST} lags behind: {problem.what}")

    def _refuse_other(self, name: str, body: bytes) -> None:
        """Read back the created object: in a store that ignores the condition, it may be another writer's."""
        if self._get(name) != body:
            raise self._unconditional()

    def _unconditional(self) -> LedgerError:
        return LedgerError(
            "this store ignores If-None-Match: two runs at once would overwrite each other's entries",
            where=self.location,
            action="use a store with conditional writes, such as S3 itself, or a ledger in a file",
        )

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _s3(self) -> Any:
        if self._client is None:
            from botocore.config import Config

            config = Config(
                connect_timeout=5, read_timeout=15, retries={"mode": "standard", "total_max_attempts": 3}
            )
            self._client = aws_session().create_client("s3", config=config)
        return self._client

    def _within(self, verb: str, call: Callable[[], T]) -> T:
        """Return what a call of S3 returns; LedgerError if S3 refuses or takes too long."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return in_time(call, DEADLINE_S)
        except (BotoCoreError, ClientError, TimeoutError) as problem:
            cause = _code(problem)
            raise LedgerError(
                f"cannot be {verb}: {cause}: {' '.join(str(problem).split())}",
                where=self.location,
                action=_ADVICE.get(cause, "correct the runner's AWS settings, or name another ledger"),
            ) from problem


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as read. ``age_s`` is by the store's own clock, 0.0 if it does not say."""

    content: bytes
    version: str
    age_s: float


class S3Lease:
    """An object that names its holder and is rewritten while the holder lives.

    Nothing needs to be deleted: a lease that was given back is an empty object.
    """

    def __init__(self, ledger: S3Ledger, name: str) -> None:
        self.renew_s, self.expires_s = RENEW_S, EXPIRES_S
        self._ledger, self._name = ledger, name
        self._own: Holder | None = None
        self._version = ""
        self._renewals = 0

    def take(self, own: Holder) -> Holder | None:
        """Take it if it is free or has expired; otherwise return who has it."""
        found = self._ledger.stored(self._name)
        if found is not None and found.content and found.age_s <= self.expires_s:
            return Holder.read(found.content)
        self._own, self._version = own, found.version if found else ""
        return self._write(own.encoded(renewals=self._renewals))

    def renew(self) -> Holder | None:
        """Renew it; return who has taken it over in the meantime."""
        if self._own is None:
            return None
        self._renewals += 1
        return self._write(self._own.encoded(renewals=self._renewals))

    def release(self) -> None:
        """Leave an empty object, if this run still has the lease."""
        if self._own is not None:
            self._own = None
            self._ledger.put(self._name, b"", IfMatch=self._version)

    def _write(self, content: bytes) -> Holder | None:
        """Replace the version seen last; return the holder then stored, None if it is this run.

        The stored object decides, not the answer to the write, which may be lost. If an earlier answer was
        lost together with its version, the stored version is this run's own and is replaced in turn.
        """
        for _ in range(2):
            known = {"IfMatch": self._version} if self._version else {"IfNoneMatch": "*"}
            self._ledger.put(self._name, content, **known)
            found = self._ledger.stored(self._name)
            holder = Holder.read(found.content if found else b"")
            if found is None or holder != Holder.read(content):
                self._own = None
                return holder
            self._version = found.version
            if found.content == content:
                break
        return None


def _age(found: Mapping[str, Any]) -> float:
    written: datetime | None = found.get("LastModified")
    now = found["ResponseMetadata"]["HTTPHeaders"].get("date")
    return (parsedate_to_datetime(now) - written).total_seconds() if written and now else 0.0


def packed(entries: Sequence[bytes]) -> bytes:
    """Return the content of a bundle: entries as lines, compressed."""
    return gzip.compress(b"\n".join(entries), compresslevel=6, mtime=0)


def _kept(links: Iterator[Link], end: deque[bytes]) -> Iterator[Link]:
    """Yield the links, and keep their content."""
    for link in links:
        end.append(link.content)
        yield link


def _entries(newest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries in a record; an older version's record has none."""
    found = newest.get("entries")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _name(number: int) -> str:
    return f"{number:08d}.json"


def _bundle(first: int) -> str:
    return f"{first:08d}-{first + BUNDLE - 1:08d}.jsonl.gz"


def _mark(entry: Mapping[str, Any]) -> str:
    return f"{_RED}{entry.get('run_id')}.json"


def _code(problem: Exception) -> str:
    """Return an error's code from the service, or the name of the client's own error."""
    response = getattr(problem, "response", None)
    return str(response["Error"]["Code"]) if isinstance(response, dict) else type(problem).__name__
