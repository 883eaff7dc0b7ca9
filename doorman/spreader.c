#include "doorman/spreader.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "libtsproto/census.h"
#include "libtsproto/layout.h"

enum { ARENA_BYTES = 1 << 20 };

struct dm_spreader {
    struct kl_env *env;
    struct kl_bus *bus;
    struct kl_env_loop *loop;
    struct dm_spreader_options o;
    struct tsp_layout    *layout;
    struct tsp_placement *table;                       /* out of it; NULL: not known yet */
    bool      current;                                 /* every key of it was seen */
    struct kl_bus_watch placement_watch, census_watch;
    struct kl_env_task  begin, end;

    struct tsp_census census;                          /* the last one, its texts in `arena` */
    struct kl_arena   arena;
    struct tsp_spread more[TSP_CENSUS_METRICS_MAX];    /* what is being recorded */
    size_t            more_count;
    struct kl_bus_kv  kv;
    struct kl_buf     value;
    bool              out;
    struct kl_metric *recorded;
};

static unsigned log2_of(uint32_t power_of_two) { return 31 - (unsigned)__builtin_clz(power_of_two); }

/* Whether the metric wants a larger spread than it has; then *spread is it. */
static bool outgrows(const struct dm_spreader *s, const struct tsp_census_metric *m, uint8_t *spread)
{
    unsigned most = log2_of(tsp_placement_partitions(s->table)), more = 0;
    int64_t  from_ms;
    uint8_t  now = tsp_placement_spread_of(s->table, m->tenant, m->metric, &from_ms);

    /* What was counted must have come after the last spread began: the rest has moved on. */
    if (m->series <= s->o.series_max || now >= most || (now > 0 && s->census.since_ms < from_ms))
        return false;
    while (more < most && m->series >> more > s->o.series_max)
        more++;
    *spread = (uint8_t)(now + more < most ? now + more : most);
    return true;
}

static void record_next(struct dm_spreader *s);

static void say(struct dm_spreader *s)
{
    for (size_t i = 0; i < s->more_count; i++) {
        size_t shown = s->more[i].metric.size < 120 ? s->more[i].metric.size : 120;
        kl_logf(s->o.log, KL_INFO, "placement: tenant %.*s: %.*s is spread over %u partitions from %" PRId64
                " ms on", (int)s->more[i].tenant.size, (const char *)s->more[i].tenant.at, (int)shown,
                (const char *)s->more[i].metric.at, 1u << s->more[i].spread, s->more[i].valid_from_ms);
    }
    kl_count(s->recorded, s->more_count);
}

static void take_key(struct dm_spreader *s, const char *key, struct kl_span value, uint64_t revision)
{
    struct tsp_placement *p;
    struct kl_err         err;

    if (!tsp_layout_see(s->layout, key, value, revision, &err)) {
        if (err.code != KL_OK)
            kl_logf(s->o.log, KL_ERROR, "spreader: %s: %s", key, err.text);
        return;
    }
    p = tsp_layout_table(s->layout);
    if (p == NULL)
        return;
    tsp_placement_free(s->table);
    s->table = p;
}

static void recorded(struct kl_bus_kv *kv)
{
    struct dm_spreader *s = kl_container_of(kv, struct dm_spreader, kv);

    s->out = false;
    if (kv->code == KL_OK) {
        say(s);
        take_key(s, kv->key, kv->value, kv->revision);
        record_next(s);                                /* other keys' metrics of the same census */
    } else if (kv->code != KL_EEXIST && kv->code != KL_ECANCELED) {
        kl_logf(s->o.log, KL_WARN, "a spread could not be recorded, the next census tries again: %s",
                kv->err.text);
    }
}

