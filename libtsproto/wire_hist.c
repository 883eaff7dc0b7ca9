#include "libtsproto/wire_priv.h"

#include <math.h>

/*
 * Field numbers as in Prometheus' prompb/types.proto and io/prometheus/write/v2/types.proto; what is
 * refused is what Prometheus' model/histogram Validate refuses.
 */
enum {
    COUNT_INT = 1, COUNT_FLOAT, SUM, SCHEMA, ZERO_THRESHOLD, ZERO_INT, ZERO_FLOAT, NEG_SPANS,
    NEG_DELTAS, NEG_COUNTS, POS_SPANS, POS_DELTAS, POS_COUNTS, RESET, TIME, BOUNDS, START, FIELDS
};
#define EXACT_MAX (UINT64_C(1) << 53)                  /* whole numbers up to here are doubles */

struct parts {                                         /* how many of each, then where they go */
    uint32_t span_count, delta_count, float_count;
    struct kl_hist_span *spans;
    double  *counts;
};
struct wire_hist {
    bool     has_float;
    uint64_t count_int, zero_int;
    double   count_float, zero_float;
    struct parts neg, pos;
    uint32_t bound_count;
    double  *bounds;
};

static const uint8_t types[FIELDS] = {
    [COUNT_INT] = TSP_VARINT, [COUNT_FLOAT] = TSP_FIXED64, [SUM] = TSP_FIXED64, [SCHEMA] = TSP_VARINT,
    [ZERO_THRESHOLD] = TSP_FIXED64, [ZERO_INT] = TSP_VARINT, [ZERO_FLOAT] = TSP_FIXED64,
    [NEG_SPANS] = TSP_BYTES, [NEG_DELTAS] = TSP_BYTES, [NEG_COUNTS] = TSP_BYTES,
    [POS_SPANS] = TSP_BYTES, [POS_DELTAS] = TSP_BYTES, [POS_COUNTS] = TSP_BYTES,
    [RESET] = TSP_VARINT, [TIME] = TSP_VARINT, [BOUNDS] = TSP_BYTES, [START] = TSP_VARINT,
};

static enum kl_code unfit(struct kl_err *err, const char *why)
{
    return kl_fail(err, KL_EINVAL, "a histogram %s", why);
}

/* Repeated numbers come packed, or one by one as their own type. */
static bool type_fits(const struct tsp_field *f)
{
    switch (f->number) {
    case NEG_DELTAS: case POS_DELTAS:
        return f->type == TSP_BYTES || f->type == TSP_VARINT;
    case NEG_COUNTS: case POS_COUNTS: case BOUNDS:
        return f->type == TSP_BYTES || f->type == TSP_FIXED64;
    default:
        return f->type == types[f->number];
    }
}

static bool add_count(uint32_t *n, uint64_t more, uint32_t max)
{
    if (more > max || *n > max - more)
        return false;
    *n += (uint32_t)more;
    return true;
}

static uint64_t packed_varints(struct kl_span s)
{
    uint64_t n = 0;

    for (size_t i = 0; i < s.size; i++)
        n += ((const uint8_t *)s.at)[i] < 0x80;
    return n;
}

/* First pass: the plain fields, and how many of the repeated ones there are. */
static enum kl_code count_parts(struct kl_span message, struct wire_hist *w, struct kl_hist *h,
                                int64_t *time_ms, int64_t *start_ms, struct kl_err *err)
{
    struct kl_cur    c = tsp_wire_in(message);
    struct tsp_field f;
    bool             ok = true;

    while (ok && tsp_wire_next(&c, &f)) {
        uint64_t floats;
        if (f.number >= FIELDS)
            continue;
        if (!type_fits(&f))
            return unfit(err, "with a field of a foreign type");
        floats = f.type == TSP_BYTES ? f.bytes.size / 8 : 1;
        switch (f.number) {
        case COUNT_INT:      w->count_int = f.v; w->has_float = false; break;
        case COUNT_FLOAT:    w->count_float = kl_bits_f64(f.v); w->has_float = true; break;
        case SUM:            h->sum = kl_bits_f64(f.v); break;
        case SCHEMA:         h->schema = (int32_t)tsp_wire_zigzag(f.v); break;
        case ZERO_THRESHOLD: h->zero_threshold = kl_bits_f64(f.v); break;
        case ZERO_INT:       w->zero_int = f.v; break;
        case ZERO_FLOAT:     w->zero_float = kl_bits_f64(f.v); break;
        case NEG_SPANS:      ok = add_count(&w->neg.span_count, 1, KL_HIST_SPANS_MAX); break;
        case POS_SPANS:      ok = add_count(&w->pos.span_count, 1, KL_HIST_SPANS_MAX); break;
        case NEG_DELTAS: case POS_DELTAS:
            ok = add_count(f.number == NEG_DELTAS ? &w->neg.delta_count : &w->pos.delta_count,
                           f.type == TSP_BYTES ? packed_varints(f.bytes) : 1, KL_HIST_BUCKETS_MAX);
            break;
        case NEG_COUNTS:     ok = add_count(&w->neg.float_count, floats, KL_HIST_BUCKETS_MAX); break;
        case POS_COUNTS:     ok = add_count(&w->pos.float_count, floats, KL_HIST_BUCKETS_MAX); break;
        case BOUNDS:         ok = add_count(&w->bound_count, floats, KL_HIST_BUCKETS_MAX); break;
        case RESET:          h->reset = f.v <= KL_HIST_GAUGE ? (uint8_t)f.v : KL_HIST_UNKNOWN; break;
        case TIME:           *time_ms = (int64_t)f.v; break;
        case START:          *start_ms = (int64_t)f.v; break;
        default:             break;
        }
        if ((f.number == NEG_COUNTS || f.number == POS_COUNTS || f.number == BOUNDS) &&
            f.type == TSP_BYTES && f.bytes.size % 8 != 0)
            return unfit(err, "with a bucket that is cut short");
    }
    if (!ok)
        return kl_fail(err, KL_ELIMIT, "a histogram of more than %d buckets or %d spans",
                       KL_HIST_BUCKETS_MAX, KL_HIST_SPANS_MAX);
    return c.bad ? unfit(err, "that is cut short") : KL_OK;
}

