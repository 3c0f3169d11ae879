-- Cosines of vectors that differ in one thing: method, concept, layer or model (kind).
SELECT kind, model, concept, method, layer, one, other, cosine, vector_id, other_vector_id
FROM vector_similarity
ORDER BY kind, model, concept, method, layer, one, other;
