-- The stored prompts that lie furthest along a vector, either way. Parameters: vector_id, how many high, how many low.
WITH v AS (
    SELECT * FROM raw.vectors WHERE vector_id = ?
), projected AS (
    SELECT a.prompt_id, max(list_dot_product(a.activation, v.vector) / v.norm)::DOUBLE AS projection
    FROM raw.activations a
    JOIN v ON a.model_id = v.model_id AND a.site = v.site AND a.layer = v.layer
        AND (a.position = v.position OR v.position IN ('mixed', 'unknown'))
    GROUP BY a.prompt_id
), ranked AS (
    SELECT
        *, row_number() OVER (ORDER BY projection DESC, prompt_id) AS high,
        row_number() OVER (ORDER BY projection, prompt_id DESC) AS low
    FROM projected
)
SELECT r.projection, p.text, r.prompt_id
FROM ranked r JOIN raw.prompts p USING (prompt_id)
WHERE r.high <= ? OR r.low <= ?
ORDER BY r.projection DESC, r.prompt_id;
