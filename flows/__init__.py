"""Flows: the pipeline's stages in their order, as Prefect tasks that the store makes cheap to repeat."""
