"""Scores: what an intervention does and what it costs.

`metrics` measures one item or one text (one function each), `measure` does so for the cells of a grid where the store
lacks it, `summary` turns measurements into scores with intervals.
"""
