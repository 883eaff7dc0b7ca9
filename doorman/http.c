#include "doorman/http_priv.h"

#include "doorman/forms.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { SMALL_SNAPPY = 512 * 1024, UNPACK_QUEUE_MAX = 4096 };

void dm_http_say(struct kl_http_request *r, unsigned status, const char *words)
{
    kl_http_answer(r, status, "text/plain; charset=utf-8", kl_span_str(words));
}

/* Remote write 2.0 wants to know what was written, also of a request that failed: there it is none
 * that we could swear to. */
static void say_written(struct kl_http_request *r, const struct dm_push *p)
{
    bool known = p->status == 204 || p->status == 400;
    const struct { const char *name; uint64_t count; } all[] = {
        { "X-Prometheus-Remote-Write-Samples-Written", p->samples_stored + p->samples_passed_over },
        { "X-Prometheus-Remote-Write-Histograms-Written", p->hists_stored + p->hists_passed_over },
        { "X-Prometheus-Remote-Write-Exemplars-Written", p->exemplars_stored + p->exemplars_passed_over },
    };
    char number[24];

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        snprintf(number, sizeof number, "%" PRIu64, known ? all[i].count : 0);
        kl_http_set(r, all[i].name, number);
    }
}

/* What a query says in X-Koalemos-After to see this push. */
static void say_where(struct kl_http_request *r, const struct dm_push *p)
{
    char   text[DM_POSITIONS_MAX * 28 + 1] = "";
    size_t n = 0;

    if (p->acked_elsewhere) {
        snprintf(text, sizeof text, "strong");
    } else {
        for (uint32_t i = 0; i < p->acked_count; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%" PRIu32 ":%" PRIu64, i > 0 ? "," : "",
                                  p->acked[i].partition, p->acked[i].seq);
    }
    if (text[0] != '\0')
        kl_http_set(r, "X-Koalemos-Token", text);
}

static void done(struct dm_push *p)
{
    struct dm_call         *c = kl_container_of(p, struct dm_call, push);
    struct kl_http_request *r = c->request;
    char                    number[16];

    if (p->retry_after_s > 0 && p->status != 204 && p->status != 400) {
        snprintf(number, sizeof number, "%u", p->retry_after_s);
        kl_http_set(r, "Retry-After", number);
    }
    if (p->format == DM_RW2)
        say_written(r, p);
    if (p->status < 300)
        say_where(r, p);
    c->answer(c);
    dm_http_drop(c);
}

void dm_http_drop(struct dm_call *c)
{
    if (c->release != NULL)
        c->release(c);
    free(c);
}

/* 202, as others answer the replica that does not lead. */
static void answer_plain(struct dm_call *c)
{
    dm_http_say(c->request, c->push.deduplicated ? 202 : c->push.status, c->push.text);
}

struct dm_call *dm_http_call(struct dm_http *h, struct kl_http_request *r, enum dm_format format,
                             size_t more)
{
    struct dm_call *c = kl_new(sizeof *c + more);

    c->request = r;
    c->answer = answer_plain;
    c->push.format = format;
    c->push.now_ms = kl_env_now_ms(h->env);
    snprintf(c->push.request_id, sizeof c->push.request_id, "%s", kl_http_id(r));
    c->push.trace = *kl_http_trace(r);
    c->push.done = done;
    return c;
}

static bool tenant_of(struct kl_http_request *r, char *out, size_t size)
{
    if (dm_tenant_fit(kl_http_header(r, "X-Scope-OrgID"), out, size))
        return true;
    dm_http_say(r, 400, "X-Scope-OrgID: " DM_TENANT_WORDS);
    return false;
}

bool dm_http_is_type(const char *header, const char *type) { return dm_is_type(header, type); }

static void turn_away(struct dm_call *c, const char *words)
{
    c->push.status = 503;
    c->push.retry_after_s = 1;
    snprintf(c->push.text, sizeof c->push.text, "%s", words);
    c->push.done(&c->push);
}

