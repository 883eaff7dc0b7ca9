/*
 * doorman: takes pushes and routes them to the log, in a cluster over NATS.
 */
#include "doorman/bootstrap.h"
#include "doorman/coordinator.h"
#include "doorman/doorman.h"
#include "doorman/grpc.h"
#include "doorman/options.h"
#include "doorman/post.h"
#include "libkoal/app/app.h"
#include "libkoal/bus/options.h"
#include "overrides/overrides.h"

struct program {
    struct kl_bus     *bus;
    struct ov         *ov;
    struct dm_doorman *doorman;
    struct dm_coordinator      *coordinator;
    struct dm_coordinator_http *coordinator_http;
};

/* Where the configuration assigns no partitions, the coordinator gives them to the ingestors that register. */
static void coordinate(struct program *p, struct kl_app *a, const char *assigned)
{
    struct dm_coordinator_options o = {
        .name = kl_config_text(a->config, "doorman.name"), .manage = assigned[0] == '\0',
        .partitions = (uint32_t)kl_config_int(a->config, "partitions"),
        .replicas = (unsigned)kl_config_int(a->config, "cluster.replicas"),
        .joins_at_once = (unsigned)kl_config_int(a->config, "cluster.joins_at_once"),
        .heartbeat_ms = kl_config_int(a->config, "cluster.heartbeat"),
        .silent_ms = kl_config_int(a->config, "cluster.silent"),
        .gone_ms = kl_config_int(a->config, "cluster.gone"),
        .forget_ms = kl_config_int(a->config, "cluster.forget"),
        .split_delay_ms = kl_config_int(a->config, "placement.spread_delay"), .log = a->log, .metrics = a->metrics,
    };

    p->coordinator = dm_coordinator_new(a->env, p->bus, &o);
    p->coordinator_http = dm_coordinator_http_new(p->coordinator, a->http);
}

static bool ready(void *ctx, struct kl_err *err)
{
    struct program *p = ctx;

    return p->bus->healthy(p->bus, err) && ov_known(p->ov, err) && dm_ready(p->doorman, err);
}

int main(int argc, char **argv)
{
    struct program             p = { 0 };
    struct kl_bus_nats_options bo;
    struct dm_options          o;
    struct tsp_placement      *placement = NULL;
    struct dm_bootstrap       *bootstrap = NULL;
    struct dm_spreader        *spreader;
    struct dm_spreader_options so;
    struct dm_http            *http;
    struct dm_grpc            *grpc;
    struct dm_post            *post;
    struct ov_http            *ov_http;
    struct kl_err              err;
    enum kl_code               guarded;
    const char                *assigned;
    int                        status;
    struct kl_app *a = kl_app_open("doorman", argc, argv, 1, "127.0.0.1:4480", &status);

    if (a == NULL)
        return status;
    kl_bus_nats_options_read(a->config, &bo);
    bo.service = "doorman";
    bo.log = a->log;
    bo.metrics = a->metrics;
    dm_options_read(a->config, &o);
    o.log_replicas = bo.log_replicas;
    o.log = a->log;
    o.metrics = a->metrics;
    o.tracer = a->tracer;
    o.live = a->live;
    assigned = kl_config_text(a->config, "placement.static");
    if (assigned[0] != '\0' &&
        dm_placement_parse(assigned, bo.partitions, &placement, &err) != KL_OK) {
        status = kl_app_failed(a, &err);
    } else if (kl_bus_nats_open(a->env, &bo, &p.bus, &err) != KL_OK) {
        tsp_placement_free(placement);
        status = kl_app_failed(a, &err);
    } else {
        dm_spreader_options_read(a->config, &so);
        so.log = a->log;
        so.metrics = a->metrics;
        if (placement != NULL)
            bootstrap = dm_bootstrap_new(a->env, p.bus, placement, a->log);
        coordinate(&p, a, assigned);
        so.clock_off_ms = o.clock_off_ms = dm_coordinator_clock_off(p.coordinator);
        spreader = dm_spreader_new(a->env, p.bus, &so);
        p.ov = ov_new(a->env, p.bus, &(struct ov_options){ .live = a->live, .table = kl_app_options,
                                                           .check = kl_app_check_tenant, .log = a->log, .metrics = a->metrics });
        ov_http = ov_http_new(p.ov, a->http);
        p.doorman = dm_new(a->env, p.bus, &o);
        http = dm_http_new(p.doorman, a->http, &o, a->env);
        guarded = kl_app_secure(a, &err);
        post = guarded == KL_OK ? dm_post_new(p.doorman, p.bus, a) : NULL;
        a->ready = ready;
        a->ctx = &p;
        grpc = NULL;
        status = guarded == KL_OK && dm_grpc_open(p.doorman, a, &grpc, &err) == KL_OK
                 ? kl_app_run(a) : kl_app_failed(a, &err);
        dm_grpc_close(grpc, kl_app_drain_ms(a));
        p.bus->close(p.bus);
        dm_post_free(post);
        dm_http_free(http);
        dm_free(p.doorman);
        ov_free(p.ov);
        ov_http_free(ov_http);
        dm_spreader_free(spreader);
        dm_bootstrap_free(bootstrap);
        dm_coordinator_free(p.coordinator);
        dm_coordinator_http_free(p.coordinator_http);
        p.bus->free(p.bus);
    }
    kl_app_close(a);
    return status;
}
