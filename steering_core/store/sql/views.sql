-- The views that people query. `raw.<table>` is the Parquet as it lies; here ids have names beside them.

CREATE OR REPLACE VIEW models AS SELECT * FROM raw.models;

-- One row per content of a concept: a concept that grew keeps its name, and its contents differ by concept_id.
CREATE OR REPLACE VIEW concepts AS
SELECT c.* EXCLUDE (definition), ran.last_run_at
FROM raw.concepts c
LEFT JOIN (
    SELECT r.concept_id, max(runs.started_at) AS last_run_at
    FROM (SELECT unnest(recommendation_ids) AS recommendation_id, started_at FROM raw.runs) runs
    JOIN raw.recommendations r USING (recommendation_id)
    GROUP BY ALL
) ran USING (concept_id);

CREATE OR REPLACE VIEW prompts AS SELECT * FROM raw.prompts;

-- Held-out questions; a measurement of an item names it as its subject_id.
CREATE OR REPLACE VIEW items AS
SELECT c.name AS concept, i.* FROM raw.items i LEFT JOIN raw.concepts c USING (concept_id);

CREATE OR REPLACE VIEW runs AS SELECT * FROM raw.runs;

-- One row per run and stage: how much it computed, and how much it found in the store.
CREATE OR REPLACE VIEW run_stages AS
SELECT
    r.name, r.started_at, s.key AS stage, (s.value ->> 'computed')::BIGINT AS computed,
    (s.value ->> 'reused')::BIGINT AS reused, (s.value ->> 'forward_passes')::BIGINT AS forward_passes,
    (s.value ->> 'tokens')::BIGINT AS tokens, (s.value ->> 'seconds')::DOUBLE AS seconds, r.run_id
FROM raw.runs r, json_each(r.stages) s
ORDER BY r.started_at DESC, s.id;

-- One row per activation and use of it as a side of a pair; concept is null for a prompt that no concept uses.
CREATE OR REPLACE VIEW activations AS
SELECT
    m.name AS model, c.name AS concept, p.pair_id, p.side, p.split, a.prompt_id, a.layer, a.site, a.position,
    a.token, a.n_read, a.residual_norm, a.activation, a.model_id, p.concept_id
FROM raw.activations a
JOIN raw.models m USING (model_id)
LEFT JOIN raw.pairs p ON p.prompt_id = a.prompt_id AND p.tokenizer_id = m.tokenizer_id
LEFT JOIN raw.concepts c ON c.concept_id = p.concept_id;

-- Labels as they hold now: the last word on a vector's name, on each of its tags, and on whether it was removed.
CREATE OR REPLACE VIEW labels AS
SELECT vector_id, kind, label, labelled_at
FROM (
    SELECT * FROM raw.labels
    QUALIFY row_number() OVER (
        PARTITION BY vector_id, kind, CASE kind WHEN 'tag' THEN label END ORDER BY labelled_at DESC, label_id
    ) = 1
)
WHERE holds;

-- One row per vector that was not removed. name and tags are what people called it.
CREATE OR REPLACE VIEW vectors AS
WITH called AS (
    SELECT
        vector_id,
        max(label) FILTER (kind = 'name') AS name,
        list_sort(list(label) FILTER (kind = 'tag')) AS tags,
        bool_or(kind = 'removed') AS removed
    FROM labels
    GROUP BY vector_id
)
SELECT
    m.name AS model, c.name AS concept, v.method, v.layer, v.control, called.name, v.vector, v.norm, v.residual_norm,
    v.site, v.position, v.n_pairs, v.seed, coalesce(called.tags, []) AS tags, v.lineage,
    v.vector_id, v.model_id, v.concept_id
FROM raw.vectors v
JOIN raw.models m USING (model_id)
LEFT JOIN raw.concepts c USING (concept_id)
LEFT JOIN called USING (vector_id)
WHERE NOT coalesce(called.removed, false);

-- The latest gate of each vector over each unit (mean, token).
CREATE OR REPLACE VIEW gates AS
SELECT v.model, v.concept, v.method, v.layer, v.name, g.* EXCLUDE (false_alarms, hits, thresholds)
FROM raw.gates g
JOIN vectors v USING (vector_id)
QUALIFY row_number() OVER (PARTITION BY g.vector_id, g.over ORDER BY g.fitted_at DESC, g.gate_id) = 1;

