/*
 * Prometheus' chunk of float histograms, as its tsdb/chunkenc writes it:
 *
 *   u16 count, big-endian; u8 flags, the upper two bits: 11 gauge, 10 a reset before it, 00 unknown
 *   then bits: zero threshold (a byte; 255: and 64 bits), schema, spans, custom bounds: the layout
 *   sample 0   time, then 64 bits each of count, zero count, sum, buckets
 *   others     delta of delta of the time, then the same as XORs, each with a window of its own
 *
 * Integers are in Prometheus' "varbit" classes of 0, 3, 6, 9, 12, 18, 25, 56 and 64 bits. All samples of
 * a chunk share one layout, and none but the first may follow a reset.
 */
#include "querier/read_bits_priv.h"

#include <math.h>
#include <stdlib.h>

static const uint8_t classes[] = { 3, 6, 9, 12, 18, 25, 56 };
enum { CLASSES = sizeof classes, GAUGE = 0xc0, RESET = 0x80 };

/* '0', or as many ones as the class, and one more, say; then a zero; then the number. */
static void put_class(struct qr_bits *b, uint64_t v, unsigned class)
{
    for (unsigned i = 0; i <= class; i++)
        qr_put_bit(b, 1);
    if (class < CLASSES)
        qr_put_bit(b, 0);
    qr_put_bits(b, v, class < CLASSES ? classes[class] : 64);
}

static void put_int(struct qr_bits *b, int64_t v)
{
    unsigned class = 0;

    if (v == 0) {
        qr_put_bit(b, 0);
        return;
    }
    while (class < CLASSES && !qr_fits(v, classes[class]))
        class++;
    put_class(b, (uint64_t)v, class);
}

static void put_uint(struct qr_bits *b, uint64_t v)
{
    unsigned class = 0;

    if (v == 0) {
        qr_put_bit(b, 0);
        return;
    }
    while (class < CLASSES && v >> classes[class] != 0)
        class++;
    put_class(b, v, class);
}

static void put_threshold(struct qr_bits *b, double threshold)
{
    int    exponent;
    double fraction = frexp(threshold, &exponent);

    if (threshold == 0) {
        qr_put_bits(b, 0, 8);
    } else if (fraction == 0.5 && exponent >= -242 && exponent <= 11) {
        qr_put_bits(b, (uint64_t)(exponent + 243), 8);
    } else {
        qr_put_bits(b, 255, 8);
        qr_put_bits(b, kl_f64_bits(threshold), 64);
    }
}

static void put_spans(struct qr_bits *b, const struct kl_hist_span *spans, uint32_t count)
{
    put_uint(b, count);
    for (uint32_t i = 0; i < count; i++) {
        put_uint(b, spans[i].length);
        put_int(b, spans[i].offset);
    }
}

/* Multiples of a thousandth as integers, one more than they are; others after a 0. */
static void put_bound(struct qr_bits *b, double v)
{
    double thousands = v * 1000;

    if (thousands >= 0 && thousands <= 33554430 && round(thousands) / 1000 == v) {
        put_uint(b, (uint64_t)round(thousands) + 1);
    } else {
        qr_put_bit(b, 0);
        qr_put_bits(b, kl_f64_bits(v), 64);
    }
}

static void put_layout(struct qr_bits *b, const struct kl_hist *h)
{
    put_threshold(b, h->zero_threshold);
    put_int(b, h->schema);
    put_spans(b, h->pos_spans, h->pos_span_count);
    put_spans(b, h->neg_spans, h->neg_span_count);
    if (h->schema != KL_HIST_CUSTOM)
        return;
    put_uint(b, h->bound_count);
    for (uint32_t i = 0; i < h->bound_count; i++)
        put_bound(b, h->bounds[i]);
}

static bool same_spans(const struct kl_hist_span *a, uint32_t na, const struct kl_hist_span *b,
                       uint32_t nb)
{
    if (na != nb)
        return false;
    for (uint32_t i = 0; i < na; i++)
        if (a[i].offset != b[i].offset || a[i].length != b[i].length)
            return false;
    return true;
}

