-- The greatest effect within the damage bounds by layer and method on validation, beside its best control's at the same
-- damage, on the items that both answered. Where no text was sampled, the perplexity ratio is the one that damage foresees
-- with the usual slope (`evaluation/bounds.py`). Parameters: max_perplexity_ratio, max_kl, model_id, concept_id.
WITH bounds AS (
    SELECT ? AS max_perplexity_ratio, ? AS max_kl
), mine AS (
    SELECT * FROM searched_leaderboard
    WHERE model_id = ? AND concept_id = ? AND split = 'validation' AND effect IS NOT NULL AND layer IS NOT NULL
)
SELECT
    m.called AS method, m.layer, m.dose, m.alpha, m.effect, m.effect_low, m.effect_high,
    m.effect - sign(coalesce(m.dose, 1)) * m.over_controls AS control_effect, m.kl, m.perplexity_ratio, m.n
FROM mine m, bounds b
WHERE m.control IS NULL
    AND coalesce(m.perplexity_ratio, exp(1.4 * m.damage), 1) <= b.max_perplexity_ratio AND coalesce(m.kl, 0) <= b.max_kl
QUALIFY row_number() OVER (PARTITION BY m.method, m.name, m.layer ORDER BY m.effect DESC) = 1
ORDER BY m.layer, m.method, m.name;
