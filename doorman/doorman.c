#include "doorman/dm_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libtsproto/text.h"

enum { GATE_QUEUE_MAX = 4096, GATES_MAX = 64, HIST_ARENA = 8 << 20 };

static void metrics_add(struct dm_doorman *d)
{
    struct kl_metrics *m = d->options.metrics;
    struct dm_metrics *x = &d->metrics;

#define COUNTER(field, name, help) x->field = kl_metrics_add(m, KL_COUNTER, "koalemos_doorman_" name, "", help)
    COUNTER(samples, "samples_total", "Samples acknowledged, histograms included.");
    COUNTER(pushes, "pushes_total", "Pushes walked.");
    COUNTER(push_failed, "pushes_failed_total", "Pushes answered 503.");
    COUNTER(records, "records_total", "Records appended to the log.");
    COUNTER(record_bytes, "record_bytes_total", "Bytes of records appended to the log.");
    COUNTER(hits, "table_hits_total", "Series found in the remembered table.");
    COUNTER(misses, "table_misses_total", "Series whose labels had to be read.");
    COUNTER(evicted, "table_evicted_total", "Series forgotten because the remembered table was full.");
    COUNTER(definitions, "definitions_total", "Series definitions written to records.");
    COUNTER(retries, "append_retries_total", "Appends repeated under the same id.");
    COUNTER(alarms, "log_alarms_total", "Acks that cannot be: a foreign incarnation, a sequence that went back.");
#undef COUNTER
    for (int i = 1; i < DM_REASONS; i++) {
        char labels[80];
        snprintf(labels, sizeof labels, "reason=\"%s\"", dm_reason_name((enum dm_reason)i));
        x->refused[i] = kl_metrics_add(m, KL_COUNTER, "koalemos_doorman_refused_total", labels,
                                       "Series or samples refused, by reason.");
    }
}

/* A new table: what was placed by the old one is placed anew when it comes again. */
static void placement_changed(struct kl_bus_watch *w, const char *key, struct kl_span value,
                              uint64_t revision)
{
    struct dm_gate       *g = w->ctx;
    struct dm_doorman    *d = g->doorman;
    struct tsp_placement *p;
    struct kl_err         err;

    if (value.at == NULL || strcmp(key, TSP_PLACEMENT_KEY) != 0)
        return;                                        /* deleted: the last table goes on working */
    if (tsp_placement_decode(value, &p, &err) != KL_OK) {
        kl_logf(d->options.log, KL_ERROR, "the placement table at revision %" PRIu64
                " is unreadable, the last one goes on: %s", revision, err.text);
        return;
    }
    if (g->placement == NULL) {
        dm_routes_make(g, tsp_placement_partitions(p));
        if (atomic_fetch_add(&d->placed_gates, 1) + 1 == d->gate_count)
            atomic_store(&d->placed, true);
    } else if (tsp_placement_partitions(p) != g->route_count) {
        kl_logf(d->options.log, KL_ERROR, "the placement table changed from %" PRIu32 " to %" PRIu32
                " partitions: restart the doorman to follow", g->route_count,
                tsp_placement_partitions(p));
        tsp_placement_free(p);
        return;
    }
    tsp_placement_free(g->placement);
    g->placement = p;
    if (++g->placed_epoch == 0)
        g->placed_epoch = 1;
}

static void gate_init(struct dm_gate *g, struct dm_doorman *d, unsigned number)
{
    struct kl_env *env = d->env;
    char           name[32];

    snprintf(name, sizeof name, "gate-%u", number);
    *g = (struct dm_gate){ .doorman = d, .table = dm_table_new(DM_TABLE_MAX / d->gate_count),
                           .text = tsp_text_new() };
    env->random->fill(env->random, g->who.bytes, sizeof g->who.bytes);
    kl_buf_init(&g->scratch, KL_LABELS_BYTES_MAX + 1024);
    kl_arena_init(&g->arena, HIST_ARENA);
    g->loop = env->sched->loop_new(env->sched, name, GATE_QUEUE_MAX);
    g->watch = (struct kl_bus_watch){ .prefix = TSP_PLACEMENT_KEY, .loop = g->loop,
                                      .change = placement_changed, .ctx = g };
    d->bus->watch(d->bus, &g->watch);
}

static void gate_stop(struct kl_env_task *task)
{
    struct dm_gate *g = kl_container_of(task, struct dm_gate, stop);

    g->doorman->bus->unwatch(g->doorman->bus, &g->watch);
    dm_routes_stop(g);
}

struct dm_doorman *dm_new(struct kl_env *env, struct kl_bus *bus, const struct dm_options *options)
{
    struct dm_doorman *d = kl_new(sizeof *d);

    d->env = env;
    d->bus = bus;
    d->options = *options;
    d->gate_count = options->gates == 0 ? 1 : options->gates < GATES_MAX ? options->gates : GATES_MAX;
    metrics_add(d);
    d->gates = kl_new(d->gate_count * sizeof *d->gates);
    for (unsigned i = 0; i < d->gate_count; i++)
        gate_init(&d->gates[i], d, i);
    return d;
}

void dm_free(struct dm_doorman *d)
{
    if (d == NULL)
        return;
    for (unsigned i = 0; i < d->gate_count; i++) {
        d->gates[i].stop.run = gate_stop;
        d->env->sched->post(d->gates[i].loop, &d->gates[i].stop);
    }
    for (unsigned i = 0; i < d->gate_count; i++) {
        struct dm_gate *g = &d->gates[i];
        d->env->sched->loop_free(g->loop);             /* runs the stop, and what the bus completed */
        dm_routes_free(g);
        dm_table_free(g->table);
        tsp_placement_free(g->placement);
        tsp_text_free(g->text);
        kl_buf_deinit(&g->scratch);
        kl_arena_deinit(&g->arena);
    }
    free(d->gates);
    free(d);
}

void dm_push(struct dm_doorman *d, unsigned connection, struct dm_push *p)
{
    struct dm_gate *g = &d->gates[connection % d->gate_count];
    uint64_t        before = atomic_fetch_add(&d->inflight_bytes, p->body_size);

    p->gate = g;
    p->task.run = dm_gate_push;
    p->samples_stored = p->hists_stored = p->exemplars_stored = p->refused = 0;
    if (before + p->body_size <= d->options.inflight_bytes_max &&
        d->env->sched->offer(g->loop, &p->task))
        return;
    atomic_fetch_sub(&d->inflight_bytes, p->body_size);
    kl_count(d->metrics.push_failed, 1);
    free(p->body);
    p->body = NULL;
    p->status = 503;
    p->retry_after_s = 1;
    snprintf(p->text, sizeof p->text, "busy: %" PRIu64 " bytes are in flight; send it again\n", before);
    p->done(p);
}

bool dm_ready(struct dm_doorman *d, struct kl_err *err)
{
    if (atomic_load(&d->placed))
        return true;
    kl_fail(err, KL_EAGAIN, "the doorman does not know the placement table yet");
    return false;
}
