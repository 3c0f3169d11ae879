"""Baking: a steered model as a folder of its own, which mlx-lm opens without this project.

`bakeable` says what of an expression weights can hold, `writers` which matrices write into the stream, `forms` how an
architecture takes a vector, `folder` and `adapter` write, `proof` holds the result against the runtime, `comparison`
says what it does, `card` tells of it, and `bake` puts these in order.
"""
