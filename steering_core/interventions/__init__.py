"""Interventions: what is done to the residual stream, as data.

`change` says what, `where` at which tokens, `operations` how (one function each). `expression` says all of it in one
line, and `parsing` reads that line. The engine turns interventions into edits for taps.
"""
