"""Vectors: directions derived from stored activations, or trained.

`contrast` reads a concept's rows, `methods` has one small function a method, `controls` what stands beside a vector,
`derive` puts them together. Trained methods ask the model by way of `training`; `descent` trains, and `train` stores.
`stability` measures, `quality` stores what was measured; `discovery` needs no labels. `vector` is what comes out,
`library` finds it by name, `resolve` finds those of an expression, `algebra` combines vectors, `meaning` says a vector
in words and prompts, and `lens` scores what it says of a concept's answers.
"""
