/*
 * OTLP over HTTP: bodies in protobuf or JSON, answers in the same. A message that is no OTLP is
 * refused whole (400); one of which parts were refused is a partial success (200), as the
 * specification has it (opentelemetry.io/docs/specs/otlp).
 */
#include <stdlib.h>
#include <string.h>

#include "doorman/http_priv.h"
#include "doorman/otlp_in.h"
#include "libtsproto/otlp_answer.h"

static void answer(struct kl_http_request *r, unsigned status, bool json, struct kl_buf *body)
{
    kl_http_answer_take(r, status, json ? "application/json" : "application/x-protobuf", body);
}

static void refuse(struct kl_http_request *r, unsigned status, bool json, const char *words)
{
    struct kl_buf body;

    kl_buf_init(&body, 0);
    tsp_otlp_status(&body, json, dm_otlp_code(status), kl_span_str(words), 0);
    answer(r, status, json, &body);
}

/* struct dm_call's `answer`: Retry-After is set already. */
static void answer_push(struct dm_call *c)
{
    const struct dm_push *p = &c->push;
    bool          json = c->more[0];
    struct kl_buf body;

    kl_buf_init(&body, 0);
    if (p->status == 204 || p->status == 400) {
        tsp_otlp_response(&body, json, p->points_refused, kl_span_str(p->text));
        answer(c->request, 200, json, &body);
    } else {
        tsp_otlp_status(&body, json, dm_otlp_code(p->status), kl_span_str(p->text), p->retry_after_s);
        answer(c->request, p->status, json, &body);
    }
}

static void refuse_call(struct dm_call *c, unsigned status, const char *words)
{
    refuse(c->request, status, c->more[0] != 0, words);
    free(c->push.body);
    free(c);
}

/* Unpacks the body and hands it on, or answers what is wrong with it. */
static void unpack(struct dm_call *c)
{
    struct kl_http_request *r = c->request;
    struct dm_doorman      *d = c->http->doorman;
    struct dm_limits        l = dm_limits_of(d, kl_span_str(c->push.tenant));
    struct kl_err           err = { .code = KL_OK };
    unsigned                gate;

    if (l.body_bytes_max > 0 && kl_http_body(r).size > l.body_bytes_max)
        kl_fail(&err, KL_ELIMIT, "the body is larger than limits.body_bytes_max");
    else if (c->coding == TSP_IDENTITY)
        kl_http_body_take(r, &c->push.body, &c->push.body_size);
    else
        (void)tsp_inflate(c->coding, kl_http_body(r), l.inflated_bytes_max, &c->push.body,
                          &c->push.body_size, &err);
    if (err.code == KL_OK)
        (void)dm_otlp_body(&c->push, c->more[0] != 0, l.inflated_bytes_max, kl_http_connection(r), &gate,
                           &err);
    if (err.code == KL_OK)
        dm_push(d, gate, &c->push);
    else
        refuse_call(c, err.code == KL_ELIMIT ? 413 : 400, err.text);
}

static void export_metrics(void *ctx, struct kl_http_request *r)
{
    struct dm_http *h = ctx;
    const char     *type = kl_http_header(r, "Content-Type");
    bool            json = type != NULL && type[0] != '\0' && dm_http_is_type(type, "application/json");
    const char     *tenant = kl_http_header(r, "X-Scope-OrgID");
    enum tsp_coding coding;
    struct dm_call *c;
    struct kl_err   err;

    if (!json && !dm_http_is_type(type, "application/x-protobuf")) {
        refuse(r, 415, true, "Content-Type should be application/x-protobuf or application/json");
        return;
    }
    if (tsp_coding_of(kl_http_header(r, "Content-Encoding"), &coding, &err) != KL_OK) {
        refuse(r, 415, json, err.text);
        return;
    }
    c = dm_http_call(h, r, DM_OTLP, 1);
    c->more[0] = json;
    c->answer = answer_push;
    if (!dm_tenant_fit(tenant, c->push.tenant, sizeof c->push.tenant))
        refuse_call(c, 400, "X-Scope-OrgID: " DM_TENANT_WORDS);
    else
        dm_http_unpack(h, c, coding, unpack);
}

void dm_http_otlp(struct dm_http *h, struct kl_http_server *s, const _Atomic size_t *body_max)
{
    kl_http_route_add(s, &(struct kl_http_route){ "POST", "/api/v1/otlp/v1/metrics", 0, export_metrics, h,
                                                  true, .body_max = body_max });
    kl_http_route_add(s, &(struct kl_http_route){ "POST", "/otlp/v1/metrics", 0, export_metrics, h, true,
                                                  .body_max = body_max });
}
