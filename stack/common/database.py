"""PostgreSQL through PgBouncer in transaction mode: one small pool per process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

Connection = psycopg.AsyncConnection[DictRow]

# What "the database cannot be reached" looks like, for those who answer 503 to it.
UNREACHABLE = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)


class Database:
    """A pool of autocommit connections; `transaction()` is for what must be atomic."""

    def __init__(self, dsn: str, *, max_size: int) -> None:
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            dsn,
            min_size=1,
            max_size=max_size,
            timeout=3.0,
            reconnect_timeout=1.0,
            open=False,
            # Transaction pooling hands out another server connection each time: a statement prepared on one
            # does not exist on the next, so nothing may be prepared.
            kwargs={"autocommit": True, "prepare_threshold": None, "row_factory": dict_row},
            check=AsyncConnectionPool.check_connection,
        )
        # asyncio itself holds a task only weakly
        self._probes: set[asyncio.Task[dict[str, Any] | None]] = set()

    async def open(self) -> None:
        """Start filling the pool without waiting: a service starts without its database and reports that."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Return every connection."""
        await self._pool.close(timeout=1.0)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction on one connection; rolled back when the block raises."""
        async with self._pool.connection() as connection, connection.transaction():
            yield connection

    async def one(self, sql: str, *params: Any) -> dict[str, Any] | None:
        """The first row of a statement, or None."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(sql, params)
            return await cursor.fetchone() if cursor.description else None

    async def execute(self, sql: str, *params: Any, **named: Any) -> int:
        """Run a statement with `%s` or with `%(name)s` parameters; the number of rows that it touched."""
        async with self._pool.connection() as connection:
            return (await connection.execute(sql, named or params)).rowcount

    async def reachable(self, within: float = 1.0) -> bool:
        """Whether the database answers a query in time."""
        return await self.answer("SELECT 1 AS one", within) is not None

    async def answer(self, sql: str, within: float) -> dict[str, Any] | None:
        """The first row of a query; None when the database cannot be reached or does not answer in time."""
        # Not asyncio.timeout: a query that is cancelled first asks the server to give it up, which a hung
        # one does not answer either. So it is left to end by itself.
        query = asyncio.create_task(self.one(sql))
        self._probes.add(query)
        query.add_done_callback(self._ended)
        try:
            await asyncio.wait({query}, timeout=within)
            return query.result() if query.done() else None
        except UNREACHABLE:
            return None
        finally:
            query.cancel()

    def _ended(self, query: asyncio.Task[dict[str, Any] | None]) -> None:
        self._probes.discard(query)
        if not query.cancelled():
            query.exception()  # retrieved, or asyncio would log that it never was
