"""Transactions of Prefect's server in SQLite: one that reads and then writes waits for another, and is not refused."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.exc import OperationalError

from flows.service.database import begin_ready_to_write


async def written_by_two(folder: Path) -> int:
    """How many rows there are after two transactions at once, each of which reads, waits a little and writes."""
    config = AioSqliteConfiguration(f"sqlite+aiosqlite:///{folder / 'prefect.db'}")
    engine = await config.engine()

    async def one() -> None:
        async with await config.session(engine) as session, config.begin_transaction(session):
            await session.execute(sqlalchemy.text("SELECT count(*) FROM t"))
            await asyncio.sleep(0.2)
            await session.execute(sqlalchemy.text("INSERT INTO t VALUES (1)"))

    try:
        async with engine.begin() as connection:
            await connection.execute(sqlalchemy.text("CREATE TABLE t (x INTEGER)"))
        await asyncio.gather(one(), one())
        async with engine.connect() as connection:
            return int((await connection.execute(sqlalchemy.text("SELECT count(*) FROM t"))).scalar_one())
    finally:
        await engine.dispose()


def test_two_transactions_that_read_and_then_write_both_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AioSqliteConfiguration, "begin_transaction", AioSqliteConfiguration.begin_transaction)
    begin_ready_to_write()
    assert asyncio.run(written_by_two(tmp_path)) == 2


def test_as_prefect_begins_them_one_is_refused(tmp_path: Path) -> None:
    """Where this fails, Prefect has mended it: flows/service/database.py can go."""
    with pytest.raises(OperationalError, match="database is locked"):
        asyncio.run(written_by_two(tmp_path))
