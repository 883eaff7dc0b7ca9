#include "doorman/coordinator_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void complain(struct dm_coordinator *c, const struct kl_err *err, const char *what)
{
    char words[sizeof c->said];

    if (err->code == KL_ECANCELED)
        return;
    snprintf(words, sizeof words, "%s: %.200s", what, err->text);
    if (strcmp(words, c->said) == 0)
        return;
    memcpy(c->said, words, sizeof words);
    kl_logf(c->o.log, KL_WARN, "coordinator: %s", words);
}

/* ---- what the watches bring ---- */

static void node_change(struct kl_bus_watch *w, const char *key, struct kl_span value,
                        uint64_t revision)
{
    struct dm_coordinator *c = w->ctx;
    struct kl_err          err;

    if (tsp_roster_see(c->roster, key, value, revision, kl_env_mono_ns(c->env), &err) != KL_OK)
        complain(c, &err, key);
    dm_coordinator_clocks(c);
}

static void nodes_current(struct kl_bus_watch *w)
{
    struct dm_coordinator *c = w->ctx;

    c->nodes_current = true;
    dm_coordinator_clocks(c);
}

static void marks_current(struct kl_bus_watch *w)
{
    ((struct dm_coordinator *)w->ctx)->marks_current = true;
}

static void table_take(struct dm_coordinator *c, struct tsp_placement *table, uint64_t revision)
{
    uint32_t count = tsp_placement_partitions(table);

    if (count != c->held_count) {
        c->held = kl_resize(c->held, count * sizeof *c->held);
        for (uint32_t i = c->held_count; i < count; i++)
            c->held[i] = (struct dm_held){ 0 };
        c->held_count = count;
    }
    tsp_placement_free(c->table);
    c->table = table;
    c->table_revision = revision;
    kl_gauge_set(c->m.revision, (double)tsp_placement_revision(table));
    dm_coordinator_clocks(c);
}

static void table_change(struct kl_bus_watch *w, const char *key, struct kl_span value,
                         uint64_t revision)
{
    struct dm_coordinator *c = w->ctx;
    struct tsp_placement  *table;
    struct kl_err          err;

    tsp_layout_see(c->layout, key, value, revision, &err);
    if (strcmp(key, TSP_PLACEMENT_KEY) != 0 || revision <= c->table_revision)
        return;
    if (value.at == NULL) {                            /* somebody wiped it: it is made anew, higher */
        kl_logf(c->o.log, KL_WARN, "coordinator: the placement table was deleted from the KV");
        c->table_revision = 0;
        return;
    }
    if (tsp_placement_decode(value, &table, &err) == KL_OK)
        table_take(c, table, revision);
    else
        complain(c, &err, "the placement table in the KV is left as it is");
}

static void table_current(struct kl_bus_watch *w)
{
    ((struct dm_coordinator *)w->ctx)->table_current = true;
}

static void lease_seen(struct dm_coordinator *c, const struct tsp_lease *l, uint64_t revision)
{
    if (revision < c->lease_revision)
        return;
    if (!c->lease_there || l->beat != c->lease.beat || l->epoch != c->lease.epoch)
        c->lease_moved_ns = kl_env_mono_ns(c->env);
    c->lease = *l;
    c->lease_there = true;
    c->lease_revision = revision;
    if (c->mine && memcmp(&l->instance, &c->who, sizeof c->who) != 0) {
        c->mine = false;
        kl_logf(c->o.log, KL_WARN, "coordinator: %s has taken the lease (epoch %" PRIu64 ")", l->owner,
                l->epoch);
    }
}

static void lease_change(struct kl_bus_watch *w, const char *key, struct kl_span value,
                         uint64_t revision)
{
    struct dm_coordinator *c = w->ctx;
    struct tsp_lease       l = { 0 };
    struct kl_err          err;
    char                   expect[64];
    unsigned long          partition;

    if (value.at != NULL && tsp_lease_decode(value, &l, &err) != KL_OK) {
        complain(c, &err, key);
        return;
    }
    if (strcmp(key, TSP_LEASE_COORDINATOR) == 0) {
        if (value.at != NULL)
            lease_seen(c, &l, revision);
        else if (revision >= c->lease_revision) {
            c->lease_there = c->mine = false;
            c->lease_revision = 0;
        }
        return;
    }
    partition = strtoul(key + strlen(TSP_LEASE_PREFIX), NULL, 10);
    if (partition >= TSP_PARTITIONS_MAX)
        return;
    tsp_lease_key((uint32_t)partition, expect, sizeof expect);
    if (strcmp(key, expect) != 0)
        return;
    if (partition >= c->held_count) {
        c->held = kl_resize(c->held, (partition + 1) * sizeof *c->held);
        memset(c->held + c->held_count, 0, (partition + 1 - c->held_count) * sizeof *c->held);
        c->held_count = (uint32_t)partition + 1;
    }
    c->held[partition] = (struct dm_held){ .there = value.at != NULL, .lease = l };
}

