"""Duration: how long a run will take on this machine, from its outlook and the pace of this machine's last runs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from steering_core.activations.capture import Reading
from steering_core.activations.forecast import measured_speed
from steering_core.concepts import Concept
from steering_core.engine.sampling import Request, sample
from steering_core.foundation.counting import Work
from steering_core.foundation.paces import Pace, keep_paces, known_paces
from steering_core.models import Model
from steering_core.pipeline.outlook import Outlook
from steering_core.prompts import Prompt
from steering_core.spec import Spec
from steering_core.store import Store

# By part of an outlook: the stage of a run whose pace it has, and the pace that is measured where no run was before.
_PACES = {
    "training": ("vectors", "read"),
    "texts": ("generations", "drawn"),
    "scores": ("scores", "read"),
    "side_effects": ("side_effects", "read"),
    "capabilities": ("scores", "read"),
}
TEXTS, TOKENS = 32, 16  # texts, and tokens of each, that are drawn to measure the pace of drawing


@dataclass(frozen=True)
class Duration:
    """Seconds of each part of a run after its extraction, and `pace`: how they were estimated, in words."""

    training: float
    texts: float
    scores: float
    side_effects: float
    capabilities: float
    pace: str

    @property
    def total(self) -> float:
        """Seconds of all parts."""
        return self.training + self.texts + self.scores + self.side_effects + self.capabilities


def duration(model: Model, ahead: Outlook, prompts: Sequence[Prompt]) -> Duration:
    """How long what is `ahead` takes on this machine; without an earlier run, some of `prompts` are run to tell."""
    tokens = {part: n for part, n in asdict(ahead).items() if n}
    known = known_paces(model.identity.model_id)
    if prompts and any(not {*_PACES[part]} & {*known} for part in tokens):
        _measure(model, prompts)
        known = known_paces(model.identity.model_id)
    at = {part: known.get(_PACES[part][0]) or known.get(_PACES[part][1]) for part in tokens}
    seconds = {part: tokens[part] / pace.tokens_per_second if pace else 0.0 for part, pace in at.items()}
    ran = all(_PACES[part][0] in known for part in tokens)
    return Duration(**(dict.fromkeys(_PACES, 0.0) | seconds), pace=_pace_in_words(ran, list(filter(None, at.values()))))


def done_before(spec: Spec, store: Store, model: Model, concepts: Sequence[Concept]) -> bool:
    """Whether a run of this very spec on these contents is in the store: the next one computes nothing."""
    ids = [concept.concept_id for concept in concepts]
    return bool(
        store.rows(
            "SELECT run_id FROM raw.runs WHERE spec_key = ? AND outcome = 'completed' AND list_contains(model_ids, ?) "
            "AND list_has_all(concept_ids, ?) LIMIT 1",
            [spec.key, model.identity.model_id, ids],
        )
    )


def _pace_in_words(ran: bool, paces: Sequence[Pace]) -> str:
    if not paces:
        return "nothing to compute"
    day = max(pace.day for pace in paces)
    if ran:
        return f"as this machine's last run of the model, {day}, whatever else it did then"
    return f"as a second of passes took here, {day}"


def _measure(model: Model, prompts: Sequence[Prompt]) -> None:
    """Keep the pace of reading some of `prompts`, and of drawing after the first; both after a pass to warm up."""
    layer = (model.identity.n_layers - 1,)
    read = measured_speed(model, prompts, Reading(layer, "last"))
    requests = [Request(prompts[0].tokens, seed=seed) for seed in range(TEXTS)]
    list(sample(model, requests, 2, 1.0, Work()))
    drawn = Work()
    with drawn.timed():
        list(sample(model, requests, TOKENS, 1.0, drawn))
    keep_paces(model.identity.model_id, {"read": Work(tokens=round(10 * read), seconds=10.0), "drawn": drawn}, 1)
