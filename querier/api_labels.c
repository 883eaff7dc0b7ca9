/* /labels, /label/<name>/values, /series, /metadata: listings, rendered. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "libtsproto/text.h"
#include "querier/api_priv.h"

static void end(struct qr_listing *l, struct kl_buf *out)
{
    qr_api_end(out, (const char *const *)l->names.job.warnings, l->names.job.warning_count, NULL,
               0);
}

static void list_begin(struct qr_listing *l, struct kl_buf *out)
{
    (void)l;
    qr_api_begin(out);
    kl_buf_add8(out, '[');
}

static void list_end(struct qr_listing *l, struct kl_buf *out)
{
    kl_buf_add8(out, ']');
    end(l, out);
}

static void text_item(struct qr_listing *l, size_t i, struct kl_buf *out)
{
    if (i > 0)
        kl_buf_add8(out, ',');
    kl_json_str(out, l->names.texts[i]);
}

static void series_item(struct qr_listing *l, size_t i, struct kl_buf *out)
{
    if (i > 0)
        kl_buf_add8(out, ',');
    qr_json_labels(out, l->names.labels[i]);
}

static void list(struct qr_listing *l, void (*item)(struct qr_listing *l, size_t i, struct kl_buf *out))
{
    l->render = list_begin;
    l->item = item;
    l->tail = list_end;
}

static void labels(void *ctx, struct kl_http_request *r)
{
    struct qr_listing *l = qr_listing_new(ctx, r, TSP_SEL_NAMES);

    if (l == NULL)
        return;
    list(l, text_item);
    if (!qr_api_limit(r, &l->names.limit))
        qr_listing_free(l);
    else if (qr_listing_range(l) && qr_listing_match(l, false))
        qr_listing_go(l);
}

static void values(void *ctx, struct kl_http_request *r)
{
    const char        *name = kl_http_wild(r);
    struct qr_listing *l = qr_listing_new(ctx, r, TSP_SEL_VALUES);
    size_t             size;

    if (l == NULL)
        return;
    list(l, text_item);
    l->label = kl_new(strlen(name) + 1);
    size = qr_unescape_name(name, l->label);
    l->names.label = kl_span(l->label, size);
    if (size == 0 || !kl_utf8_ok(l->names.label)) {
        qr_api_error(r, PQL_BAD_DATA, "invalid label name: \"%.300s\"", name);
        qr_listing_free(l);
    } else if (!qr_api_limit(r, &l->names.limit)) {
        qr_listing_free(l);
    } else if (qr_listing_range(l) && qr_listing_match(l, false)) {
        qr_listing_go(l);
    }
}

static void series(void *ctx, struct kl_http_request *r)
{
    struct qr_listing *l = qr_listing_new(ctx, r, TSP_SEL_LABELS);

    if (l == NULL)
        return;
    list(l, series_item);
    if (!qr_api_limit(r, &l->names.limit))
        qr_listing_free(l);
    else if (qr_listing_range(l) && qr_listing_match(l, true))
        qr_listing_go(l);
}

/* ---- metadata ---- */

const char *qr_type_name(uint8_t type)
{
    static const char *const names[] = {
        [TSP_META_UNKNOWN] = "unknown",     [TSP_META_COUNTER] = "counter",
        [TSP_META_GAUGE] = "gauge",         [TSP_META_HISTOGRAM] = "histogram",
        [TSP_META_GAUGE_HISTOGRAM] = "gaugehistogram",
        [TSP_META_SUMMARY] = "summary",     [TSP_META_INFO] = "info",
        [TSP_META_STATESET] = "stateset",
    };

    return type < sizeof names / sizeof names[0] ? names[type] : "unknown";
}

static void render_metadata(struct qr_listing *l, struct kl_buf *out)
{
    const struct qr_names *n = &l->names;
    struct kl_span         last = { NULL, 0 }, wanted = kl_span_str(l->metric);
    int64_t                metrics = 0, of_metric = 0;

    qr_api_begin(out);
    kl_buf_add8(out, '{');
    for (size_t i = 0; i < n->count; i++) {
        const struct qr_meta *m = &n->metas[i];
        bool                  same = last.at != NULL && kl_span_eq(m->metric, last);

        if (l->has_metric && !kl_span_eq(m->metric, wanted))
            continue;
        if (!same) {
            if (l->limit >= 0 && metrics >= l->limit)
                break;
            kl_buf_adds(out, metrics > 0 ? "]," : "");
            kl_json_str(out, m->metric);
            kl_buf_adds(out, ":[");
            metrics++;
            of_metric = 0;
            last = m->metric;
        }
        if (l->per_metric > 0 && of_metric >= l->per_metric)
            continue;
        kl_buf_addf(out, "%s{\"type\":\"%s\",\"help\":", of_metric++ > 0 ? "," : "",
                    qr_type_name(m->type));
        kl_json_str(out, m->help);
        kl_buf_adds(out, ",\"unit\":");
        kl_json_str(out, m->unit);
        kl_buf_add8(out, '}');
    }
    kl_buf_adds(out, metrics > 0 ? "]}" : "}");
    end(l, out);
}

static bool number(struct kl_http_request *r, const char *name, int64_t *v)
{
    const char *text = kl_http_param(r, name, 0);
    char       *rest;

    *v = -1;
    if (text == NULL || text[0] == '\0')
        return true;
    *v = strtoll(text, &rest, 10);
    if ((isdigit((unsigned char)text[0]) || text[0] == '-' || text[0] == '+') && *rest == '\0')
        return true;
    qr_api_error(r, PQL_BAD_DATA, "%s must be a number", name);
    return false;
}

static void metadata(void *ctx, struct kl_http_request *r)
{
    struct qr_listing *l = qr_listing_new(ctx, r, TSP_SEL_METADATA);
    const char        *metric = kl_http_param(r, "metric", 0);

    if (l == NULL)
        return;
    l->render = render_metadata;
    l->has_metric = metric != NULL && metric[0] != '\0';
    if (!number(r, "limit", &l->limit) || !number(r, "limit_per_metric", &l->per_metric)) {
        qr_listing_free(l);
    } else if (l->has_metric && strlen(metric) >= sizeof l->metric) {
        qr_api_error(r, PQL_BAD_DATA, "the metric's name is longer than %zu bytes",
                     sizeof l->metric - 1);
        qr_listing_free(l);
    } else {
        if (l->has_metric)
            memcpy(l->metric, metric, strlen(metric) + 1);
        qr_listing_go(l);
    }
}

void qr_api_labels_open(struct qr_http *h)
{
    qr_api_routes(h, "GET,POST", "/labels", labels);
    qr_api_routes(h, "GET", "/label/*/values", values);
    qr_api_routes(h, "GET,POST", "/series", series);
    qr_api_routes(h, "GET", "/metadata", metadata);
}
