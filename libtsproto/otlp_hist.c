/* Exponential and explicit histograms as native ones. */
#include "libtsproto/otlp.h"

#include <math.h>

#include "libtsproto/wire_priv.h"

enum { BUCKETS_OFFSET = 1, BUCKETS_COUNTS = 2, GAP_MAX = 2 };
#define EXACT_MAX (UINT64_C(1) << 53)
#define ZERO_THRESHOLD_LEAST 1e-128                    /* Prometheus' own when nobody says any */
#define INDEX_MAX (INT64_C(1) << 30)                   /* so that no sum of indexes overflows */

static enum kl_code unfit(struct kl_err *err, const char *why)
{
    return kl_fail(err, KL_EINVAL, "a histogram %s", why);
}

static enum kl_code read_counts(struct kl_span message, struct tsp_otlp_side *s, uint32_t room,
                                struct kl_err *err)
{
    struct kl_cur    c = tsp_wire_in(message), in;
    struct tsp_field f;

    while (tsp_wire_next(&c, &f)) {
        if (f.number != BUCKETS_COUNTS)
            continue;
        if (f.type == TSP_VARINT) {
            if (f.v > EXACT_MAX || s->count == room)
                return unfit(err, "with a bucket past 2^53");
            s->counts[s->count++] = (double)f.v;
            continue;
        }
        for (in = tsp_wire_in(f.bytes); in.at < in.end; ) {
            uint64_t v = tsp_wire_varint(&in);
            if (in.bad || v > EXACT_MAX || s->count == room)
                return unfit(err, "with a bucket that is cut short, or past 2^53");
            s->counts[s->count++] = (double)v;
        }
    }
    return KL_OK;
}

/* Only what lies between the first and the last bucket that is not empty. */
static void trim(struct tsp_otlp_side *s)
{
    uint32_t from = 0;

    while (s->count > 0 && s->counts[s->count - 1] == 0)
        s->count--;
    while (from < s->count && s->counts[from] == 0)
        from++;
    s->counts += from;
    s->count -= from;
    s->offset = s->count == 0 ? 0 : s->offset + (int32_t)from;
}

static enum kl_code read_side(struct kl_span message, struct kl_arena *arena, struct tsp_otlp_side *s,
                              struct kl_err *err)
{
    struct kl_cur    c = tsp_wire_in(message);
    struct tsp_field f;
    uint64_t         count = 0;
    int64_t          offset = 0;

    while (tsp_wire_next(&c, &f)) {
        if (f.number == BUCKETS_OFFSET && f.type == TSP_VARINT) {
            offset = (int32_t)tsp_wire_zigzag(f.v);
        } else if (f.number == BUCKETS_COUNTS && f.type == TSP_VARINT) {
            count++;
        } else if (f.number == BUCKETS_COUNTS && f.type == TSP_BYTES) {
            for (size_t i = 0; i < f.bytes.size; i++)
                count += ((const uint8_t *)f.bytes.at)[i] < 0x80;
        } else if (f.number <= BUCKETS_COUNTS) {
            return unfit(err, "with a field of a foreign type");
        }
    }
    if (c.bad)
        return unfit(err, "that is cut short");
    if (count > KL_HIST_BUCKETS_MAX)
        return kl_fail(err, KL_ELIMIT, "a histogram of more than %d buckets", KL_HIST_BUCKETS_MAX);
    if (offset > INDEX_MAX || offset < -INDEX_MAX)
        return unfit(err, "whose buckets lead out of range");
    *s = (struct tsp_otlp_side){ .offset = (int32_t)offset,
                                 .counts = kl_arena_alloc(arena, (size_t)count * sizeof(double)) };
    if (s->counts == NULL)
        return kl_fail(err, KL_ELIMIT, "no room for a histogram's buckets");
    if (read_counts(message, s, (uint32_t)count, err) != KL_OK)
        return err->code;
    trim(s);
    return KL_OK;
}

static double total(const struct tsp_otlp_side *s)
{
    double sum = 0;

    for (uint32_t i = 0; i < s->count; i++)
        sum += s->counts[i];
    return sum;
}

enum kl_code tsp_otlp_exp_read(const struct tsp_otlp_point *p, struct kl_arena *arena,
                               struct tsp_otlp_exp *e, struct kl_err *err)
{
    double buckets;

    if (p->scale < TSP_OTLP_SCALE_MIN)
        return kl_fail(err, KL_EINVAL, "a histogram of scale %d: native histograms begin at %d", p->scale,
                       TSP_OTLP_SCALE_MIN);
    if (p->count > EXACT_MAX || p->zero_count > EXACT_MAX)
        return unfit(err, "with a count past 2^53");
    if (!(p->zero_threshold >= 0) || isinf(p->zero_threshold))
        return unfit(err, "whose zero threshold is none");
    *e = (struct tsp_otlp_exp){ .scale = p->scale, .zero_threshold = p->zero_threshold,
                                .zero_count = (double)p->zero_count, .count = (double)p->count,
                                .sum = p->has_sum ? p->sum : 0 };
    if (read_side(p->positive, arena, &e->pos, err) != KL_OK ||
        read_side(p->negative, arena, &e->neg, err) != KL_OK)
        return err->code;
    /* Observations of NaN are counted and in no bucket; then the sum is NaN, too. */
    buckets = total(&e->pos) + total(&e->neg) + e->zero_count;
    if (isnan(e->sum) ? buckets > e->count : buckets != e->count)
        return unfit(err, "whose count is not what its buckets add up to");
    if (e->scale > TSP_OTLP_SCALE_MAX)
        tsp_otlp_exp_rescale(e, TSP_OTLP_SCALE_MAX);
    return KL_OK;
}

