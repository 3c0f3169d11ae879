"""The table in docs/models.md: `python -m tools.models_table` writes it, `--check` says whether it is true.

Memory is read off networks of the real models' shapes, whose weights are never made. What templates do is read off the
families' own tokenizers (`tests.real_tokenizers`), on tiny networks.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steering_core.backend.mlx import mx
from steering_core.models import Model, open_model
from steering_core.models.memory import quantised_bytes
from steering_core.prompts import prompt
from tests.real_tokenizers import FAMILIES, save_family

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
BEGIN, END = "<!-- the table: python -m tools.models_table -->\n", "<!-- the table ends -->\n"
MACS = (8, 16, 24, 32, 48, 64, 96, 128)  # GB
ROOM = 3 << 30  # what passes use beside the weights, where there is as much


@dataclass(frozen=True)
class Real:
    """A model that people run: its family's tokenizer here, and its shape."""

    name: str
    family: str
    layers: int
    width: int
    hidden: int
    heads: int
    groups: int
    head: int
    tied: bool = True

    @property
    def config(self) -> dict[str, Any]:
        """mlx-lm's configuration of that shape, with the family's other settings."""
        return FAMILIES[self.family].config | {
            "num_hidden_layers": self.layers,
            "hidden_size": self.width,
            "intermediate_size": self.hidden,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.groups,
            "head_dim": self.head,
            "tie_word_embeddings": self.tied,
        }


REAL = (
    Real("Gemma 2 2B", "gemma-2", 26, 2304, 9216, 8, 4, 256),
    Real("Gemma 2 9B", "gemma-2", 42, 3584, 14336, 16, 8, 256),
    Real("Gemma 3 1B", "gemma-3", 26, 1152, 6912, 4, 1, 256),
    Real("Gemma 3 4B", "gemma-3", 34, 2560, 10240, 8, 4, 256),
    Real("Llama 3.2 1B", "llama-3.2", 16, 2048, 8192, 32, 8, 64),
    Real("Llama 3.2 3B", "llama-3.2", 28, 3072, 8192, 24, 8, 128),
    Real("Llama 3.1 8B", "llama-3.1", 32, 4096, 14336, 32, 8, 128, tied=False),
    Real("Llama 2 7B", "llama-2", 32, 4096, 11008, 32, 32, 128, tied=False),
    Real("Qwen2.5 1.5B", "qwen2.5", 28, 1536, 8960, 12, 2, 128),
    Real("Qwen2.5 7B", "qwen2.5", 28, 3584, 18944, 28, 4, 128, tied=False),
    Real("Qwen3 4B", "qwen3", 36, 2560, 9728, 32, 8, 128),
    Real("Qwen3 8B", "qwen3", 36, 4096, 12288, 32, 8, 128, tied=False),
)


def network_of(real: Real) -> Any:
    """A network of the real model's shape, whose weights are never made."""
    from mlx_lm.utils import _get_classes

    network_class, arguments = _get_classes(real.config)
    network = network_class(arguments.from_dict(real.config))
    network.set_dtype(mx.bfloat16)
    return network


def mac(weights: int) -> str:
    """The smallest Mac that holds the weights and a pass: Metal may use two thirds of memory, from 48 GB on 3/4."""
    for size in MACS:
        usable = size * (2 / 3 if size <= 36 else 3 / 4) * (1 << 30)
        if weights + ROOM <= usable:
            return f"{size} GB"
    return f"more than {MACS[-1]} GB"


def peculiarities(model: Model) -> str:
    """What the family's chat template does beside joining turns."""
    ask = [{"role": "user", "content": "Hi"}]
    template, found = model.chat_template, []
    if not template.takes_system:
        found.append("no system role")
    if template.opened(ask) != template.with_arguments({"date": "2031-01-01"}).opened(ask):
        found.append("today's date")
    spaced = prompt(model, "Hi", chat=True, answer=" Yes ").tokens
    if spaced == prompt(model, "Hi", chat=True, answer="Yes").tokens:
        found.append("trims")
    quiet, thinking = template.open_text(ask), template.with_arguments({"enable_thinking": True}).open_text(ask)
    if quiet != thinking:
        found.append("thinks" if "think" in quiet else "channels")
    return ", ".join(found) or "none"


def rows() -> list[str]:
    """The table in Markdown, a line each."""
    lines = [
        "| model | tokenizer tested | chat template | stop tokens | weights, 4 bits | smallest Mac "
        "| weights, 8 bits | smallest Mac |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        told: dict[str, tuple[str, int]] = {}
        for family in dict.fromkeys(real.family for real in REAL):
            with open_model(str(save_family(Path(folder) / family, FAMILIES[family]))) as model:
                told[family] = peculiarities(model), len(model.stop_tokens)
    for real in REAL:
        network, (template, stops) = network_of(real), told[real.family]
        four, eight = (quantised_bytes(network, bits) for bits in (4, 8))
        sizes = " | ".join(f"{size / (1 << 30):.1f} GiB | {mac(size)}" for size in (four, eight))
        lines.append(f"| {real.name} | `{FAMILIES[real.family].package}` | {template} | {stops} | {sizes} |")
    return lines


def main() -> None:
    """Write the table, or with --check fail where the page has another."""
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    made = before + BEGIN + "\n".join(rows()) + "\n" + END + after
    if "--check" in sys.argv[1:]:
        sys.exit(0 if made == page else f"{PAGE.name} is out of date: run python -m tools.models_table")
    PAGE.write_text(made)


if __name__ == "__main__":
    main()
