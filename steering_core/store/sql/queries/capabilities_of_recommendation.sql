-- What a recommendation does to the accuracy on each capability set, the greatest loss first.
-- Parameter: recommendation_id.
SELECT
    set, n, chance, unsteered, steered, change, format('[{:+.3f}, {:+.3f}]', ci_low, ci_high) AS interval, p_value, lost,
    gained
FROM capabilities
WHERE recommendation_id = ?
ORDER BY change, set;
