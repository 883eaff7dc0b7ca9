/* A query's life: parse, plan, then step by step through its operators; and its budgets. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpromql/partial_priv.h"

enum { PHASE_PREPARE, PHASE_WAIT, PHASE_WORK, PHASE_FINISH };
enum { INLINE_ITEMS = 1 };

static void fail_with(struct pql_query *q, enum pql_error kind, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));
static void fail_with(struct pql_query *q, enum pql_error kind, const char *fmt, va_list ap)
{
    int none = 0;

    if (!atomic_compare_exchange_strong(&q->failing, &none, 1))
        return;                                        /* the first failure is the one to tell */
    q->failure.kind = kind;
    vsnprintf(q->failure.text, sizeof q->failure.text, fmt, ap);
    atomic_store(&q->failing, 2);
}

void pql_fail(struct pql_query *q, enum pql_error kind, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fail_with(q, kind, fmt, ap);
    va_end(ap);
}

bool pql_failed(struct pql_query *q)
{
    return atomic_load_explicit(&q->failing, memory_order_relaxed) != 0;
}

void pql_warn(struct pql_query *q, const char *fmt, ...)
{
    char    text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    pql_annos_warn(q->annos, text);
}

void pql_info(struct pql_query *q, const char *fmt, ...)
{
    char    text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    pql_annos_info(q->annos, text);
}

/* ---- budgets ---- */

static void over_memory(struct pql_query *q)
{
    pql_fail(q, PQL_EXECUTION, "query needs more memory than its budget of %zu bytes",
             q->memory_max);
}

static void *take(struct pql_query *q, struct kl_arena *a, size_t size)
{
    size_t before = a->used_bytes;
    void  *p;

    if (size > q->memory_max || pql_failed(q)) {
        over_memory(q);                                /* no effect after a failure */
        return NULL;
    }
    p = kl_arena_alloc(a, size);
    if (p == NULL) {
        over_memory(q);
        return NULL;
    }
    if (a->used_bytes != before
        && atomic_fetch_add(&q->memory, a->used_bytes - before) + (a->used_bytes - before)
           > q->memory_max) {
        over_memory(q);
        return NULL;
    }
    return p;
}

bool pql_memory_take(struct pql_query *q, size_t size)
{
    if (size <= q->memory_max && atomic_fetch_add(&q->memory, size) + size <= q->memory_max)
        return true;
    if (size <= q->memory_max)
        atomic_fetch_sub(&q->memory, size);
    over_memory(q);
    return false;
}

void pql_memory_give(struct pql_query *q, size_t size) { atomic_fetch_sub(&q->memory, size); }

void *pql_alloc(struct pql_op *op, unsigned worker, size_t size)
{
    return take(op->q, &op->arenas[worker], size);
}

void *pql_label_alloc(struct pql_query *q, unsigned worker, size_t size)
{
    return take(q, &q->label_arenas[worker], size);
}

void *pql_zalloc(struct pql_op *op, unsigned worker, size_t size)
{
    void *p = pql_alloc(op, worker, size);

    if (p != NULL)
        memset(p, 0, size);
    return p;
}

static void too_many_samples(struct pql_query *q)
{
    pql_fail(q, PQL_EXECUTION,
             "query processing would load too many samples into memory in query execution");
}

static void note_peak(struct pql_query *q, uint64_t now)
{
    uint64_t peak = atomic_load(&q->samples_peak);

    while (now > peak && !atomic_compare_exchange_weak(&q->samples_peak, &peak, now))
        ;
}

bool pql_count_points(struct pql_query *q, uint64_t points)
{
    uint64_t now = atomic_fetch_add(&q->samples, points) + points;

    note_peak(q, now);
    if (now <= q->samples_max)
        return true;
    too_many_samples(q);
    return false;
}

bool pql_charge(struct pql_query *q, uint64_t samples, uint64_t series)
{
    if (series > 0 && atomic_fetch_add(&q->series, series) + series > q->series_max) {
        pql_fail(q, PQL_EXECUTION, "query selects more than %llu series",
                 (unsigned long long)q->series_max);
        return false;
    }
    atomic_fetch_add(&q->charged, samples);
    return pql_count_points(q, samples) && !pql_failed(q);
}

struct kl_arena *pql_arena(struct pql_query *q, unsigned worker)
{
    struct kl_arena *a = &q->worker_arenas[worker];
    uint64_t         others = atomic_load(&q->memory);

    /* What is left for it: the caller's arenas are counted whole at each step. */
    a->cap_bytes = q->memory_max > others ? q->memory_max - others : 0;
    return a;
}

