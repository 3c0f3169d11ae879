"""Remembered: what passes computed stays within a bound, the latest of it."""

from steering_core.models import Model
from steering_core.models.remembered import MOST, Remembered


def test_what_was_used_longest_ago_goes_first() -> None:
    kept = Remembered(10)
    for key in "abc":
        kept.keep(key, key.upper(), 3)
    assert kept.found("a") == "A"  # used again
    kept.keep("d", "D", 4)
    assert [kept.found(key) for key in "abcd"] == ["A", None, "C", "D"]
    assert kept.nbytes == 10


def test_a_value_that_alone_is_too_large_is_not_held_and_a_new_one_takes_its_key() -> None:
    kept = Remembered(10)
    kept.keep("a", 1, 6)
    kept.keep("a", 2, 11)
    assert (kept.found("a"), kept.nbytes) == (None, 0)
    kept.keep("a", 3, 8)
    kept.keep("a", 4, 9)
    assert (kept.found("a"), kept.nbytes) == (4, 9)


def test_it_takes_a_share_of_the_room_beside_the_weights() -> None:
    def room(most: Remembered) -> int:
        """The largest value that is held."""
        sizes = [1 << power for power in range(40)]
        for size in sizes:
            most.keep(size, size, size)
        return max((size for size in sizes if most.found(size)), default=0)

    assert room(Remembered.beside(weights=100 << 20, limit=116 << 20)) == 1 << 20
    assert room(Remembered.beside(weights=0, limit=1 << 40)) == MOST
    assert room(Remembered.beside(weights=2, limit=1)) <= 1


def test_closing_a_model_gives_it_back(tiny: Model) -> None:
    with Model(str(tiny.folder)) as model:
        model.remembered.keep("a", 1, 1)
    assert "remembered" not in vars(model)
    assert model.remembered.found("a") is None
    model.close()
