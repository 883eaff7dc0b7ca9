/* Aggregations that choose among the rows: topk, bottomk, limitk, limit_ratio. At each step a heap of
 * k per group, as Prometheus keeps it, so that equals are chosen alike. */
#include <stdlib.h>
#include <string.h>

#include "libpromql/partial_priv.h"

struct pick { double v; uint32_t row; };
struct choose {
    uint8_t op;
    struct pql_groups g;
    double *ratios;                                    /* of each row, for limit_ratio */
    uint32_t *order;                                   /* an instant's rows in the answer's order */
    struct pql_row *all;                               /* one for each of the input: `out` before its end */
    uint32_t chosen;
};

static bool less(const struct pick *a, const struct pick *b, bool reverse)
{
    return isnan(a->v) || (reverse ? a->v > b->v : a->v < b->v);
}

static void swap(struct pick *a, struct pick *b)
{
    struct pick t = *a;

    *a = *b;
    *b = t;
}

static void push(struct pick *h, uint32_t *n, struct pick p, bool reverse)
{
    uint32_t i = (*n)++, up;

    for (h[i] = p; i > 0; i = up) {
        up = (i - 1) / 2;
        if (!less(&h[i], &h[up], reverse))
            break;
        swap(&h[i], &h[up]);
    }
}

static void sink(struct pick *h, uint32_t n, bool reverse)
{
    uint32_t i = 0, k;

    for (; (k = 2 * i + 1) < n; i = k) {
        if (k + 1 < n && less(&h[k + 1], &h[k], reverse))
            k++;
        if (!less(&h[k], &h[i], reverse))
            break;
        swap(&h[i], &h[k]);
    }
}

/* Best first, NaN last; a plain insertion where few, else by value and then row. */
static int descending(const void *pa, const void *pb)
{
    const struct pick *a = pa, *b = pb;

    if (isnan(a->v) || isnan(b->v))
        return isnan(a->v) - isnan(b->v);
    return a->v != b->v ? (a->v < b->v ? 1 : -1) : (a->row > b->row) - (a->row < b->row);
}

static int ascending(const void *pa, const void *pb)
{
    const struct pick *a = pa, *b = pb;

    if (isnan(a->v) || isnan(b->v))
        return isnan(a->v) - isnan(b->v);
    return a->v != b->v ? (a->v > b->v ? 1 : -1) : (a->row > b->row) - (a->row < b->row);
}

static void sort_picks(struct pick *h, uint32_t n, bool reverse)
{
    if (n > 12) {
        qsort(h, n, sizeof *h, reverse ? ascending : descending);
        return;
    }
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t k = i; k > 0 && less(&h[k - 1], &h[k], reverse); k--)
            swap(&h[k - 1], &h[k]);
}

static bool bad_parameter(struct pql_op *op, const char *what, double v, const char *flows)
{
    struct kl_buf b;

    kl_buf_init(&b, 64);
    pql_fmt_g(&b, v);
    pql_fail(op->q, PQL_EXECUTION, "%s %.*s %s", what, (int)b.size, b.at, flows);
    kl_buf_deinit(&b);
    return false;
}

/* What Prometheus says of the parameter before the first step; false: the answer is empty. */
static bool parameter(struct pql_op *op)
{
    double least = 1.7976931348623157e308, most = -least;
    bool   nan = false;
    int32_t at = op->node->b->from;

    for (uint32_t i = 0; i < op->grid.count; i++) {
        double v = pql_scalar(op->in[1], i);
        most = pql_max(most, v);
        least = pql_min(least, v);
        nan |= isnan(v);
    }
    if (op->node->op == T_LIMIT_RATIO) {
        if (most == 0 && least == 0)
            return false;
        if (nan) {
            pql_fail(op->q, PQL_EXECUTION, "Ratio value is NaN");
            return false;
        }
        if (most > 1)
            pql_note(op, PQL_ANY_STEP, A_INVALID_RATIO, at, kl_span("", 0), kl_span("", 0), most, 1);
        if (least < -1)
            pql_note(op, PQL_ANY_STEP, A_INVALID_RATIO, at, kl_span("", 0), kl_span("", 0), least, -1);
        return true;
    }
    if (most < 1)
        return false;
    if (nan) {
        pql_fail(op->q, PQL_EXECUTION, "Parameter value is NaN");
        return false;
    }
    if (least <= -9223372036854775808.0)
        return bad_parameter(op, "Scalar value", least, "underflows int64");
    if (most >= 9223372036854775808.0)
        return bad_parameter(op, "Scalar value", most, "overflows int64");
    return true;
}

