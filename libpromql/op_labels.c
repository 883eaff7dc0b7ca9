/* label_replace and label_join: rows with other labels. sort and its kin: rows in another order. */
#include <stdlib.h>
#include <string.h>

#include "libpromql/eval_priv.h"

/* Columns stay where they are; only labels differ. */
static struct pql_row *borrow(struct pql_op *op)
{
    const struct pql_rows *in = &op->in[0]->out;
    struct pql_row        *r = pql_out_rows(op, in->count);

    op->shares = true;
    if (r != NULL && in->count > 0)
        memcpy(r, in->at, in->count * sizeof *r);
    return r;
}

static bool label_name(struct pql_op *op, struct kl_span name, const char *what, const char *function)
{
    if (name.size > 0 && kl_utf8_ok(name))
        return true;
    pql_fail(op->q, PQL_EXECUTION, "invalid %s label name in %s(): %.*s", what, function,
             (int)name.size, (const char *)name.at);
    return false;
}

static void relabel(struct pql_op *op, struct pql_row *r, struct kl_span name, const struct kl_buf *value)
{
    if (!kl_buf_ok(value)) {
        pql_fail(op->q, PQL_EXECUTION, "label value of more than %d bytes in %s()", KL_LABELS_BYTES_MAX,
                 op->node->func->name);
        return;
    }
    r->labels = pql_labels_set(op, 0, r->labels, name, kl_buf_span(value));
    if (kl_span_eq(name, kl_span_str("__name__")))
        r->drop_name = false;
}

/* ---- label_replace ---- */

enum { GROUPS_MAX = 64 };

static void label_replace(struct pql_op *op)
{
    struct pql_node *const *args = op->node->args;
    struct kl_span   dst = args[1]->text, form = args[2]->text, src = args[3]->text;
    struct kl_regex *re;
    struct kl_err    err;
    struct pql_row  *r;
    struct kl_buf    value;

    if (kl_regex_new(args[4]->text, &re, &err) != KL_OK) {
        pql_fail(op->q, PQL_EXECUTION, "invalid regular expression in label_replace(): %.*s",
                 (int)args[4]->text.size, (const char *)args[4]->text.at);
        return;
    }
    if (label_name(op, dst, "destination", "label_replace") && (r = borrow(op)) != NULL) {
        kl_buf_init(&value, KL_LABELS_BYTES_MAX);
        for (uint32_t i = 0; i < op->out.count && !pql_failed(op->q); i++) {
            struct kl_span groups[GROUPS_MAX];
            size_t n = kl_regex_groups(re, kl_labels_get(r[i].labels, src), groups, GROUPS_MAX);
            if (n == 0)
                continue;
            kl_buf_reset(&value);
            kl_regex_expand(re, form, groups, n, &value);
            relabel(op, &r[i], dst, &value);
        }
        kl_buf_deinit(&value);
        pql_join_equal(op);
    }
    kl_regex_free(re);
}
const struct pql_op_kind pql_op_label_replace = { "label_replace", label_replace, NULL, NULL };

static void label_join(struct pql_op *op)
{
    struct pql_node *const *args = op->node->args;
    struct pql_row *r;
    struct kl_buf   value;

    for (uint32_t k = 3; k < op->node->count; k++)
        if (!label_name(op, args[k]->text, "source", "label_join"))
            return;
    if (!label_name(op, args[1]->text, "destination", "label_join") || (r = borrow(op)) == NULL)
        return;
    kl_buf_init(&value, KL_LABELS_BYTES_MAX);
    for (uint32_t i = 0; i < op->out.count && !pql_failed(op->q); i++) {
        kl_buf_reset(&value);
        for (uint32_t k = 3; k < op->node->count; k++) {
            struct kl_span v = kl_labels_get(r[i].labels, args[k]->text);
            if (k > 3)
                kl_buf_add(&value, args[2]->text.at, args[2]->text.size);
            kl_buf_add(&value, v.at, v.size);
        }
        relabel(op, &r[i], args[1]->text, &value);
    }
    kl_buf_deinit(&value);
    pql_join_equal(op);
}
const struct pql_op_kind pql_op_label_join = { "label_join", label_join, NULL, NULL };

