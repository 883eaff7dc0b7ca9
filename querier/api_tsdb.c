/*
 * /status/tsdb: how many series there are and what they are made of, over what is live or stored of
 * the last two hours: the metrics, label names and pairs with the most series, and the names with
 * the most values and bytes. Every label of every series is one pair; the pairs are sorted, counted.
 * From VictoriaMetrics come topN (our limit by another name), date (a day of UTC instead of the last
 * two hours) and focusLabel (the values of that label with the most series).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "querier/api_priv.h"

enum { TOP_USUAL = 10, TOP_MAX = 10 * 1000, DAY_MS = 24 * 60 * 60 * 1000 };

static void top_write(struct kl_buf *out, const char *title, const struct qr_top *t)
{
    struct kl_buf name = { 0 };                        /* two spans of one label set */

    kl_buf_addf(out, ",\"%s\":[", title);
    for (size_t i = 0; i < t->count; i++) {
        const struct qr_entry *e = &t->entries[i];

        kl_buf_reset(&name);
        kl_buf_add(&name, e->name.at, e->name.size);
        if (e->value.at != NULL) {
            kl_buf_add8(&name, '=');
            kl_buf_add(&name, e->value.at, e->value.size);
        }
        kl_buf_adds(out, i > 0 ? ",{\"name\":" : "{\"name\":");
        kl_json_str(out, kl_buf_span(&name));
        kl_buf_addf(out, ",\"value\":%" PRIu64 "}", e->count);
    }
    kl_buf_add8(out, ']');
    kl_buf_deinit(&name);
}

enum { BY_METRIC, BY_VALUES, BY_BYTES, BY_PAIR, TOPS };

/* The values of one label with the most series. */
static void focus(struct kl_buf *out, struct kl_span label, const struct kl_label *pairs,
                  size_t count, size_t most)
{
    struct qr_top top;

    qr_top_init(&top, most);
    for (size_t i = 0, n; i < count; i += n) {
        for (n = 1; i + n < count && qr_pair_cmp(&pairs[i], &pairs[i + n]) == 0; n++)
            ;
        if (kl_span_eq(pairs[i].name, label))
            qr_top_add(&top, pairs[i].value, kl_span(NULL, 0), n);
    }
    top_write(out, "seriesCountByFocusLabelValue", &top);
    qr_top_deinit(&top);
}

/* Walks the sorted pairs; returns how many different ones there are. */
static size_t count_pairs(const struct kl_label *pairs, size_t count, struct qr_top *tops)
{
    size_t   distinct = 0;
    uint64_t values = 0, bytes = 0;

    for (size_t i = 0, n; i < count; i += n) {
        const struct kl_label *p = &pairs[i];

        for (n = 1; i + n < count && qr_pair_cmp(p, &pairs[i + n]) == 0; n++)
            ;
        distinct++;
        values++;
        bytes += n * p->value.size;
        qr_top_add(&tops[BY_PAIR], p->name, p->value, n);
        if (p->name.size == 8 && memcmp(p->name.at, "__name__", 8) == 0)
            qr_top_add(&tops[BY_METRIC], p->value, kl_span(NULL, 0), n);
        if (i + n == count || !kl_span_eq(p->name, pairs[i + n].name)) {
            qr_top_add(&tops[BY_VALUES], p->name, kl_span(NULL, 0), values);
            qr_top_add(&tops[BY_BYTES], p->name, kl_span(NULL, 0), bytes);
            values = bytes = 0;
        }
    }
    return distinct;
}

static void render(struct qr_listing *l, struct kl_buf *out)
{
    static const char *const titles[TOPS] = { "seriesCountByMetricName",
        "labelValueCountByLabelName", "memoryInBytesByLabelName", "seriesCountByLabelValuePair" };
    struct qr_top    tops[TOPS];
    size_t           count, distinct;
    struct kl_label *pairs = qr_pairs(l, &count);

    if (pairs == NULL)
        return;
    for (unsigned i = 0; i < TOPS; i++)
        qr_top_init(&tops[i], (size_t)l->limit);
    distinct = count_pairs(pairs, count, tops);
    qr_api_begin(out);
    kl_buf_addf(out, "{\"headStats\":{\"numSeries\":%zu,\"numLabelPairs\":%zu,\"chunkCount\":0,"
                "\"minTime\":%" PRId64 ",\"maxTime\":%" PRId64 "}", l->names.count, distinct,
                l->names.from_ms, l->names.to_ms);
    for (unsigned i = 0; i < TOPS; i++) {
        top_write(out, titles[i], &tops[i]);
        qr_top_deinit(&tops[i]);
    }
    if (l->label != NULL)
        focus(out, kl_span_str(l->label), pairs, count, (size_t)l->limit);
    kl_buf_add8(out, '}');
    qr_api_end(out, (const char *const *)l->names.job.warnings, l->names.job.warning_count, NULL,
               0);
    qr_pairs_free(l, pairs, count);
}

/* "2006-01-02", a day of UTC; without one the last two hours. False: answered. */
static bool day(struct qr_listing *l)
{
    const char *date = kl_http_param(l->r, "date", 0);
    char        midnight[40];
    int64_t     now = kl_env_now_ms(l->h->env);

    l->names.to_ms = now;
    l->names.from_ms = now - QR_RECENT_MS;
    if (date == NULL || date[0] == '\0')
        return true;
    snprintf(midnight, sizeof midnight, "%.20sT00:00:00Z", date);
    if (strlen(date) != 10 || !qr_parse_time(midnight, &l->names.from_ms)) {
        qr_api_error(l->r, PQL_BAD_DATA, "invalid parameter \"date\": \"%.100s\" is no YYYY-MM-DD",
                     date);
        return false;
    }
    l->names.to_ms = l->names.from_ms + DAY_MS - 1;
    return true;
}

/* False: answered. */
static bool most(struct qr_listing *l, const char *name)
{
    const char *text = kl_http_param(l->r, name, 0);
    uint32_t    top;
    char        err[300];

    if (text == NULL || text[0] == '\0')
        return true;
    if (!qr_parse_limit(text, &top, err, sizeof err) || top == 0)
        qr_api_error(l->r, PQL_BAD_DATA, "%s must be a positive number", name);
    else if (top > TOP_MAX)
        qr_api_error(l->r, PQL_BAD_DATA, "%s must not exceed %d", name, TOP_MAX);
    else {
        l->limit = top;
        return true;
    }
    return false;
}

static void tsdb(void *ctx, struct kl_http_request *r)
{
    struct qr_listing *l = qr_listing_new(ctx, r, TSP_SEL_LABELS);
    const char        *label = kl_http_param(r, "focusLabel", 0);

    if (l == NULL)
        return;
    l->render = render;
    l->limit = TOP_USUAL;
    if (!most(l, "topN") || !most(l, "limit") || !day(l)) {
        qr_listing_free(l);
        return;
    }
    if (label != NULL && label[0] != '\0')
        l->label = kl_strdup(label);
    if (qr_listing_match(l, false))
        qr_listing_go(l);
}

void qr_api_tsdb_open(struct qr_http *h)
{
    qr_api_routes(h, "GET", "/status/tsdb", tsdb);
}
