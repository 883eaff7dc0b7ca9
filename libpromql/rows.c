/* Rows: making them, dropping the empty ones, joining those of equal labels; and slicing work. */
#include <string.h>

#include "libpromql/eval_priv.h"

bool pql_rows_new(struct pql_op *op, unsigned worker, struct pql_row *rows, uint32_t count, bool hists)
{
    size_t   steps = op->grid.count;
    double  *v;
    uint8_t *has;

    if (count == 0)
        return !pql_failed(op->q);
    if (steps > SIZE_MAX / 16 / count)
        return pql_count_points(op->q, UINT64_MAX / 2);
    v = pql_alloc(op, worker, count * steps * sizeof *v);
    has = v != NULL ? pql_zalloc(op, worker, count * steps) : NULL;
    if (has == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        rows[i].v = v + i * steps;
        rows[i].has = has + i * steps;
        rows[i].h = NULL;
        rows[i].have = 0;
        if (hists && !pql_row_hists(op, worker, &rows[i]))
            return false;
    }
    return true;
}

bool pql_rows_of_slice(struct pql_op *op, size_t item, unsigned worker, const struct pql_rows *in,
                       uint32_t *from, uint32_t *to)
{
    pql_slice_of(op, item, in->count, from, to);
    if (!pql_rows_new(op, worker, op->out.at + *from, *to - *from, false))
        return false;
    for (uint32_t k = *from; k < *to; k++) {
        op->out.at[k].labels = in->at[k].labels;
        op->out.at[k].drop_name = true;
    }
    return true;
}

bool pql_row_hists(struct pql_op *op, unsigned worker, struct pql_row *row)
{
    if (row->h == NULL)
        row->h = pql_alloc(op, worker, op->grid.count * sizeof *row->h);
    return row->h != NULL;
}

struct pql_row *pql_out_rows(struct pql_op *op, uint32_t count)
{
    op->out.at = pql_zalloc(op, 0, (size_t)count * sizeof *op->out.at + 1);
    op->out.count = op->out.at != NULL ? count : 0;
    return op->out.at;
}

void pql_drop_empty(struct pql_op *op)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < op->out.count; i++)
        if (op->out.at[i].have > 0)
            op->out.at[n++] = op->out.at[i];
    op->out.count = n;
}

/* Adds what `from` has to `into`; false where both have something. */
static bool pour(struct pql_op *op, struct pql_row *into, const struct pql_row *from)
{
    if (from->h != NULL && !pql_row_hists(op, 0, into))
        return true;
    for (uint32_t i = 0; i < op->grid.count; i++) {
        if (from->has[i] == P_NONE)
            continue;
        if (into->has[i] == from->has[i])
            return false;
        if (into->has[i] != P_NONE)
            return false;
        into->has[i] = from->has[i];
        into->v[i] = from->v[i];
        if (from->has[i] == P_HIST)
            into->h[i] = from->h[i];
        into->have++;
    }
    return true;
}

/* Rows may share columns with an input: the one that takes more in gets columns of its own. */
static bool own_columns(struct pql_op *op, struct pql_row *row)
{
    struct pql_row old = *row;

    if (!pql_rows_new(op, 0, row, 1, old.h != NULL))
        return false;
    memcpy(row->v, old.v, op->grid.count * sizeof *row->v);
    memcpy(row->has, old.has, op->grid.count);
    if (old.h != NULL)
        memcpy(row->h, old.h, op->grid.count * sizeof *row->h);
    row->have = old.have;
    return true;
}

static uint32_t first_step(const struct pql_op *op, const struct pql_row *r)
{
    uint32_t i = 0;

    while (i < op->grid.count && r->has[i] == P_NONE)
        i++;
    return i;
}

void pql_join_equal(struct pql_op *op)
{
    struct pql_index x;
    struct pql_row  *rows = op->out.at;
    uint8_t         *owned;
    uint32_t         n = 0;

    if (op->out.count < 2 || !pql_index_new(op, &x, op->out.count))
        return;
    owned = pql_zalloc(op, 0, op->out.count);
    for (uint32_t i = 0; owned != NULL && i < op->out.count; i++) {
        uint32_t k = pql_index_put(op, &x, rows[i].labels);
        if (k == UINT32_MAX)
            return;
        if (k == n) {
            rows[n++] = rows[i];
            continue;
        }
        if (!owned[k] && !own_columns(op, &rows[k]))
            return;
        owned[k] = 1;
        if (first_step(op, &rows[i]) < first_step(op, &rows[k]))
            rows[k].drop_name = rows[i].drop_name;     /* who came first says */
        if (!pour(op, &rows[k], &rows[i])) {
            pql_fail(op->q, PQL_EXECUTION, "vector cannot contain metrics with the same labelset");
            return;
        }
    }
    op->out.count = n;
}

enum { COST_OF_AN_ITEM = 100000 };                     /* some 100 us: less is not worth a hand-over */

void pql_slice(struct pql_op *op, uint32_t units, uint64_t cost)
{
    uint64_t total = (uint64_t)units * (cost > 0 ? cost : 1), items = total / COST_OF_AN_ITEM;

    if (items > PQL_ITEMS_MAX)
        items = PQL_ITEMS_MAX;
    if (items > units)
        items = units;
    op->items = units == 0 ? 0 : items < 2 ? 1 : (size_t)items;
}
