-- An intervention's texts beside the unsteered ones. Parameters: model_id, concept_id, intervention_id.
SELECT
    steered.prompt, base.text AS base, steered.text AS steered, steered.dose, steered.alpha, array_to_string(steered.layers, ', ') AS layers,
    steered.finish, steered.seed
FROM generations steered
LEFT JOIN generations base
    ON base.model_id = steered.model_id AND base.concept_id = steered.concept_id AND base.prompt = steered.prompt
    AND base.seed = steered.seed AND base.max_tokens = steered.max_tokens
    AND base.temperature = steered.temperature AND base.control = 'none'
WHERE steered.model_id = ? AND steered.concept_id = ? AND steered.intervention_id = ?
ORDER BY steered.prompt, steered.seed;
