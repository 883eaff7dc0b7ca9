/*
 * querier: answers PromQL from live ingestors and stored filesets, in a cluster over NATS.
 */
#include "libkoal/app/app.h"
#include "libkoal/bus/options.h"
#include "libkoal/store/options.h"
#include "overrides/overrides.h"
#include "querier/options.h"
#include "querier/querier.h"

struct program {
    struct kl_store   *store, *flights, *cache;        /* cache, flights NULL: there is none */
    struct kl_bus     *bus;
    struct ov         *ov;
    struct qr_querier *querier;
};

static bool ready(void *ctx, struct kl_err *err)
{
    struct program *p = ctx;

    return p->bus->healthy(p->bus, err) && ov_known(p->ov, err) && qr_ready(p->querier, err);
}

static enum kl_code open_store(struct program *p, struct kl_app *a, struct kl_err *err)
{
    struct kl_store_place place = { .env = a->env, .config = a->config, .keys = a->keys, .store_key = a->store_key, .log = a->log,
                                    .metrics = a->metrics };

    return kl_store_open(&place, &p->store, err) == KL_OK
         ? kl_store_open_cache(&place, p->store, NULL, &p->flights, &p->cache, err) : err->code;
}

int main(int argc, char **argv)
{
    struct program             p = { 0 };
    struct kl_bus_nats_options bo;
    struct qr_options          o;
    struct qr_http            *http;
    struct kl_err              err;
    int                        status;
    struct kl_app *a = kl_app_open("querier", argc, argv, 1, "127.0.0.1:4482", &status);

    if (a == NULL)
        return status;
    kl_bus_nats_options_read(a->config, &bo);
    bo.service = "querier";
    bo.log = a->log;
    bo.metrics = a->metrics;
    qr_options_read(a->config, &o);
    o.pushes = true;                                   /* in serve there is no way to be saved */
    o.log = a->log;
    o.metrics = a->metrics;
    o.tracer = a->tracer;
    o.live = a->live;
    o.hostname = a->hostname;
    o.folder = a->folder;
    o.reloaded = kl_app_reloaded;
    o.reloaded_ctx = a;
    if (open_store(&p, a, &err) != KL_OK ||
        kl_bus_nats_open(a->env, &bo, &p.bus, &err) != KL_OK) {
        status = kl_app_failed(a, &err);
    } else {
        p.ov = ov_new(a->env, p.bus, &(struct ov_options){ .live = a->live, .table = kl_app_options, .log = a->log,
                                                           .metrics = a->metrics });
        p.querier = qr_new(a->env, p.bus, p.cache != NULL ? p.cache : p.flights != NULL ? p.flights : p.store, &o);
        http = qr_http_new(p.querier, a->http, a->env);
        a->ready = ready;
        a->ctx = &p;
        status = kl_app_run(a);
        p.bus->close(p.bus);
        kl_store_cancel(p.store);
        qr_free(p.querier);
        ov_free(p.ov);
        qr_http_free(http);
        p.bus->free(p.bus);
    }
    if (p.cache != NULL)
        p.cache->close(p.cache);
    if (p.flights != NULL)
        p.flights->close(p.flights);
    if (p.store != NULL)
        p.store->close(p.store);
    kl_app_close(a);
    return status;
}
