"""Models: by name, identified by content, loaded when used.

    with open_model("mlx-community/gemma-2-2b-it-4bit") as model: ...

`embedded` knows the models that come from the package index, `hub` those of the Hugging Face hub, `folders` what a
folder must hold, `loaded` what mlx-lm has loaded already, `code` which folders may run Python of their own, `identity`
what makes a model the same one, `shared_names` what others may call it; `mlx_lm` is the only importer of mlx-lm, which
`quick_transformers` makes quicker.
"""

from steering_core.models.embedded import EMBEDDED
from steering_core.models.identity import ModelIdentity
from steering_core.models.model import Model, model_folder, open_model

__all__ = ["EMBEDDED", "Model", "ModelIdentity", "model_folder", "open_model"]
