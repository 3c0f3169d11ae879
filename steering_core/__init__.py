"""steerflow's core: find, prove and apply steering vectors for language models on MLX.

The modules read as the pipeline does: spec, concepts, models, taps, interventions, activations, vectors, generations,
scores, recommendations, store. Importing this package loads neither MLX nor Prefect.
"""

__version__ = "0.1.0"
