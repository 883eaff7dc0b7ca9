/*
 * A PromQL query on its shard's loop:
 *
 *   parse -> step: NEED  one fetch a need, all at once -> decode (fan) -> feed -> step
 *                  WORK  items (fan)                                           -> step
 *                  DONE  answer
 *
 * Small things run on the loop itself; the rest on workers, and the loop only turns the crank.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "querier/reuse_priv.h"

enum { PARSE_HERE_BYTES = 1024, OPERATOR_SAMPLES = 20 };        /* as many samples cost what an operator does */
enum { PLAN_HERE_REGEX_BYTES = 128 << 10, PLAN_HERE_OPERATORS = 400 };         /* some milliseconds each */

static void crank(struct qr_query *x);

static int64_t lap(struct qr_query *x)
{
    int64_t now = kl_env_mono_ns(x->job.q->env), spent = now - x->mark_ns;

    x->mark_ns = now;
    return spent;
}

static void free_rounds(struct qr_query *x)
{
    while (x->round != NULL) {
        struct qr_round *r = x->round;

        for (size_t i = 0; i < r->count; i++)
            qr_fetch_deinit(&r->fetches[i]);
        x->round = r->before;
        free(r->list);
        free(r);
    }
}

/* ---- needs ---- */

static bool load(void *ctx, const struct pql_series *s, unsigned worker,
                 struct pql_series *loaded)
{
    struct qr_query       *x = ctx;
    const struct qr_found *g = s->later;

    for (struct qr_round *r = x->round; r != NULL; r = r->before)
        for (size_t i = 0; i < r->count; i++) {
            struct qr_fetch *f = &r->fetches[i];

            if (g >= f->found && g < f->found + f->found_count)
                return qr_decode_later(&x->decode, f, s, worker, loaded);
        }
    assert(!"a series that was fed is of some round");
    return false;
}

/* On the loop or a worker. The language wants the series in the order of their labels; they come in
 * that of their fingerprints. */
static void feed(struct qr_query *x)
{
    for (size_t i = 0; i < x->round->count; i++) {
        struct qr_fetch *f = &x->round->fetches[i];
        struct kl_fp     key;
        size_t           count = qr_decode_compact(f, &key);

        if (f->pushed)                                 /* then it is fed already */
            continue;
        qr_order_known(&x->job, key, f->series, count);
        pql_feed(x->job.pql, f->id, f->series, count);
        if (f->rows_ms > 0)
            qr_rows_tell(f, x->job.pql);
        if (f->rows_ms > 0 && f->fold == PQL_FOLD_COUNT)
            pql_feed_counts(x->job.pql, f->id);
    }
    x->unfed = false;
}

static void decoded(struct qr_decode *d)
{
    struct qr_query     *x = kl_container_of(d, struct qr_query, decode);
    const struct kl_err *failure;
    int64_t              begin_ns;

    if ((failure = qr_decode_failure(d)) != NULL) {
        qr_job_fail(&x->job, qr_kind_of(failure->code), "%s", failure->text);
        return;
    }
    for (size_t i = 0; i < x->round->count; i++) {
        x->fetched_series += x->round->fetches[i].found_count;
        x->pushed_series += x->round->fetches[i].fed.series;
        x->pushed_samples += x->round->fetches[i].fed.samples;
    }
    x->fetched_samples = atomic_load(&d->samples);
    x->job.cost.series = x->fetched_series + x->pushed_series;
    x->job.cost.samples = x->fetched_samples + x->pushed_samples;
    x->unfed = true;
    begin_ns = x->mark_ns;
    x->decode_ns += lap(x);
    qr_told_step(&x->job, "decode", begin_ns, x->mark_ns);
    x->evaluate_ns = x->mark_ns;
    crank(x);
}

static void fetched(struct qr_fetch *f)
{
    struct qr_query *x = kl_container_of(f->job, struct qr_query, job);

    if (--x->round->left > 0)
        return;
    x->fetch_ns += lap(x);
    x->decode.job = &x->job;
    x->decode.fetches = x->round->list;
    x->decode.fetch_count = x->round->count;
    x->decode.done = decoded;
    if (qr_decode_run(&x->decode))
        decoded(&x->decode);
}

struct qr_fetch qr_query_need(struct qr_job *j, const struct pql_need *n, int64_t rows_max_ms)
{
    struct qr_fetch f = { .job = j, .id = n->id, .later = n->once, .fold = n->fold, .fold_ms = n->fold_ms,
                          .range_ms = n->fold_range_ms, .rows_max_ms = rows_max_ms, .what = TSP_SEL_SERIES,
                          .matchers = n->matchers, .matcher_count = n->matcher_count, .from_ms = n->from_ms,
                          .to_ms = n->to_ms };

    f.to_ms = qr_rows_to(&f);
    return f;
}

