"""The engine: passes over a batch whose every row has its own intervention.

`forward` reads prompts and advances by a token, `sharing` and `trunk` spare what rows have in common, `sampling` draws
new tokens and `teacher_forcing` scores given ones.
"""
