"""The one list of charts: what each draws and from which named query, and where it is shown.

A chart is a function from rows to a drawing, in a module beside this one, and a line here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from steering_core.models.shared_names import shared_name
from steering_core.reports.charts import evaluation, explorer, vectors
from steering_core.reports.charts.picture import Picture
from steering_core.reports.charts.render import Drawing
from steering_core.store import Store, TableRows
from steering_core.store.queries import description, named_query

Place = Literal["report", "explorer", "command"]
"""Reports of a recommendation, the explorer's `/api/charts`, or the command `steer vectors chart`."""

BOTH: tuple[Place, ...] = ("report", "explorer")
EXPLORER: tuple[Place, ...] = ("explorer",)
COMMAND: tuple[Place, ...] = ("command",)
QUALITIES = "whose vectors.methods derive vectors, with vectors.quality_draws above 0"
SEVERAL_LAYERS = "several_layers_of_concept"


@dataclass(frozen=True)
class Chart:
    """A chart: `draw` takes the rows of the named query, and those of the query's or the spec's values in `takes`."""

    query: str
    draw: Callable[..., Drawing]
    places: tuple[Place, ...]
    title: str  # where it stands alone
    caption: str = ""  # in reports, with values in braces
    takes: tuple[str, ...] = ()
    one_layer: bool = False  # whether candidates of several layers have no place in it
    of_model: bool = False  # whether it shows all of a model's concepts
    needs: str = "whose generations.layers and generations.doses measure vectors of one layer"  # after "run a spec "

    def drawn(self, rows: TableRows, values: Mapping[str, Any]) -> Drawing:
        """The drawing of `rows`."""
        return self.draw(rows, **{name: values[name] for name in self.takes})


CHARTS = {
    "layer_by_dose": Chart(
        "layer_by_dose",
        explorer.layer_by_dose,
        BOTH,
        "Effect by layer and dose",
        "Effect by layer and dose of every candidate of one layer, on validation; a dot where texts were sampled. "
        "Where a vector of the library shares a layer with others it has a column of its own.",
        one_layer=True,
    ),
    "dose_response": Chart(
        "dose_response_of_concept",
        explorer.dose_response,
        BOTH,
        "Effect over dose",
        "Effect over dose with its interval; grey: what controls did at that dose. A diamond is the recommended dose, "
        "where that is of one layer.",
        one_layer=True,
    ),
    "frontier": Chart(
        "frontier_of_concept",
        evaluation.frontier,
        BOTH,
        "Effect against damage",
        "Effect against damage; the dashed line is the bound, {max_perplexity_ratio:g}.",
        takes=("max_perplexity_ratio",),
        needs="whose generations.prompts is above 0, so that it samples texts",
    ),
    "layer_profile": Chart(
        "layer_profile",
        evaluation.layer_profile,
        BOTH,
        "Best effect by layer",
        "The best effect within the damage bounds with its interval, by layer; grey: its best control.",
    ),
    "stability": Chart(
        "stability_of_concept",
        evaluation.stability,
        BOTH,
        "Agreement of two halves, by layer",
        "How far the direction agrees with itself, found from either half of the pairs.",
        needs=QUALITIES,
    ),
    "variants": Chart(
        "variants_of_concept",
        evaluation.variants,
        BOTH,
        "Other seeds and halves",
        "What other seeds, and halves of the pairs, recommend (`steer stability`).",
        needs="by `steer stability`, with other seeds and halves of the pairs",
    ),
    "side_effects": Chart(
        "side_effects_of_model",
        evaluation.side_effects,
        BOTH,
        "Side effects on every concept",
        "What each recommendation does to every concept's items, and the control of each kind that moves them most; a "
        "star: more than chance does (p ≤ 0.05, corrected over the row).",
        of_model=True,
        needs="whose scores.side_effects is not none",
    ),
    "token_projection": Chart(
        "token_projections",
        evaluation.token_projection,
        BOTH,
        "Tokens along the vector",
        "How far each token of a sample text lies along the vector, read by the untouched model: from the unsteered "
        "text's mean, in shares of the residual norm.",
        needs="whose generations.prompts is above 0, so that it samples texts",
    ),
    "similarity": Chart(
        "vector_similarity",
        explorer.similarity,
        EXPLORER,
        "Cosines between directions",
        "Cosine between the directions of concepts and methods at layer {layer}.",
        of_model=True,
        needs="whose vectors.methods derive vectors at that layer (generations.layers)",
    ),
    "separation": Chart("vector_qualities", vectors.separation, COMMAND, "AUC on test pairs", needs=QUALITIES),
    "d-prime": Chart(
        "vector_qualities",
        vectors.d_prime,
        COMMAND,
        "Distance of the two sides",
        needs=f"{QUALITIES}, of a concept with several test pairs",
    ),
    "split-half": Chart("vector_qualities", vectors.split_half, COMMAND, "Cosine of two halves", needs=QUALITIES),
    "bootstrap": Chart("vector_qualities", vectors.bootstrap, COMMAND, "Cosine with redrawn pairs", needs=QUALITIES),
    "sample-size": Chart(
        "vector_qualities", vectors.sample_size, COMMAND, "Cosine by number of pairs", needs=QUALITIES
    ),
    "influence": Chart("vector_qualities", vectors.influence, COMMAND, "Weightiest pairs", needs=QUALITIES),
    "similar-methods": Chart(
        "vector_similarities",
        vectors.similar_methods,
        COMMAND,
        "Cosines between methods",
        needs="with several of vectors.methods",
    ),
    "similar-concepts": Chart(
        "vector_similarities",
        vectors.similar_concepts,
        COMMAND,
        "Cosines between concepts",
        needs="with several concepts",
    ),
    "similar-layers": Chart(
        "vector_similarities",
        vectors.similar_layers,
        COMMAND,
        "Cosines between layers",
        needs="whose generations.layers are several that follow each other",
    ),
    "similar-models": Chart(
        "vector_similarities",
        vectors.similar_models,
        COMMAND,
        "Cosines between models",
        needs="with several models of one shape, such as a model and its 4-bit form",
    ),
}
"""Every chart by its name."""


