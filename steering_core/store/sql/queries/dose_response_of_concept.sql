-- Effect over dose of what steers one layer, and of its controls, on validation, where all were tried. `recommended` says
-- which candidate the latest recommendation is. Vectors that were given, not derived, may share a layer, and go by their
-- names; those that no run searched are left out.
-- Parameters: model_id, concept_id.
WITH mine AS (
    SELECT *, coalesce(control, 'candidate') AS kind
    FROM leaderboard
    WHERE model_id = ? AND concept_id = ? AND effect IS NOT NULL AND coalesce(control, '') NOT IN ('prompt', 'with_prompt')
        AND (control = 'none' OR (layer IS NOT NULL AND dose IS NOT NULL))
        AND (vector_id IS NULL OR vector_id IN (FROM searched_library)
            OR vector_id IN (SELECT vector_id FROM raw.vectors v WHERE v.concept_id = leaderboard.concept_id))
), latest AS (
    SELECT r.intervention_id
    FROM raw.recommendations r
    SEMI JOIN mine USING (model_id, concept_id)
    LEFT JOIN (SELECT unnest(recommendation_ids) AS recommendation_id, started_at FROM raw.runs) USING (recommendation_id)
    ORDER BY started_at DESC NULLS LAST
    LIMIT 1
)
SELECT
    CASE method WHEN 'given' THEN coalesce(name, method) ELSE method END AS method,
    layer, dose, effect, effect_low, effect_high, perplexity_ratio, split, n, kind, vector_id,
    kind = 'candidate' AND intervention_id IN (FROM latest) AS recommended
FROM mine
WHERE split = (SELECT max(split) FROM mine WHERE kind = 'candidate')
ORDER BY kind, method, layer, vector_id, dose;
