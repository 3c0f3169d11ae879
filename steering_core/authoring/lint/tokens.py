"""Checks that need a model's tokenizer: what it really reads."""

from collections.abc import Iterator

from steering_core.authoring.lint.finding import Finding, error, numbered, warning
from steering_core.authoring.lint.sided import pair_name, sided_pairs
from steering_core.authoring.lint.sides import length_gap, longest_first
from steering_core.concepts.concept import Concept
from steering_core.foundation.errors import PromptError
from steering_core.foundation.validation import counted
from steering_core.models import Model
from steering_core.prompts import Prompt, item_prompts, open_prompt, sided_prompt

WIDTH_PER_PAIR = 16


def model_checks(concept: Concept, model: Model) -> Iterator[Finding]:
    """Prompts beyond the context, sides that are the same tokens, sides of different token counts, width and pairs."""
    pairs, too_long = _tokenised(concept, model)
    if too_long:
        message = (
            f"{counted(len(too_long), 'prompt')} beyond {model.name}'s context of {model.identity.context:,} tokens"
        )
        yield error("context", message, "shorten them, or use a model with a longer context", too_long)
    if same := [row for row, (a, b) in pairs.items() if a.tokens == b.tokens]:
        message = f"{counted(len(same), 'pair')} of the same tokens on both sides for {model.name}"
        yield error("same", message, "the tokenizer or chat template drops what tells them apart: rewrite them", same)
    yield from _token_counts(model, pairs)
    n, width = len(sided_pairs(concept, "train")), model.identity.width
    if n * WIDTH_PER_PAIR < width:
        message = f"{counted(n, 'training pair')} for a residual stream of width {width:,}"
        remedy = f"write more: methods that estimate more than a mean need about {width // WIDTH_PER_PAIR}"
        yield warning("few", message, remedy)


def _tokenised(concept: Concept, model: Model) -> tuple[dict[str, tuple[Prompt, Prompt]], list[str]]:
    pairs: dict[str, tuple[Prompt, Prompt]] = {}
    too_long = []
    for pair in sided_pairs(concept):
        try:
            positive, negative = (sided_prompt(model, concept, text) for text in pair)
            pairs[pair_name(*pair)] = (positive, negative)
        except PromptError:
            too_long.append(pair_name(*pair))
    for i, item in enumerate(concept.items):
        try:
            item_prompts(model, concept, item)
        except PromptError:
            too_long.append(numbered("item", i))
    for i, text in enumerate(concept.prompts):
        try:
            open_prompt(model, concept, text)
        except PromptError:
            too_long.append(numbered("prompt", i))
    return pairs, too_long


def _token_counts(model: Model, pairs: dict[str, tuple[Prompt, Prompt]]) -> Iterator[Finding]:
    counts = [(len(a.tokens) - _stem(a), len(b.tokens) - _stem(b)) for a, b in pairs.values()]
    if (gap := length_gap(counts)) is not None:
        message = f"for {model.name} the positive sides of the pairs have {gap:+.0%} tokens on average"
        worst = longest_first(list(pairs), counts, gap)
        yield error("tokens", message, "use shorter or more common words on the longer sides", worst)


def _stem(prompt: Prompt) -> int:
    """Tokens before the answer; 0 for a prompt without one."""
    return prompt.response_start if prompt.response_start < len(prompt.tokens) else 0
