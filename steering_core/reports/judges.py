"""Judges that may not be trusted, in a sentence for every report."""

from itertools import groupby

from steering_core.store import Store
from steering_core.store.queries import named_query


def untrusted_judges(store: Store, concept_id: str) -> list[str]:
    """A sentence for each judge that rated texts of known quality wrongly, planted for one concept."""
    rows = store.rows(named_query("judge_checks_of_concept"), [concept_id])
    said = []
    for judge, checks in groupby(rows, key=lambda row: str(row["judge"])):
        failed = [f"{row['kind']} ({row['agreed']} of {row['n']})" for row in checks if not row["passed"]]
        if failed:
            kinds = ", ".join(dict.fromkeys(failed))
            said.append(
                f"The judge {judge} may not be trusted: of texts of known quality it rates too few rightly: {kinds}."
            )
    return said
