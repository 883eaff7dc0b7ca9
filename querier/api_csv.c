/*
 * /export/csv, as VictoriaMetrics has it: one line a sample, and what its columns are is `format`:
 * label names, __name__, __value__, __timestamp__:unix_s|unix_ms|unix_ns|rfc3339, with commas
 * between. A native histogram has a line where a column is for it: __count__, __sum__, or __histogram__, the whole of
 * it as JSON lines have it (libtsproto/jsonl.h); such columns are empty where the sample is a float, and __value__ where it is
 * a histogram. Without such a column histograms are left out; a header says how many.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "libtsproto/jsonl.h"
#include "querier/api_priv.h"

enum { COLUMNS_MAX = 100 };
enum kind { LABEL, VALUE, HISTOGRAM, COUNT, SUM, UNIX_S, UNIX_MS, UNIX_NS, RFC3339 };

struct csv {
    struct { enum kind kind; struct kl_span name; } columns[COLUMNS_MAX];
    size_t count;
    bool   hists;                                      /* a column is for them */
    char  *format;                                     /* what the names lie in */
};

static void csv_free(void *extra)
{
    struct csv *c = extra;

    free(c->format);
    free(c);
}

/* RFC 4180. */
static void cell(struct kl_buf *out, struct kl_span text)
{
    const char *at = text.at;
    bool        quote = false;

    for (size_t i = 0; i < text.size && !quote; i++)
        quote = strchr("\",\r\n", at[i]) != NULL;
    if (!quote) {
        kl_buf_add(out, at, text.size);
        return;
    }
    kl_buf_add8(out, '"');
    for (size_t i = 0; i < text.size; i++) {
        if (at[i] == '"')
            kl_buf_add8(out, '"');
        kl_buf_add8(out, (uint8_t)at[i]);
    }
    kl_buf_add8(out, '"');
}

static void number(struct kl_buf *out, double v)
{
    char text[KL_F64_TEXT_MAX];

    if (isnan(v))
        kl_buf_adds(out, "NaN");
    else if (isinf(v))
        kl_buf_adds(out, v > 0 ? "+Inf" : "-Inf");
    else
        kl_buf_add(out, text, kl_f64_text(v, text));
}

static void hist_cell(const struct kl_hist *h, int64_t ms, int64_t start_ms, struct kl_buf *out)
{
    struct kl_buf json = { 0 };

    tsp_jsonl_put_hist(&json, h, ms, start_ms, false);
    cell(out, kl_buf_span(&json));
    kl_buf_deinit(&json);
}

static void column(const struct csv *c, size_t i, const struct pql_series *s, uint32_t k, struct kl_buf *out)
{
    const struct kl_hist *h = s->hists != NULL ? s->hists[k] : NULL;
    int64_t               ms = s->times_ms[k];

    switch (c->columns[i].kind) {
    case LABEL:   cell(out, kl_labels_get(s->labels, c->columns[i].name)); break;
    case UNIX_S:  kl_buf_addf(out, "%" PRId64, ms / 1000); break;
    case UNIX_MS: kl_buf_addf(out, "%" PRId64, ms); break;
    case UNIX_NS: kl_buf_addf(out, "%" PRId64 "000000", ms); break;
    case RFC3339: qr_api_stamp(out, ms); break;
    case VALUE:
        if (h == NULL)
            number(out, s->values[k]);
        break;
    case COUNT:
        if (h != NULL)
            number(out, h->count);
        break;
    case SUM:
        if (h != NULL)
            number(out, h->sum);
        break;
    case HISTOGRAM:
        if (h != NULL)
            hist_cell(h, ms, s->starts_ms != NULL ? s->starts_ms[k] : 0, out);
        break;
    }
}

static void item(struct qr_listing *l, size_t i, struct kl_buf *out)
{
    const struct pql_series *s = &l->names.series[i];
    const struct csv        *c = l->extra;

    for (uint32_t k = 0; k < s->count; k++) {
        if (s->hists != NULL && s->hists[k] != NULL && !c->hists)
            continue;
        for (size_t n = 0; n < c->count; n++) {
            if (n > 0)
                kl_buf_add8(out, ',');
            column(c, n, s, k, out);
        }
        kl_buf_add8(out, '\n');
    }
}

static void left_out(struct qr_listing *l)
{
    if (!((const struct csv *)l->extra)->hists)
        qr_api_left_out(l);
}

static bool parse_column(struct csv *c, struct kl_span text, struct kl_err *err)
{
    static const struct { const char *name; enum kind kind; } kinds[] = {
        { "__value__", VALUE }, { "__histogram__", HISTOGRAM }, { "__count__", COUNT }, { "__sum__", SUM },
        { "__timestamp__", UNIX_S }, { "__timestamp__:unix_s", UNIX_S },
        { "__timestamp__:unix_ms", UNIX_MS }, { "__timestamp__:unix_ns", UNIX_NS },
        { "__timestamp__:rfc3339", RFC3339 },
    };
    static const char stamp[] = "__timestamp__:";

    if (c->count == COLUMNS_MAX) {
        kl_fail(err, KL_ELIMIT, "more than %d columns", COLUMNS_MAX);
        return false;
    }
    c->columns[c->count].kind = LABEL;
    c->columns[c->count].name = text;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kl_span_eq(text, kl_span_str(kinds[i].name)))
            c->columns[c->count].kind = kinds[i].kind;
    c->hists |= c->columns[c->count].kind >= HISTOGRAM && c->columns[c->count].kind <= SUM;
    if (c->columns[c->count].kind == LABEL && text.size >= sizeof stamp - 1 &&
        memcmp(text.at, stamp, sizeof stamp - 1) == 0) {
        kl_fail(err, KL_EINVAL, "\"%.*s\" is no column: unix_s, unix_ms, unix_ns and rfc3339 are known",
                (int)(text.size < 100 ? text.size : 100), (const char *)text.at);
        return false;
    }
    c->count++;
    return true;
}

static bool parse(struct csv *c, const char *format, struct kl_err *err)
{
    c->format = kl_strdup(format);
    for (const char *at = c->format;; at++) {
        size_t size = strcspn(at, ",");

        if (!parse_column(c, kl_span(at, size), err))
            return false;
        at += size;
        if (*at == '\0')
            return true;
    }
}

static void csv(void *ctx, struct kl_http_request *r)
{
    struct qr_listing *l;
    struct csv        *c;
    const char        *format = kl_http_param(r, "format", 0);
    struct kl_err      err;

    if (format == NULL || format[0] == '\0') {
        qr_api_error(r, PQL_BAD_DATA, "no format parameter provided");
        return;
    }
    l = qr_listing_new(ctx, r, TSP_SEL_SERIES);
    if (l == NULL)
        return;
    c = kl_new(sizeof *c);
    l->extra = c;
    l->extra_free = csv_free;
    l->content_type = "text/csv; charset=utf-8";
    l->render = qr_api_nothing;
    l->item = item;
    l->names.job.partial = false;                      /* no place to say what is missing */
    l->decide = left_out;
    if (!parse(c, format, &err)) {
        qr_api_error(r, PQL_BAD_DATA, "invalid parameter \"format\": %s", err.text);
        qr_listing_free(l);
    } else if (qr_listing_range(l) && qr_listing_match(l, true) && qr_listing_metric(l)) {
        qr_listing_go(l);
    }
}

void qr_api_csv_open(struct qr_http *h)
{
    qr_api_routes(h, "GET,POST", "/export/csv", csv);
}
