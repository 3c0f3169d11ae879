"""Everybody else's formats: a file is recognised by what it holds, never by what it is called.

`contents` turns bytes into rows or a mapping, `read` tries each form on them. `columns`, `choices`, `personas` and
`json_text` hold the forms, `hub` fetches data sets.
"""
