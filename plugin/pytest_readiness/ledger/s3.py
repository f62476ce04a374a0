"""A ledger in a bucket: one object for each entry, created only if absent, so that no chain can fork."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import uniform
from threading import Event
from typing import Any

from ..aws import aws_session, require
from ..core.errors import LedgerError
from ..core.formats import canonical_json
from .chain import Link, Verification, ending, inspect, parsed, refuse_broken, remembered, sealed

_ENTRY = re.compile(r"\d{8}\.json")
_NEWEST = "newest.json"
#: How often a writer that lost the race for a place tries the next, and how many entries are read at once.
ATTEMPTS, READERS = 20, 8
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_NO_OBJECT = frozenset({"NoSuchKey", "404"})
_ADVICE = {
    "NoSuchBucket": "create the bucket, or correct the ledger's url",
    "AccessDenied": "allow s3:ListBucket on the bucket, s3:GetObject and s3:PutObject on its prefix",
    "NoCredentialsError": "give the runner AWS credentials",
}


class S3Ledger:
    """``<prefix>/00000001.json`` and so on; ``<prefix>/newest.json`` is the memory of the newest entry.

    Region, credentials and endpoint are botocore's own (AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL_S3 ...).
    The memory is written after the entry, so it may lag behind the chain but never run ahead of it.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket, self.prefix = bucket, prefix.strip("/")
        self._client: Any = None
        require(self.location, LedgerError)

    @property
    def location(self) -> str:
        """Where it is, for people."""
        return f"s3://{self.bucket}/{self.prefix}"

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries, newest last; LedgerError when the bucket is unreadable or the chain broken."""
        links, newest = self._read()
        refuse_broken(ending(inspect(links), links, newest), self.location)
        return [link.entry for link in links if link.entry is not None]

    def append(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Add an entry after the newest one; where another writer was faster, after that one's."""
        for _ in range(ATTEMPTS):
            before = self.entries()
            record = sealed(entry, before[-1] if before else None)
            if self._create(record):
                memory = {"seq": record["seq"], "hash": record["hash"]}
                self._put(_NEWEST, canonical_json(memory))
                return record
            Event().wait(uniform(0.05, 0.5))  # noqa: S311 - to fall out of step, not a secret
        raise LedgerError(
            f"other runs took the next place {ATTEMPTS} times", where=self.location, action="run again"
        )

    def verify(self) -> Verification:
        """Check the whole chain, and that it still ends where the newest append left it."""
        links, newest = self._read()
        return ending(inspect(links), links, newest)

    def _read(self) -> tuple[list[Link], Mapping[str, Any] | None]:
        # The memory first: read last, it could be of an entry that was created after the listing.
        newest = remembered(self._get(_NEWEST) or b"")
        with self._told("read"):
            names = sorted(self._names())
        with ThreadPoolExecutor(READERS) as pool:
            contents = list(pool.map(self._get, names))
        pairs = zip(names, contents, strict=True)
        return [Link(place=name, entry=parsed(content or b"")) for name, content in pairs], newest

    def _names(self) -> Iterator[str]:
        start = self._key("")
        pages = self._s3().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start)
        for page in pages:
            for found in page.get("Contents", ()):
                name = found["Key"].removeprefix(start)
                if _ENTRY.fullmatch(name):
                    yield name

    def _get(self, name: str) -> bytes | None:
        with self._told("read"):
            try:
                found = self._s3().get_object(Bucket=self.bucket, Key=self._key(name))
                return bytes(found["Body"].read())
            except self._s3().exceptions.ClientError as problem:
                if _code(problem) in _NO_OBJECT:
                    return None
                raise

    def _create(self, record: Mapping[str, Any]) -> bool:
        """Write an entry in its place; False when another writer has that place."""
        with self._told("written"):
            try:
                self._s3().put_object(
                    Bucket=self.bucket,
                    Key=self._key(f"{record['seq']:08d}.json"),
                    Body=canonical_json(record),
                    ContentType="application/json",
                    IfNoneMatch="*",
                )
            except self._s3().exceptions.ClientError as problem:
                if _code(problem) in _TAKEN:
                    return False
                raise
        return True

    def _put(self, name: str, body: bytes) -> None:
        with self._told("written"):
            self._s3().put_object(
                Bucket=self.bucket, Key=self._key(name), Body=body, ContentType="application/json"
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

    @contextmanager
    def _told(self, verb: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as problem:
            cause = _code(problem)
            raise LedgerError(
                f"cannot be {verb}: {cause}: {' '.join(str(problem).split())}",
                where=self.location,
                action=_ADVICE.get(cause, "correct the runner's AWS settings, or name another ledger"),
            ) from problem


def _code(problem: Exception) -> str:
    """Return the service's code of an error, or the name of a client's own."""
    response = getattr(problem, "response", None)
    return str(response["Error"]["Code"]) if isinstance(response, dict) else type(problem).__name__
