"""What a flow was asked for: its spec, and the name of its run."""

import contextlib
import functools
import os
from pathlib import Path
from typing import Any

from coolname.data import config as vocabulary
from prefect.context import FlowRunContext
from prefect.runtime import flow_run

from flows.absent import KINDS, absent
from steering_core.foundation.errors import SpecError, SteerflowError
from steering_core.foundation.validation import Strict, checked
from steering_core.spec import SomeNames, Spec
from steering_core.spec_files import load_spec
from steering_core.vectors.methods import methods_only_from

NAMED = 3  # concepts or models in a run's name; more are counted


def chosen_spec(name: str, models: list[str] | None, concepts: list[str] | None) -> Spec:
    """The spec of that name, with other models or concepts where they are given.

    A deployment's parameters come from whoever may ask the server for a flow run. Such a spec runs no file of methods,
    but for those in the folders that STEERFLOW_METHOD_FOLDERS lists where the worker was started.
    """
    with methods_only_from(method_folders()) if is_deployed() else contextlib.nullcontext():
        spec = load_spec(name)
    given = {"models": tuple(models or ()), "concepts": tuple(concepts or ())}
    return spec.model_copy(update={key: value for key, value in given.items() if value})


class AskedNames(Strict):
    """Models and concepts that parameters put in the place of a spec's."""

    models: SomeNames = ()
    concepts: SomeNames = ()


def asked_spec(name: str, models: list[str] | None, concepts: list[str] | None, paths: bool = True) -> Spec:
    """What `chosen_spec` gives, for a flow run that somebody asks for.

    A name in a spec that means nothing fails its cells alone. Whoever types one as a parameter is told before anything
    is computed: raises SpecError, with all of them and what is near. Files are looked for unless `paths` is false.
    """
    wanted = chosen_spec(name, models, concepts)
    given = {"models": models or (), "concepts": concepts or ()}
    checked(AskedNames, given, f"the flow run's choice of models and concepts for the spec {name}", SpecError)
    faults = (absent(KINDS[key], one, paths) for key, names in given.items() for one in names)
    if told := [fault for fault in faults if fault]:
        raise SpecError("\n".join(told))
    return wanted


def is_deployed() -> bool:
    """Whether this is a flow run of a deployment, and not a call on the user's own command line."""
    context = FlowRunContext.get()
    return context is not None and context.flow_run is not None and context.flow_run.deployment_id is not None


def method_folders() -> list[Path]:
    """The folders in STEERFLOW_METHOD_FOLDERS, which are separated as in PATH."""
    return [Path(folder) for folder in os.environ.get("STEERFLOW_METHOD_FOLDERS", "").split(os.pathsep) if folder]


def flow_run_name() -> str:
    """The name that the flow run was given, else what it does: its flow, concepts and models."""
    given = str(flow_run.name or "")
    return given if given and not was_drawn(given) else described(str(flow_run.flow_name), flow_run.parameters)


def described(flow: str, parameters: dict[str, Any]) -> str:
    """What a flow run does: `discover-vectors: sentiment on smollm2-135m (quickstart)`."""
    models, concepts = parameters.get("models"), parameters.get("concepts")
    try:
        spec = chosen_spec(parameters["spec"], models, concepts)
        models, concepts = list(spec.models), list(spec.concepts)
    except SteerflowError:  # the flow itself says what is wrong with the spec
        return f"{flow}: {Path(parameters['spec']).stem}"
    return f"{flow}: {_listed(concepts)} on {_listed(models)} ({Path(parameters['spec']).stem})"


def _listed(names: list[str]) -> str:
    short = [_short(name) for name in names]
    more = f" and {len(short) - NAMED} more" if len(short) > NAMED else ""
    return ", ".join(short[:NAMED]) + more


def _short(name: str) -> str:
    """`loud` for `somewhere/loud.yaml`, `gemma-2-2b-it` for `mlx-community/gemma-2-2b-it`."""
    path = Path(name)
    return path.stem if path.suffix in (".yaml", ".yml", ".json", ".jsonl", ".csv") else path.name


def was_drawn(name: str) -> bool:
    """Whether Prefect drew this name at random, as it does where nobody gives one: two words such as `wine-oyster`."""
    words = name.split("-")
    return len(words) == 2 and set(words) <= _words_drawn_from()


@functools.cache
def _words_drawn_from() -> frozenset[str]:
    parts: Any = vocabulary.values()  # it has no types
    return frozenset(word for part in parts for word in part.get("words", ()))
