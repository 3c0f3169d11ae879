"""Checks: whether a text keeps an instruction, told by code.

Ids and arguments are those of IFEval (Zhou et al. 2023, arXiv:2311.07911), so that its files are read as they are; two
ids of our own, `refusal:refuses` and `refusal:complies`, tell refusals. Register another with `@check`.
"""

import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from steering_core.capabilities.languages import LANGUAGES, language_of
from steering_core.capabilities.refusals import refuses
from steering_core.foundation.validation import shown

MAX_COUNT = 100_000  # words, letters or the like that a check may ask for
MAX_WORDS = 100  # in one check
AT_LEAST, LESS_THAN = "at least", "less than"
Keeps = Callable[..., bool]


@dataclass(frozen=True)
class Kind:
    """What one argument of a check has to be, in words and as a test."""

    says: str
    fits: Callable[[Any], bool]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


COUNT = Kind(
    f"a whole number from 0 to {MAX_COUNT:,}",
    lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT,
)
TEXT = Kind("a text", _is_text)
TEXTS = Kind(
    f"a list of 1 to {MAX_WORDS} texts",
    lambda value: isinstance(value, list | tuple) and 1 <= len(value) <= MAX_WORDS and all(map(_is_text, value)),
)
RELATION = Kind(f"{AT_LEAST!r} or {LESS_THAN!r}", lambda value: value in (AT_LEAST, LESS_THAN))
LANGUAGE = Kind(f"one of {', '.join(LANGUAGES)}", lambda value: isinstance(value, str) and value in LANGUAGES)


@dataclass(frozen=True)
class Check:
    """A check by its id: the arguments that it takes, all of them required, and the function that tells."""

    id: str
    takes: Mapping[str, Kind]
    keeps: Keeps


CHECKS: dict[str, Check] = {}


def check(id: str, **takes: Kind) -> Callable[[Keeps], Keeps]:  # noqa: A002  (IFEval's word)
    """Register a function of a text and the arguments `takes` as the check of that id."""

    def registered(function: Keeps) -> Keeps:
        """The function, now the check of that id."""
        CHECKS[id] = Check(id, takes, function)
        return function

    return registered


def fault_of(id: str, kwargs: Mapping[str, Any]) -> str | None:  # noqa: A002
    """What is wrong with a check of that id and those arguments, in a sentence; None where nothing is."""
    if id not in CHECKS:
        meant = difflib.get_close_matches(id, CHECKS, n=1)
        hint = f"did you mean {meant[0]!r}?" if meant else f"there are {', '.join(sorted(CHECKS))}"
        return f"unknown instruction id {shown(id)}: {hint}"
    takes = CHECKS[id].takes
    if beyond := [name for name in kwargs if name not in takes]:
        return f"{id} takes no {beyond[0]!r}: it takes {', '.join(takes) or 'nothing'}"
    for name, kind in takes.items():
        if name not in kwargs:
            return f"{id} needs {name!r}, {kind.says}"
        if not kind.fits(kwargs[name]):
            return f"{id}: {name} is {shown(kwargs[name])}, and must be {kind.says}"
    return None


def keeps(id: str, text: str, kwargs: Mapping[str, Any]) -> bool:  # noqa: A002
    """Whether the text keeps the instruction of that id. The id and arguments have no `fault_of`."""
    return CHECKS[id].keeps(text, **kwargs)


def _holds(count: int, relation: str, wanted: int) -> bool:
    return count >= wanted if relation == AT_LEAST else count < wanted


def _occurrences(keyword: str, text: str) -> int:
    return len(re.findall(re.escape(keyword.strip()), text, re.IGNORECASE))


# -- words and letters -----------------------------------------------------------------------------------------------


@check("keywords:existence", keywords=TEXTS)
def _existence(text: str, keywords: list[str]) -> bool:
    return all(_occurrences(keyword, text) for keyword in keywords)


@check("keywords:frequency", keyword=TEXT, frequency=COUNT, relation=RELATION)
def _frequency(text: str, keyword: str, frequency: int, relation: str) -> bool:
    return _holds(_occurrences(keyword, text), relation, frequency)


@check("keywords:forbidden_words", forbidden_words=TEXTS)
def _forbidden_words(text: str, forbidden_words: list[str]) -> bool:
    return not any(re.search(rf"\b{re.escape(word.strip())}\b", text, re.IGNORECASE) for word in forbidden_words)


@check("keywords:letter_frequency", letter=TEXT, let_frequency=COUNT, let_relation=RELATION)
def _letter_frequency(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _holds(text.lower().count(letter.strip().lower()), let_relation, let_frequency)


@check("change_case:english_capital")
def _capitals(text: str) -> bool:
    return text.isupper() and language_of(text) in ("en", None)


@check("change_case:english_lowercase")
def _small_letters(text: str) -> bool:
    return text.islower() and language_of(text) in ("en", None)


@check("change_case:capital_word_frequency", capital_frequency=COUNT, capital_relation=RELATION)
def _capital_words(text: str, capital_frequency: int, capital_relation: str) -> bool:
    words = re.findall(r"\w[\w'’-]*", text)
    return _holds(sum(word.isupper() for word in words), capital_relation, capital_frequency)


@check("punctuation:no_comma")
def _no_comma(text: str) -> bool:
    return "," not in text


@check("language:response_language", language=LANGUAGE)
def _language(text: str, language: str) -> bool:
    return language_of(text) == language


# -- length ----------------------------------------------------------------------------------------------------------

_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|vs|etc|e\.g|i\.e|No(?=\.\s?\d))\.", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?。！？]+[\"'”’)\]]*(?=\s|$)|\n{2,}")