-- One row per answer of a screened data set and vector. rank 1 is the answer that shows most of the vector beyond what
-- the model says itself (difference), or, without the model's own answers, the most of it (projection).
CREATE OR REPLACE VIEW screened AS
SELECT
    m.name AS model, s.dataset, v.concept, v.name, v.layer, s.ordinal, s.prompt, s.answer, s.own_answer, s.projection,
    s.own_projection, s.difference,
    rank() OVER (
        PARTITION BY s.dataset_id, s.model_id, s.vector_id, s.own_tokens
        ORDER BY coalesce(s.difference, s.projection) DESC
    ) AS rank,
    s.n_tokens, s.own_tokens, s.vector_id, s.model_id, s.dataset_id, s.screen_id
FROM raw.screens s
JOIN raw.models m USING (model_id)
LEFT JOIN vectors v USING (vector_id);

CREATE OR REPLACE VIEW qualities AS
SELECT
    v.model, v.concept, v.method, v.layer, v.control, q.metric, q.split, q.value, q.ci_low, q.ci_high, q.n, q.pair_id,
    q.draws, q.seed, q.vector_id, v.model_id, v.concept_id, q.quality_id
FROM raw.qualities q
JOIN vectors v USING (vector_id);

-- One row per vector whose quality was measured: held-out separation, and stability over the choice of pairs.
CREATE OR REPLACE VIEW vector_quality AS
WITH newest AS (
    SELECT * FROM qualities
    QUALIFY row_number() OVER (PARTITION BY vector_id, metric, split, pair_id, n ORDER BY draws DESC, quality_id) = 1
)
SELECT
    model, concept, method, layer, control,
    max(value) FILTER (metric = 'auc' AND split = 'validation') AS auc_validation,
    max(value) FILTER (metric = 'auc' AND split = 'test') AS auc_test,
    max(ci_low) FILTER (metric = 'auc' AND split = 'test') AS auc_test_low,
    max(ci_high) FILTER (metric = 'auc' AND split = 'test') AS auc_test_high,
    max(value) FILTER (metric = 'd_prime' AND split = 'validation') AS d_prime_validation,
    max(value) FILTER (metric = 'd_prime' AND split = 'test') AS d_prime_test,
    max(value) FILTER (metric = 'logit_lens' AND split = 'validation') AS logit_lens,
    max(value) FILTER (metric = 'split_half') AS split_half,
    max(ci_low) FILTER (metric = 'split_half') AS split_half_low,
    max(ci_high) FILTER (metric = 'split_half') AS split_half_high,
    max(value) FILTER (metric = 'bootstrap') AS bootstrap,
    max(ci_low) FILTER (metric = 'bootstrap') AS bootstrap_low,
    max(ci_high) FILTER (metric = 'bootstrap') AS bootstrap_high,
    max(value) FILTER (metric = 'influence') AS greatest_influence,
    arg_max(pair_id, value) FILTER (metric = 'influence') AS most_influential_pair,
    vector_id, model_id, concept_id
FROM newest
GROUP BY ALL
ORDER BY model, concept, method, layer, control NULLS FIRST;

-- Cosines of vectors that differ in one thing (kind): method, concept, layer (the next one), or model (of the same
-- architecture, width and depth: a 4-bit twin). Controls are left out; each pair of vectors is there once.
CREATE OR REPLACE VIEW vector_similarity AS
WITH v AS (
    SELECT
        vectors.*, coalesce(vectors.name, vectors.concept, vectors.method) AS called, models.architecture,
        models.width, models.n_layers
    FROM vectors JOIN models USING (model_id)
    WHERE control IS NULL
), pairs AS (
    SELECT 'method' AS kind, a, b, a.method AS one, b.method AS other
    FROM v a JOIN v b
    ON a.model_id = b.model_id AND a.concept_id = b.concept_id AND a.layer = b.layer AND a.position = b.position
    AND a.method < b.method
    UNION ALL
    SELECT 'concept', a, b, a.called, b.called
    FROM v a JOIN v b
    ON a.model_id = b.model_id AND a.method = b.method AND a.layer = b.layer AND a.position = b.position
    AND a.called < b.called
    UNION ALL
    SELECT 'layer', a, b, a.layer::TEXT, b.layer::TEXT
    FROM v a JOIN v b
    ON a.model_id = b.model_id AND a.concept_id = b.concept_id AND a.method = b.method AND a.position = b.position
    AND a.layer + 1 = b.layer
    UNION ALL
    SELECT 'model', a, b, a.model, b.model
    FROM v a JOIN v b
    ON a.concept_id = b.concept_id AND a.method = b.method AND a.layer = b.layer AND a.position = b.position
    AND a.architecture = b.architecture AND a.width = b.width AND a.n_layers = b.n_layers
    AND a.model_id <> b.model_id AND a.model < b.model
)
SELECT
    kind, a.model AS model, a.concept AS concept, a.method AS method, a.layer AS layer, one, other,
    list_cosine_similarity(a.vector, b.vector)::DOUBLE AS cosine,
    a.vector_id AS vector_id, b.vector_id AS other_vector_id, a.model_id AS model_id, a.concept_id AS concept_id
