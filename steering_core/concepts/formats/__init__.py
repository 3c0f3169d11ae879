"""Everybody else's formats: a file is recognised by what it holds, never by what it is called.

`contents` turns bytes into rows or a mapping (`tables` and `json_text` know their syntax), `shapes` and `labels` make rows of
other shapes, `columns` a concept of rows (`row_texts` and `messages` read a row), `personas` other forms. `read` tries each, and
`refusal` says what would read the rest. `sides` holds files of plain texts, `choices` A/B questions, `hub` data sets.
"""
