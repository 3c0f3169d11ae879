"""`python -m steering_core.backend`: which BLAS was measured and is used; `--again` measures anew."""

import sys

from steering_core.backend.blas import chosen, described
from steering_core.backend.mlx import blas

shown = described(chosen(again="--again" in sys.argv[1:]))
sys.stdout.write(f"{shown}\nused: {blas.library if blas else 'what MLX was built with'}\n")