def picture(store: Store, name: str, values: Mapping[str, Any]) -> Picture | None:
    """A chart drawn from the store, its query's parameters taken from `values`; None where there are no rows."""
    chart = CHARTS[name]

    def asked(query: str) -> TableRows:
        """The rows of a named query."""
        sql = named_query(query)
        return store.rows(sql, [values[parameter] for parameter in description(sql)[1]])

    rows = asked(chart.query)
    if not rows:
        return None
    said = " ".join(filter(None, (chart.caption.format(**values), not_drawn(chart, asked))))
    of = shared_name(values["model"]) if chart.of_model else f"{values['concept']} on {shared_name(values['model'])}"
    return Picture(name, chart.drawn(rows, values), said, chart.title, of)


def not_drawn(chart: Chart, asked: Callable[[str], TableRows]) -> str:
    """A sentence about the candidates of several layers that a chart has no place for; empty where there are none.

    `asked` gives the rows of a named query for the chart's model and concept.
    """
    (found,) = asked(SEVERAL_LAYERS) if chart.one_layer else ({"n": 0},)
    if not found["n"]:
        return ""
    one = found["n"] == 1
    who = "1 candidate of several layers is" if one else f"{found['n']} candidates of several layers are"
    return f"{who} not drawn here; the leaderboard lists {'it' if one else 'them'}."


def library_picture(store: Store, name: str, model: str | None, concept: str | None) -> Picture | None:
    """A chart of the library's vectors, of one model or concept where they are given; None where there are no rows."""
    wanted = {"model": model, "concept": concept}
    rows = [
        row
        for row in store.rows(named_query(CHARTS[name].query))
        if all(row[key] == value for key, value in wanted.items() if value is not None)
    ]
    drawing = CHARTS[name].drawn(rows, {})
    drawn = any(drawing.to_dict(validate=False).get("datasets", {}).values())  # what the chart takes of the rows
    return Picture(name, drawing, CHARTS[name].draw.__doc__ or "", CHARTS[name].title) if drawn else None


def charts_in(place: Place) -> dict[str, Chart]:
    """The charts that are shown in one place, by name, in the list's order."""
    return {name: chart for name, chart in CHARTS.items() if place in chart.places}
