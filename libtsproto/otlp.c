#include "libtsproto/otlp.h"

#include <math.h>

#include "libtsproto/wire_priv.h"

/* Field numbers: opentelemetry/proto/metrics/v1/metrics.proto, common/v1, resource/v1. */
enum { RESOURCE_RESOURCE = 1 };
enum { SCOPE_SCOPE = 1, SCOPE_SCHEMA_URL = 3, SCOPE_NAME = 1, SCOPE_VERSION = 2 };
enum { METRIC_NAME = 1, METRIC_DESCRIPTION = 2, METRIC_UNIT = 3, METRIC_GAUGE = 5, METRIC_SUM = 7,
       METRIC_HIST = 9, METRIC_EXP = 10, METRIC_SUMMARY = 11 };
enum { DATA_TEMPORALITY = 2, DATA_MONOTONIC = 3 };
enum { HIST_BUCKETS = 6, HIST_BOUNDS = 7 };
enum { SUMMARY_QUANTILES = 6 };
enum { NO_RECORDED_VALUE = 1 };

/* What a field of a data point is, by its number: the kinds number alike what they have in common,
 * but for attributes, flags and exemplars. */
enum role { R_NONE, R_ATTRIBUTE, R_START, R_TIME, R_FLAGS, R_EXEMPLAR, R_DOUBLE, R_INT, R_COUNT, R_SUM,
            R_BUCKETS, R_BOUNDS, R_SCALE, R_ZERO_COUNT, R_ZERO_THRESHOLD, R_POSITIVE, R_NEGATIVE,
            R_QUANTILE };
enum { FIELDS = 15 };
static const uint8_t number_roles[FIELDS] = {
    [2] = R_START, [3] = R_TIME, [4] = R_DOUBLE, [5] = R_EXEMPLAR, [6] = R_INT, [7] = R_ATTRIBUTE,
    [8] = R_FLAGS };
static const uint8_t roles[][FIELDS] = {
    [TSP_OTLP_NONE] = { 0 },
    [TSP_OTLP_HIST] = { [2] = R_START, [3] = R_TIME, [4] = R_COUNT, [5] = R_SUM, [6] = R_BUCKETS,
                        [7] = R_BOUNDS, [8] = R_EXEMPLAR, [9] = R_ATTRIBUTE, [10] = R_FLAGS },
    [TSP_OTLP_EXP] = { [1] = R_ATTRIBUTE, [2] = R_START, [3] = R_TIME, [4] = R_COUNT, [5] = R_SUM,
                       [6] = R_SCALE, [7] = R_ZERO_COUNT, [8] = R_POSITIVE, [9] = R_NEGATIVE,
                       [10] = R_FLAGS, [11] = R_EXEMPLAR, [14] = R_ZERO_THRESHOLD },
    [TSP_OTLP_SUMMARY] = { [2] = R_START, [3] = R_TIME, [4] = R_COUNT, [5] = R_SUM, [6] = R_QUANTILE,
                           [7] = R_ATTRIBUTE, [8] = R_FLAGS },
};
static const uint8_t wires[] = {
    [R_ATTRIBUTE] = TSP_BYTES, [R_START] = TSP_FIXED64, [R_TIME] = TSP_FIXED64, [R_FLAGS] = TSP_VARINT,
    [R_EXEMPLAR] = TSP_BYTES, [R_DOUBLE] = TSP_FIXED64, [R_INT] = TSP_FIXED64, [R_COUNT] = TSP_FIXED64,
    [R_SUM] = TSP_FIXED64, [R_SCALE] = TSP_VARINT, [R_ZERO_COUNT] = TSP_FIXED64,
    [R_ZERO_THRESHOLD] = TSP_FIXED64, [R_POSITIVE] = TSP_BYTES, [R_NEGATIVE] = TSP_BYTES,
    [R_QUANTILE] = TSP_BYTES, [R_BUCKETS] = TSP_BYTES, [R_BOUNDS] = TSP_BYTES,
};

struct kl_cur tsp_otlp_in(struct kl_span message) { return tsp_wire_in(message); }

