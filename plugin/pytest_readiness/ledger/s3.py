"""A ledger in a bucket: one object for each entry, created only if absent, so that no chain can fork.

A lease is an object, too, which is replaced only by who has read what it replaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from random import uniform
from threading import Event
from typing import Any, TypeVar

from ..aws import aws_session, in_time, require
from ..core.errors import LedgerError
from ..core.formats import canonical_json
from .chain import Link, Verification, announced, ending, inspect, parsed, refuse_broken, remembered, sealed
from .lease import Holder

T = TypeVar("T")

_ENTRY = re.compile(r"\d{8}\.json")
_NEWEST = "newest.json"
_PROBE = "probe.json"
_RED = "red/"
#: How often a writer that lost the race for a place tries the next, and how many entries are read at once.
ATTEMPTS, READERS = 20, 8
#: For one object or listing in all: the look-up of names, credentials, three attempts.
DEADLINE_S = 30.0
#: A lease is renewed every so many seconds, and free after so many without.
RENEW_S, EXPIRES_S = 15.0, 60.0
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_NO_OBJECT = frozenset({"NoSuchKey", "404"})
_ADVICE = {
    "NoSuchBucket": "create the bucket, or correct the ledger's url",
    "AccessDenied": "allow s3:ListBucket on the bucket, s3:GetObject and s3:PutObject on its prefix",
    "NoCredentialsError": "give the runner AWS credentials",
    "TimeoutError": "correct the runner's resolver, its way to AWS or what gives it credentials",
}


class S3Ledger:
    """``<prefix>/00000001.json`` and so on; ``<prefix>/newest.json`` is the memory of the newest entry.

    Region, credentials and endpoint are botocore's own (AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL_S3 ...).
    The memory is written after the entry, so it may lag behind the chain but never run ahead of it.
    ``<prefix>/red/`` holds what BROKEN runs announced, ``<prefix>/probe.json`` nothing: it is there so that a
    store can show that it creates only what is absent.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self._notes: list[str] = []
        self.bucket, self.prefix = bucket, prefix.strip("/")
        self._client: Any = None
        require(self.location, LedgerError)

    @property
    def location(self) -> str:
        """Where it is, for people."""
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What was noticed while appending."""
        return tuple(self._notes)

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries, newest last; LedgerError when the bucket is unreadable or the chain broken."""
        links, newest = self._read()
        refuse_broken(ending(inspect(links), links, newest), self.location)
        return [link.entry for link in links if link.entry is not None]

    def append(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Add an entry after the newest one; where another writer was faster, after that one's."""
        self.prepare()
        for _ in range(ATTEMPTS):
            before = self.entries()
            record = sealed(entry, before[-1] if before else None)
            name = _name(record)
            if self._create(name, canonical_json(record)):
                self._refuse_other(name, canonical_json(record))
                self._remember(record)
                return record
            Event().wait(uniform(0.05, 0.5))  # noqa: S311 - to fall out of step, not a secret
        raise LedgerError(
            f"other runs took the next place {ATTEMPTS} times", where=self.location, action="run again"
        )

    def prepare(self) -> None:
        """Refuse a bucket that could not take an entry, or that lets two writers overwrite each other."""
        for _ in range(2):  # the first may create it, the second must not
            if not self.put(_PROBE, b"{}", IfNoneMatch="*"):
                return
        raise self._unconditional()

    def announce(self, entry: Mapping[str, Any]) -> None:
        """Keep the entry of a run that is BROKEN before its end, in case it does not live to append it."""
        self.put(f"{_RED}{entry['run_id']}.json", canonical_json(sealed(entry, None)))

    def settle(self) -> list[str]:
        """Append what runs announced that were killed before they could; return their ids.

        What is in the chain already stays announced: a runner need not be allowed to delete.
        """
        marks = [name for name in self._names() if name.startswith(_RED)]
        known = {str(entry.get("run_id")) for entry in self.entries()} if marks else set()
        late = [name for name in marks if name.removeprefix(_RED).removesuffix(".json") not in known]
        return [
            str(self.append(announced(self._get(name) or b"", f"{self.location}/{name}")).get("run_id"))
            for name in late
        ]

    def verify(self) -> Verification:
        """Check the complete chain, and that it still ends where the newest append left it."""
        links, newest = self._read()
        return ending(inspect(links), links, newest)

    def lease(self, key: str) -> S3Lease:
        """Return the lease ``<prefix>/lease-<key>.json``."""
        return S3Lease(self, f"lease-{key}.json")

    def put(self, name: str, body: bytes, **condition: str) -> bool:
        """Write an object; False when another one is there than the condition demands."""

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
        """Return an object with its version and its age by the store's own clock; None when there is none."""

        def read() -> Stored | None:
            try:
                found = self._s3().get_object(Bucket=self.bucket, Key=self._key(name))
                return Stored(found["Body"].read(), found.get("ETag", ""), _age(found))
            except self._s3().exceptions.ClientError as problem:
                if _code(problem) in _NO_OBJECT:
                    return None
                raise

        return self._within("read", read)

    def _read(self) -> tuple[list[Link], Mapping[str, Any] | None]:
        # The memory first: read last, it could be of an entry that was created after the listing.
        newest = remembered(self._get(_NEWEST) or b"")
        names = [name for name in self._names() if _ENTRY.fullmatch(name)]
        with ThreadPoolExecutor(READERS) as pool:
            contents = list(pool.map(self._get, names))
        pairs = zip(names, contents, strict=True)
        return [Link(place=name, entry=parsed(content or b"")) for name, content in pairs], newest

    def _names(self) -> list[str]:
        """Return the names of all objects, sorted."""
        start = self._key("")

        def read() -> list[str]:
            pages = self._s3().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start)
            return sorted(
                found["Key"].removeprefix(start) for page in pages for found in page.get("Contents", ())
            )

        return self._within("read", read)

    def _get(self, name: str) -> bytes | None:
        found = self.stored(name)
        return found.content if found else None

    def _create(self, name: str, body: bytes) -> bool:
        """Write an object in its place; False when another writer has that place.

        An answer that was lost is not a refusal: a client that asks again finds its own object there.
        """
        try:
            return self.put(name, body, IfNoneMatch="*") or self._get(name) == body
        except LedgerError:
            if self._get(name) == body:
                return True
            raise

    def _remember(self, record: Mapping[str, Any]) -> None:
        """Note which entry is the newest; it is in the chain and counts without this, too."""
        try:
            self.put(_NEWEST, canonical_json({"seq": record["seq"], "hash": record["hash"]}))
        except LedgerError as problem:
            self._notes.append(f"{_NEWEST} lags behind: {problem.what}")

    def _refuse_other(self, name: str, body: bytes) -> None:
        """Read back what was created: in a store that ignores the condition, it may be another writer's."""
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
        """Return what a call of S3 returns; LedgerError when S3 refuses or takes too long."""
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
    """An object as it was read. ``age_s`` is by the store's own clock, 0.0 where it does not say."""

    content: bytes
    version: str
    age_s: float


