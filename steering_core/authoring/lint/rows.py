"""Checks of the rows as a set: enough of them, no two alike, nothing held out that was trained on."""

from collections.abc import Iterator

from steering_core.authoring.lint.finding import Finding, error, numbered, warning
from steering_core.authoring.lint.sided import row_name, sided_pairs
from steering_core.authoring.lint.sides import groups, prompt_texts
from steering_core.authoring.lint.wording import alike, words
from steering_core.authoring.scaffold import placeholders, unwritten
from steering_core.concepts.concept import SIDES, Concept, shared_prompt
from steering_core.concepts.held_out import REMEDY, lack_of_prompts
from steering_core.foundation.validation import counted

PAIRS, FEWEST_PAIRS = 60, 16
ITEMS, FEWEST_ITEMS = 40, 16  # half of the items are for the test, and a verdict needs 8 there
PROMPTS = 12
ALIKE = 0.8
MIN_WORDS = 4  # shorter texts are alike by chance
MAX_TEXTS = 20_000


def enough(concept: Concept) -> Iterator[Finding]:
    """Too few pairs, items or open prompts for what is measured on them."""
    n = len(sided_pairs(concept))
    if n < PAIRS:
        found = error if n < FEWEST_PAIRS else warning
        what = f"{counted(n, 'text')} on the smaller side" if concept.unpaired else counted(n, "pair")
        message = f"{what}, of which {len(sided_pairs(concept, 'train'))} train"
        yield found("few", message, f"write at least {PAIRS}: a direction's noise falls with the root of their number")
    if lack := lack_of_prompts(concept):
        yield error("few", lack, REMEDY)
    n = len(concept.items)
    if n < ITEMS:
        found = error if n < FEWEST_ITEMS else warning
        message = f"{counted(n, 'held-out item')}, of which {len(concept.items_in('test'))} test"
        yield found("few", message, f"write at least {ITEMS}; under {FEWEST_ITEMS} no verdict can be reached")
    if concept.items and not concept.items_in("validation"):
        message = f"none of {counted(n, 'held-out item')} is in the validation split"
        yield error("few", message, "put half of them into `validation`: a run chooses there, and refuses without")
    if len(concept.prompts) < PROMPTS:
        message = counted(len(concept.prompts), "open prompt")
        yield warning("few", message, f"write at least {PROMPTS}: texts are sampled and damage is measured on them")


def described(concept: Concept) -> Iterator[Finding]:
    """A concept without description, card or instructions."""
    missing = [key for key in ("what", "made", "biases", "licence") if not getattr(concept.card, key).strip()]
    missing += [] if concept.description.strip() else ["description"]
    if missing:
        yield warning("card", f"the data card lacks {', '.join(missing)}", "say it, for whoever uses the data next")
    if concept.instructions is None:
        message = "there are no instructions"
        yield warning("card", message, "give two system prompts: without them there is no prompting baseline")


def unfilled(concept: Concept) -> Iterator[Finding]:
    """Texts of `steer concepts new` that nobody replaced: as instructions they would be the prompting baseline."""
    given = placeholders()
    texts = {f"card {key}": (getattr(concept.card, key), given["card"][key]) for key in ("what", "made", "biases")}
    texts["description"] = concept.description, given["description"]
    left = [name for name, (own, placeholder) in texts.items() if own.strip() == placeholder]
    left += [f"{side} instructions" for side in unwritten(concept)]
    if left:
        yield error("unfilled", f"as the scaffold has it: {', '.join(left)}", "write your own, or take it out")


