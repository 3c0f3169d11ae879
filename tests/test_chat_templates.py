"""Chat templates and tokenizers as real models have them: what a prompt's tokens are, today and tomorrow."""

import datetime
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from steering_core.engine.sampling import Request, sample, stream
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import PromptError, SpecError, TemplateError
from steering_core.foundation.validation import checked
from steering_core.models import Model, chat_template, open_model
from steering_core.models.chat_template import TEMPLATE_DATE
from steering_core.models.identity import weights_of
from steering_core.models.template_clock import at
from steering_core.prompts import conversation, prompt
from steering_core.spec import Spec
from tests.chat_models import TEMPLATES, save_chat_model, save_raw_model, save_sentencepiece_model
from tests.tiny import save_tiny_model

Opened = Callable[..., Model]
REFUSING = ("named without default", "faulty", "loops", "no answers")
READABLE = sorted(TEMPLATES.keys() - set(REFUSING))


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    def make(template: str, **arguments: object) -> Model:
        folder = tmp_path / template.replace(" ", "-")
        return open_model(str(folder if folder.exists() else save_chat_model(folder, template)), arguments)

    return make


def whole(model: Model, messages: list[dict[str, str]], **arguments: object) -> tuple[int, ...]:
    """The conversation through the tokenizer's own template, on the day that templates see."""
    how = {"tokenize": True, "return_dict": False, "enable_thinking": False, **arguments}
    with at(TEMPLATE_DATE):
        return tuple(model.tokenizer._tokenizer.apply_chat_template(messages, **how))


@pytest.mark.parametrize("template", READABLE)
@pytest.mark.parametrize("answer", ["Yes", " Yes, it is.\n", "(A)"])
def test_an_answers_tokens_are_those_of_the_whole_conversation(opened: Opened, template: str, answer: str) -> None:
    model = opened(template)
    read = prompt(model, "Tea?", chat=True, answer=answer)
    turns = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": answer}]
    assert whole(model, turns)[: len(read.tokens)] == read.tokens
    assert model.text(read.tokens[read.response_start :]).strip() == answer.strip()
    assert "Yes" not in model.text(read.tokens[: read.response_start])


@pytest.mark.parametrize(
    ("template", "ending"),
    [
        ("qwen3", "<|assistant|><think>\n\n</think>\n\n"),
        ("r1", "<|assistant|><think>\n\n</think>\n\n"),
        ("smollm3", "<|assistant|><think>\n\n</think>\n"),
        ("gpt-oss", "<|assistant|>final:"),
        ("llama2", " [/INST]"),
        ("gemma2", "<|assistant|>"),
        ("llama3", "<|assistant|>"),
    ],
)
def test_an_open_prompt_ends_outside_thought(opened: Opened, template: str, ending: str) -> None:
    model = opened(template)
    read = prompt(model, "Is <think> a word?", chat=True)
    assert model.text(read.tokens).endswith(ending)
    assert model.text(read.tokens).rpartition("a word?")[2].removeprefix("<|end|>").lstrip("\n") == ending
    assert read.response_start == len(read.tokens)


def test_thinking_is_had_where_it_is_asked_for(opened: Opened) -> None:
    for template, ending in (("qwen3", "<|assistant|>"), ("r1", "<|assistant|><think>\n")):
        model = opened(template, enable_thinking=True)
        assert model.text(prompt(model, "Tea?", chat=True).tokens).endswith(ending)
        quiet = opened(template)
        assert quiet.text(conversation(quiet, [{"role": "user", "content": "Tea?"}]).tokens).endswith("</think>\n\n")
        turns = [{"role": "user", "content": "Tea?"}]
        assert quiet.text(conversation(quiet, turns, {"enable_thinking": True}).tokens).endswith(ending)
        assert model.text(conversation(model, turns, {"enable_thinking": False}).tokens).endswith("</think>\n\n")
        assert model.identity.model_id != quiet.identity.model_id
        assert weights_of(model.identity.model_id) == weights_of(quiet.identity.model_id)


