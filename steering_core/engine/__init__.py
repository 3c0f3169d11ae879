"""The engine: passes over a batch whose every row has its own intervention.

`forward` reads prompts and advances by a token, `sharing`, `trunk` and `prefixes` spare what rows have in common,
`sampling` draws new tokens and `teacher_forcing` scores given ones. `decoding` is the loop below `sampling` and
`running`, in which rows come and go.
"""
