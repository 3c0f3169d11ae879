-- How many candidates steer several layers at once: charts of layer or dose have no place for them.
-- Parameters: model_id, concept_id.
SELECT count(DISTINCT intervention_id) AS n
FROM leaderboard
WHERE model_id = ? AND concept_id = ? AND control IS NULL AND effect IS NOT NULL AND len(layers) > 1;
