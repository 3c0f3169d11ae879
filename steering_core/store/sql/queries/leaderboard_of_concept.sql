-- The leaderboard of one model and concept: the trial on test with its controls, and every candidate on validation.
-- Parameters: model_id, concept_id.
SELECT
    split, called AS method, array_to_string(layers, ', ') AS layers, alpha, dose, coalesce(control, '') AS control, effect,
    CASE WHEN effect IS NOT NULL THEN format('[{:.3f}, {:.3f}]', effect_low, effect_high) END AS interval,
    over_controls, p_value, kl, perplexity_ratio, n, n_missing
FROM leaderboard
WHERE model_id = ? AND concept_id = ? AND (split = 'test' OR control IS NULL OR control IN ('none', 'prompt', 'with_prompt'))
ORDER BY split, effect DESC NULLS LAST, control;