bool tsp_otlp_next(struct kl_cur *c, uint32_t number, struct kl_span *child)
{
    struct tsp_field f;

    while (tsp_wire_next(c, &f)) {
        if (f.number != number)
            continue;
        if (f.type != TSP_BYTES) {
            tsp_wire_bad(c);
            return false;
        }
        *child = f.bytes;
        return true;
    }
    return false;
}

bool tsp_otlp_resource_read(struct kl_span body, struct tsp_otlp_resource *r)
{
    struct kl_cur c = tsp_wire_in(body);
    struct kl_span found;

    *r = (struct tsp_otlp_resource){ .body = body, .resource = { "", 0 } };
    while (tsp_otlp_next(&c, RESOURCE_RESOURCE, &found))
        r->resource = found;
    return !c.bad;
}

static bool read_scope(struct kl_span message, struct tsp_otlp_scope *s)
{
    struct kl_cur    c = tsp_wire_in(message);
    struct tsp_field f;

    while (tsp_wire_next(&c, &f)) {
        if (f.number != SCOPE_NAME && f.number != SCOPE_VERSION)
            continue;
        if (f.type != TSP_BYTES)
            return false;
        *(f.number == SCOPE_NAME ? &s->name : &s->version) = f.bytes;
    }
    return !c.bad;
}

bool tsp_otlp_scope_read(struct kl_span body, struct tsp_otlp_scope *s)
{
    static const struct kl_span nothing = { "", 0 };
    struct kl_cur    c = tsp_wire_in(body);
    struct tsp_field f;

    *s = (struct tsp_otlp_scope){ body, nothing, nothing, nothing, nothing };
    while (tsp_wire_next(&c, &f)) {
        if (f.number != SCOPE_SCOPE && f.number != SCOPE_SCHEMA_URL)
            continue;
        if (f.type != TSP_BYTES)
            return false;
        *(f.number == SCOPE_SCOPE ? &s->scope : &s->schema_url) = f.bytes;
    }
    return !c.bad && read_scope(s->scope, s);
}

static bool read_data(struct tsp_otlp_metric *m)
{
    bool             adds_up = m->kind == TSP_OTLP_SUM || m->kind == TSP_OTLP_HIST ||
                               m->kind == TSP_OTLP_EXP;
    struct kl_cur    c = tsp_wire_in(m->data);
    struct tsp_field f;

    m->temporality = adds_up ? TSP_OTLP_UNSPECIFIED : TSP_OTLP_CUMULATIVE;
    while (tsp_wire_next(&c, &f)) {
        if (f.number == TSP_OTLP_POINTS && f.type != TSP_BYTES)
            return false;
        if (!adds_up)
            continue;
        if (f.number == DATA_TEMPORALITY) {
            if (f.type != TSP_VARINT)
                return false;
            m->temporality = f.v <= TSP_OTLP_CUMULATIVE ? (uint8_t)f.v : TSP_OTLP_UNSPECIFIED;
        } else if (f.number == DATA_MONOTONIC && m->kind == TSP_OTLP_SUM) {
            if (f.type != TSP_VARINT)
                return false;
            m->monotonic = f.v != 0;
        }
    }
    return !c.bad;
}

bool tsp_otlp_metric_read(struct kl_span body, struct tsp_otlp_metric *m)
{
    static const struct kl_span nothing = { "", 0 };
    struct kl_cur    c = tsp_wire_in(body);
    struct tsp_field f;

    *m = (struct tsp_otlp_metric){ .body = body, .name = nothing, .unit = nothing,
                                   .description = nothing, .data = nothing };
    while (tsp_wire_next(&c, &f)) {
        struct kl_span *into = &m->data;
        switch (f.number) {
        case METRIC_NAME:        into = &m->name; break;
        case METRIC_DESCRIPTION: into = &m->description; break;
        case METRIC_UNIT:        into = &m->unit; break;
        case METRIC_GAUGE:       m->kind = TSP_OTLP_GAUGE; break;
        case METRIC_SUM:         m->kind = TSP_OTLP_SUM; break;
        case METRIC_HIST:        m->kind = TSP_OTLP_HIST; break;
        case METRIC_EXP:         m->kind = TSP_OTLP_EXP; break;
        case METRIC_SUMMARY:     m->kind = TSP_OTLP_SUMMARY; break;
        default:                 continue;
        }
        if (f.type != TSP_BYTES)
            return false;
        *into = f.bytes;
    }
    return !c.bad && read_data(m);
}

