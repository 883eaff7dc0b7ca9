/*
 * Histograms of JSON lines: the message prometheus.Histogram as protobuf's JSON. Members come in any order, so
 * the first pass only finds where each value lies; the second counts, takes room, and fills it.
 */
#include <math.h>
#include <string.h>

#include "libtsproto/jsonl.h"
#include "libtsproto/number_priv.h"
#include "libtsproto/wire_priv.h"

#define EXACT_MAX (INT64_C(1) << 53)                   /* whole numbers up to here are doubles */

enum {
    COUNT_INT, COUNT_FLOAT, SUM, SCHEMA, ZERO_THRESHOLD, ZERO_INT, ZERO_FLOAT, NEG_SPANS, NEG_DELTAS, NEG_COUNTS,
    POS_SPANS, POS_DELTAS, POS_COUNTS, RESET, TIME, BOUNDS, START, FIELDS
};
static const char *const names[FIELDS] = {
    "countInt", "countFloat", "sum", "schema", "zeroThreshold", "zeroCountInt", "zeroCountFloat", "negativeSpans",
    "negativeDeltas", "negativeCounts", "positiveSpans", "positiveDeltas", "positiveCounts", "resetHint",
    "timestamp", "customValues", "startTimestamp",
};
struct fields { struct kl_span v[FIELDS]; };           /* values as sent, with their quotes; at NULL: not there */

static enum kl_code unfit(struct kl_err *err, const char *why)
{
    return kl_fail(err, KL_EINVAL, "a histogram %s", why);
}

static enum kl_code no_value(struct kl_err *err, int field)
{
    return kl_fail(err, KL_EINVAL, "a histogram whose %s is none", names[field]);
}

/* ---- walking over JSON ---- */

struct text { const char *at, *end; bool bad; };

static struct text text_of(struct kl_span s)
{
    return (struct text){ .at = s.at, .end = (const char *)s.at + s.size };
}

static void blanks(struct text *x)
{
    while (x->at < x->end && (*x->at == ' ' || *x->at == '\n' || *x->at == '\t' || *x->at == '\r'))
        x->at++;
}

static bool eat(struct text *x, char c)
{
    blanks(x);
    if (x->at == x->end || *x->at != c)
        return false;
    x->at++;
    return true;
}

static void skip_quoted(struct text *x)
{
    for (x->at++; x->at < x->end && *x->at != '"'; x->at++)
        if (*x->at == '\\' && x->at + 1 < x->end)
            x->at++;
    if (x->at == x->end)
        x->bad = true;
    else
        x->at++;
}

/* The value here, whatever it is, as sent. */
static struct kl_span value(struct text *x)
{
    const char *begin;
    int         depth = 0;

    blanks(x);
    begin = x->at;
    do {
        if (x->at == x->end) {
            x->bad = true;
        } else if (*x->at == '"') {
            skip_quoted(x);
        } else if (*x->at == '{' || *x->at == '[') {
            depth++;
            x->at++;
        } else if (*x->at == '}' || *x->at == ']') {
            x->bad |= depth-- == 0;
            x->at++;
        } else if (depth > 0) {
            x->at++;
        } else {
            while (x->at < x->end && (unsigned char)*x->at > ' ' && strchr(",:]}[{\"", *x->at) == NULL)
                x->at++;
        }
    } while (depth > 0 && !x->bad);
    x->bad |= x->at == begin;
    return x->bad ? kl_span("", 0) : kl_span(begin, (size_t)(x->at - begin));
}

/* Is there one more in the object or array? `first` is false after the first. */
static bool more(struct text *x, char close, bool first)
{
    if (x->bad || eat(x, close))
        return false;
    if (!first && !eat(x, ','))
        x->bad = true;
    return !x->bad;
}

