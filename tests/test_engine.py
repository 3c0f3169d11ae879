"""The engine: forks, scores and samples agree with plain forward passes."""

import numpy as np

from steering_core.backend.mlx import mx
from steering_core.engine.sampling import Request, sample
from steering_core.engine.teacher_forcing import Scored, log_probabilities
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Change, Intervention, Where
from steering_core.models import Model

PROMPT = (5, 17, 40, 99, 120, 7)


def plain_logits(model: Model, tokens: tuple[int, ...]) -> np.ndarray:
    return np.array(model.network(mx.array([tokens])))[0]


def steered(model: Model, layer: int, amount: float = 3.0, phase: str = "generation") -> Intervention:
    direction = np.random.default_rng(layer).standard_normal(model.identity.width).astype(np.float32)
    return Intervention((Change(layer, direction, amount, "add", Where(phase)),))


def test_scores_are_the_log_probabilities_of_a_plain_pass(tiny: Model) -> None:
    answer = (30, 31, 32)
    (found,) = log_probabilities(tiny, [Scored(PROMPT + answer, len(PROMPT))], Work())
    logits = plain_logits(tiny, PROMPT + answer)[len(PROMPT) - 1 : -1]
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(found, expected[range(3), answer], atol=1e-4)


def test_steering_changes_scores_and_leaves_neighbours_alone(tiny: Model) -> None:
    answer = (30, 31, 32)
    plain = Scored(PROMPT + answer, len(PROMPT))
    pushed = Scored(PROMPT + answer, len(PROMPT), steered(tiny, 1))
    alone = log_probabilities(tiny, [plain], Work())[0]
    together = log_probabilities(tiny, [pushed, plain, pushed], Work())
    np.testing.assert_allclose(together[1], alone, atol=1e-4)
    assert np.abs(together[0] - alone).max() > 0.01
    np.testing.assert_array_equal(together[0], together[2])


def test_greedy_samples_follow_the_plain_models_argmax(tiny: Model) -> None:
    ((_, found),) = sample(tiny, [Request(PROMPT)], max_tokens=6, temperature=0, work=Work())
    tokens = PROMPT
    for token in found.tokens:
        assert token == int(plain_logits(tiny, tokens)[-1].argmax())
        tokens += (token,)
    assert len(found.tokens) == 6 or found.finish == "stop"


def test_a_rows_text_does_not_depend_on_its_neighbours(tiny: Model) -> None:
    requests = [
        Request(PROMPT, steered(tiny, i % 4, 3.0, phase), seed=i) for i, phase in enumerate(["all", "generation"] * 4)
    ]
    together = dict(sample(tiny, requests, max_tokens=8, temperature=0.8, work=Work()))
    for i, request in enumerate(requests):
        ((_, alone),) = sample(tiny, [request], max_tokens=8, temperature=0.8, work=Work())
        assert alone == together[i]