/* ---- sort ---- */

struct sorting { const struct pql_node *node; bool down; };

/* Digits compare as numbers, the rest byte for byte: "a2" before "a10". */
static int natural(struct kl_span a, struct kl_span b)
{
    const char *x = a.at, *y = b.at, *xe = x + a.size, *ye = y + b.size;

    while (x < xe && y < ye) {
        const char *xs = x, *ys = y;
        bool        dx = *x >= '0' && *x <= '9', dy = *y >= '0' && *y <= '9';
        int         c;

        while (x < xe && (*x >= '0' && *x <= '9') == dx)
            x++;
        while (y < ye && (*y >= '0' && *y <= '9') == dy)
            y++;
        if (dx && dy) {
            while (xs < x - 1 && *xs == '0')
                xs++;
            while (ys < y - 1 && *ys == '0')
                ys++;
            if (x - xs != y - ys)
                return x - xs < y - ys ? -1 : 1;
        }
        c = kl_span_cmp(kl_span(xs, (size_t)(x - xs)), kl_span(ys, (size_t)(y - ys)));
        if (c != 0)
            return c;
    }
    return (x < xe) - (y < ye) != 0 ? (x < xe) - (y < ye) : kl_span_cmp(a, b);
}

static int by_label(const void *pa, const void *pb, void *context)
{
    const struct pql_row *a = pa, *b = pb;
    const struct sorting *s = context;
    int                   c = 0;

    for (uint32_t i = 1; i < s->node->count && c == 0; i++)
        c = natural(kl_labels_get(a->labels, s->node->args[i]->text),
                    kl_labels_get(b->labels, s->node->args[i]->text));
    if (c == 0)
        c = kl_labels_cmp(a->labels, b->labels);
    return s->down ? -c : c;
}

/* NaN last either way. */
static int by_first_value(const void *pa, const void *pb, void *context)
{
    const struct pql_row *ra = pa, *rb = pb;
    const struct sorting *s = context;
    double                a = ra->v[0], b = rb->v[0];

    if (isnan(a) || isnan(b))
        return isnan(a) != isnan(b) ? (isnan(a) ? 1 : -1) : kl_labels_cmp(ra->labels, rb->labels);
    if (a == b)
        return kl_labels_cmp(ra->labels, rb->labels);
    return (a < b) != s->down ? -1 : 1;
}

static void floats_only(struct pql_op *op)
{
    for (uint32_t k = 0; k < op->out.count; k++) {
        struct pql_row *r = &op->out.at[k], old = *r;
        if (old.h == NULL)
            continue;
        if (!pql_rows_new(op, 0, r, 1, false))
            return;
        for (uint32_t i = 0; i < op->grid.count; i++)
            if (old.has[i] == P_FLOAT)
                pql_put(r, i, old.v[i]);
    }
    pql_drop_empty(op);
}

static void sort(struct pql_op *op)
{
    uint16_t       id = op->node->func->id;
    struct sorting s = { op->node, id == FN_SORT_DESC || id == FN_SORT_BY_LABEL_DESC };
    bool           labels = id == FN_SORT_BY_LABEL || id == FN_SORT_BY_LABEL_DESC;

    if (borrow(op) == NULL)
        return;
    if (op->grid.count > 1 || (op->weight == 1 && op->q->step_count == 1
                               && op->q->params.start_ms != op->q->params.end_ms))
        pql_note(op, PQL_ANY_STEP, A_SORT_IN_RANGE, op->node->from, kl_span("", 0), kl_span("", 0), 0, 0);
    if (!labels)
        floats_only(op);
    if (op->grid.count == 1 && op->out.count > 1)
        qsort_r(op->out.at, op->out.count, sizeof *op->out.at, labels ? by_label : by_first_value, &s);
}
const struct pql_op_kind pql_op_sort = { "sort", sort, NULL, NULL };