static void prepare(struct pql_op *op)
{
    const struct pql_rows *in = &op->in[0]->out;
    struct choose         *c = pql_zalloc(op, 0, sizeof *c);
    struct kl_buf          scratch;
    uint32_t               blocks;

    op->own = c;
    if (c == NULL || !parameter(op) || in->count == 0
        || !pql_group(op, in, op->node->without, pql_grouping_names(op, op->node, kl_span("", 0)), false,
                      &c->g)
        || pql_out_rows(op, in->count) == NULL || !pql_rows_new(op, 0, op->out.at, in->count, false))
        return;
    c->op = op->node->op;
    c->all = op->out.at;
    op->shares = true;
    for (uint32_t i = 0; i < in->count; i++) {
        op->out.at[i].labels = in->at[i].labels;
        op->out.at[i].drop_name = in->at[i].drop_name;
        if (in->at[i].h != NULL && (c->op == T_LIMITK || c->op == T_LIMIT_RATIO)
            && !pql_row_hists(op, 0, &op->out.at[i]))
            return;
    }
    c->order = pql_alloc(op, 0, in->count * sizeof *c->order);
    if (c->op == T_LIMIT_RATIO) {
        c->ratios = pql_alloc(op, 0, in->count * sizeof *c->ratios);
        kl_buf_init(&scratch, 4 * KL_LABELS_BYTES_MAX);
        for (uint32_t i = 0; c->ratios != NULL && i < in->count; i++)
            c->ratios[i] = pql_ratio_of(in->at[i].labels, &scratch);
        kl_buf_deinit(&scratch);
    }
    blocks = op->grid.count >= 128 ? op->grid.count / 64 : 1;
    pql_slice(op, blocks, (uint64_t)in->count * op->grid.count * 8 / blocks);
    if (blocks < op->items)
        op->items = blocks;
}

static void take(struct pql_op *op, const struct pql_row *in, uint32_t row, uint32_t step)
{
    struct pql_row *out = &op->out.at[row];

    out->v[step] = in->v[step];
    out->has[step] = in->has[step];
    if (in->has[step] == P_HIST)
        out->h[step] = in->h[step];
}

