/*
 * Chunks of native histograms; querier/read_hist.c writes the float kind and draws it. All samples of a
 * chunk share one layout. The integer kind holds counts as varbits: of the first sample as they are, of
 * the second as differences, of the others as differences of differences; buckets are besides
 * differences to their neighbour. A stale marker has no buckets behind its sum.
 */
#include "libtsproto/tsdb_priv.h"

#include <math.h>
#include <stdlib.h>

enum { GAUGE = 3, RESET = 2 };

struct layout {
    int32_t  schema;
    double   zero_threshold;
    uint32_t pos_span_count, neg_span_count, pos_count, neg_count, bound_count;
    struct kl_hist_span *pos_spans, *neg_spans;
    double  *bounds;
};

static const uint8_t classes[] = { 0, 3, 6, 9, 12, 18, 25, 56, 64 };

static enum kl_code bad_chunk(struct kl_err *err)
{
    return kl_fail(err, KL_ECORRUPT, "chunk of histograms is cut short, or not of its encoding");
}

static enum kl_code no_room(struct kl_err *err)
{
    return kl_fail(err, KL_ELIMIT, "chunk of histograms is larger than there is room for");
}

static uint64_t get_uint(struct tsp_bits *b)
{
    unsigned n = classes[tsp_bits_ones(b, 8)];

    return n == 0 ? 0 : n == 64 ? tsp_bits_64(b) : tsp_bits_get(b, n);
}

static int64_t get_int(struct tsp_bits *b)
{
    unsigned n = classes[tsp_bits_ones(b, 8)];

    return n == 0 ? 0 : tsp_bits_signed(b, n);
}

static double get_threshold(struct tsp_bits *b)
{
    unsigned code = (unsigned)tsp_bits_get(b, 8);

    return code == 0 ? 0 : code == 255 ? kl_bits_f64(tsp_bits_64(b)) : ldexp(0.5, (int)code - 243);
}

static enum kl_code get_spans(struct tsp_bits *b, struct kl_arena *arena, struct kl_hist_span **spans,
                              uint32_t *span_count, uint32_t *bucket_count, struct kl_err *err)
{
    uint64_t n = get_uint(b), total = 0;

    if (b->bad || n > KL_HIST_SPANS_MAX || n > (b->end - b->pos) / 2)
        return bad_chunk(err);
    *spans = kl_arena_alloc(arena, (n + 1) * sizeof **spans);
    if (*spans == NULL)
        return no_room(err);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t length = get_uint(b);
        int64_t  offset = get_int(b);

        if (b->bad || length > KL_HIST_BUCKETS_MAX || (total += length) > KL_HIST_BUCKETS_MAX ||
            offset < INT32_MIN || offset > INT32_MAX || (i > 0 && offset < 0))
            return bad_chunk(err);
        (*spans)[i] = (struct kl_hist_span){ (int32_t)offset, (uint32_t)length };
    }
    *span_count = (uint32_t)n;
    *bucket_count = (uint32_t)total;
    return KL_OK;
}

static enum kl_code get_bounds(struct tsp_bits *b, struct kl_arena *arena, struct layout *l,
                               struct kl_err *err)
{
    uint64_t n = get_uint(b);

    if (b->bad || n > KL_HIST_BUCKETS_MAX || n > b->end - b->pos)
        return bad_chunk(err);
    l->bounds = kl_arena_alloc(arena, (n + 1) * sizeof *l->bounds);
    if (l->bounds == NULL)
        return no_room(err);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t v = get_uint(b);

        l->bounds[i] = v == 0 ? kl_bits_f64(tsp_bits_64(b)) : (double)(v - 1) / 1000;
        if (i > 0 && !(l->bounds[i] > l->bounds[i - 1]))
            return bad_chunk(err);
    }
    l->bound_count = (uint32_t)n;
    return b->bad ? bad_chunk(err) : KL_OK;
}

static enum kl_code get_layout(struct tsp_bits *b, struct kl_arena *arena, struct layout *l,
                               struct kl_err *err)
{
    int64_t schema;

