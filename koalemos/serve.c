#include "koalemos/serve.h"

#include "koalemos/serve_catalogue.h"

#include "doorman/bootstrap.h"
#include "doorman/doorman.h"
#include "doorman/grpc.h"
#include "doorman/options.h"
#include "ingestor/ingestor.h"
#include "ingestor/options.h"
#include "libkoal/app/app.h"
#include "libkoal/bus/bus.h"
#include "libkoal/bus/options.h"
#include "libkoal/crypt/vault.h"
#include "libkoal/store/options.h"
#include "overrides/overrides.h"
#include "querier/options.h"
#include "querier/querier.h"

#include <stdio.h>

/* Everything of one process. Members are made from top to bottom and freed from bottom to top. */
struct serve {
    struct kl_app       *app;
    struct kl_env_dir   *data, *objects;
    struct kl_env_dir   *local;                        /* filesets that stay here as well; or NULL */
    struct kl_store     *store, *flights, *cache;      /* these before it, for queries; or NULL */
    struct kl_bus       *bus;
    struct ov           *ov;
    struct dm_bootstrap *bootstrap;
    struct dm_spreader  *spreader;
    struct ing_ingestor *ingestor;
    struct dm_doorman   *doorman;
    struct qr_querier   *querier;
    struct ing_http     *ingestor_http;
    struct dm_http      *doorman_http;
    struct dm_grpc      *doorman_grpc;
    struct qr_http      *querier_http;
    struct serve_catalogue *catalogue;
    struct ov_http      *ov_http;
};

static bool ready(void *ctx, struct kl_err *err)
{
    struct serve *s = ctx;

    return s->bus->healthy(s->bus, err) && ov_known(s->ov, err) && ing_ready(s->ingestor, err) &&
           dm_ready(s->doorman, err) && qr_ready(s->querier, err);
}

static enum kl_code open_folders(struct serve *s, struct kl_err *err)
{
    const char *path = kl_config_text(s->app->config, "data-dir");
    struct kl_store_place place = { .env = s->app->env, .config = s->app->config, .writes = true,
                                    .keys = s->app->keys, .store_key = s->app->store_key, .log = s->app->log, .metrics = s->app->metrics };
    char        cache[4096];

    if (path == NULL || path[0] == '\0')
        return kl_fail(err, KL_EINVAL, "say where the data shall lie: --data-dir DIR");
    if (kl_vault_open(path, true, s->app->keys, true, &s->data, err) != KL_OK)
        return kl_within(err, "data-dir %s", path);
    if (s->data->lock(s->data, err) != KL_OK)
        return kl_within(err, "data-dir %s", path);
    if (kl_store_local(s->app->store_key, s->data, "store", true, &s->objects, err) != KL_OK ||
        s->data->sync_names(s->data, err) != KL_OK)
        return kl_within(err, "data-dir %s", path);
    place.local = s->objects;
    if (kl_config_int(s->app->config, "ingestor.local_retention") > 0 &&
        s->data->enter(s->data, "filesets", true, &s->local, err) != KL_OK)
        return kl_within(err, "data-dir %s", path);
    snprintf(cache, sizeof cache, "%s/cache", path);
    return kl_store_open(&place, &s->store, err) == KL_OK
         ? kl_store_open_cache(&place, s->store, cache, &s->flights, &s->cache, err) : err->code;
}

static enum kl_code open_bus(struct serve *s, struct kl_err *err)
{
    struct kl_bus_local_options o;

    kl_bus_local_options_read(s->app->config, &o);
    o.log = s->app->log;
    o.metrics = s->app->metrics;
    if (kl_bus_local_open(s->app->env, s->data, &o, &s->bus, err) != KL_OK)
        return kl_within(err, "open the log in %s", kl_config_text(s->app->config, "data-dir"));
    return KL_OK;
}