/* 2^down buckets of the finer scale are one of the coarser: index i goes to i >> down. */
static void rescale_side(struct tsp_otlp_side *s, unsigned down)
{
    int64_t  first = (int64_t)s->offset >> down;
    uint32_t to = 0;

    for (uint32_t i = 0; i < s->count; i++) {
        uint32_t at = (uint32_t)((((int64_t)s->offset + i) >> down) - first);
        double   v = s->counts[i];
        for (; to <= at; to++)                         /* never ahead of what is yet to be read */
            s->counts[to] = 0;
        s->counts[at] += v;
    }
    s->count = to;
    s->offset = (int32_t)first;
}

void tsp_otlp_exp_rescale(struct tsp_otlp_exp *e, int32_t scale)
{
    int64_t  by = (int64_t)e->scale - scale;
    unsigned down = by > 62 ? 62 : (unsigned)by;

    if (down > 0) {
        rescale_side(&e->pos, down);
        rescale_side(&e->neg, down);
    }
    e->scale = scale;
}

/* Runs of buckets as spans. Gaps of up to GAP_MAX empty ones cost less as buckets than as a span.
 * `adjust` is 1 where the index names a bucket's lower bound here and its upper bound there. */
static enum kl_code spans_of(const struct tsp_otlp_side *s, int32_t adjust, struct kl_arena *arena,
                             const struct kl_hist_span **spans_out, uint32_t *span_count,
                             const double **counts_out, uint32_t *count, struct kl_err *err)
{
    struct kl_hist_span *spans;
    double  *counts;
    uint32_t n = 0, kept = 0, most = s->count / (GAP_MAX + 2) + 1;

    *span_count = *count = 0;
    if (s->count == 0)
        return KL_OK;
    spans = kl_arena_alloc(arena, most * sizeof *spans);
    counts = kl_arena_alloc(arena, s->count * sizeof *counts);
    if (spans == NULL || counts == NULL)
        return kl_fail(err, KL_ELIMIT, "no room for a histogram's buckets");
    for (uint32_t i = 0; i < s->count; ) {
        uint32_t gap = 0;
        while (i + gap + 1 < s->count && s->counts[i + gap] == 0)
            gap++;
        if (n == 0 || gap > GAP_MAX) {
            int32_t offset = n == 0 ? s->offset + adjust + (int32_t)gap : (int32_t)gap;
            if (n == KL_HIST_SPANS_MAX)
                return kl_fail(err, KL_ELIMIT, "a histogram of more than %d spans", KL_HIST_SPANS_MAX);
            spans[n++] = (struct kl_hist_span){ .offset = offset };
            i += gap;
            gap = 0;
        }
        for (uint32_t j = 0; j <= gap; j++, i++) {
            counts[kept++] = s->counts[i];
            spans[n - 1].length++;
        }
    }
    *spans_out = spans;
    *span_count = n;
    *counts_out = counts;
    *count = kept;
    return KL_OK;
}

enum kl_code tsp_otlp_exp_hist(const struct tsp_otlp_exp *e, struct kl_arena *arena, struct kl_hist *out,
                               struct kl_err *err)
{
    struct kl_hist h = {
        .schema = e->scale, .reset = KL_HIST_UNKNOWN, .was_int = true, .count = e->count,
        .sum = e->sum, .zero_count = e->zero_count,
        .zero_threshold = e->zero_threshold > 0 ? e->zero_threshold : ZERO_THRESHOLD_LEAST,
    };

    if (spans_of(&e->pos, 1, arena, &h.pos_spans, &h.pos_span_count, &h.pos, &h.pos_count, err) != KL_OK ||
        spans_of(&e->neg, 1, arena, &h.neg_spans, &h.neg_span_count, &h.neg, &h.neg_count, err) != KL_OK)
        return err->code;
    *out = h;
    return KL_OK;
}

enum kl_code tsp_otlp_custom_hist(const double *bounds, const double *counts, uint32_t bound_count,
                                  double count, double sum, struct kl_arena *arena, struct kl_hist *out,
                                  struct kl_err *err)
{
    struct tsp_otlp_side side = { .count = bound_count + 1, .counts = (double *)counts };
    struct kl_hist h = { .schema = KL_HIST_CUSTOM, .was_int = true, .count = count, .sum = sum,
                         .bounds = bound_count > 0 ? bounds : NULL, .bound_count = bound_count };

    while (side.count > 0 && counts[side.count - 1] == 0)
        side.count--;
    if (spans_of(&side, 0, arena, &h.pos_spans, &h.pos_span_count, &h.pos, &h.pos_count, err) != KL_OK)
        return err->code;
    *out = h;
    return KL_OK;
}

struct kl_hist tsp_otlp_stale_hist(void)
{
    return (struct kl_hist){ .was_int = true, .sum = kl_bits_f64(KL_STALE_BITS) };
}
