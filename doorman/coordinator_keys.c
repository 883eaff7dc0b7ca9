/*
 * What nodes leave behind in the KV that are no more: their own key, the mark that an operator gave them, the words
 * of a full disk, what they told of cuts, wishes that they make a partition anew. Whoever is the coordinator deletes
 * it, one key after another, by compare-and-set: a key that was written meanwhile stays.
 *
 *   A node is over when it was removed and its beat stands still; or when that stands still for `forget_ms`. By our
 *   monotonic clock, from what we saw: who has just begun to look waits anew, and no wall clock counts. While the
 *   placement table names it nothing goes.
 *   A removed one that still runs keeps its key, so that it can be seen, and its mark, so that it stays away.
 *   The mark outlives the key by `forget_ms`: a late heartbeat puts the key again, and it is removed as before.
 *   What is of a partition goes also when the node lives, but is no member and has not had it for long.
 *
 * Everything else in the KV is one key a partition, a tenant or a spread metric, or its writers tidy it (peers.c).
 */
#include "doorman/coordinator_priv.h"

#include "libkoal/base/sorted.h"
#include "libtsproto/disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS_MAX = 65536 };                             /* those past it are seen when others have gone */

static int by_key(const void *key, const void *k) { return strcmp(key, ((const struct dm_key *)k)->key); }

void dm_coordinator_keys_see(struct dm_coordinator *c, const char *key, struct kl_span value, uint64_t revision)
{
    struct dm_keys *k = &c->keys;
    bool            found;
    size_t          at = kl_sorted_place(key, k->all, k->count, sizeof k->all[0], by_key, &found);

    if (value.at == NULL) {
        if (found) {
            free(k->all[at].key);
            kl_sorted_close(k->all, &k->count, sizeof k->all[0], at);
        }
    } else if (!found && k->count < KEYS_MAX) {
        k->all = kl_sorted_grow(k->all, &k->count, &k->room, sizeof k->all[0], at);
        k->all[at] = (struct dm_key){ kl_strdup(key), revision, kl_env_mono_ns(c->env) };
    } else if (found && k->all[at].revision < revision) {
        k->all[at].revision = revision;
        k->all[at].since_ns = kl_env_mono_ns(c->env);
    }
}

/* UINT32_MAX: of any partition. */
static bool is_named(const struct dm_coordinator *c, const char *name, uint32_t partition)
{
    uint32_t count = tsp_placement_partitions(c->table);
    uint32_t from = partition == UINT32_MAX ? 0 : partition, to = partition == UINT32_MAX ? count : partition + 1;

    for (uint32_t p = from; p < to && p < count; p++) {
        const char *names[TSP_REPLICAS_MAX];
        unsigned    members = tsp_placement_members(c->table, p, names, TSP_REPLICAS_MAX);

        for (unsigned k = 0; k < members; k++)
            if (strcmp(names[k], name) == 0)
                return true;
    }
    return false;
}

static bool is_over(const struct dm_coordinator *c, const char *name, int64_t now_ns)
{
    return tsp_roster_over(c->roster, name, now_ns, c->o.forget_ms * 1000000);
}

/* The key has not changed for so long that nobody can be about to come and claim it. */
static bool is_old(const struct dm_coordinator *c, const struct dm_key *k, int64_t now_ns)
{
    return now_ns - k->since_ns >= c->o.gone_ms * 1000000;
}

static bool may_go(const struct dm_coordinator *c, const struct dm_key *k, int64_t now_ns)
{
    char                   name[TSP_NAME_MAX + 1];
    const struct tsp_node *n;
    uint32_t               partition = UINT32_MAX;

    if (strncmp(k->key, TSP_DISK_PREFIX, strlen(TSP_DISK_PREFIX)) == 0) {
        if (strlen(k->key) - strlen(TSP_DISK_PREFIX) > TSP_NAME_MAX)
            return false;
        memcpy(name, k->key + strlen(TSP_DISK_PREFIX), strlen(k->key) - strlen(TSP_DISK_PREFIX) + 1);
    } else if (!tsp_digest_of(k->key, &partition, name) && !tsp_repair_of(k->key, &partition, name)) {
        return false;                                  /* not ours to judge */
    }
    if (is_named(c, name, partition))
        return false;
    n = tsp_roster_node(c->roster, name, NULL);
    if (n != NULL && is_over(c, name, now_ns))
        return true;
    return is_old(c, k, now_ns) && (n == NULL || (partition != UINT32_MAX && tsp_node_holding(n, partition) == NULL));
}

