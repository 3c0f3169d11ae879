"""The metrics' names, for specs: what each one reads and says. The functions are in `metrics`, `probe` and `judge`."""

METRICS = {
    "propensity": "items: mean log-probability per token of the matching minus the not matching continuation, in nats",
    "kl": "neutral prompts: KL divergence of the next token's distribution from the untouched model's, in nats",
    "perplexity": "texts: perplexity of the sampled tokens under the untouched model",
    "repetition": "texts: share of three-token runs that occurred before in the text",
    "distinct_2": "texts: share of two-token runs that are different from each other",
    "diverged": "texts: 1 where sampling met inf or nan, otherwise 0",
    "words": "texts: the concept's words for it minus those against it, over both, from -1 to 1",
    "probe": "texts: probability of the concept's positive side, by a classifier of other pairs' activations",
    "judge": "texts: how far the concept shows, 0 to 1, by the language model that scores.judge names",
}
DEFAULT_METRICS = ("propensity", "kl", "perplexity", "repetition", "distinct_2", "diverged")
