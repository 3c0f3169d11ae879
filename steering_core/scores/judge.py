"""The judge: a language model that answers questions about a text by numbers.

It sees the prompt that a text answers and the text, and neither the intervention nor any other text. It is a server
of OpenAI's form or a local model; off unless a spec names one (`scores.judge`). Its rubric is three questions, each
answered by 0, 1 or 2: does the concept show, does the text reply to its prompt, is it well written (AxBench, Wu et al.
2025). A spec may put a question of its own instead.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from steering_core.concepts import Concept
from steering_core.engine.sampling import Request, sample
from steering_core.foundation.counting import Work
from steering_core.foundation.endpoint import Endpoint, EndpointSampling, PlainMessages
from steering_core.foundation.judging import JudgeSpec
from steering_core.foundation.keys import content_key
from steering_core.models import Model, open_model
from steering_core.prompts import conversation, prompt
from steering_core.scores.scorers import Rating, ScoredBy, ScoredText
from steering_core.statistics.metric_names import RATINGS

log = logging.getLogger(__name__)

JUDGE_VERSION = 2
REMINDER = "Reply with one whole number from 0 to {highest}, and nothing else."
_MARKED = re.compile(r"\[\[\s*(\d+(?:\.\d+)?)\s*\]\]")
_NUMBER = re.compile(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w%]|\.\d)")

Reply = tuple[str, str]
"""What a judge said, and the version of the model that said it."""
AskJudge = Callable[[Sequence[PlainMessages]], Iterator[Reply]]
"""The judge's replies to conversations, in their order."""


@dataclass(frozen=True)
class RatingScale:
    """The ratings that a question asks for: 0 to `highest`, stored divided by `unit`; `whole`: whole numbers alone."""

    highest: int
    unit: int = 1
    whole: bool = True


OWN = RatingScale(10, 10, whole=False)  # of a question of the spec's own: stored as 0 to 1
RUBRIC_SCALE = RatingScale(2)


