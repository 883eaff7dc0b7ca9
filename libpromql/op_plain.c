/* The small operators: literals, scalars, what is evaluated once and shown at every step. */
#include <string.h>

#include "libpromql/eval_priv.h"

static void nothing(struct pql_op *op)
{
    (void)op;
}

const struct pql_op_kind pql_op_empty = { "nothing", nothing, NULL, NULL };
const struct pql_op_kind pql_op_string = { "string", nothing, NULL, NULL };

/* One row without labels, present at every step; its column is the caller's to fill. */
static struct pql_row *scalar_row(struct pql_op *op)
{
    struct pql_row *r = pql_out_rows(op, 1);

    if (r == NULL || !pql_rows_new(op, 0, r, 1, false))
        return NULL;
    memset(r->has, P_FLOAT, op->grid.count);
    r->have = op->grid.count;
    return r;
}

static void number(struct pql_op *op)
{
    struct pql_row *r = scalar_row(op);

    for (uint32_t i = 0; r != NULL && i < op->grid.count; i++)
        r->v[i] = op->node->value;
}
const struct pql_op_kind pql_op_number = { "number", number, NULL, NULL };

static void scalar_fn(struct pql_op *op)
{
    struct pql_row *r = scalar_row(op);
    uint16_t        id = op->node->func->id;

    for (uint32_t i = 0; r != NULL && i < op->grid.count; i++)
        r->v[i] = id == FN_TIME ? (double)pql_at(op->grid, i) / 1000 : id == FN_PI ? M_PI
                : id == FN_MAX_OF ? pql_max(pql_scalar(op->in[0], i), pql_scalar(op->in[1], i))
                : pql_min(pql_scalar(op->in[0], i), pql_scalar(op->in[1], i));
}
const struct pql_op_kind pql_op_scalar_fn = { "scalar function", scalar_fn, NULL, NULL };

/* scalar(v): the value of the one float sample, else NaN. */
static void to_scalar(struct pql_op *op)
{
    struct pql_row       *r = scalar_row(op);
    const struct pql_rows *in = &op->in[0]->out;
    uint8_t              *found;

    if (r == NULL || (found = pql_zalloc(op, 0, op->grid.count)) == NULL)
        return;
    for (uint32_t i = 0; i < op->grid.count; i++)
        r->v[i] = NAN;
    for (uint32_t k = 0; k < in->count; k++)
        for (uint32_t i = 0; i < op->grid.count; i++)
            if (in->at[k].has[i] == P_FLOAT) {
                r->v[i] = found[i] ? NAN : in->at[k].v[i];
                found[i] = 1;
            }
}
const struct pql_op_kind pql_op_to_scalar = { "scalar", to_scalar, NULL, NULL };

static void to_vector(struct pql_op *op)
{
    struct pql_row *r = scalar_row(op);

    for (uint32_t i = 0; r != NULL && i < op->grid.count; i++)
        r->v[i] = pql_scalar(op->in[0], i);
}
const struct pql_op_kind pql_op_to_vector = { "vector", to_vector, NULL, NULL };

static void broadcast(struct pql_op *op)
{
    const struct pql_rows *in = &op->in[0]->out;
    struct pql_row        *r = pql_out_rows(op, in->count);

    if (r == NULL || !pql_rows_new(op, 0, r, in->count, false))
        return;
    for (uint32_t k = 0; k < in->count; k++) {
        bool hist = in->at[k].has[0] == P_HIST;

        r[k].labels = in->at[k].labels;
        r[k].drop_name = in->at[k].drop_name;
        if (hist && !pql_row_hists(op, 0, &r[k]))
            return;
        op->shares |= hist;
        for (uint32_t i = 0; i < op->grid.count; i++)
            if (hist)
                pql_put_hist(&r[k], i, in->at[k].h[0]);
            else
                pql_put(&r[k], i, in->at[k].v[0]);
    }
}
const struct pql_op_kind pql_op_broadcast = { "once", broadcast, NULL, NULL };

/* ---- absent ---- */

/* What the matchers say for sure: labels matched by exactly one equality. */
struct kl_labels pql_absent_labels(struct pql_op *op, const struct pql_node *arg)
{
    struct kl_labels l = { .at = NULL, .size = 0 };
    const struct pql_selector_node *s = arg->kind == N_VECTOR ? arg->sel
                                      : arg->kind == N_MATRIX ? arg->a->sel : NULL;

    for (uint32_t i = 0; s != NULL && i < s->count; i++) {
        const struct kl_matcher *m = &s->matchers[i];
        bool                     seen = false;

        if (kl_span_eq(m->name, kl_span_str("__name__")))
            continue;
        for (uint32_t k = 0; k < i; k++)
            seen |= s->matchers[k].op == KL_MATCH_EQ && kl_span_eq(s->matchers[k].name, m->name);
        l = pql_labels_set(op, 0, l, m->name,
                           m->op == KL_MATCH_EQ && !seen ? m->value : kl_span("", 0));
    }
    return l;
}

static void absent(struct pql_op *op)
{
    const struct pql_rows *in = &op->in[0]->out;
    struct pql_row        *r = pql_out_rows(op, 1);
    const struct pql_node *arg = op->node->args[0];

    if (r == NULL || !pql_rows_new(op, 0, r, 1, false))
        return;
    while (arg->kind == N_INVARIANT)
        arg = arg->a;
    r->labels = pql_absent_labels(op, arg);
    for (uint32_t i = 0; i < op->grid.count; i++) {
        bool any = false;
        for (uint32_t k = 0; k < in->count && !any; k++)
            any = in->at[k].has[i] != P_NONE;
        if (!any)
            pql_put(r, i, 1);
    }
}
const struct pql_op_kind pql_op_absent = { "absent", absent, NULL, pql_drop_empty };
