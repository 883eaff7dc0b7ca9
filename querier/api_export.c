/*
 * Series with their samples: /export (one JSON object a line: metric, values, timestamps in ms, histograms;
 * libtsproto/jsonl.h), /export/openmetrics (what promtool makes blocks of) and /federate (the text format: the newest
 * sample of each series within the lookback, at its time).
 * A native histogram has no place in the last two, unless its bounds are its own: OpenMetrics has that as a
 * classic one. A header says how many were left out.
 *
 * `koalemos export` asks for much in pieces: `metric` narrows match[] to one metric, `stale=1` tells stale
 * markers of JSON, and other NaNs by their bits, from NaN, `part=1` gives OpenMetrics without what stands once before and behind it all.
 */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libtsproto/jsonl.h"
#include "querier/api_priv.h"

static bool is_hist(const struct pql_series *s, uint32_t k) { return s->hists != NULL && s->hists[k] != NULL; }

/* A member of the floats' own: [value, value, ...]. */
static void floats(const struct pql_series *s, const char *name, struct kl_buf *out,
                   void (*put)(const struct pql_series *s, uint32_t k, bool exact, struct kl_buf *out), bool exact)
{
    bool any = false;

    kl_buf_addf(out, ",\"%s\":[", name);
    for (uint32_t k = 0; k < s->count; k++) {
        if (is_hist(s, k))
            continue;
        if (any)
            kl_buf_add8(out, ',');
        put(s, k, exact, out);
        any = true;
    }
    kl_buf_add8(out, ']');
}

static void put_value(const struct pql_series *s, uint32_t k, bool exact, struct kl_buf *out)
{
    tsp_jsonl_put_value(out, s->values[k], exact);
}

static void put_time(const struct pql_series *s, uint32_t k, bool exact, struct kl_buf *out)
{
    (void)exact;
    kl_buf_addf(out, "%" PRId64, s->times_ms[k]);
}

static void put_start(const struct pql_series *s, uint32_t k, bool exact, struct kl_buf *out)
{
    (void)exact;
    kl_buf_addf(out, "%" PRId64, s->starts_ms[k]);
}

static void export_item(struct qr_listing *l, size_t i, struct kl_buf *out)
{
    const struct pql_series *s = &l->names.series[i];
    bool                     any_float = false, any_start = false, any = false;

    if (s->count == 0)
        return;
    for (uint32_t k = 0; k < s->count; k++) {
        any_float |= !is_hist(s, k);
        any_start |= !is_hist(s, k) && s->starts_ms != NULL && s->starts_ms[k] != 0;
    }
    kl_buf_adds(out, "{\"metric\":");
    qr_json_labels(out, s->labels);
    if (any_float) {
        floats(s, "values", out, put_value, l->samples);
        floats(s, "timestamps", out, put_time, l->samples);
    }
    if (any_start)
        floats(s, "starts", out, put_start, l->samples);
    for (uint32_t k = 0; s->hists != NULL && k < s->count; k++) {
        if (s->hists[k] == NULL)
            continue;
        kl_buf_adds(out, any ? "," : ",\"histograms\":[");
        tsp_jsonl_put_hist(out, s->hists[k], s->times_ms[k], s->starts_ms != NULL ? s->starts_ms[k] : 0, l->samples);
        any = true;
    }
    kl_buf_adds(out, any ? "]}\n" : "}\n");
}

static void say_left_out(struct qr_listing *l, uint64_t count)
{
    char text[24];

    if (count == 0)
        return;
    snprintf(text, sizeof text, "%" PRIu64, count);
    kl_http_set(l->r, "X-Koalemos-Histograms-Left-Out", text);
}

void qr_api_left_out(struct qr_listing *l)
{
    uint64_t count = 0;

    for (size_t i = 0; i < l->names.count; i++) {
        const struct pql_series *s = &l->names.series[i];

        for (uint32_t k = 0; s->hists != NULL && k < s->count; k++)
            count += s->hists[k] != NULL;
    }
    say_left_out(l, count);
}

static bool is_set(struct kl_http_request *r, const char *name)
{
    const char *text = kl_http_param(r, name, 0);

    return text != NULL && strcmp(text, "1") == 0;
}

static void export(void *ctx, struct kl_http_request *r)
{
    struct qr_listing *l = qr_listing_new(ctx, r, TSP_SEL_SERIES);

    if (l == NULL)
        return;
    l->content_type = "application/stream+json; charset=utf-8";
    l->render = qr_api_nothing;
    l->item = export_item;
    /* Half of it, and no place to say so, is worse than none. */
    l->names.job.partial = false;
    l->samples = is_set(r, "stale");
    if (qr_listing_range(l) && qr_listing_match(l, true) && qr_listing_metric(l))
        qr_listing_go(l);
}

