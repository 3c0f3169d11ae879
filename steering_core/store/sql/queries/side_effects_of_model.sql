-- What the latest recommendations of a model do to every concept's items, and what the chance controls beside them do: of
-- each kind the one that moves the items most. Parameters: model_id.
WITH latest AS (
    SELECT r.model_id, r.concept_id, r.intervention_id AS candidate_id
    FROM recommendations r
    LEFT JOIN (SELECT unnest(recommendation_ids) AS recommendation_id, started_at FROM runs) ran USING (recommendation_id)
    QUALIFY row_number() OVER (PARTITION BY r.model_id, r.concept_id ORDER BY ran.started_at DESC NULLS LAST) = 1
)
SELECT
    s.concept AS steered, s.control, concat_ws(' · ', s.concept, s.control) AS "row", s.measured, s.effect, s.effect_low,
    s.effect_high, s.p_corrected, s.concept = s.measured AS own, s.n, s.dose, s.intervention
FROM side_effects s
JOIN latest USING (model_id, concept_id, candidate_id)
WHERE s.model_id = ? AND s.effect IS NOT NULL
QUALIFY row_number() OVER (
    PARTITION BY s.concept_id, s.control, s.measured_concept_id ORDER BY abs(s.effect) DESC, s.side_effect_id
) = 1
ORDER BY s.concept, s.control NULLS FIRST, s.measured;
