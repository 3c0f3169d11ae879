"""The functions that stand in for MLX's on a CPU agree with MLX's."""

import platform
import resource
from pathlib import Path

import numpy as np
import pytest

from steering_core.backend.mlx import mx, nn, on_cpu
from steering_core.models import cpu, mlx_lm
from steering_core.models.mlx_lm import lazy_network


def drawn(*shape: int, seed: int = 0) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed))


@pytest.mark.skipif(not on_cpu(), reason="for CPUs alone")
def test_a_network_has_them_whatever_was_imported_before_it_was_loaded(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_lm.models import llama

    monkeypatch.setattr(llama, "swiglu", mlx_lm._swiglu)
    monkeypatch.setattr(llama, "scaled_dot_product_attention", mlx_lm._scaled_dot_product_attention)
    lazy_network(tiny_folder, full_precision=True)
    assert llama.swiglu is mlx_lm._fast_swiglu
    assert llama.scaled_dot_product_attention is mlx_lm._fast_attention


@pytest.mark.skipif(not on_cpu() or platform.libc_ver()[0] != "glibc", reason="for glibc alone")
def test_freed_memory_is_used_again() -> None:
    cpu.keep_freed_memory()

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        mx.eval(mx.zeros((16 << 20,)))  # 16,384 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    assert min(faults() for _ in range(5)) < 1000


def test_exp_is_exact_to_float32_over_its_range() -> None:
    x = np.linspace(-87, 87, 100_001).astype(np.float32)
    relative = np.array(cpu.exp(mx.array(x))) / np.exp(x.astype(np.float64)) - 1
    assert np.abs(relative).max() < 1e-5  # the argument itself is rounded: 87 x 2^-24
    near = np.abs(x) < 2
    assert np.abs(relative[near]).max() < 5e-7


def test_exp_keeps_nan() -> None:
    assert np.isnan(np.array(cpu.exp(mx.array([float("nan")])))).all()


def test_norms() -> None:
    x, weight = 10 * drawn(3, 5, 33), drawn(33, seed=1)
    np.testing.assert_allclose(cpu.norms(x), np.linalg.norm(np.array(x), axis=-1), rtol=1e-6)
    expected = mx.fast.rms_norm(x, weight, 1e-5)
    np.testing.assert_allclose(cpu.rms_norm(x, weight, 1e-5), expected, rtol=1e-6, atol=1e-6)


def test_swiglu() -> None:
    gate, x = 10 * drawn(7, 33), drawn(7, 33, seed=1)
    np.testing.assert_allclose(cpu.swiglu(gate, x), nn.silu(gate) * x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("length", "total"), [(1, 9), (1, 900), (4, 9), (9, 9)])
@pytest.mark.parametrize("kind", ["none", "causal", "bool", "float"])
def test_attention(length: int, total: int, kind: str) -> None:
    """Of one query the few scores go through another exp than the many."""
    assert 2 * 6 * 9 <= cpu._FEW < 2 * 6 * 900
    q, k, v = drawn(2, 6, length, 8), drawn(2, 3, total, 8, seed=1), drawn(2, 3, total, 8, seed=2)
    seen = mx.arange(total) <= mx.arange(total - length, total)[:, None]
    mask = {"none": None, "causal": "causal", "bool": seen, "float": mx.where(seen, 0.5, float("-inf"))}[kind]
    expected = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.3, mask=mask)
    np.testing.assert_allclose(cpu.attention(q, k, v, 0.3, mask), expected, atol=1e-5)
