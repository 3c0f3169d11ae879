-- Every candidate's held-out effect and damage, best first: on test where it was tried there, else on validation.
SELECT
    model, concept, split, called AS method, layer, array_to_string(layers, ', ') AS layers, alpha, dose, effect, effect_low,
    effect_high, over_controls, perplexity_ratio, n, n_missing, intervention, vector_id, intervention_id, model_id, concept_id
FROM leaderboard
WHERE control IS NULL AND effect IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY model_id, concept_id, intervention_id ORDER BY split) = 1
ORDER BY split, effect DESC
LIMIT 500;
