"""Contrast data that is refused: a broken, huge or odd file gives an error that says where, and never a traceback."""

import contextlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering_core.concepts import Concept, load_concept
from steering_core.concepts.formats import contents
from steering_core.concepts.formats.read import read_concept
from steering_core.foundation.errors import ConceptError
from tests.contrast_files import EVALS, WRITERS, csv_text, write

BAD_UTF8 = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])


def yaml_bomb(line: str) -> bytes:
    """Anchors of which each names the one before ten times: 300 bytes that stand for a billion values."""
    refs = [", ".join([f"*a{i - 1}"] * 10) for i in range(1, 10)]
    return ("a0: &a0 {k: v}\n" + "".join(line.format(i=i, refs=r) for i, r in enumerate(refs, 1))).encode()


BROKEN = {
    "empty": (b"  \n", "is empty"),
    "empty list": (b"[]", "empty list"),
    "truncated array": (b'[\n{"positive": "a", "negative": "b"},\n{"positive": "c', "line 3"),
    "array without an end": (b'[\n{"positive": "a", "negative": "b"}\n', "cut off"),
    "truncated line": (b'{"positive": "a", "negative": "b"}\n{"positive": "c", "neg', "line 2"),
    "text behind a line": (b'{"positive": "a", "negative": "b"}\n{"positive": "a", "negative": "c"} x', "line 2"),
    "text behind an array": (b'[{"positive": "a", "negative": "b"}]\n, 3', "line 2"),
    "a number for a text": (b'[{"positive": 3, "negative": "b"}]', "line 1: 'positive' must be a text, not 3"),
    "a missing side": (b'[{"positive": "a", "negative": "b"},\n{"positive": "c"}]', "line 2: there is no 'negative'"),
    "an empty side": (b"positive,negative\na,b\nc,\n", "line 3: 'negative' is empty"),
    "the same sides": (b"positive,negative\na,a\n", "line 2: both sides are the same"),
    "a row of other length": (b"positive,negative\na,b\nc,d,e\n", "line 3 has 3 values for 2"),
    "a column twice": (b"positive,positive\na,b\n", "names a column twice"),
    "an open quote": (b'positive,negative\n"a,b\n', "is not CSV"),
    "wrong columns": (b"left,right\na,b\n", "'left', 'right'"),
    "a table without rows": (b"positive,negative\n", "without rows"),
    "wrong keys": (b"alpha: 1\nbeta: 2\n", "keys 'alpha', 'beta'"),
    "half a surrogate pair": (b'[{"positive": "\\ud83d", "negative": "b"}]', "surrogate"),
    "another encoding": ("positive,negative\na,b\nschön,b\n".encode("latin-1"), "line 3 is not UTF-8"),
    "UTF-16": ("positive,negative\na,b\n".encode("utf-16"), "UTF-16"),
    "zero bytes": (b"positive,negative\na,b\n\0\0,d\n", "line 3 holds a zero byte"),
    "damaged Parquet": (b"PAR1 and so on", "no Parquet file"),
    "plain words": (b"just a sentence\n", "a list of plain texts"),
    "scalars in a list": (b"[1, 2]", "is no object with named values: 1"),
    "YAML with an impossible date": (b"pairs: []\nname: 2024-13-45\n", "line 2, column 7 is not YAML: '2024-13-45'"),
    "YAML's tag of another type": (b"name: !!bool x\npairs: []\n", "line 1, column 7 is not YAML: 'x' is no bool"),
    "YAML's whole number of no digits": (b"name: !!int ''\npairs: []\n", "'' is no int"),
    "YAML's time of no form": (b"name: !!timestamp x\npairs: []\n", "'x' is no timestamp"),
    "YAML's sixties without end": (b"pairs: 1" + b":59" * 3_000 + b".5\n", "is no float"),
    "YAML with code": (b"name: !!python/object/apply:os.system [x]\npairs: []\n", "could not determine a constructor"),
    "YAML with a tab": (b"name: x\n\tpairs: 3\n", "line 2"),
    "a misspelt key": (b"name: x\npairs: [{positive: a, negativ: b}]\n", "did you mean 'negative'"),
    "a bad line after a good one": (b'{"pos": "a", "neg": "b"}\nnot JSON\n', "line 2, column 1 is not JSON"),
    "a list among objects": (b'{"pos": "a", "neg": "b"}\n[1, 2]\n', "line 2 is no object with named values: [1, 2]"),
    "a JSON name twice": (b'[{"pos": "a",\n"pos": "c", "neg": "b"}]', "'pos' stands twice"),
    "a YAML key twice": (b"name: x\npairs: [{positive: a, negative: b}]\npairs: []\n", "line 3, column 1"),
    "UTF-32": ("positive,negative\na,b\n".encode("utf-32"), "UTF-32"),
    "a quote left open": (b'positive,negative\na,b\n"c,d\n' + b"e,f\n" * 50_000, "line 3 is not CSV"),
    "a text beyond any context": (
        b'[{"positive": "' + b"a" * (1 << 21) + b'", "negative": "b"}]',
        "longer than any context",
    ),
    "nested beyond measure": (b"[" * 100_000, "nested too deeply"),
    "YAML nested beyond measure": (b"pairs: " + b"[" * 100_000, "nested too deeply"),
    "a YAML bomb": (yaml_bomb("a{i}: &a{i} [{refs}]\n") + b"name: *a9\n", "name: Input should be a valid string"),
    "a bomb of merge keys": (yaml_bomb("a{i}: &a{i}\n  <<: [{refs}]\n"), "merge keys copy more than"),
    "a number in hexadecimal": (b"pairs: [{positive: 0x" + b"f" * 9999 + b", negative: b}]", "a number of 39996 bits"),
    "YAML of many megabytes": (b"- x\n" * (1 << 21), "YAML is read up to"),
    "half a surrogate pair in a concept": (b'{"pairs": [{"positive": "\\ud800", "negative": "b"}]}', "unicode"),
    "a number of many digits": (b'[{"positive": ' + b"9" * 5000 + b', "negative": "b"}]', "not usable JSON"),
    "an unknown slot": (b"template: {positive: 'a {x}', negative: 'b'}\nslots: {y: [c]}\n", "no such key"),
    "a slot with a format": (b"template: {positive: 'a {x:>99}', negative: 'b'}\nslots: {x: [c]}\n", "is no slot"),
    "a trait without questions": (b"instruction: [{pos: a, neg: b}]\n", "questions: Field required"),
    "personas without a slot": (
        b'{"template": "x", "positive_personas": ["a"], "negative_personas": ["b"], "suffixes": ["c"]}',
        "must hold {persona}",
    ),
    "a name that is none": (b"name: ' % '\ntemplate: {positive: '{x}', negative: b}\nslots: {x: [c]}\n", "name"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_gives_an_error_that_says_where(tmp_path: Path, case: str) -> None:
    data, message = BROKEN[case]
    with pytest.raises(ConceptError) as raised:
        read_concept(write(tmp_path, data))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"pos": ["a", None], "neg": ["b", "c"]}, "row 2: 'pos' must be a text, not null"),
        ({"pos": [1, 2], "neg": ["b", "c"]}, "row 1: 'pos' must be a text, not 1"),
        ({"pos": [[["a"]]], "neg": ["b"]}, r"must be a text, not \['a'\]"),
        ({"pos": ["a"], "neg": ["b"], "day": pa.array([2**62], pa.timestamp("us"))}, "cannot be read: date value"),
        ({"pos": ["a"], "neg": ["b"], "wait": pa.array([2**62], pa.duration("s"))}, "cannot be read"),
        ({"pos": BAD_UTF8, "neg": ["b"]}, "cannot be read: 'utf-8' codec"),
        ({"pos": ["a" * (1 << 20)] * 20, "neg": ["b"] * 20}, "unpacks to over 2 MB"),
    ],
)
def test_odd_parquet_is_refused(
    tmp_path: Path, columns: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "MAX_BYTES", 2 << 20)
    pq.write_table(pa.table(columns), tmp_path / "x")
    with pytest.raises(ConceptError, match=message):
        read_concept(tmp_path / "x")