enum kl_code tsp_otlp_check(struct kl_span message, bool *has_delta, struct kl_err *err)
{
    struct kl_cur  resources = tsp_wire_in(message), scopes, metrics;
    struct kl_span child;
    struct tsp_otlp_metric   m;
    struct tsp_otlp_scope    s;
    struct tsp_otlp_resource r;
    const char    *what = "";
    const uint8_t *begin = message.at, *at = begin;

    *has_delta = false;
    for (; tsp_otlp_next(&resources, TSP_OTLP_RESOURCES, &child); at = resources.at) {
        what = "a resource's metrics";
        if (!tsp_otlp_resource_read(child, &r))
            goto broken;
        for (scopes = tsp_wire_in(child); tsp_otlp_next(&scopes, TSP_OTLP_SCOPES, &child); ) {
            what = "a scope's metrics";
            at = child.at;
            if (!tsp_otlp_scope_read(child, &s))
                goto broken;
            for (metrics = tsp_wire_in(child); tsp_otlp_next(&metrics, TSP_OTLP_METRICS, &child); ) {
                what = "a metric";
                at = child.at;
                if (!tsp_otlp_metric_read(child, &m))
                    goto broken;
                *has_delta = *has_delta || m.temporality == TSP_OTLP_DELTA;
            }
            if (metrics.bad)
                goto broken;
        }
        if (scopes.bad)
            goto broken;
    }
    what = "a request";
    if (!resources.bad)
        return KL_OK;
broken:
    return kl_fail(err, KL_EINVAL, "no OTLP metrics: what should be %s, from byte %td on, is not", what,
                   at - begin);
}

/* ---- data points ---- */

/* Attributes that stand side by side, as they do, are hashed as one; scattered ones run by run. */
struct run { const uint8_t *begin, *end; bool any; };

static void hash_run(struct run *run, struct kl_fp *into)
{
    struct kl_fp two[2];

    if (run->begin == NULL)
        return;
    two[0] = *into;
    two[1] = kl_hash128(run->begin, (size_t)(run->end - run->begin));
    *into = run->any ? kl_hash128(two, sizeof two) : two[1];
    run->any = true;
    run->begin = NULL;
}

static uint32_t many(const struct tsp_field *f)
{
    return f->type == TSP_BYTES ? (uint32_t)(f->bytes.size / 8) : 1;
}

static enum kl_code unfit(struct kl_err *err, const char *why)
{
    return kl_fail(err, KL_EINVAL, "a data point %s", why);
}

enum kl_code tsp_otlp_point_read(enum tsp_otlp_kind kind, struct kl_span body,
                                 struct tsp_otlp_point *p, struct kl_err *err)
{
    const uint8_t   *role_of = kind == TSP_OTLP_GAUGE || kind == TSP_OTLP_SUM ? number_roles : roles[kind];
    struct kl_cur    c = tsp_wire_in(body);
    const uint8_t   *at = c.at;
    struct tsp_field f;
    struct run       run = { 0 };

