"""Everybody else's formats: a file is recognised by what it holds, never by what it is called.

`contents` turns bytes into rows or a mapping (`tables` and `json_text` know the syntax), `shapes` and `labels` make
rows of other shapes, `columns` a concept of rows (`row_texts` and `messages` read one), `personas` holds other forms.
`read` tries each, and `refusal` says what would read the rest. `sides` reads files of plain texts, `choices` exchanges
the options of questions, `hub` fetches data sets.
"""
