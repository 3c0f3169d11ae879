"""Monitors in Python: how far a conversation lies along vectors, token by token, with a verdict for each turn.

import steering_core as steer

with steer.open_model("smollm2-135m") as model:
    found = steer.monitor(model, [{"role": "user", "content": "Hi"}], ["sentiment"])
    for turn in found.turns:
        print(turn.phase, turn.text, turn.verdicts["sentiment"]["mean"])
"""

from collections.abc import Sequence

from steering_core.api.options import StorePath
from steering_core.api.stored_vectors import find_vector
from steering_core.foundation.errors import VectorError
from steering_core.foundation.sequences import repeated
from steering_core.models import Model
from steering_core.models.chat_template import Messages
from steering_core.monitors.conversation import Monitored, Watched
from steering_core.monitors.conversation import monitor as monitored
from steering_core.monitors.gates import gates_of
from steering_core.store import Store
from steering_core.vectors.vector import Vector


def monitor(
    model: Model, conversation: str | Messages, probes: Sequence[str | Vector], store: StorePath = None
) -> Monitored:
    """Each token's projection on each of `probes`, and each turn's verdict. Probes are vectors, or names in the store.

    `conversation` is a list of messages (role, content), or a raw text. A verdict says whether the mean is above the
    vector's gate, where one was fitted (`steer vectors gate NAME`), and how often that is a false alarm. Raises
    VectorNotFound, VectorMismatch, PromptError.
    """
    return monitored(model, conversation, watched(model, probes, store))


def watched(model: Model, probes: Sequence[str | Vector], store: StorePath = None) -> list[Watched]:
    """Vectors by name, with their gates. Raises VectorNotFound, and VectorError for one that is named twice."""
    names = [probe if isinstance(probe, str) else probe.vector_id for probe in probes]
    if twice := repeated(names):
        raise VectorError(f"the probe {twice[0]!r} is named twice: once is enough")
    vectors = [find_vector(model, probe, store) if isinstance(probe, str) else probe for probe in probes]
    named = [vector.vector_id for probe, vector in zip(probes, vectors, strict=True) if isinstance(probe, str)]
    gates = gates_of(Store.existing(store), named) if named else {}
    return [
        Watched(name, vector, gates.get(vector.vector_id, {}).get("mean"))
        for name, vector in zip(names, vectors, strict=True)
    ]
