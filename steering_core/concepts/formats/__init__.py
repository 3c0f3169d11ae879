"""Everybody else's formats: a file is recognised by what it holds, never by what it is called.

`contents` turns bytes into rows or a mapping, `forms` says what those can be, `read` ties the two together.
"""
