"""Drafting pairs with a language model, for a person to review: each prompt is answered under either instruction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steering_core.authoring.lint.wording import words
from steering_core.concepts.concept import Concept, Pair
from steering_core.engine.sampling import Request, sample
from steering_core.foundation.counting import Work
from steering_core.foundation.endpoint import Endpoint, EndpointSampling
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.keys import seed_from
from steering_core.foundation.progress import Progress, silent
from steering_core.interventions.change import Intervention
from steering_core.models import Model
from steering_core.prompts import prompt

FEWEST_RUNS = 10  # of three words, from which an answer can be called repetitive
DraftRequest = tuple[str, str]
"""A system prompt, and the user's message."""
WriteTexts = Callable[[Sequence[DraftRequest], Progress], list[str]]


def local_writer(model: Model, sampling: EndpointSampling) -> WriteTexts:
    """A writer that answers with a local model."""

    def write(asks: Sequence[DraftRequest], progress: Progress) -> list[str]:
        """The local model's answers, in order, without sentences that the token limit cut off."""
        requests = [
            Request(
                prompt(model, text, chat=True, system=system).tokens, Intervention(), seed_from(sampling.seed, text)
            )
            for system, text in asks
        ]
        answers = [""] * len(asks)
        for done, (i, found) in enumerate(
            sample(model, requests, sampling.max_tokens, sampling.temperature, Work()), 1
        ):
            answers[i] = _whole_sentences(found.text, cut=found.finish == "length")
            progress(done, len(asks))
        return answers

    return write


def _whole_sentences(text: str, cut: bool) -> str:
    """The text without a last sentence that the token limit cut off, where a whole one stands before it."""
    text = text.strip()
    end = max(text.rfind(mark) for mark in ".!?")
    return text[: end + 1] if cut and end > 0 else text


def served_writer(endpoint: Endpoint, sampling: EndpointSampling) -> WriteTexts:
    """A writer that asks a server, one request after another. It raises EndpointError where the server gives none."""

    def write(asks: Sequence[DraftRequest], progress: Progress) -> list[str]:
        """The server's answers, in order, without sentences that the token limit cut off. Raises EndpointError."""
        conversations = [
            [{"role": "system", "content": system}, {"role": "user", "content": text}] for system, text in asks
        ]
        answers = []
        for answer in endpoint.answers(conversations, sampling):
            answers.append(_whole_sentences(answer.text, cut=answer.cut))
            progress(len(answers), len(asks))
        return answers

    return write


@dataclass(frozen=True)
class Draft:
    """A drafted concept, and the prompts whose two answers were of no use, each with the reason."""

    concept: Concept
    left_out: tuple[tuple[str, str], ...]


def drafted(concept: Concept, asked: Sequence[str], writer: WriteTexts, by: str, progress: Progress = silent) -> Draft:
    """`concept` with new pairs: the answers to `asked` under its positive and under its negative instruction.

    Answers that are empty, go round in circles, are the same on both sides or of very different length are left out.
    The card calls the pairs a draft. Raises ConceptError without instructions, or where nothing usable came back.
    """
    if concept.instructions is None:
        raise ConceptError(
            f"the concept {concept.name} has no instructions: write two system prompts, `instructions: {{positive: …, "
            "negative: …}`, under which a model shall answer"
        )
    wanted = list(dict.fromkeys(asked))
    systems = (concept.instructions.positive, concept.instructions.negative)
    answers = writer([(system, text) for text in wanted for system in systems], progress)
    pairs, left_out = [], []
    for text, positive, negative in zip(wanted, answers[::2], answers[1::2], strict=True):
        if fault := _unusable(positive, negative):
            left_out.append((text, fault))
        else:
            pairs.append(Pair(prompt=text, positive=positive, negative=negative))
    if not pairs:
        why = left_out[0][1] if left_out else "no prompt was asked"
        raise ConceptError(
            f"{by} gave no usable pair for {concept.name} ({why}): try a stronger model, or longer answers"
        )
    made = (
        f"DRAFT, not reviewed: answered by {by} under the two instructions. Read every pair, mend it, then say so here."
    )
    card = concept.card.model_copy(update={"made": made})
    prompts = tuple(text for text in concept.prompts if text not in {pair.prompt for pair in pairs})
    update = {"pairs": tuple(pairs), "unpaired": None, "prompts": prompts, "chat": True, "card": card}
    return Draft(Concept.model_validate(concept.model_dump() | update), tuple(left_out))


def _unusable(positive: str, negative: str) -> str | None:
    if not positive or not negative:
        return "an answer is empty"
    if words(positive) == words(negative):
        return "both answers are the same"
    if _circles(words(positive)) or _circles(words(negative)):
        return "an answer goes round in circles"
    lengths = sorted((len(words(positive)) + 1, len(words(negative)) + 1))
    return "one answer is over three times as long as the other" if lengths[1] > 3 * lengths[0] else None


def _circles(said: Sequence[str]) -> bool:
    """Whether over a third of the runs of three words stand in the answer before."""
    runs = list(zip(said, said[1:], said[2:], strict=False))
    return len(runs) >= FEWEST_RUNS and len(set(runs)) < 2 / 3 * len(runs)
