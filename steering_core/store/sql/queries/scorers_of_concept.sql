-- The probes and judges that scored the texts of one model and concept; rated counts their texts with a value.
-- Parameters: model_id, concept_id.
SELECT
    s.metric, s.model, s.version, s.layer, s.n_pairs, s.auc, s.endpoint, s.prompt,
    count(*) FILTER (isfinite(m.value)) AS rated, count(*) AS asked
FROM raw.measurements m
JOIN scorers s USING (scorer_id)
WHERE m.model_id = ? AND m.concept_id = ?
GROUP BY ALL
ORDER BY s.metric, s.model, s.version;
