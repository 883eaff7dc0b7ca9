/* Operators on two samples; and between a vector and a scalar. */
#include "libpromql/binop_priv.h"

static void incompatible(struct pql_op *op, uint32_t step, struct pql_operand a, struct pql_operand b)
{
    pql_note(op, step, A_INCOMPATIBLE_TYPES, op->node->from, kl_span("", 0),
             kl_span_str(pql_tok_text(op->node->op)), a.h != NULL, b.h != NULL);
}

static bool sum_of_hists(struct pql_op *op, unsigned worker, uint32_t step, const struct kl_hist *a,
                         const struct kl_hist *b, struct pql_operand *out)
{
    bool                 minus = op->node->op == T_SUB, fine;
    struct kl_span       what = kl_span_str(minus ? "subtraction" : "addition");
    struct pql_hist_said said = { false, false };
    struct pql_hist      h;

    pql_hist_init(&h);
    pql_hist_load(&h, a);
    fine = pql_hist_add(&h, b, minus ? H_SUB : H_ADD, &said);
    if (!fine)
        pql_note(op, step, A_INCOMPATIBLE_LAYOUT, op->node->from, kl_span("", 0),
                 kl_span_str(pql_tok_text(op->node->op)), 0, 0);
    if (fine && minus)
        h.reset = KL_HIST_GAUGE;
    if (said.collision)
        pql_note(op, step, A_RESET_COLLISION, op->node->from, kl_span("", 0), what, 0, 0);
    if (said.reconciled)
        pql_note(op, step, A_MISMATCHED_BOUNDS, op->node->from, kl_span("", 0), what, 0, 0);
    if (fine)
        out->h = pql_hist_store(op, worker, &h, true);
    pql_hist_deinit(&h);
    return fine && out->h != NULL;
}

bool pql_elem(struct pql_op *op, unsigned worker, uint32_t step, struct pql_operand a, struct pql_operand b,
              bool notes, bool *keep, struct pql_operand *out)
{
    uint8_t t = op->node->op;

    *out = (struct pql_operand){ 0, NULL };
    *keep = true;
    if (a.h == NULL && b.h == NULL && t != T_TRIM_LOWER && t != T_TRIM_UPPER) {
        out->v = pql_binop(t, a.v, b.v, keep);
        return true;
    }
    if (a.h == NULL && b.h != NULL && t == T_MUL) {
        out->h = pql_hist_scaled(op, worker, b.h, a.v, false, true);
        return out->h != NULL;
    }
    if (a.h != NULL && b.h == NULL && (t == T_MUL || t == T_DIV)) {
        out->h = pql_hist_scaled(op, worker, a.h, b.v, t == T_DIV, true);
        return out->h != NULL;
    }
    if (a.h != NULL && b.h == NULL && (t == T_TRIM_UPPER || t == T_TRIM_LOWER)) {
        out->h = pql_hist_trim(op, worker, a.h, b.v, t == T_TRIM_UPPER);
        return out->h != NULL;
    }
    if (a.h != NULL && b.h != NULL) {
        if (t == T_ADD || t == T_SUB)
            return sum_of_hists(op, worker, step, a.h, b.h, out);
        if (t == T_EQLC || t == T_NEQ) {
            *keep = pql_hist_equal(a.h, b.h) == (t == T_EQLC);
            out->h = a.h;
            return true;
        }
    }
    if (notes)
        incompatible(op, step, a, b);
    return false;
}

/* ---- with a scalar on one side, or both ---- */

static const struct pql_op *vector_side(const struct pql_op *op, bool *swapped)
{
    *swapped = pql_type(op->node->a) == V_SCALAR;
    return op->in[*swapped];
}

static void scalars(struct pql_op *op)
{
    struct pql_row *r = pql_out_rows(op, 1);

    if (r == NULL || !pql_rows_new(op, 0, r, 1, false))
        return;
    for (uint32_t i = 0; i < op->grid.count; i++)
        pql_put(r, i, pql_scalar_op(op->node->op, pql_scalar(op->in[0], i), pql_scalar(op->in[1], i)));
}

static void prepare(struct pql_op *op)
{
    bool     swapped;
    uint32_t rows;

    if (pql_type(op->node) == V_SCALAR) {
        scalars(op);
        return;
    }
    rows = vector_side(op, &swapped)->out.count;
    op->shares = true;                                 /* comparisons hand histograms on */
    if (pql_out_rows(op, rows) != NULL)
        pql_slice(op, rows, 20 + 4ull * op->grid.count);
}

static void one_row(struct pql_op *op, unsigned worker, const struct pql_row *in, struct pql_row *r,
                    const struct pql_op *scalar, bool swapped)
{
    uint8_t t = op->node->op;
    bool    keep, compares = pql_is_cmp(t), returns_bool = op->node->bool_modifier;

    for (uint32_t i = 0; i < op->grid.count; i++) {
        struct pql_operand v, s = { pql_scalar(scalar, i), NULL }, out;

        if (in->has[i] == P_NONE)
            continue;
        v = pql_operand(in, i);
        if (!pql_elem(op, worker, i, swapped ? s : v, swapped ? v : s, true, &keep, &out))
            continue;
        if (compares && swapped)
            out = v;
        if (returns_bool)
            out = (struct pql_operand){ keep ? 1 : 0, NULL };
        else if (!keep)
            continue;
        if (out.h == NULL)
            pql_put(r, i, out.v);
        else if (pql_row_hists(op, worker, r))
            pql_put_hist(r, i, out.h);
    }
}

static void item(struct pql_op *op, size_t item, unsigned worker)
{
    bool                 swapped, renames = pql_changes_name(op->node->op) || op->node->bool_modifier;
    const struct pql_op *in = vector_side(op, &swapped);
    uint32_t             from, to;

    pql_slice_of(op, item, in->out.count, &from, &to);
    if (!pql_rows_new(op, worker, op->out.at + from, to - from, false))
        return;
    for (uint32_t k = from; k < to && !pql_failed(op->q); k++) {
        op->out.at[k].labels = in->out.at[k].labels;
        op->out.at[k].drop_name = in->out.at[k].drop_name || renames;
        one_row(op, worker, &in->out.at[k], &op->out.at[k], op->in[!swapped], swapped);
    }
}
const struct pql_op_kind pql_op_binary = { "binary with a scalar", prepare, item, pql_drop_empty };
