"""Interventions: what is done to the residual stream, as data.

`change` says what, `where` at which tokens, `operations` how (one function each), `steering` turns a batch's rows into
edits for taps. `expression` says all of it in one line: `parsing` reads it, `resolve` looks its vectors up.
"""
