/* Who could go without being missed: what `koalemos cluster drain` and `leave` wait for. */
#include "doorman/coordinator_priv.h"

#include <stdio.h>
#include <string.h>

/* Whether a member goes on with the partition when others go. */
static bool carries(const struct dm_coordinator *c, const char *name, uint32_t partition)
{
    const struct tsp_node    *n = tsp_roster_node(c->roster, name, NULL);
    const struct tsp_holding *h = n == NULL ? NULL : tsp_node_holding(n, partition);

    return h != NULL && h->state == TSP_HOLDING_READY && tsp_roster_mark(c->roster, name) == TSP_MARK_NONE &&
           tsp_roster_presence(c->roster, name, kl_env_mono_ns(c->env)) == TSP_ALIVE;
}

static struct dm_standing *find(struct dm_standings *s, const char *name)
{
    for (unsigned i = 0; i < s->count; i++)
        if (strcmp(s->all[i].name, name) == 0)
            return &s->all[i];
    return NULL;                                       /* the table names one that has no key any more */
}

static void partition(const struct dm_coordinator *c, uint32_t p, struct dm_standings *s)
{
    const char *names[TSP_REPLICAS_MAX];
    unsigned    count = tsp_placement_members(c->table, p, names, TSP_REPLICAS_MAX);

    for (unsigned i = 0; i < count; i++) {
        struct dm_standing *one = find(s, names[i]);
        bool                other = false;

        if (one == NULL)
            continue;
        for (unsigned k = 0; k < count; k++)
            other = other || (k != i && carries(c, names[k], p));
        one->members++;
        one->alone += !other;
    }
}

static void look(struct kl_env_task *task)
{
    struct dm_standings         *s = kl_container_of(task, struct dm_standings, task);
    const struct dm_coordinator *c = s->c;
    struct tsp_present           all[TSP_NODES_MAX];
    int64_t                      now_ns = kl_env_mono_ns(c->env);

    s->complete = c->nodes_current && c->marks_current && c->table_current;
    s->count = tsp_roster_list(c->roster, all, now_ns);
    for (unsigned i = 0; i < s->count; i++) {
        s->all[i] = (struct dm_standing){ .presence = all[i].presence,
                                          .mark = tsp_roster_mark(c->roster, all[i].node->name),
                                          .runs = tsp_roster_runs(c->roster, all[i].node->name, now_ns) };
        snprintf(s->all[i].name, sizeof s->all[i].name, "%s", all[i].node->name);
    }
    for (uint32_t p = 0; c->table != NULL && p < tsp_placement_partitions(c->table); p++)
        partition(c, p, s);
    s->done(s);
}

void dm_coordinator_standings(struct dm_coordinator *c, struct dm_standings *s)
{
    s->c = c;
    s->task = (struct kl_env_task){ .run = look };
    c->env->sched->post(c->loop, &s->task);
}