FROM pairs;

CREATE OR REPLACE VIEW generations AS
SELECT
    m.name AS model, c.name AS concept, g.method, g.layer, g.alpha, g.dose, g.control, g.phase, g.prompt, g.text,
    g.finish, g.n_tokens, g.seed, g.temperature, g.max_tokens, g.layers, g.intervention, g.intervention_id, g.vector_id,
    g.vector_ids, g.generation_id, g.prompt_id, g.model_id, g.concept_id
FROM raw.generations g
JOIN raw.models m USING (model_id)
LEFT JOIN raw.concepts c USING (concept_id);

-- The untouched model's own answers to neutral prompts; a measurement of damage names one as its subject_id.
CREATE OR REPLACE VIEW neutral_answers AS
SELECT m.name AS model, a.prompt, a.text, a.temperature, a.max_tokens, a.tokens, a.answer_id, a.prompt_id, a.model_id
FROM raw.neutral_answers a JOIN raw.models m USING (model_id);

-- Prompts that ask for nothing of a concept; a measurement of kl names one as its subject_id.
CREATE OR REPLACE VIEW neutral_prompts AS SELECT prompt, chat, neutral_prompt_id FROM raw.neutral_prompts;

-- scored_by, its version and reply: the judge or probe that gave the value, where one did.
CREATE OR REPLACE VIEW measurements AS
SELECT m.name AS model, c.name AS concept, x.*, s.model AS scored_by, s.version AS scorer_version
FROM raw.measurements x
JOIN raw.models m USING (model_id)
LEFT JOIN raw.concepts c USING (concept_id)
LEFT JOIN raw.scorers s USING (scorer_id);

-- What a probe or a judge is: its layer and held-out AUC, or its endpoint and prompt.
CREATE OR REPLACE VIEW scorers AS
SELECT
    metric, model, version, (definition ->> 'layer')::INTEGER AS layer, (definition ->> 'n_pairs')::INTEGER AS n_pairs,
    (definition ->> 'auc')::DOUBLE AS auc, definition ->> 'endpoint' AS endpoint, definition ->> 'prompt' AS prompt,
    definition, scorer_id
FROM raw.scorers;

-- Whether a judge may be trusted with a concept's texts: of the planted texts of each kind, how many it rated as they
-- deserve (agreed). passed: at least the share that is needed. A judge is trusted where every row passed.
CREATE OR REPLACE VIEW judge_checks AS
WITH counted AS (
    SELECT
        scorer_id, concept_id, kind, metric, expected, needed, count(*) FILTER (value = expected)::INTEGER AS agreed,
        count(value)::INTEGER AS rated, count(*)::INTEGER AS n
    FROM raw.planted
    GROUP BY ALL
)
SELECT
    s.model AS scored_by, s.version AS scorer_version, c.name AS concept, p.kind, p.metric, p.expected, p.agreed, p.n,
    p.needed, p.agreed >= p.needed * p.n AS passed, p.rated, s.definition ->> 'endpoint' AS endpoint, p.scorer_id,
    p.concept_id
FROM counted p
JOIN raw.scorers s USING (scorer_id)
LEFT JOIN raw.concepts c USING (concept_id)
ORDER BY scored_by, concept, kind, p.metric;

CREATE OR REPLACE VIEW scores AS
SELECT
    m.name AS model, c.name AS concept, s.method, s.layer, s.alpha, s.dose, s.control, s.phase, s.split, s.metric,
    s.value, s.ci_low, s.ci_high, s.p_value, s.n, coalesce(s.n_missing, 0)::INTEGER AS n_missing, s.seed, s.layers,
    s.intervention, s.intervention_id, s.vector_id, s.vector_ids, s.score_id, s.model_id, s.concept_id
FROM raw.scores s
JOIN raw.models m USING (model_id)
LEFT JOIN raw.concepts c USING (concept_id);