def test_a_parquet_column_twice_is_refused(tmp_path: Path) -> None:
    texts = [pa.array([letter]) for letter in "abc"]
    pq.write_table(pa.Table.from_arrays(texts, names=["pos", "neg", "neg"]), tmp_path / "x")
    with pytest.raises(ConceptError, match="names a column twice: 'neg'"):
        read_concept(tmp_path / "x")


def test_a_line_of_a_hundred_megabytes_is_refused_by_its_number(tmp_path: Path) -> None:
    path = write(tmp_path, b'{"positive": "a", "negative": "b"}\n{"positive": "' + b"x" * (100 << 20) + b'"}')
    with pytest.raises(ConceptError, match="line 2 has 100 MB"):
        read_concept(path)


def test_files_beyond_the_limits_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, csv_text([{"pos": str(i), "neg": "x"} for i in range(9)]))
    monkeypatch.setattr(contents, "MAX_ROWS", 8)
    with pytest.raises(ConceptError, match="more than 8 rows"):
        read_concept(path)
    monkeypatch.setattr(contents, "MAX_BYTES", 10)
    with pytest.raises(ConceptError, match="is larger than 10 bytes"):
        read_concept(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConceptError, match="is a folder"):
        read_concept(tmp_path)
    with pytest.raises(ConceptError, match="is no regular file"):
        read_concept("/dev/zero")
    for name in (tmp_path / "none.jsonl", tmp_path / ("n" * 300)):
        with pytest.raises(ConceptError, match=r"cannot be read|there is no file"):
            load_concept(str(name))
    with pytest.raises(ConceptError, match="there is no concept"):
        load_concept("n" * 300)
    with pytest.raises(ConceptError, match="did you mean 'sentiment'"):
        load_concept("sentimnt")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_a_concept_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    _read_or_refuse(write(tmp_path_factory.getbasetemp(), data, "fuzz"))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_files_give_a_concept_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = data.draw(st.sampled_from(WRITERS))(EVALS[:3]).encode()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 30)))
    put = data.draw(st.binary(max_size=10))
    _read_or_refuse(write(tmp_path_factory.getbasetemp(), whole[:start] + put + whole[end:], "damaged"))


def _read_or_refuse(path: Path) -> None:
    with contextlib.suppress(ConceptError):  # any other exception is the failure
        assert isinstance(read_concept(path), Concept)