class S3Lease:
    """An object that names its holder and is written anew while the holder lives.

    Nothing needs to be deleted: one that was given back is an empty object.
    """

    def __init__(self, ledger: S3Ledger, name: str) -> None:
        self.renew_s, self.expires_s = RENEW_S, EXPIRES_S
        self._ledger, self._name = ledger, name
        self._own: Holder | None = None
        self._version = ""
        self._renewals = 0

    def take(self, own: Holder) -> Holder | None:
        """Take it if it is free or has expired; return who has it otherwise."""
        found = self._ledger.stored(self._name)
        if found is not None and found.content and found.age_s <= self.expires_s:
            return Holder.read(found.content)
        self._own, self._version = own, found.version if found else ""
        return self._write(own.encoded(renewals=self._renewals))

    def renew(self) -> Holder | None:
        """Keep it; return who has taken it over meanwhile."""
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
        """Replace the version that was seen last; return whose is there then, None for this run's own.

        What is there decides, and not the answer to the write, which may be lost. If an earlier answer was
        lost, and with it the version, that version is this run's own: it is replaced in turn.
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


def _name(record: Mapping[str, Any]) -> str:
    return f"{record['seq']:08d}.json"


def _code(problem: Exception) -> str:
    """Return the service's code of an error, or the name of a client's own."""
    response = getattr(problem, "response", None)
    return str(response["Error"]["Code"]) if isinstance(response, dict) else type(problem).__name__
