-- Unsteered, steered and mirrored text of a recommendation, prompt by prompt, those with all three first. Parameter:
-- recommendation_id.
WITH chosen AS (
    SELECT * FROM raw.recommendations WHERE recommendation_id = ?
), texts AS (
    SELECT
        g.prompt,
        CASE
            WHEN g.control = 'none' THEN 'base'
            WHEN g.intervention_id = chosen.intervention_id THEN 'steered'
            WHEN coalesce(g.control, 'mirrored') = 'mirrored' AND g.vector_ids = chosen.vector_ids AND g.dose = -chosen.dose THEN 'mirrored'
        END AS kind,
        g.text, g.seed
    FROM raw.generations g
    JOIN chosen ON g.model_id = chosen.model_id AND g.concept_id = chosen.concept_id
)
SELECT
    prompt,
    arg_min(text, seed) FILTER (kind = 'base') AS base,
    arg_min(text, seed) FILTER (kind = 'steered') AS steered,
    arg_min(text, seed) FILTER (kind = 'mirrored') AS mirrored
FROM texts
WHERE kind IS NOT NULL
GROUP BY prompt
ORDER BY mirrored IS NULL, prompt
LIMIT 3;
