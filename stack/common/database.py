"""PostgreSQL through PgBouncer in transaction mode: one small pool per process."""

import asyncio
import select
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

Connection = psycopg.AsyncConnection[DictRow]

# The exceptions that mean "the database cannot be reached", which is answered with 503.
UNREACHABLE = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)


# For so long after its last statement a connection is believed to be alive, unless its peer has closed it.
_ALIVE_FOR_S = 1.0
# How long a cancelled caller waits for work that must not be interrupted.
_PATIENCE_S = 5.0

T = TypeVar("T")


async def surely(work: Coroutine[Any, Any, T]) -> T:
    """Finish the work even if the caller is cancelled meanwhile, and only then let it be cancelled."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=_PATIENCE_S)
        raise


def _has_news(connection: Connection) -> bool:
    """Whether something came over an idle connection: its end, or a warning of it."""
    news = select.poll()
    news.register(connection.fileno(), select.POLLIN)
    return bool(news.poll(0))


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
            check=self._check,
        )
        self._used: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()
        # asyncio itself holds a task only weakly
        self._probes: set[asyncio.Task[dict[str, Any] | None]] = set()

    async def _check(self, connection: Connection) -> None:
        """Check that the server is still there, unless it just was: each check costs one more query."""
        idle = time.monotonic() - self._used.get(connection, 0.0)
        if idle > _ALIVE_FOR_S or _has_news(connection):
            await AsyncConnectionPool.check_connection(connection)

    async def open(self) -> None:
        """Start filling the pool without waiting: a service starts without its database and reports that."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Return every connection."""
        await self._pool.close(timeout=1.0)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        async with self._pool.connection() as connection:
            try:
                yield connection
                self._used[connection] = time.monotonic()
            except psycopg.InternalError as error:
                if error.sqlstate is not None:
                    raise
                # The driver's own: a server that went down answered, and PgBouncer answered for it once more.
                await connection.close()
                raise psycopg.OperationalError(str(error)) from error
            except UNREACHABLE:
                await connection.close()  # a late answer to this statement would be read as one to the next
                raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction on one connection; rolled back when the block raises."""
        async with self._connection() as connection, connection.transaction():
            yield connection

    # A statement that is cancelled asks the server by another connection to give it up. PgBouncer 1.18, when
    # it drops clients meanwhile, gives one of them another user's pool, or crashes. So each ends by itself.

    async def one(self, sql: str, *params: Any) -> dict[str, Any] | None:
        """The first row of a statement, or None."""
        return await surely(self._one(sql, params))

    async def _one(self, sql: str, params: tuple[Any, ...]) -> dict[str, Any] | None:
        async with self._connection() as connection:
            cursor = await connection.execute(sql, params)
            return await cursor.fetchone() if cursor.description else None

    async def execute(self, sql: str, *params: Any, **named: Any) -> int:
        """Run a statement with `%s` or with `%(name)s` parameters; the number of rows that it touched."""
        return await surely(self._execute(sql, named or params))

    async def _execute(self, sql: str, params: tuple[Any, ...] | dict[str, Any]) -> int:
        async with self._connection() as connection:
            return (await connection.execute(sql, params)).rowcount

    async def reachable(self, within: float = 1.0) -> bool:
        """Whether the database answers a query in time."""
        return await self.answer("SELECT 1 AS one", within) is not None

    async def answer(self, sql: str, within: float) -> dict[str, Any] | None:
        """The first row of a query; None when the database cannot be reached or does not answer in time."""
        # Not asyncio.timeout: a query is not cancelled (see above), and a hung one is not waited for.
        query = asyncio.create_task(self.one(sql))
        self._probes.add(query)
        query.add_done_callback(self._ended)
        try:
            await asyncio.wait({query}, timeout=within)
            return query.result() if query.done() else None
        except UNREACHABLE:
            return None

    def _ended(self, query: asyncio.Task[dict[str, Any] | None]) -> None:
        self._probes.discard(query)
        if not query.cancelled():
            query.exception()  # retrieved, or asyncio would log that it never was
