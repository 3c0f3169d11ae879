"""Languages: which language a text is in, by its script and, where several share one, by their commonest words.

Enough to tell whether an answer is in the language that was asked for. It is no detector of every language: a text
in none of `LANGUAGES` is mistaken for its nearest, or told as None.
"""

import re
import unicodedata
from collections import Counter
from functools import cache

_BY_WORDS: dict[str, dict[str, str]] = {
    "LATIN": {
        "en": "the and of to is in it you that for with are this on be as have not was they my your but what from",
        "de": "der die das und ist nicht ein eine zu den mit von ich sie es auf für im dem wir auch sich wie oder sind",
        "fr": "le la les et est des un une du pour que qui dans avec pas ce je vous nous il elle sur sont au très",
        "es": "el la los las y es de que en un una para con por no se su del lo como más pero son está muy tiene",
        "it": "il lo la gli le e è di che un una per con non sono del della nel si come più ma anche questo molto",
        "pt": "o a os as e é de que um uma para com não do da em no na por se como mais mas são está muito você",
        "nl": "de het een en is van dat in op te zijn voor met niet aan er ook als maar om bij naar heeft wordt ik",
        "sv": "och att det som en är på för av med den till inte har de om ett vi jag från eller var kan",
        "pl": "i w nie na się że jest to z do jak o ale po za co tak są przez od dla który oraz było",
        "fi": "ja on ei se että hän oli ovat mutta kun myös niin voi joka tai ole sekä kuin minä sinä tämä olen",
        "sw": "ya na wa kwa ni za katika la cha kuwa hii yake kama watu hiyo au lakini hivyo pia sana vya yangu",
        "vi": "và là của có không cho một được những các trong với người này để đã khi như tôi bạn rất cũng",
    },
    "CYRILLIC": {
        "ru": "и в не на что с это он как по но из у за от так же было для она мы вы я есть быть только очень",
        "uk": "і в не на що з це він як по але із у за від так ж було для вона ми ви я є бути дуже та",
        "bg": "и в не на че с това той как по но от за е са се да ще който като много или която съм сме беше",
    },
    "DEVANAGARI": {
        "hi": "है और के में की से का को पर यह हैं नहीं एक लिए था हो कि आप मैं बहुत भी तो कर",
        "mr": "आहे आणि या ते की मी तो ही हे नाही आहेत साठी करून होते एक असते तुम्ही आपण खूप पण मला होता",
        "ne": "छ र को मा यो छन् हो लागि भने पनि गर्न हुन्छ तपाईं एक म धेरै गर्नुहोस् थियो छैन गर्छ बाट",
    },
    "ARABIC": {
        "ar": "في من على إلى أن هذا هو التي ما لا مع عن كان هي الذي لم أو ذلك هذه كل قد بين",
        "fa": "و در به از که این را با است برای آن یک خود تا می بر هم نیست شما های ها من",
        "ur": "ہے اور کے میں کی سے کا کو پر یہ ہیں نہیں ایک لیے تھا ہو کہ آپ بھی تو کر بہت",
    },
}
_BY_SCRIPT = {
    "KANNADA": "kn", "GURMUKHI": "pa", "TAMIL": "ta", "TELUGU": "te", "THAI": "th", "HANGUL": "ko", "GUJARATI": "gu",
    "BENGALI": "bn", "HEBREW": "he", "GREEK": "el", "HIRAGANA": "ja", "KATAKANA": "ja", "CJK": "zh",
}  # fmt: skip
LANGUAGES = tuple(sorted({*(code for codes in _BY_WORDS.values() for code in codes), *_BY_SCRIPT.values()}))
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|[^\W\d_]+", re.UNICODE)
_MARKED = re.compile(r"[^\s\d.,;:!?()\[\]{}\"“”«»<>*_/|—–-]+")  # words of scripts whose vowels are marks


def language_of(text: str) -> str | None:
    """The code (ISO 639-1) of the language that most of a text is in; None where nothing tells."""
    counts = Counter(script for letter in text if letter.isalpha() and (script := _script(letter)))
    if not counts:
        return None
    if counts["HIRAGANA"] + counts["KATAKANA"] > 0.05 * counts.total():
        return "ja"  # which writes Chinese characters too
    script = counts.most_common(1)[0][0]
    return _BY_SCRIPT.get(script) or _by_words(text, script)


def _by_words(text: str, script: str) -> str | None:
    """The language of a script whose common words occur most often; None for a tie."""
    words = (_WORD if script in ("LATIN", "CYRILLIC") else _MARKED).findall(text.lower().replace("’", "'"))
    hits = {code: sum(word in common for word in words) for code, common in _common(script).items()}
    best = max(hits.values(), default=0)
    leading = [code for code, n in hits.items() if n == best]
    return leading[0] if best and len(leading) == 1 else None


@cache
def _common(script: str) -> dict[str, frozenset[str]]:
    return {code: frozenset(words.split()) for code, words in _BY_WORDS.get(script, {}).items()}


@cache
def _script(letter: str) -> str:
    """The script of a letter, by its name in Unicode; empty for one without a name."""
    return unicodedata.name(letter, "").split(" ", 1)[0]
