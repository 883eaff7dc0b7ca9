#include "doorman/post.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "doorman/forms.h"
#include "doorman/otlp_in.h"
#include "doorman/tenants.h"
#include "doorman/told.h"
#include "libtsproto/inflate.h"

static const char otlp_proto[] =
    "application/x-protobuf;proto=opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest";

struct dm_post {
    struct dm_doorman *doorman;
    struct kl_bus     *bus;
    struct kl_env     *env;
    struct kl_tracer  *tracer;
    const struct kl_guard *guard;
    struct kl_env_loop *loop;
    struct kl_bus_service service;
    struct kl_env_task begin, end;
    struct kl_metric  *messages, unseen;
};

/* A push and the message that it answers. It may outlive the post: only the bus is used then. */
struct letter {
    struct dm_push push;
    struct dm_entry entry;
    struct kl_bus *bus;
    struct kl_bus_question *question;
    struct tsp_csv_format  *csv;
};

/* ---- answers ---- */

static void reply(struct kl_bus *bus, struct kl_bus_question *q, unsigned status, const char *words)
{
    char   text[2100];
    size_t n = (size_t)snprintf(text, sizeof text, words[0] != '\0' ? "%u %s" : "%u", status, words);

    if (n >= sizeof text)
        n = sizeof text - 1;
    while (n > 0 && text[n - 1] == '\n')
        n--;
    bus->answer(bus, q, KL_OK, kl_span(text, n));
}

static void letter_free(struct letter *l, unsigned status)
{
    dm_told_leave(&l->entry, &l->push, "message", status);
    tsp_csv_format_free(l->csv);
    free(l);
}

static void done(struct dm_push *p)
{
    struct letter *l = kl_container_of(p, struct letter, push);

    reply(l->bus, l->question, p->status, p->text);
    letter_free(l, p->status);
}

/* ---- what a message says of itself ---- */

static const char *header(const struct letter *l, const char *name)
{
    return l->bus->header(l->bus, l->question, name);
}

static bool says(const char *type, const char *what)
{
    return type != NULL && type[0] != '\0' && dm_is_type(type, what);
}

/* The status that says what is wrong, err its words; 0: push.format and import are filled. */
static unsigned form_of(struct letter *l, bool *json, struct kl_err *err)
{
    const char       *type = header(l, "Content-Type");
    struct dm_import *import = &l->push.import;
    const char       *text;

    *json = says(type, "application/json");
    if (*json || (type != NULL && strcmp(type, otlp_proto) == 0)) {
        l->push.format = DM_OTLP;
    } else if (says(type, "text/plain")) {
        l->push.format = DM_TEXT;
    } else if (says(type, "application/openmetrics-text")) {
        l->push.format = DM_OPENMETRICS;
    } else if (says(type, "application/x-ndjson") || says(type, "application/stream+json")) {
        l->push.format = DM_JSONL;
    } else if (says(type, "text/x-influx-line")) {
        l->push.format = DM_INFLUX;
        if (!dm_influx_unit(header(l, "Precision"), &import->unit_ns))
            return kl_fail(err, KL_EINVAL, "Precision is ns, us, ms, s, m or h"), 400;
        text = header(l, "Database");
        if (text != NULL)
            import->db = kl_span_str(text);
    } else if (says(type, "text/csv")) {
        l->push.format = DM_CSV;
        text = header(l, "Format");
        if (text == NULL)
            return kl_fail(err, KL_EINVAL, "what the columns are is missing: a header Format"), 400;
        if (tsp_csv_format_parse(text, &l->csv, err) != KL_OK)
            return 400;
        import->csv = l->csv;
    } else if (!dm_remote_write_of(type, &l->push.format)) {
        return kl_fail(err, KL_EINVAL, "a Content-Type that is not taken here"), 415;
    }
    return 0;
}

static unsigned unpack(struct dm_post *post, struct letter *l, bool json, unsigned *gate,
                       struct kl_err *err)
{
    struct dm_limits limits;
    const char     *encoding = header(l, "Content-Encoding");
    struct kl_span  bytes = l->question->bytes;
    struct dm_push *p = &l->push;
    enum tsp_coding coding;

