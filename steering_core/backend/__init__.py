"""The backend: MLX with a real BLAS behind it. `mlx` imports both, `blas` measures which BLAS is the fastest here."""