/* Records what the last census asks for, one key's metrics at a time. */
static void record_next(struct dm_spreader *s)
{
    int64_t       from_ms = kl_env_now_ms(s->env) + s->o.delay_ms;
    uint32_t      number = UINT32_MAX;
    uint64_t      expect;
    size_t        added;
    uint8_t       spread;
    struct kl_err err;

    if (s->out || s->table == NULL || !s->current ||
        (s->o.clock_off_ms != NULL && atomic_load(s->o.clock_off_ms) != 0))
        return;
    s->more_count = 0;
    for (uint32_t i = 0; i < s->census.count; i++) {
        const struct tsp_census_metric *m = &s->census.metrics[i];
        uint32_t                        of = tsp_spread_number(m->tenant, m->metric);
        if ((number != UINT32_MAX && of != number) || !outgrows(s, m, &spread))
            continue;
        number = of;
        s->more[s->more_count++] = (struct tsp_spread){ m->tenant, m->metric, spread, from_ms };
    }
    if (s->more_count == 0)
        return;
    kl_buf_reset(&s->value);
    if (tsp_layout_add(s->layout, number, s->more, s->more_count, &s->value, &added, &expect, &err) !=
        KL_OK) {
        kl_logf(s->o.log, KL_ERROR, "a metric outgrows its partitions and cannot be spread: %s", err.text);
        return;
    }
    if (added == 0)
        return;
    s->kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_PUT, .value = kl_buf_span(&s->value), .expect = expect,
                                .loop = s->loop, .done = recorded };
    tsp_spread_key(number, s->kv.key, sizeof s->kv.key);
    s->out = true;
    s->bus->kv(s->bus, &s->kv);
}

static void placement_change(struct kl_bus_watch *w, const char *key, struct kl_span value,
                             uint64_t revision)
{
    take_key(w->ctx, key, value, revision);
}

static void placement_current(struct kl_bus_watch *w) { ((struct dm_spreader *)w->ctx)->current = true; }

/* While one is being recorded its texts must stay; the owner tells again soon. */
static void census_change(struct kl_bus_watch *w, const char *key, struct kl_span value,
                          uint64_t revision)
{
    struct dm_spreader *s = w->ctx;
    struct kl_err       err;

    (void)revision;
    if (value.at == NULL || s->out)
        return;
    kl_arena_deinit(&s->arena);
    if (tsp_census_decode(value, &s->arena, &s->census, &err) != KL_OK) {
        s->census.count = 0;
        kl_logf(s->o.log, KL_ERROR, "spreader: %s: %s", key, err.text);
        return;
    }
    record_next(s);
}

static void census_current(struct kl_bus_watch *w) { (void)w; }

static void begin(struct kl_env_task *task)
{
    struct dm_spreader *s = kl_container_of(task, struct dm_spreader, begin);

    s->placement_watch = (struct kl_bus_watch){ .prefix = TSP_PLACEMENT_KEY, .loop = s->loop, .ctx = s,
                                                .change = placement_change,
                                                .current = placement_current };
    s->census_watch = (struct kl_bus_watch){ .prefix = TSP_CENSUS_PREFIX, .loop = s->loop, .ctx = s,
                                             .change = census_change, .current = census_current };
    s->bus->watch(s->bus, &s->placement_watch);
    s->bus->watch(s->bus, &s->census_watch);
}

static void end(struct kl_env_task *task)
{
    struct dm_spreader *s = kl_container_of(task, struct dm_spreader, end);

    s->bus->unwatch(s->bus, &s->placement_watch);
    s->bus->unwatch(s->bus, &s->census_watch);
}

struct dm_spreader *dm_spreader_new(struct kl_env *env, struct kl_bus *bus,
                                    const struct dm_spreader_options *options)
{
    static struct kl_metric unseen;                    /* where no registry was given: never read */
    struct dm_spreader     *s = kl_new(sizeof *s);

    s->env = env;
    s->bus = bus;
    s->o = *options;
    s->layout = tsp_layout_new();
    kl_arena_init(&s->arena, ARENA_BYTES);
    kl_buf_init(&s->value, KL_BUS_VALUE_MAX);
    s->recorded = s->o.metrics == NULL ? &unseen
        : kl_metrics_add(s->o.metrics, KL_COUNTER, "koalemos_doorman_spreads_total", "",
                         "Larger spreads of metrics that this doorman recorded.");
    s->begin.run = begin;
    s->end.run = end;
    s->loop = env->sched->loop_new(env->sched, "spreader", 16);
    env->sched->post(s->loop, &s->begin);
    return s;
}

void dm_spreader_free(struct dm_spreader *s)
{
    if (s == NULL)
        return;
    s->env->sched->post(s->loop, &s->end);
    s->env->sched->loop_free(s->loop);
    tsp_placement_free(s->table);
    tsp_layout_free(s->layout);
    kl_arena_deinit(&s->arena);
    kl_buf_deinit(&s->value);
    free(s);
}
