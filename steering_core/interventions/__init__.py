"""Interventions: what is done to the residual stream, as data.

`change` says what and where, `operations` how (one function each), `steering` turns a batch's rows into edits for taps.
"""