    if (tsp_coding_of(encoding, &coding, err) != KL_OK)
        return 415;
    if (encoding == NULL && (p->format == DM_RW1 || p->format == DM_RW2))
        coding = TSP_SNAPPY;                           /* as the protocol has it */
    limits = dm_limits_of(post->doorman, kl_span_str(p->tenant));
    if (limits.body_bytes_max > 0 && bytes.size > limits.body_bytes_max)
        return kl_fail(err, KL_ELIMIT, "the body is larger than limits.body_bytes_max"), 413;
    err->code = KL_OK;
    if (coding == TSP_IDENTITY) {
        p->body = kl_new(bytes.size + 1);              /* a message is bounded */
        memcpy(p->body, bytes.at, bytes.size);
        p->body_size = bytes.size;
    } else if (tsp_inflate(coding, bytes, limits.inflated_bytes_max, &p->body, &p->body_size, err) != KL_OK) {
        p->body = NULL;
    }
    if (err->code == KL_OK && p->format == DM_OTLP)
        (void)dm_otlp_body(p, json, limits.inflated_bytes_max, *gate, gate, err);
    else if (err->code == KL_OK)
        p->sent = kl_hash128(bytes.at, bytes.size);
    return err->code == KL_OK ? 0 : err->code == KL_ELIMIT ? 413 : 400;
}

/* 0, or the status that the guard refuses it with: a push for the tenant of its subject. */
static unsigned judge(const struct dm_post *post, const struct letter *l, struct kl_err *err)
{
    struct kl_guard_verdict v = { 0 };
    struct kl_guard_ask     ask = { .method = "MESSAGE", .route = "ingest", .path = l->question->subject,
                                    .authorization = header(l, "Authorization"), .tenant = l->push.tenant,
                                    .peer = "nats" };

    if (post->guard == NULL)
        return 0;
    post->guard->judge(post->guard->ctx, &ask, &v);
    if (v.status != 0)
        kl_fail(err, KL_EINVAL, "%s", v.words);
    return v.status;
}

static void question(struct kl_bus_service *s, struct kl_bus_question *q)
{
    struct dm_post *post = s->ctx;
    struct letter  *l = kl_new(sizeof *l);
    unsigned        status, gate;
    bool            json;
    struct kl_err   err;

    l->bus = post->bus;
    l->question = q;
    l->push.now_ms = kl_env_now_ms(post->env);
    l->push.done = done;
    l->entry = (struct dm_entry){ .tracer = post->tracer, .env = post->env };
    kl_count(post->messages, 1);
    dm_told_enter(&l->entry, &l->push, header(l, "X-Request-Id"), header(l, "traceparent"));
    if (q->subject == NULL || !dm_tenant_fit(q->subject, l->push.tenant, sizeof l->push.tenant))
        status = (kl_fail(&err, KL_EINVAL, "%s", DM_TENANT_WORDS), 400);
    else if ((status = judge(post, l, &err)) == 0 && (status = form_of(l, &json, &err)) == 0) {
        gate = (unsigned)kl_hash64(q->subject, strlen(q->subject));
        status = unpack(post, l, json, &gate, &err);
    }
    if (status != 0) {
        reply(post->bus, q, status, err.text);
        free(l->push.body);
        letter_free(l, status);
        return;
    }
    dm_push(post->doorman, gate, &l->push);
}

/* ---- coming and going ---- */

static void begin(struct kl_env_task *task)
{
    struct dm_post *p = kl_container_of(task, struct dm_post, begin);

    p->bus->serve(p->bus, &p->service);
}

static void end(struct kl_env_task *task)
{
    struct dm_post *p = kl_container_of(task, struct dm_post, end);

    p->bus->unserve(p->bus, &p->service);
}

struct dm_post *dm_post_new(struct dm_doorman *d, struct kl_bus *bus, const struct kl_app *app)
{
    struct kl_env  *env = app->env;
    struct kl_metrics *metrics = app->metrics;
    struct dm_post *p = kl_new(sizeof *p);

    p->doorman = d;
    p->bus = bus;
    p->env = env;
    p->tracer = app->tracer;
    p->guard = app->guard;
    p->messages = metrics == NULL ? &p->unseen
        : kl_metrics_add(metrics, KL_COUNTER, "koalemos_doorman_messages_total", "",
                         "Pushes that came as messages over NATS.");
    p->begin.run = begin;
    p->end.run = end;
    p->service = (struct kl_bus_service){ .subject = "ingest.>", .plain = true, .question = question,
                                          .ctx = p, .refusal = "503 the doorman has too much before it, "
                                                               "or is stopping" };
    p->loop = env->sched->loop_new(env->sched, "post", 64);
    p->service.loop = p->loop;
    env->sched->post(p->loop, &p->begin);
    return p;
}

void dm_post_free(struct dm_post *p)
{
    if (p == NULL)
        return;
    p->env->sched->post(p->loop, &p->end);
    p->env->sched->loop_free(p->loop);
    free(p);
}
