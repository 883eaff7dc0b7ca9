/* The leases of partitions: taken, kept and given back as the placement table and the roster say. */
#include "ingestor/member_priv.h"

#include "libkoal/base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK_MS = 3000 };

static bool ours(const struct ing_lease *l)
{
    return l->there && memcmp(&l->seen.instance, &l->m->node.instance, sizeof l->seen.instance) == 0 &&
           l->seen.owner[0] != '\0';
}

static void set(struct ing_lease *l, uint64_t epoch)
{
    struct ing_member *m = l->m;
    uint64_t           was = atomic_exchange(&l->epoch, epoch);
    unsigned           owned = 0;

    if (was == epoch)
        return;
    for (uint32_t p = 0; p < m->o.partitions; p++)
        owned += atomic_load(&m->leases[p].epoch) != 0;
    kl_gauge_set(m->owned, owned);
    if (m->o.changed != NULL)
        m->o.changed(m->o.ctx, l->partition, epoch);
}

void ing_leases_drop(struct ing_member *m)
{
    for (uint32_t p = 0; p < m->o.partitions; p++) {
        set(&m->leases[p], 0);
        atomic_store(&m->leases[p].other, 0);
    }
}

/* What stands in the KV, by a watch or a look; at NULL: nothing. */
static void see(struct ing_lease *l, struct kl_span value, uint64_t revision)
{
    struct tsp_lease seen = { 0 };
    struct kl_err    err;

    if (revision <= l->revision)
        return;
    if (value.at != NULL && tsp_lease_decode(value, &seen, &err) != KL_OK) {
        kl_logf(l->m->o.log, KL_WARN, "ingestor: the lease of partition %" PRIu32 ": %s", l->partition,
                err.text);
        return;
    }
    /* Without its key nobody knows the last epoch: it goes on from the highest seen here. */
    if (value.at == NULL)
        seen.epoch = l->seen.epoch;
    l->there = value.at != NULL;
    l->seen = seen;
    l->revision = revision;
    if (!ours(l))
        set(l, 0);
}

/* ---- looks at the key itself ---- */

/*
 * A change of ours was refused, and what stands there is older than what a watch has told, or nothing:
 * the KV has lost a change (NATS 2.9 does at times when servers come back). It is what the next change
 * is compared with. Nobody's, whatever it says: who has seen what was lost does not take it for his,
 * and who has not sees the higher epoch of who takes it anew.
 */
static void went_back(struct ing_lease *l, const struct kl_bus_kv *op)
{
    struct tsp_lease is = { 0 };
    struct kl_err    err;

    if (op->code == KL_OK && tsp_lease_decode(kl_span(op->got, op->got_size), &is, &err) != KL_OK) {
        kl_logf(l->m->o.log, KL_WARN, "ingestor: the lease of partition %" PRIu32 ": %s", l->partition,
                err.text);
        return;
    }
    kl_logf(l->m->o.log, KL_WARN, "ingestor: the lease of partition %" PRIu32 " was at revision %" PRIu64
            ", is at %" PRIu64 ": that was lost, or the key deleted", l->partition, l->revision, op->revision);
    l->there = op->code == KL_OK;
    l->seen = (struct tsp_lease){ .epoch = is.epoch > l->seen.epoch ? is.epoch : l->seen.epoch };
    l->revision = op->revision;
    set(l, 0);
}

static void got(struct kl_bus_kv *op)
{
    struct ing_lease *l = kl_container_of(op, struct ing_lease, op);
    bool              same = l->tried_at == l->revision;       /* no watch has told more meanwhile */

    l->out = false;
    if (op->code == KL_ENOENT)
        op->revision = 0;
    else if (op->code != KL_OK)
        return;
    if (op->code == KL_OK && op->revision > l->revision)
        see(l, kl_span(op->got, op->got_size), op->revision);
    else if (same && (op->revision != l->revision || l->there != (op->code == KL_OK)))
        went_back(l, op);
    free(op->got);
}

static void look(struct ing_lease *l)
{
    l->out = true;
    l->looked_ns = kl_env_mono_ns(l->m->env);
    l->op = (struct kl_bus_kv){ .kind = KL_BUS_KV_GET, .loop = l->m->loop, .done = got };
    tsp_lease_key(l->partition, l->op.key, sizeof l->op.key);
    l->m->bus->kv(l->m->bus, &l->op);
}

/* ---- writing one ---- */

