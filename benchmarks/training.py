"""What training costs beside the plain way, and what trained vectors do at equal damage.

    python -m benchmarks.training                                   # seconds, on the embedded model
    python -m benchmarks.training --effects refusal politeness      # effects on test items at equal damage
    python -m benchmarks.training --tiny                            # both once, small, on a tiny random model

The plain way runs every pair's two whole texts through the whole network, one after another, as code that has nothing
but `mx.value_and_grad` does. Damage is the cross-entropy gap on the untouched model's own answers to neutral prompts:
how much less probable, in nats a token, the steered model's tokens are to the untouched one, than its own.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.telling import say
from steering_core.activations.in_memory import activations_of
from steering_core.backend.mlx import mx
from steering_core.concepts import Concept, Item, Pair, load_concept
from steering_core.concepts.neutral import neutral_prompts
from steering_core.engine.gradients import Answer, Answers
from steering_core.engine.sampling import Request, sample_texts
from steering_core.foundation.counting import Work
from steering_core.models import Model, open_model
from steering_core.models.cpu import with_gradients
from steering_core.prompts import item_prompts, open_prompt, pair_prompt
from steering_core.vectors.controls import random_direction
from steering_core.vectors.train import trained_direction
from steering_core.vectors.training import PairPasses, Training, answer_pair, dealt_labels
