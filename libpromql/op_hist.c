/* Functions of histograms: those of one native histogram, and quantile and fraction, which take
 * classic ones (series with `le`) as well. */
#include <stdlib.h>
#include <string.h>

#include "libpromql/hist_priv.h"
#include "libpromql/classic_priv.h"

static double of_hist(uint16_t id, const struct kl_hist *h)
{
    switch (id) {
    case FN_HISTOGRAM_COUNT: return h->count;
    case FN_HISTOGRAM_SUM: return h->sum;
    case FN_HISTOGRAM_AVG: return h->sum / h->count;
    case FN_HISTOGRAM_STDVAR: return pql_hist_variance(h);
    default: return sqrt(pql_hist_variance(h));
    }
}

static void prepare(struct pql_op *op)
{
    if (pql_out_rows(op, op->in[0]->out.count) != NULL)
        pql_slice(op, op->out.count, 20 + 20ull * op->grid.count);
}

static void item(struct pql_op *op, size_t item, unsigned worker)
{
    const struct pql_rows *in = &op->in[0]->out;
    uint32_t               from, to;

    if (!pql_rows_of_slice(op, item, worker, in, &from, &to))
        return;
    for (uint32_t k = from; k < to; k++)
        for (uint32_t i = 0; in->at[k].h != NULL && i < op->grid.count; i++)
            if (in->at[k].has[i] == P_HIST)
                pql_put(&op->out.at[k], i, of_hist(op->node->func->id, in->at[k].h[i]));
}
const struct pql_op_kind pql_op_hist_fn = { "histogram function", prepare, item, pql_drop_empty };

/* ---- quantile, quantiles, fraction ---- */

struct bucket_row { double le; uint32_t row; bool bad; };
struct group {                                         /* rows that are one histogram but for `le` */
    struct kl_labels labels;
    uint32_t begin, end;                               /* in struct quantiles.members */
    uint32_t native;                                   /* the native histogram of equal labels + 1 */
};
struct quantiles {
    uint16_t id;
    uint32_t vector, first_q, q_count;                 /* which arguments */
    uint32_t slot_count, *slots;                       /* quantiles: a row each distinct one, where */
    double *slot_values;                               /* argument k at step i has slots[k * steps + i] */
    struct pql_index index;
    struct group *groups;
    struct bucket_row *members;
    uint32_t *out_of_group;
    int32_t at;
};

static bool parse_le(struct kl_span s, double *le)
{
    char  text[64], *end;

    if (s.size == 0 || s.size >= sizeof text)
        return false;
    memcpy(text, s.at, s.size);
    text[s.size] = '\0';
    if (text[0] == ' ' || text[0] == '\t' || text[0] == '\n')
        return false;
    *le = strtod(text, &end);
    return *end == '\0';
}

enum { QUANTILES_MAX = 2000 };

