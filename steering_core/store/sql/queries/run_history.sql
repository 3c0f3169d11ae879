-- The latest runs: what each computed and what it found in the store.
SELECT
    run_id, name, started_at, seconds, outcome, len(recommendation_ids) AS recommendations, stages, spec, versions
FROM runs
ORDER BY started_at DESC
LIMIT 100;
