#include "libtsproto/record.h"

#include <assert.h>
#include <math.h>

/*
 * A histogram as bytes:
 *   u8 flags (bits 0-1 reset, 2 was integer, 3 counts are varints)   zigzag schema
 *   f64 zero threshold   f64 sum   count, zero count (varint or f64, by flag)
 *   positive then negative: varint span count, { zigzag offset, varint length }, the counts as
 *   differences of integers (zigzag, by flag) or f64
 *   varint bound count, f64 each
 * Integer form is used when every count is a whole number below 2^53, so that it is exact.
 */
enum { INTS = 8 };

static bool whole(double v) { return v >= 0 && v < 0x1p53 && v == floor(v) && !signbit(v); }

static bool all_whole(const struct kl_hist *h)
{
    bool ok = whole(h->count) && whole(h->zero_count);

    for (uint32_t i = 0; ok && i < h->pos_count; i++)
        ok = whole(h->pos[i]);
    for (uint32_t i = 0; ok && i < h->neg_count; i++)
        ok = whole(h->neg[i]);
    return ok;
}

static void put_side(struct kl_buf *out, bool ints, const struct kl_hist_span *spans, uint32_t n,
                     const double *counts, uint32_t count)
{
    int64_t  last = 0;
    uint64_t total = 0;

    kl_buf_addv(out, n);
    for (uint32_t i = 0; i < n; i++) {
        kl_buf_addz(out, spans[i].offset);
        kl_buf_addv(out, spans[i].length);
        total += spans[i].length;
    }
    /* A reader takes as many counts as the spans speak of: other bytes would poison the log. */
    assert(total == count && total <= KL_HIST_BUCKETS_MAX && n <= KL_HIST_SPANS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (ints) {
            kl_buf_addz(out, (int64_t)counts[i] - last);
            last = (int64_t)counts[i];
        } else {
            kl_buf_addf64(out, counts[i]);
        }
    }
}

void tsp_hist_put(struct kl_buf *out, const struct kl_hist *h)
{
    bool ints = all_whole(h);

    kl_buf_add8(out, (uint8_t)(h->reset & 3) | (uint8_t)(h->was_int << 2) | (uint8_t)(ints ? INTS : 0));
    kl_buf_addz(out, h->schema);
    kl_buf_addf64(out, h->zero_threshold);
    kl_buf_addf64(out, h->sum);
    if (ints) {
        kl_buf_addv(out, (uint64_t)h->count);
        kl_buf_addv(out, (uint64_t)h->zero_count);
    } else {
        kl_buf_addf64(out, h->count);
        kl_buf_addf64(out, h->zero_count);
    }
    put_side(out, ints, h->pos_spans, h->pos_span_count, h->pos, h->pos_count);
    put_side(out, ints, h->neg_spans, h->neg_span_count, h->neg, h->neg_count);
    kl_buf_addv(out, h->bound_count);
    for (uint32_t i = 0; i < h->bound_count; i++)
        kl_buf_addf64(out, h->bounds[i]);
}

static enum kl_code cut_short(struct kl_err *err)
{
    return kl_fail(err, KL_ECORRUPT, "is cut short, or beyond its bounds");
}

static enum kl_code get_side(struct kl_cur *c, struct kl_arena *arena, bool ints,
                             const struct kl_hist_span **spans_out, uint32_t *span_count,
                             const double **counts_out, uint32_t *count, struct kl_err *err)
{
    uint64_t n = kl_cur_v(c), total = 0;
    struct kl_hist_span *spans;
    double  *counts;
    int64_t  last = 0;

    if (c->bad || n > KL_HIST_SPANS_MAX || n > kl_cur_left(c) / 2)
        return cut_short(err);
    spans = kl_arena_alloc(arena, (size_t)n * sizeof *spans);
    if (spans == NULL)
        return kl_fail(err, KL_ELIMIT, "has no room for its spans");
    for (uint64_t i = 0; i < n; i++) {
        int64_t  offset = kl_cur_z(c);
        uint64_t length = kl_cur_v(c);
        if (c->bad || offset < INT32_MIN || offset > INT32_MAX || length > KL_HIST_BUCKETS_MAX ||
            (total += length) > KL_HIST_BUCKETS_MAX)
            return cut_short(err);
        spans[i] = (struct kl_hist_span){ .offset = (int32_t)offset, .length = (uint32_t)length };
    }
    if (total > kl_cur_left(c) / (ints ? 1 : 8))
        return cut_short(err);
    counts = kl_arena_alloc(arena, (size_t)total * sizeof *counts);
    if (counts == NULL)
        return kl_fail(err, KL_ELIMIT, "has no room for its buckets");
    for (uint64_t i = 0; i < total; i++) {
        if (ints) {
            last = (int64_t)((uint64_t)last + (uint64_t)kl_cur_z(c));
            if (last < 0 || last > INT64_C(1) << 53)
                return cut_short(err);
            counts[i] = (double)last;
        } else {
            counts[i] = kl_cur_f64(c);
        }
    }
    *spans_out = spans;
    *span_count = (uint32_t)n;
    *counts_out = counts;
    *count = (uint32_t)total;
    return c->bad ? cut_short(err) : KL_OK;
}

enum kl_code tsp_hist_get(struct kl_cur *c, struct kl_arena *arena, struct kl_hist *out,
                          struct kl_err *err)
{
    struct kl_hist h = { 0 };
    uint8_t  flags = kl_cur_8(c);
    int64_t  schema = kl_cur_z(c);
    bool     ints = flags & INTS;
    uint64_t n;
    double  *bounds;

    if (c->bad || flags > 15 || ((schema < -4 || schema > 8) && schema != KL_HIST_CUSTOM))
        return cut_short(err);
    h.schema = (int32_t)schema;
    h.reset = flags & 3;
    h.was_int = flags >> 2 & 1;
    h.zero_threshold = kl_cur_f64(c);
    h.sum = kl_cur_f64(c);
    h.count = ints ? (double)kl_cur_v(c) : kl_cur_f64(c);
    h.zero_count = ints ? (double)kl_cur_v(c) : kl_cur_f64(c);
    if (get_side(c, arena, ints, &h.pos_spans, &h.pos_span_count, &h.pos, &h.pos_count, err) != KL_OK ||
        get_side(c, arena, ints, &h.neg_spans, &h.neg_span_count, &h.neg, &h.neg_count, err) != KL_OK)
        return err->code;
    n = kl_cur_v(c);
    if (c->bad || n > KL_HIST_BUCKETS_MAX || n > kl_cur_left(c) / 8)
        return cut_short(err);
    if (n > 0) {
        bounds = kl_arena_alloc(arena, (size_t)n * sizeof *bounds);
        if (bounds == NULL)
            return kl_fail(err, KL_ELIMIT, "has no room for its bounds");
        for (uint64_t i = 0; i < n; i++)
            bounds[i] = kl_cur_f64(c);
        h.bounds = bounds;
        h.bound_count = (uint32_t)n;
    }
    *out = h;
    return KL_OK;
}
