"""Run by tests in a process of its own: extractions to be killed. It imports once and forks a child for each line.

A line is `store number-of-prompts`. The child prints its pid when it begins to extract and its counts when it is done.
"""

import os
import sys

import steering_core.activations.shards as shards
from steering_core.activations.extract import extract
from steering_core.models import open_model
from steering_core.models.mlx_lm import lazy_network  # noqa: F401  (imported before the fork)
from steering_core.store import Store
from tests.shards import prompts_that_share


def run(folder: str, store: str, n: int) -> None:
    """Extract `n` or so prompts at every layer, eight to a shard."""
    shards.SHARD_PROMPTS = 8
    with open_model(folder) as model:
        prompts = prompts_that_share(model.identity.tokenizer_id, n)
        assert len(model.network.layers) == 4  # loaded before the clock starts
        opened = Store(store)
        say(f"{os.getpid()}")
        did = extract(model, opened, prompts, range(4), "last")
        say(f"{did.work.computed} {did.work.reused}")


def say(line: str) -> None:
    """One line, at once."""
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(sys.argv[1], line.split()[0], int(line.split()[1]))
            os._exit(0)
        os.waitpid(child, 0)
