"""Shuffling: rows change sides until either side holds the same share of positive rows."""

import numpy as np


def n_moved(n: int, m: int) -> int:
    """How many rows of either side, n and m, change sides for equal shares of positive rows: n m / (n + m), rounded."""
    return (2 * n * m + n + m - 1) // (2 * (n + m))


def mixed_sides(n: int, m: int, moved: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows on either side, (n,) and (m,), after `moved` of each went to the other, in random order.

    Rows are numbered through: 0 .. n - 1 were on the first side, n .. n + m - 1 on the second.
    """
    first, second = random.permutation(n), n + random.permutation(m)
    one = random.permutation(np.concatenate([first[: n - moved], second[m - moved :]]))
    other = random.permutation(np.concatenate([first[n - moved :], second[: m - moved]]))
    return one, other
