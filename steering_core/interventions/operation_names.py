"""The operations' names, for whoever checks text without loading MLX. The functions are in `operations`."""

OPERATION_NAMES = ("add", "ablate", "clamp", "rotate", "replace")
