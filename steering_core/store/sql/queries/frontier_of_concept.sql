-- Effect and damage of every cell that has texts: on test where it was tried there, else on validation.
-- Parameters: model_id, concept_id.
SELECT
    split, coalesce(control, 'candidate') AS kind,
    called AS method,
    array_to_string(layers, ', ') AS layers, dose, alpha, effect, effect_low, effect_high,
    perplexity_ratio, kl, n
FROM leaderboard
WHERE model_id = ? AND concept_id = ? AND effect IS NOT NULL AND perplexity_ratio IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY intervention_id, control ORDER BY split) = 1
ORDER BY kind, effect DESC;