static bool same_value(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

/* The quantiles asked for name rows; they may change from step to step. */
static bool find_slots(struct pql_op *op, struct quantiles *z)
{
    size_t steps = op->grid.count, all = (size_t)z->q_count * steps;

    z->slots = pql_zalloc(op, 0, (all + 1) * sizeof *z->slots);
    z->slot_values = pql_zalloc(op, 0, (all + 1) * sizeof *z->slot_values);
    if (z->slots == NULL || z->slot_values == NULL)
        return false;
    z->slot_count = 1;
    if (z->id != FN_HISTOGRAM_QUANTILES)
        return true;
    z->slot_count = 0;
    for (size_t n = 0; n < all; n++) {
        double   q = pql_scalar(op->in[z->first_q + n / steps], (uint32_t)(n % steps));
        uint32_t s = n % steps > 0 ? z->slots[n - 1] : 0;
        if (s >= z->slot_count || !same_value(z->slot_values[s], q))
            for (s = 0; s < z->slot_count && !same_value(z->slot_values[s], q);)
                s++;
        if (s == QUANTILES_MAX) {
            pql_fail(op->q, PQL_EXECUTION, "more than %d different quantiles", QUANTILES_MAX);
            return false;
        }
        if (s == z->slot_count)
            z->slot_values[z->slot_count++] = q;
        z->slots[n] = s;
    }
    return true;
}

static struct quantiles *arguments(struct pql_op *op)
{
    struct quantiles *z = pql_zalloc(op, 0, sizeof *z);

    if (z == NULL)
        return NULL;
    z->id = op->node->func->id;
    z->vector = z->id == FN_HISTOGRAM_QUANTILE ? 1 : z->id == FN_HISTOGRAM_FRACTION ? 2 : 0;
    z->first_q = z->id == FN_HISTOGRAM_QUANTILES ? 2 : 0;
    z->q_count = z->id == FN_HISTOGRAM_QUANTILES ? op->node->count - 2 : 1;
    z->at = op->node->args[z->vector]->from;
    return find_slots(op, z) ? z : NULL;
}

static int by_le(const void *pa, const void *pb)
{
    const struct bucket_row *a = pa, *b = pb;

    if (a->bad || b->bad)
        return a->bad != b->bad ? a->bad - b->bad : (a->row > b->row) - (a->row < b->row);
    return a->le != b->le ? (a->le > b->le ? 1 : -1) : (a->row > b->row) - (a->row < b->row);
}

/* Each input row belongs to the group of its labels without `le`; a native histogram's own labels may
 * name such a group as well. */
static bool group_rows(struct pql_op *op, struct quantiles *z, const struct pql_rows *in)
{
    struct pql_names le = { 1, &(struct kl_span){ "le", 2 } };
    uint32_t        *group_of = pql_alloc(op, 0, (in->count + 1) * sizeof *group_of);
    struct kl_buf    scratch;
    bool             fine = group_of != NULL && pql_index_new(op, &z->index, 2 * in->count + 1);

    kl_buf_init(&scratch, 4 * KL_LABELS_BYTES_MAX);
    for (uint32_t i = 0; fine && i < in->count; i++)
        fine = (group_of[i] = pql_index_key(op, &z->index, &scratch, in->at[i].labels, le, false))
               != UINT32_MAX;
    kl_buf_deinit(&scratch);
    /* A row with histograms is also found by its full labels, `le` and all. */
    for (uint32_t i = 0; fine && i < in->count; i++)
        if (in->at[i].h != NULL)
            fine = pql_index_put(op, &z->index, in->at[i].labels) != UINT32_MAX;
    if (!fine)
        return false;
    z->groups = pql_zalloc(op, 0, (z->index.count + 2) * sizeof *z->groups);
    z->members = pql_alloc(op, 0, (in->count + 1) * sizeof *z->members);
    if (z->groups == NULL || z->members == NULL)
        return false;
    for (uint32_t i = 0; i < in->count; i++)
        z->groups[group_of[i] + 1].begin++;
    for (uint32_t g = 1; g <= z->index.count; g++)
        z->groups[g].begin += z->groups[g - 1].begin;
    for (uint32_t g = 0; g < z->index.count; g++) {
        z->groups[g].labels = z->index.keys[g];
        z->groups[g].end = z->groups[g].begin;
    }
    for (uint32_t i = 0; i < in->count; i++) {
        struct bucket_row *b = &z->members[z->groups[group_of[i]].end++];
        b->row = i;
        b->bad = !parse_le(kl_labels_get(in->at[i].labels, kl_span_str("le")), &b->le);
        if (in->at[i].h != NULL)
            z->groups[pql_index_put(op, &z->index, in->at[i].labels)].native = i + 1;
    }
    for (uint32_t g = 0; g < z->index.count; g++)
        if (z->groups[g].end - z->groups[g].begin > 1)
            qsort(z->members + z->groups[g].begin, z->groups[g].end - z->groups[g].begin,
                  sizeof *z->members, by_le);
    return true;
}

static void quantile_prepare(struct pql_op *op)
{
    struct quantiles      *z = arguments(op);
    const struct pql_rows *in;

    op->own = z;
    if (z == NULL)
        return;
    in = &op->in[z->vector]->out;
    if (!group_rows(op, z, in))
        return;
    if ((uint64_t)z->index.count * z->slot_count > op->q->series_max) {
        pql_fail(op->q, PQL_EXECUTION, "quantiles would make more than %llu series",
                 (unsigned long long)op->q->series_max);
        return;
    }
    if (pql_out_rows(op, z->index.count * z->slot_count) == NULL)
        return;
    pql_slice(op, z->index.count, 100 + 30ull * op->grid.count * z->q_count
              * (in->count / (z->index.count + 1) + 1));
}

static bool valid(double q) { return q >= 0 && q <= 1; }

static double one(struct pql_op *op, const struct quantiles *z, uint32_t k, uint32_t i,
                  const struct kl_hist *h, struct pql_classic *buckets, uint32_t count,
                  struct kl_span name)
{
    struct pql_forced forced;
    double            q, v;

    if (z->id == FN_HISTOGRAM_FRACTION) {
        double low = pql_scalar(op->in[0], i), high = pql_scalar(op->in[1], i);
        return h != NULL ? pql_hist_fraction(op, i, low, high, h, name, z->at)
                         : pql_classic_fraction(low, high, buckets, count);
    }
    q = pql_scalar(op->in[z->first_q + k], i);
    if (h != NULL)
        return pql_hist_quantile(op, i, q, h, name, z->at);
    v = pql_classic_quantile(q, buckets, count, &forced);
    if (forced.is)
        pql_note_monotonic(op, z->at, name, pql_at(op->grid, i), forced.least, forced.most,
                           forced.diff);
    return v;
}

static void put_value(struct pql_op *op, struct pql_row *r, uint32_t i, double v)
{
    if (r->has[i] != P_NONE)                           /* a quantile given twice */
        pql_fail(op->q, PQL_EXECUTION, "vector cannot contain metrics with the same labelset");
    else
        pql_put(r, i, v);
}

/* One group at one step. */
static void at_step(struct pql_op *op, const struct quantiles *z, uint32_t g, uint32_t i,
                    struct pql_classic *buckets)
{
    const struct pql_rows *in = &op->in[z->vector]->out;
    const struct group    *group = &z->groups[g];
    struct kl_span         name = pql_metric_name(group->labels);
    const struct kl_hist  *h = NULL;
    uint32_t               count = 0;

    if (group->native > 0)
        h = pql_hist_at(&in->at[group->native - 1], i);
    for (uint32_t m = group->begin; m < group->end; m++) {
        const struct bucket_row *b = &z->members[m];
        if (in->at[b->row].has[i] != P_FLOAT)
            continue;
        if (b->bad) {
            pql_note(op, i, A_BAD_BUCKET, z->at, name,
                     kl_labels_get(in->at[b->row].labels, kl_span_str("le")), 0, 0);
            continue;
        }
        buckets[count++] = (struct pql_classic){ b->le, in->at[b->row].v[i] };
    }
    if (h != NULL && count > 0) {
        pql_note(op, i, A_MIXED_CLASSIC, z->at, name, kl_span("", 0), 0, 0);
        return;
    }
    for (uint32_t k = 0; (h != NULL || count > 0) && k < z->q_count; k++) {
        struct pql_classic *copy = buckets;
        if (k + 1 < z->q_count && h == NULL) {         /* the quantile spoils its buckets */
            copy = buckets + (group->end - group->begin);
            memcpy(copy, buckets, count * sizeof *copy);
        }
        put_value(op, &op->out.at[g * z->slot_count + z->slots[(size_t)k * op->grid.count + i]], i,
                  one(op, z, k, i, h, copy, count, name));
    }
}

static void quantile_name(struct kl_buf *b, double q)
{
    kl_buf_reset(b);
    pql_fmt_g(b, q);
    if (isfinite(q) && memchr(b->at, '.', b->size) == NULL && memchr(b->at, 'e', b->size) == NULL)
        kl_buf_adds(b, ".0");                          /* as OpenMetrics writes floats */
}

static void name_rows(struct pql_op *op, unsigned worker, const struct quantiles *z, uint32_t g)
{
    struct kl_buf text;

    kl_buf_init(&text, 64);
    for (uint32_t k = 0; k < z->slot_count; k++) {
        struct pql_row *r = &op->out.at[g * z->slot_count + k];
        r->labels = z->groups[g].labels;
        r->drop_name = true;
        if (z->id == FN_HISTOGRAM_QUANTILES) {
            quantile_name(&text, z->slot_values[k]);
            r->labels = pql_labels_set(op, worker, r->labels, op->node->args[1]->text,
                                       kl_buf_span(&text));
        }
    }
    kl_buf_deinit(&text);
}

static void quantile_item(struct pql_op *op, size_t item, unsigned worker)
{
    const struct quantiles *z = op->own;
    uint32_t                from, to, most = 1;
    struct pql_classic     *buckets;

    pql_slice_of(op, item, z->index.count, &from, &to);
    if (!pql_rows_new(op, worker, op->out.at + from * z->slot_count,
                      (to - from) * z->slot_count, false))
        return;
    for (uint32_t g = from; g < to; g++)
        if (z->groups[g].end - z->groups[g].begin > most)
            most = z->groups[g].end - z->groups[g].begin;
    buckets = kl_resize(NULL, 2 * (size_t)most * sizeof *buckets);
    for (uint32_t g = from; g < to && !pql_failed(op->q); g++) {
        name_rows(op, worker, z, g);
        for (uint32_t i = 0; i < op->grid.count; i++)
            at_step(op, z, g, i, buckets);
    }
    free(buckets);
}

static void quantile_finish(struct pql_op *op)
{
    const struct quantiles *z = op->own;

    for (uint32_t k = 0; z->id != FN_HISTOGRAM_FRACTION && k < z->q_count; k++)
        for (uint32_t i = 0; i < op->grid.count; i++) {
            double q = pql_scalar(op->in[z->first_q + k], i);
            if (!valid(q))
                pql_note(op, i, A_INVALID_QUANTILE, op->node->args[z->first_q + k]->from,
                         kl_span("", 0), kl_span("", 0), q, 0);
        }
    pql_drop_empty(op);
}
const struct pql_op_kind pql_op_hist_quantile = { "histogram quantile", quantile_prepare, quantile_item,
                                                  quantile_finish };
