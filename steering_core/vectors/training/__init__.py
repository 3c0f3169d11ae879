"""Training: directions that a model is asked for, by passes over a concept's pairs.

`pairs` are the answers, `pair_passes` says what vectors do to them, and a method is given that at one layer,
`at_layer`, or at several, `joint`. `descent` trains along gradients; `fits` stores what comes of it.
"""