    *l = (struct layout){ .zero_threshold = get_threshold(b) };
    schema = get_int(b);
    if (b->bad)
        return bad_chunk(err);
    if ((schema < -4 || schema > 8) && schema != KL_HIST_CUSTOM)
        return kl_fail(err, KL_ECORRUPT, "chunk of histograms of schema %lld, which is none",
                       (long long)schema);
    l->schema = (int32_t)schema;
    if (get_spans(b, arena, &l->pos_spans, &l->pos_span_count, &l->pos_count, err) != KL_OK ||
        get_spans(b, arena, &l->neg_spans, &l->neg_span_count, &l->neg_count, err) != KL_OK)
        return err->code;
    if (schema != KL_HIST_CUSTOM)
        return KL_OK;
    if (get_bounds(b, arena, l, err) != KL_OK)
        return err->code;
    return l->neg_span_count > 0 || l->pos_count > l->bound_count + 1 ? bad_chunk(err) : KL_OK;
}

/* ---- one sample after the other ---- */

struct state {
    struct tsp_bits b;
    struct layout   l;
    bool     floats, stale;
    uint64_t time, delta;
    double   sum, count, zero;                         /* of floats */
    uint64_t count_i, count_d, zero_i, zero_d;         /* of integers, and their last differences */
    struct tsp_window sum_w, count_w, zero_w;
    uint32_t buckets;
    double            *values;                         /* of floats; */
    struct tsp_window *windows;
    uint64_t          *ints, *diffs;                   /* of integers */
};

static void next_floats(struct state *s, uint32_t i)
{
    if (i == 0) {
        s->count = kl_bits_f64(tsp_bits_64(&s->b));
        s->zero = kl_bits_f64(tsp_bits_64(&s->b));
        s->sum = kl_bits_f64(tsp_bits_64(&s->b));
    } else {
        s->count = tsp_bits_xor(&s->b, s->count, &s->count_w);
        s->zero = tsp_bits_xor(&s->b, s->zero, &s->zero_w);
        s->sum = tsp_bits_xor(&s->b, s->sum, &s->sum_w);
    }
    s->stale = kl_is_stale(s->sum);
    for (uint32_t k = 0; k < s->buckets && !s->stale && !s->b.bad; k++)
        s->values[k] = i == 0 ? kl_bits_f64(tsp_bits_64(&s->b))
                              : tsp_bits_xor(&s->b, s->values[k], &s->windows[k]);
}

static uint64_t next_int(struct tsp_bits *b, uint32_t i, uint64_t was, uint64_t *diff)
{
    *diff = i == 1 ? (uint64_t)get_int(b) : *diff + (uint64_t)get_int(b);
    return was + *diff;
}

static void next_ints(struct state *s, uint32_t i)
{
    if (i == 0) {
        s->count_i = get_uint(&s->b);
        s->zero_i = get_uint(&s->b);
        s->sum = kl_bits_f64(tsp_bits_64(&s->b));
    } else {
        s->count_i = next_int(&s->b, i, s->count_i, &s->count_d);
        s->zero_i = next_int(&s->b, i, s->zero_i, &s->zero_d);
        s->sum = tsp_bits_xor(&s->b, s->sum, &s->sum_w);
    }
    s->stale = kl_is_stale(s->sum);
    for (uint32_t k = 0; k < s->buckets && !s->stale && !s->b.bad; k++)
        s->ints[k] = i == 0 ? (uint64_t)get_int(&s->b)
                            : next_int(&s->b, i, s->ints[k], &s->diffs[k]);
}

/* Integer buckets are kept as differences to their neighbour. */
static bool absolute(const uint64_t *diffs, uint32_t count, double *out)
{
    uint64_t v = 0;

    for (uint32_t k = 0; k < count; k++) {
        v += diffs[k];
        if (v > UINT64_C(1) << 53)
            return false;
        out[k] = (double)v;
    }
    return true;
}

static enum kl_code emit(struct state *s, struct kl_arena *arena, struct kl_hist *h, struct kl_err *err)
{
    double *buckets;

