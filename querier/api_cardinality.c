/*
 * /cardinality/{label_names,label_values,active_series}, in the forms of Grafana Mimir's API, and
 * /series/count as VictoriaMetrics has it: counts over what is live or stored of the last two hours.
 */
#include <inttypes.h>

#include "querier/api_priv.h"

enum { SHOWN_USUAL = 20, SHOWN_MAX = 500, NAMES_MAX = 100 };

static bool starts_name(const struct kl_label *pairs, size_t i)
{
    return i == 0 || !kl_span_eq(pairs[i].name, pairs[i - 1].name);
}

static void render_names(struct qr_listing *l, struct kl_buf *out)
{
    struct qr_top    top;
    size_t           count, names = 0, distinct = 0, of_name = 0;
    struct kl_label *pairs = qr_pairs(l, &count);

    if (pairs == NULL)
        return;
    qr_top_init(&top, (size_t)l->limit);
    for (size_t i = 0; i < count; i++) {
        names += starts_name(pairs, i);
        if (starts_name(pairs, i))
            of_name = 0;
        if (i == 0 || qr_pair_cmp(&pairs[i], &pairs[i - 1]) != 0) {
            of_name++;
            distinct++;
        }
        if (i + 1 == count || starts_name(pairs, i + 1))
            qr_top_add(&top, pairs[i].name, kl_span(NULL, 0), of_name);
    }
    kl_buf_addf(out, "{\"label_values_count_total\":%zu,\"label_names_count\":%zu,"
                "\"cardinality\":[", distinct, names);
    for (size_t i = 0; i < top.count; i++) {
        kl_buf_adds(out, i > 0 ? ",{\"label_name\":" : "{\"label_name\":");
        kl_json_str(out, top.entries[i].name);
        kl_buf_addf(out, ",\"label_values_count\":%" PRIu64 "}", top.entries[i].count);
    }
    kl_buf_adds(out, "]}");
    qr_top_deinit(&top);
    qr_pairs_free(l, pairs, count);
}

/* One label of the answer: how its series are spread over its values. */
static void values_of(struct qr_listing *l, struct kl_span name, const struct kl_label *pairs,
                      size_t count, struct kl_buf *out)
{
    struct qr_top top;
    size_t        from = 0, to, values = 0;

    while (from < count && !kl_span_eq(pairs[from].name, name))
        from++;
    for (to = from; to < count && kl_span_eq(pairs[to].name, name); to++)
        ;
    qr_top_init(&top, (size_t)l->limit);
    for (size_t i = from, n; i < to; i += n) {
        for (n = 1; i + n < to && qr_pair_cmp(&pairs[i], &pairs[i + n]) == 0; n++)
            ;
        values++;
        qr_top_add(&top, pairs[i].value, kl_span(NULL, 0), n);
    }
    kl_buf_adds(out, "{\"label_name\":");
    kl_json_str(out, name);
    kl_buf_addf(out, ",\"label_values_count\":%zu,\"series_count\":%zu,\"cardinality\":[", values,
                to - from);
    for (size_t i = 0; i < top.count; i++) {
        kl_buf_adds(out, i > 0 ? ",{\"label_value\":" : "{\"label_value\":");
        kl_json_str(out, top.entries[i].name);
        kl_buf_addf(out, ",\"series_count\":%" PRIu64 "}", top.entries[i].count);
    }
    kl_buf_adds(out, "]}");
    qr_top_deinit(&top);
}

static void render_values(struct qr_listing *l, struct kl_buf *out)
{
    size_t           count;
    struct kl_label *pairs = qr_pairs(l, &count);
    const char      *name;

    if (pairs == NULL)
        return;
    kl_buf_addf(out, "{\"series_count_total\":%zu,\"labels\":[", l->names.count);
    for (size_t i = 0; (name = kl_http_param(l->r, "label_names[]", i)) != NULL; i++) {
        kl_buf_adds(out, i > 0 ? "," : "");
        values_of(l, kl_span(name, kl_http_param_size(l->r, "label_names[]", i)), pairs, count,
                  out);
    }
    kl_buf_adds(out, "]}");
    qr_pairs_free(l, pairs, count);
}

static void render_active(struct qr_listing *l, struct kl_buf *out)
{
    kl_buf_adds(out, "{\"data\":[");
    for (size_t i = 0; i < l->names.count; i++) {
        kl_buf_adds(out, i > 0 ? "," : "");
        qr_json_labels(out, l->names.labels[i]);
    }
    kl_buf_adds(out, "]}");
}

static void render_count(struct qr_listing *l, struct kl_buf *out)
{
    qr_api_begin(out);
    kl_buf_addf(out, "[%zu]", l->names.count);
    qr_api_end(out, (const char *const *)l->names.job.warnings, l->names.job.warning_count, NULL,
               0);
}

/* NULL: answered. */
static struct qr_listing *recent(struct qr_http *h, struct kl_http_request *r,
                                 void (*render)(struct qr_listing *l, struct kl_buf *out))
{
    struct qr_listing *l = qr_listing_new(h, r, TSP_SEL_LABELS);
    uint32_t           limit = SHOWN_USUAL;

    if (l == NULL)
        return NULL;
    l->render = render;
    l->names.job.partial = false;                      /* a count has no place for a warning */
    l->names.to_ms = kl_env_now_ms(h->env);
    l->names.from_ms = l->names.to_ms - QR_RECENT_MS;
    if (!qr_api_limit(r, &limit)) {
        qr_listing_free(l);
        return NULL;
    }
    l->limit = limit == 0 ? SHOWN_USUAL : limit > SHOWN_MAX ? SHOWN_MAX : limit;
    return qr_listing_select(l, "selector") ? l : NULL;
}

static void label_names(void *ctx, struct kl_http_request *r)
{
    struct qr_listing *l = recent(ctx, r, render_names);

    if (l != NULL)
        qr_listing_go(l);
}

static void label_values(void *ctx, struct kl_http_request *r)
{
    struct qr_listing *l;

    if (kl_http_param(r, "label_names[]", 0) == NULL)
        qr_api_error(r, PQL_BAD_DATA, "no label_names[] parameter provided");
    else if (kl_http_param(r, "label_names[]", NAMES_MAX) != NULL)
        qr_api_error(r, PQL_BAD_DATA, "more than %d label_names[] parameters", NAMES_MAX);
    else if ((l = recent(ctx, r, render_values)) != NULL)
        qr_listing_go(l);
}

static void active_series(void *ctx, struct kl_http_request *r)
{
    struct qr_listing *l;

    if (kl_http_param(r, "selector", 0) == NULL)
        qr_api_error(r, PQL_BAD_DATA, "no selector parameter provided");
    else if ((l = recent(ctx, r, render_active)) != NULL)
        qr_listing_go(l);
}

static void series_count(void *ctx, struct kl_http_request *r)
{
    struct qr_listing *l = qr_listing_new(ctx, r, TSP_SEL_LABELS);

    if (l == NULL)
        return;
    l->render = render_count;
    if (qr_listing_range(l) && qr_listing_match(l, false))
        qr_listing_go(l);
}

void qr_api_cardinality_open(struct qr_http *h)
{
    qr_api_routes(h, "GET,POST", "/cardinality/label_names", label_names);
    qr_api_routes(h, "GET,POST", "/cardinality/label_values", label_values);
    qr_api_routes(h, "GET,POST", "/cardinality/active_series", active_series);
    qr_api_routes(h, "GET,POST", "/series/count", series_count);
}
