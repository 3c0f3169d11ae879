"""Candidates: the cells of a grid, their chance controls and combinations, and the texts sampled under them."""
