"""steerflow's core: find, prove and apply steering vectors for language models on MLX.

The packages are layers (docs/architecture.md). Importing this one loads neither MLX nor Prefect: the names below are
loaded when they are first used (PEP 562).
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from steering_core.foundation.version import VERSION

if TYPE_CHECKING:
    from steering_core.api.charts import (
        bootstrap,
        d_prime,
        dose_response,
        frontier,
        influence,
        layer_by_dose,
        layer_profile,
        sample_size,
        separation,
        side_effects,
        similar_concepts,
        similar_layers,
        similar_methods,
        similar_models,
        similarity,
        split_half,
        stability,
        token_projection,
        variants,
    )
    from steering_core.api.data import DoseSweep, LayerSweep, Report, dose_sweep, layer_sweep, run
    from steering_core.api.generate import Steered, compare, generate, stream
    from steering_core.api.monitor import monitor
    from steering_core.api.next_tokens import kl, logits
    from steering_core.api.options import Sampling
    from steering_core.api.quick_vectors import (
        activation_addition,
        contrast,
        derive_vector,
        position_deltas,
        unpaired,
    )
    from steering_core.api.row_table import Rows
    from steering_core.api.stored_activations import Activations, activations
    from steering_core.api.stored_vectors import (
        find_vector,
        find_vectors,
        list_vectors,
        remove_vector,
        save_vector,
    )
    from steering_core.api.text_activations import TextActivations
    from steering_core.api.words import explain
    from steering_core.baking.bake import bake
    from steering_core.concepts import Concept, load_concept
    from steering_core.foundation.errors import SteerflowError, SteeringWarning
    from steering_core.interventions.change import Change, Condition, Intervention
    from steering_core.interventions.parsing import parse
    from steering_core.interventions.where import Schedule, Where
    from steering_core.models import Model, open_model
    from steering_core.models.loaded import from_mlx_lm
    from steering_core.reports.charts.picture import Picture
    from steering_core.spec import Spec
    from steering_core.spec_files import load_spec
    from steering_core.store import Store, connect
    from steering_core.vectors.vector import Vector

__version__ = VERSION

_HOMES = {
    "api.charts": (
        "bootstrap",
        "d_prime",
        "dose_response",
        "frontier",
        "influence",
        "layer_by_dose",
        "layer_profile",
        "sample_size",
        "separation",
        "side_effects",
        "similar_concepts",
        "similar_layers",
        "similar_methods",
        "similar_models",
        "similarity",
        "split_half",
        "stability",
        "token_projection",
        "variants",
    ),
    "api.data": ("DoseSweep", "LayerSweep", "Report", "dose_sweep", "layer_sweep", "run"),
    "api.generate": ("Steered", "compare", "generate", "stream"),
    "api.stored_activations": ("Activations", "activations"),
    "api.stored_vectors": ("find_vector", "find_vectors", "list_vectors", "remove_vector", "save_vector"),
    "api.monitor": ("monitor",),
    "api.next_tokens": ("kl", "logits"),
    "api.options": ("Sampling",),
    "api.row_table": ("Rows",),
    "api.text_activations": ("TextActivations",),
    "api.words": ("explain",),
    "baking.bake": ("bake",),
    "concepts": ("Concept", "load_concept"),
    "foundation.errors": ("SteerflowError", "SteeringWarning"),
    "interventions.change": ("Change", "Condition", "Intervention"),
    "interventions.parsing": ("parse",),
    "interventions.where": ("Schedule", "Where"),
    "models": ("Model", "open_model"),
    "models.loaded": ("from_mlx_lm",),
    "api.quick_vectors": ("activation_addition", "contrast", "derive_vector", "position_deltas", "unpaired"),
    "reports.charts.picture": ("Picture",),
    "spec": ("Spec",),
    "spec_files": ("load_spec",),
    "store": ("Store", "connect"),
    "vectors.vector": ("Vector",),
}
_HOME = {name: f"steering_core.{home}" for home, names in _HOMES.items() for name in names}

__all__ = [
    "Activations",
    "Change",
    "Concept",
    "Condition",
    "DoseSweep",
    "Intervention",
    "LayerSweep",
    "Model",
    "Picture",
    "Report",
    "Rows",
    "Sampling",
    "Schedule",
    "Spec",
    "Steered",
    "SteerflowError",
    "SteeringWarning",
    "Store",
    "TextActivations",
    "Vector",
    "Where",
    "activation_addition",
    "activations",
    "bake",
    "bootstrap",
    "compare",
    "connect",
    "contrast",
    "d_prime",
    "derive_vector",
    "dose_response",
    "dose_sweep",
    "explain",
    "find_vector",
    "find_vectors",
    "from_mlx_lm",
    "frontier",
    "generate",
    "influence",
    "kl",
    "layer_by_dose",
    "layer_profile",
    "layer_sweep",
    "list_vectors",
    "load_concept",
    "load_spec",
    "logits",
    "monitor",
    "open_model",
    "parse",
    "position_deltas",
    "remove_vector",
    "run",
    "sample_size",
    "save_vector",
    "separation",
    "side_effects",
    "similar_concepts",
    "similar_layers",
    "similar_methods",
    "similar_models",
    "similarity",
    "split_half",
    "stability",
    "stream",
    "token_projection",
    "unpaired",
    "variants",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOME[name]), name)
    if package := sys.modules.get(f"{__name__}.{name}"):
        found.__dict__ = vars(package)  # steering_core.activations.extract is found in the function as in the package
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


class _ThisPackage(ModuleType):
    """This package: what it exports under a name is not hidden by a package of that name, which imports would set."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _HOME or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _ThisPackage
