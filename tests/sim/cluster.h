#ifndef TESTS_SIM_CLUSTER_H
#define TESTS_SIM_CLUSTER_H
/*
 * A whole cell on one thread: the servers of the bus, an object storage, doormen with their coordinators,
 * ingestors that register, a querier; each a process of the simulation, with a client of the bus, and
 * where it has one a disk of its own. Processes are killed, stopped, cut off and started anew; what a
 * killed one had in memory stays where it is, as nobody else looks at it.
 */
#include <inttypes.h>
#include <stdio.h>

#include "doorman/coordinator_priv.h"
#include "libkoal/bus/bus_sim.h"
#include "libkoal/crypt/vault.h"
#include "libkoal/env/dir.h"
#include "libkoal/env/env.h"
#include "libkoal/store/store.h"
#include "libtsproto/layout.h"
#include "tests/sim/kit.h"

#define UNUSED __attribute__((unused))
enum { C_DOORMEN = 2, C_INGESTORS = 3, C_QUERIER = C_DOORMEN + C_INGESTORS, C_NODES };
enum { C_PARTITIONS = 4, C_ROOM = 2 * C_PARTITIONS, C_REPLICAS = 2 };
enum { C_HEARTBEAT_MS = 500, C_SILENT_MS = 3000, C_GONE_MS = 20000, C_WINDOW_MS = 60000 };

struct c_node {
    char           name[16];
    struct kl_env *env;                                /* NULL: it does not run */
    struct kl_bus *bus;
    struct kl_env_disk_sim *disk;                      /* an ingestor's */
    struct ing_ingestor    *ing;
    struct dm_doorman      *dm;
    struct dm_coordinator  *co;
    struct qr_querier      *q;
    struct cell   *cell;
    struct kl_log  log;
    bool    paused, cut;
    int64_t until_ns;                                  /* then it goes on, is reached, or starts again */
    int64_t ahead_ms;
};
struct cell {
    uint64_t seed, draws;
    struct kl_env_sim *sim;
    struct kl_env     *env;                            /* the test's own */
    struct kl_env_loop *loop;
    struct kl_bus_sim *servers;
    struct kl_env_disk_sim *objects;
    struct kl_keys    *keys;                           /* NULL: disks are not encrypted */
    struct kl_bus     *bus;                            /* the test's own client, never cut */
    struct c_node      nodes[C_NODES];
    unsigned           peer_snapshots, stored_snapshots;       /* that came to a member: from an owner, from the store */
    unsigned           same, differing;                /* cuts, as ingestors found them */
    unsigned           repairs, repaired, suspects;    /* begun; made anew; said that it may be the owner's, */
    unsigned           outvoted;                       /* or that it is */
    unsigned           replicas;                       /* 0: C_REPLICAS */
    uint32_t           repairs_per_hour;
    char               difference[500];                /* the last of these */
    bool               says;                           /* what is logged: KOA_SAY=1 */
};

static uint64_t c_draw(struct cell *c) { return kit_draw(&c->draws); }

static int64_t c_now_ns(struct cell *c) { return kl_env_mono_ns(c->env); }

static void c_say(struct kl_log *log, enum kl_level level, const char *line, const struct kl_log_field *fields,
                  size_t field_count)
{
    struct c_node *n = kl_container_of(log, struct c_node, log);

    (void)fields, (void)field_count;
    n->cell->peer_snapshots += strstr(line, "a snapshot came from its owner") != NULL;
    n->cell->stored_snapshots += strstr(line, "came from the store") != NULL;
    n->cell->repairs += strstr(line, "made anew from the catalogue and the log, as an operator") != NULL ||
                        strstr(line, "it was not as its owner's: made anew") != NULL;
    n->cell->repaired += strstr(line, "it was made anew, from the catalogue and the log alone") != NULL;
    n->cell->suspects += strstr(line, "so it may be the owner's") != NULL;
    n->cell->outvoted += strstr(line, "more members have what this one has") != NULL;
    n->cell->same += strstr(line, "two members sealed the same at cut") != NULL;
    if (strstr(line, " hold different ") != NULL || strstr(line, "different records") != NULL) {
        n->cell->differing++;
        snprintf(n->cell->difference, sizeof n->cell->difference, "%s", line);
    }
    if (n->cell->says)
        fprintf(stderr, "%9.3f %-2s %d %s\n", (double)c_now_ns(n->cell) / 1e9, n->name, (int)level, line);
}

