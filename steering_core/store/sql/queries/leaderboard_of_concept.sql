-- The leaderboard of one model and concept. Parameters: model_id, concept_id.
SELECT
    split, method, layer, alpha, dose, coalesce(control, '') AS control, effect,
    CASE WHEN effect IS NOT NULL THEN format('[{:.3f}, {:.3f}]', effect_low, effect_high) END AS interval,
    over_controls, perplexity_ratio, repetition, n
FROM leaderboard
WHERE model_id = ? AND concept_id = ?
ORDER BY split, effect DESC NULLS LAST, control;