    *h = (struct kl_hist){ .was_int = !s->floats, .sum = s->sum, .reset = h->reset };
    if (s->stale)
        return KL_OK;
    if (!s->floats && (s->count_i > UINT64_C(1) << 53 || s->zero_i > UINT64_C(1) << 53))
        return bad_chunk(err);
    h->schema = s->l.schema;
    h->zero_threshold = s->l.zero_threshold;
    h->count = s->floats ? s->count : (double)s->count_i;
    h->zero_count = s->floats ? s->zero : (double)s->zero_i;
    h->pos_spans = s->l.pos_spans;
    h->pos_span_count = s->l.pos_span_count;
    h->neg_spans = s->l.neg_spans;
    h->neg_span_count = s->l.neg_span_count;
    h->pos_count = s->l.pos_count;
    h->neg_count = s->l.neg_count;
    h->bounds = s->l.bounds;
    h->bound_count = s->l.bound_count;
    buckets = kl_arena_alloc(arena, (s->buckets + 1) * sizeof *buckets);
    if (buckets == NULL)
        return no_room(err);
    h->pos = buckets;
    h->neg = buckets + h->pos_count;
    if (s->floats)
        memcpy(buckets, s->values, s->buckets * sizeof *buckets);
    else if (!absolute(s->ints, h->pos_count, buckets) ||
             !absolute(s->ints + h->pos_count, h->neg_count, buckets + h->pos_count))
        return kl_fail(err, KL_ECORRUPT, "chunk of histograms with a count below 0, or beyond 2^53");
    return KL_OK;
}

static enum kl_code walk(struct state *s, uint32_t n, unsigned flags, struct kl_arena *arena,
                         int64_t *times_ms, struct kl_hist *hists, struct kl_err *err)
{
    for (uint32_t i = 0; i < n; i++) {
        if (i == 0)
            s->time = (uint64_t)get_int(&s->b);
        else
            s->time += s->delta = i == 1 ? (uint64_t)get_int(&s->b)
                                         : s->delta + (uint64_t)get_int(&s->b);
        if (s->floats)
            next_floats(s, i);
        else
            next_ints(s, i);
        if (s->b.bad)
            return bad_chunk(err);
        if (i > 0 && (int64_t)s->time <= times_ms[i - 1])
            return kl_fail(err, KL_ECORRUPT, "chunk whose times do not rise");
        times_ms[i] = (int64_t)s->time;
        hists[i].reset = flags == GAUGE ? KL_HIST_GAUGE : i > 0 ? KL_HIST_NO_RESET
                       : flags == RESET ? KL_HIST_RESET : KL_HIST_UNKNOWN;
        if (emit(s, arena, &hists[i], err) != KL_OK)
            return err->code;
    }
    return KL_OK;
}

enum kl_code tsp_tsdb_hists(struct kl_span data, bool floats, struct kl_arena *arena, int64_t *times_ms,
                            struct kl_hist *hists, uint32_t *count, struct kl_err *err)
{
    const uint8_t *at = data.at;
    struct state   s = { .floats = floats };
    uint32_t       n;

    if (data.size < 3)
        return bad_chunk(err);
    n = tsp_tsdb_be16(at);
    s.b = tsp_bits(at + 3, data.size - 3);
    if (get_layout(&s.b, arena, &s.l, err) != KL_OK)
        return err->code;
    s.buckets = s.l.pos_count + s.l.neg_count;
    s.values = kl_arena_alloc(arena, (s.buckets + 1) * sizeof *s.values);
    s.windows = kl_arena_alloc(arena, (s.buckets + 1) * sizeof *s.windows);
    s.ints = kl_arena_alloc(arena, (s.buckets + 1) * sizeof *s.ints);
    s.diffs = kl_arena_alloc(arena, (s.buckets + 1) * sizeof *s.diffs);
    if (s.values == NULL || s.windows == NULL || s.ints == NULL || s.diffs == NULL)
        return no_room(err);
    memset(s.values, 0, (s.buckets + 1) * sizeof *s.values);
    memset(s.windows, 0, (s.buckets + 1) * sizeof *s.windows);
    memset(s.ints, 0, (s.buckets + 1) * sizeof *s.ints);
    memset(s.diffs, 0, (s.buckets + 1) * sizeof *s.diffs);
    if (walk(&s, n, at[2] >> 6, arena, times_ms, hists, err) != KL_OK)
        return err->code;
    *count = n;
    return KL_OK;
}
