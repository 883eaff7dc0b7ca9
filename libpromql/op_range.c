/*
 * A function over a range vector, for all steps of a series in one go: two pointers each for the
 * samples' floats and histograms follow the window (start, end] from step to step.
 */
#include <stdlib.h>
#include <string.h>

#include "libpromql/partial_priv.h"
#include "libpromql/range_priv.h"

struct plan {
    const struct pql_node *arg;                        /* N_MATRIX or N_SUBQUERY */
    const struct pql_when *when;
    bool anchored, smoothed, uses_starts;
    int64_t range_ms, offset_ms, before_ms, after_ms;  /* before, after: how far beyond it may look */
    int32_t at;
    uint32_t which;
};

static bool allowed(struct pql_op *op, const struct plan *p)
{
    uint16_t    id = op->node->func->id;
    bool        rates = id == FN_RATE || id == FN_INCREASE || id == FN_DELTA;
    const char *name = op->node->func->name;

    if (p->anchored && !rates && id != FN_RESETS && id != FN_CHANGES) {
        pql_fail(op->q, PQL_EXECUTION, "anchored modifier can only be used with: changes, delta, "
                 "increase, rate, resets - not with %s", name);
        return false;
    }
    if (p->smoothed && !rates) {
        pql_fail(op->q, PQL_EXECUTION, "smoothed modifier can only be used with: delta, increase, "
                 "rate - not with %s", name);
        return false;
    }
    return true;
}

static struct plan *make_plan(struct pql_op *op)
{
    struct plan *p = pql_zalloc(op, 0, sizeof *p);
    uint16_t     id = op->node->func->id;

    if (p == NULL)
        return NULL;
    while (op->node->args[p->which]->kind != N_MATRIX && op->node->args[p->which]->kind != N_SUBQUERY)
        p->which++;
    p->arg = op->node->args[p->which];
    p->range_ms = p->arg->range_ns / 1000000;
    p->when = &p->arg->when;
    if (p->arg->kind == N_MATRIX) {
        p->when = &p->arg->a->sel->when;
        p->anchored = p->arg->a->sel->anchored;
        p->smoothed = p->arg->a->sel->smoothed;
        p->uses_starts = id == FN_RATE || id == FN_INCREASE || id == FN_IRATE || id == FN_RESETS;
    }
    p->offset_ms = p->when->offset_ns / 1000000;
    if (p->anchored || p->smoothed)
        p->before_ms = op->q->lookback_ms;
    if (p->smoothed)
        p->after_ms = op->q->lookback_ms;
    /* Prometheus puts a subquery's result in the argument's place, and that has no position. */
    p->at = op->node->args[0]->kind == N_SUBQUERY ? 0 : op->node->args[0]->from;
    return allowed(op, p) ? p : NULL;
}

static pql_range_fn *function(uint16_t id, const struct plan *p, bool rows)
{
    switch (id) {
    case FN_RATE: case FN_INCREASE: case FN_DELTA:
        if (rows)
            return pql_range_rate_rows;
        return p->anchored || p->smoothed ? pql_range_extended : pql_range_rate;
    case FN_IRATE: case FN_IDELTA:
        return pql_range_instant;
    case FN_SUM_OVER_TIME: case FN_AVG_OVER_TIME:
        return pql_range_sum;
    case FN_CHANGES: case FN_RESETS:
        return pql_range_changes;
    case FN_DERIV: case FN_PREDICT_LINEAR: case FN_DOUBLE_EXPONENTIAL_SMOOTHING:
        return pql_range_trend;
    case FN_COUNT_OVER_TIME: case FN_PRESENT_OVER_TIME: case FN_FIRST_OVER_TIME:
    case FN_LAST_OVER_TIME: case FN_TS_OF_FIRST_OVER_TIME: case FN_TS_OF_LAST_OVER_TIME:
        return pql_range_ends;
    default:
        return pql_range_float;
    }
}

static void prepare(struct pql_op *op)
{
    uint32_t count = pql_source_count(op);

    op->own = make_plan(op);
    if (op->own != NULL && pql_op_partials(op) != NULL) {
        pql_partial_stand_in(op, ((struct plan *)op->own)->at);
        return;
    }
    if (op->own != NULL && pql_out_rows(op, count) != NULL)
        pql_slice(op, count, 100 + 30ull * op->grid.count);
}

/* ---- what is found once per series ---- */