static bool same_layout(const struct kl_hist *a, const struct kl_hist *b)
{
    return a->schema == b->schema && a->zero_threshold == b->zero_threshold &&
           same_spans(a->pos_spans, a->pos_span_count, b->pos_spans, b->pos_span_count) &&
           same_spans(a->neg_spans, a->neg_span_count, b->neg_spans, b->neg_span_count) &&
           a->pos_count == b->pos_count && a->neg_count == b->neg_count &&
           a->bound_count == b->bound_count &&
           (a->bound_count == 0 ||
            memcmp(a->bounds, b->bounds, a->bound_count * sizeof *a->bounds) == 0);
}

static bool fell(const double *was, const double *is, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!(is[i] >= was[i]))
            return true;
    return false;
}

/* May `h` stand behind `was` in one chunk? */
static bool goes_on(const struct kl_hist *was, const struct kl_hist *h)
{
    if (kl_is_stale(was->sum) || kl_is_stale(h->sum) || !same_layout(was, h) ||
        (was->reset == KL_HIST_GAUGE) != (h->reset == KL_HIST_GAUGE))
        return false;
    if (h->reset == KL_HIST_GAUGE)
        return true;
    return h->reset != KL_HIST_RESET && h->count >= was->count && h->zero_count >= was->zero_count &&
           !fell(was->pos, h->pos, h->pos_count) && !fell(was->neg, h->neg, h->neg_count);
}

uint32_t qr_hist_chunk_run(const struct kl_hist *const *hists, uint32_t count)
{
    uint32_t n = 1;

    while (n < count && n < QR_READ_CHUNK_SAMPLES && hists[n] != NULL &&
           goes_on(hists[n - 1], hists[n]))
        n++;
    return n;
}

static void put_xor(struct qr_bits *b, double v, double was, struct qr_window *w)
{
    qr_put_value(b, kl_f64_bits(v) ^ kl_f64_bits(was), w);
}

void qr_hist_chunk(const int64_t *times_ms, const struct kl_hist *const *hists, uint32_t count,
                   struct kl_buf *out)
{
    struct qr_bits        b = { .out = out };
    const struct kl_hist *first = hists[0];
    struct kl_hist        stale = { .sum = first->sum };
    uint32_t              buckets;
    struct qr_window     *w;
    uint64_t              delta = 0;

    if (kl_is_stale(first->sum))                       /* a stale one has no layout */
        first = &stale;
    buckets = first->pos_count + first->neg_count;
    w = kl_new((3 + (size_t)buckets) * sizeof *w);
    kl_buf_add8(out, (uint8_t)(count >> 8));
    kl_buf_add8(out, (uint8_t)count);
    kl_buf_add8(out, first->reset == KL_HIST_GAUGE ? GAUGE : first->reset == KL_HIST_RESET ? RESET : 0);
    put_layout(&b, first);
    put_int(&b, times_ms[0]);
    qr_put_bits(&b, kl_f64_bits(first->count), 64);
    qr_put_bits(&b, kl_f64_bits(first->zero_count), 64);
    qr_put_bits(&b, kl_f64_bits(first->sum), 64);
    for (uint32_t k = 0; k < first->pos_count; k++)
        qr_put_bits(&b, kl_f64_bits(first->pos[k]), 64);
    for (uint32_t k = 0; k < first->neg_count; k++)
        qr_put_bits(&b, kl_f64_bits(first->neg[k]), 64);
    for (uint32_t i = 1; i < count; i++) {
        const struct kl_hist *h = hists[i], *was = hists[i - 1];
        uint64_t              now = (uint64_t)times_ms[i] - (uint64_t)times_ms[i - 1];

        put_int(&b, (int64_t)(now - delta));
        delta = now;
        put_xor(&b, h->count, was->count, &w[0]);
        put_xor(&b, h->zero_count, was->zero_count, &w[1]);
        put_xor(&b, h->sum, was->sum, &w[2]);
        for (uint32_t k = 0; k < h->pos_count; k++)
            put_xor(&b, h->pos[k], was->pos[k], &w[3 + k]);
        for (uint32_t k = 0; k < h->neg_count; k++)
            put_xor(&b, h->neg[k], was->neg[k], &w[3 + h->pos_count + k]);
    }
    qr_bits_end(&b);
    free(w);
}
