"""Planted texts: what a judge makes of texts whose ratings are known, before its ratings of other texts count.

Four kinds come from a concept's own pairs. `shown` is the positive side of a pair: the concept shows, the text replies
to its prompt and is well written. `not shown` is the negative side: the same without the concept. `another reply` is
the positive side of a pair with another prompt: it replies to nothing. `gibberish` is words of positive sides in no
order, or one word repeated: it names the concept, perhaps, but is no language.
"""

import logging
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from steering_core.concepts import Concept, Pair
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import JudgeUntrusted
from steering_core.foundation.judging import JudgeSpec
from steering_core.foundation.keys import content_key, seed_from
from steering_core.scores.judge import Judge
from steering_core.statistics.metric_names import RATINGS
from steering_core.store import Store

log = logging.getLogger(__name__)

PLANTED_VERSION = 1
SHOWN, NOT_SHOWN, ELSEWHERE, GIBBERISH = "shown", "not shown", "another reply", "gibberish"
PER_KIND = 6  # texts
MUST, SHOULD = 0.9, 0.75  # share of a kind's ratings that must agree: gibberish taken for language ruins every mean
_GIBBERISH_WORDS = 30


@dataclass(frozen=True)
class Planted:
    """A text of known quality: the prompt that it is shown with, and the rating that each question deserves."""

    kind: str
    prompt: str
    text: str
    expected: dict[str, int]

    @property
    def needed(self) -> float:
        """The share of its kind's ratings that must be as expected."""
        return MUST if self.kind == GIBBERISH else SHOULD


def planted_texts(concept: Concept, n: int = PER_KIND) -> list[Planted]:
    """`n` texts of each kind from a concept's pairs, those that vectors are not made from first.

    Pairs without a prompt are bare texts: there is no prompt to ask about, and no other reply.
    """
    order = {"test": 0, "validation": 1, "train": 2}
    pairs = sorted(concept.pairs, key=lambda pair: (order[concept.splits[pair.pair_id]], pair.pair_id))
    chosen = pairs[:n]
    found = []
    for i, pair in enumerate(chosen):
        prompt = pair.prompt or ""
        replies = {"judge_instruction": 2} if pair.prompt else {}
        found.append(Planted(SHOWN, prompt, pair.positive, {"judge_concept": 2, **replies, "judge_fluency": 2}))
        found.append(Planted(NOT_SHOWN, prompt, pair.negative, {"judge_concept": 0, **replies, "judge_fluency": 2}))
        found.append(Planted(GIBBERISH, prompt, _gibberish(concept, chosen, i), {"judge_fluency": 0}))
        if pair.prompt and (other := _farthest(pair, pairs)):
            found.append(Planted(ELSEWHERE, prompt, other.positive, {"judge_instruction": 0, "judge_fluency": 2}))
    return found


