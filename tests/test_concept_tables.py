"""Tables as spreadsheets and pandas write them: each gives the same rows."""

import gzip
from pathlib import Path

import pytest

from steering_core.concepts.formats import contents
from steering_core.concepts.formats.contents import read_contents
from steering_core.concepts.formats.read import read_concept
from steering_core.foundation.errors import ConceptError

ROWS = [("Why?", "Joy.", "Pain."), ("How?", "Well, well.", "Ill.")]
PLAIN = b'prompt,positive,negative\nWhy?,Joy.,Pain.\nHow?,"Well, well.",Ill.\n'
TABLES = {
    "pandas' index": b',prompt,positive,negative\r\n0,Why?,Joy.,Pain.\r\n1,How?,"Well, well.",Ill.\r\n',
    "pandas' index, read again": b'Unnamed: 0,prompt,positive,negative\n0,Why?,Joy.,Pain.\n1,How?,"Well, well.",Ill.\n',
    "pandas' index before tabs": b"\tprompt\tpositive\tnegative\n0\tWhy?\tJoy.\tPain.\n1\tHow?\tWell, well.\tIll.\n",
    "an empty last column": b'prompt,positive,negative,\nWhy?,Joy.,Pain.,\nHow?,"Well, well.",Ill.,\n',
    "empty last rows": PLAIN + b",,\n,,\n",
    "a header with brackets": b'prompt,positive,negative,notes [x]\nWhy?,Joy.,Pain.,a\nHow?,"Well, well.",Ill.,b\n',
    "a header with a colon": b'id: nr,prompt,positive,negative\n1,Why?,Joy.,Pain.\n2,How?,"Well, well.",Ill.\n',
    "a header with a hash": b'#,prompt,positive,negative\n1,Why?,Joy.,Pain.\n2,How?,"Well, well.",Ill.\n',
    "semicolons, and commas in a name": b"prompt;positive;negative;a, b\nWhy?;Joy.;Pain.;x\nHow?;Well, well.;Ill.;y\n",
    "Excel's line of the separator": b"sep=;\r\nprompt;positive;negative\r\nWhy?;Joy.;Pain.\nHow?;Well, well.;Ill.\n",
    "a separator of no other program": b"SEP=|\nprompt|positive|negative\nWhy?|Joy.|Pain.\nHow?|Well, well.|Ill.\n",
    "line ends of old": PLAIN.replace(b"\n", b"\r"),
    "a byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "blank lines first": b"\n \t\n" + PLAIN,
    "gzip": gzip.compress(PLAIN, mtime=0),
    "gzip of two members": gzip.compress(PLAIN[:30], mtime=0) + gzip.compress(PLAIN[30:]),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_is_read_as_programs_write_it(tmp_path: Path, case: str) -> None:
    (tmp_path / "data").write_bytes(TABLES[case])
    concept = read_concept(tmp_path / "data")
    assert [(pair.prompt, pair.positive, pair.negative) for pair in concept.pairs] == ROWS


def test_a_line_below_that_of_the_separator_keeps_its_number(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"sep=;\npositive;negative\na;b\nc;d;e\n")
    with pytest.raises(ConceptError, match="line 4 has 3 values for 2 columns"):
        read_concept(tmp_path / "data")


def test_no_command_makes_columns_of_a_first_row(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"It was a treat!,It was a bore.\nI loved it.,I hated it.\n")
    with pytest.raises(ConceptError, match=r"put a line above it such as `positive,negative`; if it holds") as refused:
        read_concept(tmp_path / "data")
    assert "--positive 'It" not in str(refused.value)


def test_a_column_without_a_name_that_holds_something_is_kept(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b",positive,negative,\nx,a,b,\n,c,d,7\n")
    assert read_contents(tmp_path / "data").columns == ("column 1", "positive", "negative", "column 4")


QUOTES = {
    "letters at the start": (b'"Oh," she said.\tPain.', ('"Oh," she said.', "Pain.")),
    "a letter that opens and never closes": (b'A 5" pipe\t"oops', ('A 5" pipe', '"oops')),
    "as CSV has them": (b'"He said ""hi"""\t"Pain."', ('He said "hi"', "Pain.")),
    "round a line break": (b'"two\nlines"\tPain.', ("two\nlines", "Pain.")),
}


@pytest.mark.parametrize("case", QUOTES)
def test_quotes_between_tabs_are_letters_or_those_of_csv(tmp_path: Path, case: str) -> None:
    line, wanted = QUOTES[case]
    (tmp_path / "data").write_bytes(b"positive\tnegative\n" + line + b"\nx\ty\n")
    pairs = read_concept(tmp_path / "data").pairs
    assert [(pair.positive, pair.negative) for pair in pairs] == [wanted, ("x", "y")]


def test_a_field_may_be_as_long_as_a_text_may(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text(f"positive,negative\n{'a' * (1 << 20)},b\n")
    assert len(read_concept(path).pairs[0].positive) == 1 << 20
    path.write_text(f"positive,negative\n{'a' * ((1 << 20) + 1)},b\n")
    with pytest.raises(ConceptError, match="line 2: 'positive' has 1,048,577 letters, more than 1,048,576"):
        read_concept(path)


def test_a_name_loses_the_end_that_says_gzip(tmp_path: Path) -> None:
    (tmp_path / "calm.csv.gz").write_bytes(gzip.compress(PLAIN, mtime=0))
    assert read_concept(tmp_path / "calm.csv.gz").name == "calm"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(PLAIN, mtime=0)[:-12], "is damaged gzip"),
        (gzip.compress(PLAIN, mtime=0)[:20] + b"\xff" * 40, "is damaged gzip"),
        (b"PK\x03\x04 and so on", "an Excel file: unpack it, or save the sheet as CSV"),
        (b"BZh9 and so on", "bunzip2"),
        (gzip.compress(b" " * (3 << 20)), "unpacks to over 2 MB"),
    ],
)
def test_other_archives_and_broken_ones_are_refused(
    tmp_path: Path, data: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "MAX_BYTES", 2 << 20)
    (tmp_path / "data").write_bytes(data)
    with pytest.raises(ConceptError, match=message):
        read_concept(tmp_path / "data")


YAML = {
    "a description with a comma": b"description: Glad, not sad\npairs: [{positive: a, negative: b}]\n",
    "a comment with a comma": b"# mine, and yours\npairs: [{positive: a, negative: b}]\n",
    "a list of mappings": b"- {positive: a, negative: b}\n",
}


@pytest.mark.parametrize("case", YAML)
def test_yaml_with_a_comma_in_its_first_line_is_no_table(tmp_path: Path, case: str) -> None:
    (tmp_path / "data").write_bytes(YAML[case])
    assert [(pair.positive, pair.negative) for pair in read_concept(tmp_path / "data").pairs] == [("a", "b")]
