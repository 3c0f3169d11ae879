"""The other side of `benchmarks.generation`: one steered text at a time with PyTorch transformers and steering-vectors.

Needs torch, transformers and steering-vectors alone. Reads lines `LAYER ALPHA TOKEN …` and answers each with the number
of new tokens; an empty line is answered with 0 when the model is loaded. `--tiny` answers one on a tiny model,
and needs steerflow as well.
"""

import io
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks.telling import left_out, options

try:
    import torch
    from safetensors.torch import load_file
    from steering_vectors import SteeringVector
    from transformers import AutoConfig, AutoModelForCausalLM
except ImportError as missing:  # none of them is a requirement of steerflow's
    absent: str | None = str(missing)
else:
    absent = None


def answer(folder: Path, new_tokens: int, lines: Iterable[str]) -> None:
    """Print the number of new tokens that each line asks for."""
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32).eval()
    (weights,) = folder.glob("*.safetensors")
    missing = model.load_state_dict(load_file(weights), strict=False).missing_keys
    assert set(missing) <= {"lm_head.weight"}, missing  # tied to the embedding
    model.tie_weights()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(model.config.num_hidden_layers, model.config.hidden_size, generator=generator)
    directions = 15 * drawn / drawn.norm(dim=1, keepdim=True)
    for line in lines:
        if not line.strip():
            print(0, flush=True)
            continue
        layer, alpha, *tokens = line.split()
        prompt = torch.tensor([[int(token) for token in tokens]])
        vector = SteeringVector({int(layer): directions[int(layer)]}, "decoder_block")
        with vector.apply(model, multiplier=float(alpha), min_token_index=prompt.shape[1] - 1), torch.inference_mode():
            mask = torch.ones_like(prompt)
            found = model.generate(
                prompt, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False, pad_token_id=0
            )
        print(found.shape[1] - prompt.shape[1], flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Answer the lines of standard input; with `--tiny` one line for a tiny model."""
    parser = options(__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("new_tokens", nargs="?", type=int, default=3)
    given = parser.parse_args(arguments)
    if given.tiny:
        tiny()
    elif absent:
        parser.error(absent)
    else:
        answer(given.folder, given.new_tokens, sys.stdin)


def tiny() -> None:
    """One text of a tiny model."""
    from tests.tiny import save_tiny_model  # needs MLX, which the other side's Python need not have

    with tempfile.TemporaryDirectory() as work:
        folder = save_tiny_model(Path(work) / "tiny")
        if absent:
            left_out("PyTorch", absent)
        else:
            answer(folder, 3, io.StringIO("1 1.0 5 6 7\n"))


if __name__ == "__main__":
    main()
