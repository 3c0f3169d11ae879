"""Concepts, pairs, items and prompts as rows of the store."""

from collections.abc import Sequence
from typing import Any

from steering_core.concepts import Concept, Item, SidedText
from steering_core.concepts.neutral import neutral_prompt_id, neutral_prompts
from steering_core.models import Model
from steering_core.prompts import Prompt, sided_prompt
from steering_core.store import Store


def store_pairs(store: Store, model: Model, concepts: Sequence[Concept]) -> list[Prompt]:
    """Have the store hold `concepts` with their pairs or texts as `model` reads them; the prompts, each once."""
    prompts: dict[str, Prompt] = {}
    rows: list[dict[str, Any]] = []
    for concept in concepts:
        for text in concept.texts:
            prompt = sided_prompt(model, concept, text)
            prompts[prompt.prompt_id] = prompt
            rows.append(pair_row(concept, text, prompt))
    store_items(store, concepts)
    store.append("prompts", [prompt_row(prompt) for prompt in prompts.values()])
    store.append("pairs", rows)
    return list(prompts.values())


def store_items(store: Store, concepts: Sequence[Concept]) -> None:
    """Have the store hold `concepts` with their items and the neutral prompts of each, which need no model."""
    store.append("concepts", [concept_row(concept) for concept in concepts])
    store.append("items", [item_row(concept, item) for concept in concepts for item in concept.items])
    chats = {concept.chat for concept in concepts}
    store.append("neutral_prompts", [neutral_row(prompt, chat) for chat in chats for prompt in neutral_prompts()])


def concept_row(concept: Concept) -> dict[str, Any]:
    """A concept as a row of the store's table."""
    return {
        "concept_id": concept.concept_id,
        "name": concept.name,
        "description": concept.description,
        "chat": concept.chat,
        "n_pairs": len(concept.pairs),
        "n_prompts": len(concept.prompts),
        "n_items": len(concept.items),
        "definition": concept.model_dump_json(exclude={"card"}),
    }


def pair_row(concept: Concept, text: SidedText, prompt: Prompt) -> dict[str, Any]:
    """One side of a concept's pair, or an unpaired text, as a row of the store's table."""
    return {
        "concept_id": concept.concept_id,
        "tokenizer_id": prompt.tokenizer_id,
        "pair_id": text.row_id,
        "ordinal": text.ordinal,
        "side": text.side,
        "split": text.split,
        "prompt_id": prompt.prompt_id,
    }


def item_row(concept: Concept, item: Item) -> dict[str, Any]:
    """A held-out item as a row of the store's table."""
    return {
        "concept_id": concept.concept_id,
        "item_id": item.item_id,
        "split": concept.item_splits[item.item_id],
        "prompt": item.prompt,
        "matching": item.matching,
        "not_matching": item.not_matching,
    }


def neutral_row(prompt: str, chat: bool) -> dict[str, Any]:
    """A neutral prompt as a row of the store's table."""
    return {"neutral_prompt_id": neutral_prompt_id(prompt, chat), "prompt": prompt, "chat": chat}


def prompt_row(prompt: Prompt) -> dict[str, Any]:
    """A prompt as a row of the store's table."""
    return {
        "prompt_id": prompt.prompt_id,
        "tokenizer_id": prompt.tokenizer_id,
        "text": prompt.text,
        "tokens": list(prompt.tokens),
        "n_tokens": len(prompt.tokens),
        "response_start": prompt.response_start,
    }
