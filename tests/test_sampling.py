"""Sampling: streams and batches agree, rows do not touch one another, texts end where they should."""

from collections.abc import Callable
from itertools import takewhile

import numpy as np
import pytest

from steering_core.backend.mlx import mx
from steering_core.engine import draws
from steering_core.engine.forward import advance, read
from steering_core.engine.growing_text import GrowingText
from steering_core.engine.probes import Probe, projections
from steering_core.engine.sampling import Request, Sample, sample, stream
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import InterventionError, PromptError
from steering_core.interventions.change import Change, Intervention, Where
from steering_core.models import Model
from tests.steered import PROMPTS, push


def grid(model: Model, n: int = 32) -> list[Request]:
    phases = ("all", "generation", "prompt")
    return [
        Request(PROMPTS[i % 3], push(model, i % 4, i % 5 - 2.0, phases[i % 3]) if i % 7 else Intervention(), seed=i)
        for i in range(n)
    ]


def sampled(model: Model, requests: list[Request], temperature: float = 0.9, **more: object) -> list[Sample]:
    found = dict(sample(model, requests, 12, temperature, Work(), **more))
    return [found[i] for i in range(len(requests))]


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_rows_tokens_are_the_same_alone_and_among_31_neighbours(tiny: Model, device: str, temperature: float) -> None:
    requests = grid(tiny)
    together = sampled(tiny, requests, temperature)
    assert len({s.tokens for s in together}) > 10
    for request, found in zip(requests[::3], together[::3], strict=True):
        assert sampled(tiny, [request], temperature) == [found]


def test_a_rows_logits_agree_to_four_digits_alone_and_among_31_neighbours(tiny: Model) -> None:
    requests = grid(tiny)
    work = Work()

    def first_logits(some: list[Request]) -> np.ndarray:
        batch = read(tiny, [r.tokens for r in some], [r.intervention for r in some], work)
        return np.array(advance(tiny, batch, batch.last, 0, work))

    together = first_logits(requests)
    alone = np.concatenate([first_logits([r]) for r in requests])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_streaming_equals_batch(tiny: Model, device: str) -> None:
    requests = grid(tiny, 8)
    whole = sampled(tiny, requests)
    with stream(tiny, requests, 12, 0.9) as tokens:
        drawn = list(tokens)
    for row, found in enumerate(whole):
        mine = [t for t in drawn if t.row == row]
        assert tuple(t.token for t in mine) == found.tokens
        assert "".join(t.text for t in mine) == found.text
        assert [t.finish for t in mine] == [None] * (len(mine) - 1) + [found.finish]