/* ---- the text formats ---- */

static bool plain_name(struct kl_span s, bool colons)
{
    const char *at = s.at;

    if (s.size == 0 || isdigit((unsigned char)at[0]))
        return false;
    for (size_t i = 0; i < s.size; i++)
        if (!isalnum((unsigned char)at[i]) && at[i] != '_' && !(colons && at[i] == ':'))
            return false;
    return true;
}

static void quoted(struct kl_buf *out, struct kl_span s)
{
    const char *at = s.at;

    kl_buf_add8(out, '"');
    for (size_t i = 0; i < s.size; i++)
        switch (at[i]) {
        case '\\': kl_buf_adds(out, "\\\\"); break;
        case '"':  kl_buf_adds(out, "\\\""); break;
        case '\n': kl_buf_adds(out, "\\n"); break;
        default:   kl_buf_add8(out, (uint8_t)at[i]);
        }
    kl_buf_add8(out, '"');
}

static void text_name(struct kl_buf *out, struct kl_span name)
{
    if (plain_name(name, true))
        kl_buf_add(out, name.at, name.size);
    else
        quoted(out, name);
}

/* Up to where the braces may be closed; returns what comes before the next label. */
static char text_labels(struct kl_buf *out, struct kl_span name, struct kl_labels l, bool with_le)
{
    struct kl_cur   c = kl_labels_cur(l);
    struct kl_label x;
    char            comma = '{';

    if (plain_name(name, true)) {
        kl_buf_add(out, name.at, name.size);
    } else {
        kl_buf_add8(out, '{');
        quoted(out, name);
        comma = ',';
    }
    while (kl_labels_next(&c, &x)) {
        if (x.name.size == 8 && memcmp(x.name.at, "__name__", 8) == 0)
            continue;
        if (!with_le && x.name.size == 2 && memcmp(x.name.at, "le", 2) == 0)
            continue;
        kl_buf_add8(out, (uint8_t)comma);
        comma = ',';
        if (plain_name(x.name, false))
            kl_buf_add(out, x.name.at, x.name.size);
        else
            quoted(out, x.name);
        kl_buf_add8(out, '=');
        quoted(out, x.value);
    }
    return comma;
}

static void text_line(struct kl_buf *out, struct kl_span name, struct kl_labels l, double value,
                      int64_t time_ms)
{
    static const char instance[] = "instance";
    char              text[KL_F64_TEXT_MAX], comma = text_labels(out, name, l, true);

    /* So that a scraper with honor_labels does not put its own there. */
    if (kl_labels_get(l, kl_span(instance, sizeof instance - 1)).size == 0) {
        kl_buf_add8(out, (uint8_t)comma);
        kl_buf_adds(out, "instance=\"\"");
    }
    kl_buf_adds(out, "} ");
    kl_buf_add(out, text, kl_f64_text(value, text));
    kl_buf_addf(out, " %" PRId64 "\n", time_ms);
}

static int by_name(const void *a, const void *b)
{
    struct kl_span  name = kl_span("__name__", 8);
    struct kl_labels x = ((const struct pql_series *)a)->labels;
    struct kl_labels y = ((const struct pql_series *)b)->labels;
    int              c = kl_span_cmp(kl_labels_get(x, name), kl_labels_get(y, name));

    return c != 0 ? c : kl_labels_cmp(x, y);
}

/* ---- OpenMetrics ---- */

static struct kl_span name_of(const struct pql_series *s)
{
    return kl_labels_get(s->labels, kl_span("__name__", 8));
}

static void open_sort(struct qr_listing *l, struct kl_buf *out)
{
    (void)out;
    if (l->names.count > 1)
        qsort(l->names.series, l->names.count, sizeof *l->names.series, by_name);
}

/* What becomes a classic histogram. A stale marker has no line, as a float's has none. */
static bool is_classic(const struct pql_series *s, uint32_t k)
{
    return is_hist(s, k) && s->hists[k]->schema == KL_HIST_CUSTOM && !kl_is_stale(s->hists[k]->sum);
}

/* Of all that is of the name of the i-th: are there histograms with bounds, and no floats? */
static bool all_classic(const struct qr_listing *l, size_t i, struct kl_span name)
{
    bool any = false;

    for (; i < l->names.count && kl_span_eq(name_of(&l->names.series[i]), name); i++) {
        const struct pql_series *s = &l->names.series[i];

        for (uint32_t k = 0; k < s->count; k++) {
            if (!is_hist(s, k) && !kl_is_stale(s->values[k]))
                return false;
            any = any || is_classic(s, k);
        }
    }
    return any;
}