static void start_services(struct serve *s, struct tsp_placement *placement_take)
{
    const struct kl_app *a = s->app;
    struct ing_options io;
    struct dm_options  dmo;
    struct dm_spreader_options so;
    struct qr_options  qo;

    ing_options_read(a->config, &io);
    io.log_keep_ms = 0;                                /* one process: nobody else reads the log */
    io.stored_ms = 0;                                  /* nor loses it without the snapshots */
    io.log = a->log;
    io.metrics = a->metrics;
    io.tracer = a->tracer;
    io.live = a->live;
    dm_options_read(a->config, &dmo);
    dmo.heartbeat_ms = 0;                              /* it is the only one */
    dmo.linger_ms = 0;                                 /* the group commit gathers */
    dmo.log = a->log;
    dmo.metrics = a->metrics;
    dmo.tracer = a->tracer;
    dmo.live = a->live;
    qr_options_read(a->config, &qo);
    qo.strong = true;                                  /* what was acked is in every later answer */
    qo.log = a->log;
    qo.metrics = a->metrics;
    qo.tracer = a->tracer;
    qo.live = a->live;
    qo.hostname = a->hostname;
    qo.folder = a->folder;
    qo.reloaded = kl_app_reloaded;
    qo.reloaded_ctx = s->app;
    qo.local = s->local;

    dm_spreader_options_read(a->config, &so);
    so.log = a->log;
    so.metrics = a->metrics;
    s->ov = ov_new(a->env, s->bus, &(struct ov_options){ .live = a->live, .table = kl_app_options,
                                                         .check = kl_app_check_tenant, .log = a->log, .metrics = a->metrics });
    s->bootstrap = dm_bootstrap_new(a->env, s->bus, placement_take, a->log);
    s->spreader = dm_spreader_new(a->env, s->bus, &so);
    s->ingestor = ing_new(a->env, s->bus, s->data, s->store, &io);
    s->doorman = dm_new(a->env, s->bus, &dmo);
    s->querier = qr_new(a->env, s->bus, s->cache != NULL ? s->cache : s->flights != NULL ? s->flights : s->store, &qo);
    s->ingestor_http = ing_http_new(s->ingestor, a->http, a->env);
    s->doorman_http = dm_http_new(s->doorman, a->http, &dmo, a->env);
    s->querier_http = qr_http_new(s->querier, a->http, a->env);
    s->ov_http = ov_http_new(s->ov, a->http);
    s->catalogue = serve_catalogue_new(a->env, s->bus, (uint32_t)kl_config_int(a->config, "partitions"), a->http);
    s->app->ready = ready;
    s->app->ctx = s;
}

/* After HTTP has stopped: the bus lets go of every call, then the services end, then the rest. */
static void stop(struct serve *s)
{
    if (s->bus != NULL)
        s->bus->close(s->bus);
    kl_store_cancel(s->store);
    if (s->querier != NULL) {
        dm_http_free(s->doorman_http);
        qr_free(s->querier);
        dm_free(s->doorman);
        ing_free(s->ingestor);
        dm_spreader_free(s->spreader);
        dm_bootstrap_free(s->bootstrap);
        ov_free(s->ov);
        ov_http_free(s->ov_http);
        qr_http_free(s->querier_http);
        ing_http_free(s->ingestor_http);
        serve_catalogue_free(s->catalogue);
    }
    if (s->bus != NULL)
        s->bus->free(s->bus);
    if (s->cache != NULL)
        s->cache->close(s->cache);
    if (s->flights != NULL)
        s->flights->close(s->flights);
    if (s->store != NULL)
        s->store->close(s->store);
    if (s->local != NULL)
        s->local->leave(s->local);
    if (s->objects != NULL)
        s->objects->leave(s->objects);
    if (s->data != NULL)
        s->data->leave(s->data);
}

int koalemos_serve(int argc, char **argv, int first)
{
    struct serve          s = { 0 };
    struct tsp_placement *placement = NULL;
    struct kl_err         err;
    int                   status;

    s.app = kl_app_open("koalemos serve", argc, argv, first, "127.0.0.1:4480", &status);
    if (s.app == NULL)
        return status;
    if (dm_placement_parse(kl_config_text(s.app->config, "placement.static"),
                           (uint32_t)kl_config_int(s.app->config, "partitions"), &placement,
                           &err) != KL_OK ||
        open_folders(&s, &err) != KL_OK || open_bus(&s, &err) != KL_OK) {
        status = kl_app_failed(s.app, &err);
        tsp_placement_free(placement);
    } else {
        start_services(&s, placement);
        s.app->audit_in = kl_config_text(s.app->config, "data-dir");
        status = kl_app_secure(s.app, &err) == KL_OK &&
                 dm_grpc_open(s.doorman, s.app, &s.doorman_grpc, &err) == KL_OK
                 ? kl_app_run(s.app) : kl_app_failed(s.app, &err);
        dm_grpc_close(s.doorman_grpc, kl_app_drain_ms(s.app));
    }
    stop(&s);
    kl_app_close(s.app);
    return status;
}