/* ---- life ---- */

static const char *why_not(const struct pql_params *p)
{
    if (p->instant)
        return NULL;
    if (p->end_ms < p->start_ms)
        return "end timestamp must not be before start time";
    if (p->step_ms <= 0)
        return "zero or negative query resolution step widths are not accepted. Try a positive integer";
    if ((uint64_t)(p->end_ms - p->start_ms) / (uint64_t)p->step_ms > PQL_POINTS_MAX)
        return "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query "
               "resolution (?step=XX)";
    return NULL;
}

static bool times_in_bounds(const struct pql_params *p)
{
    const int64_t most = 1000000000000000000;          /* as far as @ reaches: sums cannot overflow */

    return p->start_ms > -most && p->start_ms < most && p->end_ms > -most && p->end_ms < most
           && p->step_ms < most && p->lookback_ms >= 0 && p->lookback_ms < most;
}

struct pql_query *pql_new(const struct pql_params *params, struct pql_failure *failure)
{
    struct pql_query *q = kl_new(sizeof *q);
    const char       *why = times_in_bounds(params) ? why_not(params) : "time is out of bounds";

    q->params = *params;
    q->lookback_ms = params->lookback_ms != 0 ? params->lookback_ms : 300000;
    q->memory_max = params->memory_max_bytes != 0 ? params->memory_max_bytes : 512u << 20;
    q->samples_max = params->samples_max != 0 ? params->samples_max : 50000000;
    q->series_max = params->series_max != 0 ? params->series_max : 5000000;
    if (params->instant) {
        q->params.end_ms = params->start_ms;
        q->params.step_ms = 0;
    }
    q->ops_tail = &q->ops;
    q->annos = pql_annos_new(&q->params);
    if (q->params.workers == 0 || q->params.workers > PQL_WORKERS_MAX)
        q->params.workers = PQL_WORKERS_MAX;
    q->worker_arenas = kl_new(q->params.workers * sizeof *q->worker_arenas);
    q->label_arenas = kl_new(q->params.workers * sizeof *q->label_arenas);
    for (unsigned i = 0; i < q->params.workers; i++) {
        kl_arena_init(&q->worker_arenas[i], q->memory_max);
        kl_arena_init(&q->label_arenas[i], q->memory_max);
    }
    kl_arena_init(&q->plan, PQL_PARSE_MEMORY_MAX);
    kl_arena_init(&q->result_arena, q->memory_max);
    pql_parse_init(&q->parse, params->text);
    q->params.text = q->parse.text;
    if (why != NULL) {
        pql_fail(q, PQL_BAD_DATA, "%s", why);
    } else if ((q->root = pql_parse_expr(&q->parse)) == NULL) {
        pql_fail(q, PQL_BAD_DATA, "%s", q->parse.error);
    } else if (pql_plan(q)) {
        q->cur = q->ops;
        return q;
    }
    *failure = q->failure;
    pql_free(q);
    return NULL;
}

static void free_arenas(struct pql_op *op)
{
    uint64_t bytes = 0;

    if (op->arenas == NULL)
        return;
    for (unsigned i = 0; i < op->q->params.workers; i++) {
        bytes += op->arenas[i].used_bytes;
        kl_arena_deinit(&op->arenas[i]);
    }
    atomic_fetch_sub(&op->q->memory, bytes);
    free(op->arenas);
    op->arenas = NULL;
}

void pql_free(struct pql_query *q)
{
    if (q == NULL)
        return;
    for (struct pql_op *op = q->ops; op != NULL; op = op->next)
        free_arenas(op);
    for (uint32_t i = 0; i < q->need_count; i++) {
        free((void *)q->needs[i].fed.at);
        pql_partials_free(q->needs[i].partials);
    }
    free(q->needs);
    free(q->needs_out);
    free((void *)q->per_step);
    free((void *)q->reads);
    for (unsigned i = 0; i < q->params.workers; i++) {
        kl_arena_deinit(&q->worker_arenas[i]);
        kl_arena_deinit(&q->label_arenas[i]);
    }
    free(q->worker_arenas);
    free(q->label_arenas);
    pql_annos_free(q->annos);
    kl_arena_deinit(&q->result_arena);
    kl_arena_deinit(&q->plan);
    pql_parse_deinit(&q->parse);
    free(q);
}

