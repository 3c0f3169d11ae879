"""Specs as the verbs read them: a spec that somebody named may allow a model's own code to run."""

from pathlib import Path

from steering_core.models.code import allow_code
from steering_core.spec import Spec
from steering_core.spec_files import load_spec


def allowed_spec(name: str | Path) -> Spec:
    """The spec of that name, after the folders of its `allow_code` may run their own Python in this process."""
    spec = load_spec(name)
    for folder in spec.allow_code:
        allow_code(folder)
    return spec
