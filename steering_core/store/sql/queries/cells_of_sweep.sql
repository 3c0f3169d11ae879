-- What became of every cell of one sweep, worst first. Parameter: sweep.
SELECT
    model, concept, outcome, verdict, method, array_to_string(layers, ', ') AS layers, dose, effect,
    CASE WHEN effect IS NOT NULL THEN format('[{:.3f}, {:.3f}]', effect_low, effect_high) END AS interval,
    perplexity_ratio, previous_effect AS before, change, CASE WHEN regression THEN 'REGRESSION' END AS regression,
    computed, reused, seconds, error, previous_sweep, previous_sweep_at
FROM sweep_history
WHERE sweep = ?
ORDER BY outcome DESC, sweep_history.regression DESC, model, concept;