/* The part of a line before its value, for each of the three; of a bucket's up to the bound. */
struct classic { struct kl_buf bucket, count, sum; };

static void classic_head(struct kl_buf *out, const struct pql_series *s, const char *suffix, bool bucket)
{
    struct kl_buf  name = { 0 };
    struct kl_span base = name_of(s);
    char           comma;

    kl_buf_add(&name, base.at, base.size);
    kl_buf_adds(&name, suffix);
    comma = text_labels(out, kl_buf_span(&name), s->labels, !bucket);
    if (bucket) {
        kl_buf_add8(out, (uint8_t)comma);
        kl_buf_adds(out, "le=\"");
    } else if (comma == ',') {
        kl_buf_add8(out, '}');
    }
    kl_buf_deinit(&name);
}

/* As Prometheus writes a bound, so that its series and these are the same: the fewest digits, with an exponent from
 * 1e+06 and below 1e-04, and never without a dot. */
static void put_bound(struct kl_buf *out, double bound)
{
    char   text[KL_F64_TEXT_MAX];
    size_t n = kl_f64_text(bound, text);
    double size = fabs(bound);

    if (isfinite(bound) && size != 0 && (size < 1e-4 || size >= 1e6)) {
        char precise[40];

        for (int digits = 0; digits <= 17; digits++) {
            snprintf(precise, sizeof precise, "%.*e", digits, bound);
            if (strtod(precise, NULL) == bound)
                break;
        }
        kl_buf_adds(out, precise);
        return;
    }
    kl_buf_add(out, text, n);
    if (isfinite(bound) && memchr(text, '.', n) == NULL)
        kl_buf_adds(out, ".0");
}

static void classic_line(struct kl_buf *out, const struct kl_buf *head, const double *bound, double value, int64_t time_ms)
{
    char text[KL_F64_TEXT_MAX];

    kl_buf_add(out, head->at, head->size);
    if (bound != NULL) {
        put_bound(out, *bound);
        kl_buf_adds(out, "\"}");
    }
    kl_buf_add8(out, ' ');
    kl_buf_add(out, text, kl_f64_text(value, text));
    kl_buf_add8(out, ' ');
    kl_json_ms(out, time_ms);
    kl_buf_add8(out, '\n');
}

/* Its buckets count what is at most their bound; there are more bounds than buckets that have something. */
static void classic_point(struct kl_buf *out, const struct classic *c, const struct kl_hist *h, int64_t time_ms)
{
    double   sum = 0;
    uint32_t at = 0, span = 0, used = 0;
    int64_t  next = h->pos_span_count > 0 ? h->pos_spans[0].offset : INT64_MAX;

    for (uint32_t b = 0; b < h->bound_count; b++) {
        while (span < h->pos_span_count && used == h->pos_spans[span].length) {
            used = 0;                                  /* the next place that has a bucket */
            next = ++span < h->pos_span_count ? next + h->pos_spans[span].offset : INT64_MAX;
        }
        if (next == (int64_t)b && at < h->pos_count) {
            sum += h->pos[at++];
            used++;
            next++;
        }
        classic_line(out, &c->bucket, &h->bounds[b], sum, time_ms);
    }
    classic_line(out, &c->bucket, &(double){ INFINITY }, h->count, time_ms);
    classic_line(out, &c->count, NULL, h->count, time_ms);
    classic_line(out, &c->sum, NULL, h->sum, time_ms);
}

static void classic_lines(struct kl_buf *out, const struct pql_series *s)
{
    struct classic c = { { 0 }, { 0 }, { 0 } };

    for (uint32_t k = 0; s->hists != NULL && k < s->count; k++) {
        if (!is_classic(s, k))
            continue;
        if (c.bucket.size == 0) {
            classic_head(&c.bucket, s, "_bucket", true);
            classic_head(&c.count, s, "_count", false);
            classic_head(&c.sum, s, "_sum", false);
        }
        classic_point(out, &c, s->hists[k], s->times_ms[k]);
    }
    kl_buf_deinit(&c.bucket);
    kl_buf_deinit(&c.count);
    kl_buf_deinit(&c.sum);
}