@pytest.mark.parametrize("template", ["gemma2", "ignores system"])
def test_an_instruction_heads_the_users_turn_where_there_is_no_system_role(
    opened: Opened, template: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = opened(template)
    with caplog.at_level(logging.WARNING):
        for question in ("Tea?", "Cake?"):
            read = prompt(model, question, chat=True, system="Be kind.")
            assert model.text(read.tokens).startswith(f"<|user|>Be kind.\n\n{question}<|end|>")
    assert caplog.text.count("instructions stand at the head of the user's turn") == 1
    assert model.identity.system_role == "user"
    assert opened("qwen3").identity.system_role == "system"
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Tea?"}]
    assert conversation(model, turns).tokens == prompt(model, "Tea?", chat=True, system="Be kind.").tokens


def test_a_refusal_has_the_templates_own_words(opened: Opened) -> None:
    twice = [{"role": "user", "content": "Tea?"}, {"role": "user", "content": "Cake?"}]
    with pytest.raises(TemplateError, match=r"\(user, user\): Conversation roles must alternate user/assistant"):
        conversation(opened("gemma2"), twice)
    with pytest.raises(TemplateError, match="'dict object' has no attribute 'no such thing'"):
        prompt(opened("faulty"), "Tea?", chat=True)
    with pytest.raises(
        TemplateError, match=r"choose one of its templates \(plain, other\) with the argument chat_temp"
    ):
        prompt(opened("named without default"), "Tea?", chat=True)
    named = opened("named without default", chat_template="plain")
    assert named.text(prompt(named, "Tea?", chat=True).tokens) == "<|user|>Tea?<|end|><|assistant|>"
    for text in ("x", "{{ 'a' * 10 ** 9 }}"):
        with pytest.raises(TemplateError, match=r"has no chat template .*: it has plain, other"):
            conversation(named, twice[:1], {"chat_template": text})
    with pytest.raises(PromptError, match="tokenize cannot be an argument of a chat template"):
        conversation(named, twice[:1], {"tokenize": True})
    silent = opened("no answers")
    assert silent.text(prompt(silent, "Tea?", chat=True).tokens) == "Tea?"
    with pytest.raises(TemplateError, match="leaves out what the assistant says"):
        prompt(silent, "Tea?", chat=True, answer="Yes")
    with pytest.raises(PromptError, match="leaves nothing of the answer"):
        prompt(opened("gemma2"), "Tea?", chat=True, answer=" \n")


def test_a_template_that_loops_is_ended(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "_SECONDS", 0.5)
    with pytest.raises(TemplateError, match=r"not done after 0.5 s: it loops"):
        prompt(opened("loops"), "Tea?", chat=True)


def test_prompts_are_the_same_tomorrow(opened: Opened) -> None:
    """A template that writes microseconds shows that no clock goes on in it, as it does in transformers by itself."""
    model = opened("timed")
    turns = [{"role": "user", "content": "Tea?"}]
    by_itself = [model.tokenizer._tokenizer.apply_chat_template(turns, tokenize=False) for _ in range(20)]
    assert len(set(by_itself)) > 1
    assert len({prompt(model, "Tea?", chat=True, answer="Yes").prompt_id for _ in range(20)}) == 1
    assert model.text(prompt(model, "Tea?", chat=True).tokens).startswith("00:00:00.000000<|user|>Tea?")


def test_the_templates_date_can_be_set(opened: Opened) -> None:
    model = opened("llama3.2")
    assert "Today Date: 26 Jul 2024" in model.text(prompt(model, "Tea?", chat=True).tokens)
    dated = opened("llama3.2", date="2026-01-31")
    assert "Today Date: 31 Jan 2026" in dated.text(prompt(dated, "Tea?", chat=True).tokens)
    assert dated.identity.model_id != model.identity.model_id
    assert opened("llama3.2", date="2024-07-26").identity.model_id == model.identity.model_id
    written = opened("llama3.2", date_string="some day")
    assert "Today Date: some day" in written.text(prompt(written, "Tea?", chat=True).tokens)


def test_a_spec_sets_the_templates_arguments() -> None:
    spec = checked(Spec, {"models": ["m"], "concepts": ["c"], "template": {"enable_thinking": True}}, "it", SpecError)
    assert spec.template == {"enable_thinking": True}
    plain = checked(Spec, {"models": ["m"], "concepts": ["c"], "template": {"enable_thinking": False}}, "it", SpecError)
    assert plain.key == checked(Spec, {"models": ["m"], "concepts": ["c"]}, "it", SpecError).key != spec.key
    dated = {"models": ["m"], "concepts": ["c"], "template": {"date": datetime.date(2026, 1, 31)}}
    assert checked(Spec, dated, "it", SpecError).template == {"date": "2026-01-31"}
    with pytest.raises(SpecError, match="'soon' is no date: write YYYY-MM-DD"):
        checked(Spec, {**dated, "template": {"date": "soon"}}, "it", SpecError)


# -- tokenizers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["first", "always", "never", "legacy"])
@pytest.mark.parametrize("ending", ["\n", " "])
def test_sentencepiece_joins_an_answer_as_the_whole_conversation_does(tmp_path: Path, scheme: str, ending: str) -> None:
    with open_model(str(save_sentencepiece_model(tmp_path / "model", scheme, ending))) as model:
        read = prompt(model, "Hello world", chat=True, answer="Yes")
        turns = [{"role": "user", "content": "Hello world"}, {"role": "assistant", "content": "Yes"}]
        assert whole(model, turns)[: len(read.tokens)] == read.tokens
        (answer,) = read.tokens[read.response_start :]
        assert model.tokenizer.convert_ids_to_tokens(answer) == ("▁Yes" if ending == " " else "Yes")


@pytest.mark.parametrize("scheme", ["first", "always", "never", "legacy"])
def test_a_continuation_keeps_its_first_space(tmp_path: Path, scheme: str) -> None:
    with open_model(str(save_sentencepiece_model(tmp_path / "model", scheme))) as model:
        world = model.tokenizer.convert_tokens_to_ids("▁world")
        assert (model.text([world]), model.continuation([world])) == ("world", " world")
        read = prompt(model, "Hello", chat=False).tokens
        spaced = 0
        for seed in range(30):
            ((_, sampled),) = sample(model, [Request(read, seed=seed)], 4, 3.0, Work())
            shown = sampled.tokens[:-1] if sampled.finish == "stop" else sampled.tokens
            assert sampled.text == model.text((*read, *shown))[len(model.text(read)) :]
            with stream(model, [Request(read, seed=seed)], 4, 3.0) as drawn:
                assert "".join(token.text for token in drawn) == sampled.text
            spaced += sampled.text.startswith(" ")
        assert spaced


@pytest.mark.parametrize(("begin", "end"), [(True, False), (False, True), (True, True)])
def test_raw_text_begins_once_and_ends_with_its_own_token(tmp_path: Path, begin: bool, end: bool) -> None:
    with open_model(str(save_raw_model(tmp_path / "model", begin, end))) as model:
        start = "<|system|>" if begin else ""
        assert model.text(prompt(model, "Hi", chat=False).tokens) == f"{start}Hi"
        answered = prompt(model, "Hi", chat=False, answer="there")
        assert model.text(answered.tokens) == f"{start}Hi there"
        assert model.text(answered.tokens[answered.response_start :]) == " there"
        if begin:
            assert model.text(prompt(model, "<|system|>Hi", chat=False).tokens) == "<|system|>Hi"


@pytest.mark.parametrize(
    ("config", "generation", "stops"),
    [
        ({"eos_token_id": [1, 2]}, None, {0, 1, 2}),
        ({"eos_token_id": 3}, None, {0, 3}),
        ({"eos_token_id": [3]}, {"eos_token_id": [1, 2]}, {0, 1, 2}),
        ({}, {"eos_token_id": 2}, {0, 2}),
        ({}, None, {0}),
    ],
)
def test_stop_tokens_are_those_of_mlx_lm(
    tmp_path: Path, config: dict[str, object], generation: dict[str, object] | None, stops: set[int]
) -> None:
    import mlx_lm

    folder = save_tiny_model(tmp_path / "model", config)
    if generation:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    with open_model(str(folder)) as model:
        assert model.stop_tokens == stops == set(mlx_lm.load(str(folder))[1].eos_token_ids)
        assert set(model.further_stops) == stops - {0}


def test_a_token_beyond_the_vocabulary_is_named(tmp_path: Path) -> None:
    folder = save_chat_model(tmp_path / "model", "qwen3", ("<think>", "</think>", "<|pad|>"), vocab_size=262)
    with open_model(str(folder)) as model:
        assert prompt(model, "Hello", chat=True).tokens
        for chat in (True, False):
            with pytest.raises(PromptError, match=r"token 262 \('<\|pad\|>'\) of .* the model has only 262 tokens"):
                prompt(model, "Hello <|pad|>", chat=chat)


def test_models_that_read_as_before_keep_their_keys(tiny_folder: Path, tmp_path: Path) -> None:
    """The store's rows of such a model are found again; one whose answers are read in another way is a new model."""
    with open_model(str(tiny_folder)) as model:
        assert "-" not in model.identity.model_id
    for template, new in (("qwen3", True), ("llama3.2", True), ("gpt-oss", True)):
        with open_model(str(save_chat_model(tmp_path / template, template))) as model:
            assert ("-" in model.identity.model_id) == new
