"""Pipeline: the stages of a run in their order.

`stages` is the list of stages, `cells` goes through every model and concept, `discover` orders the stages of one cell,
`measuring` calibrates vectors and sweeps layers. `wanted` is what a spec asks of a model and a concept, `rows` is
concepts as the store holds them.
"""
