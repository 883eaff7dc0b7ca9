/* and, or, unless: which rows of one side stay, step by step, by whether the other side has anything
 * of the same signature then. */
#include <string.h>

#include "libpromql/match_priv.h"

static void prepare(struct pql_op *op)
{
    const struct pql_rows *l = &op->in[0]->out, *r = &op->in[1]->out;
    struct pql_sides      *s = pql_sides_new(op);
    uint32_t               rows = op->node->op == T_OR ? l->count + r->count : l->count;
    const struct pql_rows *seen;
    const uint32_t        *signatures;

    op->own = s;
    op->shares = true;
    if (s == NULL || pql_out_rows(op, rows) == NULL || !pql_rows_new(op, 0, op->out.at, rows, false))
        return;
    /* Which signatures are present at which step, on the side that decides. */
    s->present = pql_zalloc(op, 0, (size_t)s->index.count * op->grid.count + 1);
    if (s->present == NULL)
        return;
    seen = op->node->op == T_OR ? l : r;
    signatures = op->node->op == T_OR ? s->left : s->right;
    for (uint32_t k = 0; k < seen->count; k++)
        for (uint32_t i = 0; i < op->grid.count; i++)
            s->present[(size_t)signatures[k] * op->grid.count + i] |= seen->at[k].has[i] != P_NONE;
    pql_slice(op, rows, 20 + 4ull * op->grid.count);
}

static void copy_where(struct pql_op *op, unsigned worker, struct pql_row *out,
                       const struct pql_row *in, const uint8_t *present, bool when)
{
    out->labels = in->labels;
    out->drop_name = in->drop_name;
    if (in->h != NULL && !pql_row_hists(op, worker, out))
        return;
    for (uint32_t i = 0; i < op->grid.count; i++) {
        if (in->has[i] == P_NONE || (present != NULL && (present[i] != 0) != when))
            continue;
        if (in->has[i] == P_HIST)
            pql_put_hist(out, i, in->h[i]);
        else
            pql_put(out, i, in->v[i]);
    }
}

static void item(struct pql_op *op, size_t item, unsigned worker)
{
    const struct pql_rows  *l = &op->in[0]->out, *r = &op->in[1]->out;
    const struct pql_sides *s = op->own;
    uint32_t                from, to;
    size_t                  steps = op->grid.count;

    pql_slice_of(op, item, op->out.count, &from, &to);
    for (uint32_t k = from; k < to; k++) {
        struct pql_row *out = &op->out.at[k];
        if (k >= l->count)
            copy_where(op, worker, out, &r->at[k - l->count],
                       s->present + s->right[k - l->count] * steps, false);
        else if (op->node->op == T_OR)
            copy_where(op, worker, out, &l->at[k], NULL, true);
        else
            copy_where(op, worker, out, &l->at[k], s->present + s->left[k] * steps,
                       op->node->op == T_AND);
    }
}

static void finish(struct pql_op *op)
{
    pql_drop_empty(op);
    if (op->node->op == T_OR && op->grid.count > 1)
        pql_join_equal(op);
}
const struct pql_op_kind pql_op_set = { "set operator", prepare, item, finish };
