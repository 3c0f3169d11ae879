"""The judge: a language model that says how far a text shows the concept, from 0 to 1.

It sees the question and the answer, and neither the intervention nor any other answer. It is a server of OpenAI's form
or a local model; off unless a spec names one (`scores.judge`).
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from steering_core.concepts import Concept
from steering_core.engine.sampling import Request, sample
from steering_core.foundation.counting import Work
from steering_core.foundation.endpoint import Endpoint, Sampling
from steering_core.foundation.keys import content_key
from steering_core.models import Model, open_model
from steering_core.prompts import conversation, prompt
from steering_core.scores.scorers import Rating, ScoredBy, Text
from steering_core.spec import JudgeSpec

log = logging.getLogger(__name__)

JUDGE_VERSION = 1
HIGHEST = 10  # of the ratings that a prompt asks for
_OUT_OF = re.compile(rf"(?:/|\bout of)\s*{HIGHEST}\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w%]|\.\d)")

Reply = tuple[str, str]
"""What a judge said, and the version of the model that said it."""


@dataclass(frozen=True)
class Judge:
    """A judge of one concept's texts, as a spec wants it."""

    spec: JudgeSpec
    concept: Concept
    memory_limit: int | None = None  # bytes, for a judge on this machine

    @cached_property
    def key(self) -> str:
        """Content key of whom is asked, and what; a local model goes by its contents."""
        spec = self.spec
        who = (spec.endpoint, spec.model) if spec.endpoint else Model(spec.model).identity.model_id
        return content_key("judge", JUDGE_VERSION, who, spec.prompt, spec.max_tokens, self._looked_for)

    def ratings(self, texts: Sequence[Text], work: Work) -> Iterator[Rating]:
        """A rating from 0 to 1 for each text, with the judge's words; nan where those hold no rating.

        Raises EndpointError or ModelNotFound where the judge cannot be asked.
        """
        unread = 0
        for reply, version in self._replies([self.question(text) for text in texts], work):
            value = rating_in(reply)
            unread += value is None
            yield Rating(float("nan") if value is None else value / HIGHEST, self._by(version), reply)
        if unread:
            log.warning("%s gave no rating for %d of %d texts", self.spec.model, unread, len(texts))

    def question(self, text: Text) -> str:
        """What the judge is asked about a text."""
        return self.spec.prompt.format(concept=self._looked_for, prompt=text.prompt.text, text=text.text.strip())

    @property
    def _looked_for(self) -> str:
        return self.concept.description or self.concept.name

    def _by(self, version: str) -> ScoredBy:
        asked = {"prompt": self.spec.prompt, "concept": self._looked_for, "max_tokens": self.spec.max_tokens}
        where = {"endpoint": self.spec.endpoint, "version": JUDGE_VERSION}
        return ScoredBy("judge", self.spec.model, version, {**where, **asked, "temperature": 0.0})

    def _replies(self, asked: Sequence[str], work: Work) -> Iterator[Reply]:
        spec = self.spec
        sampling = Sampling(max_tokens=spec.max_tokens, temperature=0.0)
        conversations = [[{"role": "user", "content": question}] for question in asked]
        if spec.endpoint is None:
            with open_model(spec.model, memory_limit=self.memory_limit) as model:
                yield from _local_replies(model, conversations, sampling, work)
        else:
            server = Endpoint(spec.endpoint, spec.model, spec.key_from, spec.timeout, spec.retries)
            for answer in server.answers(conversations, sampling, spec.at_once):
                yield answer.text, answer.version


def _local_replies(
    model: Model, asked: Sequence[Sequence[Mapping[str, str]]], sampling: Sampling, work: Work
) -> Iterator[Reply]:
    """The replies of a model on this machine, in order; its version is its content fingerprint."""
    rows = model.memory.habits.rows
    for begin in range(0, len(asked), rows):
        requests = [Request(_read(model, messages)) for messages in asked[begin : begin + rows]]
        found = dict(sample(model, requests, sampling.max_tokens, sampling.temperature, work))
        yield from ((found[i].text, model.identity.model_id) for i in range(len(requests)))


def _read(model: Model, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
    """A conversation's tokens; the last message as raw text for a model without a chat template."""
    if model.chat_template.exists:
        return conversation(model, messages).tokens
    return prompt(model, messages[-1]["content"], chat=False).tokens


def rating_in(reply: str) -> float | None:
    """The one number from 0 to 10 in a reply, such as "7", "Rating: 7" or "7/10"; None for none, or several."""
    numbers = {float(number) for number in _NUMBER.findall(_OUT_OF.sub(" ", reply))}
    if len(numbers) == 1 and 0 <= (number := numbers.pop()) <= HIGHEST:
        return number
    return None