static void leases_current(struct kl_bus_watch *w)
{
    struct dm_coordinator *c = w->ctx;

    c->leases_current = true;
    c->lease_moved_ns = kl_env_mono_ns(c->env);        /* whoever has it gets a whole bound */
}

/* ---- the coordinator's lease ---- */

bool dm_coordinator_acts(const struct dm_coordinator *c)
{
    return c->o.manage && c->mine && kl_env_mono_ns(c->env) < c->mine_until_ns;
}

bool dm_coordinator_owned(const struct dm_coordinator *c, uint32_t partition)
{
    const struct dm_held  *h = partition < c->held_count ? &c->held[partition] : NULL;
    const struct tsp_node *n = h != NULL && h->there ? tsp_roster_node(c->roster, h->lease.owner, NULL)
                                                     : NULL;

    return n != NULL && memcmp(&n->instance, &h->lease.instance, sizeof n->instance) == 0 &&
           tsp_roster_presence(c->roster, n->name, kl_env_mono_ns(c->env)) == TSP_ALIVE;
}

static void lease_done(struct kl_bus_kv *op)
{
    struct dm_coordinator *c = kl_container_of(op, struct dm_coordinator, lease_op);
    struct tsp_lease       l;
    struct kl_err          err;

    c->lease_out = false;
    if (op->code == KL_OK && tsp_lease_decode(kl_buf_span(&c->lease_bytes), &l, &err) == KL_OK) {
        if (!c->mine)
            kl_logf(c->o.log, KL_INFO, "coordinator: this doorman is it now (epoch %" PRIu64 ")", l.epoch);
        c->mine = true;
        c->mine_until_ns = c->lease_sent_ns + c->o.silent_ms * 1000000 / 4 * 3;
        lease_seen(c, &l, op->revision);
        c->said[0] = '\0';
    } else if (op->code == KL_EEXIST) {
        c->mine = false;                               /* another was quicker: the watch says who */
    } else {
        complain(c, &op->err, "the lease could not be renewed");
    }
}

static void lease_put(struct dm_coordinator *c, uint64_t epoch, uint64_t beat, uint64_t expect)
{
    struct tsp_lease l = { .instance = c->who, .epoch = epoch, .beat = beat };
    struct kl_err    err;

    snprintf(l.owner, sizeof l.owner, "%s", c->o.name);
    kl_buf_reset(&c->lease_bytes);
    if (tsp_lease_encode(&l, &c->lease_bytes, &err) != KL_OK) {
        complain(c, &err, "lease");
        return;
    }
    c->lease_sent_ns = kl_env_mono_ns(c->env);
    c->lease_out = true;
    c->lease_op = (struct kl_bus_kv){ .kind = KL_BUS_KV_PUT, .key = TSP_LEASE_COORDINATOR,
                                      .value = kl_buf_span(&c->lease_bytes), .expect = expect,
                                      .loop = c->loop, .done = lease_done };
    c->bus->kv(c->bus, &c->lease_op);
}

static void lease_tick(struct dm_coordinator *c)
{
    int64_t still_ns = kl_env_mono_ns(c->env) - c->lease_moved_ns;

    if (c->lease_out || !c->leases_current)
        return;
    if (c->mine)
        lease_put(c, c->lease.epoch, c->lease.beat + 1, c->lease_revision);
    else if (!c->lease_there)
        lease_put(c, 1, 1, 0);
    else if (still_ns >= c->o.silent_ms * 1000000)
        lease_put(c, c->lease.epoch + 1, c->lease.beat + 1, c->lease_revision);
}

/* ---- the table ---- */

static void table_done(struct kl_bus_kv *op)
{
    struct dm_coordinator *c = kl_container_of(op, struct dm_coordinator, table_op);

    c->table_out = false;
    if (op->code == KL_OK && op->revision > c->table_revision)
        table_take(c, c->next, op->revision);
    else
        tsp_placement_free(c->next);
    c->next = NULL;
    if (c->split != NULL)
        dm_coordinator_split_put(c, op);
    if (op->code != KL_OK && op->code != KL_EEXIST)
        complain(c, &op->err, "the placement table could not be written");
}