static void choose(struct pql_op *op, struct choose *c, uint32_t group, uint32_t step, uint32_t k,
                   double ratio, struct pick *heap)
{
    const struct pql_rows *in = &op->in[0]->out;
    bool                   reverse = c->op == T_BOTTOMK, ranks = reverse || c->op == T_TOPK;
    uint32_t               n = 0;

    for (uint32_t m = c->g.begins[group]; m < c->g.begins[group + 1]; m++) {
        uint32_t    row = c->g.members[m];
        struct pick p = { in->at[row].v[step], row };

        if (in->at[row].has[step] == P_NONE)
            continue;
        if (ranks && in->at[row].has[step] == P_HIST) {
            pql_note(op, step, A_IGNORED_IN_AGG, op->node->from, kl_span("", 0),
                     kl_span_str(pql_tok_text(c->op)), 0, 0);
        } else if (c->op == T_LIMIT_RATIO) {
            if (pql_ratio_takes(ratio, c->ratios[row]))
                push(heap, &n, p, false);
        } else if (n < k) {
            push(heap, &n, p, reverse);
        } else if (!ranks) {
            break;
        } else if ((reverse ? heap[0].v > p.v : heap[0].v < p.v) || (isnan(heap[0].v) && !isnan(p.v))) {
            heap[0] = p;
            sink(heap, n, reverse);
        }
    }
    if (ranks && n > 1)
        sort_picks(heap, n, reverse);
    for (uint32_t i = 0; i < n; i++) {
        take(op, &in->at[heap[i].row], heap[i].row, step);
        if (op->grid.count == 1)
            c->order[c->chosen++] = heap[i].row;
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

bool pql_equal_values(double *values, uint32_t count)
{
    bool equal = false;

    for (uint32_t i = 0; i < count; i++)
        equal = equal || isnan(values[i]);
    if (equal || count < 2)
        return equal;
    qsort(values, count, sizeof *values, by_value);
    for (uint32_t i = 1; i < count && !equal; i++)
        equal = values[i] == values[i - 1];
    return equal;
}

/* At one step, of one group: values as good as the worst that was taken. */
static bool tied(const struct pql_op *op, const struct choose *c, uint32_t group, uint32_t step, const bool *taken,
                 double *values)
{
    const struct pql_row *in = op->in[0]->out.at;
    uint32_t              n = 0, begin = c->g.begins[group], end = c->g.begins[group + 1];
    double                worst = NAN;
    bool                  any = false;

    for (uint32_t m = begin; m < end; m++) {
        double v = in[c->g.members[m]].v[step];

        if (!taken[c->g.members[m]])
            continue;
        if (isnan(v))
            return true;
        if (!any || (c->op == T_TOPK ? v < worst : v > worst))
            worst = v;
        any = true;
    }
    for (uint32_t m = begin; m < end && any; m++) {
        const struct pql_row *r = &in[c->g.members[m]];

        if (r->has[step] == P_FLOAT && (c->op == T_TOPK ? r->v[step] >= worst : r->v[step] <= worst))
            values[n++] = r->v[step];
    }
    return pql_equal_values(values, n);
}

bool pql_topk_is_tied(const struct pql_op *op)
{
    const struct choose *c = op->own;
    uint32_t             count = op->in[0]->out.count;
    double              *values;
    bool                *taken, is = false;

    if (op->out.count == 0)
        return false;
    values = kl_resize(NULL, (count + 1) * sizeof *values);
    taken = kl_resize(NULL, count + 1);
    for (uint32_t i = 0; i < op->grid.count && !is; i++) {
        for (uint32_t k = 0; k < count; k++)
            taken[k] = c->all[k].has[i] != P_NONE;
        for (uint32_t g = 0; g < c->g.count && !is; g++)
            is = tied(op, c, g, i, taken, values);
    }
    free(values);
    free(taken);
    return is;
}

static void item(struct pql_op *op, size_t item, unsigned worker)
{
    struct choose *c = op->own;
    uint32_t       from, to, count = op->in[0]->out.count;
    struct pick   *heap = kl_resize(NULL, ((size_t)count + 1) * sizeof *heap);

    (void)worker;
    pql_slice_of(op, item, op->grid.count, &from, &to);
    for (uint32_t i = from; i < to && !pql_failed(op->q); i++) {
        double  p = pql_scalar(op->in[1], i), ratio = p < -1 ? -1 : p > 1 ? 1 : p;
        int64_t k = c->op == T_LIMIT_RATIO ? (p == 0 ? 0 : 1) : pql_to_i64(p);

        if (k < 1)
            continue;
        for (uint32_t g = 0; g < c->g.count; g++)
            choose(op, c, g, i, k > count ? count : (uint32_t)k, ratio, heap);
    }
    free(heap);
}

static void finish(struct pql_op *op)
{
    struct choose  *c = op->own;
    struct pql_row *ordered;

    if (op->out.count == 0)
        return;
    for (uint32_t k = 0; k < op->out.count; k++)
        for (uint32_t i = 0; i < op->grid.count; i++)
            op->out.at[k].have += op->out.at[k].has[i] != P_NONE;
    if (op->grid.count != 1) {
        if (!op->q->params.partial)
            pql_drop_empty(op);
        return;
    }
    if (op->q->params.partial)                         /* what of it is chosen is said by the columns */
        return;
    ordered = pql_alloc(op, 0, (c->chosen + 1) * sizeof *ordered);
    if (ordered == NULL)
        return;
    for (uint32_t i = 0; i < c->chosen; i++)
        ordered[i] = op->out.at[c->order[i]];
    op->out = (struct pql_rows){ .at = ordered, .count = c->chosen };
}
const struct pql_op_kind pql_op_topk = { "choice", prepare, item, finish };