static void open_item(struct qr_listing *l, size_t i, struct kl_buf *out)
{
    const struct pql_series *s = &l->names.series[i];
    struct kl_span           name = name_of(s);
    size_t                   start, head;
    char                     text[KL_F64_TEXT_MAX];

    if (name.size == 0)                                /* it has no line there */
        return;
    if (!l->samples && (i == 0 || !kl_span_eq(name, name_of(s - 1)))) {
        kl_buf_adds(out, "# TYPE ");
        text_name(out, name);
        kl_buf_adds(out, all_classic(l, i, name) ? " histogram\n" : " unknown\n");
    }
    start = out->size;
    if (text_labels(out, name, s->labels, true) == ',')
        kl_buf_add8(out, '}');
    head = out->size - start;
    out->size = start;
    for (uint32_t k = 0; k < s->count; k++) {
        if ((s->hists != NULL && s->hists[k] != NULL) || kl_is_stale(s->values[k]))
            continue;
        if (out->size == start)
            out->size += head;                         /* it stands there already */
        else if (kl_buf_reserve(out, head))
            kl_buf_add(out, out->at + start, head);
        kl_buf_add8(out, ' ');
        kl_buf_add(out, text, kl_f64_text(s->values[k], text));
        kl_buf_add8(out, ' ');
        kl_json_ms(out, s->times_ms[k]);
        kl_buf_add8(out, '\n');
    }
    classic_lines(out, s);
}

static void open_tail(struct qr_listing *l, struct kl_buf *out)
{
    if (!l->samples)
        kl_buf_adds(out, "# EOF\n");
}

static void open_left_out(struct qr_listing *l)
{
    uint64_t count = 0;

    for (size_t i = 0; i < l->names.count; i++) {
        const struct pql_series *s = &l->names.series[i];

        for (uint32_t k = 0; s->hists != NULL && k < s->count; k++)
            count += is_hist(s, k) && !is_classic(s, k) && !kl_is_stale(s->hists[k]->sum);
    }
    say_left_out(l, count);
}

static void openmetrics(void *ctx, struct kl_http_request *r)
{
    struct qr_listing *l = qr_listing_new(ctx, r, TSP_SEL_SERIES);

    if (l == NULL)
        return;
    l->content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    l->render = open_sort;
    l->item = open_item;
    l->tail = open_tail;
    l->samples = is_set(r, "part");
    l->decide = open_left_out;
    l->names.job.partial = false;
    if (qr_listing_range(l) && qr_listing_match(l, true) && qr_listing_metric(l))
        qr_listing_go(l);
}

/* ---- federate ---- */

static void render_federate(struct qr_listing *l, struct kl_buf *out)
{
    struct kl_span last = { NULL, 0 };

    if (l->names.count > 1)
        qsort(l->names.series, l->names.count, sizeof *l->names.series, by_name);
    for (size_t i = 0; i < l->names.count; i++) {
        const struct pql_series *s = &l->names.series[i];
        struct kl_span           name = kl_labels_get(s->labels, kl_span("__name__", 8));
        uint32_t                 k = s->count - 1;

        if (name.size == 0 || (s->hists != NULL && s->hists[k] != NULL) ||
            kl_is_stale(s->values[k]))
            continue;
        if (last.at == NULL || !kl_span_eq(last, name)) {
            kl_buf_adds(out, "# TYPE ");
            text_name(out, name);
            kl_buf_adds(out, " untyped\n");
            last = name;
        }
        text_line(out, name, s->labels, s->values[k], s->times_ms[k]);
    }
}

static void federate(void *ctx, struct kl_http_request *r)
{
    struct qr_http    *h = ctx;
    struct qr_listing *l = qr_listing_new(h, r, TSP_SEL_SERIES);

    if (l == NULL)
        return;
    l->content_type = "text/plain; version=0.0.4; charset=utf-8";
    l->render = render_federate;
    l->names.job.partial = false;
    l->names.to_ms = kl_env_now_ms(h->env);
    l->names.from_ms = l->names.to_ms - h->q->o.lookback_ms + 1;
    if (!qr_listing_match(l, false))
        return;
    if (l->names.selector_count == 0) {                /* no selector selects nothing */
        qr_listing_free(l);
        kl_http_answer(r, 200, "text/plain; version=0.0.4; charset=utf-8", kl_span("", 0));
        return;
    }
    qr_listing_go(l);
}

void qr_api_export_open(struct qr_http *h)
{
    qr_api_routes(h, "GET,POST", "/export", export);
    qr_api_routes(h, "GET,POST", "/export/openmetrics", openmetrics);
    qr_api_route(h, "GET", "/federate", federate);
    qr_api_route(h, "GET", "/prometheus/federate", federate);
}
