"""Contrasts made by personas: repeng's templates with suffixes, and the trait files of persona vectors."""

from typing import Annotated

from pydantic import Field

from steering_core.concepts.concept import MAX_ROWS, Concept, Sides, Text
from steering_core.concepts.formats.columns import SAMPLING_PROMPTS, listed
from steering_core.concepts.formats.contents import Contents
from steering_core.concepts.neutral import neutral_prompts
from steering_core.concepts.templates import MAX_PAIRS, SidedValues, SlotText, Template, Wording, expanded, slots_of
from steering_core.foundation.bounds import Seed, Within
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.validation import Strict, checked, counted

PersonaTexts = Annotated[tuple[Text, ...], Field(min_length=1, max_length=MAX_ROWS)]
REPENG_KEYS = ("positive_personas", "negative_personas", "suffixes", "suffix_list")
OPEN_PROMPTS = 0.4  # share of a trait's questions that are kept for sampling


class RepengFile(Strict, fault=ConceptError):
    """What repeng's `make_dataset` takes: a template with `{persona}`, personas of either side, suffixes."""

    name: str | None = None
    template: Text = "Act as if you're extremely {persona}."
    positive_personas: PersonaTexts
    negative_personas: PersonaTexts
    suffixes: Annotated[tuple[SlotText, ...], Field(min_length=1, max_length=MAX_ROWS)]
    count: Annotated[int, Within(1, MAX_PAIRS)] = 512
    seed: Seed = 0


def repeng_concept(contents: Contents, name: str) -> Concept:
    """The concept of a repeng-style file: every suffix after the template of either persona, as raw text.

    The persona stands in the text, so the sides share no prompt; read it at position `last`, as repeng does.
    """
    source, mapping = contents.source, contents.mapping or {}
    given = {("suffixes" if key == "suffix_list" else key): value for key, value in mapping.items()}
    file = checked(RepengFile, given, source, ConceptError)
    try:
        slots = slots_of(file.template)
    except ValueError as fault:
        raise ConceptError(f"{source}: the template: {fault}") from None
    if slots.count("persona") != len(slots) or not slots:
        raise ConceptError(f"{source}: the template must hold {{persona}} and no other slot, not {file.template!r}")
    text = f"{file.template}{{suffix}}"
    template = Template(
        name=file.name,
        description=f"{file.positive_personas[0]} against {file.negative_personas[0]}.",
        template=Wording(positive=text, negative=text),
        slots={
            "persona": SidedValues(positive=file.positive_personas, negative=file.negative_personas),
            "suffix": tuple(f" {suffix}" if suffix else "" for suffix in file.suffixes),
        },
        count=file.count,
        seed=file.seed,
        prompts=neutral_prompts()[:SAMPLING_PROMPTS],
        instructions=_as_instructions(file),
    )
    return expanded(template, name)


def _as_instructions(file: RepengFile) -> Sides:
    return Sides(
        positive=file.template.format(persona=file.positive_personas[0]),
        negative=file.template.format(persona=file.negative_personas[0]),
    )


class Instruction(Strict, fault=ConceptError):
    """A system prompt that calls a trait up, and one that keeps it away."""

    pos: Text
    neg: Text


class TraitFile(Strict, fault=ConceptError):
    """A trait of persona vectors: pairs of instructions, questions, and the judge's prompt. Chen et al. 2025."""

    name: str | None = None
    trait: str | None = None
    instruction: Annotated[tuple[Instruction, ...], Field(min_length=1, max_length=MAX_ROWS)]
    questions: PersonaTexts
    eval_prompt: str = ""


def trait_concept(contents: Contents, name: str) -> Concept:
    """The concept of a trait file: a question under the instruction for the trait, and under the one against it.

    Without answers the two sides are user messages, read before any answer. `steer concepts generate` has a model
    answer the questions under either instruction, as the paper does, and so makes pairs of answers. Three in five
    questions make pairs; the others are kept for sampling.
    """
    source = contents.source
    mapping = contents.mapping or {}
    _check_sides(source, mapping.get("instruction"))
    unread = [str(key) for key in mapping if key not in TraitFile.model_fields]
    file = checked(TraitFile, {key: mapping[key] for key in mapping if key not in unread}, source, ConceptError)
    questions = tuple(dict.fromkeys(file.questions))
    instructions = tuple(dict.fromkeys(file.instruction))
    if (n := len(instructions) * len(questions)) > MAX_ROWS:
        raise ConceptError(f"{source}: instructions times questions are {n:,}, more than {MAX_ROWS:,}: take fewer")
    kept = round(OPEN_PROMPTS * len(questions))
    asked, open_prompts = questions[: len(questions) - kept], questions[len(questions) - kept :]
    pairs = [
        {"positive": f"{instruction.pos}\n\n{question}", "negative": f"{instruction.neg}\n\n{question}"}
        for instruction in instructions
        for question in asked
    ]
    first = file.instruction[0]
    given = {
        "name": file.name or file.trait or name,
        "description": f"The trait of {source.rpartition('/')[2]}.",
        "chat": True,
        "pairs": pairs,
        "prompts": open_prompts or asked,
        "instructions": {"positive": first.pos, "negative": first.neg},
        "card": {
            "made": f"{counted(len(instructions), 'pair')} of instructions over {counted(len(asked), 'question')}."
            + (f" Keys left out: {listed(unread)}." if unread else "")
        },
    }
    return checked(Concept, given, f"the concept of {source}", ConceptError)


def _check_sides(source: str, instructions: object) -> None:
    """Raise ConceptError where instructions are for one side alone, as those of roles are."""
    given = [one for one in instructions if isinstance(one, dict)] if isinstance(instructions, list) else []
    for here, lacking in (("pos", "neg"), ("neg", "pos")):
        if n := sum(here in one and lacking not in one for one in given):
            raise ConceptError(
                f"{source}: {n} of {len(given)} instructions have `{here}` but no `{lacking}`: a contrast needs both. "
                f"Write the other side beside each, such as `{lacking}: You are a helpful assistant.`"
            )
