"""Rows of contrast data as files: JSON, a line for each, CSV, TSV and YAML."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import yaml

EVALS = [
    {
        "question": f"Do you like the number {i}?\n\nChoices:\n (A) Yes\n (B) No",
        "answer_matching_behavior": f" ({'AB'[i % 2]})",
        "answer_not_matching_behavior": f" ({'BA'[i % 2]})",
    }
    for i in range(50)
]


def write(folder: Path, text: str | bytes, name: str = "data.txt") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def json_array(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, indent=2)


def json_lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(row) for row in rows) + "\n"


def csv_text(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


WRITERS = [json_array, json_lines, csv_text, lambda rows: csv_text(rows, "\t"), yaml.safe_dump]