static void run_unpack(struct kl_env_task *task)
{
    struct dm_call *c = kl_container_of(task, struct dm_call, task);

    if (atomic_load(&c->http->ending))
        turn_away(c, "the doorman is stopping\n");
    else
        c->unpack(c);
}

/* Snappy makes at most some twenty times as much of a body, so that a small one is cheaper done than
 * handed on. */
void dm_http_unpack(struct dm_http *h, struct dm_call *c, enum tsp_coding coding,
                    void (*unpack)(struct dm_call *c))
{
    bool here = coding == TSP_IDENTITY ||
                (coding == TSP_SNAPPY && kl_http_body(c->request).size <= SMALL_SNAPPY);

    c->http = h;
    c->coding = coding;
    c->unpack = unpack;
    c->task.run = run_unpack;
    if (here)
        unpack(c);
    else if (!h->env->sched->offer(h->unpacker, &c->task))
        turn_away(c, "too many bodies wait to be unpacked already\n");
}

/* Unpacks the body into c->push and hands it on, or answers what is wrong with it. */
static void unpack(struct dm_call *c)
{
    struct kl_http_request *r = c->request;
    struct dm_doorman      *d = c->http->doorman;
    uint64_t                most = dm_limits_of(d, kl_span_str(c->push.tenant)).inflated_bytes_max;
    struct kl_err           err = { .code = KL_OK };

    if (c->coding == TSP_IDENTITY)
        kl_http_body_take(r, &c->push.body, &c->push.body_size);
    else
        (void)tsp_inflate(c->coding, kl_http_body(r), most, &c->push.body, &c->push.body_size, &err);
    if (err.code == KL_OK) {
        dm_push(d, kl_http_connection(r), &c->push);
        return;
    }
    dm_http_say(r, err.code == KL_ELIMIT ? 413 : 400, err.text);
    dm_http_drop(c);
}

/*
 * one: the ack of one server, where the log has one; else it is served as quorum, and the answer says
 * so. quorum: of the log's replicas, as always. all: of these, and applied by every ingestor that has
 * the partition, or 503.
 */
static bool consistency_of(struct dm_http *h, struct dm_call *c)
{
    const char *text = kl_http_param(c->request, "consistency", 0);

    if (text == NULL || text[0] == '\0')
        return true;
    c->push.everywhere = strcmp(text, "all") == 0;
    if (!c->push.everywhere && strcmp(text, "quorum") != 0 && strcmp(text, "one") != 0) {
        dm_http_say(c->request, 400, "consistency is one, quorum or all\n");
        return false;
    }
    kl_http_set(c->request, "X-Koalemos-Consistency",
                strcmp(text, "one") == 0 && dm_log_replicas(h->doorman) > 1 ? "quorum" : text);
    return true;
}

void dm_http_take(struct dm_http *h, struct dm_call *c, enum tsp_coding coding)
{
    struct kl_span body = kl_http_body(c->request);
    uint64_t       most;

    c->push.sent = kl_hash128(body.at, body.size);
    if (!consistency_of(h, c) || !tenant_of(c->request, c->push.tenant, sizeof c->push.tenant)) {
        dm_http_drop(c);
        return;
    }
    /* The route is bounded by what the largest tenant may send. */
    most = dm_limits_of(h->doorman, kl_span_str(c->push.tenant)).body_bytes_max;
    if (most > 0 && body.size > most) {
        dm_http_say(c->request, 413, "the body is larger than limits.body_bytes_max\n");
        dm_http_drop(c);
    } else {
        dm_http_unpack(h, c, coding, unpack);
    }
}

bool dm_http_coding(struct kl_http_request *r, enum tsp_coding *coding)
{
    struct kl_err err;

    if (tsp_coding_of(kl_http_header(r, "Content-Encoding"), coding, &err) == KL_OK)
        return true;
    dm_http_say(r, 415, err.text);
    return false;
}