def test_rows_of_one_batch_take_turns(tiny: Model) -> None:
    requests = [Request(PROMPTS[0], seed=i) for i in range(3)]
    with stream(tiny, requests, 3, 1.5) as tokens:
        assert [next(tokens).row for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_a_cancelled_row_draws_no_more_and_the_others_go_on(tiny: Model, device: str) -> None:
    requests = grid(tiny, 4)
    whole = sampled(tiny, requests)
    drawn = []
    with stream(tiny, requests, 12, 0.9) as tokens:
        for token in tokens:
            drawn.append(token)
            if len(drawn) == 6:
                tokens.cancel(token.row)
    cancelled = drawn[5].row
    assert [t.row for t in drawn[6:]].count(cancelled) == 0
    for row in {0, 1, 2, 3} - {cancelled}:
        assert tuple(t.token for t in drawn if t.row == row) == whole[row].tokens


def test_a_closed_stream_ends(tiny: Model) -> None:
    tokens = stream(tiny, [Request(PROMPTS[0])], 50)
    next(tokens)
    tokens.close()
    assert list(tokens) == []


def test_a_longer_limit_only_adds_tokens(tiny: Model) -> None:
    request = Request(PROMPTS[0], seed=3)
    ((_, short),) = sample(tiny, [request], 5, 1.2, Work())
    ((_, long),) = sample(tiny, [request], 80, 1.2, Work())
    assert long.tokens[: len(short.tokens)] == short.tokens


def test_a_stop_string_ends_a_text_and_is_not_in_it(tiny: Model, device: str) -> None:
    request = Request(PROMPTS[0], seed=1)
    (plain,) = sampled(tiny, [request], 1.0)
    stop = plain.text[3:5]
    (found,) = sampled(tiny, [request], 1.0, stop=[stop])
    assert found.finish == "stop"
    assert found.text == plain.text[: plain.text.index(stop)]
    with stream(tiny, [request], 12, 1.0, [stop]) as tokens:
        assert "".join(t.text for t in tokens) == found.text


def test_a_rows_own_limit_ends_it_as_if_it_were_alone(tiny: Model, device: str) -> None:
    """With all that a stop string held back: its text is whole though its neighbour goes on."""
    (alone,) = (found for _, found in sample(tiny, [Request(PROMPTS[0], seed=4)], 3, 0.9, Work()))
    requests = [Request(PROMPTS[0], seed=4, max_tokens=3), Request(PROMPTS[1], seed=5)]
    held_back = (alone.text + "and never this",)
    short, long = sampled(tiny, requests, stop=held_back)
    assert (short.text, short.tokens, short.finish) == (alone.text, alone.tokens, "length")
    assert len(long.tokens) == 12
    with stream(tiny, requests, 12, 0.9, held_back) as tokens:
        assert "".join(token.text for token in tokens if token.row == 0) == alone.text


def test_a_text_ends_with_the_models_context(tiny: Model) -> None:
    room = 4
    tokens = (5, 17) * ((tiny.identity.context - room) // 2)
    found = sampled(tiny, [Request(tokens, seed=seed) for seed in range(4)])
    assert {len(s.tokens) for s in found if s.finish == "length"} == {room}
    assert all(len(s.tokens) <= room for s in found)


@pytest.mark.parametrize("amount", [1e38, 1e20])  # the second overflows in norms alone
def test_a_row_that_diverges_is_told_and_leaves_the_others_alone(tiny: Model, device: str, amount: float) -> None:
    calm = Request(PROMPTS[0], seed=5)
    wild = Request(PROMPTS[0], Intervention(push(tiny, 1, amount).changes * 9), seed=5)
    apart = sampled(tiny, [calm])[0]
    found = sampled(tiny, [wild, calm, wild])
    assert found[0] == Sample((), "diverged", "")
    assert found[1] == apart


def test_misfits_are_refused_before_anything_runs(tiny: Model) -> None:
    work = Work()
    width = tiny.identity.width
    nan = np.full(width, np.nan, np.float32)
    for change, words in (
        (Change(9, np.ones(width, np.float32)), "layer 9: the model has layers 0..3"),
        (Change(1, np.ones(7, np.float32)), "width 32"),
        (Change(1, nan), "not finite"),
        (Change(1, np.ones(width, np.float32), float("inf")), "not finite"),
        (Change(1, np.ones(width, np.float32), operation="melt"), "'melt' is not known"),
        (Change(1, np.zeros(width, np.float32), operation="clamp"), "needs a direction"),
        (Change(1, np.ones(width, np.float32), where=Where(positions=(-7,))), "before the prompt's beginning"),
    ):
        with pytest.raises(InterventionError, match=words):
            list(sample(tiny, [Request(PROMPTS[0]), Request(PROMPTS[0], Intervention((change,)))], 4, 0, work))
    with pytest.raises(PromptError, match="without tokens"):
        list(sample(tiny, [Request(())], 4, 0, work))
    assert work == Work()


def test_tokens_bring_their_projections(tiny: Model) -> None:
    direction = np.random.default_rng(8).standard_normal(32).astype(np.float32)
    probes = [Probe(2, direction), Probe(0, -direction)]
    request = Request(PROMPTS[0], push(tiny, 1))
    with stream(tiny, [request, Request(PROMPTS[0])], 5, probes=probes) as tokens:
        drawn = [t for t in tokens if t.row == 0]
    sequence = PROMPTS[0] + tuple(t.token for t in drawn)
    found = projections(tiny, sequence, probes, Work(), request.intervention, len(PROMPTS[0]))
    assert found.shape == (2, len(sequence))
    read_at = found[:, len(PROMPTS[0]) - 1 : -1]  # each token is drawn from the position before it
    np.testing.assert_allclose(read_at.T, [t.projections for t in drawn], atol=1e-4)


def test_shared_prompts_cost_their_tokens_once(tiny: Model) -> None:
    work = Work()
    requests = [Request(PROMPTS[0], push(tiny, i % 4), seed=i) for i in range(8)]
    list(sample(tiny, requests, 1, 0, work))
    assert work.tokens == len(PROMPTS[0]) - 1 + 8  # the stem once, and its last token in every row


def numbers(rows: int, n: int) -> np.ndarray:
    """The random numbers of the first token of `rows` seeds, (rows, n)."""
    keys = np.stack([next(draws.random_keys(seed)) for seed in range(rows)])
    return np.array(draws.uniforms(mx.array(keys), n))


def test_both_draws_agree() -> None:
    logits = np.random.default_rng(0).standard_normal((60, 200)).astype(np.float32) * 4
    uniform, temperature = numbers(60, 200), np.linspace(0.1, 2, 60, dtype=np.float32)
    on_device = draws.sampled_on_device(mx.array(logits), mx.array(temperature), mx.array(uniform))
    np.testing.assert_array_equal(draws.sampled(logits, temperature, uniform), np.array(on_device))


def threefry(key: np.ndarray, counter: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011), (2,) and (N,) twice -> (2 N,) uint32."""
    keys = [*key, key[0] ^ key[1] ^ np.uint32(0x1BD11BDA)]
    a, b = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for turn in map(np.uint32, ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]):
            a = a + b
            b = a ^ ((b << turn) | (b >> (np.uint32(32) - turn)))
        a, b = a + keys[(group + 1) % 3], b + keys[(group + 2) % 3] + np.uint32(group + 1)
    return np.concatenate([a, b])


@pytest.mark.filterwarnings("ignore:overflow encountered")  # the sums are meant modulo 2**32
def test_the_random_numbers_of_a_key_are_those_of_the_publication() -> None:
    """A device whose numbers were others would draw other texts."""
    zero = np.zeros(1, np.uint32)
    assert [hex(word) for word in threefry(np.zeros(2, np.uint32), (zero, zero))] == ["0x6b200159", "0x99ba4efe"]
    place = np.arange(500, dtype=np.uint32)
    for seed, found in enumerate(numbers(2, 1000)):
        words = threefry(next(draws.random_keys(seed)), (place, place + np.uint32(500)))
        np.testing.assert_allclose(found, words / 2**32, rtol=1e-7)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_follow_the_distribution(temperature: float) -> None:
    weights = np.array([0.5, 0.3, 0.15, 0.05, 0])
    with np.errstate(divide="ignore"):
        logits = np.log(weights).astype(np.float32)  # the last one -inf, as a filter leaves it
    n = 20_000
    found = draws.sampled(np.tile(logits, (n, 1)), np.full(n, temperature, np.float32), numbers(n, 5))
    expected = weights ** (1 / temperature) / (weights ** (1 / temperature)).sum()
    np.testing.assert_allclose(np.bincount(found, minlength=5) / n, expected, atol=0.015)


def test_rounding_hardly_ever_changes_a_draw() -> None:
    """Where a random number meets the cumulative distribution, six draws in a thousand were others here."""
    rng, n = np.random.default_rng(0), 400
    logits = (1.6 * rng.standard_normal((n, 50_000))).astype(np.float32)
    other = logits * (1 + 1e-6 * rng.standard_normal(logits.shape)).astype(np.float32)
    uniform, temperature = numbers(n, 50_000), np.full(n, 0.7, np.float32)
    np.testing.assert_array_equal(
        draws.sampled(logits, temperature, uniform.copy()), draws.sampled(other, temperature, uniform)
    )


def test_the_least_random_number_wins_nothing_by_itself() -> None:
    logits = np.array([[0, 0, 60]], np.float32)
    assert draws.sampled(logits, np.ones(1, np.float32), np.array([[0, 0.5, 0.5]], np.float32)) == 2


def bytes_text(tokens: list[int]) -> str:
    return bytes(tokens).decode("utf-8", errors="replace")


@pytest.mark.parametrize(("stop", "whole"), [((), "naïve — 🌉 end"), (("🌉",), "naïve — "), (("zzz", "e —"), "naïv")])
def test_texts_grow_by_certain_pieces(stop: tuple[str, ...], whole: str) -> None:
    text = GrowingText(bytes_text, stop)
    pieces = []
    for token in takewhile(lambda _: not text.stopped, "naïve — 🌉 end".encode()):
        pieces.append(text.add(token))
        assert "�" not in pieces[-1]
    pieces.append(text.end())
    assert "".join(pieces) == text.text == whole


def test_an_unfinished_character_shows_at_the_end() -> None:
    text = GrowingText(bytes_text)
    assert text.add("é".encode()[0]) == ""
    assert text.end() == "�"


def decoder(model: Model) -> Callable[[list[int]], str]:
    return lambda tokens: model.text(tokens)


@pytest.mark.real
def test_texts_grow_to_what_a_real_tokenizer_decodes(real: Model) -> None:
    tokens = real.tokenizer.encode("Ça va — 🌉 naïve, isn't it?\n\n  def f(x):\n\treturn “x” 你好 <|im_end|>")
    text = GrowingText(decoder(real))
    pieces = [text.add(token) for token in tokens] + [text.end()]
    assert "".join(pieces) == real.text(tokens)