/* In half of the cells, by fours, so that each kind of cell is among them, disks are encrypted. */
static struct kl_env_dir *c_root(struct cell *c, struct kl_env_disk_sim *disk)
{
    struct kl_env_dir *root = kl_env_disk_sim_root(disk);

    return c->keys != NULL ? kl_vault_new(root, c->keys) : root;
}

static struct kl_store *c_store(struct cell *c) { return kl_store_dir_new(c_root(c, c->objects)); }

static void c_start_ingestor(struct cell *c, struct c_node *n)
{
    struct ing_options o = { .name = n->name, .loops = 2, .partitions = C_ROOM, .window_ms = C_WINDOW_MS,
                             .cut_delay_ms = 5000, .log_keep_ms = 20000, .snapshot_ms = 15000, .stored_ms = 25000,
                             .snapshot_samples = 2000, .spill_least_bytes = 1000, .compact_files = 3,
                             .compact_window_ms = 4 * C_WINDOW_MS, .compact_bytes_max = 1 << 30,
                             .orphans_ms = 60000, .pushdown_max = 4, .pushdown_memory_max_bytes = 64 << 20, .retention_ms = 3600000, .census_ms = 5000, .repairs_per_hour = c->repairs_per_hour, .no_repeats = c->seed % 3 > 0, .log = &n->log };
    struct ing_cluster_options co = { .zone = n->name + strlen(n->name) - 1, .address = "", .version = "sim",
                                      .capacity = 100, .heartbeat_ms = C_HEARTBEAT_MS,
                                      .silent_ms = C_SILENT_MS, .gone_ms = C_GONE_MS };
    struct kl_err err;

    n->ing = ing_new(n->env, n->bus, c_root(c, n->disk), c_store(c), &o);
    ck_assert_msg(ing_join(n->ing, &co, &err) == KL_OK, "%s", err.text);
}

static void c_start_doorman(struct c_node *n)
{
    struct dm_options o = kit_doorman(&n->log, kl_metrics_new());
    struct dm_coordinator_options co = { .name = n->name, .manage = true, .partitions = C_PARTITIONS,
                                         .replicas = n->cell->replicas != 0 ? n->cell->replicas : C_REPLICAS, .joins_at_once = 4,
                                         .heartbeat_ms = C_HEARTBEAT_MS, .silent_ms = C_SILENT_MS,
                                         .gone_ms = C_GONE_MS, .split_delay_ms = 2000, .log = &n->log };

    n->co = dm_coordinator_new(n->env, n->bus, &co);
    o.linger_ms = 20;
    o.append_timeout_ms = 8000;
    o.partitions = C_ROOM;
    o.heartbeat_ms = 1000;
    o.limits.past_ms = 600000;
    o.limits.future_ms = 60000;
    o.clock_off_ms = dm_coordinator_clock_off(n->co);
    n->dm = dm_new(n->env, n->bus, &o);
}

static void c_start_querier(struct cell *c, struct c_node *n)
{
    struct qr_options o = { .timeout_ms = 20000, .hedge_percent = 10, .pushes = true, .log = &n->log };

    n->q = qr_new(n->env, n->bus, c_store(c), &o);
}

static void c_start(struct cell *c, unsigned i)
{
    struct c_node *n = &c->nodes[i];

    n->env = kl_env_sim_process(c->sim);
    n->bus = kl_bus_sim_client(c->servers, n->env);
    n->paused = n->cut = false;
    n->until_ns = 0;
    kl_env_sim_ahead(c->sim, n->env, n->ahead_ms);
    if (i < C_DOORMEN)
        c_start_doorman(n);
    else if (i < C_QUERIER)
        c_start_ingestor(c, n);
    else
        c_start_querier(c, n);
}

