"""What Python is given that it cannot take: one error each, which names what was given and what is wanted."""

import pytest

from steering_core.foundation.errors import QueryError
from steering_core.store import Store


def test_what_is_no_sql_is_one_error_without_another_behind_it(store: Store) -> None:
    with pytest.raises(QueryError, match="a query is a text of SQL, not a int"):
        store.query(3)  # type: ignore[arg-type]
    for ask in (store.query, store.answer, store.rows):
        with pytest.raises(QueryError, match="nowhere") as caught:
            ask("SELECT * FROM nowhere")
        assert caught.value.__suppress_context__
