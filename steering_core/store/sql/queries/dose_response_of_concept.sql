-- Effect over dose of what steers one layer, and of its controls, on validation, where all were tried.
-- Parameters: model_id, concept_id.
WITH mine AS (
    SELECT *, coalesce(control, 'candidate') AS kind
    FROM leaderboard
    WHERE model_id = ? AND concept_id = ? AND effect IS NOT NULL AND coalesce(control, '') NOT IN ('prompt', 'with_prompt')
        AND (control = 'none' OR (layer IS NOT NULL AND dose IS NOT NULL))
)
SELECT method, layer, dose, effect, effect_low, effect_high, perplexity_ratio, split, n, kind
FROM mine
WHERE split = (SELECT max(split) FROM mine WHERE kind = 'candidate')
ORDER BY kind, method, layer, dose;
