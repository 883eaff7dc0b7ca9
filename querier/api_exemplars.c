/* /query_exemplars: those of every series that a selector of the query matches, live and stored. */
#include <stdlib.h>

#include "querier/api_priv.h"

static void begin(struct qr_listing *l, struct kl_buf *out)
{
    (void)l;
    qr_api_begin(out);
    kl_buf_add8(out, '[');
}

/* The i-th exemplar, and what lies between its series and the one before. */
static void item(struct qr_listing *l, size_t i, struct kl_buf *out)
{
    const struct qr_exemplar *e = &l->names.exemplars[i];

    if (i > 0 && kl_labels_cmp(e[-1].series, e->series) == 0) {
        kl_buf_add8(out, ',');
    } else {
        kl_buf_adds(out, i > 0 ? "]},{\"seriesLabels\":" : "{\"seriesLabels\":");
        qr_json_labels(out, e->series);
        kl_buf_adds(out, ",\"exemplars\":[");
    }
    kl_buf_adds(out, "{\"labels\":");
    qr_json_labels(out, e->labels);
    kl_buf_adds(out, ",\"value\":\"");
    pql_value_json(out, e->value);
    kl_buf_adds(out, "\",\"timestamp\":");
    kl_json_ms(out, e->time_ms);
    kl_buf_add8(out, '}');
}

static void tail(struct qr_listing *l, struct kl_buf *out)
{
    kl_buf_adds(out, l->names.count > 0 ? "]}]" : "]");
    qr_api_end(out, (const char *const *)l->names.job.warnings, l->names.job.warning_count, NULL,
               0);
}

/* The selectors of the query into the listing; false: answered. */
static bool selectors(struct qr_listing *l, bool *any)
{
    struct qr_names    *n = &l->names;
    struct pql_selected found[QR_SELECTORS_MAX];
    const char         *text = kl_http_param(l->r, "query", 0);
    size_t              size = text != NULL ? kl_http_param_size(l->r, "query", 0) : 0, count;
    struct kl_err       err;
    enum kl_code        code;

    if (size > PQL_TEXT_MAX)
        code = kl_fail(&err, KL_ELIMIT, "the query has %zu bytes, at most %d are taken", size,
                       PQL_TEXT_MAX), count = 0;
    else
        code = pql_selectors(kl_span(text != NULL ? text : "", size), &n->arena, found,
                             QR_SELECTORS_MAX, &count, &err);
    for (size_t i = 0; i < count; i++) {
        n->selectors[i].matchers = found[i].matchers;
        n->selectors[i].count = found[i].count;
    }
    n->selector_count = count;
    *any = count > 0;
    if (code != KL_OK)
        qr_api_error(l->r, PQL_BAD_DATA, "%s", err.text);
    return code == KL_OK;
}

static void query_exemplars(void *ctx, struct kl_http_request *r)
{
    struct qr_listing *l = qr_listing_new(ctx, r, TSP_SEL_EXEMPLARS);
    bool               any;

    if (l == NULL)
        return;
    l->render = begin;
    l->item = item;
    l->tail = tail;
    if (!qr_listing_range(l))
        return;
    if (l->names.to_ms < l->names.from_ms) {
        qr_api_error(r, PQL_BAD_DATA, "end timestamp must not be before start timestamp");
        qr_listing_free(l);
    } else if (!selectors(l, &any)) {
        qr_listing_free(l);
    } else if (!any) {
        qr_listing_free(l);
        kl_http_answer(r, 204, NULL, kl_span("", 0));  /* as Prometheus: there is nothing to ask for */
    } else {
        qr_listing_go(l);
    }
}

void qr_api_exemplars_open(struct qr_http *h)
{
    qr_api_routes(h, "GET,POST", "/query_exemplars", query_exemplars);
}
