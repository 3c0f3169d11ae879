"""Reductions of a block's output, (B, T, D) of any float type, accumulated in float32.

MLX's own reductions want the stream as float32 first, twice its size, written and read again: with every layer
captured that is a twelfth of a forward pass on an H100. On CUDA each reduction is a kernel that reads the stream once,
in its own type.
"""

from functools import cache
from typing import Any

from steering_core.backend.mlx import mx, on_cpu
from steering_core.models import cpu

_THREADS = 256  # of a block
_SPACE = 1 << 14  # elements of padding, 64 KiB: MLX reuses a free buffer that is up to 32 KiB larger than is asked for


def norms_of(h: mx.array) -> mx.array:
    """Norms of the stream's vectors, (B, T, D) -> (B, T) float32."""
    if not _in_kernels(h):
        return cpu.norms(h.astype(mx.float32)) if on_cpu() else _norms(h)
    rows, length, width = h.shape
    (norms,) = _kernel("norms", ("h",))(
        inputs=[h],
        template=[("T", h.dtype), ("WIDTH", width)],
        grid=(_THREADS * rows * length, 1, 1),
        threadgroup=(_THREADS, 1, 1),
        output_shapes=[(rows, length)],
        output_dtypes=[mx.float32],
    )
    return norms


def weighted_sums(weights: mx.array, h: mx.array) -> mx.array:
    """Weighted sums over tokens, (B, K, T) float32 and (B, T, D) -> (B, K, D) float32."""
    if not _in_kernels(h):
        return weights @ h.astype(mx.float32)
    rows, choices, width = *weights.shape[:2], h.shape[-1]
    (sums,) = _kernel("sums", ("weights", "h"))(
        inputs=[weights, h],
        template=[("T", h.dtype), ("WIDTH", width)],
        grid=(_THREADS * rows * choices, -(-width // (2 * _THREADS)), 1),
        threadgroup=(_THREADS, 1, 1),
        output_shapes=[(rows, choices, width)],
        output_dtypes=[mx.float32],
    )
    return sums


def in_own_buffer(x: mx.array) -> mx.array:
    """`x`, on CUDA copied into a buffer of a size that no other array has; elsewhere `x` itself.

    NumPy's reading moves a CUDA buffer into the host's part of managed memory. MLX would then reuse that buffer for the
    next array of the same size, and the device would compute on it page by page.
    """
    if not _on_cuda():
        return x
    return mx.concatenate([x.reshape(-1), mx.zeros(_SPACE, x.dtype)])[: x.size].reshape(x.shape)


@cpu.compiled
def _norms(h: mx.array) -> mx.array:
    return mx.sqrt(h.astype(mx.float32).square().sum(axis=-1))


def _in_kernels(h: mx.array) -> bool:
    return _on_cuda() and h.shape[-1] % 2 == 0


def _on_cuda() -> bool:
    """Whether MLX computes on a CUDA device: one may be there, and a CPU be chosen."""
    return not on_cpu() and mx.cuda.is_available()


@cache
def _kernel(name: str, inputs: tuple[str, ...]) -> Any:
    """The CUDA kernel that makes `name` of `inputs`. Two neighbouring components are read at once."""
    return mx.fast.cuda_kernel(f"steerflow_{name}", list(inputs), [name], _SOURCES[name], header=_HEADER)


_HEADER = """
template <typename T> struct alignas(2 * sizeof(T)) Two { T first, second; };
"""

_SOURCES = {
    "norms": """  // a block for each token
        const auto* vector = reinterpret_cast<const Two<T>*>(h) + (size_t)blockIdx.x * (WIDTH / 2);
        float total = 0;
        for (int d = threadIdx.x; d < WIDTH / 2; d += blockDim.x) {
            const float a = static_cast<float>(vector[d].first), b = static_cast<float>(vector[d].second);
            total += a * a + b * b;
        }
        for (int lane = 16; lane; lane /= 2) total += __shfl_xor_sync(0xffffffffu, total, lane);
        __shared__ float of_warp[32];
        if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = total;
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int warp = 1; warp < blockDim.x / 32; ++warp) total += of_warp[warp];
            norms[blockIdx.x] = sqrtf(total);
        }
    """,
    "sums": """  // a thread for two components of a row's choice of tokens
        const int d = blockIdx.y * blockDim.x + threadIdx.x, length = h_shape[1];
        if (d >= WIDTH / 2) return;
        const size_t row = blockIdx.x / weights_shape[1];
        const auto* column = reinterpret_cast<const Two<T>*>(h) + row * length * (WIDTH / 2) + d;
        const float* weight = weights + (size_t)blockIdx.x * length;
        float a = 0, b = 0;
        #pragma unroll 8
        for (int t = 0; t < length; ++t) {
            const Two<T> two = column[(size_t)t * (WIDTH / 2)];
            a += weight[t] * static_cast<float>(two.first);
            b += weight[t] * static_cast<float>(two.second);
        }
        reinterpret_cast<float2*>(sums)[(size_t)blockIdx.x * (WIDTH / 2) + d] = make_float2(a, b);
    """,
}
