/*
 * The samples of a histogram chunk. What seldom changes is kept once for a run of samples; every
 * number is a value column (codec_value.c) over time, each bucket its own: buckets are counters.
 *
 *   count, zero_count, sum: a value column each, of all samples
 *   varint runs, at least 1; each run
 *     varint samples, at least 1   u8 flags: bits 0-1 reset, bit 2 was_int, bit 3 has bounds
 *     zigzag schema   8 bytes zero_threshold
 *     varint n, n times { zigzag offset, varint length }         positive spans
 *     varint n, n times { zigzag offset, varint length }         negative spans
 *     varint buckets, positive    varint buckets, negative
 *     [varint n, n times 8 bytes                                 custom bounds]
 *     a value column of the run's samples for each positive bucket, then each negative one
 *
 * The runs' samples add up to the chunk's. Counts of buckets are kept beside the spans, not summed
 * from them: what was given comes back, even where the two disagree.
 */
#include "libblock/blk_priv.h"

#include <assert.h>

enum { FLAG_RESET = 0x03, FLAG_INT = 0x04, FLAG_BOUNDS = 0x08 };

static enum kl_code corrupt(struct kl_err *err, const char *what)
{
    return kl_fail(err, KL_ECORRUPT, "histogram chunk: %s", what);
}

static bool same_spans(const struct kl_hist_span *a, uint32_t an, const struct kl_hist_span *b,
                       uint32_t bn)
{
    if (an != bn)
        return false;
    for (uint32_t i = 0; i < an; i++)
        if (a[i].offset != b[i].offset || a[i].length != b[i].length)
            return false;
    return true;
}

static bool same_shape(const struct kl_hist *a, const struct kl_hist *b)
{
    return a->schema == b->schema && a->reset == b->reset && a->was_int == b->was_int &&
           kl_f64_bits(a->zero_threshold) == kl_f64_bits(b->zero_threshold) &&
           a->pos_count == b->pos_count && a->neg_count == b->neg_count &&
           same_spans(a->pos_spans, a->pos_span_count, b->pos_spans, b->pos_span_count) &&
           same_spans(a->neg_spans, a->neg_span_count, b->neg_spans, b->neg_span_count) &&
           a->bound_count == b->bound_count && (a->bounds == NULL) == (b->bounds == NULL) &&
           (a->bound_count == 0 ||
            memcmp(a->bounds, b->bounds, a->bound_count * sizeof *a->bounds) == 0);
}

static void put_spans(const struct kl_hist_span *s, uint32_t count, struct kl_buf *out)
{
    kl_buf_addv(out, count);
    for (uint32_t i = 0; i < count; i++) {
        kl_buf_addz(out, s[i].offset);
        kl_buf_addv(out, s[i].length);
    }
}

static void put_run(const struct kl_hist *h, uint32_t count, struct kl_buf *out)
{
    double column[BLK_CHUNK_MAX];

    assert(count >= 1);
    kl_buf_addv(out, count);
    kl_buf_add8(out, (uint8_t)((h->reset & FLAG_RESET) | (h->was_int ? FLAG_INT : 0) |
                               (h->bounds != NULL ? FLAG_BOUNDS : 0)));
    kl_buf_addz(out, h->schema);
    kl_buf_addf64(out, h->zero_threshold);
    put_spans(h->pos_spans, h->pos_span_count, out);
    put_spans(h->neg_spans, h->neg_span_count, out);
    kl_buf_addv(out, h->pos_count);
    kl_buf_addv(out, h->neg_count);
    if (h->bounds != NULL) {
        kl_buf_addv(out, h->bound_count);
        kl_buf_add(out, h->bounds, h->bound_count * sizeof *h->bounds);
    }
    for (uint32_t b = 0; b < h->pos_count; b++) {
        for (uint32_t i = 0; i < count; i++)
            column[i] = h[i].pos[b];
        blk_value_encode(column, count, out);
    }
    for (uint32_t b = 0; b < h->neg_count; b++) {
        for (uint32_t i = 0; i < count; i++)
            column[i] = h[i].neg[b];
        blk_value_encode(column, count, out);
    }
}

