-- The library's vectors of one model, those recommended first; safe_from and safe_to are measured, gate_mean
-- and gate_token fitted. Parameter: model_id.
--
-- The safe range of doses reaches to the strongest measured one on either side of 0 before the texts first became
-- more than 1.5 times as perplexing to the untouched model. Of a vector that was recommended alone, it reaches to the
-- recommendation's safe_dose; of one that was recommended with n_together - 1 others, safe_together is what all of them
-- may add up to. recommended_with, on the first of several vectors that were recommended together, is the
-- sum of all of them.
WITH measured AS (
    SELECT vector_id, dose, max(perplexity_ratio) AS ratio
    FROM leaderboard
    WHERE control IS NULL AND vector_id IS NOT NULL AND perplexity_ratio IS NOT NULL
    GROUP BY ALL
), broken AS (
    SELECT
        vector_id,
        coalesce(min(dose) FILTER (dose > 0 AND ratio > 1.5), 'inf'::DOUBLE) AS above,
        coalesce(max(dose) FILTER (dose < 0 AND ratio > 1.5), '-inf'::DOUBLE) AS below
    FROM measured
    GROUP BY vector_id
), safe AS (
    SELECT
        vector_id,
        min(dose) FILTER (dose < 0 AND dose > below) AS safe_from,
        max(dose) FILTER (dose > 0 AND dose < above) AS safe_to
    FROM measured
    JOIN broken USING (vector_id)
    GROUP BY vector_id
), gated AS (
    SELECT
        vector_id, max(threshold) FILTER (over = 'mean') AS gate_mean, max(threshold) FILTER (over = 'token') AS gate_token
    FROM gates
    GROUP BY vector_id
), latest AS (
    SELECT
        coalesce(r.vector_id, r.vector_ids[1]) AS vector_id, -- the first of several
        CASE WHEN r.vector_id IS NOT NULL THEN r.verdict END AS verdict,
        CASE WHEN r.vector_id IS NOT NULL THEN r.dose END AS dose,
        CASE WHEN r.vector_id IS NOT NULL AND r.dose > 0 THEN r.safe_dose END AS safe_dose,
        CASE WHEN r.vector_id IS NULL THEN r.intervention END AS recommended_with,
        row_number() OVER (PARTITION BY coalesce(r.vector_id, r.vector_ids[1]) ORDER BY r.n DESC) AS place
    FROM recommendations r
), shared AS (
    SELECT unnest(r.vector_ids) AS vector_id, r.safe_dose, len(r.vector_ids) AS n, coalesce(made.started_at, '-infinity') AS made_at
    FROM raw.recommendations r
    JOIN (SELECT unnest(recommendation_ids) AS recommendation_id, started_at FROM raw.runs) made USING (recommendation_id)
    WHERE r.vector_id IS NULL AND r.safe_dose > 0
), together AS (
    SELECT vector_id, arg_max(safe_dose, made_at) AS safe_together, arg_max(n, made_at) AS n_together
    FROM shared
    GROUP BY vector_id
)
SELECT
    v.vector_id, v.name, v.concept, v.method, v.layer, v.position, v.norm, v.residual_norm, v.n_pairs, v.tags,
    latest.verdict, latest.dose AS recommended_dose, latest.recommended_with, safe.safe_from,
    coalesce(latest.safe_dose, safe.safe_to) AS safe_to, together.safe_together,
    together.n_together, gated.gate_mean, gated.gate_token, v.model_id, v.concept_id
FROM vectors v
LEFT JOIN safe USING (vector_id)
LEFT JOIN gated USING (vector_id)
LEFT JOIN together USING (vector_id)
LEFT JOIN latest ON latest.vector_id = v.vector_id AND latest.place = 1
WHERE v.model_id = ? AND v.control IS NULL
ORDER BY latest.vector_id IS NULL, latest.verdict IS NULL, v.name IS NULL, v.concept, v.name, v.method, v.layer,
    v.position, v.vector_id;