-- name: what people call the vector, where one alone is recommended.
CREATE OR REPLACE VIEW recommendations AS
SELECT
    m.name AS model, c.name AS concept, r.*, l.label AS name,
    CASE r.method WHEN 'given' THEN coalesce(l.label, r.method) ELSE r.method END AS called
FROM raw.recommendations r
JOIN raw.models m USING (model_id)
LEFT JOIN raw.concepts c USING (concept_id)
LEFT JOIN labels l ON l.vector_id = r.vector_id AND l.kind = 'name';

-- One row per intervention that stood trial and concept whose items were asked: what the recommendation, and the chance
-- controls beside it, do to every concept. p_corrected: that such items are not moved, or that a meaningless direction
-- moves them as far, after Holm's correction over the row; null on the concept that the intervention was found for.
CREATE OR REPLACE VIEW side_effects AS
SELECT
    m.name AS model, c.name AS concept, o.name AS measured, s.control, s.method, s.layer, s.dose, s.effect,
    s.effect_low, s.effect_high, s.p_value, s.p_corrected, s.n, s.n_missing, s.layers, s.intervention, s.side_effect_id,
    s.candidate_id, s.intervention_id, s.measured_concept_id, s.model_id, s.concept_id
FROM raw.side_effects s
JOIN raw.models m ON m.model_id = s.model_id
LEFT JOIN raw.concepts c ON c.concept_id = s.concept_id
LEFT JOIN raw.concepts o ON o.concept_id = s.measured_concept_id
ORDER BY model, concept, s.control NULLS FIRST, s.intervention_id, measured;

-- What else a vector changes: accuracy on each capability set, steered minus unsteered on the same items, with its 95 %
-- interval and McNemar's p-value of that set alone. One row per recommendation of the intervention; recommendation_id is
-- null for a vector that was measured without a run. An answer that diverged is a wrong one.
CREATE OR REPLACE VIEW capabilities AS
SELECT
    m.name AS model, c.name AS concept, x.method, x.layers, x.dose, x.set, x.n, x.chance, x.unsteered, x.steered, x.change,
    x.ci_low, x.ci_high, x.p_value, x.lost, x.gained, r.verdict, x.intervention, x.intervention_id, x.vector_ids,
    r.recommendation_id, x.set_id, x.model_id, x.concept_id, x.capability_id
FROM raw.capabilities x
JOIN raw.models m USING (model_id)
LEFT JOIN raw.concepts c USING (concept_id)
LEFT JOIN raw.recommendations r
    ON r.model_id = x.model_id AND r.concept_id = x.concept_id AND r.intervention_id = x.intervention_id
ORDER BY model, concept, x.set;

-- What a model answered to each item of a capability set, with steering or without ("none").
CREATE OR REPLACE VIEW capability_answers AS
SELECT
    m.name AS model, a.set, a.intervention, a.prompt, a.answer, a.right_answer, a.correct, a.correct_per_byte,
    a.log_probabilities, a.item_id, a.intervention_id, a.model_id, a.answer_id
FROM raw.capability_answers a
JOIN raw.models m USING (model_id);

-- What `steer stability` found: what each variant (another seed, half of the pairs) of one spec recommends.
CREATE OR REPLACE VIEW stability AS
SELECT
    m.name AS model, c.name AS concept, s.variant, r.verdict, r.method, r.layer, r.layers, r.dose, r.safe_dose,
    r.dose / median(r.dose) OVER cell AS dose_over_median, r.effect, r.effect_low, r.effect_high, r.odd_effect, r.damage,
    r.perplexity_ratio, r.p_value, r.reason, s.spec_key, s.recommendation_id, s.model_id, s.concept_id, s.stability_id
FROM raw.stability s
JOIN raw.recommendations r USING (recommendation_id)
JOIN raw.models m ON m.model_id = s.model_id
LEFT JOIN raw.concepts c ON c.concept_id = s.concept_id
WINDOW cell AS (PARTITION BY s.model_id, s.concept_id, s.spec_key)
ORDER BY model, concept, variant;