/* An operator whose rows point into its inputs holds them for as long as it is held itself. */
void pql_op_release(struct pql_op *op)
{
    uint64_t points;

    if (op == NULL || --op->users > 0)
        return;
    points = op->points_elsewhere;
    for (uint32_t i = 0; i < op->out.count; i++)
        points += op->out.at[i].have;
    atomic_fetch_sub(&op->q->samples, points);
    for (uint32_t i = 0; i < op->in_count; i++)
        pql_op_release(op->in[i]);
    op->out = (struct pql_rows){ 0 };
    free_arenas(op);
}

/* ---- steps ---- */

static bool data_is_missing(struct pql_query *q)
{
    while (q->needs_done < q->need_count && q->needs[q->needs_done].done)
        q->needs_done++;
    return q->needs_done < q->need_count;
}

static void begin(struct pql_op *op)
{
    if (op->arenas == NULL) {
        op->arenas = kl_new(op->q->params.workers * sizeof *op->arenas);
        for (unsigned i = 0; i < op->q->params.workers; i++)
            kl_arena_init(&op->arenas[i], op->q->memory_max);
    }
    op->items = 0;
    op->waits = false;
    op->kind->prepare(op);
}

static void end(struct pql_op *op)
{
    uint64_t points = 0;

    if (!pql_failed(op->q) && op->kind->finish != NULL)
        op->kind->finish(op);
    points += op->points_elsewhere;
    for (uint32_t i = 0; i < op->out.count; i++)
        points += op->out.at[i].have;
    if (op->kind != &pql_op_result)                    /* the same points once more: not live twice */
        pql_count_points(op->q, points);
    op->rows_made = op->out.count + op->rows_elsewhere;
    op->points_made = points;
    op->items_made = op->items;
    for (unsigned i = 0; i < op->q->params.workers; i++)
        op->bytes_used += op->arenas[i].used_bytes;
    if (op->shares)
        return;
    for (uint32_t i = 0; i < op->in_count; i++)
        pql_op_release(op->in[i]);
    op->in_count = 0;
}

static uint64_t caller_memory(const struct pql_query *q)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < q->params.workers; i++)
        sum += q->worker_arenas[i].used_bytes;
    return sum;
}

enum pql_state pql_step(struct pql_query *q)
{
    while (!q->done) {
        struct pql_op *op = q->cur;

        if (caller_memory(q) + atomic_load(&q->memory) > q->memory_max)
            over_memory(q);
        if (pql_failed(q) || op == NULL) {
            pql_finish(q);
            break;
        }
        switch (op->phase) {
        case PHASE_PREPARE:
        case PHASE_WAIT:
            if (data_is_missing(q))
                return PQL_NEED;
            begin(op);
            if (op->waits) {
                op->phase = PHASE_WAIT;
                break;
            }
            op->phase = PHASE_FINISH;
            if (op->items > INLINE_ITEMS && !pql_failed(q))
                return PQL_WORK;
            for (size_t i = 0; i < op->items && !pql_failed(q); i++)
                op->kind->item(op, i, 0);
            break;
        default:
            end(op);
            q->cur = op->next;
            if (q->params.step_each && q->cur != NULL && !pql_failed(q))
                return PQL_WORK;
        }
    }
    return PQL_DONE;
}

bool pql_nests(const struct pql_query *q) { return q->nests; }

size_t pql_regex_bytes(const struct pql_query *q) { return q->parse.regex_bytes; }

size_t pql_work_count(struct pql_query *q)
{
    return q->cur != NULL ? q->cur->items : 0;
}

void pql_work(struct pql_query *q, size_t item, unsigned worker)
{
    if (!pql_failed(q) && q->cur != NULL && item < q->cur->items && worker < q->params.workers)
        q->cur->kind->item(q->cur, item, worker);
}

/* Of each need: does one operator read it, and go through its series once? */
static void find_read_once(struct pql_query *q)
{
    uint32_t *readers = kl_new((q->need_count + 1) * sizeof *readers);

    for (const struct pql_op *op = q->ops; op != NULL; op = op->next)
        readers[op->need] += op->kind == &pql_op_range || op->kind == &pql_op_vector ? 1 : 2;
    for (uint32_t i = 0; i < q->need_count; i++)
        q->needs[i].need.once = readers[i + 1] == 1;
    free(readers);
}

size_t pql_needs(struct pql_query *q, const struct pql_need **needs)
{
    size_t count = 0;

    q->needs_out = kl_resize(q->needs_out, (q->need_count + 1) * sizeof *q->needs_out);
    find_read_once(q);
    for (uint32_t i = 0; i < q->need_count; i++)
        if (!q->needs[i].done)
            q->needs_out[count++] = q->needs[i].need;
    *needs = q->needs_out;
    return count;
}
