#include "doorman/grpc.h"

#include <stdlib.h>
#include <string.h>

#include "doorman/otlp_in.h"
#include "doorman/tenants.h"
#include "doorman/told.h"
#include "libkoal/http/grpc.h"
#include "libtsproto/inflate.h"
#include "libtsproto/otlp_answer.h"

enum { UNPACK_QUEUE_MAX = 256 };
#define MESSAGES_BYTES_MAX ((size_t)64 << 20)          /* on their way in, all connections together */

/* Packed messages are unpacked on a loop of their own, one after the other: gRPC's one thread serves all
 * connections, and what they hold unpacked is not in memory all at once. */
struct dm_grpc {
    struct dm_doorman     *doorman;
    struct kl_env         *env;
    struct kl_grpc_server *server;
    struct kl_env_loop    *unpacker;
    struct kl_tracer      *tracer;
};
struct call {
    struct dm_push push;
    struct dm_entry entry;
    struct dm_grpc *owner;
    struct kl_grpc_call *grpc;
    struct kl_env_task task;
    char  *bytes;                                      /* the message as sent */
    size_t size;
};

static void refuse(struct kl_grpc_call *grpc, int status, const char *words, unsigned retry_after_s)
{
    struct kl_buf details;

    kl_buf_init(&details, 0);
    if (retry_after_s > 0)                             /* else it says nothing that the status does not */
        tsp_otlp_status(&details, false, status, kl_span_str(words), retry_after_s);
    kl_grpc_answer(grpc, status, words, kl_span("", 0), kl_buf_span(&details));
    kl_buf_deinit(&details);
}

static void done(struct dm_push *p)
{
    struct call  *c = kl_container_of(p, struct call, push);
    struct kl_buf message;

    if (p->status == 204 || p->status == 400) {
        kl_buf_init(&message, 0);
        tsp_otlp_response(&message, false, p->points_refused, kl_span_str(p->text));
        kl_grpc_answer(c->grpc, KL_GRPC_OK, "", kl_buf_span(&message), kl_span("", 0));
        kl_buf_deinit(&message);
    } else {
        refuse(c->grpc, dm_otlp_code(p->status), p->text, p->retry_after_s);
    }
    dm_told_leave(&c->entry, p, "Export", p->status);
    free(c);
}

static void give_up(struct call *c, int status, const char *words, unsigned retry_after_s)
{
    refuse(c->grpc, status, words, retry_after_s);
    dm_told_leave(&c->entry, &c->push, "Export", status == KL_GRPC_UNAVAILABLE ? 503 : 400);
    free(c->push.body);
    free(c->bytes);
    free(c);
}

/* Unpacks the message, finds its gate, and hands it on; or answers what is wrong with it. */
static void unpack(struct call *c)
{
    struct dm_doorman      *d = c->owner->doorman;
    struct dm_limits        l = dm_limits_of(d, kl_span_str(c->push.tenant));
    struct kl_err           err = { .code = KL_OK };
    unsigned                gate;
    const char             *coding;

    /* Until here, as long as it waited, it was in the server's account. */
    kl_grpc_message_take(c->grpc, &c->bytes, &c->size, &coding);
    if (l.body_bytes_max > 0 && c->size > l.body_bytes_max) {
        kl_fail(&err, KL_ELIMIT, "the message is larger than limits.body_bytes_max");
    } else if (strcmp(coding, "gzip") == 0) {
        (void)tsp_inflate(TSP_GZIP, kl_span(c->bytes, c->size), l.inflated_bytes_max, &c->push.body,
                          &c->push.body_size, &err);
        free(c->bytes);
        c->bytes = NULL;
    } else {
        c->push.body = c->bytes;
        c->push.body_size = c->size;
        c->bytes = NULL;
    }
    if (err.code == KL_OK)
        (void)dm_otlp_body(&c->push, false, l.inflated_bytes_max, kl_grpc_connection(c->grpc), &gate, &err);
    if (err.code == KL_OK)
        dm_push(d, gate, &c->push);
    else
        give_up(c, err.code == KL_ELIMIT ? KL_GRPC_EXHAUSTED : KL_GRPC_INVALID, err.text, 0);
}

