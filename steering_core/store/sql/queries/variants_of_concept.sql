-- What every variant of `steer stability` recommends for a concept. Parameters: model_id, concept_id.
SELECT variant, verdict, method, array_to_string(layers, ', ') AS layers, abs(dose) AS dose, effect, effect_low, effect_high, p_value
FROM stability
WHERE model_id = ? AND concept_id = ?
ORDER BY variant;
