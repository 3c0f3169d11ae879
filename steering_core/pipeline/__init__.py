"""Pipeline: the stages of a run in their order. `stages` holds each one, `layer_sweep` measures every layer."""
