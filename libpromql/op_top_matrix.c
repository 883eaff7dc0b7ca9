/* A range selector as the whole query: its samples as they are; anchored or smoothed, its floats with
 * values at both ends. */
#include <stdlib.h>
#include <string.h>

#include "libpromql/top_priv.h"

struct ends { int64_t from, to, look_from, look_to; };

static struct ends ends_of(const struct pql_op *op)
{
    const struct pql_selector_node *s = op->node->a->sel;
    int64_t     to = (s->when.has_at ? s->when.at_ms : op->grid.start) - s->when.offset_ns / 1000000;
    struct ends e = { .from = to - op->node->range_ns / 1000000, .to = to };

    e.look_from = e.from - (s->anchored || s->smoothed ? op->q->lookback_ms : 0);
    e.look_to = e.to + (s->smoothed ? op->q->lookback_ms : 0);
    return e;
}

static double line(const struct pql_samples *f, uint32_t i, int64_t t)
{
    return f->v[i] + (f->v[i + 1] - f->v[i]) * (double)(t - f->t[i]) / (double)(f->t[i + 1] - f->t[i]);
}

/* The value at the range's start, what lies inside, the value at its end. */
static uint32_t extend(const struct pql_samples *f, uint32_t lo, uint32_t hi, struct ends e,
                       bool smoothed, struct pql_point *p)
{
    uint32_t first = lo, last = hi - 1, n = 0;

    while (first + 1 < hi && first + 1 <= last && f->t[first + 1] <= e.from)
        first++;
    if (smoothed)
        while (last > lo && f->t[last - 1] >= e.to)
            last--;
    if (f->t[last] <= e.from)
        return 0;
    p[n++] = (struct pql_point){ e.from, smoothed && f->t[first] < e.from ? line(f, first, e.from)
                                                                         : f->v[first], NULL };
    for (uint32_t i = first; i <= last; i++)
        if (f->t[i] > e.from && f->t[i] < e.to)
            p[n++] = (struct pql_point){ f->t[i], f->v[i], NULL };
    p[n++] = (struct pql_point){ e.to, smoothed && last > lo && f->t[last] > e.to
                                       ? line(f, last - 1, e.to) : f->v[last], NULL };
    return n;
}

/* Floats and histograms in one order of time. */
static uint32_t interleave(const struct pql_source *s, struct ends e, struct pql_point *p)
{
    uint32_t i = 0, k = 0, n = 0;

    while (i < s->f.count || k < s->h.count) {
        bool    hist = i >= s->f.count || (k < s->h.count && s->h.t[k] < s->f.t[i]);
        int64_t t = hist ? s->h.t[k] : s->f.t[i];
        if (t > e.from && t <= e.to)
            p[n++] = (struct pql_point){ t, hist ? 0 : s->f.v[i], hist ? s->h.h[k] : NULL };
        if (hist)
            k++;
        else
            i++;
    }
    return n;
}

struct top { size_t count; struct pql_out_series *series; };

static void prepare(struct pql_op *op)
{
    const struct pql_fed           *fed = pql_op_fed(op);
    const struct pql_selector_node *sel = op->node->a->sel;
    struct ends                     e = ends_of(op);
    struct pql_room                 room = { .room = 0 };
    struct top                     *top = pql_zalloc(op, 0, sizeof *top);
    struct pql_tally                tally;

    op->own = top;
    if (top == NULL)
        return;
    pql_tally_begin(op, &tally);
    top->series = pql_alloc(op, 0, ((size_t)fed->count + 1) * sizeof *top->series);
    for (uint32_t k = 0; top->series != NULL && k < fed->count && !pql_failed(op->q); k++) {
        struct pql_source s;
        struct pql_point *p;
        uint32_t          lo = 0, hi, n;

        pql_source_series(&fed->at[k], &room, &s);
        p = pql_alloc(op, 0, ((size_t)s.f.count + s.h.count + 2) * sizeof *p);
        if (p == NULL)
            break;
        if (!sel->anchored && !sel->smoothed) {
            n = interleave(&s, e, p);
        } else {
            for (uint32_t i = 0; i < s.h.count; i++)
                if (s.h.t[i] > e.look_from && s.h.t[i] <= e.look_to) {
                    pql_fail(op->q, PQL_EXECUTION, "%s modifier is not supported with histograms",
                             sel->anchored ? "anchored" : "smoothed");
                    break;
                }
            while (lo < s.f.count && s.f.t[lo] <= e.look_from)
                lo++;
            for (hi = lo; hi < s.f.count && s.f.t[hi] <= e.look_to;)
                hi++;
            n = hi > lo ? extend(&s.f, lo, hi, e, sel->smoothed, p) : 0;
        }
        if (n > 0)
            top->series[top->count++] = (struct pql_out_series){ fed->at[k].labels, n, p };
        pql_tally_points(&tally, p, n);
    }
    pql_tally_end(&tally);
    pql_room_free(&room);
}

const struct pql_out_series *pql_top_matrix_series(const struct pql_op *op, size_t *count)
{
    const struct top *top = op->own;

    *count = top != NULL ? top->count : 0;
    return top != NULL ? top->series : NULL;
}
const struct pql_op_kind pql_op_top_matrix = { "range selector", prepare, NULL, NULL };
