"""The metrics' names, for specs: what each one reads and says. The functions are in `metrics`."""

METRICS = {
    "propensity": "items: mean log-probability per token of the matching minus the not matching continuation, in nats",
    "perplexity": "texts: perplexity of the sampled tokens under the untouched model",
    "repetition": "texts: share of three-token runs that occurred before in the text",
}
