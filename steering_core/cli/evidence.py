"""What the verbs that measure have in common: a spec's models and concepts, opened, with their vectors."""

from collections.abc import Iterator
from typing import Literal

from steering_core.cli.specs_in import allowed_spec
from steering_core.concepts import Concept
from steering_core.concepts.library import load_concepts
from steering_core.models import Model
from steering_core.pipeline import stages
from steering_core.pipeline.layer_sweep import over_layers
from steering_core.reports.printing import progress_bars
from steering_core.runs import Run
from steering_core.store import Store, default_store
from steering_core.vectors.vector import Vector


def over_concepts(
    spec: str, model: str | None, concept: str | None, store: str | None, layers: Literal["all"] | None = None
) -> Iterator[tuple[Run, Model, Concept, list[Vector]]]:
    """Each model and concept of a spec, or those named instead, with the vectors of its grid; progress is shown."""
    wanted = allowed_spec(spec)
    wanted = wanted.model_copy(
        update={"models": (model,) if model else wanted.models, "concepts": (concept,) if concept else wanted.concepts}
    )
    wanted = over_layers(wanted, layers) if layers else wanted
    concepts = load_concepts(wanted.concepts)
    with progress_bars() as notify, Run(wanted, Store(store or default_store()), notify) as run:
        for name in wanted.models:
            opened = stages.load_model(run, name)
            try:
                stages.extract_activations(run, opened, concepts)
                for one in concepts:
                    yield run, opened, one, stages.derive_vectors(run, opened, one)[0]
            finally:
                opened.close()