static void deleted(struct kl_bus_kv *op)
{
    struct dm_coordinator *c = kl_container_of(op, struct dm_coordinator, keys.op);
    bool                   node = strncmp(op->key, TSP_NODE_PREFIX, strlen(TSP_NODE_PREFIX)) == 0;
    struct kl_err          err;

    c->keys.out = false;
    if (op->code != KL_OK && op->code != KL_ENOENT) {  /* written meanwhile, or the next tick tries again */
        if (op->code != KL_EEXIST && op->code != KL_ECANCELED && !c->keys.said)
            kl_logf(c->o.log, KL_WARN, "coordinator: the key %s of an ingestor that is no more cannot be deleted: %s",
                    op->key, op->err.text);
        c->keys.said = c->keys.said || (op->code != KL_EEXIST && op->code != KL_ECANCELED);
        return;
    }
    c->keys.said = false;
    /* A watch tells it, too; but until then the same key is not to be tried again. */
    dm_coordinator_keys_see(c, op->key, kl_span(NULL, 0), 0);
    tsp_roster_see(c->roster, op->key, kl_span(NULL, 0), 0, kl_env_mono_ns(c->env), &err);
    if (op->code != KL_OK)
        return;
    kl_count(c->m.forgotten, 1);
    if (node)
        kl_logf(c->o.log, KL_INFO, "coordinator: ingestor %s is no more: its keys were deleted",
                op->key + strlen(TSP_NODE_PREFIX));
}

static bool start(struct dm_coordinator *c, const char *prefix, const char *rest, uint64_t revision)
{
    struct dm_keys *k = &c->keys;

    k->op = (struct kl_bus_kv){ .kind = KL_BUS_KV_DELETE, .expect = revision, .loop = c->loop, .done = deleted };
    snprintf(k->op.key, sizeof k->op.key, "%s%s", prefix, rest);
    k->out = true;
    c->bus->kv(c->bus, &k->op);
    return true;
}

/* What is of nodes goes first: of one that is not finished by who begins, the next coordinator still knows. */
static bool others_go(struct dm_coordinator *c, int64_t now_ns)
{
    for (size_t i = 0; i < c->keys.count; i++)
        if (may_go(c, &c->keys.all[i], now_ns))
            return start(c, "", c->keys.all[i].key, c->keys.all[i].revision);
    return false;
}

static bool node_goes(struct dm_coordinator *c, int64_t now_ns)
{
    struct tsp_present all[TSP_NODES_MAX];
    unsigned           count = tsp_roster_list(c->roster, all, now_ns);

    for (unsigned i = 0; i < count; i++) {
        const char *name = all[i].node->name;
        uint64_t    revision;

        if (is_over(c, name, now_ns) && !is_named(c, name, UINT32_MAX) &&
            tsp_roster_node(c->roster, name, &revision) != NULL)
            return start(c, TSP_NODE_PREFIX, name, revision);
    }
    return false;
}

static bool mark_goes(struct dm_coordinator *c, int64_t now_ns)
{
    uint64_t    revision;
    const char *name = tsp_roster_stale_mark(c->roster, now_ns, c->o.forget_ms * 1000000, &revision);

    return name != NULL && !is_named(c, name, UINT32_MAX) && start(c, TSP_MARK_PREFIX, name, revision);
}

void dm_coordinator_keys_tick(struct dm_coordinator *c)
{
    int64_t now_ns = kl_env_mono_ns(c->env);

    if (c->keys.out || c->table == NULL || c->table_revision == 0 || !c->nodes_current || !c->marks_current ||
        !c->digests_current || !c->keys.disks_current || !c->keys.repairs_current ||
        !tsp_roster_settled(c->roster, now_ns) || !dm_coordinator_acts(c))
        return;
    if (!others_go(c, now_ns) && !node_goes(c, now_ns))
        mark_goes(c, now_ns);
}

/* ---- what the watches bring ---- */

static void change(struct kl_bus_watch *w, const char *key, struct kl_span value, uint64_t revision)
{
    dm_coordinator_keys_see(w->ctx, key, value, revision);
}

static void disks_current(struct kl_bus_watch *w)
{
    ((struct dm_coordinator *)w->ctx)->keys.disks_current = true;
}

static void repairs_current(struct kl_bus_watch *w)
{
    ((struct dm_coordinator *)w->ctx)->keys.repairs_current = true;
}

void dm_coordinator_keys_watch(struct dm_coordinator *c)
{
    c->keys.disk_watch = (struct kl_bus_watch){ .prefix = TSP_DISK_PREFIX, .loop = c->loop, .ctx = c,
                                                .change = change, .current = disks_current };
    c->keys.repair_watch = (struct kl_bus_watch){ .prefix = TSP_REPAIR_PREFIX, .loop = c->loop, .ctx = c,
                                                  .change = change, .current = repairs_current };
    c->bus->watch(c->bus, &c->keys.disk_watch);
    c->bus->watch(c->bus, &c->keys.repair_watch);
}

void dm_coordinator_keys_unwatch(struct dm_coordinator *c)
{
    c->bus->unwatch(c->bus, &c->keys.disk_watch);
    c->bus->unwatch(c->bus, &c->keys.repair_watch);
}

void dm_coordinator_keys_free(struct dm_coordinator *c)
{
    for (size_t i = 0; i < c->keys.count; i++)
        free(c->keys.all[i].key);
    free(c->keys.all);
}
