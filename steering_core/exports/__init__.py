"""Exports: files of vectors that other tools read, and back.

`vector_file` is what every form writes and reads, `safetensors`, `gguf`, `pytorch` and `numpy_files` are the forms.
`foreign` and `tensor_names` say which layer a tensor of another tool's file is, and `glp` what a GGUF file is for.
"""
