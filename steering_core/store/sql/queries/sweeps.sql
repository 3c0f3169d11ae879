-- Sweeps, newest first; a run that is part of none is one by itself. Parameter: how many.
SELECT
    h.sweep, any_value(r.name) AS spec, min(r.started_at) AS started, max(h.finished_at) AS finished,
    count(*) AS cells,
    count(*) FILTER (h.outcome = 'failed') AS failed,
    count(*) FILTER (h.verdict = 'works') AS works,
    count(*) FILTER (h.regression) AS regressions,
    sum(h.computed)::BIGINT AS computed, sum(h.reused)::BIGINT AS reused, sum(h.seconds) AS seconds
FROM sweep_history h
LEFT JOIN raw.runs r USING (run_id)
GROUP BY h.sweep
ORDER BY finished DESC
LIMIT ?;
