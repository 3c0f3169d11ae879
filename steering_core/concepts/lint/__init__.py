"""What ruins vectors, found before any model runs: `check.lint` runs every check on a concept.

`finding` is what a check says, `texts` and `probe` measure texts without a model; `contrast`, `rows`, `items` and
`tokens` hold the checks.
"""