static bool next_member(struct text *x, bool first, struct kl_span *name, struct kl_span *v)
{
    if (!more(x, '}', first))
        return false;
    *name = value(x);
    if (name->size < 2 || ((const char *)name->at)[0] != '"' || !eat(x, ':')) {
        x->bad = true;
        return false;
    }
    *name = kl_span((const char *)name->at + 1, name->size - 2);
    *v = value(x);
    return !x->bad;
}

/* zeroCountInt, or as in the .proto: zero_count_int. */
static bool is_name(struct kl_span s, const char *camel)
{
    const char *at = s.at, *end = at + s.size;

    for (; *camel != '\0'; camel++) {
        if (*camel >= 'A' && *camel <= 'Z' && end - at >= 2 && at[0] == '_' && at[1] == *camel + ('a' - 'A'))
            at += 2;
        else if (at == end || *at++ != *camel)
            return false;
    }
    return at == end;
}

static bool null(struct kl_span v) { return v.size == 4 && memcmp(v.at, "null", 4) == 0; }

/* ---- numbers ---- */

/* Without its quotes, if it has some. */
static bool unquote(struct kl_span *v)
{
    const char *at = v->at;

    if (v->size < 2 || at[0] != '"')
        return false;
    *v = kl_span(at + 1, v->size - 2);
    return true;
}

static bool double_of(struct kl_span v, double *out)
{
    bool        quoted = unquote(&v);
    const char *at = v.at;

    if (quoted && v.size == 8 && memcmp(at, "StaleNaN", 8) == 0) {
        *out = kl_bits_f64(KL_STALE_BITS);
        return true;
    }
    if (quoted)
        return tsp_number_nan(v, out) || tsp_number_double(v, out);
    if (v.size > 1 && at[0] == '-')
        at++;
    return v.size > 0 && *at >= '0' && *at <= '9' && tsp_number_double(v, out);
}

static bool int_of(struct kl_span v, int64_t *out)
{
    unquote(&v);
    return tsp_number_int64(v, out);
}

static enum kl_code take_double(const struct fields *f, int which, double *out, struct kl_err *err)
{
    return f->v[which].at == NULL || double_of(f->v[which], out) ? KL_OK : no_value(err, which);
}

static enum kl_code take_int(const struct fields *f, int which, int64_t least, int64_t most, int64_t *out,
                             struct kl_err *err)
{
    if (f->v[which].at != NULL && (!int_of(f->v[which], out) || *out < least || *out > most))
        return no_value(err, which);
    return KL_OK;
}

static enum kl_code take_reset(const struct fields *f, struct kl_hist *h, struct kl_err *err)
{
    static const char *const resets[] = { "UNKNOWN", "YES", "NO", "GAUGE" };
    struct kl_span v = f->v[RESET];
    int64_t        n;

    if (v.at == NULL)
        return KL_OK;
    if (!unquote(&v)) {
        if (!tsp_number_int64(v, &n))
            return no_value(err, RESET);
        h->reset = n >= 0 && n <= KL_HIST_GAUGE ? (uint8_t)n : KL_HIST_UNKNOWN;    /* as of remote write */
        return KL_OK;
    }
    if (v.size > 11 && memcmp(v.at, "RESET_HINT_", 11) == 0)           /* of remote write 2.0 */
        v = kl_span((const char *)v.at + 11, v.size - 11);
    if (kl_span_eq(v, kl_span_str("UNSPECIFIED")))
        return KL_OK;
    for (uint8_t i = 0; i <= KL_HIST_GAUGE; i++)
        if (kl_span_eq(v, kl_span_str(resets[i]))) {
            h->reset = i;
            return KL_OK;
        }
    return no_value(err, RESET);
}

/* ---- arrays ---- */

static enum kl_code count_elements(const struct fields *f, int which, uint32_t most, uint32_t *count,
                                   struct kl_err *err)
{
    struct text x = text_of(f->v[which]);

