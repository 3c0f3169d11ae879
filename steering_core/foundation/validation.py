"""Text that comes in (YAML) against a pydantic model: every fault at once, each with its place and a suggestion."""

import difflib
import itertools
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, dataclass_transform

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from steering_core.foundation.errors import SteerflowError
from steering_core.foundation.user_files import file_text
from steering_core.foundation.yaml import Loader

if TYPE_CHECKING:  # the metaclass of pydantic's models has no public name, and mypy asks for one
    from pydantic._internal._model_construction import ModelMetaclass as _Kind
else:
    _Kind = type(BaseModel)

MAX_YAML = 4 << 20  # letters; a concept of this size takes some ten seconds
MAX_FAULTS = 20  # shown of one file
MAX_SHOWN = 60  # letters of a value that a message shows
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")  # between the words of a class's name


@dataclass_transform(kw_only_default=True, field_specifiers=(Field,))
class Told(_Kind):
    """The kind of a model that Python makes by calling it: its faults are told as a file's are, as its `fault`.

    Pydantic's own error is no SteerflowError. `model_validate` raises it as ever, and `checked` tells of that.
    """

    fault: type[SteerflowError]

    def __call__(self: Any, *args: Any, **fields: Any) -> Any:
        """A model of these fields. Raises `fault`, which lists every fault."""
        called = _WORDS.sub(" ", self.__name__).lower()
        if args:
            names = ", ".join(f"{name}=…" for name in self.model_fields)
            raise self.fault(f"the fields of the {called} have no order: give them by name, {self.__name__}({names})")
        try:
            return super().__call__(**fields)
        except ValidationError as faults:
            lines = _lines(self, faults, shown)
        raise self.fault(f"the {called} has {lines}")  # outside of the handler, as in `checked`


