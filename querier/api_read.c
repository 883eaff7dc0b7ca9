/* /read: Prometheus' remote read, samples or streamed XOR chunks (read_priv.h has the bytes). */
#include <stdlib.h>

#include "libtsproto/inflate.h"
#include "querier/api_priv.h"
#include "querier/read_priv.h"

_Static_assert((int)QR_READ_MATCHERS_MAX == (int)TSP_MATCHERS_MAX, "as many as a fetch takes");

static void render_samples(struct qr_listing *l, struct kl_buf *out)
{
    struct kl_buf message;
    size_t        at = 0;

    kl_buf_init(&message, out->cap);
    for (size_t i = 0; i < l->names.fetch_count; i++) {
        qr_read_result(&message, l->names.series + at, l->names.counts[i]);
        at += l->names.counts[i];
    }
    qr_snappy_literals(kl_buf_span(&message), out);
    out->over = out->over || message.over;
    kl_buf_deinit(&message);
    l->content_type = "application/x-protobuf";
    l->content_encoding = "snappy";
}

static void frame_item(struct qr_listing *l, size_t i, struct kl_buf *out)
{
    uint64_t query = 0;

    for (size_t at = l->names.counts[0]; i >= at; at += l->names.counts[query])
        query++;
    qr_read_frame(out, &l->names.series[i], query);
}

static void decide(struct qr_listing *l)
{
    l->render = render_samples;
    if (l->streamed) {
        l->render = qr_api_nothing;
        l->item = frame_item;
        l->content_type = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    }
}

static enum kl_code compile(struct qr_names *n, const struct qr_read_query *q, struct kl_err *err)
{
    n->selectors[n->selector_count].matchers = q->matchers;
    n->selectors[n->selector_count].count = q->matcher_count;
    n->selectors[n->selector_count].from_ms = q->from_ms;
    n->selectors[n->selector_count].to_ms = q->to_ms;
    n->selector_count++;
    for (size_t i = 0; i < q->matcher_count; i++) {
        struct kl_matcher *m = &q->matchers[i];
        struct kl_regex   *re;

        if (m->op != KL_MATCH_RE && m->op != KL_MATCH_NRE)
            continue;
        if (kl_regex_new(m->value, &re, err) != KL_OK)
            return kl_within(err, "matcher %zu", i);
        m->re = re;
        if (qr_names_weigh(n, m, err) != KL_OK)
            return err->code;
    }
    return KL_OK;
}

static enum kl_code take_request(struct qr_listing *l, struct kl_err *err)
{
    struct qr_read_request *q = kl_new(sizeof *q);
    size_t                  size;
    enum kl_code            code;

    code = tsp_inflate(TSP_SNAPPY, kl_http_body(l->r), QR_BODY_MAX, &l->body, &size, err);
    if (code == KL_OK)
        code = qr_read_parse(kl_span(l->body, size), &l->names.arena, q, err);
    for (size_t i = 0; i < q->query_count && code == KL_OK; i++)
        code = compile(&l->names, &q->queries[i], err);
    l->samples = q->samples;
    l->streamed = q->streamed && (q->streamed_first || !q->samples);
    free(q);
    return code;
}

static void read_(void *ctx, struct kl_http_request *r)
{
    struct qr_listing *l = qr_listing_new(ctx, r, TSP_SEL_SERIES);
    struct kl_err      err;

    if (l == NULL)
        return;
    l->decide = decide;
    l->names.separate = true;
    l->names.job.partial = false;                      /* the answer has no place for a warning */
    if (take_request(l, &err) != KL_OK) {
        qr_api_error(r, PQL_BAD_DATA, "%s", err.text);
        qr_listing_free(l);
    } else if (l->names.selector_count == 0) {
        qr_api_error(r, PQL_BAD_DATA, "a read request without a query");
        qr_listing_free(l);
    } else {
        qr_listing_go(l);
    }
}

void qr_api_read_open(struct qr_http *h)
{
    qr_api_routes(h, "POST", "/read", read_);
}
