/* Working histograms: made from values, scaled, reduced in resolution, turned back into values. */
#include <stdlib.h>
#include <string.h>

#include "libpromql/hist_priv.h"

void pql_hist_init(struct pql_hist *h)
{
    memset(h, 0, sizeof *h);
}

static void side_free(struct pql_side *s)
{
    free(s->index);
    free(s->n);
    free(s->c);
}

void pql_hist_deinit(struct pql_hist *h)
{
    side_free(&h->pos);
    side_free(&h->neg);
    side_free(&h->spare);
    free(h->own_bounds);
}

static void side_room(struct pql_side *s, uint32_t room)
{
    if (room <= s->room)
        return;
    room = room < 16 ? 16 : room + room / 2;
    s->index = kl_resize(s->index, room * sizeof *s->index);
    s->n = kl_resize(s->n, room * sizeof *s->n);
    s->c = kl_resize(s->c, room * sizeof *s->c);
    s->room = room;
}

static inline void side_put(struct pql_side *s, int32_t index, double n, double c)
{
    if (s->count == s->room)
        side_room(s, s->count + 1);
    s->index[s->count] = index;
    s->n[s->count] = n;
    s->c[s->count++] = c;
}

static void side_load(struct pql_side *s, const struct kl_hist_span *spans, uint32_t span_count,
                      const double *n, uint32_t count)
{
    int64_t  index = 0;
    uint32_t at = 0;

    s->count = 0;
    side_room(s, count);
    for (uint32_t i = 0; i < span_count; i++) {
        if (i > 0 && spans[i].offset < 0)
            return;                                    /* not a histogram: take what was sound */
        index += spans[i].offset;
        for (uint32_t k = 0; k < spans[i].length && at < count; k++, index++) {
            if (index > INT32_MAX || index <= INT32_MIN)
                return;
            side_put(s, (int32_t)index, n[at++], 0);
        }
    }
}

static void side_copy(struct pql_side *to, const struct pql_side *from)
{
    side_room(to, from->count);
    to->count = from->count;
    if (from->count == 0)
        return;
    memcpy(to->index, from->index, from->count * sizeof *to->index);
    memcpy(to->n, from->n, from->count * sizeof *to->n);
    memcpy(to->c, from->c, from->count * sizeof *to->c);
}

void pql_hist_load(struct pql_hist *h, const struct kl_hist *from)
{
    h->schema = from->schema;
    h->reset = from->reset;
    h->zero_threshold = from->zero_threshold;
    h->zero = from->zero_count;
    h->count = from->count;
    h->sum = from->sum;
    h->zero_c = h->count_c = h->sum_c = 0;
    h->bounds = from->bounds;
    h->bound_count = from->bound_count;
    side_load(&h->pos, from->pos_spans, from->pos_span_count, from->pos, from->pos_count);
    side_load(&h->neg, from->neg_spans, from->neg_span_count, from->neg, from->neg_count);
}

void pql_hist_copy(struct pql_hist *h, const struct pql_hist *from)
{
    h->schema = from->schema;
    h->reset = from->reset;
    h->zero_threshold = from->zero_threshold;
    h->zero = from->zero;
    h->zero_c = from->zero_c;
    h->count = from->count;
    h->count_c = from->count_c;
    h->sum = from->sum;
    h->sum_c = from->sum_c;
    side_copy(&h->pos, &from->pos);
    side_copy(&h->neg, &from->neg);
    h->bounds = from->bounds;
    h->bound_count = from->bound_count;
    if (from->bound_count > 0 && from->bounds == from->own_bounds) {
        if (h->bound_room < from->bound_count) {
            h->own_bounds = kl_resize(h->own_bounds, from->bound_count * sizeof *h->own_bounds);
            h->bound_room = from->bound_count;
        }
        memcpy(h->own_bounds, from->bounds, from->bound_count * sizeof *h->own_bounds);
        h->bounds = h->own_bounds;
    }
}

static void each(struct pql_side *s, double by, bool divide)
{
    for (uint32_t i = 0; i < s->count; i++) {
        s->n[i] = divide ? s->n[i] / by : s->n[i] * by;
        s->c[i] = divide ? s->c[i] / by : s->c[i] * by;
    }
}

void pql_hist_mul(struct pql_hist *h, double f)
{
    h->zero *= f, h->zero_c *= f;
    h->count *= f, h->count_c *= f;
    h->sum *= f, h->sum_c *= f;
    each(&h->pos, f, false);
    each(&h->neg, f, false);
    if (f < 0)
        h->reset = KL_HIST_GAUGE;
}

void pql_hist_div(struct pql_hist *h, double d)
{
    h->zero /= d, h->zero_c /= d;
    h->count /= d, h->count_c /= d;
    h->sum /= d, h->sum_c /= d;
    if (d == 0) {
        h->pos.count = h->neg.count = 0;
        return;
    }
    each(&h->pos, d, true);
    each(&h->neg, d, true);
    if (d < 0)
        h->reset = KL_HIST_GAUGE;
}

static void side_settle(struct pql_side *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        s->n[i] += s->c[i];
        s->c[i] = 0;
    }
}

void pql_hist_settle(struct pql_hist *h)
{
    h->zero += h->zero_c;
    h->count += h->count_c;
    h->sum += h->sum_c;
    h->zero_c = h->count_c = h->sum_c = 0;
    side_settle(&h->pos);
    side_settle(&h->neg);
}

