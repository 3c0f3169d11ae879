"""What a model is called in files that are given to others: a path is of one machine, and a folder's name is not."""

import dataclasses
from pathlib import PurePath

from steering_core.foundation.user_files import home_expanded, is_folder
from steering_core.models.embedded import EMBEDDED
from steering_core.models.hub import hub_model
from steering_core.models.identity import ModelIdentity

MODEL_FOLDER = "MODEL_FOLDER"
"""Stands in a command that is given to others for the folder of a model."""


def is_path(name: str) -> bool:
    """Whether a model is named by a path, whether or not there is a folder now."""
    return name not in EMBEDDED and (hub_model(name) is None or is_folder(home_expanded(name)))


def shared_name(name: str, otherwise: str = "model") -> str:
    """What others may call the model `name`: an embedded or a hub model's own name, else the last part of its path.

    A path without such a part (`..`) gives `otherwise`.
    """
    if not is_path(name):
        return name
    last = PurePath(name).name
    return otherwise if last in ("", "..", "~") else last


def shared_identity(model: ModelIdentity) -> ModelIdentity:
    """The identity of a model by the name that others may call it."""
    return dataclasses.replace(model, name=shared_name(model.name, model.architecture))