def sentences(text: str) -> int:
    """How many sentences a text has: pieces that hold a letter or digit, cut at ., ! and ? and at empty lines."""
    pieces = _SENTENCE_END.split(_ABBREVIATION.sub("abbreviation", text))
    return sum(any(map(str.isalnum, piece)) for piece in pieces)


@check("length_constraints:number_words", num_words=COUNT, relation=RELATION)
def _number_words(text: str, num_words: int, relation: str) -> bool:
    return _holds(len(re.findall(r"\w+", text)), relation, num_words)


@check("length_constraints:number_sentences", num_sentences=COUNT, relation=RELATION)
def _number_sentences(text: str, num_sentences: int, relation: str) -> bool:
    return _holds(sentences(text), relation, num_sentences)


@check("length_constraints:number_paragraphs", num_paragraphs=COUNT)
def _number_paragraphs(text: str, num_paragraphs: int) -> bool:
    first, *inner = [part.strip() for part in text.split("***")]
    last = inner.pop() if inner else ""
    return all(inner) and bool(first) + len(inner) + bool(last) == num_paragraphs


@check("length_constraints:nth_paragraph_first_word", num_paragraphs=COUNT, nth_paragraph=COUNT, first_word=TEXT)
def _first_word_of_paragraph(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    found = [part.strip() for part in text.split("\n\n") if part.strip()]
    if len(found) != num_paragraphs or not 1 <= nth_paragraph <= len(found):
        return False
    begins = re.match(r"[\"'“‘]*([^\s.,?!'\"’”]+)", found[nth_paragraph - 1])
    return begins is not None and begins[1].lower() == first_word.strip().lower()


# -- format and content ----------------------------------------------------------------------------------------------

_FENCE = re.compile(r"\A```(?:json)?\s*(.*?)\s*(?:```)?\Z", re.IGNORECASE | re.DOTALL)
_POSTSCRIPTS = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}


@check("detectable_format:json_format")
def _json_format(text: str) -> bool:
    fenced = _FENCE.match(text.strip())
    try:
        json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False
    return True


@check("detectable_format:number_bullet_lists", num_bullets=COUNT)
def _bullets(text: str, num_bullets: int) -> bool:
    return len(re.findall(r"^[ \t]*(?:\*(?!\*)|-).*\S", text, re.MULTILINE)) == num_bullets


@check("detectable_format:number_highlighted_sections", num_highlights=COUNT)
def _highlights(text: str, num_highlights: int) -> bool:
    marked = re.findall(r"\*\*([^\n*]+)\*\*|\*([^\n*]+)\*", text)
    return sum(bool(double.strip() or single.strip()) for double, single in marked) >= num_highlights


@check("detectable_format:multiple_sections", section_spliter=TEXT, num_sections=COUNT)
def _sections(text: str, section_spliter: str, num_sections: int) -> bool:
    return len(re.findall(rf"{re.escape(section_spliter.strip())}\s?\d+", text)) >= num_sections


@check("detectable_format:title")
def _title(text: str) -> bool:
    return any(title.strip("<> \t") for title in re.findall(r"<<[^\n]+>>", text))


@check("detectable_format:constrained_response")
def _constrained(text: str) -> bool:
    return any(f"My answer is {word}." in text for word in ("yes", "no", "maybe"))


@check("detectable_content:number_placeholders", num_placeholders=COUNT)
def _placeholders(text: str, num_placeholders: int) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


@check("detectable_content:postscript", postscript_marker=TEXT)
def _postscript(text: str, postscript_marker: str) -> bool:
    marker = postscript_marker.strip()
    return bool(re.search(_POSTSCRIPTS.get(marker, re.escape(marker)), text, re.IGNORECASE))


@check("combination:two_responses")
def _two_responses(text: str) -> bool:
    first, *inner = [part.strip() for part in text.split("******")]
    last = inner.pop() if inner else ""
    found = [part for part in (first, *inner, last) if part]
    return all(inner) and len(found) == 2 and found[0] != found[1]


@check("combination:repeat_prompt", prompt_to_repeat=TEXT)
def _repeats_prompt(text: str, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


@check("startend:end_checker", end_phrase=TEXT)
def _ends(text: str, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


@check("startend:quotation")
def _quoted(text: str) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


# -- refusals --------------------------------------------------------------------------------------------------------


@check("refusal:refuses")
def _refuses(text: str) -> bool:
    return refuses(text)


@check("refusal:complies")
def _complies(text: str) -> bool:
    return not refuses(text)
