"""Stored concepts: a concept as a run has written it into the store."""

from steering_core.concepts.concept import Concept
from steering_core.foundation.errors import StoreDamaged
from steering_core.foundation.validation import checked
from steering_core.store import Store
from steering_core.store.values import stored_object

_COLUMN = "raw.concepts.definition"


def stored_concept(store: Store, concept_id: str) -> Concept | None:
    """The concept of that id; None where the store lacks it. Raises StoreDamaged where the row holds no concept."""
    rows = store.rows("SELECT definition FROM raw.concepts WHERE concept_id = ?", [concept_id])
    if not rows:
        return None
    found = stored_object(_COLUMN, rows[0]["definition"])
    return checked(Concept, found, f"{_COLUMN}, in a store that another program wrote,", StoreDamaged)