/* Counter resets and overlaps of start times: they depend on neighbours only, not on the window. */
static bool find_resets(struct pql_range_call *c, const struct pql_source *s, bool starts,
                        uint32_t **list, uint32_t *room)
{
    uint32_t       n = 0, overlaps = 0;
    const int64_t *st = starts ? s->f.st : NULL;

    c->resets = c->overlaps = NULL;
    c->reset_count = c->overlap_count = c->reset_from = 0;
    if (c->id != FN_RATE && c->id != FN_INCREASE)
        return true;
    if (st == NULL && !pql_may_fall(s->f.v, s->f.count))       /* a counter seldom falls */
        return true;
    if (*room < 2 * s->f.count) {
        *room = 2 * s->f.count + 64;
        *list = kl_resize(*list, *room * sizeof **list);
    }
    for (uint32_t i = 1; i < s->f.count; i++)
        if (s->f.v[i] < s->f.v[i - 1]
            || (st != NULL && pql_start_is_reset(st[i - 1], s->f.t[i - 1], st[i], s->f.t[i])))
            (*list)[n++] = i;
    for (uint32_t i = 1; st != NULL && i < s->f.count; i++)
        if (pql_start_overlaps(st[i - 1], s->f.t[i - 1], st[i]))
            (*list)[n + overlaps++] = i;
    c->resets = *list;
    c->reset_count = n;
    c->overlaps = overlaps > 0 ? *list + n : NULL;
    c->overlap_count = overlaps;
    return true;
}

static bool ends_in(struct kl_span s, const char *end)
{
    size_t n = strlen(end);

    return s.size >= n && memcmp((const char *)s.at + s.size - n, end, n) == 0;
}

/* rate() of what does not look like a counter: by its type where it has one, else by its name. */
static void doubt_counter(struct pql_range_call *c, const struct pql_source *s, const struct pql_row *row)
{
    struct kl_span type = kl_labels_get(s->labels, kl_span_str("__type__"));

    if (c->name.size == 0)
        return;
    if (type.size > 0) {
        if (!kl_span_eq(type, kl_span_str("counter")) && !kl_span_eq(type, kl_span_str("histogram")))
            pql_note_floats(c->op, row, A_NON_COUNTER_LABEL, c->at, c->name, type);
    } else if (!ends_in(c->name, "_total") && !ends_in(c->name, "_sum") && !ends_in(c->name, "_count")
               && !ends_in(c->name, "_bucket")) {
        pql_note_floats(c->op, row, A_NON_COUNTER, c->at, c->name, kl_span("", 0));
    }
}

/* ---- the walk ---- */

struct ends { uint32_t f_lo, f_hi, h_lo, h_hi; };

static void follow(struct ends *e, const struct pql_source *s, int64_t from, int64_t to)
{
    while (e->f_hi < s->f.count && s->f.t[e->f_hi] <= to)
        e->f_hi++;
    while (e->f_lo < e->f_hi && s->f.t[e->f_lo] <= from)
        e->f_lo++;
    while (e->h_hi < s->h.count && s->h.t[e->h_hi] <= to)
        e->h_hi++;
    while (e->h_lo < e->h_hi && s->h.t[e->h_lo] <= from)
        e->h_lo++;
}

static struct pql_window window(const struct pql_source *s, const struct ends *e, bool starts)
{
    return (struct pql_window){
        .f = { s->f.t + e->f_lo, s->f.v + e->f_lo, starts && s->f.st != NULL ? s->f.st + e->f_lo : NULL,
               e->f_hi - e->f_lo },
        .h = { e->h_hi > e->h_lo ? s->h.t + e->h_lo : NULL,
               e->h_hi > e->h_lo ? s->h.h + e->h_lo : NULL,
               starts && s->h.st != NULL && e->h_hi > e->h_lo ? s->h.st + e->h_lo : NULL,
               e->h_hi - e->h_lo },
    };
}

static void parameters(struct pql_range_call *c, const struct plan *p, uint32_t step)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < c->op->in_count && n < 2; i++)
        if (i != p->which)
            c->p[n++] = pql_scalar(c->op->in[i], step);
}

static void series(struct pql_range_call *c, const struct plan *p, const struct pql_source *s,
                   struct pql_row *row)
{
    pql_range_fn *f = function(c->id, p, s->f.u != NULL);
    struct ends   e = { 0 };
    struct pql_op *op = c->op;

    if (f == pql_range_rate && s->h.count == 0 && (!p->uses_starts || s->f.st == NULL)) {
        pql_rate_series(c, &s->f, op->grid,
                        (p->when->has_at ? p->when->at_ms : op->grid.start) - p->offset_ms,
                        p->when->has_at ? 0 : op->grid.step, row);
        return;
    }
    for (uint32_t i = 0; i < op->grid.count; i++) {
        int64_t           ts = pql_at(op->grid, i);
        int64_t           end = (p->when->has_at ? p->when->at_ms : ts) - p->offset_ms;
        struct pql_window w;
        struct pql_val    out = { .h = NULL };

        if ((i & 63) == 63 && pql_failed(op->q))
            break;
        follow(&e, s, end - p->range_ms - p->before_ms, end + p->after_ms);
        if (e.f_lo == e.f_hi && e.h_lo == e.h_hi)
            continue;
        w = window(s, &e, p->uses_starts);
        w.end = end;
        w.start = end - p->range_ms;
        w.ts = ts;
        c->step = i;
        c->f_from = e.f_lo;
        c->h_from = e.h_lo;
        if (op->in_count > 1)
            parameters(c, p, i);
        if (!f(c, &w, &out))
            continue;
        if (out.h == NULL)
            pql_put(row, i, out.v);
        else if (pql_row_hists(op, c->worker, row))
            pql_put_hist(row, i, out.h);
        else
            break;
    }
}

