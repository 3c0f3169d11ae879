-- Effect over dose, alpha 0 and controls beside the candidates. Parameters: model_id, concept_id.
SELECT
    method, layer, dose, effect, effect_low, effect_high, perplexity_ratio, split, n,
    coalesce(control, 'candidate') AS kind
FROM leaderboard
WHERE model_id = ? AND concept_id = ? AND effect IS NOT NULL AND coalesce(control, '') <> 'prompt'
ORDER BY kind, method, layer, dose;