def near_duplicates(concept: Concept) -> Iterator[Finding]:
    """Texts that nearly repeat another: leakage where the two stand in different splits, else wasted rows."""
    splits = row_splits(concept)
    leaks: dict[str, float] = {}
    twins: dict[str, float] = {}
    later: dict[bool, set[str]] = {True: set(), False: set()}  # a row that repeats several counts once
    for rows, texts in (_prompts(concept), _answers(concept)):
        for i, j, likeness in alike(texts[:MAX_TEXTS], ALIKE):
            a, b = rows[i], rows[j]
            if a != b and not _one_group(concept, a, b):
                leaks_over = splits[a] != splits[b]
                name = f"{a} ({splits[a]}) ~ {b} ({splits[b]})" if leaks_over else f"{a} ~ {b}"
                found = leaks if leaks_over else twins
                found[name] = max(likeness, found.get(name, 0.0))
                later[leaks_over].add(b)
    among, n, m = f" (of {len(splits)} in all)", len(later[True]), len(later[False])
    if leaks:
        message = f"{counted(n, 'row')} nearly repeat{'s' * (n == 1)} one of another split{among}"
        yield error("leakage", message, "rewrite one of each: held-out numbers would be too good", list(leaks))
    if twins:
        message = f"{counted(m, 'row')} nearly repeat{'s' * (m == 1)} another of their split{among}"
        yield warning("duplicates", message, "rewrite or drop one of each: they add no information", list(twins))


def row_splits(concept: Concept) -> dict[str, str]:
    """The split of every row; items and open prompts never share one with pairs."""
    splits = {numbered("pair", i): str(concept.splits[pair.pair_id]) for i, pair in enumerate(concept.pairs)}
    splits |= {row_name(text): text.split for text in concept.texts if concept.unpaired}
    held = [concept.item_splits[item.item_id] for item in concept.items]
    splits |= {numbered("item", i): f"items, {split}" for i, split in enumerate(held)}
    return splits | {numbered("prompt", i): "open" for i in range(len(concept.prompts))}


def _prompts(concept: Concept) -> tuple[list[str], list[str]]:
    """The prompts with their rows; one on which all rows of a kind stand tells none of them, and is there once."""
    constant, seen = _constant(concept), set[str]()
    kept = []
    for row, text in prompt_texts(concept):
        is_constant = constant.get(row.split()[0]) == text
        if len(words(text)) >= MIN_WORDS and not (is_constant and text in seen):
            kept.append((row, text))
        seen |= {text} if is_constant else set()
    return [row for row, _ in kept], [text for _, text in kept]


def _constant(concept: Concept) -> dict[str, str | None]:
    """Of each kind of rows the prompt on which all of them stand."""
    sides = [*concept.unpaired.positive, *concept.unpaired.negative] if concept.unpaired else []
    found = {"pair": shared_prompt(concept.pairs), "item": shared_prompt(concept.items)}
    return found | dict.fromkeys(SIDES, shared_prompt(sides))


def _answers(concept: Concept) -> tuple[list[str], list[str]]:
    every = [
        (row, text)
        for kind, names, sides in groups(concept)
        for row, side in (zip(names, sides, strict=True) if kind != "text" else ())
        for text in side
        if len(words(text)) >= MIN_WORDS
    ]
    lone = [text for text in concept.texts if concept.unpaired and len(words(text.text)) >= MIN_WORDS]
    every += [(row_name(text), text.text) for text in lone]
    return [row for row, _ in every], [text for _, text in every]


def _one_group(concept: Concept, a: str, b: str) -> bool:
    """Whether two rows are of one kind and stand on the very same prompt, which keeps them in one split on purpose.

    A prompt on which all rows stand keeps none together.
    """
    (kind, i), (other, j) = a.split(), b.split()
    if kind in SIDES and other in SIDES:
        prompts = {row_name(text): text.prompt for text in concept.texts}
        asked = prompts[a], prompts[b]
    elif kind != other or kind == "prompt":
        return False
    else:
        rows = concept.pairs if kind == "pair" else concept.items
        asked = rows[int(i) - 1].prompt, rows[int(j) - 1].prompt
    return asked[0] is not None and asked[0] == asked[1] != _constant(concept)[kind]
