"""Write the reference pages from what they describe: docs/views.md, docs/spec.md and docs/glossary.md.

python tools/reference.py          # write them
python tools/reference.py --check  # exit 1 where one of them is not as it would be written
"""

import re
import sys
import tempfile
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from steering_core.foundation.words import columns, glossary
from steering_core.spec import Spec
from steering_core.store import Store

DOCS = Path(__file__).parent.parent / "docs"
MADE = "<!-- Written by `make reference` from {source}; change that. -->"
VIEWS_SQL = Path(__file__).parent.parent / "steering_core" / "store" / "sql" / "views.sql"


def views_page() -> str:
    """Every view of the store, with the type and meaning of each column."""
    lines = ["# The views and their columns", "", MADE.format(source="the views and foundation/words.yaml"), ""]
    lines += ["`steer sql 'FROM leaderboard'` asks them; `steer explain COLUMN` says what one means.", ""]
    about = dict(re.findall(r"((?:^-- .*\n)+)CREATE OR REPLACE VIEW (\w+)", VIEWS_SQL.read_text(), re.MULTILINE))
    says = {view: " ".join(line.removeprefix("-- ") for line in text.splitlines()) for text, view in about.items()}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder, "store"))
        names = store.rows(
            "SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main' ORDER BY 1"
        )
        for view in (row["view_name"] for row in names):
            lines += [f"## {view}", "", *([says[view], ""] if view in says else [])]
            lines += ["| column | type | meaning |", "|---|---|---|"]
            for column in store.rows(f"DESCRIBE {view}"):
                name = column["column_name"]
                if name not in columns():
                    sys.exit(
                        f"the view {view} has a column {name}: say in steering_core/foundation/words.yaml what it is"
                    )
                lines.append(f"| `{name}` | {column['column_type']} | {columns()[name]} |")
            lines.append("")
    return "\n".join(lines)


def spec_page() -> str:
    """Every key of a spec, with its type and default."""
    lines = ["# Every key of a spec", "", MADE.format(source="steering_core/spec.py"), ""]
    lines += _section(Spec, "")
    return "\n".join(lines)


def _section(model: type[BaseModel], path: str) -> list[str]:
    says = " ".join((model.__doc__ or "").split())
    lines = [f"## {path or 'The spec'}", "", says, "", "| key | value | default |", "|---|---|---|"]
    below: list[str] = []
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        lines.append(f"| `{name}` | {_value(schema['properties'][name], schema)} | {_default(field)} |")
        if inner := _model_in(field.annotation):
            below += _section(inner, f"{path}.{name}" if path else name)
    return [*lines, "", *below]


def _model_in(annotation: object) -> type[BaseModel] | None:
    for one in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, BaseModel):
        return "see below"
    if isinstance(field.default, str) and len(field.default) > 40:
        return "see steering_core/foundation/judging.py"
    if isinstance(field.default, tuple):
        return f"`[{', '.join(map(str, field.default))}]`"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return "none" if field.default is None else f"`{field.default}`"


def _value(told: dict, schema: dict) -> str:  # type: ignore[type-arg]
    """A JSON schema's value in words: its choices, its bounds."""
    if "$ref" in told:
        return "a mapping, see below"
    if options := told.get("anyOf") or told.get("oneOf"):
        return " or ".join(dict.fromkeys(_value(one, schema) for one in options if one.get("type") != "null"))
    if "enum" in told or "const" in told:
        return ", ".join(f"`{one}`" for one in told.get("enum", [told.get("const")]))
    kind = {"integer": "a whole number", "number": "a number", "string": "a text", "boolean": "true or false"}
    if told.get("type") == "array":
        items = told.get("items", {})
        return f"a list of: {_value(items, schema)}" if items else "a list"
    low, high = told.get("minimum"), told.get("maximum")
    bounds = f" from {low:g} to {high:g}" if low is not None and high is not None else ""
    return kind.get(told.get("type", ""), "a mapping") + bounds


def glossary_page() -> str:
    """The words of steering."""
    lines = ["# Words", "", MADE.format(source="steering_core/foundation/words.yaml"), ""]
    lines += ["`steer explain WORD` says the same.", "", "| word | meaning |", "|---|---|"]
    return "\n".join([*lines, *(f"| **{word}** | {says} |" for word, says in glossary().items()), ""])


PAGES = {"views.md": views_page, "spec.md": spec_page, "glossary.md": glossary_page}


def main() -> None:
    """Write the pages, or with --check compare them."""
    stale = []
    for name, page in PAGES.items():
        text = page().rstrip("\n") + "\n"
        if "--check" not in sys.argv:
            (DOCS / name).write_text(text)
        elif (DOCS / name).read_text() != text:
            stale.append(name)
    if stale:
        sys.exit(f"{', '.join(stale)}: run `make reference`")


if __name__ == "__main__":
    main()
