/*
 * ingestor: keeps its partitions' recent series in memory and flushes them, in a cluster over NATS.
 */
#include "ingestor/ingestor.h"
#include "ingestor/options.h"
#include "libkoal/app/app.h"
#include "libkoal/bus/options.h"
#include "libkoal/crypt/vault.h"
#include "libkoal/store/options.h"
#include "overrides/overrides.h"

enum { LEAVE_MS = 3000 };

struct program {
    struct kl_env_dir   *data;
    struct kl_store     *store;
    struct kl_bus       *bus;
    struct ov           *ov;
    struct ing_ingestor *ingestor;
};

static bool ready(void *ctx, struct kl_err *err)
{
    struct program *p = ctx;

    return p->bus->healthy(p->bus, err) && ov_known(p->ov, err) && ing_ready(p->ingestor, err);
}

static enum kl_code open_folders(struct program *p, struct kl_app *a, struct kl_err *err)
{
    const char *data = kl_config_text(a->config, "data-dir");

    if (data == NULL || data[0] == '\0')
        return kl_fail(err, KL_EINVAL, "say where the data shall lie: --data-dir DIR");
    if (kl_vault_open(data, true, a->keys, true, &p->data, err) != KL_OK ||
        p->data->lock(p->data, err) != KL_OK)
        return kl_within(err, "data-dir %s", data);
    return kl_store_open(&(struct kl_store_place){ .env = a->env, .config = a->config, .writes = true,
                                                   .keys = a->keys, .store_key = a->store_key, .log = a->log, .metrics = a->metrics },
                         &p->store, err);
}

/* Where the configuration assigns the partitions there are no leases to be had. */
static enum kl_code join(struct program *p, struct kl_app *a, struct kl_err *err)
{
    const char *listen = kl_config_text(a->config, "listen");
    struct ing_cluster_options o = {
        .zone = kl_config_text(a->config, "ingestor.zone"), .address = listen != NULL ? listen : "",
        .version = KL_APP_VERSION, .capacity = (uint32_t)kl_config_int(a->config, "ingestor.capacity"),
        .heartbeat_ms = kl_config_int(a->config, "cluster.heartbeat"),
        .silent_ms = kl_config_int(a->config, "cluster.silent"),
        .gone_ms = kl_config_int(a->config, "cluster.gone"),
    };

    if (kl_config_text(a->config, "placement.static")[0] != '\0')
        return KL_OK;
    return ing_join(p->ingestor, &o, err);
}

static void has_left(void *ctx) { kl_app_wait_tell(ctx); }

/* Its leases go back, if NATS takes that in time; if not, others wait until this one is silent. */
static void leave(struct program *p)
{
    struct kl_app_wait *wait = kl_app_wait_new();

    ing_leave(p->ingestor, has_left, wait);
    if (kl_app_wait_for(wait, LEAVE_MS))
        kl_app_wait_free(wait);                        /* else it may be told later: it stays */
}

static void stop(struct program *p)
{
    if (p->store != NULL)
        p->store->close(p->store);
    if (p->data != NULL)
        p->data->leave(p->data);
}

int main(int argc, char **argv)
{
    struct program             p = { 0 };
    struct kl_bus_nats_options bo;
    struct ing_options         o;
    struct ing_http           *http;
    struct kl_err              err;
    int                        status;
    struct kl_app *a = kl_app_open("ingestor", argc, argv, 1, "127.0.0.1:4481", &status);

    if (a == NULL)
        return status;
    kl_bus_nats_options_read(a->config, &bo);
    bo.service = "ingestor";
    bo.log = a->log;
    bo.metrics = a->metrics;
    bo.traces = a->tracer != NULL;
    ing_options_read(a->config, &o);
    o.log = a->log;
    o.metrics = a->metrics;
    o.tracer = a->tracer;
    o.live = a->live;
    if (open_folders(&p, a, &err) != KL_OK ||
        kl_bus_nats_open(a->env, &bo, &p.bus, &err) != KL_OK) {
        status = kl_app_failed(a, &err);
    } else {
        p.ov = ov_new(a->env, p.bus, &(struct ov_options){ .live = a->live, .table = kl_app_options, .log = a->log,
                                                           .metrics = a->metrics });
        p.ingestor = ing_new(a->env, p.bus, p.data, p.store, &o);
        http = ing_http_new(p.ingestor, a->http, a->env);
        a->ready = ready;
        a->ctx = &p;
        status = join(&p, a, &err) == KL_OK ? kl_app_run(a) : kl_app_failed(a, &err);
        leave(&p);
        p.bus->close(p.bus);
        kl_store_cancel(p.store);
        ing_free(p.ingestor);
        ov_free(p.ov);
        ing_http_free(http);
        p.bus->free(p.bus);
    }
    stop(&p);
    kl_app_close(a);
    return status;
}
