"""Vectors: directions derived from stored activations.

`contrast` reads a concept's rows, `methods` is one small function a method, `controls` what stands beside it, `derive`
puts them together; `separation` and `stability` measure, `quality` stores what they found; `discovery` needs no labels.
`vector` is what comes out, `library` finds it by name, `algebra` combines it, `meaning` says it in words and prompts.
"""
