"""Activations: the residual stream inside every wanted block, at a position of each prompt, extracted once.

`sites` and `positions` say what is read; `passes` plans forward passes that run each shared prefix once; `capture` runs
them; `shards` writes what they found; `extract` has the store hold what it lacks, and `forecast` says what that costs.
"""