-- One row per intervention and split, with the scores that have most subjects. odd_effect: half of the effect minus that
-- of the same strength the other way. over_controls: the effect minus the best random or shuffled-label control's at the
-- same layer and damage, on the same items; p_value: that it is above 0, corrected for the candidates compared. layer and
-- alpha are null where several layers or vectors are steered at once: layers lists them, and intervention says all of it.
-- name: what people call the one vector; called: that where the vector was given, else its method. n_missing: items,
-- prompts or texts, of the score that has most of them, that diverged or were empty; no mean counts them.
CREATE OR REPLACE VIEW leaderboard AS
WITH newest AS (
    SELECT s.*, l.label AS name
    FROM scores s
    LEFT JOIN labels l ON l.vector_id = s.vector_id AND l.kind = 'name'
    QUALIFY row_number() OVER (
        PARTITION BY model_id, concept_id, intervention_id, control, split, metric ORDER BY n DESC, score_id
    ) = 1
)
SELECT
    model, concept, method, layer, alpha, dose, control, phase, split,
    max(value) FILTER (metric = 'effect') AS effect,
    max(ci_low) FILTER (metric = 'effect') AS effect_low,
    max(ci_high) FILTER (metric = 'effect') AS effect_high,
    max(value) FILTER (metric = 'odd_effect') AS odd_effect,
    max(value) FILTER (metric = 'over_controls') AS over_controls,
    max(p_value) FILTER (metric = 'over_controls') AS p_value,
    /* every other metric's column */
    max(n) FILTER (metric = 'effect') AS n,
    max(n_missing) AS n_missing,
    layers, name, CASE method WHEN 'given' THEN coalesce(name, method) ELSE method END AS called,
    intervention, intervention_id, vector_id, vector_ids, model_id, concept_id
FROM newest
GROUP BY ALL
ORDER BY model, concept, split DESC, effect DESC NULLS LAST;

-- A vector's effect and damage over its doses, alpha 0 included; controls too, so that a plot can draw their band.
CREATE OR REPLACE VIEW dose_response AS
SELECT
    model, concept, method, layer, control, phase, split, dose, alpha, effect, effect_low, effect_high, kl,
    perplexity_ratio, n, vector_id, model_id, concept_id
FROM leaderboard
WHERE vector_id IS NOT NULL
UNION ALL
SELECT DISTINCT
    b.model, b.concept, v.method, v.layer, v.control, v.phase, b.split, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, b.n,
    v.vector_id, b.model_id, b.concept_id
FROM leaderboard b
JOIN leaderboard v USING (model_id, concept_id, split)
WHERE b.control = 'none' AND v.vector_id IS NOT NULL;

-- Vectors that a run searched though they are not of its concept: those that a spec names, in vectors.library or in an
-- expression, under a name that they have or had; and what was turned at random in their place. A vector that was only
-- swept by doses is not among them.
CREATE OR REPLACE VIEW searched_library AS
WITH specs AS (
    SELECT try_cast(spec AS JSON) AS spec FROM raw.runs
), expressions AS (
    SELECT unnest(spec ->> '$.generations.expressions[*]') AS expression FROM specs
), said AS (
    SELECT unnest(spec ->> '$.vectors.library[*]') AS name FROM specs
    UNION
    SELECT unnest(regexp_extract_all(expression, '[A-Za-z0-9][A-Za-z0-9_./-]*')) FROM expressions
), called AS (
    SELECT v.vector_id, v.layer, v.method, unnest([l.label, c.name, c.name || '/' || v.method]) AS name
    FROM raw.vectors v
    LEFT JOIN raw.labels l ON l.vector_id = v.vector_id AND l.kind = 'name'
    LEFT JOIN raw.concepts c ON c.concept_id = v.concept_id
    WHERE v.control IS NULL
), named AS (
    SELECT vector_id FROM called SEMI JOIN said ON said.name IN (called.name, called.name || '/' || called.layer)
    UNION
    SELECT v.vector_id
    FROM raw.vectors v
    JOIN said ON starts_with(v.vector_id, said.name) AND regexp_full_match(said.name, '[0-9a-f]{6,20}')
)
FROM named
UNION
SELECT vector_id
FROM (
    SELECT vector_id, unnest(try_cast(lineage AS JSON) ->> '$.of[*]') AS source FROM raw.vectors WHERE control IS NOT NULL
)
WHERE source IN (FROM named);

-- The leaderboard without what no run searched: without vectors of another concept or none that were swept by doses alone.
CREATE OR REPLACE VIEW searched_leaderboard AS
SELECT b.*
FROM leaderboard b
LEFT JOIN raw.vectors v USING (vector_id)
WHERE b.vector_id IS NULL OR v.concept_id = b.concept_id OR b.vector_id IN (FROM searched_library);