enum c_death { C_KILL, C_POWER, C_DISK };
static UNUSED void c_kill(struct cell *c, unsigned i, enum c_death how)
{
    struct c_node *n = &c->nodes[i];

    kl_env_sim_kill(c->sim, n->env);
    kl_bus_sim_gone(n->bus);
    n->env = NULL;
    n->bus = NULL;
    n->ing = NULL;
    n->dm = NULL;
    n->co = NULL;
    n->q = NULL;
    n->paused = n->cut = false;
    if (n->disk == NULL)
        return;
    if (how == C_DISK)
        n->disk = kl_env_disk_sim_new();               /* the old one is still held by the dead */
    else if (how == C_POWER)
        kl_env_disk_sim_crash(n->disk, c_draw(c));
    else
        kl_env_disk_sim_kill(n->disk);
}

static void c_init(struct cell *c, uint64_t seed)
{
    *c = (struct cell){ .seed = seed, .draws = seed * 1000003 + 17 };
    c->says = getenv("KOA_SAY") != NULL;
    c->sim = kl_env_sim_new(seed);
    c->env = kl_env_sim_env(c->sim);
    c->loop = c->env->sched->loop_new(c->env->sched, "test", 1000);
    c->servers = kl_bus_sim_new(kl_env_sim_process(c->sim), C_ROOM, c_draw(c));
    c->objects = kl_env_disk_sim_new();
    c->keys = seed / 4 % 2 == 1 ? kl_keys_random() : NULL;
    c->bus = kl_bus_sim_client(c->servers, c->env);
    for (unsigned i = 0; i < C_NODES; i++) {
        struct c_node *n = &c->nodes[i];

        n->cell = c;
        n->log = (struct kl_log){ .write = c_say, .least = KL_DEBUG };
        if (i < C_DOORMEN)
            snprintf(n->name, sizeof n->name, "d%u", i);
        else if (i < C_QUERIER)
            snprintf(n->name, sizeof n->name, "i%c", 'a' + (int)(i - C_DOORMEN));
        else
            snprintf(n->name, sizeof n->name, "q");
        if (i >= C_DOORMEN && i < C_QUERIER)
            n->disk = kl_env_disk_sim_new();
    }
}

/* Is every partition owned, and are all its members there and ready? NULL, or what is not so. */
static const char *c_unsettled(struct cell *c)
{
    struct kl_err err;

    for (unsigned i = 0; i < C_NODES; i++)
        if (c->nodes[i].env == NULL)
            return "one does not run";
    for (unsigned i = 0; i < C_DOORMEN; i++) {
        struct dm_coordinator *co = c->nodes[i].co;

        if (!dm_ready(c->nodes[i].dm, &err) && labs(c->nodes[i].ahead_ms) < 60000)
            return "a doorman is not ready";
        if (co->table == NULL || co->last.joining + co->last.short_of + co->last.orphans > 0)
            return "members are missing, or loading";
        for (uint32_t p = 0; p < tsp_placement_partitions(co->table); p++)
            if (!dm_coordinator_owned(co, p))
                return "a partition has no owner";
    }
    for (unsigned i = C_DOORMEN; i < C_QUERIER; i++)
        if (!ing_ready(c->nodes[i].ing, &err))
            return "an ingestor is not ready";
    return qr_ready(c->nodes[C_QUERIER].q, &err) ? NULL : "the querier is not ready";
}

static void c_settle(struct cell *c, const char *when)
{
    const char *why = "";

    for (int n = 0; n < 3000 && (why = c_unsettled(c)) != NULL; n++)
        kl_env_sim_run(c->sim, 200);
    ck_assert_msg(why == NULL, "seed %" PRIu64 ": %s: not settled in ten minutes: %s", c->seed, when, why);
}

/* ---- the KV, from outside ---- */

struct c_kv { struct kl_bus_kv op; bool done; };
static void c_kv_done(struct kl_bus_kv *op) { kl_container_of(op, struct c_kv, op)->done = true; }

static UNUSED struct c_kv *c_kv(struct cell *c, enum kl_bus_kv_kind kind, const char *key, struct kl_span value)
{
    struct c_kv *kv = kl_new(sizeof *kv);

    kv->op = (struct kl_bus_kv){ .kind = kind, .expect = UINT64_MAX, .loop = c->loop, .done = c_kv_done,
                                 .value = value };
    snprintf(kv->op.key, sizeof kv->op.key, "%s", key);
    c->bus->kv(c->bus, &kv->op);
    for (int n = 0; n < 1000 && !kv->done; n++)
        kl_env_sim_run(c->sim, 10);
    ck_assert(kv->done);
    return kv;
}
#endif
