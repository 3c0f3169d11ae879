-- What judges made of texts of known quality, planted for one concept.
-- Parameters: concept_id.
SELECT scored_by AS judge, kind, metric, expected, agreed, n, needed, passed
FROM judge_checks
WHERE concept_id = ?
ORDER BY judge, kind, metric;
