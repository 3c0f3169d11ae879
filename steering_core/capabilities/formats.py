"""The forms of benchmarks' own files: TruthfulQA, XSTest, IFEval and Anthropic's model-written evaluations.

Each form becomes the fields of a `CapabilitySet`. Rows that cannot be used are left out, and a note says how many and
why. Items are read as they are: nothing of these benchmarks comes with steerflow.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steering_core.capabilities.checks import fault_of
from steering_core.concepts.formats.contents import Contents
from steering_core.concepts.formats.tables import Record
from steering_core.foundation.errors import CapabilityError
from steering_core.foundation.validation import shown

Fields = dict[str, Any]
IFEVAL_TOKENS = 512  # of one text; IFEval asks for up to 1,200 words, which no short text keeps
XSTEST_TOKENS = 64
_NAMED = 6  # faults that a note lists


@dataclass(frozen=True)
class BenchmarkContents:
    """What a file gave: fields of a `CapabilitySet`, and sentences on what was left out."""

    fields: Fields
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BenchmarkForm:
    """One form of a benchmark's file: how it is recognised, and what it becomes."""

    name: str
    keys: str
    recognises: Callable[[Contents], bool]
    read: Callable[[Contents], BenchmarkContents]


@dataclass
class _LeftOut:
    """Rows that were left out, counted by their reason."""

    total: int
    reasons: Counter[str] = field(default_factory=Counter[str])
    rows: int = 0

    def add(self, *reasons: str) -> None:
        """Count one row that is left out, under each of its reasons."""
        self.rows += 1
        self.reasons.update(reasons)

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence on how many rows were left out and why; nothing where none were."""
        if not self.rows:
            return ()
        named = [f"{reason} ({n})" for reason, n in self.reasons.most_common(_NAMED)]
        more = f", and {len(self.reasons) - _NAMED} more reasons" if len(self.reasons) > _NAMED else ""
        return (f"{self.rows} of {self.total} rows are left out: {'; '.join(named)}{more}",)


def _has(*names: str) -> Callable[[Contents], bool]:
    return lambda contents: {name.lower() for name in names} <= {name.lower().strip() for name in contents.columns}


def _values(row: Record) -> Fields:
    """A row's values by their names in small letters."""
    return {str(name).lower().strip(): value for name, value in row.values.items()}


def _text(row: Record, source: str, name: str) -> str:
    value = _values(row).get(name)
    if not isinstance(value, str) or not value.strip():
        raise CapabilityError(f"{source}, {row.where}: {name!r} is {shown(value)}, and must be a text")
    return value.strip()


# -- TruthfulQA ------------------------------------------------------------------------------------------------------


def _truthful_table(contents: Contents) -> BenchmarkContents:
    """TruthfulQA.csv: the best answer against all incorrect ones, which is its MC1 task."""
    left_out, questions = _LeftOut(len(contents.rows)), list[Fields]()
    for row in contents.rows:
        wrong = _listed(_text(row, contents.source, "incorrect answers"))
        prompt, right = (_text(row, contents.source, name) for name in ("question", "best answer"))
        _add(questions, left_out, prompt, right, wrong)
    return BenchmarkContents({"questions": questions}, left_out.notes)


def _truthful_choices(contents: Contents) -> BenchmarkContents:
    """mc_task.json, or the hub's form: the one true answer of `mc1_targets` against the others."""
    left_out, questions = _LeftOut(len(contents.rows)), list[Fields]()
    for row in contents.rows:
        targets = dict(_labelled(row, contents.source))
        right = [text for text, label in targets.items() if label]
        if len(right) != 1:
            left_out.add(f"{len(right)} true answers in mc1_targets")
            continue
        wrong = [text for text in targets if text != right[0]]
        _add(questions, left_out, _text(row, contents.source, "question"), right[0], wrong)
    return BenchmarkContents({"questions": questions}, left_out.notes)


def _labelled(row: Record, source: str) -> Iterator[tuple[str, bool]]:
    """Each answer of `mc1_targets` and whether it is true: a mapping, as in mc_task.json, or the hub's two lists."""
    targets = _values(row)["mc1_targets"]
    if isinstance(targets, Mapping) and {"choices", "labels"} <= set(targets):
        texts, labels = targets["choices"], targets["labels"]
        if isinstance(texts, Sequence) and isinstance(labels, Sequence) and len(texts) == len(labels):
            yield from ((str(text), bool(label)) for text, label in zip(texts, labels, strict=True))
            return
    elif isinstance(targets, Mapping) and targets:
        yield from ((str(text), bool(label)) for text, label in targets.items())
        return
    raise CapabilityError(
        f"{source}, {row.where}: mc1_targets is {shown(targets)}, and must be {{answer: 1 or 0}} or "
        "{choices: [...], labels: [...]} of one length"
    )


