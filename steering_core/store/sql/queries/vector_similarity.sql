-- Cosine between the directions of a model's concepts and methods, at one layer. Parameters: model_id, layer.
WITH here AS (
    SELECT concept || ' · ' || method AS direction, vector
    FROM vectors
    WHERE model_id = ? AND layer = ? AND control IS NULL AND concept IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY concept, method, position ORDER BY n_pairs DESC, vector_id) = 1
)
SELECT a.direction AS a, b.direction AS b, list_cosine_similarity(a.vector, b.vector) AS cosine
FROM here a, here b
ORDER BY a, b;