    *count = 0;
    if (f->v[which].at == NULL)
        return KL_OK;
    if (!eat(&x, '['))
        return no_value(err, which);
    for (; more(&x, ']', *count == 0); ++*count) {
        if (*count == most)
            return kl_fail(err, KL_ELIMIT, "a histogram of more than %d buckets or %d spans", KL_HIST_BUCKETS_MAX,
                           KL_HIST_SPANS_MAX);
        value(&x);
    }
    return x.bad ? no_value(err, which) : KL_OK;
}

static enum kl_code no_room(struct kl_err *err)
{
    return kl_fail(err, KL_ELIMIT, "no room for a histogram's buckets");
}

/* Differences are added up where `ints` is set. */
static enum kl_code take_numbers(const struct fields *f, int which, bool ints, struct kl_arena *arena,
                                 const double **out, uint32_t *count, struct kl_err *err)
{
    struct text x = text_of(f->v[which]);
    double     *to;
    int64_t     last = 0, delta;

    if (count_elements(f, which, KL_HIST_BUCKETS_MAX, count, err) != KL_OK)
        return err->code;
    if ((to = kl_arena_alloc(arena, *count * sizeof *to)) == NULL)
        return no_room(err);
    *out = to;
    if (*count == 0)
        return KL_OK;
    eat(&x, '[');
    for (uint32_t i = 0; more(&x, ']', i == 0); i++) {
        struct kl_span v = value(&x);
        if (!ints) {
            if (!double_of(v, &to[i]))
                return no_value(err, which);
            continue;
        }
        if (!int_of(v, &delta))
            return no_value(err, which);
        if (delta < -EXACT_MAX || delta > EXACT_MAX || (last += delta) < 0 || last > EXACT_MAX)
            return unfit(err, "with a bucket below 0 or past 2^53");
        to[i] = (double)last;
    }
    return KL_OK;
}

static bool read_span(struct kl_span s, struct kl_hist_span *out)
{
    struct text    x = text_of(s);
    struct kl_span name, v;
    int64_t        offset = 0, length = 0;

    if (!eat(&x, '{'))
        return false;
    for (bool first = true; next_member(&x, first, &name, &v); first = false)
        if (!null(v) && ((is_name(name, "offset") && !int_of(v, &offset)) ||
                         (is_name(name, "length") && !int_of(v, &length))))
            return false;
    *out = (struct kl_hist_span){ .offset = (int32_t)offset, .length = (uint32_t)length };
    return !x.bad && offset >= INT32_MIN && offset <= INT32_MAX && length >= 0 && length <= KL_HIST_BUCKETS_MAX;
}

static enum kl_code take_spans(const struct fields *f, int which, struct kl_arena *arena,
                               const struct kl_hist_span **out, uint32_t *count, struct kl_err *err)
{
    struct text          x = text_of(f->v[which]);
    struct kl_hist_span *to;

    if (count_elements(f, which, KL_HIST_SPANS_MAX, count, err) != KL_OK)
        return err->code;
    if ((to = kl_arena_alloc(arena, *count * sizeof *to)) == NULL)
        return no_room(err);
    *out = to;
    if (*count == 0)
        return KL_OK;
    eat(&x, '[');
    for (uint32_t i = 0; more(&x, ']', i == 0); i++)
        if (!read_span(value(&x), &to[i]))
            return unfit(err, "with a span that is no span");
    return KL_OK;
}

/* ---- one histogram ---- */

static enum kl_code find_fields(struct kl_span object, struct fields *f, struct kl_err *err)
{
    struct text    x = text_of(object);
    struct kl_span name, v;

    memset(f, 0, sizeof *f);
    if (!eat(&x, '{'))
        return unfit(err, "that is no object");
    for (bool first = true; next_member(&x, first, &name, &v); first = false)
        for (int i = 0; i < FIELDS && !null(v); i++)
            if (is_name(name, names[i])) {
                f->v[i] = v;
                break;
            }
    if (x.bad)
        return unfit(err, "that is no JSON");
    if (f->v[TIME].at == NULL)
        return unfit(err, "without a timestamp");
    if (f->v[COUNT_INT].at != NULL && f->v[COUNT_FLOAT].at != NULL)
        return unfit(err, "with two counts");
    return KL_OK;
}

