"""The README of a baked folder: what it is, what it does, how near it comes to the runtime, how it opens."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steering_core.baking.comparison import FormMeasurement
from steering_core.baking.proof import Difference
from steering_core.foundation.user_files import is_folder
from steering_core.models.hub import hub_model
from steering_core.models.shared_names import MODEL_FOLDER


@dataclass(frozen=True, repr=False)
class Baked:
    """What was written, and how near it comes to the runtime; `provenance` is what the folder says of itself.

    `base` is the model that it was made of, as mlx-lm opens it. `kind` is "model" or "adapter", `says` how it holds the
    intervention, `runs_code` whether it loads only by running a module of its own. `requantised` is the largest
    relative error of a matrix that was quantised anew, None where none was. `measured` is what the baked model does,
    `runtime` what the same expression does at run time, and `found` what the run that recommended the vector had
    measured; each is None where the store has no such thing.
    """

    folder: Path
    base: str
    kind: str
    says: str
    runs_code: bool
    difference: Difference
    requantised: float | None
    provenance: dict[str, Any]
    measured: FormMeasurement | None = None
    runtime: FormMeasurement | None = None
    found: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<Baked {self.kind} {self.folder}: of {self.base}, {self.says}>"

    def command(self, folder: str, base: str | None = None) -> str:
        """The command by which plain mlx-lm opens it: it lies in `folder`, and an adapter's model in `base`."""
        if self.kind == "adapter":
            model = shlex.quote(self.base if base is None else base)
            return f"mlx_lm.generate --model {model} --adapter-path {folder} --prompt Hello"
        code = " --trust-remote-code" if self.runs_code else ""
        return f"mlx_lm.generate --model {folder}{code} --prompt Hello"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row each for the run's own measurement, the runtime and the baked form; none without held-out items."""
        if self.measured is None or self.runtime is None:
            return []
        names = ("effect", "effect_low", "effect_high", "damage", "kl", "perplexity_ratio", "n")
        found = {name: self.found[name] for name in ("intervention", *names)} if self.found else {}
        said = {"intervention": self.provenance["expression"]}
        now = {"at run time": self.runtime, "baked": self.measured}
        rows = [{"form": form, **said, **{name: getattr(of, name) for name in names}} for form, of in now.items()]
        return [{"form": "as recommended", **found}, *rows] if found else rows

    @property
    def nearness(self) -> str:
        """One sentence on how near it comes to the runtime."""
        far = self.difference
        said = f"A logit differs from the runtime's by {far.largest:.2g} at most (mean KL {max(far.kl, 0):.1e} nats)"
        said += f", where the intervention itself moves one by {far.effect:.2g} (mean KL {far.effect_kl:.2g})."
        if self.requantised is not None:
            said += f" Its matrices were quantised again, with a relative error of {self.requantised:.2g} at most."
        return said


def card(baked: Baked) -> str:
    """The README, in Markdown, with the hub's metadata at its head."""
    return "\n".join([*_head(baked), "", *_body(baked), ""])


def _head(baked: Baked) -> Iterator[str]:
    yield from ("---", "library_name: mlx", "tags:", "- mlx", "- steerflow")
    if (named := hub_model(str(baked.provenance["model"]["name"]))) is not None:
        yield f"base_model: {named.repository}"
    yield "---"


def _body(baked: Baked) -> Iterator[str]:
    about, name = baked.provenance, str(baked.provenance["model"]["name"])
    yield f"# {name}, steered"
    yield ""
    what = "An adapter for" if baked.kind == "adapter" else "The model"
    yield f"{what} `{name}` with `{about['expression']}` inside it: {baked.says}."
    yield "It acts at every token, of prompts as well as of answers. " + baked.nearness
    yield ""
    base = MODEL_FOLDER if is_folder(baked.base) else baked.base
    yield from ("```sh", baked.command("THIS_FOLDER", base), "```")
    if baked.kind == "adapter" and base == MODEL_FOLDER:
        yield from ("", f"`{MODEL_FOLDER}` is where `{name}` lies on your machine.")
    if baked.runs_code:
        yield ""
        yield "It loads only where mlx-lm may run the module in this folder; tools that run no code cannot open it."
    if baked.rows:
        yield from ("", f"## What it does: {baked.measured.concept}" if baked.measured else "## What it does", "")
        yield from _table(baked.rows)
        yield ""
        yield (
            "effect: the change in propensity on held-out items, in nats per token, with a 95 % interval. damage: how "
            "much more surprising the next token becomes to the untouched model, in nats per token. kl: how far the "
            "next token after neutral prompts moves from the untouched model's, in nats. perplexity_ratio: of texts, "
            "read by the untouched model, beside its own."
        )
    else:
        yield from ("", "Its effect and damage in this form have not been measured.")
    yield from ("", "## Where it comes from", "")
    yield f"Baked by steerflow {about['steerflow']}, mlx-lm {about['mlx-lm']}, from model {about['model']['model_id']}."
    for vector in about["vectors"]:
        concept = f" of the concept {vector['concept']}" if vector["concept"] else ""
        yield f"- vector {vector['vector_id']}: {vector['method']}{concept}, layer {vector['layer']}"
    yield "`steerflow.json` has all of it. The licence of the original model holds."


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    yield f"| {' | '.join(names)} |"
    yield f"|{' --- |' * len(names)}"
    for row in rows:
        yield f"| {' | '.join(_shown(row, name) for name in names)} |"


def _shown(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"`{value}`" if name == "intervention" else str(value)
