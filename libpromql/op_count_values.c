/* count_values: at each step one row for each value that occurs in a group. */
#include <string.h>

#include "libpromql/agg_priv.h"

#include "libkoal/base/json.h"

static void value_text(struct kl_buf *b, const struct pql_row *r, uint32_t i)
{
    char text[KL_F64_TEXT_MAX];

    kl_buf_reset(b);
    if (r->has[i] == P_HIST)
        pql_hist_text(b, r->h[i]);
    else
        kl_buf_add(b, text, kl_f64_text(r->v[i], text));
}

static bool grow(struct pql_op *op, uint32_t *room)
{
    struct pql_row *more;
    uint32_t        twice = *room == 0 ? 16 : *room * 2;

    more = pql_zalloc(op, 0, (size_t)twice * sizeof *more);
    if (more == NULL)
        return false;
    if (op->out.count > 0)
        memcpy(more, op->out.at, op->out.count * sizeof *more);
    op->out.at = more;
    *room = twice;
    return true;
}

/* The row for `key`, made where there is none. Linear probing over what pql_index would cap. */
struct table { uint32_t *slots, mask, room; };

static bool rehash(struct pql_op *op, struct table *t)
{
    uint32_t size = t->slots == NULL ? 64 : (t->mask + 1) * 2;

    t->slots = pql_alloc(op, 0, size * sizeof *t->slots);
    if (t->slots == NULL)
        return false;
    t->mask = size - 1;
    memset(t->slots, 0xFF, size * sizeof *t->slots);
    for (uint32_t k = 0; k < op->out.count; k++) {
        struct kl_labels l = op->out.at[k].labels;
        uint32_t         i = (uint32_t)kl_hash64(l.at, l.size) & t->mask;
        while (t->slots[i] != UINT32_MAX)
            i = (i + 1) & t->mask;
        t->slots[i] = k;
    }
    return true;
}

static struct pql_row *row_for(struct pql_op *op, struct table *t, struct kl_labels key)
{
    uint32_t        i;
    struct pql_row *r;

    if ((t->slots == NULL || op->out.count * 2 > t->mask) && !rehash(op, t))
        return NULL;
    i = (uint32_t)kl_hash64(key.at, key.size) & t->mask;
    for (; t->slots[i] != UINT32_MAX; i = (i + 1) & t->mask)
        if (pql_labels_eq(op->out.at[t->slots[i]].labels, key))
            return &op->out.at[t->slots[i]];
    if (op->out.count == t->room && !grow(op, &t->room))
        return NULL;
    t->slots[i] = op->out.count;
    r = &op->out.at[op->out.count++];
    if (!pql_rows_new(op, 0, r, 1, false))
        return NULL;
    r->labels = key;
    return r;
}

static void count_values(struct pql_op *op)
{
    const struct pql_rows *in = &op->in[0]->out;
    const struct pql_node *n = op->node;
    struct kl_span         label = n->b->text;
    struct table           t = { .slots = NULL };
    struct pql_names       names;
    struct kl_buf          text;

    if (label.size == 0 || !kl_utf8_ok(label)) {
        kl_buf_init(&text, 1024);
        pql_quote(&text, label);
        pql_fail(op->q, PQL_EXECUTION, "invalid label name %.*s", (int)text.size, text.at);
        kl_buf_deinit(&text);
        return;
    }
    names = pql_grouping_names(op, n, label);
    if (names.at == NULL)
        return;
    kl_buf_init(&text, KL_LABELS_BYTES_MAX);
    for (uint32_t k = 0; k < in->count && !pql_failed(op->q); k++) {
        const struct pql_row *row = &in->at[k];
        struct kl_labels      base = n->without ? pql_labels_drop(op, 0, row->labels, names)
                                                : pql_labels_keep(op, 0, row->labels, names);
        struct pql_row       *last = NULL;
        double                last_v = 0;
        bool                  shows = true;

        /* by() without the label's own name shows it; without() may take it away again. */
        for (uint32_t i = 0; n->without && i < n->count; i++)
            shows = shows && !kl_span_eq(n->grouping[i], label);
        for (uint32_t i = 0; i < op->grid.count; i++) {
            if (row->has[i] == P_NONE)
                continue;
            if (last == NULL || row->has[i] == P_HIST || kl_f64_bits(row->v[i]) != kl_f64_bits(last_v)) {
                value_text(&text, row, i);
                if (!kl_buf_ok(&text)) {
                    pql_fail(op->q, PQL_EXECUTION, "label value of more than %d bytes in count_values",
                             KL_LABELS_BYTES_MAX);
                    break;
                }
                last = row_for(op, &t, shows ? pql_labels_set(op, 0, base, label, kl_buf_span(&text))
                                             : base);
                last_v = row->v[i];
                if (last == NULL)
                    break;
            }
            if (last->has[i] == P_NONE)
                pql_put(last, i, 1);
            else
                last->v[i]++;
            if (row->has[i] == P_HIST)
                last = NULL;
        }
    }
    kl_buf_deinit(&text);
}
const struct pql_op_kind pql_op_count_values = { "count_values", count_values, NULL, NULL };
