"""Tests are dealt out by file; those beside Prefect's server are one group, and the longest groups come first."""

from pathlib import Path

from tests.groups import LONG, LONGEST, MATRIX, PREFECT, group_of, marks_of, rank_of

ROOT = Path(__file__).parent.parent


def test_every_named_file_and_test_is_there() -> None:
    for name in (*PREFECT, *LONGEST[1:]):
        file, _, function = name.partition("::")
        assert f"def {function}(" in (ROOT / file).read_text() if function else (ROOT / file).exists(), name


def test_a_files_tests_stay_together_but_for_those_beside_the_server() -> None:
    assert group_of("tests/test_spec.py::test_a[x::y]") == "tests/test_spec.py"
    assert group_of("tests/test_benchmarks.py::test_a_tiny_round[gpu]") == "tests/test_benchmarks.py"
    assert {group_of(f"{name}::test_a" if name.endswith(".py") else name) for name in PREFECT} == {"prefect"}


def test_the_longest_come_first() -> None:
    nodes = ["tests/test_spec.py::test_a", "tests/test_examples.py::test_a", f"{PREFECT[0]}::test_a"]
    assert sorted(nodes, key=rank_of) == nodes[::-1]


def test_files_that_the_quick_suite_leaves_out_are_there_and_marked() -> None:
    for file in (*MATRIX, *LONG):
        assert (ROOT / f"tests/test_{file}.py").exists(), file
    assert marks_of("tests/test_bake.py::test_a[gemma2]") == ["matrix"]
    assert marks_of("tests/test_cli.py::test_a") == ["long"]
    assert marks_of("tests/test_cli_screen.py::test_a") == marks_of("tests/test_spec.py::test_a") == []