bool dm_coordinator_put(struct dm_coordinator *c, struct tsp_placement *table)
{
    struct kl_err err;
    uint64_t      was = c->table != NULL ? tsp_placement_revision(c->table) : 0;

    tsp_placement_set_revision(table, was + 1);
    kl_buf_reset(&c->table_bytes);
    if (c->table_out || tsp_placement_encode(table, &c->table_bytes, &err) != KL_OK) {
        if (!c->table_out)
            complain(c, &err, "placement table");
        tsp_placement_free(table);
        return false;
    }
    c->next = table;
    c->table_out = true;
    c->table_op = (struct kl_bus_kv){ .kind = KL_BUS_KV_PUT, .key = TSP_PLACEMENT_KEY,
                                      .value = kl_buf_span(&c->table_bytes),
                                      .expect = c->table_revision, .loop = c->loop,
                                      .done = table_done };
    c->bus->kv(c->bus, &c->table_op);
    return true;
}

static void say_step(struct dm_coordinator *c, const struct tsp_rebalanced *d)
{
    kl_count(c->m.joins, d->joins);
    kl_count(c->m.leaves, d->leaves);
    kl_count(c->m.owners, d->owners);
    kl_logf(c->o.log, KL_INFO, "coordinator: placement: %u members join, %u leave, %u partitions change "
            "owner; %u are loading", d->joins, d->leaves, d->owners, d->joining);
}

static void table_tick(struct dm_coordinator *c)
{
    struct tsp_present    all[TSP_NODES_MAX];
    int64_t               now_ns = kl_env_mono_ns(c->env);
    unsigned              count = tsp_roster_list(c->roster, all, now_ns), seen[3] = { 0 };
    struct tsp_rebalance  want = { c->o.replicas, c->o.joins_at_once };
    struct tsp_rebalanced done;
    struct tsp_placement *next;
    struct kl_err         err;

    dm_coordinator_clocks(c);
    for (unsigned i = 0; i < count; i++)
        seen[all[i].presence]++;
    kl_gauge_set(c->m.alive, seen[TSP_ALIVE]);
    kl_gauge_set(c->m.silent, seen[TSP_SILENT]);
    kl_gauge_set(c->m.gone, seen[TSP_GONE]);
    kl_gauge_set(c->m.acting, dm_coordinator_acts(c));
    dm_coordinator_keys_tick(c);
    if (!c->nodes_current || !c->marks_current || !c->table_current || c->table_out || count == 0 ||
        !tsp_roster_settled(c->roster, now_ns))
        return;
    next = c->table != NULL ? tsp_placement_copy(c->table) : tsp_placement_new(c->o.partitions);
    if (tsp_rebalance_step(next, all, count, &want, &done, &err) != KL_OK) {
        if (dm_coordinator_acts(c))
            complain(c, &err, "rebalance");
        tsp_placement_free(next);
        return;
    }
    c->last = done;
    kl_gauge_set(c->m.joining, done.joining);
    kl_gauge_set(c->m.short_of, done.short_of);
    kl_gauge_set(c->m.same_zone, done.same_zone);
    kl_gauge_set(c->m.orphans, done.orphans);
    if (!dm_coordinator_acts(c) ||
        (c->table_revision != 0 && done.joins + done.leaves + done.owners == 0)) {
        tsp_placement_free(next);
        return;
    }
    say_step(c, &done);
    dm_coordinator_put(c, next);
}

static void tick(struct kl_env_timer *t)
{
    struct dm_coordinator *c = kl_container_of(t, struct dm_coordinator, tick);

    if (c->o.manage)
        lease_tick(c);
    table_tick(c);
    c->env->sched->arm(c->loop, &c->tick, c->o.heartbeat_ms);
}

/* ---- coming and going ---- */

static void watch(struct dm_coordinator *c, struct kl_bus_watch *w, const char *prefix,
                  void (*change)(struct kl_bus_watch *, const char *, struct kl_span, uint64_t),
                  void (*current)(struct kl_bus_watch *))
{
    *w = (struct kl_bus_watch){ .loop = c->loop, .change = change, .current = current, .ctx = c };
    snprintf(w->prefix, sizeof w->prefix, "%s", prefix);
    c->bus->watch(c->bus, w);
}

static void begin(struct kl_env_task *task)
{
    struct dm_coordinator *c = kl_container_of(task, struct dm_coordinator, begin);

    watch(c, &c->node_watch, TSP_NODE_PREFIX, node_change, nodes_current);
    watch(c, &c->mark_watch, TSP_MARK_PREFIX, node_change, marks_current);
    watch(c, &c->lease_watch, TSP_LEASE_PREFIX, lease_change, leases_current);
    watch(c, &c->table_watch, TSP_PLACEMENT_KEY, table_change, table_current);
    dm_coordinator_differ_watch(c);
    if (c->o.manage)
        dm_coordinator_keys_watch(c);
    c->env->sched->arm(c->loop, &c->tick, c->o.heartbeat_ms);
}

