-- What words, probe and judge say of the texts of one model and concept, where they were asked.
-- Parameters: model_id, concept_id.
SELECT
    split, array_to_string(layers, ', ') AS layers, dose, coalesce(control, '') AS control, words, probe, judge,
    judge_concept, judge_instruction, judge_fluency, judge_harmonic,
    perplexity_ratio, generated_kl, generated_kl_p95
FROM leaderboard
WHERE model_id = ? AND concept_id = ? AND coalesce(words, probe, judge, judge_harmonic) IS NOT NULL
ORDER BY split, dose DESC, control;
