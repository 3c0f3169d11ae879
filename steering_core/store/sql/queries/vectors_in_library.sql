-- The library: every vector with its quality, most separating first within a concept and method.
SELECT
    v.vector_id, v.name, v.model, v.concept, v.method, v.layer, v.control, v.norm, v.residual_norm, q.auc_test,
    q.d_prime_test, q.split_half, v.n_pairs, v.position, v.tags
FROM vectors v
LEFT JOIN vector_quality q USING (vector_id)
ORDER BY v.model, v.concept, v.name, v.method, v.control NULLS FIRST, v.layer, v.vector_id;
