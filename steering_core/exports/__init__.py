"""Exports: files of vectors that other tools read, and back.

`vector_file` is what every form writes and reads, `safetensors`, `gguf` and `pytorch` are the forms.
"""
