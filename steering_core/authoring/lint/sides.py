"""Checks of the contrast itself: is it the concept that tells the sides apart, or length, a word, a mark?"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from steering_core.authoring.lint.finding import Finding, error, numbered, warning
from steering_core.authoring.lint.shallow_probe import probe_accuracy
from steering_core.authoring.lint.sided import pair_name, row_name, sided_pairs
from steering_core.authoring.lint.wording import bag, surface, words
from steering_core.concepts.concept import SIDES, Concept
from steering_core.foundation.validation import counted

MAX_LENGTH_GAP = 0.10  # of the geometric mean of the sides' word counts
MAX_ONE_SIDED = 0.30  # share of the pairs by which a word may be on one side more often than on the other
MAX_SURFACE = 0.75  # accuracy of a probe that sees no word
CLOSED = 6  # different answers, at most, where they are letters or yes and no
MIN_PAIRS = 16  # below, such shares mean nothing
_BROKEN = re.compile(
    "\ufffd|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|Ã[\x80-\xbf©¨ª«¯´¶¼]|â€[œ\x9d™˜“”¦]|[\u200b\u2060\ufeff]"
)

Group = tuple[str, list[str], list[tuple[str, str]]]
"""The kind of some rows ("pair", "text" or "item"), their names, and the (positive, negative) texts of each."""


def groups(concept: Concept) -> list[Group]:
    """The concept's pairs, or its unpaired texts two by two, and its items."""
    pairs = sided_pairs(concept)
    kind, names = "text" if concept.unpaired else "pair", [pair_name(*pair) for pair in pairs]
    found: list[Group] = [(kind, names, [(positive.text, negative.text) for positive, negative in pairs])]
    if concept.items:
        items = [(item.matching, item.not_matching) for item in concept.items]
        found.append(("item", [numbered("item", i) for i in range(len(items))], items))
    return found


def same_sides(concept: Concept) -> Iterator[Finding]:
    """Rows whose two sides are the same but for case, white space and marks."""
    for kind, names, sides in groups(concept):
        if kind == "text":
            continue
        rows = [name for name, (a, b) in zip(names, sides, strict=True) if _plain(a) == _plain(b)]
        if rows:
            message = f"{counted(len(rows), kind)} with the same on both sides"
            yield error("same", message, "rewrite one side, or take the rows out", rows)
    if concept.unpaired is not None:
        one, other = ({(t.prompt, _plain(t.text)) for t in concept.texts if t.side == side} for side in SIDES)
        if rows := [row_name(t) for t in concept.texts if (t.prompt, _plain(t.text)) in one & other]:
            yield error("same", f"{counted(len(rows), 'text')} on both sides", "take them out of one, or of both", rows)


def _plain(text: str) -> str:
    return " ".join(words(text)) or text.strip()


def broken_text(concept: Concept) -> Iterator[Finding]:
    """Texts that were decoded wrongly on their way: replacement characters, mojibake, control characters."""
    texts = {f"{row} (prompt)": text for row, text in prompt_texts(concept)}
    texts |= {row_name(text): text.text for text in concept.texts if concept.unpaired}
    for kind, names, sides in groups(concept):
        for name, (positive, negative) in zip(names, sides, strict=True) if kind != "text" else ():
            texts |= {f"{name} (positive)": positive, f"{name} (negative)": negative}
    if rows := [name for name, text in texts.items() if _BROKEN.search(text)]:
        message = f"{counted(len(rows), 'text')} with characters of a wrong decoding"
        yield error("encoding", message, "export them again as UTF-8, or mend the characters by hand", rows)


def prompt_texts(concept: Concept) -> list[tuple[str, str]]:
    """(row, prompt) of every pair, unpaired text, item and open prompt that has one."""
    found = [(numbered("pair", i), pair.prompt) for i, pair in enumerate(concept.pairs) if pair.prompt]
    found += [(row_name(text), text.prompt) for text in concept.texts if concept.unpaired and text.prompt]
    found += [(numbered("item", i), item.prompt) for i, item in enumerate(concept.items)]
    return [*found, *((numbered("prompt", i), prompt) for i, prompt in enumerate(concept.prompts))]