void blk_hists_encode(const struct kl_hist *h, uint32_t count, struct kl_buf *out)
{
    double   column[BLK_CHUNK_MAX];
    uint32_t runs = 1;

    assert(count >= 1);
    for (uint32_t i = 0; i < count; i++)
        column[i] = h[i].count;
    blk_value_encode(column, count, out);
    for (uint32_t i = 0; i < count; i++)
        column[i] = h[i].zero_count;
    blk_value_encode(column, count, out);
    for (uint32_t i = 0; i < count; i++)
        column[i] = h[i].sum;
    blk_value_encode(column, count, out);
    for (uint32_t i = 1; i < count; i++)
        runs += !same_shape(&h[i], &h[i - 1]);
    kl_buf_addv(out, runs);
    for (uint32_t at = 0, end; at < count; at = end) {
        for (end = at + 1; end < count && same_shape(&h[end], &h[at]); end++)
            ;
        put_run(h + at, end - at, out);
    }
}

static enum kl_code get_spans(struct kl_cur *c, struct kl_arena *arena,
                              const struct kl_hist_span **spans, uint32_t *count, struct kl_err *err)
{
    uint64_t             n = kl_cur_v(c);
    struct kl_hist_span *s;

    if (c->bad || n > KL_HIST_SPANS_MAX || n * 2 > kl_cur_left(c))
        return corrupt(err, "span count out of bounds");
    *count = (uint32_t)n;
    *spans = NULL;
    if (n == 0)
        return KL_OK;
    if ((s = kl_arena_alloc(arena, n * sizeof *s)) == NULL)
        return kl_fail(err, KL_ELIMIT, "histogram chunk: out of its memory bound");
    for (uint64_t i = 0; i < n; i++) {
        int64_t  offset = kl_cur_z(c);
        uint64_t length = kl_cur_v(c);

        if (c->bad || offset < INT32_MIN || offset > INT32_MAX || length > UINT32_MAX)
            return corrupt(err, "bad span");
        s[i] = (struct kl_hist_span){ (int32_t)offset, (uint32_t)length };
    }
    *spans = s;
    return KL_OK;
}

/* Columns of buckets into rows; row i of the run begins at rows + i * buckets. */
static enum kl_code get_buckets(const struct blk_kernels *k, struct kl_cur *c, uint32_t samples,
                                uint32_t buckets, struct kl_arena *arena, double **rows,
                                struct kl_err *err)
{
    double column[BLK_CHUNK_MAX];

    *rows = NULL;
    if (buckets == 0)
        return KL_OK;
    /* A column takes three bytes at least, so the room asked for is bound to the bytes given. */
    if (buckets > kl_cur_left(c) / 3)
        return corrupt(err, "more buckets than bytes");
    *rows = kl_arena_alloc(arena, (size_t)samples * buckets * sizeof **rows);
    if (*rows == NULL)
        return kl_fail(err, KL_ELIMIT, "histogram chunk: out of its memory bound");
    for (uint32_t b = 0; b < buckets; b++) {
        if (!blk_value_decode(k, c, samples, column))
            return corrupt(err, "bad bucket");
        for (uint32_t i = 0; i < samples; i++)
            (*rows)[(size_t)i * buckets + b] = column[i];
    }
    return KL_OK;
}

static enum kl_code get_run(const struct blk_kernels *k, struct kl_cur *c, uint32_t samples,
                            struct kl_arena *arena, struct kl_hist *h, struct kl_err *err)
{
    struct kl_hist shape = { 0 };
    uint8_t        flags = kl_cur_8(c);
    int64_t        schema = kl_cur_z(c);
    uint64_t       pos, neg, bounds;
    double        *pos_rows, *neg_rows;

