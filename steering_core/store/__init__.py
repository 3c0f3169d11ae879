"""The store: immutable, content-addressed Parquet, read through DuckDB.

store = Store("data/store")
store.absent("vectors", wanted)           # the ids that are not there yet
store.append("vectors", rows)             # publish rows, all or nothing
store.query("SELECT ... FROM leaderboard")
connect("data/store").sql("...")          # the same views, for anybody
"""

from steering_core.store.store import STORE_VERSION, Row, Store, TableRows, connect, default_store
from steering_core.store.tables import CELL, TABLES, Table

__all__ = ["CELL", "STORE_VERSION", "TABLES", "Row", "Store", "Table", "TableRows", "connect", "default_store"]
