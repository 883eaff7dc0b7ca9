/* Doubling the number of partitions: what must be so before, and the change of the table. */
#include "doorman/coordinator_priv.h"
#include "doorman/dm_priv.h"

#include <assert.h>
#include <inttypes.h>

/* Whoever may come to hold a partition or write into one needs room for all of them. */
static enum kl_code everybody_has_room(struct dm_coordinator *c, uint32_t wanted, struct kl_err *err)
{
    struct tsp_present all[TSP_NODES_MAX];
    unsigned           count = tsp_roster_list(c->roster, all, kl_env_mono_ns(c->env));

    if (c->o.partitions < wanted)
        return kl_fail(err, KL_EAGAIN, "partitions is %" PRIu32 " here: set it to %" PRIu32 " for every "
                       "service, restart them one after another, and ask again", c->o.partitions, wanted);
    for (unsigned i = 0; i < count; i++)
        if (all[i].presence != TSP_GONE && all[i].node->partitions < wanted)
            return kl_fail(err, KL_EAGAIN, "ingestor %s has room for %" PRIu32 " partitions: restart it with "
                           "partitions: %" PRIu32 " first%s", all[i].node->name, all[i].node->partitions,
                           wanted, all[i].presence == TSP_SILENT ? " (it is silent: or remove it)" : "");
    return KL_OK;
}

static enum kl_code decide(struct dm_coordinator *c, struct dm_split *s, struct tsp_placement **next)
{
    const struct tsp_split *before;
    int64_t                 now_ms = kl_env_now_ms(c->env);
    uint32_t                wanted;
    unsigned                count;

    if (!c->nodes_current || !c->marks_current || !c->table_current || c->table == NULL)
        return kl_fail(&s->err, KL_EAGAIN, "the placement table and the ingestors have not been seen yet");
    /* It begins by this clock: years ago, and readers would not look where their samples are. */
    if (dm_clock_check(&c->clock_off_ms, &s->err) != KL_OK)
        return s->err.code = KL_EAGAIN;
    wanted = 2 * tsp_placement_partitions(c->table);
    if (s->partitions != 0 && s->partitions != wanted)
        return kl_fail(&s->err, KL_EINVAL, "there are %" PRIu32 " partitions: a split makes %" PRIu32
                       " of them, not %" PRIu32, wanted / 2, wanted, s->partitions);
    count = tsp_placement_splits(c->table, &before);
    if (count > 0 && before[count - 1].valid_from_ms > now_ms)
        return kl_fail(&s->err, KL_EAGAIN, "a split is under way: it begins in %" PRId64 " s",
                       (before[count - 1].valid_from_ms - now_ms) / 1000 + 1);
    if (everybody_has_room(c, wanted, &s->err) != KL_OK)
        return s->err.code;
    *next = tsp_placement_copy(c->table);
    s->valid_from_ms = now_ms + c->o.split_delay_ms;
    if (tsp_placement_split(*next, s->valid_from_ms, &s->err) != KL_OK) {
        tsp_placement_free(*next);
        return s->err.code;
    }
    s->partitions = wanted;
    return KL_OK;
}

static void begin(struct kl_env_task *task)
{
    struct dm_split       *s = kl_container_of(task, struct dm_split, task);
    struct dm_coordinator *c = s->c;
    struct tsp_placement  *next = NULL;

    s->code = c->table_out || c->split != NULL
            ? kl_fail(&s->err, KL_EAGAIN, "another change of the placement table is under way: try again")
            : decide(c, s, &next);
    if (s->code == KL_OK && !dm_coordinator_put(c, next))
        s->code = kl_fail(&s->err, KL_ELIMIT, "the placement table would not fit a key of the KV");
    if (s->code == KL_OK)
        c->split = s;
    else
        s->done(s);
}

void dm_coordinator_split(struct dm_coordinator *c, struct dm_split *s)
{
    s->c = c;
    s->task = (struct kl_env_task){ .run = begin };
    c->env->sched->post(c->loop, &s->task);
}

void dm_coordinator_split_put(struct dm_coordinator *c, const struct kl_bus_kv *op)
{
    struct dm_split *s = c->split;

    c->split = NULL;
    s->code = op->code;
    if (op->code == KL_EEXIST)
        s->code = kl_fail(&s->err, KL_EAGAIN, "the placement table changed meanwhile: try again");
    else if (op->code != KL_OK)
        s->err = op->err;
    else
        kl_logf(c->o.log, KL_INFO, "coordinator: the partitions are split: %" PRIu32 " from %" PRId64 " on",
                s->partitions, s->valid_from_ms);
    s->done(s);
}
