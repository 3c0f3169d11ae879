-- Every named vector and every concept's recommended one, by model, with the dose that was recommended for it.
WITH latest AS (
    SELECT
        coalesce(r.vector_id, r.vector_ids[1]) AS vector_id,
        CASE WHEN r.vector_id IS NOT NULL THEN r.dose END AS dose,
        row_number() OVER (PARTITION BY coalesce(r.vector_id, r.vector_ids[1]) ORDER BY r.n DESC) AS place
    FROM recommendations r
)
SELECT v.model, coalesce(v.name || '/' || v.layer, v.concept || '/' || v.method || '/' || v.layer) AS vector, latest.dose
FROM vectors v
LEFT JOIN latest ON latest.vector_id = v.vector_id AND latest.place = 1
WHERE v.control IS NULL AND (v.name IS NOT NULL OR latest.vector_id IS NOT NULL)
ORDER BY v.model, latest.vector_id IS NULL, vector;
