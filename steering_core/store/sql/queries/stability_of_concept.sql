-- How far a direction agrees with itself from the other half of its pairs, by layer. Parameters: model_id, concept_id.
SELECT method, layer, split_half, split_half_low, split_half_high, bootstrap, auc_validation, auc_test
FROM vector_quality
WHERE model_id = ? AND concept_id = ? AND control IS NULL AND split_half IS NOT NULL
ORDER BY method, layer;