bool pql_hist_overflows(const struct pql_hist *h)
{
    if (isinf(h->zero) || isinf(h->count) || isinf(h->sum))
        return true;
    for (uint32_t i = 0; i < h->pos.count; i++)
        if (isinf(h->pos.n[i]))
            return true;
    for (uint32_t i = 0; i < h->neg.count; i++)
        if (isinf(h->neg.n[i]))
            return true;
    for (uint32_t i = 0; i < h->bound_count; i++)
        if (isinf(h->bounds[i]))
            return true;
    return false;
}

/* Bucket i of schema s lies in bucket ((i - 1) >> (s - t)) + 1 of the coarser schema t. */
static void side_reduce(struct pql_side *s, int shift, bool kahan)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->count; i++) {
        int32_t to = (int32_t)(((int64_t)s->index[i] - 1) >> shift) + 1;
        if (n > 0 && s->index[n - 1] == to && kahan) {
            pql_kahan(s->n[i], &s->n[n - 1], &s->c[n - 1]);
            pql_kahan(s->c[i], &s->n[n - 1], &s->c[n - 1]);
        } else if (n > 0 && s->index[n - 1] == to) {
            s->n[n - 1] += s->n[i];
        } else {
            s->index[n] = to;
            s->n[n] = s->n[i];
            s->c[n++] = s->c[i];
        }
    }
    s->count = n;
}

void pql_hist_reduce(struct pql_hist *h, int32_t schema, bool kahan)
{
    int shift = h->schema - schema;

    if (shift <= 0 || h->schema == KL_HIST_CUSTOM || schema == KL_HIST_CUSTOM)
        return;
    side_reduce(&h->pos, shift, kahan);
    side_reduce(&h->neg, shift, kahan);
    h->schema = schema;
}

/* ---- back into values ---- */

static bool side_store(struct pql_op *op, unsigned worker, const struct pql_side *s, bool compact,
                       const struct kl_hist_span **spans, uint32_t *span_count, const double **counts,
                       uint32_t *count)
{
    uint32_t             n = 0, runs = 0;
    int64_t              end = 0;
    struct kl_hist_span *sp;
    double              *c;

    for (uint32_t i = 0; i < s->count; i++)
        if (!compact || s->n[i] != 0) {
            runs += n == 0 || s->index[i] != end;
            end = (int64_t)s->index[i] + 1;
            n++;
        }
    *span_count = runs;
    *count = n;
    *spans = NULL;
    *counts = NULL;
    if (n == 0)
        return true;
    *spans = sp = pql_alloc(op, worker, runs * sizeof *sp);
    *counts = c = sp != NULL ? pql_alloc(op, worker, n * sizeof *c) : NULL;
    if (c == NULL)
        return false;
    n = runs = 0;
    end = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        if (compact && s->n[i] == 0)
            continue;
        if (n == 0 || s->index[i] != end)
            sp[runs++] = (struct kl_hist_span){ .offset = (int32_t)(s->index[i] - end), .length = 0 };
        sp[runs - 1].length++;
        c[n++] = s->n[i];
        end = (int64_t)s->index[i] + 1;
    }
    return true;
}

const struct kl_hist *pql_hist_store(struct pql_op *op, unsigned worker, const struct pql_hist *h,
                                     bool compact)
{
    struct kl_hist *k = pql_zalloc(op, worker, sizeof *k);

    if (k == NULL)
        return NULL;
    k->schema = h->schema;
    k->reset = h->reset;
    k->zero_threshold = h->zero_threshold;
    k->zero_count = h->zero;
    k->count = h->count;
    k->sum = h->sum;
    k->bound_count = h->bound_count;
    k->bounds = h->bounds;
    if (h->bound_count > 0) {
        /* Bounds may be borrowed from an input that is freed before this value is. */
        double *b = pql_alloc(op, worker, h->bound_count * sizeof *b);
        if (b == NULL)
            return NULL;
        memcpy(b, h->bounds, h->bound_count * sizeof *b);
        k->bounds = b;
    }
    return side_store(op, worker, &h->pos, compact, &k->pos_spans, &k->pos_span_count, &k->pos,
                      &k->pos_count)
           && side_store(op, worker, &h->neg, compact, &k->neg_spans, &k->neg_span_count, &k->neg,
                         &k->neg_count) ? k : NULL;
}

const struct kl_hist *pql_hist_scaled(struct pql_op *op, unsigned worker, const struct kl_hist *h,
                                      double by, bool divide, bool compact)
{
    struct pql_hist       w;
    const struct kl_hist *out;

    pql_hist_init(&w);
    pql_hist_load(&w, h);
    if (divide)
        pql_hist_div(&w, by);
    else
        pql_hist_mul(&w, by);
    out = pql_hist_store(op, worker, &w, compact);
    pql_hist_deinit(&w);
    return out;
}

const struct kl_hist *pql_hist_hinted(struct pql_op *op, unsigned worker, const struct kl_hist *h,
                                      uint8_t reset)
{
    struct kl_hist *k = pql_alloc(op, worker, sizeof *k);

    if (k == NULL)
        return NULL;
    *k = *h;
    k->reset = reset;
    return k;
}
