"""Vectors: directions derived from stored activations, or trained.

`contrast` reads a concept's rows, `methods` has one small function a method, `controls` what stands beside a vector,
`derive` puts them together. `training` holds what trained methods ask the model by, and stores their vectors.
`stability` measures, `quality` stores what was measured; `discovery` needs no labels. `vector` is what comes out,
`library` finds it by name, `resolve` finds an expression's vectors, `algebra` combines vectors, `meaning` names the
tokens and prompts that a vector points to, and `lens` scores a vector on a concept's answers without steering.
"""
