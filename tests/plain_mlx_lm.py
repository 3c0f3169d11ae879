"""Run by tests in a process of its own, where steerflow cannot be imported: what plain mlx-lm makes of folders.

`python -P plain_mlx_lm.py logits FOLDER[@ADAPTER] …` writes logits.npz, an array (T, V) for each; `generate …` is
mlx_lm.generate itself.
"""

import sys


class Nowhere:
    """Finds no steerflow."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in ("steering_core", "flows"):
            raise ImportError(f"{name} is not here")


TOKENS = [[5, 17, 101, 33, 64, 9, 77, 120, 3, 55, 90, 12, 41, 8]]


def logits(folders: list[str], to: str) -> None:
    """Every folder's logits at the tokens, read in two passes, as a server reads a prompt."""
    import mlx.core as mx
    import mlx_lm
    import numpy as np
    from mlx_lm.models.cache import make_prompt_cache

    found = {}
    for given in folders:
        folder, _, adapter = given.partition("@")
        network, _ = mlx_lm.load(folder, adapter_path=adapter or None, trust_remote_code=True)
        cache = make_prompt_cache(network)
        parts = [network(mx.array(TOKENS)[:, part], cache=cache) for part in (slice(0, 9), slice(9, None))]
        found[given] = np.array(mx.concatenate(parts, axis=1).astype(mx.float32))[0]
    np.savez(to, **found)


if __name__ == "__main__":
    sys.meta_path.insert(0, Nowhere())
    try:
        import steering_core  # noqa: F401
    except ImportError:
        pass
    else:
        sys.exit("steerflow can be imported")
    verb, *rest = sys.argv[1:]
    if verb == "logits":
        logits(rest[1:], rest[0])
    else:
        from mlx_lm.generate import main

        sys.argv = ["mlx_lm.generate", *rest]
        main()