static struct pql_tally_range tally_of(const struct plan *p)
{
    return (struct pql_tally_range){ p->when, p->offset_ms, p->range_ms, p->before_ms, p->after_ms,
                                     p->arg->kind == N_MATRIX };
}

static void item(struct pql_op *op, size_t item, unsigned worker)
{
    const struct plan    *p = op->own;
    bool                  counts = op->need > 0 && op->q->needs[op->need - 1].counts;
    struct pql_range_call c = { .op = op, .worker = worker,
                                .id = counts ? FN_SUM_OVER_TIME : op->node->func->id, .anchored = p->anchored, .smoothed = p->smoothed, .at = p->at,
                                .range_ms = p->range_ms,
                                .range_s = (double)p->arg->range_ns / 1e9 };
    bool            keeps_name = c.id == FN_LAST_OVER_TIME || c.id == FN_FIRST_OVER_TIME;
    bool            sorts = c.id == FN_QUANTILE_OVER_TIME || c.id == FN_MAD_OVER_TIME;
    struct pql_room room = { .room = 0 };
    uint32_t        from, to, *resets = NULL, reset_room = 0, scratch_room = 0;
    size_t          arrays = pql_source_bytes(op);
    struct pql_tally       tally;
    struct pql_tally_range counted = tally_of(p);

    pql_slice_of(op, item, op->out.count, &from, &to);
    if (!pql_rows_new(op, worker, op->out.at + from, to - from, false) || !pql_memory_take(op->q, arrays))
        return;
    pql_tally_begin(op, &tally);
    for (uint32_t i = from; i < to && !pql_failed(op->q); i++) {
        struct pql_source s;
        struct pql_row   *row = &op->out.at[i];

        if (!pql_source_get(op, worker, i, &room, &s))
            break;
        row->labels = s.labels;
        row->part = s.part;
        row->drop_name = !keeps_name || s.drop_name;
        c.src = &s;
        c.name = pql_metric_name(s.labels);
        find_resets(&c, &s, p->uses_starts, &resets, &reset_room);
        if (sorts && scratch_room < s.f.count) {
            scratch_room = s.f.count + 64;
            c.scratch = kl_resize(c.scratch, scratch_room * sizeof *c.scratch);
        }
        series(&c, p, &s, row);
        pql_tally_windows(&tally, &s, &counted);
        if ((c.id == FN_RATE || c.id == FN_INCREASE) && row->have > 0
            && (row->h == NULL || memchr(row->has, P_FLOAT, op->grid.count) != NULL))
            doubt_counter(&c, &s, row);
    }
    pql_tally_end(&tally);
    pql_room_free(&room);
    pql_memory_give(op->q, arrays);
    free(resets);
    free(c.scratch);
}

static void finish(struct pql_op *op)
{
    /* Only these hand on histograms of their input; a subquery's must then stay alive. */
    op->shares = op->in_count > 0;
    pql_drop_empty(op);
}
const struct pql_op_kind pql_op_range = { "range function", prepare, item, finish };

/* ---- absent_over_time: one row, 1 where no series has anything ---- */

static void absent_prepare(struct pql_op *op)
{
    struct plan    *p = make_plan(op);
    struct pql_row *row = pql_out_rows(op, 1);
    struct pql_room room = { .room = 0 };
    uint8_t        *found;
    uint32_t        count = pql_source_count(op);
    struct pql_tally       tally;
    struct pql_tally_range counted;

    if (p == NULL || row == NULL || !pql_rows_new(op, 0, row, 1, false)
        || (found = pql_zalloc(op, 0, op->grid.count)) == NULL || !pql_memory_take(op->q, pql_source_bytes(op)))
        return;
    counted = tally_of(p);
    pql_tally_begin(op, &tally);
    for (uint32_t k = 0; k < count; k++) {
        struct pql_source s;
        struct ends       e = { 0 };

        if (!pql_source_get(op, 0, k, &room, &s))
            break;
        pql_tally_windows(&tally, &s, &counted);
        for (uint32_t i = 0; i < op->grid.count; i++) {
            int64_t end = (p->when->has_at ? p->when->at_ms : pql_at(op->grid, i)) - p->offset_ms;
            follow(&e, &s, end - p->range_ms, end);
            found[i] |= e.f_lo < e.f_hi || e.h_lo < e.h_hi;
        }
    }
    pql_tally_end(&tally);
    pql_room_free(&room);
    pql_memory_give(op->q, pql_source_bytes(op));
    row->labels = pql_absent_labels(op, p->arg);
    row->drop_name = true;
    for (uint32_t i = 0; i < op->grid.count; i++)
        if (!found[i])
            pql_put(row, i, 1);
}
const struct pql_op_kind pql_op_absent_range = { "absent_over_time", absent_prepare, NULL,
                                                 pql_drop_empty };