    *p = (struct tsp_otlp_point){ .body = body, .kind = kind, .positive = { "", 0 },
                                  .negative = { "", 0 } };
    for (; tsp_wire_next(&c, &f); at = c.at) {
        enum role role = f.number < FIELDS ? role_of[f.number] : R_NONE;
        if (role == R_NONE)
            continue;
        if (f.type != wires[role] &&
            !((role == R_BUCKETS || role == R_BOUNDS) && f.type == TSP_FIXED64))
            return unfit(err, "with a field of a foreign type");
        switch (role) {
        case R_ATTRIBUTE:
            if (run.begin != NULL && run.end != at)
                hash_run(&run, &p->attributes);
            if (run.begin == NULL)
                run.begin = at;
            run.end = c.at;
            break;
        case R_START:      p->start_ns = f.v; break;
        case R_TIME:       p->time_ns = f.v; break;
        case R_FLAGS:      p->absent = f.v & NO_RECORDED_VALUE; break;
        case R_EXEMPLAR:   p->exemplar_count++; break;
        case R_DOUBLE:     p->value = kl_bits_f64(f.v); p->has_value = true; break;
        case R_INT:        p->value = (double)(int64_t)f.v; p->has_value = true; break;
        case R_COUNT:      p->count = f.v; break;
        case R_SUM:        p->sum = kl_bits_f64(f.v); p->has_sum = true; break;
        case R_BUCKETS: case R_BOUNDS:
            if (f.type == TSP_BYTES && f.bytes.size % 8 != 0)
                return unfit(err, "with a bucket that is cut short");
            *(role == R_BUCKETS ? &p->bucket_count : &p->bound_count) += many(&f);
            break;
        case R_SCALE: {
            int64_t scale = tsp_wire_zigzag(f.v);
            p->scale = scale > INT32_MAX ? INT32_MAX : scale < INT32_MIN ? INT32_MIN : (int32_t)scale;
            break;
        }
        case R_ZERO_COUNT:     p->zero_count = f.v; break;
        case R_ZERO_THRESHOLD: p->zero_threshold = kl_bits_f64(f.v); break;
        case R_POSITIVE:   p->positive = f.bytes; break;
        case R_NEGATIVE:   p->negative = f.bytes; break;
        case R_QUANTILE:   p->quantile_count++; break;
        default:           break;
        }
    }
    if (c.bad)
        return unfit(err, "that is cut short");
    hash_run(&run, &p->attributes);
    return KL_OK;
}

static struct tsp_otlp_numbers numbers(const struct tsp_otlp_point *p, uint32_t number)
{
    return (struct tsp_otlp_numbers){ .message = tsp_wire_in(p->body),
                                      .packed = tsp_wire_in(kl_span("", 0)), .number = number };
}

struct tsp_otlp_numbers tsp_otlp_bounds(const struct tsp_otlp_point *p)
{
    return numbers(p, HIST_BOUNDS);
}

struct tsp_otlp_numbers tsp_otlp_buckets(const struct tsp_otlp_point *p)
{
    return numbers(p, HIST_BUCKETS);
}

bool tsp_otlp_numbers_next(struct tsp_otlp_numbers *n, uint64_t *bits)
{
    struct tsp_field f;

    while (n->packed.at == n->packed.end) {
        do {
            if (!tsp_wire_next(&n->message, &f))
                return false;
        } while (f.number != n->number);
        if (f.type == TSP_FIXED64) {
            *bits = f.v;
            return true;
        }
        n->packed = tsp_wire_in(f.bytes);
    }
    *bits = tsp_wire_fixed(&n->packed, 8);
    return !n->packed.bad;
}

enum kl_code tsp_otlp_hist_check(const struct tsp_otlp_point *p, struct kl_err *err)
{
    struct tsp_otlp_numbers bounds = tsp_otlp_bounds(p);
    double   last = -INFINITY, bound;
    uint64_t bits;

    if (p->bucket_count != p->bound_count + 1 && (p->bucket_count != 0 || p->bound_count != 0))
        return kl_fail(err, KL_EINVAL, "a histogram of %u bounds with %u buckets", p->bound_count,
                       p->bucket_count);
    for (uint32_t i = 0; tsp_otlp_numbers_next(&bounds, &bits); i++, last = bound) {
        bound = kl_bits_f64(bits);
        if (isnan(bound) || (i > 0 && bound <= last))
            return kl_fail(err, KL_EINVAL, "a histogram whose bounds do not rise");
    }
    return KL_OK;
}

bool tsp_otlp_quantile_next(struct kl_cur *c, double *quantile, double *value)
{
    struct kl_span   message;
    struct kl_cur    in;
    struct tsp_field f;

    if (!tsp_otlp_next(c, SUMMARY_QUANTILES, &message))
        return false;
    *quantile = *value = 0;
    for (in = tsp_wire_in(message); tsp_wire_next(&in, &f); )
        if (f.number <= 2 && f.type == TSP_FIXED64)
            *(f.number == 1 ? quantile : value) = kl_bits_f64(f.v);
    return true;
}
