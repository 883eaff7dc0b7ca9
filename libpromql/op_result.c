/* The last operator: names dropped that functions owe, rows of equal labels joined, rows as points. */
#include <stdlib.h>
#include <string.h>

#include "libpromql/top_priv.h"

static int by_labels(const void *a, const void *b)
{
    return kl_labels_cmp(((const struct pql_row *)a)->labels, ((const struct pql_row *)b)->labels);
}

static bool in_order(const struct pql_rows *rows)
{
    for (uint32_t i = 1; i < rows->count; i++)
        if (by_labels(&rows->at[i - 1], &rows->at[i]) > 0)
            return false;
    return true;
}

static bool is_matrix(const struct pql_op *op)
{
    return !op->q->params.instant || pql_type(op->q->root) == V_MATRIX;
}

static void prepare(struct pql_op *op)
{
    const struct pql_rows *in = &op->in[0]->out;
    struct pql_row        *r = pql_out_rows(op, in->count);
    bool                   bared = false;

    if (r == NULL)
        return;
    op->shares = true;                                 /* columns until they are points, histograms on */
    for (uint32_t i = 0; i < in->count; i++) {
        r[i] = in->at[i];
        if (r[i].drop_name) {
            struct kl_labels bare = pql_labels_bare(op, 0, r[i].labels);
            bared |= bare.size != r[i].labels.size;
            r[i].labels = bare;
        }
    }
    /* Over several steps operators keep labels apart; at one they leave it to here. */
    if (bared || op->grid.count == 1)
        pql_join_equal(op);
    if (pql_failed(op->q))
        return;
    if (is_matrix(op) && !in_order(&op->out))
        qsort(op->out.at, op->out.count, sizeof *op->out.at, by_labels);
    op->own = pql_alloc(op, 0, ((size_t)op->out.count + 1) * sizeof(struct pql_out_series));
    if (op->own != NULL)
        pql_slice(op, op->out.count, 20 + 2ull * op->grid.count);
}

static void item(struct pql_op *op, size_t item, unsigned worker)
{
    struct pql_out_series *out = op->own;
    uint32_t               from, to;

    pql_slice_of(op, item, op->out.count, &from, &to);
    for (uint32_t k = from; k < to && !pql_failed(op->q); k++) {
        const struct pql_row *r = &op->out.at[k];
        struct pql_point     *p = pql_alloc(op, worker, ((size_t)r->have + 1) * sizeof *p);
        uint32_t              n = 0;

        if (p == NULL)
            return;
        for (uint32_t i = 0; i < op->grid.count; i++)
            if (r->has[i] != P_NONE)
                p[n++] = (struct pql_point){ pql_at(op->grid, i), r->v[i], pql_hist_at(r, i) };
        out[k] = (struct pql_out_series){ .labels = r->labels, .count = n, .points = p };
    }
}

static void finish(struct pql_op *op)
{
    bool hists = false;

    for (uint32_t k = 0; k < op->out.count; k++)
        hists |= op->out.at[k].h != NULL;
    op->shares = hists;                                /* else what the columns took is free again */
}
const struct pql_op_kind pql_op_result = { "result", prepare, item, finish };
