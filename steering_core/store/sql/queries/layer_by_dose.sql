-- Effect and damage by layer and dose, of the best method there, on the split with most candidates. Vectors of the
-- library have a column each, under their names. Candidates of several layers at once have no place here. `texts` are
-- those that were sampled. Parameters: model_id, concept_id.
WITH mine AS (
    SELECT * FROM searched_leaderboard
    WHERE model_id = ? AND concept_id = ? AND control IS NULL AND effect IS NOT NULL AND layer IS NOT NULL
        AND dose IS NOT NULL
)
SELECT
    coalesce(sampled.texts, 0) AS texts, called AS method,
    CASE method WHEN 'given' THEN coalesce(name, left(vector_id, 6)) END AS given, layer, dose, alpha, phase, split,
    effect, effect_low, effect_high, over_controls, perplexity_ratio, n, intervention_id, vector_id
FROM mine
LEFT JOIN (
    SELECT model_id, concept_id, intervention_id, count(*) AS texts FROM raw.generations GROUP BY ALL
) sampled USING (model_id, concept_id, intervention_id)
WHERE split = (SELECT split FROM mine GROUP BY split ORDER BY count(*) DESC, split DESC LIMIT 1)
QUALIFY row_number() OVER (PARTITION BY layer, round(dose, 2), given ORDER BY sign(dose) * effect DESC) = 1
ORDER BY layer, given NULLS FIRST, dose;
