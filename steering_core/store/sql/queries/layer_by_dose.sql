-- Effect and damage of every candidate by layer and dose, on the split with most of them. Parameters: model_id, concept_id.
WITH mine AS (
    SELECT * FROM leaderboard WHERE model_id = ? AND concept_id = ? AND control IS NULL AND effect IS NOT NULL
)
SELECT
    method, layer, dose, alpha, phase, split, effect, effect_low, effect_high, over_controls, perplexity_ratio, n,
    intervention_id, vector_id
FROM mine
WHERE split = (SELECT split FROM mine GROUP BY split ORDER BY count(*) DESC, split DESC LIMIT 1)
ORDER BY method, layer, dose;
