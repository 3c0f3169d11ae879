"""How Prefect's server begins a transaction in SQLite: ready to write, so that it waits for its turn.

Prefect 3.8.8 begins most of them as readers (BEGIN DEFERRED). One that read before another wrote can never write:
SQLite says "database is locked" at once, whatever the timeouts, and Prefect's settings change nothing of it. One that
begins ready to write (BEGIN IMMEDIATE) waits, up to the minute of `PRAGMA busy_timeout`. Postgres is not concerned.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

_as_prefect_does = AioSqliteConfiguration.begin_transaction


@asynccontextmanager
async def _begun(
    self: AioSqliteConfiguration,
    session: AsyncSession,
    with_for_update: bool = False,
) -> AsyncGenerator[AsyncSessionTransaction, None]:
    async with _as_prefect_does(self, session, with_for_update=True) as transaction:
        yield transaction


def begin_ready_to_write() -> None:
    """Have every transaction of this process's Prefect server in SQLite begin so."""
    setattr(AioSqliteConfiguration, "begin_transaction", _begun)  # noqa: B010  (a method, to a type checker)
