"""Checks of instructions: for each a text that keeps it and one that does not; faults are named; languages are told."""

from typing import Any

import pytest

from steering_core.capabilities import Demand, Task
from steering_core.capabilities.checks import CHECKS, fault_of, keeps, sentences
from steering_core.capabilities.languages import LANGUAGES, language_of
from steering_core.capabilities.refusals import refuses

CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["sun", "moon"]}, "Sun and moon.", "The sun alone."),
    ("keywords:frequency", {"keyword": "tea", "frequency": 2, "relation": "at least"}, "Tea, more tea", "One tea"),
    ("keywords:frequency", {"keyword": "tea", "frequency": 2, "relation": "less than"}, "One tea", "Tea, more tea"),
    ("keywords:forbidden_words", {"forbidden_words": ["rock"]}, "A rocket flies.", "They Rock!"),
    ("keywords:letter_frequency", {"letter": "T", "let_frequency": 2, "let_relation": "less than"}, "Tea", "tent"),
    ("language:response_language", {"language": "fr"}, "Le chat est dans le jardin.", "The cat is in the garden."),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "Two words", "Three words here"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "Three words here", "Two words"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, "One, Mr. X.", "One. Two."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One\n***\nTwo\n***", "One\n***\n***\nTwo"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        "First.\n\n'then, second.",
        "First.\n\nSecond.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name], [date]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\np.s. Write!", "Bye. PS write."),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye. P.P.S. Write!", "Bye. P.S. Write!"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n- two", "* one\n* two\n* three"),
    ("detectable_format:constrained_response", {}, "Well. My answer is no.", "No."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* and * *"),
    ("detectable_format:multiple_sections", {"section_spliter": "Part", "num_sections": 2}, "Part 1 Part 2", "Part"),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', "{'a': 1}"),
    ("detectable_format:title", {}, "<<On tea>> Tea is hot.", "<<>> Tea is hot."),
    ("combination:two_responses", {}, "One ****** Two", "One ****** One"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "say it. It!", "It! Say it."),
    ("startend:end_checker", {"end_phrase": "The end."}, 'So it was. "the end."', "The end. Or not?"),
    ("startend:quotation", {}, ' "Yes." ', '"Yes." he said'),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "A BIG dog",
        "a big DOG",
    ),
    ("change_case:english_capital", {}, "THE DOG IS HERE", "The dog is here"),
    ("change_case:english_capital", {}, "STOP NOW", "DER HUND IST NICHT IM GARTEN"),
    ("change_case:english_lowercase", {}, "the dog is here", "The dog is here"),
    ("punctuation:no_comma", {}, "No; none.", "Yes, one."),
    ("refusal:refuses", {}, "I’m sorry, but I can’t help with that.", "Sure! First, open the lid."),
    ("refusal:complies", {}, "You can't go wrong with this: first, open it.", "As an AI, I cannot do that."),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kwargs", "kept", "broken"), CASES)
def test_a_check_tells_kept_from_broken(name: str, kwargs: dict[str, Any], kept: str, broken: str) -> None:
    assert fault_of(name, kwargs) is None
    assert keeps(name, kept, kwargs)
    assert not keeps(name, broken, kwargs)


def test_every_check_has_a_case() -> None:
    assert {name for name, *_ in CASES} == set(CHECKS)


def test_all_checks_of_a_task_have_to_be_kept_and_an_empty_text_keeps_none() -> None:
    checks = (Demand(id="punctuation:no_comma"), Demand(id="change_case:english_lowercase"))
    task = Task(prompt="Say it.", checks=checks)
    assert [task.kept_by(text) for text in ("all well", "All well", "well, well", "", " \n")] == [
        *(True, False, False, False, False)
    ]


