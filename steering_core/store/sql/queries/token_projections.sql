-- The tokens of a recommendation's sample text, unsteered, steered and mirrored: each one's projection on the vector (the
-- first, where several were chosen) as the untouched model reads it, from the unsteered text's mean, in shares of the
-- mean residual norm. Parameter: recommendation_id.
WITH chosen AS (
    SELECT * FROM raw.recommendations WHERE recommendation_id = ?
), texts AS (
    SELECT
        CASE
            WHEN g.control = 'none' THEN 'unsteered'
            WHEN g.intervention_id = chosen.intervention_id THEN 'steered'
            WHEN coalesce(g.control, 'mirrored') = 'mirrored' AND g.vector_ids = chosen.vector_ids AND g.dose = -chosen.dose THEN 'mirrored'
        END AS kind,
        g.prompt, p.tokens, p.projections, v.residual_norm
    FROM raw.projections p
    JOIN raw.generations g USING (generation_id)
    JOIN chosen ON p.vector_id = chosen.vector_ids[1] AND g.concept_id = chosen.concept_id
    JOIN raw.vectors v ON v.vector_id = chosen.vector_ids[1]
    WHERE kind IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY kind ORDER BY g.max_tokens DESC, g.seed, g.generation_id) = 1
), base AS (
    SELECT list_avg(projections) AS mean FROM texts WHERE kind = 'unsteered'
), places AS (
    SELECT *, unnest(range(len(tokens))) AS place FROM texts
)
SELECT
    kind, prompt, place, coalesce(tokens[place + 1], '') AS token,
    (coalesce(projections[place + 1], 0) - coalesce(base.mean, 0)) / residual_norm AS projection
FROM places LEFT JOIN base ON true
ORDER BY list_position(['unsteered', 'steered', 'mirrored'], kind), place;
