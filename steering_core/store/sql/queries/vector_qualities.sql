-- Every quality of every vector, newest and most often redrawn; pair is the text of the pair that influence is about.
WITH newest AS (
    SELECT * FROM qualities
    QUALIFY row_number() OVER (PARTITION BY vector_id, metric, split, pair_id, n ORDER BY draws DESC, quality_id) = 1
), texts AS (
    SELECT DISTINCT p.pair_id, left(t.text, 60) AS pair
    FROM raw.pairs p JOIN raw.prompts t USING (prompt_id)
    WHERE p.side = 'positive'
    QUALIFY row_number() OVER (PARTITION BY p.pair_id ORDER BY t.prompt_id) = 1
)
SELECT
    q.model, q.concept, q.method, q.layer, coalesce(q.control, 'none') AS control, q.metric, q.split, q.value, q.ci_low,
    q.ci_high, q.n, q.pair_id, texts.pair, q.vector_id
FROM newest q LEFT JOIN texts USING (pair_id)
ORDER BY q.model, q.concept, q.method, q.layer, q.control NULLS FIRST, q.metric, q.split, q.n, q.pair_id;