-- How a vector steers, over every strength at which it was measured: steerability is the mean over items of the slope
-- of propensity over dose, anti_steerable the share of items whose slope is negative (Tan et al. 2024).
CREATE OR REPLACE VIEW steerability AS
WITH points AS (
    SELECT model_id, concept_id, split, subject_id, vector_id, dose, value
    FROM raw.measurements
    WHERE metric = 'propensity' AND vector_id IS NOT NULL
), with_origin AS (
    FROM points
    UNION ALL
    SELECT DISTINCT p.model_id, p.concept_id, p.split, p.subject_id, p.vector_id, 0.0, b.value
    FROM points p
    JOIN raw.measurements b USING (model_id, concept_id, split, subject_id)
    WHERE b.metric = 'propensity' AND b.control = 'none'
), slopes AS (
    SELECT model_id, concept_id, split, subject_id, vector_id, regr_slope(value, dose) AS slope
    FROM with_origin
    GROUP BY ALL
)
SELECT
    v.model, v.concept, v.method, v.layer, v.control, s.split, avg(slope) AS steerability,
    avg((slope < 0)::INTEGER) AS anti_steerable, count(*) AS n, s.vector_id, s.model_id, s.concept_id
FROM slopes s
JOIN vectors v ON v.vector_id = s.vector_id AND coalesce(v.concept_id, s.concept_id) = s.concept_id  -- no side effects
GROUP BY ALL
ORDER BY model, concept, split, steerability DESC;

-- One row per run, model and concept: what became of it, its error where it failed. sweep_history compares the newest of
-- each sweep with the time before.
CREATE OR REPLACE VIEW outcomes AS SELECT * FROM raw.outcomes ORDER BY finished_at DESC, model, concept;

-- One row per sweep, model and concept: what became of it, and what changed since the time before: the last sweep of the
-- same spec in which it completed. A run that is part of no sweep is one by itself. regression: it failed after it had
-- completed, lost its verdict, or its effect's interval fell below the effect of the time before. computed, reused and tokens count generations, vectors and scores; activations are the run's.
CREATE OR REPLACE VIEW sweep_history AS
WITH newest AS (
    SELECT * FROM raw.outcomes
    QUALIFY row_number() OVER (PARTITION BY sweep, model, concept ORDER BY finished_at DESC, run_id) = 1
), cells AS (
    SELECT
        o.sweep, min(o.finished_at) OVER (PARTITION BY o.sweep) AS sweep_at, o.model, o.concept, o.outcome, r.verdict,
        r.method, r.layer, r.layers, r.alpha, r.dose, r.effect, r.effect_low, r.effect_high, r.perplexity_ratio, o.computed,
        o.reused, o.forward_passes, o.tokens, o.seconds, o.error, o.finished_at, o.run_id, o.recommendation_id,
        o.model_id, o.concept_id, s.name AS spec_name,
        CASE WHEN o.outcome = 'completed' THEN o.sweep END AS completed_in,
        CASE WHEN o.outcome = 'completed' THEN min(o.finished_at) OVER (PARTITION BY o.sweep) END AS completed_at
    FROM newest o
    LEFT JOIN raw.recommendations r USING (recommendation_id)
    LEFT JOIN raw.runs s ON s.run_id = o.run_id
), compared AS (
    SELECT
        *,
        lag(completed_in IGNORE NULLS) OVER before AS previous_sweep,
        lag(completed_at IGNORE NULLS) OVER before AS previous_sweep_at,
        lag(outcome) OVER before AS previous_outcome,
        lag(verdict IGNORE NULLS) OVER before AS previous_verdict,
        lag(effect IGNORE NULLS) OVER before AS previous_effect
    FROM cells
    WINDOW before AS (PARTITION BY spec_name, model, concept ORDER BY sweep_at, sweep)
)
SELECT
    * EXCLUDE (spec_name, completed_in, completed_at, computed, reused, forward_passes, tokens, seconds, error, finished_at,
        run_id, recommendation_id, model_id, concept_id),
    effect - previous_effect AS change,
    coalesce(
        (outcome = 'failed' AND previous_outcome = 'completed')
        OR (previous_verdict = 'works' AND verdict IS DISTINCT FROM 'works')
        OR effect_high < previous_effect,
        false
    ) AS regression,
    computed, reused, forward_passes, tokens, seconds, error, finished_at, run_id, recommendation_id, model_id,
    concept_id
FROM compared
ORDER BY sweep_at DESC, sweep, model, concept;

-- The newest sweep.
CREATE OR REPLACE VIEW sweep_summary AS
SELECT * FROM sweep_history
WHERE sweep = (SELECT sweep FROM raw.outcomes ORDER BY finished_at DESC LIMIT 1);