def lengths(concept: Concept) -> Iterator[Finding]:
    """Sides of different length: a vector then learns to talk longer or shorter."""
    for kind, names, sides in groups(concept):
        counts = [(len(words(a)), len(words(b))) for a, b in sides]
        if (gap := length_gap(counts)) is not None:
            side = ("positive", "matching")[kind == "item"]
            message = f"the {side} sides of the {kind}s have {gap:+.0%} words on average"
            worst = longest_first(names, counts, gap)
            yield error(
                "lengths", message, "shorten the longer sides or fill the shorter ones, worst rows first", worst
            )


def length_gap(counts: Sequence[tuple[int, int]]) -> float | None:
    """By how much the first of two counts is larger, as a geometric mean; None where it is small, or may be chance."""
    ratios = np.array([np.log((a + 1) / (b + 1)) for a, b in counts])
    gap = float(np.exp(ratios.mean()) - 1) if len(ratios) > 1 else 0.0
    clear = abs(ratios.mean()) > 2 * ratios.std() / np.sqrt(len(ratios)) if len(ratios) > 1 else False
    return gap if clear and abs(gap) > MAX_LENGTH_GAP else None


def longest_first(names: Sequence[str], counts: Sequence[tuple[int, int]], gap: float) -> list[str]:
    """Names of the rows in the order in which they make up the gap; twenty at most."""
    order = sorted(range(len(names)), key=lambda i: -np.sign(gap) * np.log((counts[i][0] + 1) / (counts[i][1] + 1)))
    return [names[i] for i in order[:20]]


def are_closed(sides: Sequence[tuple[str, str]]) -> bool:
    """Whether the answers are a few fixed ones, such as letters or yes and no."""
    return len({answer.strip() for side in sides for answer in side}) <= min(CLOSED, len(sides))


def giveaways(concept: Concept) -> Iterator[Finding]:
    """Words and marks that stand on one side far more often than on the other: a vector may be about them alone."""
    for kind, names, sides in groups(concept):
        bags = [(bag(a), bag(b)) for a, b in sides]
        counts: Counter[str] = Counter()
        for positive, negative in bags:
            counts.update(positive.keys())
            counts.subtract(negative.keys())
        limit = MAX_ONE_SIDED * len(sides)
        for token, n in [] if len(sides) < MIN_PAIRS or are_closed(sides) else counts.most_common():
            if abs(n) < limit:
                continue
            here, there = (0, 1) if n > 0 else (1, 0)
            rows = [name for name, b in zip(names, bags, strict=True) if token in b[here] and token not in b[there]]
            with_it = [sum(token in b[side] for b in bags) for side in (here, there)]
            side = (("positive", "negative"), ("matching", "not matching"))[kind == "item"][here]
            message = f"{token!r} is on the {side} side of {with_it[0]} {kind}s and on the other of {with_it[1]}"
            yield error(
                "giveaway", message, "word some of these rows without it, or use it on the other side too", rows
            )


def surface_probe(concept: Concept) -> Iterator[Finding]:
    """Sides that a probe tells apart without any word: by length, word length, capitals, digits, marks."""
    for kind, _, sides in groups(concept):
        if len(sides) < MIN_PAIRS or are_closed(sides):
            continue
        accuracy = probe_accuracy(sides, surface)
        if accuracy > MAX_SURFACE:
            message = (
                f"a probe that reads no word names the side of {accuracy:.0%} of the {kind}s' texts ({_most(sides)})"
            )
            yield error("surface", message, "match the sides in length, word length, marks and capitals")


def _most(sides: list[tuple[str, str]]) -> str:
    """The surface features in which the sides differ most, in standard deviations."""
    found = [(surface(a), surface(b)) for a, b in sides]
    gaps = {}
    for name in found[0][0]:
        differences = np.array([a[name] - b[name] for a, b in found])
        values = np.array([f[name] for pair in found for f in pair])
        gaps[name] = float(differences.mean() / values.std()) if values.std() > 0 else 0.0
    most = sorted(gaps, key=lambda name: -abs(gaps[name]))[:3]
    return ", ".join(f"{name} {gaps[name]:+.1f} sd" for name in most)


def word_lists(concept: Concept) -> Iterator[Finding]:
    """Words that both word lists hold: they score nothing."""
    both = {w.lower() for w in concept.words.positive} & {w.lower() for w in concept.words.negative}
    if both:
        yield warning("words", f"{', '.join(sorted(both))} stand in both word lists", "take them out of one list")
