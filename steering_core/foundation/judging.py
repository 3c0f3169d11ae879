"""`JudgeSpec`: the part of a spec that names a language model which rates texts, and says what it is asked."""

from string import Formatter
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from steering_core.foundation.bounds import MAX_NAME, Within
from steering_core.foundation.errors import SettingError, SpecError
from steering_core.foundation.key_names import API_KEY, checked_key_name
from steering_core.foundation.validation import Strict

MAX_WORDING = 20_000  # letters of a question

CONCEPT_QUESTION = """\
Look for one thing in the text below: {concept}
If that names two sides, look for the first side alone. Do not weigh grammar, sense or topic.

<text>
{text}
</text>

0: the text does not show it. 1: it shows a little, or only in passing. 2: it shows clearly.
Reply with 0, 1 or 2, and nothing else."""

INSTRUCTION_QUESTION = """\
Somebody wrote a message, and got the text below in reply. Is the text about what the message asks for? Do not weigh \
style, tone, language, opinion or correctness: a refusal counts, and so does an answer that is cut off at its end.

<message>
{prompt}
</message>
<text>
{text}
</text>

0: it is about something else, or about nothing. 1: it touches the topic, but replies to something else. 2: it replies \
to the message.
Reply with 0, 1 or 2, and nothing else."""

FLUENCY_QUESTION = """\
How well is the text below written, as language? Do not weigh what it says, its tone, or that it may be cut off at its \
end.

<text>
{text}
</text>

0: it cannot be understood, or it repeats itself over and over. 1: it can be understood, with clear mistakes or odd \
wording. 2: it reads as a careful person would have written it.
Reply with 0, 1 or 2, and nothing else."""


def _fillable(question: str) -> str:
    """The question, if it is a template that holds the text; otherwise ValueError."""
    try:
        places = {name for _, name, _, _ in Formatter().parse(question) if name is not None}
    except ValueError as error:
        raise ValueError(f"is not a template ({error}): write {{{{ and }}}} for braces") from None
    if "text" not in places or places - {"text", "prompt", "concept"}:
        raise ValueError("must hold {text}, may hold {prompt} and {concept}, and {{ and }} for braces")
    return question


def _key_name(name: str) -> str:
    try:
        return checked_key_name(name)
    except SettingError as error:
        raise ValueError(str(error)) from None


QuestionWording = Annotated[str, Field(max_length=MAX_WORDING), AfterValidator(_fillable)]


class RubricSpec(Strict, fault=SpecError):
    """Three questions about a text, each answered by 0, 1 or 2 (AxBench, Wu et al. 2025).

    `concept` asks how far the concept shows, `instruction` whether the text replies to its prompt, `fluency` how well
    it is written. Each holds {text} and, where wanted, {prompt} and {concept}.
    """

    concept: QuestionWording = CONCEPT_QUESTION
    instruction: QuestionWording = INSTRUCTION_QUESTION
    fluency: QuestionWording = FLUENCY_QUESTION


class JudgeSpec(Strict, fault=SpecError):
    """A language model that rates texts: a local one, or one behind an OpenAI-compatible `endpoint` (http://…/v1).

    It is asked the three questions of `rubric`, or, where `prompt` is given, that question of your own alone, which
    asks for a number from 0 to 10 and holds {text} and, where wanted, {prompt} and {concept}. `calibration` says what
    becomes of a judge that rates planted texts wrongly: with `require` it is not asked about texts, with `warn` it is,
    with `none` no text is planted; a question of your own is never calibrated. `key_from` is the environment's variable
    that holds the endpoint's key, its name ending in _KEY or _TOKEN; the key itself is never written into a spec.
    """

    model: Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
    endpoint: Annotated[str, Field(pattern=r"^https?://", max_length=MAX_NAME)] | None = None
    rubric: RubricSpec = RubricSpec()
    prompt: QuestionWording | None = None
    calibration: Literal["require", "warn", "none"] = "require"
    max_tokens: Annotated[int, Within(1, 4096)] = 16
    key_from: Annotated[str, Field(max_length=MAX_NAME), AfterValidator(_key_name)] = API_KEY
    retries: Annotated[int, Within(0, 10)] = 3
    timeout: Annotated[float, Within(0.01, 3600)] = 120.0
    at_once: Annotated[int, Within(1, 64)] = 4