static void put_done(struct kl_bus_kv *op)
{
    struct ing_lease *l = kl_container_of(op, struct ing_lease, op);
    struct tsp_lease  wrote;
    struct kl_err     err;

    if (op->code == KL_EEXIST) {                       /* the race is lost; to whom? a watch may lag */
        look(l);
        return;
    }
    l->out = false;
    if (op->code != KL_OK || op->revision <= l->revision ||
        tsp_lease_decode(kl_buf_span(&l->bytes), &wrote, &err) != KL_OK)
        return;                                        /* unknown: the watch tells, or the next race */
    l->there = true;
    l->seen = wrote;
    l->revision = op->revision;
    if (!ours(l))
        return;
    kl_count(l->m->taken, 1);
    kl_logf(l->m->o.log, KL_INFO, "ingestor: partition %" PRIu32 " is ours (epoch %" PRIu64 ")",
            l->partition, wrote.epoch);
    set(l, wrote.epoch);
}

static void put(struct ing_lease *l, const char *owner, uint64_t epoch)
{
    struct ing_member *m = l->m;
    struct tsp_lease   v = { .instance = m->node.instance, .epoch = epoch };
    struct kl_err      err;

    snprintf(v.owner, sizeof v.owner, "%s", owner);
    kl_buf_reset(&l->bytes);
    if (tsp_lease_encode(&v, &l->bytes, &err) != KL_OK) {
        kl_logf(m->o.log, KL_ERROR, "ingestor: %s", err.text);
        return;
    }
    l->out = true;
    l->tried_at = l->revision;
    l->op = (struct kl_bus_kv){ .kind = KL_BUS_KV_PUT, .value = kl_buf_span(&l->bytes),
                                .expect = l->there ? l->revision : 0, .loop = m->loop,
                                .done = put_done };
    tsp_lease_key(l->partition, l->op.key, sizeof l->op.key);
    m->bus->kv(m->bus, &l->op);
}

/* ---- who should ---- */

static bool is_ready(struct ing_member *m, const char *name, uint32_t partition)
{
    const struct tsp_node    *n = strcmp(name, m->node.name) == 0 ? &m->node
                                : tsp_roster_node(m->roster, name, NULL);
    const struct tsp_holding *h = n == NULL ? NULL : tsp_node_holding(n, partition);

    return h != NULL && h->state == TSP_HOLDING_READY &&
           (n == &m->node ||
            tsp_roster_presence(m->roster, name, kl_env_mono_ns(m->env)) == TSP_ALIVE);
}

/* NULL: nobody is ready. *member: whether `owner` is one at all. */
static const char *who_should(struct ing_member *m, uint32_t partition, const char *owner,
                              bool *member)
{
    const char *names[TSP_REPLICAS_MAX], *first = NULL;
    unsigned    count = partition < tsp_placement_partitions(m->table)
                      ? tsp_placement_members(m->table, partition, names, TSP_REPLICAS_MAX) : 0;

    *member = false;
    for (unsigned k = 0; k < count; k++) {
        if (strcmp(names[k], owner) == 0)
            *member = true;
        if (first == NULL && is_ready(m, names[k], partition))
            first = names[k];
    }
    return first;
}

static bool owner_is_void(struct ing_member *m, const struct ing_lease *l, bool member)
{
    const struct tsp_node *n;

    if (!l->there || l->seen.owner[0] == '\0' || !member)
        return true;
    n = tsp_roster_node(m->roster, l->seen.owner, NULL);
    return n == NULL || memcmp(&n->instance, &l->seen.instance, sizeof n->instance) != 0 ||
           tsp_roster_presence(m->roster, l->seen.owner, kl_env_mono_ns(m->env)) != TSP_ALIVE;
}

/* Above every epoch that the lease, the log or the catalogue has shown: the KV may have been wiped. */
static uint64_t next_epoch(struct ing_member *m, const struct ing_lease *l)
{
    uint64_t seen = m->o.epoch_seen != NULL ? m->o.epoch_seen(m->o.ctx, l->partition) : 0;

    return (l->seen.epoch > seen ? l->seen.epoch : seen) + 1;
}

bool ing_member_other_ready(struct ing_member *m, uint32_t partition)
{
    const char *names[TSP_REPLICAS_MAX];
    unsigned    count = m->table != NULL && partition < tsp_placement_partitions(m->table)
                      ? tsp_placement_members(m->table, partition, names, TSP_REPLICAS_MAX) : 0;

    for (unsigned k = 0; k < count; k++)
        if (strcmp(names[k], m->node.name) != 0 && is_ready(m, names[k], partition))
            return true;
    return false;
}

uint64_t ing_member_owner(const struct ing_member *m, uint32_t partition)
{
    return ing_member_in_time(m) ? atomic_load(&m->leases[partition].other) : 0;
}

static void note_other(struct ing_member *m, struct ing_lease *l, bool member)
{
    bool other = !ours(l) && !owner_is_void(m, l, member) && is_ready(m, l->seen.owner, l->partition);

    atomic_store(&l->other, other ? kl_hash64(l->seen.owner, strlen(l->seen.owner)) : 0);
}