static void fetch(struct qr_query *x)
{
    const struct pql_need *needs;
    size_t                 count = pql_needs(x->job.pql, &needs);
    struct qr_round       *r;

    assert(count > 0);
    r = kl_new(sizeof *r + count * sizeof *r->fetches);
    r->before = x->round;
    r->count = r->left = count;
    r->list = kl_new(count * sizeof *r->list);
    x->round = r;
    for (size_t i = 0; i < count; i++) {
        struct qr_fetch *f = r->list[i] = &r->fetches[i];

        *f = qr_query_need(&x->job, &needs[i], x->rows_max_ms);
        f->push = x->job.pushes ? needs[i].push : NULL;
        f->lookback_ms = x->params.lookback_ms;
        f->tallied = x->params.tally || x->params.samples_per_step;
        f->done = fetched;
    }
    qr_hold(&x->job);                                  /* one that fails at once ends the job */
    for (size_t i = 0; i < count && !x->job.ended; i++)
        qr_fetch_start(&r->fetches[i]);
    qr_drop(&x->job);
}

/* ---- work ---- */

static void work_item(struct qr_fan *fan, size_t item, unsigned worker)
{
    struct qr_query *x = kl_container_of(fan, struct qr_query, fan);

    if (x->operator_ns == NULL) {
        pql_work(x->job.pql, item, worker);
    } else {
        int64_t begin = kl_env_mono_ns(x->job.q->env);

        pql_work(x->job.pql, item, worker);
        atomic_fetch_add(&x->work_ns, kl_env_mono_ns(x->job.q->env) - begin);
    }
}

/* What the workers spent on the operator that they were at work on. */
static void account(struct qr_query *x)
{
    size_t at = pql_operator(x->job.pql);

    if (x->operator_ns != NULL && at < x->operator_count)
        x->operator_ns[at] += atomic_exchange(&x->work_ns, 0);
}

static void work_done(struct qr_fan *fan)
{
    struct qr_query *x = kl_container_of(fan, struct qr_query, fan);

    account(x);
    x->eval_ns += lap(x);
    crank(x);
}

bool qr_query_is_small(uint64_t samples, uint64_t series, uint64_t steps, uint64_t operators)
{
    return steps < 2000 && samples + series * steps + operators * (OPERATOR_SAMPLES + steps / 8) < QR_INLINE_SAMPLES;
}

bool qr_query_plans_here(const struct pql_query *q)
{
    return pql_regex_bytes(q) <= PLAN_HERE_REGEX_BYTES && pql_operator_count(q) <= PLAN_HERE_OPERATORS;
}

/* Is all that it can still do too little for a hop to a worker? A subquery may make millions of
 * points of nothing, so what may hold one is never small. */
static bool small(const struct qr_query *x)
{
    uint64_t steps = 1;

    if (!x->params.instant && x->params.step_ms > 0)
        steps += (uint64_t)((x->params.end_ms - x->params.start_ms) / x->params.step_ms);
    return !x->compiles && qr_query_is_small(x->fetched_samples, x->fetched_series, steps, pql_operator_count(x->job.pql)) &&
           !pql_nests(x->job.pql);
}

/* What comes after a step; true: another step, at once. */
static bool turn(struct qr_query *x, enum pql_state state)
{
    x->eval_ns += lap(x);
    if (state == PQL_NEED) {
        fetch(x);
        return false;
    }
    if (state == PQL_DONE) {
        if (qr_reuse_done(x))
            return false;
        x->result = pql_result(x->job.pql);
        if (x->result->failure.kind != PQL_OK)
            qr_job_fail(&x->job, x->result->failure.kind, "%s", x->result->failure.text);
        else
            qr_job_done(&x->job);
        return false;
    }
    x->fan.job = &x->job;
    x->fan.count = pql_work_count(x->job.pql);
    x->fan.item = work_item;
    x->fan.done = work_done;
    if (!qr_fan_run(&x->fan, small(x)))
        return false;
    account(x);
    x->eval_ns += lap(x);
    return true;
}

static void stepped(struct kl_env_task *task)
{
    struct qr_query *x = kl_container_of(task, struct qr_query, task);

    if (!x->job.ended && turn(x, x->state))
        crank(x);
    qr_drop(&x->job);
}

static void step(struct qr_query *x)
{
    size_t  at;
    int64_t begin;

    if (x->unfed)
        feed(x);
    if (x->operator_ns == NULL) {
        x->state = pql_step(x->job.pql);
        return;
    }
    /* A step runs on until work or data is wanted; its time goes to the operator it began with. */
    at = pql_operator(x->job.pql);
    begin = kl_env_mono_ns(x->job.q->env);
    x->state = pql_step(x->job.pql);
    if (at < x->operator_count)
        x->operator_ns[at] += kl_env_mono_ns(x->job.q->env) - begin;
}

static void step_work(struct kl_env_task *task)
{
    struct qr_query *x = kl_container_of(task, struct qr_query, task);

    step(x);
    task->run = stepped;
    x->job.q->env->sched->post(x->job.shard->loop, task);
}

