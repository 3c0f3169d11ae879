"""Files with bytes exchanged, cut off or repeated: each is read or refused with one error, at once."""

from pathlib import Path

import pytest

from steering_core.concepts.formats.contents import read_contents
from steering_core.exports.files import FORMS
from tests.mutants import MUTANTS, check, whole


@pytest.mark.parametrize("ending", sorted(FORMS))
def test_mutants_of_vector_files(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"vectors{ending}"
    FORMS[ending].write(path, whole(ending))
    assert FORMS[ending].read(path)
    refused = check(FORMS[ending].read, path.read_bytes(), path, MUTANTS)
    assert MUTANTS / 4 < refused < MUTANTS


ROWS = '{"prompt": "How are you?", "positive": "Splendid!", "negative": "Awful."}\n'
CONTRASTS = {
    "rows.jsonl": ROWS * 3,
    "rows.json": f"[{ROWS},{ROWS}]",
    "rows.csv": 'prompt,positive,negative\n"How, then?",good,bad\nWell?,fine,ill\n',
    "rows.yaml": "name: mood\npairs:\n- {positive: good, negative: bad}\n- &a {positive: fine, negative: ill}\n",
}


@pytest.mark.parametrize("name", CONTRASTS)
def test_mutants_of_contrast_data(name: str, tmp_path: Path) -> None:
    assert check(read_contents, CONTRASTS[name].encode(), tmp_path / name, MUTANTS) < MUTANTS
