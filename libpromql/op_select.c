/* Instant selectors: at each step the newest sample not older than the lookback, stale ones none.
 * Both walk forward, so a whole range costs one pass over samples and steps. */
#include <stdlib.h>

#include "libpromql/partial_priv.h"

#include "libkoal/base/sorted.h"

struct look {
    const struct pql_selector_node *sel;
    bool times, starts;                                /* timestamp(), start_timestamp() */
};

struct pql_fed *pql_op_fed(const struct pql_op *op)
{
    return &op->q->needs[op->need - 1].fed;
}

const struct pql_series *pql_op_series(const struct pql_op *op, unsigned worker, uint32_t i,
                                       struct pql_series *room)
{
    const struct pql_series *s = &pql_op_fed(op)->at[i];

    if (s->later == NULL)
        return s;
    *room = (struct pql_series){ .count = 0 };
    if (!op->q->params.load(op->q->params.load_ctx, s, worker, room))
        return NULL;
    room->labels = s->labels;
    room->part = s->part;
    return room;
}

static bool is_stale(const struct pql_series *s, uint32_t i)
{
    return s->hists != NULL && s->hists[i] != NULL ? kl_is_stale(s->hists[i]->sum)
                                                   : kl_is_stale(s->values[i]);
}

static void prepare(struct pql_op *op)
{
    const struct pql_fed *fed = pql_op_fed(op);
    struct look          *l = pql_zalloc(op, 0, sizeof *l);
    const struct pql_node *n = op->node;

    if (l == NULL)
        return;
    op->own = l;
    if (pql_op_partials(op) != NULL) {
        pql_partial_stand_in(op, 0);
        return;
    }
    if (n->kind == N_CALL) {
        l->times = n->func->id == FN_TIMESTAMP;
        l->starts = n->func->id == FN_START_TIMESTAMP;
        n = n->args[0];
    }
    l->sel = n->sel;
    if (pql_out_rows(op, fed->count) == NULL)
        return;
    pql_slice(op, fed->count, 40 + 2ull * op->grid.count);
}

static void at_step(struct pql_op *op, unsigned worker, const struct look *l, struct pql_row *r,
                    const struct pql_series *s, uint32_t step, uint32_t k)
{
    const struct kl_hist *h = s->hists != NULL ? s->hists[k] : NULL;

    if (l->times) {
        pql_put(r, step, (double)s->times_ms[k] / 1000);
    } else if (l->starts) {
        pql_put(r, step, s->starts_ms != NULL ? (double)s->starts_ms[k] / 1000 : 0);
    } else if (h == NULL) {
        pql_put(r, step, s->values[k]);
    } else if (pql_row_hists(op, worker, r)) {
        pql_put_hist(r, step, h);
    }
}

/* Floats as they are: what most queries do most of the time. */
static void walk_floats(struct pql_op *op, const struct look *l, struct pql_row *r,
                        const struct pql_series *s)
{
    int64_t  offset = l->sel->when.offset_ns / 1000000, lookback = op->q->lookback_ms;
    int64_t  t = (l->sel->when.has_at ? l->sel->when.at_ms : op->grid.start) - offset;
    int64_t  step = l->sel->when.has_at ? 0 : op->grid.step;
    uint32_t k = 0, have = 0;

    for (uint32_t i = 0; i < op->grid.count; i++, t += step) {
        while (k < s->count && s->times_ms[k] <= t)
            k++;
        if (k == 0 || s->times_ms[k - 1] <= t - lookback || kl_is_stale(s->values[k - 1]))
            continue;
        r->v[i] = s->values[k - 1];
        r->has[i] = P_FLOAT;
        have++;
    }
    r->have = have;
}

static void walk(struct pql_op *op, unsigned worker, struct pql_row *r, const struct pql_series *s)
{
    const struct look *l = op->own;
    int64_t  offset = l->sel->when.offset_ns / 1000000, lookback = op->q->lookback_ms;
    uint32_t k = 0;

    for (uint32_t i = 0; i < op->grid.count; i++) {
        int64_t t = (l->sel->when.has_at ? l->sel->when.at_ms : pql_at(op->grid, i)) - offset;

        while (k < s->count && s->times_ms[k] <= t)
            k++;
        if (k == 0 || s->times_ms[k - 1] <= t - lookback || is_stale(s, k - 1))
            continue;
        at_step(op, worker, l, r, s, i, k - 1);
    }
}

/* One step: no walk, a search from the end, where the sample usually is. */
static void look_once(struct pql_op *op, unsigned worker, struct pql_row *r, const struct pql_series *s)
{
    const struct look *l = op->own;
    int64_t  t = (l->sel->when.has_at ? l->sel->when.at_ms : op->grid.start)
               - l->sel->when.offset_ns / 1000000;
    uint32_t low = s->count;

    if (s->times_ms[low - 1] > t)
        low = KL_FIRST(k, s->count, s->times_ms[k] > t);
    if (low > 0 && s->times_ms[low - 1] > t - op->q->lookback_ms && !is_stale(s, low - 1))
        at_step(op, worker, l, r, s, 0, low - 1);
}


static void item(struct pql_op *op, size_t item, unsigned worker)
{
    const struct pql_fed *fed = pql_op_fed(op);
    const struct look    *l = op->own;
    uint32_t              from, to;
    struct pql_tally      tally;

    pql_slice_of(op, item, fed->count, &from, &to);
    if (!pql_rows_new(op, worker, op->out.at + from, to - from, false))
        return;
    pql_tally_begin(op, &tally);
    for (uint32_t i = from; i < to; i++) {
        struct pql_row          *r = &op->out.at[i];
        struct pql_series        room;
        const struct pql_series *s = pql_op_series(op, worker, i, &room);

        if (s == NULL)
            break;
        r->labels = s->labels;
        r->part = s->part;
        r->drop_name = l->times || l->starts;
        if (s->count == 0)
            continue;
        if (l->sel->smoothed && !l->times && !l->starts)
            pql_smooth_row(op, worker, r, s);
        else if (op->grid.count == 1)
            look_once(op, worker, r, s);
        else if (s->hists == NULL && !l->times && !l->starts)
            walk_floats(op, l, r, s);
        else
            walk(op, worker, r, s);
        pql_tally_row(&tally, r);
        if (pql_failed(op->q))
            break;
    }
    pql_tally_end(&tally);
}

const struct pql_op_kind pql_op_vector = { "selector", prepare, item, pql_drop_empty };
