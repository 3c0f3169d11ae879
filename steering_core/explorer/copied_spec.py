"""A request to steer as a spec: the same intervention, measured beside a grid of the page's layers and doses."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from steering_core.authoring.writing import concept_yaml
from steering_core.concepts import Concept, available_concepts
from steering_core.explorer.command import is_saved
from steering_core.explorer.drafts import DraftContrast, Drafts
from steering_core.explorer.planned import Plan, SteerRequest, planned
from steering_core.foundation.errors import ConceptError, SpecError
from steering_core.foundation.validation import checked
from steering_core.interventions.declarations import ADD
from steering_core.models import Model
from steering_core.spec import Spec
from steering_core.store import Store
from steering_core.store.commands import at_store
from steering_core.vectors.methods import METHODS, TRAINED
from steering_core.vectors.vector import Vector

_WIDTH = 118
_YOURS = "CONCEPT.yaml"


@dataclass(frozen=True)
class CopiedSpec:
    """A spec as YAML, and what the page says that no spec can, a phrase each."""

    text: str
    left_out: tuple[str, ...]


def copied_spec(model: Model, store: Store, drafts: Drafts, wanted: SteerRequest) -> CopiedSpec:
    """The spec whose `expressions` hold the steering of `wanted`. For the accelerator's thread.

    A contrast that is not saved becomes a concept, in comments below the spec. Raises SpecError for two of them, and
    where the steering is beyond what a spec may say; ConceptError where the contrast is no concept.
    """
    plan = planned(model, store, drafts, wanted.steering)
    typed = _unsaved(model, store, wanted, plan)
    contrast = next(iter(typed.values()), None)
    acting = [a.vector for a in plan.applied]
    own = _concepts(store, acting)
    name = next(name for name in (f"typed-{i}" for i in itertools.count(1)) if name not in own)
    names = {a.vector.vector_id: f"{name}/mean_difference/{a.vector.layer}" for a in plan.applied if a.use in typed}
    concepts = [*([f"{name}.yaml"] if contrast else []), *own]  # the first one is derived before others name it
    said = {
        **{"name": "by-hand", "models": [wanted.model], "concepts": concepts or [_YOURS]},
        **_reading(acting, contrast),
        "generations": _generations(wanted, acting, str(plan.expression.renamed(names))),
    }
    checked(Spec, said, "this steering as a spec", SpecError)
    left_out = tuple(_left_out(wanted, own, acting, contrast))
    lines = [f"# {at_store('steer run SPEC.yaml', store.root)}", *(f"# Not in here: {one}." for one in left_out)]
    lines += [_yaml(said), *([_concept(name, contrast, wanted.prompt)] if contrast else [])]
    return CopiedSpec("\n".join(lines), left_out)


def _unsaved(model: Model, store: Store, wanted: SteerRequest, plan: Plan) -> dict[int, DraftContrast]:
    """The contrast, by its places in the request, that the library lacks; at most one."""
    found: dict[int, DraftContrast] = {}
    for acting in plan.applied:
        contrast = wanted.steering.vectors[acting.use].contrast
        if contrast is not None and not is_saved(store, acting.vector.vector_id, model.identity):
            found[acting.use] = contrast
    if len({contrast.model_dump_json() for contrast in found.values()}) > 1:
        raise SpecError("a spec derives one typed contrast at a time: save the others first, so that it can name them")
    return found


def _concepts(store: Store, vectors: Iterable[Vector]) -> list[str]:
    """The names of the concepts that the vectors are of, each once."""
    ids = dict.fromkeys(vector.concept_id for vector in vectors if vector.concept_id)
    rows = store.rows("SELECT concept_id, name FROM raw.concepts WHERE list_contains(?, concept_id)", [list(ids)])
    names = {row["concept_id"]: row["name"] for row in rows}
    return list(dict.fromkeys(names[one] for one in ids if one in names))


def _reading(vectors: Sequence[Vector], contrast: DraftContrast | None) -> dict[str, Any]:
    """Where the grid's vectors are read and how they are derived, as those on the page were."""
    position = contrast.position if contrast else next(iter(_positions(vectors)), "response")
    methods = dict.fromkeys(v.method for v in vectors if v.concept_id and v.method in {*METHODS, *TRAINED})
    methods |= {"mean_difference": None} if contrast else {}
    return {"activations": {"position": position}, **({"vectors": {"methods": list(methods)}} if methods else {})}


def _positions(vectors: Iterable[Vector]) -> list[str]:
    return list(dict.fromkeys(v.position for v in vectors if v.concept_id and v.position and v.position != "all"))


def _generations(wanted: SteerRequest, vectors: Iterable[Vector], expression: str) -> dict[str, Any]:
    layers = sorted({vector.layer for vector in vectors})
    doses = dict.fromkeys(use.dose for use in wanted.steering.vectors if use.operation == ADD.name and use.dose)
    return {
        **({"layers": layers} if layers else {}),
        **({"doses": list(doses)} if doses else {}),
        **({"expressions": [expression]} if expression else {}),
        **{"max_tokens": wanted.max_tokens, "temperature": wanted.temperature, "seed": wanted.seed},
        "phase": wanted.steering.phase,
    }


def _left_out(
    wanted: SteerRequest, own: Sequence[str], vectors: Sequence[Vector], contrast: DraftContrast | None
) -> Iterator[str]:
    """What the page has and the spec does not, a phrase each; `own` are the concepts that the vectors are of."""
    known = available_concepts()
    if not own and not contrast:
        yield f"a concept, on whose items all is measured: write one in the place of {_YOURS}"
    if unknown := [name for name in own if name not in known]:
        yield f"the file of {', '.join(unknown)}: write its path under concepts"
    if contrast:
        yield "items of the typed contrast, on which its effect is measured: add some to the file below"
    positions = list(dict.fromkeys([*([contrast.position] if contrast else []), *_positions(vectors)]))
    if len(positions) > 1:
        yield f"the position {', '.join(positions[1:])}: the grid's vectors are read at {positions[0]}, all of them"
    if wanted.system:
        yield "the system prompt"
    if wanted.history:
        yield "the conversation so far"
    if not wanted.chat:
        yield "raw text: a concept says itself whether its prompts go through the chat template"
    if wanted.probes:
        yield "the vectors that read along"


def _concept(name: str, contrast: DraftContrast, prompt: str) -> str:
    """The file of the concept that a typed contrast is, commented out; all of its pairs make the vector."""
    pairs = [
        {"positive": positive, "negative": negative, "split": "train"}
        for positive, negative in zip(contrast.positive, contrast.negative, strict=True)
    ]
    said = {"name": name, "chat": contrast.chat, "pairs": pairs, "prompts": [prompt]}
    text = concept_yaml(checked(Concept, said, "the typed contrast as a concept", ConceptError))
    return "".join(f"# {line}\n" for line in (f"{name}.yaml:", *text.split("\n")[:-1]))


def _yaml(said: dict[str, Any]) -> str:
    """The spec as people write it: a list on one line, as far as it fits."""
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True, default_flow_style=None, width=_WIDTH)
