"""Drafting pairs with a language model, for a person to review: each prompt is answered under either instruction."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from steering_core.concepts.concept import Concept, Pair
from steering_core.concepts.lint.texts import words
from steering_core.engine.forward import Work
from steering_core.engine.sampling import Request, sample
from steering_core.errors import ConceptError
from steering_core.interventions.change import Intervention
from steering_core.keys import seed_from
from steering_core.models import Model
from steering_core.progress import Progress, silent
from steering_core.prompts import prompt

Ask = tuple[str, str]
"""A system prompt, and the user's message."""
Writer = Callable[[Sequence[Ask], Progress], list[str]]
API_KEY = "OPENAI_API_KEY"


@dataclass(frozen=True)
class Sampling:
    """How a writer samples its answers."""

    max_tokens: int = 80
    temperature: float = 0.8
    seed: int = 0


def local_writer(model: Model, sampling: Sampling) -> Writer:
    """A writer that answers with a local model."""

    def write(asks: Sequence[Ask], progress: Progress) -> list[str]:
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
            tokens = [token for token in found.tokens if token not in model.stop_tokens]
            answers[i] = _whole_sentences(model.tokenizer.decode(tokens), cut=found.finish == "length")
            progress(done, len(asks))
        return answers

    return write


def _whole_sentences(text: str, cut: bool) -> str:
    """The text without a last sentence that the token limit cut off, where a whole one stands before it."""
    text = text.strip()
    end = max(text.rfind(mark) for mark in ".!?")
    return text[: end + 1] if cut and end > 0 else text


@dataclass(frozen=True)
class Endpoint:
    """A server that speaks OpenAI's chat completions: a base URL such as http://localhost:8080/v1, and a model there.

    The environment's OPENAI_API_KEY is sent where it is set.
    """

    url: str
    model: str
    sampling: Sampling = field(default_factory=Sampling)
    timeout: float = 120.0

    def write(self, asks: Sequence[Ask], progress: Progress) -> list[str]:
        """An answer for each ask, one request after another. Raises ConceptError where the server gives none."""
        answers = []
        for system, text in asks:
            answers.append(self._answer(system, text))
            progress(len(answers), len(asks))
        return answers

    def _answer(self, system: str, text: str) -> str:
        body = {
            "model": self.model,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": text}],
            "max_tokens": self.sampling.max_tokens,
            "temperature": self.sampling.temperature,
            "seed": seed_from(self.sampling.seed, text),
        }
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(API_KEY):
            headers["Authorization"] = f"Bearer {key}"
        address = f"{self.url.rstrip('/')}/chat/completions"
        if not address.startswith(("http://", "https://")):
            raise ConceptError(f"{self.url!r} is no address of a server: it begins with http:// or https://")
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as reply:
                choice = json.load(reply)["choices"][0]
                answer = str(choice["message"]["content"])
        except urllib.error.HTTPError as fault:
            said = fault.read(300).decode(errors="replace")
            raise ConceptError(
                f"{address} answers {fault.code}: {said} (model {self.model!r}; {API_KEY} is {_set()})"
            ) from None
        except (OSError, ValueError) as fault:
            raise ConceptError(
                f"{address} cannot be used ({fault}): start a server there (mlx_lm.server, llama-server, ollama), or "
                "draft with a local model: --model smollm2-135m"
            ) from fault
        except (KeyError, IndexError, TypeError) as fault:
            raise ConceptError(
                f"{address} does not answer as OpenAI's chat completions do: {fault!r} is missing"
            ) from fault
        return _whole_sentences(answer, cut=choice.get("finish_reason") == "length")


def _set() -> str:
    return "set" if os.environ.get(API_KEY) else "not set"


@dataclass(frozen=True)
class Draft:
    """A drafted concept, and the prompts whose two answers were of no use, each with the reason."""

    concept: Concept
    left_out: tuple[tuple[str, str], ...]


def drafted(concept: Concept, asked: Sequence[str], writer: Writer, by: str, progress: Progress = silent) -> Draft:
    """`concept` with new pairs: the answers to `asked` under its positive and under its negative instruction.

    Empty answers, answers that are the same on both sides and answers of very different length are left out. The card
    says that the pairs are a draft. Raises ConceptError without instructions, or where nothing usable came back.
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
    update = {"pairs": tuple(pairs), "prompts": prompts, "chat": True, "card": card}
    return Draft(Concept.model_validate(concept.model_dump() | update), tuple(left_out))


def _unusable(positive: str, negative: str) -> str | None:
    if not positive or not negative:
        return "an answer is empty"
    if words(positive) == words(negative):
        return "both answers are the same"
    lengths = sorted((len(words(positive)) + 1, len(words(negative)) + 1))
    return "one answer is over three times as long as the other" if lengths[1] > 3 * lengths[0] else None