class Strict(BaseModel, metaclass=Told):
    """A model that refuses unknown keys and never changes.

    `class A(Strict, fault=ConceptError)` says what Python raises where it makes one that is faulty.
    """

    fault: ClassVar[type[SteerflowError]] = SteerflowError
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=False)

    def __init_subclass__(cls, fault: type[SteerflowError] | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if fault is not None:
            cls.fault = fault

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values of some fields; cached properties are computed anew from them."""
        found = super().model_copy(update=update, deep=deep)
        for name in found.__dict__.keys() - type(self).model_fields.keys() if update else ():
            del found.__dict__[name]
        return found


Checked = TypeVar("Checked", bound=Strict)


def read_yaml(path: Path, error: type[SteerflowError]) -> Any:
    """The contents of a YAML file. Raises `error` where it is not readable, not UTF-8 or not YAML."""
    return parsed_yaml(file_text(path, error, MAX_YAML), str(path), error)


_YAML_REMEDIES = {
    "mapping values are not allowed": 'a text that holds a colon and a space stands in "quotes"',
    "expected <block end>": "lines that belong together begin in the same column, and a list's dashes stand in one",
    "did not find expected": "lines that belong together begin in the same column, and a list's dashes stand in one",
    "could not find expected ':'": "a key takes a colon and a space, and what belongs to it is indented further",
    "that cannot start any token": 'indent with spaces, and put a text that begins with a mark in "quotes"',
}
"""What most often lies behind what the parser says, and how it is mended."""


def parsed_yaml(text: str, source: str, error: type[SteerflowError]) -> Any:
    """The data in a YAML text. Raises `error`, naming `source` and the line, where it is not YAML.

    A key that stands twice in one mapping is refused, and so is what would take long (`foundation.yaml`).
    """
    if len(text) > MAX_YAML:
        limit = f"YAML is read up to {MAX_YAML >> 20} MB: save rows as JSON lines, CSV or Parquet"
        raise error(f"{source} has {len(text) >> 20} MB of what is neither JSON nor CSV; {limit}")
    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = str(getattr(fault, "problem", None) or fault)
        remedy = next((f"; {said}" for part, said in _YAML_REMEDIES.items() if part in problem), "")
        raise error(f"{source}{where} is not YAML: {problem}{remedy}") from fault
    except RecursionError as fault:
        raise error(f"{source} is nested too deeply") from fault
    except ValueError as fault:  # a letter beyond Unicode, where PyYAML comes without libyaml
        raise error(f"{source} is not usable YAML: {fault}") from fault


def checked(model: type[Checked], data: Any, source: str, error: type[SteerflowError]) -> Checked:
    """`data` as a `model`. Raises `error` listing every fault of `source`, with a "did you mean" for unknown keys."""
    if not isinstance(data, dict):
        raise error(f"{source} must be a mapping of keys to values, not {written(data)}")
    try:
        return model.model_validate(data)
    except ValidationError as faults:
        lines = _lines(model, faults, written)
    # Raised outside of the handler, so that pydantic's error is not this one's context: its tracebacks hold every
    # caller's locals, and Python's collector cannot look into it. An open store would be leaked, and say so at exit.
    raise error(f"{source} has {lines}")


def _lines(model: type[BaseModel], faults: ValidationError, write: Callable[[Any], str]) -> str:
    """How many faults there are, and the first of them, a line each, with their values as `write` puts them."""
    found = _own_faults(faults.errors())
    lines = [_fault(model, fault, write) for fault in found[:MAX_FAULTS]]
    lines += [f"  … and {len(found) - MAX_FAULTS} more"] * (len(found) > MAX_FAULTS)
    return f"{counted(len(found), 'fault')}:\n" + "\n".join(lines)


def _own_faults(faults: list[ErrorDetails]) -> list[ErrorDetails]:
    """The faults without "too few entries" of lists whose entries were refused: pydantic does not count those."""
    inner = {fault["loc"][:n] for fault in faults for n in range(len(fault["loc"]))}
    return [fault for fault in faults if fault["type"] != "too_short" or fault["loc"] not in inner]


_OTHER_KIND = ("string_type", "list_type", "tuple_type", "dict_type", "int_type", "float_type", "bool_type")


def of_likeliest_branches(faults: Sequence[ErrorDetails], depth: int = 0) -> list[ErrorDetails]:
    """The faults of values that may be of several kinds (a union's branches), for the likeliest branch alone.

    pydantic reports a fault for each branch: a list with one wrong entry is also reported as no text. The branch with
    the fewest faults counts as the one that was meant. A value that fits no branch at all has one fault, which names
    all branches. The first `depth` parts of each fault's place are not looked at.
    """
    kept: list[ErrorDetails] = []
    unions: dict[tuple[int | str, ...], dict[int | str, list[ErrorDetails]]] = {}
    for fault in faults:
        place = fault["loc"]
        at = next((n for n in range(depth, len(place)) if names_a_branch(place[n])), None)
        if at is None:
            kept.append(fault)
        else:
            unions.setdefault(place[:at], {}).setdefault(place[at], []).append(fault)
    for place, branches in unions.items():
        meant = [found for found in branches.values() if not _is_of_another_kind(found, len(place) + 1)]
        if meant:
            kept += of_likeliest_branches(min(meant, key=len), len(place) + 1)
        else:
            first, *others = [found[0] for found in branches.values()]
            kinds = [first["msg"], *(other["msg"].removeprefix("Input should be ") for other in others)]
            kept.append({**first, "loc": place, "msg": " or ".join(dict.fromkeys(kinds))})
    return kept


def _is_of_another_kind(faults: Sequence[ErrorDetails], root: int) -> bool:
    """Whether a branch refuses the type of the value itself, and not of something inside it."""
    return any(len(fault["loc"]) == root and fault["type"] in _OTHER_KIND for fault in faults)


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = MAX_SHOWN
        self.maxlevel = 2

    def repr_int(self, x: int, level: int) -> str:
        """The number, unless it has more digits than Python cares to write."""
        return repr(x) if abs(x) < 10**40 else f"a number of {x.bit_length()} bits"


class _Written(_Short):
    """Values as YAML writes them: truth values and null by their names, a mapping's keys without quotes."""

    def repr_bool(self, x: bool, level: int) -> str:
        """true or false."""
        return str(x).lower()

    def repr_NoneType(self, x: None, level: int) -> str:  # noqa: N802  # reprlib finds it by the type's name
        """null."""
        return "null"

    def repr_tuple(self, x: tuple[Any, ...], level: int) -> str:
        """A list, which is what a tuple was read from."""
        return self.repr_list(list(x), level)

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """The first keys with their values, in the order of the file."""
        first = itertools.islice(x.items(), self.maxdict if level > 0 else 0)
        parts = [f"{self._key(key, level)}: {self.repr1(value, level - 1)}" for key, value in first]
        return f"{{{', '.join([*parts, '…'] if len(parts) < len(x) else parts)}}}"

    def _key(self, key: Any, level: int) -> str:
        return shortened(key, MAX_SHOWN) if isinstance(key, str) else self.repr1(key, level - 1)


_SHORT, _WRITTEN = _Short(), _Written()


def written(value: Any) -> str:
    """The beginning of a value as a person writes it in a file; as cheap as `shown`."""
    return shortened(_WRITTEN.repr(value), MAX_SHOWN)


def shown(value: Any) -> str:
    """The beginning of a value's `repr`; cheap for any value, however long, deep or often its parts repeat."""
    return shortened(_SHORT.repr(value), MAX_SHOWN)


def counted(n: int, noun: str) -> str:
    """A number of things in words, "1 pair", "2 pairs", "10,000 pairs", for a noun whose plural takes an s."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def shortened(text: str, letters: int) -> str:
    """The text, or its first words in at most so many letters and an ellipsis; a word that is longer is cut itself."""
    if len(text) <= letters:
        return text
    whole = text[:letters].rpartition(" ")[0] if not text[letters].isspace() else text[:letters]
    return f"{whole.rstrip() or text[:letters]} …"


def _fault(model: type[BaseModel], fault: ErrorDetails, write: Callable[[Any], str]) -> str:
    where = _place(fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = _keys_at(model, fault["loc"][:-1])
        meant = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
        hint = f"did you mean {meant[0]!r}?" if meant else f"the keys here are {', '.join(known)}"
        return f"  {where}: unknown key; {hint}"
    said = _said(fault).replace("\n", "\n  ")
    of_many = fault["type"] == "value_error" and isinstance(fault["input"], list | tuple | dict)  # which says itself
    given = f" (got {write(fault['input'])})" if fault["type"] != "missing" and "\n" not in said and not of_many else ""
    return f"  {where}: {said}{given}" if where else f"  {said}{given}"


def _place(loc: Sequence[int | str]) -> str:
    """Where a fault is, entries counted from 1: `vectors.methods, entry 2`, `pairs, entry 1, positive`."""
    parts = [part for part in loc if not names_a_branch(part)]
    said = ""
    for before, part in zip([None, *parts], parts, strict=False):
        if isinstance(part, int):
            said += f", entry {part + 1}" if said else f"entry {part + 1}"
        else:
            said += ("" if not said else ", " if isinstance(before, int) else ".") + part
    return said


def names_a_branch(part: int | str) -> bool:
    """Whether a part of a fault's place is pydantic's name for one branch of a union, and no key of the file."""
    return isinstance(part, str) and ("[" in part or part.startswith("constrained-"))


def _said(fault: ErrorDetails) -> str:
    """What pydantic says of a fault, in words of YAML where it speaks of Python."""
    context = fault.get("ctx", {})
    if fault["type"] == "too_long":
        return f"give at most {counted(context['max_length'], 'item')}, not {context['actual_length'] or 'more'}"
    if fault["type"] == "too_short":
        return f"give at least {counted(context['min_length'], 'item')}, not {context['actual_length']}"
    if fault["type"] in ("tuple_type", "list_type"):
        return "must be a list"
    if fault["type"] in ("model_type", "dict_type"):
        return "must be a mapping of keys to values"
    return fault["msg"].removeprefix("Value error, ")


def _keys_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Field names of the model that `path` leads to, through fields and lists of models."""
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            inner = _model_in(model.model_fields[part].annotation)
            model = inner or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((model for model in found if model), None)