static void crank(struct qr_query *x)
{
    /* Between two pieces of work a step may itself sort or add up a great deal. */
    while (!x->job.ended) {
        if (!small(x)) {
            qr_hold(&x->job);
            x->task.run = step_work;
            x->job.q->env->sched->work(x->job.q->env->sched, &x->task);
            return;
        }
        step(x);
        if (!turn(x, x->state))
            return;
    }
}

void qr_query_go(struct qr_query *x) { crank(x); }

void qr_query_went(struct qr_query *x)
{
    if (turn(x, x->state))
        crank(x);
}

/* ---- begin and end ---- */

bool qr_query_compiles_here(struct kl_span text)
{
    const char *at = text.at;
    char        quote = '\0';

    for (size_t i = 0; i < text.size; i++) {           /* without escapes and comments it is plain what is quoted */
        if (at[i] == '\\' || at[i] == '#' || (quote != '\0' && at[i] == '{'))
            return false;
        if (quote == '\0' && strchr("\"'`", at[i]) != NULL)
            quote = at[i];
        else if (quote == at[i])
            quote = '\0';
    }
    return text.size <= PARSE_HERE_BYTES;
}

bool qr_query_parses_here(struct kl_span text)
{
    return text.size <= PARSE_HERE_BYTES &&
           (memchr(text.at, '~', text.size) == NULL || qr_query_compiles_here(text));
}

static void parse(struct qr_query *x)
{
    x->parsed = pql_new(&x->params, &x->parse_failure);
}

static void parsed(struct kl_env_task *task)
{
    struct qr_query *x = kl_container_of(task, struct qr_query, task);

    x->parse_ns = lap(x);
    qr_told_step(&x->job, "plan", x->mark_ns - x->parse_ns, x->mark_ns);
    x->evaluate_ns = x->mark_ns;
    x->job.pql = x->parsed;                            /* read on the loop only, until then */
    if (x->explain && x->job.pql != NULL) {
        x->operator_count = pql_operator_count(x->job.pql);
        x->operator_ns = kl_new((x->operator_count + 1) * sizeof *x->operator_ns);
    }
    if (x->job.pql == NULL && !x->job.ended)
        qr_job_fail(&x->job, x->parse_failure.kind, "%s%s",
                    x->parse_failure.kind == PQL_BAD_DATA ? "invalid parameter \"query\": " : "",
                    x->parse_failure.text);
    else if (!x->job.ended && !qr_reuse_start(x))
        crank(x);
    qr_drop(&x->job);
}

static void parse_work(struct kl_env_task *task)
{
    struct qr_query *x = kl_container_of(task, struct qr_query, task);

    parse(x);
    /* Which parses once more: not on the loop either. */
    if (x->parsed != NULL && !x->params.instant && x->params.text.size <= QR_REUSE_TEXT_MAX) {
        x->steady_known = true;
        x->steady = pql_steady(x->params.text, x->params.step_ms, &x->slack_ms);
    }
    task->run = parsed;
    x->job.q->env->sched->post(x->job.shard->loop, task);
}

static void start(struct qr_job *j)
{
    struct qr_query *x = kl_container_of(j, struct qr_query, job);

    if (x->params.lookback_ms <= 0)
        x->params.lookback_ms = j->q->o.lookback_ms;
    x->params.memory_max_bytes = j->q->o.query_memory_max_bytes / 2;
    x->params.samples_max = j->q->o.query_samples_max;
    x->params.load = load;
    x->params.load_ctx = x;
    x->params.step_each = x->explain;
    x->params.workers = j->q->workers;
    x->params.notes_by_steps = j->reuses && j->q->o.results_cache_bytes > 0;
    x->mark_ns = kl_env_mono_ns(j->q->env);
    x->compiles = memmem(x->params.text.at, x->params.text.size, "label_replace", 13) != NULL &&
                  !qr_query_compiles_here(x->params.text);
    qr_hold(j);
    if (qr_query_parses_here(x->params.text)) {
        parse(x);
        parsed(&x->task);
    } else {
        x->task.run = parse_work;
        j->q->env->sched->work(j->q->env->sched, &x->task);
    }
}

static void finish(struct qr_job *j)
{
    struct qr_query *x = kl_container_of(j, struct qr_query, job);

    if (j->failure.kind != PQL_OK)
        x->result = NULL;
    else
        qr_told_step(j, "evaluate", x->evaluate_ns, kl_env_mono_ns(j->q->env));
    if (x->result != NULL)
        qr_repeats_note(x);
    x->answer(x);
}

void qr_query_init(struct qr_query *x)
{
    x->rows_max_ms = -1;
    x->job.start = start;
    x->job.finish = finish;
}

void qr_query_deinit(struct qr_query *x)
{
    qr_reuse_free(x);
    pql_free(x->job.pql);
    x->job.pql = NULL;
    free_rounds(x);
    free(x->operator_ns);
    qr_decode_deinit(&x->decode);
}