static bool read_span(struct kl_span message, struct kl_hist_span *span)
{
    struct kl_cur    c = tsp_wire_in(message);
    struct tsp_field f;

    *span = (struct kl_hist_span){ 0 };
    while (tsp_wire_next(&c, &f)) {
        if (f.number > 2)
            continue;
        if (f.type != TSP_VARINT)
            return false;
        if (f.number == 1)
            span->offset = (int32_t)tsp_wire_zigzag(f.v);
        else if (f.v > KL_HIST_BUCKETS_MAX)
            return false;
        else
            span->length = (uint32_t)f.v;
    }
    return !c.bad;
}

/* Second pass, into the arrays. Integer buckets come as differences; `last` runs through them. */
struct fill { struct parts *p; uint32_t spans, counts; int64_t last; bool ok; };

static void fill_delta(struct fill *to, uint64_t v)
{
    to->last = (int64_t)((uint64_t)to->last + (uint64_t)tsp_wire_zigzag(v));
    if (to->last < 0 || (uint64_t)to->last > EXACT_MAX)
        to->ok = false;
    to->p->counts[to->counts++] = (double)to->last;
}

static void fill_floats(const struct tsp_field *f, double *to, uint32_t *n)
{
    if (f->type == TSP_FIXED64) {
        to[(*n)++] = kl_bits_f64(f->v);
    } else if (f->bytes.size > 0) {
        memcpy(to + *n, f->bytes.at, f->bytes.size);
        *n += (uint32_t)(f->bytes.size / 8);
    }
}

static enum kl_code fill_parts(struct kl_span message, struct wire_hist *w, struct kl_err *err)
{
    struct kl_cur    c = tsp_wire_in(message);
    struct tsp_field f;
    struct fill      neg = { .p = &w->neg, .ok = true }, pos = { .p = &w->pos, .ok = true };
    uint32_t         bounds = 0;

    while (tsp_wire_next(&c, &f)) {
        struct fill *to = f.number >= POS_SPANS ? &pos : &neg;
        switch (f.number) {
        case NEG_SPANS: case POS_SPANS:
            if (!read_span(f.bytes, &to->p->spans[to->spans++]))
                return unfit(err, "with a span that is no span");
            break;
        case NEG_DELTAS: case POS_DELTAS:
            if (w->has_float)
                return unfit(err, "of floats with integer buckets");
            if (f.type == TSP_VARINT) {
                fill_delta(to, f.v);
            } else {
                struct kl_cur v = tsp_wire_in(f.bytes);
                while (v.at < v.end) {
                    uint64_t delta = tsp_wire_varint(&v);
                    if (v.bad)                         /* not counted: there is no room for it */
                        return unfit(err, "with a bucket that is cut short");
                    fill_delta(to, delta);
                }
            }
            if (!to->ok)
                return unfit(err, "with a bucket below 0 or past 2^53");
            break;
        case NEG_COUNTS: case POS_COUNTS:
            if (!w->has_float)
                return unfit(err, "of integers with float buckets");
            fill_floats(&f, to->p->counts, &to->counts);
            break;
        case BOUNDS:
            fill_floats(&f, w->bounds, &bounds);
            break;
        default:
            break;
        }
    }
    return KL_OK;
}

static bool make_room(struct parts *p, struct kl_arena *arena)
{
    uint32_t count = p->delta_count > p->float_count ? p->delta_count : p->float_count;

    p->spans = kl_arena_alloc(arena, p->span_count * sizeof *p->spans);
    p->counts = kl_arena_alloc(arena, count * sizeof *p->counts);
    return p->spans != NULL && p->counts != NULL;
}

/* Spans in order and as many buckets as they speak of; no bucket below 0. Adds the buckets to *sum. */
static enum kl_code check_side(const struct kl_hist_span *spans, uint32_t span_count,
                               const double *counts, uint32_t count, double *sum,
                               struct kl_err *err)
{
    int64_t  index = 0;
    uint64_t total = 0;

