/* The whole: loops, the placement table, readiness, flushes on request, the end. */
#include "ingestor/ing_priv.h"
#include "ingestor/options.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOOP_QUEUE_MAX = 65536 };

/* ---- placement ---- */

static void placed(struct ing_ingestor *i, const struct tsp_placement *t)
{
    if (tsp_placement_partitions(t) > i->o.partitions) {
        kl_logf(i->o.log, KL_ERROR, "ingestor: the placement table has %" PRIu32 " partitions, the "
                "configuration has room for %" PRIu32 ": the table is not followed",
                tsp_placement_partitions(t), i->o.partitions);
        return;
    }
    for (uint32_t n = 0; n < i->o.partitions; n++) {
        struct ing_partition *p = &i->partitions[n];
        const char           *names[TSP_REPLICAS_MAX];
        unsigned              members = n < tsp_placement_partitions(t)
                                      ? tsp_placement_members(t, n, names, TSP_REPLICAS_MAX) : 0;
        bool                  wanted = false;

        for (unsigned k = 0; k < members; k++)
            wanted |= strcmp(names[k], i->name) == 0;
        atomic_store(&p->wanted, wanted);
    }
    atomic_store(&i->placement_revision, tsp_placement_revision(t));
    atomic_store(&i->placed, true);
}

static void change(struct kl_bus_watch *w, const char *key, struct kl_span value, uint64_t revision)
{
    struct ing_ingestor  *i = w->ctx;
    struct tsp_placement *t;
    struct kl_err         err;

    if (!tsp_layout_see(i->layout, key, value, revision, &err)) {
        if (err.code != KL_OK)
            kl_logf(i->o.log, KL_ERROR, "ingestor: %s cannot be read, what was known is followed: %s",
                    key, err.text);
        return;
    }
    t = tsp_layout_table(i->layout);
    if (t == NULL)
        return;
    placed(i, t);
    tsp_placement_free(t);
    if (!i->shards[0].stopping)                        /* the other shards see it at their next tick */
        i->env->sched->arm(i->shards[0].loop, &i->shards[0].tick, 0);
}

static void current(struct kl_bus_watch *w) { (void)w; }

/* ---- a shard: one loop, and the partitions that are on it ---- */

static void say_ready(struct ing_ingestor *i)
{
    struct kl_err err;
    bool          ready = ing_ready(i, &err);

    if (ready && !i->said_ready)
        kl_logf(i->o.log, KL_INFO, "ingestor: its partitions are live, the log is applied");
    i->said_ready = ready;
}

static void tick(struct kl_env_timer *timer)
{
    struct ing_shard    *s = kl_container_of(timer, struct ing_shard, tick);
    struct ing_ingestor *i = s->i;

    if (s->stopping)
        return;
    for (uint32_t n = 0; n < i->o.partitions; n++)
        if (i->partitions[n].shard == s)
            ing_partition_tick(&i->partitions[n]);
    if (s == &i->shards[0]) {
        ing_metrics_show(i);
        ing_disk_tick(i);
        ing_repair_look(i);
        say_ready(i);
    }
    i->env->sched->arm(s->loop, &s->tick, ING_TICK_MS);
}

static void start(struct kl_env_task *task)
{
    struct ing_shard    *s = kl_container_of(task, struct ing_shard, start);
    struct ing_ingestor *i = s->i;

    s->tick.fire = tick;
    i->env->sched->arm(s->loop, &s->tick, 1);
    if (s != &i->shards[0])
        return;
    i->watch = (struct kl_bus_watch){ .loop = s->loop, .change = change, .current = current,
                                      .ctx = i };
    snprintf(i->watch.prefix, sizeof i->watch.prefix, "%s", TSP_PLACEMENT_KEY);
    i->watching = true;
    i->bus->watch(i->bus, &i->watch);
    ing_cluster_watch(i);
}

/* Keeps the loop alive until nothing is under way that would come back to it. */
static void linger(struct kl_env_task *task)
{
    struct ing_shard *s = kl_container_of(task, struct ing_shard, linger);

    if (atomic_load(&s->i->out) > 0)
        s->i->env->sched->post(s->loop, &s->linger);
}

static void stop(struct kl_env_task *task)
{
    struct ing_shard    *s = kl_container_of(task, struct ing_shard, stop);
    struct ing_ingestor *i = s->i;

    s->stopping = true;
    i->env->sched->disarm(s->loop, &s->tick);
    if (s == &i->shards[0] && i->watching) {
        i->bus->unwatch(i->bus, &i->watch);
        ing_cluster_unwatch(i);
    }
    for (uint32_t n = 0; n < i->o.partitions; n++)
        if (i->partitions[n].shard == s)
            ing_partition_stop(&i->partitions[n]);
    i->env->sched->post(s->loop, &s->linger);
}

/* ---- for all ---- */

/* What is per tenant is asked for where it is used. */
static void on_change(struct kl_env_listener *l)
{
    struct ing_ingestor *i = kl_container_of(l, struct ing_ingestor, listener);
    struct kl_config    *c = kl_env_live_get(i->o.live);
    struct ing_options   now;

    ing_options_read(c, &now);
    i->o.memory_max_bytes = now.memory_max_bytes;
    i->o.compact_files = now.compact_files;
    i->o.compact_bytes_max = now.compact_bytes_max;
    i->o.orphans_ms = now.orphans_ms;
    i->o.deletion_ms = now.deletion_ms;
    i->o.snapshot_ms = now.snapshot_ms;
    i->o.snapshot_samples = now.snapshot_samples;
    i->o.pushdown_max = now.pushdown_max;
    i->o.pushdown_memory_max_bytes = now.pushdown_memory_max_bytes;
    i->o.disk_high_percent = now.disk_high_percent;
    i->o.disk_low_percent = now.disk_low_percent;
    kl_config_free(c);
}

