-- The latest recommendation for each model and concept, by their names.
SELECT
    r.model, r.concept, r.verdict, r.called AS method,
    array_to_string(r.layers, ', ') AS layers, r.layers[1] AS first_layer,
    r.alpha, r.dose, r.effect, r.effect_low, r.effect_high, r.control_effect, r.perplexity_ratio, r.n, r.n_missing,
    r.reason, r.intervention, r.vector_id, r.intervention_id, r.model_id, r.concept_id, r.recommendation_id
FROM recommendations r
LEFT JOIN (SELECT unnest(recommendation_ids) AS recommendation_id, started_at FROM runs) ran USING (recommendation_id)
QUALIFY row_number() OVER (PARTITION BY r.model, r.concept ORDER BY ran.started_at DESC NULLS LAST) = 1
ORDER BY r.effect DESC NULLS LAST;
