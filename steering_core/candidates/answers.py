"""Neutral answers: the untouched model's own answers to neutral prompts, drawn once, on which damage is measured.

No seed of a spec changes them: they are drawn with a seed of their own, so that damage is the same on every run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from steering_core.concepts import Concept
from steering_core.engine.draws import drawn_at
from steering_core.engine.sampling import Request, sample
from steering_core.foundation.counting import Work
from steering_core.foundation.keys import content_key, seed_from
from steering_core.models import Model
from steering_core.prompts import Prompt, open_prompt
from steering_core.spec import GenerationsSpec
from steering_core.store import Store

ANSWERS_VERSION = 1


@dataclass(frozen=True)
class NeutralAnswer:
    """The untouched model's answer to a neutral prompt: its tokens, and the temperature that it was drawn at."""

    answer_id: str
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    temperature: float


def neutral_answers(
    model: Model, store: Store, concept: Concept, texts: Sequence[str], spec: GenerationsSpec, work: Work
) -> list[NeutralAnswer]:
    """The untouched model's answers to neutral `texts`, in their order; those that the store lacks are drawn.

    They are drawn with the spec's `max_tokens` and `temperature`. An answer without a token (it diverged at once) is
    left out.
    """
    opened = [(text, open_prompt(model, concept, text)) for text in texts]
    prompts = {_answer_id(model, prompt, spec): (text, prompt) for text, prompt in opened}
    with store.lock(f"answers-{model.identity.model_id}"):
        missing = store.absent("neutral_answers", list(prompts))
        todo = [i for i in prompts if i in missing]
        requests = [Request(prompts[i][1].tokens, seed=seed_from("neutral answer", prompts[i][0])) for i in todo]
        rows = []
        for place, drawn in sample(model, requests, spec.max_tokens, spec.temperature, work):
            text, prompt = prompts[todo[place]]
            rows.append(
                {
                    "answer_id": todo[place],
                    "model_id": model.identity.model_id,
                    "prompt_id": prompt.prompt_id,
                    "prompt": text,
                    "text": drawn.text,
                    "prompt_tokens": list(prompt.tokens),
                    "tokens": list(drawn.tokens),
                    "temperature": spec.temperature,
                    "max_tokens": spec.max_tokens,
                }
            )
        store.append("neutral_answers", rows)
    wanted = pa.table({"answer_id": pa.array(list(prompts), pa.string())})
    found = store.rows("SELECT a.* FROM wanted JOIN raw.neutral_answers a USING (answer_id)", wanted=wanted)
    by_id = {
        row["answer_id"]: NeutralAnswer(
            row["answer_id"], tuple(row["prompt_tokens"]), tuple(row["tokens"]), spec.temperature
        )
        for row in found
    }
    return [by_id[i] for i in prompts if by_id[i].tokens]


def _answer_id(model: Model, prompt: Prompt, spec: GenerationsSpec) -> str:
    how = (drawn_at(spec.temperature), spec.max_tokens, model.further_stops)
    return content_key("neutral answer", ANSWERS_VERSION, model.identity.model_id, prompt.prompt_id, *how)