struct ing_ingestor *ing_new(struct kl_env *env, struct kl_bus *bus, struct kl_env_dir *dir,
                             struct kl_store *store, const struct ing_options *options)
{
    struct ing_ingestor *i = kl_new(sizeof *i);

    assert(options->partitions > 0 && options->partitions <= KL_BUS_PARTITIONS_MAX);
    assert(options->window_ms > 0 && options->cut_delay_ms >= 0);
    i->env = env;
    i->bus = bus;
    i->dir = dir;
    i->store = store;
    i->o = *options;
    i->layout = tsp_layout_new();
    i->log_ahead_ms = INT64_MIN;
    snprintf(i->name, sizeof i->name, "%s", options->name);
    if (i->o.metrics == NULL)
        i->o.metrics = i->own_metrics = kl_metrics_new();
    ing_metrics_init(i);
    env->random->fill(env->random, i->who.bytes, sizeof i->who.bytes);
    i->shard_count = options->loops == 0 ? 1 : options->loops;
    if (i->shard_count > options->partitions)
        i->shard_count = options->partitions;
    i->shards = kl_new(i->shard_count * sizeof *i->shards);
    i->partitions = kl_new(options->partitions * sizeof *i->partitions);
    for (unsigned n = 0; n < i->shard_count; n++) {
        struct ing_shard *s = &i->shards[n];
        char              name[24];

        snprintf(name, sizeof name, "ingestor-%u", n);
        s->i = i;
        s->loop = env->sched->loop_new(env->sched, name, LOOP_QUEUE_MAX);
        env->sched->lend(s->loop);
        s->start.run = start;
        s->stop.run = stop;
        s->linger.run = linger;
    }
    for (uint32_t n = 0; n < options->partitions; n++)
        ing_partition_init(&i->partitions[n], i, n, &i->shards[n % i->shard_count]);
    for (unsigned n = 0; n < i->shard_count; n++)
        env->sched->post(i->shards[n].loop, &i->shards[n].start);
    if (i->o.live != NULL) {
        i->listener = (struct kl_env_listener){ .loop = i->shards[0].loop, .sched = env->sched,
                                                .changed = on_change };
        kl_env_live_listen(i->o.live, &i->listener);
    }
    return i;
}

void ing_free(struct ing_ingestor *i)
{
    if (i == NULL)
        return;
    atomic_store(&i->stopping, true);
    if (i->o.live != NULL)
        kl_env_live_unlisten(i->o.live, &i->listener);
    ing_member_end(i->member);                         /* it looks at partitions, and they ask it to the end */
    for (unsigned n = 0; n < i->shard_count; n++)
        i->env->sched->post(i->shards[n].loop, &i->shards[n].stop);
    for (unsigned n = 0; n < i->shard_count; n++)
        i->env->sched->loop_free(i->shards[n].loop);
    for (uint32_t n = 0; n < i->o.partitions; n++)
        ing_partition_deinit(&i->partitions[n]);
    ing_member_free(i->member);
    ing_digest_free(i);
    kl_metrics_free(i->own_metrics);
    tsp_layout_free(i->layout);
    free(i->partitions);
    free(i->shards);
    free(i);
}

bool ing_ready(struct ing_ingestor *i, struct kl_err *err)
{
    unsigned behind = 0, broken = 0;
    uint32_t first = 0;

    if (i->member != NULL && !ing_member_ready(i->member, err))
        return false;
    if (!atomic_load(&i->placed)) {
        kl_fail(err, KL_EAGAIN, "no placement table was seen yet");
        return false;
    }
    for (uint32_t n = i->o.partitions; n-- > 0;) {
        struct ing_partition *p = &i->partitions[n];
        int                   state = atomic_load(&p->state);

        if (!atomic_load(&p->wanted) || state == ING_LIVE)
            continue;
        if (state == ING_BROKEN || broken == 0)
            first = n;
        broken += state == ING_BROKEN;
        behind++;
    }
    if (behind == 0)
        return true;
    if (broken > 0)
        kl_fail(err, KL_EAGAIN, "%u partitions are stopped by an alarm, the first is %" PRIu32
                ": the log says why", broken, first);
    else
        kl_fail(err, KL_EAGAIN, "%u partitions are still reading the catalogue or replaying the "
                "log, the first is %" PRIu32, behind, first);
    return false;
}

static void flush_done(struct kl_env_task *task)
{
    struct ing_flush *f = kl_container_of(task, struct ing_flush, task);

    f->done(f);
}

void ing_flush(struct ing_ingestor *i, struct ing_flush *f)
{
    f->code = KL_OK;
    f->fileset_count = 0;
    f->left = 1;                                       /* this call's own */
    f->task = (struct kl_env_task){ .run = flush_done };
    if (!atomic_load(&i->placed))
        f->code = kl_fail(&f->err, KL_EAGAIN, "no placement table was seen yet");
    for (uint32_t n = 0; n < i->o.partitions && f->code == KL_OK; n++) {
        struct ing_partition *p = &i->partitions[n];
        struct ing_wait      *w;

        if (!atomic_load(&p->wanted))
            continue;
        w = kl_new(sizeof *w);
        w->p = p;
        w->flush = f;
        w->task.run = ing_flush_begin;
        ing_out(i);
        __atomic_add_fetch(&f->left, 1, __ATOMIC_ACQ_REL);
        i->env->sched->post(p->shard->loop, &w->task);
    }
    if (__atomic_sub_fetch(&f->left, 1, __ATOMIC_ACQ_REL) == 0)
        i->env->sched->post(f->loop, &f->task);
}