    shape.zero_threshold = kl_cur_f64(c);
    if (c->bad || (flags & ~(FLAG_RESET | FLAG_INT | FLAG_BOUNDS)) != 0 || schema < INT32_MIN ||
        schema > INT32_MAX)
        return corrupt(err, "bad run");
    shape.schema = (int32_t)schema;
    shape.reset = flags & FLAG_RESET;
    shape.was_int = (flags & FLAG_INT) != 0;
    if (get_spans(c, arena, &shape.pos_spans, &shape.pos_span_count, err) != KL_OK ||
        get_spans(c, arena, &shape.neg_spans, &shape.neg_span_count, err) != KL_OK)
        return err->code;
    pos = kl_cur_v(c);
    neg = kl_cur_v(c);
    if (c->bad || pos > KL_HIST_BUCKETS_MAX || neg > KL_HIST_BUCKETS_MAX)
        return corrupt(err, "bucket count out of bounds");
    if (flags & FLAG_BOUNDS) {
        struct kl_span raw;
        double        *copy;

        bounds = kl_cur_v(c);
        if (c->bad || bounds > KL_HIST_BUCKETS_MAX)
            return corrupt(err, "bound count out of bounds");
        raw = kl_cur_bytes(c, bounds * sizeof(double));
        if (c->bad)
            return corrupt(err, "bounds cut short");
        if ((copy = kl_arena_alloc(arena, raw.size + 1)) == NULL)
            return kl_fail(err, KL_ELIMIT, "histogram chunk: out of its memory bound");
        memcpy(copy, raw.at, raw.size);
        shape.bounds = copy;
        shape.bound_count = (uint32_t)bounds;
    }
    shape.pos_count = (uint32_t)pos;
    shape.neg_count = (uint32_t)neg;
    if (get_buckets(k, c, samples, shape.pos_count, arena, &pos_rows, err) != KL_OK ||
        get_buckets(k, c, samples, shape.neg_count, arena, &neg_rows, err) != KL_OK)
        return err->code;
    for (uint32_t i = 0; i < samples; i++) {
        double count = h[i].count, zero = h[i].zero_count, sum = h[i].sum;

        h[i] = shape;
        h[i].count = count;
        h[i].zero_count = zero;
        h[i].sum = sum;
        h[i].pos = pos > 0 ? pos_rows + (size_t)i * shape.pos_count : NULL;
        h[i].neg = neg > 0 ? neg_rows + (size_t)i * shape.neg_count : NULL;
    }
    return KL_OK;
}

enum kl_code blk_hists_decode(const struct blk_kernels *k, struct kl_cur *c, uint32_t count,
                              struct kl_arena *arena, struct kl_hist *h, struct kl_err *err)
{
    double   totals[BLK_CHUNK_MAX], zeros[BLK_CHUNK_MAX], sums[BLK_CHUNK_MAX];
    uint64_t runs;
    uint32_t done = 0;

    if (!blk_value_decode(k, c, count, totals) || !blk_value_decode(k, c, count, zeros) ||
        !blk_value_decode(k, c, count, sums))
        return corrupt(err, "bad count, zero count or sum");
    for (uint32_t i = 0; i < count; i++) {
        h[i].count = totals[i];
        h[i].zero_count = zeros[i];
        h[i].sum = sums[i];
    }
    runs = kl_cur_v(c);
    if (c->bad || runs == 0 || runs > count)
        return corrupt(err, "run count out of bounds");
    for (uint64_t r = 0; r < runs; r++) {
        uint64_t samples = kl_cur_v(c);

        if (c->bad || samples == 0 || samples > count - done)
            return corrupt(err, "run length out of bounds");
        if (get_run(k, c, (uint32_t)samples, arena, h + done, err) != KL_OK)
            return err->code;
        done += (uint32_t)samples;
    }
    return done == count ? KL_OK : corrupt(err, "runs do not add up");
}
