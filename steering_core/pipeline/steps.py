"""Steps: the long steps of a run in the order in which they come, so that progress says how far it is."""

from collections.abc import Sequence

from steering_core.foundation.progress import Notify
from steering_core.scores.metrics import ANSWER_METRICS, NEUTRAL_METRICS
from steering_core.spec import Spec
from steering_core.vectors.methods import is_trained, method_name


def steps(spec: Spec) -> tuple[str, ...]:
    """What a run of `spec` does for one model and concept, in order, as its progress calls it.

    A step whose results the store holds is skipped when the run comes to it.
    """
    trains = any(is_trained(method_name(method)) for method in spec.vectors.methods)
    return (
        "extract activations",
        *(["train vectors"] if trains else []),
        *("search the grid", "generate samples", "score texts"),  # on validation
        *("generate samples", "score on test"),
        *(["score neutral prompts"] if NEUTRAL_METRICS.keys() & set(spec.scores.metrics) else []),
        *(["score neutral answers"] if ANSWER_METRICS.keys() & set(spec.scores.metrics) else []),
        "score texts",
        "search among permuted labels",
        *(["measure side effects"] if spec.scores.side_effects != "none" else []),
        *(["measure capabilities"] if spec.scores.capabilities != "none" else []),
    )


def numbered(notify: Notify, order: Sequence[str]) -> Notify:
    """`notify`, told of each step which of `order` it is: `3 of 9: search the grid`; others as they are called.

    A step that comes again after it has finished is the next of that name; after the last, the first: another cell's.
    """
    at, running = -1, ""

    def told(what: str, done: int, total: int) -> None:
        """Tell of the step by its number."""
        nonlocal at, running
        if what not in order:
            notify(what, done, total)
            return
        if what != running:
            at = next(place for place in (*range(at + 1, len(order)), *range(len(order))) if order[place] == what)
        running = what if done < total else ""
        notify(f"{at + 1} of {len(order)}: {what}", done, total)

    return told
