/* An aggregate of one part, as bytes: see partial_priv.h. */
#include <string.h>

#include "libpromql/partial_priv.h"

uint8_t pql_partial_code(uint8_t op)
{
    switch (op) {
    case T_SUM:   return 1;
    case T_AVG:   return 2;
    case T_MIN:   return 3;
    case T_MAX:   return 4;
    case T_COUNT: return 5;
    case T_GROUP: return 6;
    case T_TOPK:  return 7;
    case T_BOTTOMK: return 8;
    default:      return 0;
    }
}

static void put_steps(struct kl_buf *out, const struct pql_row *r, uint32_t steps, const double *v)
{
    for (uint32_t i = 0; i < steps; i++)
        if (r->has[i] != P_NONE)
            kl_buf_addf64(out, v[i]);
}

static bool any_but_zero(const struct pql_row *r, uint32_t steps, const double *c)
{
    for (uint32_t i = 0; c != NULL && i < steps; i++)
        if (r->has[i] != P_NONE && kl_f64_bits(c[i]) != 0)
            return true;
    return false;
}

static void put_bitmap(struct kl_buf *out, const struct pql_row *r, uint32_t steps)
{
    for (uint32_t i = 0; i < steps; i += 8) {
        unsigned bits = 0;

        for (uint32_t k = i; k < steps && k < i + 8; k++)
            bits |= (unsigned)(r->has[k] != P_NONE) << (k - i);
        kl_buf_add8(out, (uint8_t)bits);
    }
}

static void put_group(struct kl_buf *out, const struct pql_op *op, uint32_t g)
{
    static const struct kl_labels none = { NULL, 0 };
    const struct pql_row *r = &op->out.at[g];
    struct pql_unfinished u = pql_partial_is_rows(op->node->op) ? (struct pql_unfinished){ .first = &none }
                                                                : pql_agg_unfinished(op, g);
    uint32_t              steps = op->grid.count;
    bool                  some = any_but_zero(r, steps, u.c);

    kl_buf_addspan(out, kl_span(r->labels.at, r->labels.size));
    kl_buf_addspan(out, kl_span(u.first->at, u.first->size));
    kl_buf_add8(out, (uint8_t)(r->drop_name | (r->have == steps) << 1 | some << 2));
    if (r->have != steps)
        put_bitmap(out, r, steps);
    put_steps(out, r, steps, r->v);
    if (some)
        put_steps(out, r, steps, u.c);
    for (uint32_t i = 0; op->node->op == T_AVG && i < steps; i++)
        if (r->has[i] != P_NONE)
            kl_buf_addv(out, (uint64_t)u.count[i]);
}

/* An average whose sum overflows is another thing when it is made of all rows. */
static bool overflows(const struct pql_op *op)
{
    for (uint32_t g = 0; op->node->op == T_AVG && g < op->out.count; g++)
        for (uint32_t i = 0; i < op->grid.count; i++)
            if (op->out.at[g].has[i] != P_NONE && !isfinite(op->out.at[g].v[i]))
                return true;
    return false;
}

static bool has_hists(const struct pql_query *q)
{
    for (uint32_t i = 0; i < q->needs[0].fed.count; i++)
        if (q->needs[0].fed.at[i].hists != NULL)
            return true;
    return false;
}

enum kl_code pql_partial(struct pql_query *q, struct kl_buf *out, struct kl_err *err)
{
    const struct pql_op     *op = q->top, *in;
    const struct pql_result *r = &q->result;
    struct pql_partial_note  notes[PQL_PARTIAL_NOTES_MAX];
    uint32_t                 note_count = 0, groups = 0;

    if (r->failure.kind != PQL_OK)
        return kl_fail(err, KL_ELIMIT, "%s", r->failure.text);
    if (has_hists(q))
        return kl_fail(err, KL_EINVAL, "there are native histograms among the samples");
    if (overflows(op))
        return kl_fail(err, KL_EINVAL, "an average's sum is infinite");
    if (pql_partial_is_rows(op->node->op) && pql_topk_is_tied(op))
        return kl_fail(err, KL_EINVAL, "equal values, or NaN, are among the first");
    if (!pql_annos_carry(q->annos, notes, &note_count))
        return kl_fail(err, KL_EINVAL, "it comes with warnings");
    in = op->in[0];
    kl_buf_add8(out, PQL_PARTIAL_VERSION);
    kl_buf_add8(out, r->step_count > 0);
    kl_buf_add8(out, pql_partial_code(op->node->op));
    kl_buf_addv(out, op->grid.count);
    kl_buf_addv(out, atomic_load(&q->charged));
    kl_buf_addv(out, atomic_load(&q->series));
    kl_buf_addv(out, in->rows_made);
    kl_buf_addv(out, in->points_made);
    for (uint32_t i = 0; i < r->step_count; i++) {
        kl_buf_addv(out, r->samples_per_step[i]);
        kl_buf_addv(out, r->reads_per_step[i]);
    }
    kl_buf_addv(out, note_count);
    for (uint32_t i = 0; i < note_count; i++) {
        kl_buf_add8(out, notes[i].what);
        kl_buf_addspan(out, notes[i].name);
        kl_buf_addspan(out, notes[i].more);
        for (uint32_t k = 0; k < op->grid.count; k += 8)
            kl_buf_add8(out, notes[i].bits == NULL ? 1 : (uint8_t)(notes[i].bits[k / 64] >> k % 64));
    }
    for (uint32_t g = 0; g < op->out.count; g++)
        groups += op->out.at[g].have > 0;
    kl_buf_addv(out, groups);
    for (uint32_t g = 0; g < op->out.count && kl_buf_ok(out); g++)
        if (op->out.at[g].have > 0)
            put_group(out, op, g);
    return kl_buf_ok(out) ? KL_OK : kl_fail(err, KL_ELIMIT, "its groups are more than a message holds");
}
