"""What is kept of the store's answers is dropped when the store changes."""

import pytest

from steering_core.explorer.kept import MOST, Kept
from steering_core.store import Store

ROW = {"model_id": "m", "name": "tiny", "architecture": "llama", "n_layers": 4, "width": 32, "vocab_size": 9} | {
    "dtype": "float32", "quantisation": "none", "tokenizer_id": "t", "context": 512,
    "template": None, "system_role": None
}  # fmt: skip


def test_an_answer_is_kept_until_another_process_appends(store: Store) -> None:
    kept = Kept(store)

    def names() -> list[str]:
        return sorted(row["name"] for row in store.rows("SELECT name FROM raw.models"))

    empty = store.folder.names("models")
    assert kept.of("names", names) == []
    assert kept.of("names", lambda: pytest.fail("asked again")) == []
    Store(store.root).append("models", [ROW])
    assert kept.of("names", names) == ["tiny"]
    for name in set(store.folder.names("models")) - set(empty):
        store.folder.remove(name)
    store.append("models", [{**ROW, "model_id": "n", "name": "other"}])
    assert kept.of("names", names) == ["other"]


def test_rows_that_come_while_an_answer_is_made_are_seen_next_time(store: Store) -> None:
    kept = Kept(store)

    def slowly() -> str:
        store.append("models", [ROW])
        return "of before"

    assert kept.of("key", slowly) == "of before"
    assert kept.of("key", lambda: "of now") == "of now"


def test_faults_and_the_oldest_answers_are_not_kept(store: Store) -> None:
    kept = Kept(store)
    with pytest.raises(ZeroDivisionError):
        kept.of("key", lambda: 1 / 0)
    assert kept.of("key", lambda: 1) == 1
    for i in range(MOST):
        kept.of(i, lambda: 0)
    assert kept.of("key", lambda: 2) == 2