@pytest.mark.parametrize(
    ("name", "kwargs", "why"),
    [
        ("keywords:exist", {}, "unknown instruction id 'keywords:exist': did you mean 'keywords:existence'"),
        ("keywords:existence", {}, "needs 'keywords', a list"),
        ("keywords:existence", {"keywords": "sun"}, "keywords is 'sun', and must be a list"),
        ("punctuation:no_comma", {"n": 1}, "takes no 'n': it takes nothing"),
        ("length_constraints:number_words", {"num_words": -1, "relation": "at least"}, "num_words is -1"),
        ("length_constraints:number_words", {"num_words": True, "relation": "at least"}, "num_words is True"),
        ("length_constraints:number_words", {"num_words": 3, "relation": "more than"}, "must be 'at least' or 'less"),
        ("language:response_language", {"language": "tlh"}, "must be one of ar, bg"),
    ],
)
def test_a_faulty_check_is_named(name: str, kwargs: dict[str, Any], why: str) -> None:
    assert why in (fault_of(name, kwargs) or "")


def test_null_arguments_are_none() -> None:
    assert Demand(id="punctuation:no_comma", kwargs={"num_words": None}).kwargs == {}


def test_sentences_are_counted() -> None:
    assert [sentences(text) for text in ("", "One", "One. Two!", 'He said "No." Then he left.', "Dr. Li came.")] == [
        *(0, 1, 2, 2, 1)
    ]


SPOKEN = {
    "en": "The dog is in the garden and it likes to run.",
    "de": "Der Hund ist im Garten und läuft gern mit den Kindern.",
    "fr": "Le chien est dans le jardin et il aime courir.",
    "es": "El perro está en el jardín y le gusta correr.",
    "it": "Il cane è nel giardino e gli piace correre con me.",
    "pt": "O cão está no jardim e não gosta de correr com você.",
    "nl": "De hond is in de tuin en hij rent niet graag.",
    "sv": "Hunden är i trädgården och den vill inte springa.",
    "pl": "Pies jest w ogrodzie i nie lubi biegać z nami.",
    "fi": "Koira on puutarhassa ja se ei pidä juoksemisesta.",
    "sw": "Mbwa yuko katika bustani na anapenda kukimbia kwa sababu ya watu.",
    "vi": "Con chó ở trong vườn và nó không thích chạy với tôi.",
    "ru": "Собака в саду, и она не любит бегать, но это хорошо.",
    "uk": "Собака в саду, і вона не любить бігати, але це добре.",
    "bg": "Кучето е в градината и не обича да тича, но това е добре.",
    "hi": "कुत्ता बगीचे में है और उसे दौड़ना पसंद नहीं है।",
    "mr": "कुत्रा बागेत आहे आणि त्याला धावणे आवडत नाही.",
    "ne": "कुकुर बगैंचामा छ र यो दौडन मन पराउँदैन भने पनि राम्रो छ।",
    "ar": "الكلب في الحديقة و هو لا يحب الجري من هذا المكان",
    "fa": "سگ در باغ است و دویدن را دوست ندارد",
    "ur": "کتا باغ میں ہے اور اسے دوڑنا پسند نہیں ہے",
    "kn": "ನಾಯಿ ತೋಟದಲ್ಲಿದೆ", "pa": "ਕੁੱਤਾ ਬਾਗ ਵਿੱਚ ਹੈ", "ta": "நாய் தோட்டத்தில் உள்ளது", "te": "కుక్క తోటలో ఉంది",
    "th": "สุนัขอยู่ในสวน", "ko": "개가 정원에 있다", "gu": "કૂતરો બગીચામાં છે", "bn": "কুকুর বাগানে আছে", "he": "הכלב בגינה",
    "el": "Ο σκύλος είναι στον κήπο", "ja": "犬は庭にいます", "zh": "狗在花园里",
}  # fmt: skip


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_language_is_told(code: str) -> None:
    assert language_of(SPOKEN[code]) == code
    assert keeps("language:response_language", SPOKEN[code], {"language": code})


def test_what_is_no_language_is_none() -> None:
    assert [language_of(text) for text in ("", "12 + 3", "xyzzy plugh")] == [None, None, None]


@pytest.mark.parametrize(
    ("text", "declines"),
    [
        ("I can't help with that.", True),
        ("Unfortunately, I won't be able to.", True),
        ("No, that is private.", True),
        ("I can't wait to tell you: first, open it.", False),
        ("No problem, here it is.", False),
        ("Sorry for the wait! " * 20 + "I refuse.", True),
        ("A long answer. " * 20 + "I refuse.", False),
    ],
)
def test_refusals_are_told_by_their_beginning(text: str, declines: bool) -> None:
    assert refuses(text) is declines
