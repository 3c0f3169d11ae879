"""Packs: vectors with their evidence, as a folder to share.

`pack` writes one, `evidence` finds what it tells and `card` tells it; `unpack` checks and opens one, from a folder or
the hub.
"""
