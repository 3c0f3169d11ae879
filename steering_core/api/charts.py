"""The charts of reports, explorer and `steer vectors chart` in Python: a function of each chart's name.

    import steering_core as steer

    steer.dose_response("sentiment")  # a notebook shows it
    steer.frontier("sentiment").save("frontier.png")

`concept` may be left out where the store has recommendations of one concept alone, `model` where it has those of one
model. All raise QueryError where the store has no rows for the chart, or several concepts or models to choose from.
"""

from typing import Any

from steering_core.api.options import StorePath
from steering_core.foundation.errors import QueryError
from steering_core.foundation.suggestions import did_you_mean
from steering_core.reports.charts.listed import CHARTS, library_picture, picture
from steering_core.reports.charts.picture import Picture
from steering_core.reports.page import chart_values
from steering_core.store import Store
from steering_core.store.queries import named_query


def layer_by_dose(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """Effect by layer and dose of every candidate of one layer, on validation items."""
    return _of_recommendation("layer_by_dose", concept, model, store)


def dose_response(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """Effect over dose with its interval, a line a layer, on what controls did."""
    return _of_recommendation("dose_response", concept, model, store)


def frontier(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """Effect against damage of every cell with sample texts."""
    return _of_recommendation("frontier", concept, model, store)


def layer_profile(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """The best effect within the damage bounds by layer, beside the best control's."""
    return _of_recommendation("layer_profile", concept, model, store)


def stability(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """How far the direction agrees with itself, found from either half of the pairs, by layer."""
    return _of_recommendation("stability", concept, model, store)


def variants(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """What other seeds, and halves of the pairs, recommend; drawn from what `steer stability` measured."""
    return _of_recommendation("variants", concept, model, store)


def side_effects(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """What each of the model's recommendations does to every concept's items, beside controls."""
    return _of_recommendation("side_effects", concept, model, store)


def token_projection(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """How far each token of a sample text lies along the recommended vector."""
    return _of_recommendation("token_projection", concept, model, store)


def similarity(layer: int, concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """Cosine between the directions of the model's concepts and methods at one layer."""
    return _of_recommendation("similarity", concept, model, store, layer=layer)


def separation(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """AUC on test pairs by layer, each method beside the spread of its controls."""
    return _of_library("separation", concept, model, store)


def d_prime(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """Distance of the two sides' test projections in standard deviations, by layer."""
    return _of_library("d-prime", concept, model, store)


def split_half(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """Cosine of the directions of two random halves of the training pairs, by layer."""
    return _of_library("split-half", concept, model, store)


def bootstrap(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """Cosine of the direction with those of redrawn training pairs, by layer."""
    return _of_library("bootstrap", concept, model, store)


def sample_size(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """Cosine with the whole direction of those from fewer pairs, one line a layer."""
    return _of_library("sample-size", concept, model, store)


def influence(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """How far leaving out each of the 20 weightiest pairs turns the direction, over layers."""
    return _of_library("influence", concept, model, store)


def similar_methods(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """Cosine of each two methods' vectors of one concept, by layer."""
    return _of_library("similar-methods", concept, model, store)


def similar_concepts(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """Cosine of each two concepts' vectors, at the middle layer."""
    return _of_library("similar-concepts", concept, model, store)


def similar_layers(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """Cosine of each layer's vector with the next layer's."""
    return _of_library("similar-layers", concept, model, store)


def similar_models(concept: str | None = None, model: str | None = None, store: StorePath = None) -> Picture:
    """Cosine of each layer's vector with its twin's in a model of the same shape, such as a 4-bit one."""
    return _of_library("similar-models", concept, model, store)


def _of_recommendation(name: str, concept: str | None, model: str | None, store: StorePath, **more: Any) -> Picture:
    opened = Store.existing(store)
    row = recommended(opened, concept, model)
    drawn = picture(opened, name, {**chart_values(opened, row), **more})
    return _there(drawn, name, f"{row['concept']!r} on {row['model']}", opened)


def _of_library(name: str, concept: str | None, model: str | None, store: StorePath) -> Picture:
    opened = Store.existing(store)
    whose = " on ".join(repr(part) for part in (concept, model) if part is not None) or "any vector"
    return _there(library_picture(opened, name, model, concept), name, whose, opened)


def _there(drawn: Picture | None, name: str, whose: str, store: Store) -> Picture:
    if drawn is None:
        told = f"the store {store.root} has nothing of {whose} that {name} could be drawn from"
        raise QueryError(f"{told}: run a spec {CHARTS[name].needs} (docs/python.md)")
    return drawn


def recommended(store: Store, concept: str | None = None, model: str | None = None) -> dict[str, Any]:
    """The latest recommendation for a concept and a model; either may be left out where the store has one alone.

    Raises QueryError where there is none, or several to choose from.
    """
    found = store.rows(named_query("recommended"))
    for key, value in (("concept", concept), ("model", model)):
        there = sorted({row[key] for row in found})
        if not there:
            raise QueryError(f"the store {store.root} has no recommendation: run a spec first")
        if value is not None and value not in there:
            raise QueryError(
                f"the store {store.root} has no recommendation for {value!r}: {did_you_mean(value, there)}"
            )
        if value is None and len(there) > 1:
            raise QueryError(f"the store {store.root} has recommendations for {', '.join(there)}: name one with {key}=")
        found = [row for row in found if value in (None, row[key])]
    wanted = found[0]["recommendation_id"]
    (row,) = store.rows("SELECT * FROM recommendations WHERE recommendation_id = ?", [wanted])
    return row