def _listed(answers: str) -> list[str]:
    """`a; b; c` -> its parts, each once."""
    return list(dict.fromkeys(part.strip() for part in answers.split(";") if part.strip()))


def _add(questions: list[Fields], left_out: _LeftOut, prompt: str, right: str, wrong: list[str]) -> None:
    wrong = [answer for answer in wrong if answer != right]
    if wrong:
        questions.append({"prompt": prompt, "right": right, "wrong": wrong})
    else:
        left_out.add("no wrong answer")


# -- model-written evaluations ---------------------------------------------------------------------------------------

_MATCHING, _OTHER = "answer_matching_behavior", "answer_not_matching_behavior"


def _model_written(contents: Contents) -> BenchmarkContents:
    """Anthropic's model-written evaluations: accuracy is how often the answer that matches the behaviour is likelier.

    Whether that is right or wrong is the behaviour's affair.
    """
    questions = [
        {
            "prompt": _text(row, contents.source, "question"),
            "right": _text(row, contents.source, _MATCHING),
            "wrong": [_text(row, contents.source, _OTHER)],
        }
        for row in contents.rows
    ]
    return BenchmarkContents({"questions": questions})


# -- XSTest ----------------------------------------------------------------------------------------------------------


def _xstest(contents: Contents) -> BenchmarkContents:
    """XSTest's prompts: the safe ones shall be answered, the unsafe ones declined.

    Its second version has no column `label`: there the types of unsafe prompts begin with `contrast`.
    """
    tasks = []
    for row in contents.rows:
        safe = _is_safe(row, contents.source)
        check = "refusal:complies" if safe else "refusal:refuses"
        tasks.append({"prompt": _text(row, contents.source, "prompt"), "checks": [{"id": check}]})
    return BenchmarkContents({"tasks": tasks, "max_tokens": XSTEST_TOKENS})


def _is_safe(row: Record, source: str) -> bool:
    values = _values(row)
    if "label" not in values:
        return not _text(row, source, "type").startswith("contrast")
    if (label := values["label"]) not in ("safe", "unsafe"):
        raise CapabilityError(f"{source}, {row.where}: label is {shown(label)}, and must be 'safe' or 'unsafe'")
    return bool(label == "safe")


def _is_xstest(contents: Contents) -> bool:
    return _has("prompt", "type", "focus")(contents)


# -- IFEval ----------------------------------------------------------------------------------------------------------


def _ifeval(contents: Contents) -> BenchmarkContents:
    """IFEval's prompts with their instructions; a row that asks for what no check here tells is left out, and named."""
    left_out, tasks = _LeftOut(len(contents.rows)), list[Fields]()
    for row in contents.rows:
        checks = _demands(row, contents.source)
        if faults := [fault for one in checks if (fault := fault_of(one["id"], one["kwargs"]))]:
            left_out.add(*(fault.split(": did you mean")[0].split(": there are")[0] for fault in faults))
            continue
        prompt = _text(row, contents.source, "prompt")
        tasks.append({"prompt": prompt, "checks": checks})
    return BenchmarkContents({"tasks": _each_once(tasks), "max_tokens": IFEVAL_TOKENS}, left_out.notes)


def _demands(row: Record, source: str) -> list[Fields]:
    """The instructions of a row; arguments that are null, as the hub's file has them, are none."""
    values = _values(row)
    ids, given = values["instruction_id_list"], values["kwargs"]
    whole = isinstance(ids, list) and isinstance(given, list) and ids and len(ids) == len(given)
    if not whole or not all(isinstance(one, str) for one in ids) or not all(isinstance(one, dict) for one in given):
        what = "must be lists of one length, of texts and of mappings"
        raise CapabilityError(f"{source}, {row.where}: instruction_id_list and kwargs {what}")
    kept = [{name: value for name, value in one.items() if value is not None} for one in given]
    return [{"id": one, "kwargs": kwargs} for one, kwargs in zip(ids, kept, strict=True)]


def _each_once(tasks: list[Fields]) -> list[Fields]:
    """The tasks without repeats, in their order."""
    return [task for i, task in enumerate(tasks) if task not in tasks[:i]]


FORMS = (
    BenchmarkForm(
        "IFEval", "prompt, instruction_id_list, kwargs", _has("instruction_id_list", "kwargs", "prompt"), _ifeval
    ),
    BenchmarkForm("TruthfulQA MC", "question, mc1_targets", _has("question", "mc1_targets"), _truthful_choices),
    BenchmarkForm(
        "TruthfulQA",
        "Question, Best Answer, Incorrect Answers",
        _has("Question", "Best Answer", "Incorrect Answers"),
        _truthful_table,
    ),
    BenchmarkForm("XSTest", "prompt, type, focus, and label or id_v2", _is_xstest, _xstest),
    BenchmarkForm(
        "model-written evaluations",
        f"question, {_MATCHING}, {_OTHER}",
        _has("question", _MATCHING, _OTHER),
        _model_written,
    ),
)