static void end(struct kl_env_task *task)
{
    struct dm_coordinator *c = kl_container_of(task, struct dm_coordinator, end);

    c->bus->unwatch(c->bus, &c->node_watch);
    c->bus->unwatch(c->bus, &c->mark_watch);
    c->bus->unwatch(c->bus, &c->lease_watch);
    c->bus->unwatch(c->bus, &c->table_watch);
    c->bus->unwatch(c->bus, &c->digest_watch);
    if (c->o.manage)
        dm_coordinator_keys_unwatch(c);
}

static struct kl_metric *metric(struct kl_metrics *m, enum kl_metric_kind kind, const char *name,
                                const char *labels, const char *help)
{
    static struct kl_metric unseen;                    /* where no registry was given: never read */

    return m == NULL ? &unseen : kl_metrics_add(m, kind, name, labels, help);
}

static void metrics_init(struct dm_coordinator *c)
{
    struct kl_metrics *m = c->o.metrics;
    static const char  nodes[] = "koalemos_cluster_nodes", nodes_help[] = "Ingestors by presence";

    c->m.alive = metric(m, KL_GAUGE, nodes, "presence=\"alive\"", nodes_help);
    c->m.silent = metric(m, KL_GAUGE, nodes, "presence=\"silent\"", nodes_help);
    c->m.gone = metric(m, KL_GAUGE, nodes, "presence=\"gone\"", nodes_help);
    c->m.joining = metric(m, KL_GAUGE, "koalemos_cluster_joining_members", "",
                          "Members of partitions that are loading or catching up");
    c->m.short_of = metric(m, KL_GAUGE, "koalemos_cluster_short_partitions", "",
                           "Partitions with fewer live members than the replication factor");
    c->m.same_zone = metric(m, KL_GAUGE, "koalemos_cluster_same_zone_partitions", "",
                            "Partitions with two members in one zone");
    c->m.orphans = metric(m, KL_GAUGE, "koalemos_cluster_orphaned_partitions", "",
                          "Partitions without a live member");
    c->m.acting = metric(m, KL_GAUGE, "koalemos_cluster_coordinator", "",
                         "1 where this doorman is the coordinator");
    c->m.revision = metric(m, KL_GAUGE, "koalemos_cluster_placement_revision", "",
                           "Revision of the placement table as seen here");
    c->m.joins = metric(m, KL_COUNTER, "koalemos_cluster_joins_total", "",
                        "Members that this coordinator added to partitions");
    c->m.leaves = metric(m, KL_COUNTER, "koalemos_cluster_leaves_total", "",
                         "Members that this coordinator removed from partitions");
    c->m.owners = metric(m, KL_COUNTER, "koalemos_cluster_owner_changes_total", "",
                         "Partitions that this coordinator gave to another owner");
    c->m.forgotten = metric(m, KL_COUNTER, "koalemos_cluster_forgotten_keys_total", "",
                            "Keys of ingestors that are no more, deleted by this coordinator");
}

struct dm_coordinator *dm_coordinator_new(struct kl_env *env, struct kl_bus *bus,
                                          const struct dm_coordinator_options *options)
{
    struct dm_coordinator *c = kl_new(sizeof *c);

    c->env = env;
    c->bus = bus;
    c->o = *options;
    c->clock_off_ms = DM_CLOCK_UNKNOWN;
    c->begin.run = begin;
    c->tick.fire = tick;
    env->random->fill(env->random, c->who.bytes, sizeof c->who.bytes);
    c->roster = tsp_roster_new(options->silent_ms, options->gone_ms);
    c->layout = tsp_layout_new();
    c->digests = tsp_digests_new();
    kl_buf_init(&c->lease_bytes, KL_BUS_VALUE_MAX);
    kl_buf_init(&c->table_bytes, KL_BUS_VALUE_MAX);
    metrics_init(c);
    c->loop = env->sched->loop_new(env->sched, "coordinator", 64);
    env->sched->post(c->loop, &c->begin);
    return c;
}

void dm_coordinator_free(struct dm_coordinator *c)
{
    if (c == NULL)
        return;
    c->end.run = end;
    c->env->sched->post(c->loop, &c->end);
    c->env->sched->loop_free(c->loop);
    tsp_roster_free(c->roster);
    tsp_digests_free(c->digests);
    dm_coordinator_keys_free(c);
    tsp_placement_free(c->table);
    tsp_placement_free(c->next);
    tsp_layout_free(c->layout);
    kl_buf_deinit(&c->lease_bytes);
    kl_buf_deinit(&c->table_bytes);
    free(c->held);
    free(c);
}