static void run_unpack(struct kl_env_task *task) { unpack(kl_container_of(task, struct call, task)); }

static void export_metrics(void *ctx, struct kl_grpc_call *grpc)
{
    struct dm_grpc *g = ctx;
    struct call    *c = kl_new(sizeof *c);

    c->owner = g;
    c->grpc = grpc;
    c->push.format = DM_OTLP;
    c->push.now_ms = kl_env_now_ms(g->env);
    c->push.done = done;
    c->task.run = run_unpack;
    c->entry = (struct dm_entry){ .tracer = g->tracer, .env = g->env };
    dm_told_enter(&c->entry, &c->push, kl_grpc_metadata(grpc, "x-request-id"),
                  kl_grpc_metadata(grpc, "traceparent"));
    if (!dm_tenant_fit(kl_grpc_metadata(grpc, "x-scope-orgid"), c->push.tenant, sizeof c->push.tenant)) {
        give_up(c, KL_GRPC_INVALID, "x-scope-orgid: " DM_TENANT_WORDS, 0);
        return;
    }
    if (!kl_grpc_is_packed(grpc))
        unpack(c);
    else if (!g->env->sched->offer(g->unpacker, &c->task))
        give_up(c, KL_GRPC_UNAVAILABLE, "too many messages wait to be unpacked already", 1);
}

enum kl_code dm_grpc_open(struct dm_doorman *d, const struct kl_app *app, struct dm_grpc **grpc,
                          struct kl_err *err)
{
    const struct kl_config *config = app->config;
    struct kl_env  *env = app->env;
    const char     *listen = kl_config_text(config, "otlp.grpc_listen");
    uint64_t        body_max = atomic_load(dm_body_max(d));   /* a larger one, later, takes a restart */
    struct dm_grpc *g;

    *grpc = NULL;
    if (listen == NULL || listen[0] == '\0')
        return KL_OK;
    g = kl_new(sizeof *g);
    g->doorman = d;
    g->env = env;
    g->tracer = app->tracer;
    g->unpacker = env->sched->loop_new(env->sched, "unpack-grpc", UNPACK_QUEUE_MAX);
    g->server = kl_grpc_server_new(&(struct kl_grpc_options){
        .listen = listen, .connections_max = (unsigned)kl_config_int(config, "otlp.grpc_connections_max"),
        .buffered_bytes_max = MESSAGES_BYTES_MAX > 2 * body_max ? MESSAGES_BYTES_MAX : 2 * body_max,
        .guard = app->guard, .tls = app->tls, .log = app->log, .metrics = app->metrics });
    kl_grpc_route_add(g->server, &(struct kl_grpc_route){
        .path = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        .message_max_bytes = body_max, .handle = export_metrics, .ctx = g });
    if (kl_grpc_server_start(g->server, err) != KL_OK) {
        kl_grpc_server_free(g->server);
        env->sched->loop_free(g->unpacker);
        free(g);
        return err->code;
    }
    kl_logf(app->log, KL_INFO, "listening for OTLP over gRPC on %s (port %u)", listen,
            kl_grpc_server_port(g->server));
    *grpc = g;
    return KL_OK;
}

unsigned dm_grpc_port(const struct dm_grpc *g) { return kl_grpc_server_port(g->server); }

void dm_grpc_close(struct dm_grpc *g, int64_t drain_ms)
{
    if (g == NULL)
        return;
    kl_grpc_server_stop(g->server, drain_ms);
    g->env->sched->loop_free(g->unpacker);             /* what waits there is answered, into the void */
    kl_grpc_server_free(g->server);
    free(g);
}
