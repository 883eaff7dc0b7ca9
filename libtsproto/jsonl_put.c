/* Values and native histograms as JSON lines have them; read again by jsonl.c and jsonl_hist.c. */
#include <inttypes.h>
#include <math.h>

#include "libkoal/base/json.h"
#include "libtsproto/jsonl.h"
#include "libtsproto/number_priv.h"

/* The shortest that is read as `v`; what is very large or very small with an exponent, as Go's JSON. */
static void decimal(struct kl_buf *out, double v)
{
    char   text[KL_F64_TEXT_MAX], *at = text, *end = text + kl_f64_text(v, text), *point, *first;
    double size = fabs(v);

    if (size == 0 || (size >= 1e-6 && size < 1e21)) {
        kl_buf_add(out, text, (size_t)(end - text));
        return;
    }
    if (*at == '-')
        kl_buf_add8(out, (uint8_t)*at++);
    if (size < 1) {                                    /* 0.00123 */
        for (first = at + 2; *first == '0'; first++) { }
        kl_buf_add8(out, (uint8_t)*first);
        if (end - first > 1)
            kl_buf_add8(out, '.');
        kl_buf_add(out, first + 1, (size_t)(end - first) - 1);
        kl_buf_addf(out, "e-%d", (int)(first - at) - 1);
        return;
    }
    point = end;                                       /* 1230000: of this size they are whole */
    while (end[-1] == '0')
        end--;
    kl_buf_add8(out, (uint8_t)*at);
    if (end - at > 1)
        kl_buf_add8(out, '.');
    kl_buf_add(out, at + 1, (size_t)(end - at) - 1);
    kl_buf_addf(out, "e+%d", (int)(point - at) - 1);
}

static void number(struct kl_buf *out, double v, const char *nan, bool exact)
{

    if (exact && kl_is_stale(v))
        kl_buf_adds(out, "\"StaleNaN\"");
    else if (exact && isnan(v) && kl_f64_bits(v) != TSP_NAN_BITS)
        kl_buf_addf(out, "\"NaN(0x%016" PRIx64 ")\"", kl_f64_bits(v));
    else if (isnan(v))
        kl_buf_adds(out, nan);
    else if (isinf(v))
        kl_buf_adds(out, v > 0 ? "\"Infinity\"" : "\"-Infinity\"");
    else
        decimal(out, v);
}

void tsp_jsonl_put_value(struct kl_buf *out, double v, bool exact)
{
    number(out, v, "null", exact);
}

/* Below 2^53 all whole numbers are doubles, and so are their differences; -0 is not written as one. */
static bool whole(double v) { return v >= 0 && v <= 0x1p53 && v == floor(v) && !signbit(v); }

static bool all_whole(const struct kl_hist *h)
{
    bool ok = whole(h->count) && whole(h->zero_count);

    for (uint32_t i = 0; ok && i < h->pos_count; i++)
        ok = whole(h->pos[i]);
    for (uint32_t i = 0; ok && i < h->neg_count; i++)
        ok = whole(h->neg[i]);
    return ok;
}

static void field(struct kl_buf *out, const char *name, double v, bool exact)
{
    if (kl_f64_bits(v) == 0)                           /* as protobuf: -0 is told */
        return;
    kl_buf_addf(out, ",\"%s\":", name);
    number(out, v, "\"NaN\"", exact);
}

static void spans(struct kl_buf *out, const char *name, const struct kl_hist_span *s, uint32_t count)
{
    if (count > 0)
        kl_buf_addf(out, ",\"%sSpans\":[", name);
    for (uint32_t i = 0; i < count; i++)
        kl_buf_addf(out, "%s{\"offset\":%" PRId32 ",\"length\":%" PRIu32 "}", i > 0 ? "," : "", s[i].offset, s[i].length);
    if (count > 0)
        kl_buf_add8(out, ']');
}

static void counts(struct kl_buf *out, const char *name, const double *v, uint32_t count, bool ints, bool exact)
{
    int64_t last = 0;

    if (count > 0)
        kl_buf_addf(out, ",\"%s%s\":[", name, ints ? "Deltas" : "Counts");
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0)
            kl_buf_add8(out, ',');
        if (ints) {
            kl_buf_addf(out, "\"%" PRId64 "\"", (int64_t)v[i] - last);
            last = (int64_t)v[i];
        } else {
            number(out, v[i], "\"NaN\"", exact);
        }
    }
    if (count > 0)
        kl_buf_add8(out, ']');
}

void tsp_jsonl_put_hist(struct kl_buf *out, const struct kl_hist *h, int64_t time_ms, int64_t start_ms, bool exact)
{
    static const char *const resets[] = { "UNKNOWN", "YES", "NO", "GAUGE" };
    bool ints = h->was_int && all_whole(h);

    kl_buf_addf(out, "{\"timestamp\":\"%" PRId64 "\"", time_ms);
    if (start_ms != 0)
        kl_buf_addf(out, ",\"startTimestamp\":\"%" PRId64 "\"", start_ms);
    if (ints) {
        kl_buf_addf(out, ",\"countInt\":\"%" PRId64 "\"", (int64_t)h->count);
    } else {                                           /* which of the two tells what it was: 0 is written */
        kl_buf_adds(out, ",\"countFloat\":");
        number(out, h->count, "\"NaN\"", exact);
    }
    field(out, "sum", h->sum, exact);
    if (h->schema != 0)
        kl_buf_addf(out, ",\"schema\":%" PRId32, h->schema);
    field(out, "zeroThreshold", h->zero_threshold, exact);
    if (ints && h->zero_count != 0)
        kl_buf_addf(out, ",\"zeroCountInt\":\"%" PRId64 "\"", (int64_t)h->zero_count);
    else if (!ints)
        field(out, "zeroCountFloat", h->zero_count, exact);
    spans(out, "negative", h->neg_spans, h->neg_span_count);
    counts(out, "negative", h->neg, h->neg_count, ints, exact);
    spans(out, "positive", h->pos_spans, h->pos_span_count);
    counts(out, "positive", h->pos, h->pos_count, ints, exact);
    if (h->reset != KL_HIST_UNKNOWN)
        kl_buf_addf(out, ",\"resetHint\":\"%s\"", resets[h->reset & 3]);
    for (uint32_t i = 0; i < h->bound_count; i++) {
        kl_buf_adds(out, i == 0 ? ",\"customValues\":[" : ",");
        number(out, h->bounds[i], "\"NaN\"", exact);
    }
    kl_buf_adds(out, h->bound_count > 0 ? "]}" : "}");
}