static enum kl_code take_buckets(const struct fields *f, bool ints, struct kl_arena *arena, struct kl_hist *h,
                                 struct kl_err *err)
{
    if (ints && (f->v[NEG_COUNTS].at != NULL || f->v[POS_COUNTS].at != NULL))
        return unfit(err, "of integers with float buckets");
    if (!ints && (f->v[NEG_DELTAS].at != NULL || f->v[POS_DELTAS].at != NULL))
        return unfit(err, "of floats with integer buckets");
    if (take_spans(f, NEG_SPANS, arena, &h->neg_spans, &h->neg_span_count, err) != KL_OK ||
        take_spans(f, POS_SPANS, arena, &h->pos_spans, &h->pos_span_count, err) != KL_OK ||
        take_numbers(f, ints ? NEG_DELTAS : NEG_COUNTS, ints, arena, &h->neg, &h->neg_count, err) != KL_OK ||
        take_numbers(f, ints ? POS_DELTAS : POS_COUNTS, ints, arena, &h->pos, &h->pos_count, err) != KL_OK ||
        take_numbers(f, BOUNDS, false, arena, &h->bounds, &h->bound_count, err) != KL_OK)
        return err->code;
    if (h->bound_count == 0)
        h->bounds = NULL;
    return KL_OK;
}

static enum kl_code read(struct kl_span object, struct kl_arena *arena, int64_t *time_ms, int64_t *start_ms,
                         struct kl_hist *out, struct kl_err *err)
{
    struct kl_hist h = { 0 };
    struct fields  f;
    int64_t        time, start = 0, schema = 0, count = 0, zero = 0;
    bool           ints;

    if (find_fields(object, &f, err) != KL_OK)
        return err->code;
    h.was_int = ints = f.v[COUNT_FLOAT].at == NULL;
    if (take_int(&f, TIME, INT64_MIN, INT64_MAX, &time, err) != KL_OK ||
        take_int(&f, START, INT64_MIN, INT64_MAX, &start, err) != KL_OK ||
        take_int(&f, SCHEMA, INT32_MIN, INT32_MAX, &schema, err) != KL_OK ||
        take_double(&f, SUM, &h.sum, err) != KL_OK ||
        take_double(&f, ZERO_THRESHOLD, &h.zero_threshold, err) != KL_OK || take_reset(&f, &h, err) != KL_OK)
        return err->code;
    h.schema = (int32_t)schema;
    if (ints) {
        if (take_int(&f, COUNT_INT, 0, EXACT_MAX, &count, err) != KL_OK ||
            take_int(&f, ZERO_INT, 0, EXACT_MAX, &zero, err) != KL_OK)
            return err->code;
        h.count = (double)count;
        h.zero_count = (double)zero;
    } else if (take_double(&f, COUNT_FLOAT, &h.count, err) != KL_OK ||
               take_double(&f, ZERO_FLOAT, &h.zero_count, err) != KL_OK) {
        return err->code;
    }
    if (take_buckets(&f, ints, arena, &h, err) != KL_OK || tsp_hist_check(&h, err) != KL_OK)
        return err->code;
    *out = h;
    *time_ms = time;
    *start_ms = start;
    return KL_OK;
}

bool tsp_jsonl_walk_hist(struct tsp_jsonl_series *s, struct kl_arena *arena, int64_t *time_ms, int64_t *start_ms,
                         struct kl_hist *h, struct kl_err *err)
{
    struct text    x = { .at = s->hist, .end = s->end };
    struct kl_span object;

    err->code = KL_OK;
    if (s->hist_count == 0)
        return false;
    s->hist_count--;
    object = value(&x);                                /* next() saw that it is whole */
    eat(&x, ',');
    s->hist = x.at;
    return read(object, arena, time_ms, start_ms, h, err) == KL_OK;
}
