"""A service's view of its database while PgBouncer answers for a server that is down."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import psycopg
import pytest

from stack.common.database import UNREACHABLE, Database

READY = b"Z\0\0\0\x05I"
CANCEL_KEY = b"K\0\0\0\x0c\0\0\0\x01\0\0\0\x02"


def error(sqlstate: str) -> bytes:
    fields = f"SFATAL\0C{sqlstate}\0Mterminated\0\0".encode()
    return b"E" + (len(fields) + 4).to_bytes(4) + fields


async def asked(
    answer: bytes,
    question: Callable[[Database], Awaitable[object]],
    arrived: asyncio.Event | None = None,
    due: asyncio.Event | None = None,
) -> int:
    """Put a question to a server that answers every statement but an empty one with these bytes.

    It answers a statement that has ``arrived`` when the answer is ``due``. Returns the number of connections.
    """
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readexactly(int.from_bytes(await reader.readexactly(4)) - 4)
        writer.write(b"R\0\0\0\x08\0\0\0\0" + CANCEL_KEY + READY)
        while await reader.read(1) == b"Q":
            statement = await reader.readexactly(int.from_bytes(await reader.readexactly(4)) - 4)
            if statement.strip(b"\0") and arrived and due:
                arrived.set()
                await due.wait()
            writer.write((answer if statement.strip(b"\0") else b"I\0\0\0\x04") + READY)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    database = Database(f"postgresql://a@127.0.0.1:{port}/b?sslmode=disable&gssencmode=disable", max_size=1)
    await database.open()
    try:
        await question(database)
    finally:
        await database.close()
        server.close()
    return connections


async def transaction(database: Database) -> None:
    async with database.transaction():
        pass


@pytest.mark.parametrize(
    "question",
    [transaction, lambda database: database.one("SELECT 1"), lambda database: database.execute("SELECT 1")],
    ids=["transaction", "one", "execute"],
)
def test_two_errors_for_one_statement_are_an_unreachable_database(
    question: Callable[[Database], Awaitable[object]],
) -> None:
    with pytest.raises(UNREACHABLE):
        asyncio.run(asked(error("57P01") + error("08P01"), question))


def test_an_error_of_the_server_itself_stays_what_it_is() -> None:
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        asyncio.run(asked(error("25P02"), transaction))


async def twice(database: Database) -> None:
    for _ in range(2):
        with pytest.raises(UNREACHABLE):
            await database.one("SELECT 1")


@pytest.mark.parametrize("answer", [error("08P01"), error("57P01") + error("08P01")], ids=["one", "two"])
def test_a_connection_whose_server_went_down_is_not_used_again(answer: bytes) -> None:
    """A late answer to the failed statement would be read as the answer to the next one."""
    assert asyncio.run(asked(answer, twice)) >= 2


@pytest.mark.parametrize(
    "question",
    [lambda database: database.one("SELECT 1"), lambda database: database.execute("SELECT 1")],
    ids=["one", "execute"],
)
def test_a_statement_whose_caller_hangs_up_is_not_cancelled(
    question: Callable[[Database], Coroutine[object, object, object]],
) -> None:
    """A request to cancel it would be a second connection."""

    async def hung_up(database: Database) -> None:
        caller = asyncio.create_task(question(database))
        await arrived.wait()
        caller.cancel()
        asyncio.get_running_loop().call_later(0.1, due.set)
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert due.is_set(), "the caller did not wait for its statement"

    arrived, due = asyncio.Event(), asyncio.Event()
    assert asyncio.run(asked(b"I\0\0\0\x04", hung_up, arrived, due)) == 1


def test_a_connection_that_was_closed_while_idle_is_not_used() -> None:
    """It counts as alive because of the statement just before; that its peer closed it is seen anyway."""

    async def close_after_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(int.from_bytes(await reader.readexactly(4)) - 4)
        writer.write(b"R\0\0\0\x08\0\0\0\0" + CANCEL_KEY + READY)
        statement = b"\0"
        while statement == b"\0" and await reader.read(1) == b"Q":
            statement = await reader.readexactly(int.from_bytes(await reader.readexactly(4)) - 4)
            writer.write(b"I\0\0\0\x04" + READY)
        writer.close()
        await writer.wait_closed()
        closed.set()

    async def three_statements() -> None:
        server = await asyncio.start_server(close_after_one, "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        address = f"postgresql://a@127.0.0.1:{port}/b?sslmode=disable&gssencmode=disable"
        database = Database(address, max_size=1)
        await database.open()
        try:
            for _ in range(3):
                await asyncio.wait_for(database.one("SELECT 1"), 10)
                await asyncio.wait_for(closed.wait(), 10)
                closed.clear()
        finally:
            await database.close()
            server.close()

    closed = asyncio.Event()
    asyncio.run(three_statements())
