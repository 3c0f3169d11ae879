"""The Python API: texts under any intervention (`generate`), and vectors from a few texts (`quick_vectors`)."""