/* Remote write says its body is snappy; one without Content-Encoding is taken at the protocol's word. */
static void remote_write(void *ctx, struct kl_http_request *r)
{
    enum dm_format  format;
    enum tsp_coding coding;

    if (!dm_remote_write_of(kl_http_header(r, "Content-Type"), &format)) {
        dm_http_say(r, 415, "Content-Type should be application/x-protobuf, with proto=prometheus.WriteRequest "
                    "(remote write 1.0) or proto=io.prometheus.write.v2.Request (2.0)\n");
        return;
    }
    if (format == DM_RW2)
        say_written(r, &(struct dm_push){ 0 });        /* until more is known */
    if (!dm_http_coding(r, &coding))
        return;
    if (kl_http_header(r, "Content-Encoding") == NULL)
        coding = TSP_SNAPPY;
    if (kl_http_body(r).size == 0) {
        dm_http_say(r, 400, "the body is empty\n");
        return;
    }
    dm_http_take(ctx, dm_http_call(ctx, r, format, 0), coding);
}

/* vmagent asks before it sends zstd instead of snappy: 1 is the version of its protocol that says no more
 * than that. Nothing else is to be got here. */
static void remote_write_protocol(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    if (kl_http_param(r, "get_vm_proto_version", 0) != NULL) {
        dm_http_say(r, 200, "1");
        return;
    }
    kl_http_set(r, "Allow", "POST");
    dm_http_say(r, 405, "POST is what this path takes\n");
}

static void import_text(void *ctx, struct kl_http_request *r)
{
    const char     *type = kl_http_header(r, "Content-Type");
    bool            openmetrics = type != NULL && type[0] != '\0' &&
                                  dm_http_is_type(type, "application/openmetrics-text");
    enum tsp_coding coding;

    /* The last one is what curl says when nobody told it otherwise. */
    if (!openmetrics && !dm_http_is_type(type, "text/plain") && !dm_http_is_type(type, "application/octet-stream") &&
        !dm_http_is_type(type, "application/x-www-form-urlencoded")) {
        dm_http_say(r, 415, "Content-Type should be text/plain or application/openmetrics-text\n");
        return;
    }
    if (!dm_http_coding(r, &coding))
        return;
    dm_http_take(ctx, dm_http_call(ctx, r, openmetrics ? DM_OPENMETRICS : DM_TEXT, 0), coding);
}

struct dm_http *dm_http_new(struct dm_doorman *d, struct kl_http_server *s,
                            const struct dm_options *options, struct kl_env *env)
{
    struct dm_http *h = kl_new(sizeof *h);
    const _Atomic size_t *most = dm_body_max(d);

    (void)options;
    *h = (struct dm_http){ .doorman = d, .env = env };
    h->unpacker = env->sched->loop_new(env->sched, "unpack", UNPACK_QUEUE_MAX);
    kl_http_route_add(s, &(struct kl_http_route){ "POST", "/api/v1/write", 0, remote_write, h, true, .body_max = most });
    kl_http_route_add(s, &(struct kl_http_route){ "POST", "/api/v1/push", 0, remote_write, h, true, .body_max = most });
    kl_http_route_add(s, &(struct kl_http_route){ "GET", "/api/v1/write", 0, remote_write_protocol, h, false });
    kl_http_route_add(s, &(struct kl_http_route){ "GET", "/api/v1/push", 0, remote_write_protocol, h, false });
    /* Raw: curl calls whatever it posts a form. */
    kl_http_route_add(s, &(struct kl_http_route){ "POST", "/api/v1/import/prometheus", 0, import_text, h, true, .body_max = most });
    dm_http_import_routes(h, s, most);
    dm_http_otlp(h, s, most);
    return h;
}

void dm_http_free(struct dm_http *h)
{
    if (h == NULL)
        return;
    atomic_store(&h->ending, true);                    /* what waits is turned away */
    h->env->sched->loop_free(h->unpacker);
    free(h);
}
