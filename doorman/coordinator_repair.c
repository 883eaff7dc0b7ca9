/*
 * An operator's wish that a member makes its state of a partition anew (ingestor/repair.c): a key of the KV, which
 * the member removes when it begins. It lets go of nothing while it is alone; this says so beforehand.
 */
#include "doorman/coordinator_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool ready(const struct dm_coordinator *c, const char *name, uint32_t partition)
{
    const struct tsp_node    *n = tsp_roster_node(c->roster, name, NULL);
    const struct tsp_holding *h = n == NULL ? NULL : tsp_node_holding(n, partition);

    return h != NULL && h->state == TSP_HOLDING_READY &&
           tsp_roster_presence(c->roster, name, kl_env_mono_ns(c->env)) == TSP_ALIVE;
}

static enum kl_code may(const struct dm_coordinator *c, const struct dm_repair *r, struct kl_err *err)
{
    const char *names[TSP_REPLICAS_MAX];
    unsigned    count, others = 0;
    bool        member = false;

    if (c->table == NULL)
        return kl_fail(err, KL_EAGAIN, "no placement table was seen yet: no ingestor has registered, or NATS is out of "
                       "reach");
    if (r->partition >= tsp_placement_partitions(c->table))
        return kl_fail(err, KL_EINVAL, "there is no partition %" PRIu32 ": they are 0 to %" PRIu32, r->partition,
                       tsp_placement_partitions(c->table) - 1);
    count = tsp_placement_members(c->table, r->partition, names, TSP_REPLICAS_MAX);
    for (unsigned k = 0; k < count; k++)
        if (strcmp(names[k], r->node) == 0)
            member = true;
        else
            others += ready(c, names[k], r->partition);
    if (!member)
        return kl_fail(err, KL_EINVAL, "%.63s is no member of partition %" PRIu32 ": the shard map names them", r->node,
                       r->partition);
    if (others == 0)
        return kl_fail(err, KL_EEXIST, "no other member of partition %" PRIu32 " is alive and has caught up: what %.63s "
                       "has is not let go of", r->partition, r->node);
    return KL_OK;
}

static void put_done(struct kl_bus_kv *op)
{
    struct dm_repair *r = kl_container_of(op, struct dm_repair, kv);

    r->code = op->code;
    r->err = op->err;
    if (r->code != KL_OK)
        kl_within(&r->err, "the wish could not be written");
    else
        kl_logf(r->c->o.log, KL_INFO, "coordinator: %s is to make partition %" PRIu32 " anew, as an operator wished",
                r->node, r->partition);
    r->done(r);
}

static void begin(struct kl_env_task *task)
{
    struct dm_repair      *r = kl_container_of(task, struct dm_repair, task);
    struct dm_coordinator *c = r->c;

    r->code = may(c, r, &r->err);
    if (r->code != KL_OK) {
        r->done(r);
        return;
    }
    r->kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_PUT, .value = kl_span_str("1"), .expect = UINT64_MAX, .loop = c->loop,
                                .done = put_done };
    tsp_repair_key(r->kv.key, sizeof r->kv.key, r->partition, r->node);
    c->bus->kv(c->bus, &r->kv);
}

void dm_coordinator_repair(struct dm_coordinator *c, struct dm_repair *r)
{
    r->c = c;
    r->task = (struct kl_env_task){ .run = begin };
    c->env->sched->post(c->loop, &r->task);
}
