"""Prompts: what a model reads, with its chat template and without one."""

import logging
import shutil
from pathlib import Path

import pytest

from steering_core.concepts import Concept, Item, Pair
from steering_core.foundation.errors import PromptError
from steering_core.models import Model, open_model
from steering_core.prompts import conversation, item_prompts, open_prompt, pair_prompt, prompt

CONCEPT = Concept(
    name="tea",
    chat=True,
    pairs=(Pair(prompt="Tea?", positive="Yes.", negative="No."),),
    prompts=("Well?",),
    items=(Item(prompt="Tea?", matching="yes", not_matching="no"),),
)


@pytest.fixture
def base(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny model without its chat template: a base model."""
    folder = shutil.copytree(tiny_folder, tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    return Path(folder)


def test_a_chat_model_reads_its_template(tiny: Model) -> None:
    read = pair_prompt(tiny, CONCEPT, CONCEPT.pairs[0], "positive")
    assert tiny.text(read.tokens) == "<|user|>Tea?<|end|><|assistant|>Yes."
    assert tiny.text(read.tokens[read.response_start :]) == "Yes."


@pytest.mark.parametrize("chat", [True, False])
def test_an_empty_message_is_refused_everywhere(tiny: Model, chat: bool) -> None:
    with pytest.raises(PromptError, match="the prompt is empty"):
        prompt(tiny, "", chat=chat, system="Be brief.")
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}, {"role": "user", "content": ""}]
    with pytest.raises(PromptError, match="the prompt is empty"):
        conversation(tiny, turns)
    assert conversation(tiny, [*turns[:2], turns[0]]).tokens


def test_a_base_model_reads_raw_text_and_says_so_once(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_model(str(base)) as model, caplog.at_level(logging.WARNING):
        read = pair_prompt(model, CONCEPT, CONCEPT.pairs[0], "positive")
        assert model.text(read.tokens) == "Tea? Yes."
        assert model.text(read.tokens[read.response_start :]) == " Yes."
        matching, other = item_prompts(model, CONCEPT, CONCEPT.items[0])
        assert (model.text(matching.tokens), model.text(other.tokens)) == ("Tea? yes", "Tea? no")
        assert model.text(open_prompt(model, CONCEPT, "Well?").tokens) == "Well?"
        assert caplog.text.count("has no chat template: prompts and answers are read as raw text") == 1
        with pytest.raises(PromptError, match="read the text raw, or use a chat model"):
            prompt(model, "Tea?", chat=True)