static void one(struct ing_member *m, struct ing_lease *l)
{
    bool        member;
    const char *should = who_should(m, l->partition, l->there ? l->seen.owner : "", &member);

    note_other(m, l, member);
    if (l->out)
        return;
    if (ours(l)) {
        if (member && !m->leaving && (should == NULL || strcmp(should, m->node.name) == 0)) {
            set(l, l->seen.epoch);
            return;
        }
        kl_logf(m->o.log, KL_INFO, "ingestor: partition %" PRIu32 " is given back for %s (epoch %" PRIu64
                ")", l->partition, should == NULL ? "nobody" : should, l->seen.epoch);
        kl_count(m->given, 1);
        set(l, 0);                                     /* before anybody hears of it */
        put(l, "", l->seen.epoch);
        return;
    }
    set(l, 0);
    if (m->leaving || should == NULL || strcmp(should, m->node.name) != 0)
        return;
    if (owner_is_void(m, l, member))
        put(l, m->node.name, next_epoch(m, l));
    else if (kl_env_mono_ns(m->env) - l->looked_ns > LOOK_MS * INT64_C(1000000)) {
        l->tried_at = UINT64_MAX;
        look(l);                                       /* is it not given back yet? a watch may lag */
    }
}

bool ing_leases_quiet(const struct ing_member *m)
{
    for (uint32_t p = 0; p < m->o.partitions; p++)
        if (m->leases[p].out || ours(&m->leases[p]))
            return false;
    return true;
}

void ing_leases_tick(struct ing_member *m)
{
    if (m->table == NULL || !m->leases_current || !tsp_roster_settled(m->roster, kl_env_mono_ns(m->env)))
        return;
    for (uint32_t p = 0; p < m->o.partitions; p++)
        one(m, &m->leases[p]);
}

/* ---- what the watches bring ---- */

static void lease_change(struct kl_bus_watch *w, const char *key, struct kl_span value,
                         uint64_t revision)
{
    struct ing_member *m = w->ctx;
    unsigned long      partition = strtoul(key + strlen(TSP_LEASE_PREFIX), NULL, 10);
    char               expect[64];

    if (partition >= m->o.partitions)
        return;
    tsp_lease_key((uint32_t)partition, expect, sizeof expect);
    if (strcmp(key, expect) == 0)
        see(&m->leases[partition], value, revision);
}

static void leases_current(struct kl_bus_watch *w)
{
    ((struct ing_member *)w->ctx)->leases_current = true;
}

static void table_change(struct kl_bus_watch *w, const char *key, struct kl_span value,
                         uint64_t revision)
{
    struct ing_member    *m = w->ctx;
    struct tsp_placement *table;
    struct kl_err         err;

    if (strcmp(key, TSP_PLACEMENT_KEY) != 0)
        return;
    if (value.at == NULL) {                            /* wiped: the last one goes on working, and any follows */
        m->table_revision = 0;
        return;
    }
    if (tsp_placement_decode(value, &table, &err) != KL_OK) {
        kl_logf(m->o.log, KL_WARN, "ingestor: placement table: %s", err.text);
        return;
    }
    /* By its key: who made it anew may not have seen the last one, and counts on from an older. */
    if (revision < m->table_revision) {
        tsp_placement_free(table);
        return;
    }
    tsp_placement_free(m->table);
    m->table = table;
    m->table_revision = revision;
}

static void table_current(struct kl_bus_watch *w) { (void)w; }

void ing_leases_watch(struct ing_member *m)
{
    m->lease_watch = (struct kl_bus_watch){ .prefix = TSP_LEASE_PREFIX, .loop = m->loop,
                                            .change = lease_change, .current = leases_current,
                                            .ctx = m };
    m->table_watch = (struct kl_bus_watch){ .prefix = TSP_PLACEMENT_KEY, .loop = m->loop,
                                            .change = table_change, .current = table_current,
                                            .ctx = m };
    m->bus->watch(m->bus, &m->lease_watch);
    m->bus->watch(m->bus, &m->table_watch);
}

void ing_leases_init(struct ing_member *m)
{
    m->leases = kl_new(m->o.partitions * sizeof *m->leases);
    for (uint32_t p = 0; p < m->o.partitions; p++) {
        m->leases[p].m = m;
        m->leases[p].partition = p;
        kl_buf_init(&m->leases[p].bytes, 1024);
    }
}

void ing_leases_deinit(struct ing_member *m)
{
    for (uint32_t p = 0; p < m->o.partitions; p++)
        kl_buf_deinit(&m->leases[p].bytes);
    free(m->leases);
    tsp_placement_free(m->table);
}
