"""What ruins vectors, found before any model runs: `check.lint` runs every check on a concept.

`finding` is what a check says, `wording` and `shallow_probe` measure texts without a model; `sides`, `rows`,
`items` and `tokens` hold the checks.
"""
