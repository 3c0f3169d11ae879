-- The stored prompts that lie furthest along a vector, and furthest against it. Parameter: vector_id.
WITH chosen AS (
    SELECT * FROM vectors WHERE vector_id = ?
), projected AS (
    SELECT a.prompt_id, list_dot_product(a.activation, chosen.vector) / chosen.norm AS projection
    FROM raw.activations a
    JOIN chosen USING (model_id, site, position, layer)
), ranked AS (
    SELECT *, row_number() OVER (ORDER BY projection DESC) AS high, row_number() OVER (ORDER BY projection) AS low
    FROM projected
)
SELECT CASE WHEN high <= 8 THEN 'along' ELSE 'against' END AS side, projection, p.text, p.n_tokens
FROM ranked
JOIN raw.prompts p USING (prompt_id)
WHERE high <= 8 OR low <= 8
ORDER BY projection DESC;
