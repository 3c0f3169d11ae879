"""Vectors: directions derived from stored activations.

`contrast` reads a concept's rows, `methods` is one small function a method, `controls` what stands beside it, `derive`
puts them together; `stability` measures, `quality` stores what was measured; `discovery` needs no labels. `vector` is
what comes out, `library` finds it by name, `resolve` finds those of an expression, `algebra` combines vectors, and
`meaning` says a vector in words and prompts.
"""
