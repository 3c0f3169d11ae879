"""Letters: items that are answered by naming an option, asked both ways round."""

import re

from steering_core.concepts import Item

_ANSWER = re.compile(r"^\s*\(?([A-Za-z])[).:]?\s*$")
_OPTION = re.compile(r"^(?P<mark>[ \t]*\(?(?P<letter>[A-Za-z])[).:])(?P<text>.+)$", re.MULTILINE)


def asked_one_way(item: Item) -> bool:
    """Whether an item's answers are letters of options that its prompt names, but not each on a line of its own."""
    answers = [_ANSWER.match(answer) for answer in (item.matching, item.not_matching)]
    letters = {answer[1] for answer in answers if answer}
    named = all(re.search(rf"(?<!\w){letter}[).:]", item.prompt) for letter in letters)
    return len(letters) == len(answers) and named and len(counterbalanced(item)) == 1


def counterbalanced(item: Item) -> list[Item]:
    """The item, and where its two answers are letters of options in its prompt, the item with those options exchanged.

    "(A) Yes\\n(B) No", matching "(A)", becomes "(A) No\\n(B) Yes", matching "(B)".
    Options are found at the beginnings of lines alone (`asked_one_way`).
    """
    matching, other = (_ANSWER.match(answer) for answer in (item.matching, item.not_matching))
    if not matching or not other or matching[1] == other[1]:
        return [item]
    options = {found["letter"]: found for found in _OPTION.finditer(item.prompt)}
    first, second = options.get(matching[1]), options.get(other[1])
    if not first or not second:
        return [item]
    first, second = sorted((first, second), key=lambda found: found.start())
    prompt = item.prompt
    swapped = (
        prompt[: first.start("text")] + second["text"]
        + prompt[first.end("text") : second.start("text")] + first["text"]
        + prompt[second.end("text") :]
    )  # fmt: skip
    return [item, Item(prompt=swapped, matching=item.not_matching, not_matching=item.matching)]