@dataclass(frozen=True)
class Judge:
    """A judge of one concept's texts by one of its questions, that of `metric`."""

    spec: JudgeSpec
    concept: Concept
    metric: str = "judge"
    memory_limit: int | None = None  # bytes, for a judge on this machine

    @cached_property
    def key(self) -> str:
        """Content key of whom is asked, and what; a local model goes by its contents."""
        spec = self.spec
        who = (spec.endpoint, spec.model) if spec.endpoint else Model(spec.model).identity.model_id
        return content_key("judge", JUDGE_VERSION, who, self.template, spec.max_tokens, self._looked_for)

    @property
    def template(self) -> str:
        """The question, with places for the text, its prompt and the concept."""
        if self.metric in RATINGS:
            return str(getattr(self.spec.rubric, self.metric.removeprefix("judge_")))
        assert self.spec.prompt is not None, "a judge of the metric `judge` has a question of the spec's own"
        return self.spec.prompt

    @property
    def scale(self) -> RatingScale:
        """The ratings that the question asks for."""
        return RUBRIC_SCALE if self.metric in RATINGS else OWN

    def ratings(self, texts: Sequence[ScoredText], work: Work) -> Iterator[Rating]:
        """A rating for each text, with the judge's words; nan where these hold no rating.

        A reply without a rating is answered once, by a reminder of the form. Raises EndpointError or ModelNotFound
        where the judge cannot be asked.
        """
        return self.rated([(text.prompt.text, text.text) for text in texts], work)

    def rated(self, asked: Sequence[tuple[str, str]], work: Work) -> Iterator[Rating]:
        """A rating for each text, which is given as the prompt and what answers it. Raises as `ratings` does."""
        unread = 0
        questions: list[PlainMessages] = [[{"role": "user", "content": self.question(*one)}] for one in asked]
        with self._open(work) as (ask, together):
            replies, begin = ask(questions), 0
            while some := list(islice(replies, together)):
                for value, said, version in self._with_reminders(ask, questions[begin : begin + len(some)], some):
                    unread += value is None
                    yield Rating(float("nan") if value is None else value / self.scale.unit, self._by(version), said)
                begin += len(some)
        if unread:
            log.warning("%s gave no rating for %d of %d texts (%s)", self.spec.model, unread, len(asked), self.metric)

    def question(self, prompt: str, text: str) -> str:
        """What the judge is asked about a text that answers `prompt`."""
        return self.template.format(concept=self._looked_for, prompt=prompt, text=text.strip())

    def _with_reminders(
        self, ask: AskJudge, questions: Sequence[PlainMessages], replies: Sequence[Reply]
    ) -> Iterator[tuple[float | None, str, str]]:
        """Each reply's rating, words and version; those without a rating are reminded of the form, all together."""
        values = [rating_in(said, self.scale) for said, _ in replies]
        again = [
            self._reminded(q, said) for q, v, (said, _) in zip(questions, values, replies, strict=True) if v is None
        ]
        more = ask(again) if again else iter(())
        for value, (said, version) in zip(values, replies, strict=True):
            if value is None:
                added, version = next(more)
                yield rating_in(added, self.scale), f"{said}\n{added}", version
            else:
                yield value, said, version

    def _reminded(self, messages: PlainMessages, said: str) -> PlainMessages:
        reminder = REMINDER.format(highest=self.scale.highest)
        return [*messages, {"role": "assistant", "content": said}, {"role": "user", "content": reminder}]

    @property
    def _looked_for(self) -> str:
        return self.concept.description or self.concept.name

    def _by(self, version: str) -> ScoredBy:
        asked = {"prompt": self.template, "concept": self._looked_for, "max_tokens": self.spec.max_tokens}
        where = {"endpoint": self.spec.endpoint, "version": JUDGE_VERSION}
        return ScoredBy(self.metric, self.spec.model, version, {**where, **asked, "temperature": 0.0})

    @contextmanager
    def _open(self, work: Work) -> Iterator[tuple[AskJudge, int]]:
        """The judge, ready to be asked, and how many texts at once; a local model stays open inside the `with`."""
        spec, sampling = self.spec, EndpointSampling(max_tokens=self.spec.max_tokens, temperature=0.0)
        if spec.endpoint is not None:
            server = Endpoint(spec.endpoint, spec.model, spec.key_from, spec.timeout, spec.retries)
            yield (
                lambda asked: ((a.text, a.version) for a in server.answers(asked, sampling, spec.at_once)),
                spec.at_once,
            )
        else:
            with open_model(spec.model, memory_limit=self.memory_limit) as model:
                yield lambda asked: _local_replies(model, asked, sampling, work), model.memory.habits.rows


def _local_replies(
    model: Model, asked: Sequence[PlainMessages], sampling: EndpointSampling, work: Work
) -> Iterator[Reply]:
    """The replies of a model on this machine, in order; its version is its content fingerprint."""
    rows = model.memory.habits.rows
    for begin in range(0, len(asked), rows):
        requests = [Request(_tokens(model, messages)) for messages in asked[begin : begin + rows]]
        found = dict(sample(model, requests, sampling.max_tokens, sampling.temperature, work))
        yield from ((found[i].text, model.identity.model_id) for i in range(len(requests)))


def _tokens(model: Model, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
    """A conversation's tokens; for a model without a chat template those of its turns as paragraphs of one raw text."""
    if model.chat_template.exists:
        return conversation(model, messages).tokens
    text = "\n\n".join(message["content"] for message in messages if message["content"])
    return prompt(model, text, chat=False).tokens


def rating_in(reply: str, scale: RatingScale = OWN) -> float | None:
    """The one number of the scale in a reply, such as "7", "Rating: 7", "7/10" or "…: [[7]]"; None for none or several.

    Numbers in double square brackets are the only ones that count, where there are any.
    """
    marked = _MARKED.findall(reply)
    out_of = re.compile(rf"(?:/|\bout of)\s*{scale.highest}\b", re.IGNORECASE)
    numbers = {float(number) for number in marked or _NUMBER.findall(out_of.sub(" ", reply))}
    if len(numbers) != 1:
        return None
    number = numbers.pop()
    fits = 0 <= number <= scale.highest and (number.is_integer() or not scale.whole)
    return number if fits else None