    for (uint32_t i = 0; i < span_count; i++) {
        if (i > 0 && spans[i].offset < 0)
            return unfit(err, "whose spans overlap");
        index += (int64_t)spans[i].offset + spans[i].length;
        total += spans[i].length;
        if (index > INT32_MAX || index < INT32_MIN)
            return unfit(err, "whose spans lead out of range");
    }
    if (total != count)
        return unfit(err, "with more or fewer buckets than its spans speak of");
    for (uint32_t i = 0; i < count; i++) {
        if (counts[i] < 0)
            return unfit(err, "with a bucket below 0");
        *sum += counts[i];
    }
    return KL_OK;
}

static enum kl_code check_custom(const struct kl_hist *h, struct kl_err *err)
{
    int64_t index = 0;

    if (h->neg_span_count > 0 || h->neg_count > 0 || h->zero_count != 0 || h->zero_threshold != 0)
        return unfit(err, "of custom bounds with negative or zero buckets");
    for (uint32_t i = 0; i < h->bound_count; i++)
        if (isnan(h->bounds[i]) || (i > 0 && h->bounds[i - 1] >= h->bounds[i]) ||
            h->bounds[i] == INFINITY)
            return unfit(err, "whose bounds do not rise, or reach +Inf");
    for (uint32_t i = 0; i < h->pos_span_count; i++) {
        if (h->pos_spans[i].offset < 0)
            return unfit(err, "whose spans lead out of its bounds");
        index += (int64_t)h->pos_spans[i].offset + h->pos_spans[i].length;
    }
    return index > (int64_t)h->bound_count + 1 ? unfit(err, "whose spans lead out of its bounds") : KL_OK;
}

enum kl_code tsp_hist_check(const struct kl_hist *h, struct kl_err *err)
{
    double buckets = 0;

    if (check_side(h->neg_spans, h->neg_span_count, h->neg, h->neg_count, &buckets, err) != KL_OK ||
        check_side(h->pos_spans, h->pos_span_count, h->pos, h->pos_count, &buckets, err) != KL_OK)
        return err->code;
    if (h->schema == KL_HIST_CUSTOM) {
        if (check_custom(h, err) != KL_OK)
            return err->code;
    } else if (h->schema < -4 || h->schema > 8) {
        return kl_fail(err, KL_EINVAL, "a histogram of schema %d: -4 to 8 and -53 are known", h->schema);
    } else if (h->bound_count > 0) {
        return unfit(err, "of an exponential schema with custom bounds");
    }
    if (h->count < 0 || h->zero_count < 0)
        return unfit(err, "with a count below 0");
    if (h->was_int) {
        /* Observations of NaN are in the count and in no bucket: then the sum is NaN, too. Counts
         * of floats are not compared: they would differ by rounding. */
        buckets += h->zero_count;
        if (isnan(h->sum) ? buckets > h->count : buckets != h->count)
            return unfit(err, "whose count is not what its buckets add up to");
    }
    return KL_OK;
}

enum kl_code tsp_wire_hist(struct kl_span message, struct kl_arena *arena, int64_t *time_ms,
                           int64_t *start_ms, struct kl_hist *out, struct kl_err *err)
{
    struct wire_hist w = { 0 };
    struct kl_hist   h = { 0 };
    int64_t          time = 0, start = 0;

    if (count_parts(message, &w, &h, &time, &start, err) != KL_OK)
        return err->code;
    w.bounds = kl_arena_alloc(arena, w.bound_count * sizeof *w.bounds);
    if (w.bounds == NULL || !make_room(&w.neg, arena) ||
        !make_room(&w.pos, arena))
        return kl_fail(err, KL_ELIMIT, "no room for a histogram's buckets");
    if (fill_parts(message, &w, err) != KL_OK)
        return err->code;
    if (!w.has_float && (w.count_int > EXACT_MAX || w.zero_int > EXACT_MAX))
        return unfit(err, "with a count past 2^53");

    h.was_int = !w.has_float;
    h.count = w.has_float ? w.count_float : (double)w.count_int;
    h.zero_count = w.has_float ? w.zero_float : (double)w.zero_int;
    h.neg_spans = w.neg.spans;
    h.neg_span_count = w.neg.span_count;
    h.neg = w.neg.counts;
    h.neg_count = w.has_float ? w.neg.float_count : w.neg.delta_count;
    h.pos_spans = w.pos.spans;
    h.pos_span_count = w.pos.span_count;
    h.pos = w.pos.counts;
    h.pos_count = w.has_float ? w.pos.float_count : w.pos.delta_count;
    h.bounds = w.bound_count > 0 ? w.bounds : NULL;
    h.bound_count = w.bound_count;
    if (tsp_hist_check(&h, err) != KL_OK)
        return err->code;
    *out = h;
    *time_ms = time;
    *start_ms = start;
    return KL_OK;
}
