-- Effect over dose of what steers one layer, and of its controls, on validation, where all were tried. `recommended` says
-- which candidate the latest recommendation is. Vectors that were given, not derived, may share a layer, and go by their
-- names; those that no run searched are left out.
-- Parameters: model_id, concept_id.
WITH mine AS (
    SELECT *, coalesce(control, 'candidate') AS kind
    FROM searched_leaderboard
    WHERE model_id = ? AND concept_id = ? AND effect IS NOT NULL AND coalesce(control, '') NOT IN ('prompt', 'with_prompt')
        AND (control = 'none' OR (layer IS NOT NULL AND dose IS NOT NULL))
), latest AS (
    SELECT r.intervention_id
    FROM raw.recommendations r
    SEMI JOIN mine USING (model_id, concept_id)
    LEFT JOIN (SELECT unnest(recommendation_ids) AS recommendation_id, started_at FROM raw.runs) USING (recommendation_id)
    ORDER BY started_at DESC NULLS LAST
    LIMIT 1
)
SELECT
    called AS method,
    layer, dose, effect, effect_low, effect_high, perplexity_ratio, split, n, kind, vector_id,
    kind = 'candidate' AND intervention_id IN (FROM latest) AS recommended
FROM mine
WHERE split = (SELECT max(split) FROM mine WHERE kind = 'candidate')
ORDER BY kind, method, layer, vector_id, dose;