def _gibberish(concept: Concept, pairs: Sequence[Pair], i: int) -> str:
    """Words of positive sides in no order; every second text is one such word, repeated."""
    draw = random.Random(seed_from("gibberish", concept.concept_id))
    words = list(dict.fromkeys(word for pair in pairs for word in pair.positive.split()))
    if i % 2:
        listed = list(concept.words.positive) or words
        return " ".join([draw.sample(listed, len(listed))[i // 2 % len(listed)]] * _GIBBERISH_WORDS)
    return " ".join(random.Random(seed_from("gibberish", concept.concept_id, i)).choices(words, k=_GIBBERISH_WORDS))


def _farthest(pair: Pair, pairs: Iterable[Pair]) -> Pair | None:
    """The pair whose prompt shares least with this one's; None where no other prompt shares less than all of it."""
    mine = _words(pair.prompt)

    def shared(other: Pair) -> float:
        """The share of words that two prompts have in common: shared words over all words, 0 to 1."""
        theirs = _words(other.prompt)
        return len(mine & theirs) / max(len(mine | theirs), 1)

    best = min((other for other in pairs if other.prompt), key=lambda other: (shared(other), other.pair_id))
    return best if shared(best) < 1 else None


def _words(text: str | None) -> set[str]:
    return {word.strip(".,;:!?\"'()").lower() for word in (text or "").split()}


@dataclass(frozen=True)
class JudgeCheck:
    """How a judge rated one kind of planted text by one question.

    Of `n` texts `rated` have a rating, and `agreed` the `expected` one; `needed` is the share of `n` that has to agree.
    """

    kind: str
    metric: str
    expected: int
    agreed: int
    rated: int
    n: int
    needed: float

    @property
    def passed(self) -> bool:
        """Whether enough agreed."""
        return self.agreed >= self.needed * self.n

    def __str__(self) -> str:
        unread = f", {self.n - self.rated} without a rating" if self.rated < self.n else ""
        return f"{self.kind}: {self.agreed} of {self.n} have {self.metric} {self.expected}{unread}"


def checks_of(
    spec: JudgeSpec, concept: Concept, store: Store, work: Work, memory: int | None = None
) -> list[JudgeCheck]:
    """How a judge rates planted texts, by kind and question; it is asked only where the store has no rating.

    Raises EndpointError or ModelNotFound where the judge cannot be asked.
    """
    planted, ids = planted_texts(concept), []
    for metric in RATINGS:
        judge = Judge(spec, concept, metric, memory)
        asked = {_planted_id(judge, one): one for one in planted if metric in one.expected}
        missing = store.absent("planted", asked)
        todo = {i: one for i, one in asked.items() if i in missing}
        rows, scorers = [], {}
        ratings = judge.rated([(one.prompt, one.text) for one in todo.values()], work) if todo else iter(())
        for (i, one), rating in zip(todo.items(), ratings, strict=True):
            assert rating.by is not None, "what judges said names the judge"
            scorers[rating.by.scorer_id] = rating.by
            known = {"planted_id": i, "scorer_id": rating.by.scorer_id, "concept_id": concept.concept_id}
            said = {"value": None if math.isnan(rating.value) else rating.value, "reply": rating.reply}
            rows.append({**known, "metric": metric, **_columns(one, metric), **said})
        store.append("scorers", [{"scorer_id": i, **by.columns()} for i, by in scorers.items()])
        store.append("planted", rows)
        ids += list(asked)
    return _checks(store, ids)


def _planted_id(judge: Judge, one: Planted) -> str:
    made_of = (judge.key, judge.metric, one.kind, one.prompt, one.text, one.expected[judge.metric], one.needed)
    return content_key("planted", PLANTED_VERSION, judge.concept.concept_id, *made_of)


def _columns(one: Planted, metric: str) -> dict[str, Any]:
    what = {"kind": one.kind, "prompt": one.prompt, "text": one.text}
    return {**what, "expected": float(one.expected[metric]), "needed": one.needed}


def _checks(store: Store, ids: Sequence[str]) -> list[JudgeCheck]:
    wanted = pa.table({"planted_id": pa.array(list(dict.fromkeys(ids)), pa.string())})
    rows = store.rows(
        "SELECT kind, metric, expected::INTEGER AS expected, count(*) FILTER (value = expected) AS agreed, "
        "count(value) AS rated, count(*) AS n, needed FROM wanted JOIN raw.planted USING (planted_id) "
        "GROUP BY ALL ORDER BY kind, metric",
        wanted=wanted,
    )
    return [JudgeCheck(**row) for row in rows]


def require_trusted(spec: JudgeSpec, concept: Concept, checks: Sequence[JudgeCheck]) -> None:
    """Raise JudgeUntrusted where a check was not passed; the message names the judge and every such check."""
    if failed := [str(check) for check in checks if not check.passed]:
        if not any(check.rated for check in checks):
            failed = [f"none of {sum(check.n for check in checks)} replies holds a rating, even after a reminder"]
        raise JudgeUntrusted(
            f"the judge {spec.model} may not be trusted with {concept.name}, as it rates texts of known quality "
            f"wrongly ({'; '.join(failed)}): name a stronger model, or mend the questions of scores.judge.rubric"
        )


def trusted(spec: JudgeSpec, concept: Concept, store: Store, work: Work, memory: int | None = None) -> bool:
    """Whether a judge is to be asked about texts: it passes its checks, or `calibration` does not require that.

    Warns of checks that are not passed. A question of the spec's own is not checked: its right answers are not known.
    """
    if spec.prompt is not None or spec.calibration == "none":
        return True
    try:
        require_trusted(spec, concept, checks_of(spec, concept, store, work, memory))
    except JudgeUntrusted as fault:
        if spec.calibration == "warn":
            log.warning("%s. It is asked all the same (scores.judge.calibration: warn)", fault)
            return True
        log.warning("%s. It is not asked about texts (scores.judge.calibration: require)", fault)
        return False
    return True
