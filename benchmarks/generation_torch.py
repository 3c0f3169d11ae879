"""The other side of `benchmarks.generation`: one steered text at a time with PyTorch transformers and steering-vectors.

Needs torch, transformers and steering-vectors alone. Reads lines `LAYER ALPHA TOKEN …` and answers each with the number
of new tokens; an empty line is answered with 0 when the model is loaded.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from steering_vectors import SteeringVector
from transformers import AutoConfig, AutoModelForCausalLM


def main() -> None:
    """Answer lines until the input ends."""
    folder, new_tokens = sys.argv[1], int(sys.argv[2])
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32).eval()
    (weights,) = Path(folder).glob("*.safetensors")
    missing = model.load_state_dict(load_file(weights), strict=False).missing_keys
    assert set(missing) <= {"lm_head.weight"}, missing  # tied to the embedding
    model.tie_weights()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(model.config.num_hidden_layers, model.config.hidden_size, generator=generator)
    directions = 15 * drawn / drawn.norm(dim=1, keepdim=True)
    for line in sys.stdin:
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


if __name__ == "__main__":
    main()
