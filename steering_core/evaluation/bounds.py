"""Bounds: the damage that a recommended vector may do, and the figures by which damage predicts perplexity ratios."""

import math
from dataclasses import dataclass

USUAL_SLOPE, SLOPE_SPREAD = 1.4, 0.45  # log perplexity ratio over damage: ten concepts of SmolLM2 (docs/evaluation.md)
LEAST_SLOPE = 0.5  # two deviations below the usual: texts plainer than that do not say how far damage may go
TEXT_SPREAD, SPREAD_WEIGHT = 0.41, 4  # standard deviation of one text's log ratio, and its degrees of freedom
OTHER_PROMPTS = 0.08  # how far log perplexity ratios differ between halves of a concept's prompts (one deviation)
MARGIN = 0.6  # the share of the allowed logarithm that a candidate is dosed to, since its slope is not known well
TOLERATED = 0.85  # the share of the allowed logarithm up to which a dose that was tried is kept


def allowed_damage(perplexity_ratio: float, slope: float = USUAL_SLOPE) -> float:
    """The damage that predicts a perplexity ratio, in nats per token; no slope counts as less than `LEAST_SLOPE`."""
    return math.log(perplexity_ratio) / max(slope, LEAST_SLOPE)


@dataclass(frozen=True)
class Bounds:
    """The damage that a recommended vector may do: as a ratio of perplexities, and in nats on neutral next tokens."""

    perplexity_ratio: float
    kl: float

    def wanted_damage(self, slope: float = USUAL_SLOPE) -> float:
        """The damage that candidates are compared at, in nats per token: below what is allowed, by a margin."""
        return MARGIN * allowed_damage(self.perplexity_ratio, slope)

    def share(self, predicted: float) -> float:
        """The predicted logarithm of a perplexity ratio / the allowed one: 1 is at the bound."""
        return predicted / math.log(self.perplexity_ratio)
