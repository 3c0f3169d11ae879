"""The card of a pack: what the vectors are, how to use them, what they do and cost, where they come from."""

from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from steering_core.exports.vector_file import CONVENTION
from steering_core.foundation.version import VERSION
from steering_core.models import ModelIdentity
from steering_core.models.hub import hub_model
from steering_core.models.shared_names import MODEL_FOLDER, is_path, shared_name
from steering_core.packs.evidence import PackEvidence
from steering_core.reports.verdict_words import plain_verdict, verdict_in_numbers
from steering_core.vectors.vector import Vector

TAG = "control-vector"


def card(
    name: str,
    model: ModelIdentity,
    vectors: Sequence[Vector],
    found: PackEvidence,
    licence: str | None,
    chart: tuple[str, str] | None,
) -> str:
    """The text, in Markdown, with the hub's metadata at its head; `chart` is a picture's file and its caption."""
    parts = [_head(model, licence), _what(name, model, vectors, found), _use(name, model, vectors, found)]
    parts += [_measured(found), _picture(chart), _origin(model, vectors, found, licence)]
    return "\n".join(line for part in parts for line in part)


def _head(model: ModelIdentity, licence: str | None) -> Iterator[str]:
    about: dict[str, Any] = {"tags": [TAG, "steerflow"]}
    if (named := hub_model(shared_name(model.name))) is not None:
        about["base_model"] = named.repository
    if licence:
        about["license"] = licence
    yield from ("---", yaml.safe_dump(about, allow_unicode=True).rstrip(), "---", "")


def _what(name: str, model: ModelIdentity, vectors: Sequence[Vector], found: PackEvidence) -> Iterator[str]:
    yield from (f"# {name}", "")
    layers = f"layer {vectors[0].layer}" if len(vectors) == 1 else f"{len(vectors)} layers"
    said = f"Steering vectors of `{shared_name(model.name, model.architecture)}`, {layers}"
    if found.concept:
        said += f" for {found.concept['name']}"
        said += f": {found.concept['description']}" if found.concept["description"] else ""
    yield f"{said.rstrip('.')}."
    quantised = "not quantised" if model.quantisation == "none" else model.quantisation
    revision = f" at revision {found.revision}" if found.revision else ""
    yield f"They belong to the model with fingerprint `{model.model_id}`{revision} ({quantised})."
    yield from (f"Layers: {CONVENTION}.", "")


def _use(name: str, model: ModelIdentity, vectors: Sequence[Vector], found: PackEvidence) -> Iterator[str]:
    middle = vectors[len(vectors) // 2]  # where steering works best, as long as nothing says otherwise
    expression = f"25%*{name}" if len(vectors) == 1 else f"25%*{name}/{middle.layer}"
    if found.chosen:
        expression = found.chosen["intervention"]
    opened = MODEL_FOLDER if is_path(model.name) else model.name
    yield from ("## Use", "", "```sh", "steer vectors unpack THIS_FOLDER")
    yield from (f'steer generate {opened} "Hello" --steer "{expression}"', "```", "")
    if opened == MODEL_FOLDER:
        called = shared_name(model.name, model.architecture)
        yield from (f"`{MODEL_FOLDER}` is where the model `{called}` lies on your machine.", "")
    if found.chosen:
        yield "That is what a run recommended."
        yield f"{plain_verdict(found.chosen)} {verdict_in_numbers(found.chosen)}"
    else:
        yield "No run has recommended a strength: that one is a place to begin, not a finding."
    yield ""


def _measured(found: PackEvidence) -> Iterator[str]:
    yield from ("## Measured", "")
    if found.tested:
        yield "On held-out test items. effect: the change in propensity in nats per token, with a 95 % interval."
        yield "Damage: kl on neutral prompts in nats, perplexity_ratio of texts. Rows with a control: what chance does."
        yield ""
        yield from _table(found.tested)
    else:
        yield "Its effect and damage have not been measured."
    yield from ("", "## Side effects", "")
    if found.side_effects:
        yield "What the recommendation does to held-out items of other concepts, in nats per token. p_corrected: that"
        yield "they are not moved, or that a meaningless direction at the same damage moves them as far."
        yield from ("", *_table(found.side_effects), "")
    else:
        yield from ("What it does to other concepts has not been measured.", "")


def _picture(chart: tuple[str, str] | None) -> Iterator[str]:
    if chart:
        yield from (f"![{chart[1]}]({chart[0]})", "", chart[1], "")


def _origin(model: ModelIdentity, vectors: Sequence[Vector], found: PackEvidence, licence: str | None) -> Iterator[str]:
    quality = {row["layer"]: row for row in found.quality}
    rows = [
        {
            "layer": vector.layer,
            "vector": f"`{vector.vector_id}`",
            "method": vector.method,
            "pairs": vector.n_pairs or None,
            "unpaired texts": _unpaired(vector),
            "position": vector.position,
            "alpha of dose 1": f"{vector.alpha(1.0):.4g}" if vector.norm else None,
            "AUC on test": quality.get(vector.layer, {}).get("auc_test"),
            "split half": quality.get(vector.layer, {}).get("split_half"),
        }
        for vector in vectors
    ]
    yield from ("## The vectors", "", *_table(rows), "")
    yield "A dose of 1 adds a vector as long as the layer's mean residual norm; alpha is the multiplier that makes it."
    yield "AUC: how well it tells the sides of held-out pairs apart. Split half: the cosine of what two halves of the"
    yield "pairs give."
    yield from ("", "## Licence", "")
    called = shared_name(model.name, model.architecture)
    yield f"Of these vectors: {licence or 'not stated'}. They are of use with {called} alone, whose own terms hold."
    yield from (f"Packed by steerflow {VERSION}; `pack.json` has the hash of every file.", "")


def _unpaired(vector: Vector) -> str | None:
    """How many texts without partners it comes from."""
    sides = vector.lineage.get("unpaired", {})
    return f"{sides['positive']} positive, {sides['negative']} negative" if sides else None


def _table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    names = [name for name in rows[0] if any(row[name] not in (None, "") for row in rows)]
    yield f"| {' | '.join(names)} |"
    yield f"|{' --- |' * len(names)}"
    for row in rows:
        yield f"| {' | '.join(_shown(row[name]) for name in names)} |"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return shown.replace("|", "\\|").replace("\n", " ")
