"""Interventions: what is done to the residual stream, as data.

`change` says what, `where` at which tokens, which `spans` and `turns` find in a prompt. `declarations` says what
operations there are, `operations` how each is done (one function each). `expression` says all of it in one line, and
`parsing` reads that line. The engine turns interventions into edits for taps.
"""
