#ifndef TESTS_UNIT_DOORMAN_CELL_H
#define TESTS_UNIT_DOORMAN_CELL_H
/*
 * Two coordinators over one KV, in virtual time; nodes are made up by the test, which beats for those that
 * live and says READY for what they were given long enough.
 */
#include "doorman/coordinator_priv.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { P = 16, NODES = 6, HEARTBEAT_MS = 1000, SILENT_MS = 5000, GONE_MS = 60000, FORGET_MS = 300000 };
#define UNUSED __attribute__((unused))

struct made_up {
    struct tsp_node  node;
    bool             lives;
    int64_t          ahead_ms;                         /* its clock */
    struct kl_bus_kv put;
    struct kl_buf    bytes;
    bool             out;
};
static struct kl_env_sim      *sim;
static struct kl_env_disk_sim *disk;
static struct kl_env          *env;
static struct kl_env_dir      *root;
static struct kl_bus          *bus;
static struct kl_env_loop     *loop;
static struct kl_env_timer     beats;
static struct made_up          nodes[NODES];
static struct dm_coordinator  *c[2];
static struct kl_err           err;

static void put_done(struct kl_bus_kv *op)
{
    struct made_up *n = kl_container_of(op, struct made_up, put);

    n->out = false;
}

/* Whoever runs sees the table; here the test looks into the first coordinator that is left. */
static const struct tsp_placement *table(void) { return c[0] != NULL ? c[0]->table : c[1]->table; }

static void hold(struct made_up *n)
{
    struct tsp_holding *holdings = kl_new(2 * P * sizeof *holdings);
    uint32_t            count = 0;

    for (uint32_t p = 0; table() != NULL && p < tsp_placement_partitions(table()); p++) {
        const char *names[TSP_REPLICAS_MAX];
        unsigned    members = tsp_placement_members(table(), p, names, TSP_REPLICAS_MAX);

        for (unsigned k = 0; k < members; k++)
            if (strcmp(names[k], n->node.name) == 0)
                holdings[count++] = (struct tsp_holding){
                    p, tsp_node_holding(&n->node, p) == NULL ? TSP_HOLDING_JOINING : TSP_HOLDING_READY,
                    10, 0 };
    }
    tsp_node_deinit(&n->node);
    n->node.holdings = holdings;
    n->node.holding_count = count;
}

static void beat(struct kl_env_timer *t)
{
    for (int i = 0; i < NODES; i++) {
        struct made_up *n = &nodes[i];

        if (!n->lives || n->out)
            continue;
        hold(n);
        n->node.beat++;
        n->node.now_ms = kl_env_now_ms(env) + n->ahead_ms;
        kl_buf_reset(&n->bytes);
        ck_assert_int_eq(tsp_node_encode(&n->node, &n->bytes, &err), KL_OK);
        n->put = (struct kl_bus_kv){ .kind = KL_BUS_KV_PUT, .value = kl_buf_span(&n->bytes),
                                     .expect = UINT64_MAX, .loop = loop, .done = put_done };
        tsp_node_key(n->node.name, n->put.key, sizeof n->put.key);
        n->out = true;
        bus->kv(bus, &n->put);
    }
    env->sched->arm(loop, t, HEARTBEAT_MS);
}

static void start_beats(struct kl_env_task *t)
{
    (void)t;
    beat(&beats);
}

static UNUSED struct dm_coordinator *coordinator(const char *name)
{
    struct dm_coordinator_options o = { .name = name, .manage = true, .partitions = P, .replicas = 2,
                                        .joins_at_once = 4, .heartbeat_ms = HEARTBEAT_MS,
                                        .silent_ms = SILENT_MS, .gone_ms = GONE_MS, .forget_ms = FORGET_MS,
                                        .split_delay_ms = 30000 };

    return dm_coordinator_new(env, bus, &o);
}

static void setup(void)
{
    static struct kl_env_task start = { .run = start_beats };
    struct kl_bus_local_options o = { .partitions = P };

    sim = kl_env_sim_new(7);
    disk = kl_env_disk_sim_new();
    env = kl_env_sim_env(sim);
    root = kl_env_disk_sim_root(disk);
    ck_assert_int_eq(kl_bus_local_open(env, root, &o, &bus, &err), KL_OK);
    loop = env->sched->loop_new(env->sched, "test", 100);
    beats = (struct kl_env_timer){ .fire = beat };
    for (int i = 0; i < NODES; i++) {
        nodes[i] = (struct made_up){ .node = { .capacity = 100, .instance = { { (uint8_t)(i + 1) } } } };
        snprintf(nodes[i].node.name, sizeof nodes[i].node.name, "i%d", i);
        snprintf(nodes[i].node.zone, sizeof nodes[i].node.zone, "%c", 'a' + i % 3);
    }
    c[0] = coordinator("d0");
    c[1] = coordinator("d1");
    env->sched->post(loop, &start);
}

static void teardown(void)
{
    bus->close(bus);
    kl_env_sim_run(sim, 1000);
    dm_coordinator_free(c[0]);
    dm_coordinator_free(c[1]);
    c[0] = c[1] = NULL;
    env->sched->loop_free(loop);
    bus->free(bus);
    root->leave(root);
    for (int i = 0; i < NODES; i++) {
        tsp_node_deinit(&nodes[i].node);
        kl_buf_deinit(&nodes[i].bytes);
    }
    kl_env_disk_sim_free(disk);
    kl_env_sim_free(sim);
}

static void run_s(int s) { kl_env_sim_run(sim, s * 1000); }

/* How many of the partitions have `name` among the members; *owns: as the first. */
static UNUSED unsigned has(const char *name, unsigned *owns)
{
    unsigned n = 0;

    *owns = 0;
    for (uint32_t p = 0; p < tsp_placement_partitions(table()); p++) {
        const char *names[TSP_REPLICAS_MAX];
        unsigned    count = tsp_placement_members(table(), p, names, TSP_REPLICAS_MAX);

        for (unsigned k = 0; k < count; k++)
            if (strcmp(names[k], name) == 0) {
                n++;
                *owns += k == 0;
            }
    }
    return n;
}

static struct kl_bus_kv wish;
static bool             wished;

static void wish_done(struct kl_bus_kv *op)
{
    ck_assert_int_eq(op->code, KL_OK);
    wished = true;
}

static UNUSED void wish_for(enum kl_bus_kv_kind kind, const char *key, const char *value)
{
    wished = false;
    wish = (struct kl_bus_kv){ .kind = kind, .value = kl_span_str(value), .expect = UINT64_MAX,
                               .loop = loop, .done = wish_done };
    snprintf(wish.key, sizeof wish.key, "%s", key);
    bus->kv(bus, &wish);
    run_s(2);
    ck_assert(wished);
}
#endif
