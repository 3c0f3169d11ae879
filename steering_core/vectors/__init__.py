"""Vectors: directions derived from stored activations.

`methods` is one small function a method, `derive` applies them to the store's rows, `vector` is what comes out.
"""
