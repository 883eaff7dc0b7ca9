/*
 * Samples as Prometheus' statistics count them: "queryable" ones, those that each step looked at, and
 * those "read", where what the step before had read is not read again, a subquery reads inside and what @
 * pins is read once. A native histogram weighs its size in Prometheus' memory over 16 bytes. Counted beside
 * the evaluation, and only when asked for.
 */
#include <stdlib.h>

#include "libpromql/range_priv.h"

enum { HIST_BYTES = 168, POINT_BYTES = 16 };

static uint64_t weight(const struct kl_hist *h)
{
    return (HIST_BYTES + 8 * ((uint64_t)h->pos_span_count + h->neg_span_count + h->pos_count +
                              h->neg_count + h->bound_count) + 8) / POINT_BYTES;
}

/* Of the query's steps: a subquery's may be millions. */
bool pql_tally_begin(struct pql_op *op, struct pql_tally *t)
{
    *t = (struct pql_tally){ .op = op };
    if (!op->q->tally)
        return false;
    t->seen = kl_new(op->q->step_count * sizeof *t->seen);
    t->read = kl_new(op->q->step_count * sizeof *t->read);
    return true;
}

/* The step of the query that what is read for the k-th of the operator counts for. */
static uint32_t step_of(const struct pql_op *op, uint32_t k)
{
    const struct pql_params *p = &op->q->params;
    int64_t                  at;

    if (op->q->step_count <= 1 || op->weight > 1)
        return 0;
    if (op->weight == 1)
        return k < op->q->step_count ? k : op->q->step_count - 1;
    /* In a subquery: the first step that is not before it. */
    at = pql_at(op->grid, k) - p->start_ms;
    if (at <= 0)
        return 0;
    at = (at + p->step_ms - 1) / p->step_ms;
    return at < op->q->step_count ? (uint32_t)at : op->q->step_count - 1;
}

void pql_tally_add(struct pql_tally *t, uint32_t step, uint64_t seen, uint64_t read)
{
    uint32_t k = step_of(t->op, step);

    t->seen[k] += seen;
    t->read[k] += read;
}

void pql_tally_end(struct pql_tally *t)
{
    struct pql_op    *op = t->op;
    struct pql_query *q = op->q;
    uint64_t          total = 0;

    if (t->seen == NULL)
        return;
    for (uint32_t k = 0; k < q->step_count; k++) {
        t->seen[k] *= op->times;                       /* run once, and written so often */
        t->read[k] *= op->times;
        total += t->seen[k];
        if (op->weight == 1 && op->grid.count == q->step_count)
            atomic_fetch_add_explicit(&q->per_step[k], t->seen[k], memory_order_relaxed);
        if (t->read[k] > 0)
            atomic_fetch_add_explicit(&q->reads[k], t->read[k], memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&q->samples_total, total * op->weight, memory_order_relaxed);
    if (op->weight > 1)
        atomic_fetch_add_explicit(&q->each_step, total * op->weight / q->step_count,
                                  memory_order_relaxed);
    free(t->seen);
    free(t->read);
}

void pql_tally_row(struct pql_tally *t, const struct pql_row *r)
{
    for (uint32_t k = 0; t->seen != NULL && k < t->op->grid.count; k++) {
        uint64_t n = r->has[k] == P_NONE ? 0 : r->has[k] == P_FLOAT ? 1 : weight(r->h[k]);

        pql_tally_add(t, k, n, n);
    }
}

void pql_tally_points(struct pql_tally *t, const struct pql_point *points, uint32_t count)
{
    for (uint32_t i = 0; t->seen != NULL && i < count; i++) {
        uint64_t n = points[i].hist != NULL ? weight(points[i].hist) : 1;

        t->seen[0] += n;
        t->read[0] += n;
    }
}

/* The first index from `at` on whose time is after t. */
static uint32_t after(const int64_t *times, uint32_t count, uint32_t at, int64_t t)
{
    while (at < count && times[at] <= t)
        at++;
    return at;
}

void pql_tally_windows(struct pql_tally *t, const struct pql_source *s,
                       const struct pql_tally_range *r)
{
    const struct pql_op *op = t->op;
    struct { uint32_t lo, hi, was; } f = { 0 }, h = { 0 };   /* was: where the step before ended */
    uint64_t            *sums;                               /* weights of the histograms up to there */

    if (t->seen == NULL)
        return;
    sums = kl_resize(NULL, ((size_t)s->h.count + 1) * sizeof *sums);
    sums[0] = 0;
    for (uint32_t i = 0; i < s->h.count; i++)
        sums[i + 1] = sums[i] + weight(s->h.h[i]);
    for (uint32_t k = 0; k < op->grid.count; k++) {
        int64_t end = (r->when->has_at ? r->when->at_ms : pql_at(op->grid, k)) - r->offset_ms;

        f.lo = after(s->f.t, s->f.count, f.lo, end - r->range_ms - r->before_ms);
        f.hi = after(s->f.t, s->f.count, f.hi, end + r->after_ms);
        h.lo = after(s->h.t, s->h.count, h.lo, end - r->range_ms - r->before_ms);
        h.hi = after(s->h.t, s->h.count, h.hi, end + r->after_ms);
        pql_tally_add(t, k, f.hi - f.lo + sums[h.hi] - sums[h.lo],
                      r->stored && (k == 0 || !r->when->has_at)
                      ? f.hi - (f.lo > f.was ? f.lo : f.was) + sums[h.hi] - sums[h.lo > h.was ? h.lo : h.was] : 0);
        f.was = f.hi;
        h.was = h.hi;
    }
    free(sums);
}
