/* The cell for people: what `koalemos cluster status` prints. */
#include "doorman/coordinator_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const presences[] = { "alive", "silent", "gone" };

static void nodes(const struct dm_coordinator *c, struct kl_buf *b)
{
    struct tsp_present all[TSP_NODES_MAX];
    unsigned           count = tsp_roster_list(c->roster, all, kl_env_mono_ns(c->env));

    kl_buf_addf(b, "%-24s %-10s %8s  %-8s %-9s %10s %5s %10s  %s\n", "NODE", "ZONE", "CAPACITY",
                "PRESENCE", "STATE", "PARTITIONS", "OWNS", "BEHIND", "ADDRESS");
    for (unsigned i = 0; i < count; i++) {
        const struct tsp_node *n = all[i].node;
        enum tsp_mark          mark = tsp_roster_mark(c->roster, n->name);
        uint64_t               behind = 0;
        unsigned               owns = 0;

        for (uint32_t k = 0; k < n->holding_count; k++)
            behind += n->holdings[k].behind;
        for (uint32_t p = 0; p < c->held_count; p++)
            owns += c->held[p].there && strcmp(c->held[p].lease.owner, n->name) == 0 && dm_coordinator_owned(c, p);
        kl_buf_addf(b, "%-24s %-10s %8" PRIu32 "  %-8s %-9s %10" PRIu32 " %5u %10" PRIu64 "  %s\n", n->name,
                    n->zone[0] == '\0' ? "-" : n->zone, n->capacity, presences[all[i].presence],
                    mark == TSP_MARK_REMOVED ? "removed" : mark == TSP_MARK_LEAVING ? "leaving" : n->state == TSP_NODE_UP ? "up" : "draining",
                    n->holding_count, owns, behind, n->address);
    }
    for (unsigned i = 0; i < count; i++)
        if (tsp_roster_mark(c->roster, all[i].node->name) == TSP_MARK_REMOVED &&
            tsp_roster_runs(c->roster, all[i].node->name, kl_env_mono_ns(c->env)))
            kl_buf_addf(b, "%s was removed and still runs: stop it, and its keys are deleted\n", all[i].node->name);
    if (count == 0)
        kl_buf_adds(b, "(none: no ingestor has registered)\n");
}

static void member(const struct dm_coordinator *c, uint32_t partition, const char *name,
                   struct kl_buf *b)
{
    static const char *const states[] = { "joining", "ready", "broken" };
    const struct tsp_node    *n = tsp_roster_node(c->roster, name, NULL);
    const struct tsp_holding *h = n == NULL ? NULL : tsp_node_holding(n, partition);
    enum tsp_presence         presence = tsp_roster_presence(c->roster, name, kl_env_mono_ns(c->env));

    kl_buf_addf(b, "  %s (%s", name, presence != TSP_ALIVE ? presences[presence]
                                      : h == NULL ? "joining" : states[h->state]);
    if (h != NULL && h->behind > 0)
        kl_buf_addf(b, ", %" PRIu64 " behind", h->behind);
    kl_buf_adds(b, ")");
}

static void partitions(const struct dm_coordinator *c, struct kl_buf *b)
{
    kl_buf_addf(b, "\n%-9s %-24s %6s  %s\n", "PARTITION", "OWNER", "EPOCH", "MEMBERS");
    for (uint32_t p = 0; p < tsp_placement_partitions(c->table); p++) {
        const char *names[TSP_REPLICAS_MAX];
        unsigned    count = tsp_placement_members(c->table, p, names, TSP_REPLICAS_MAX);
        bool        held = p < c->held_count && c->held[p].there;

        kl_buf_addf(b, "%-9" PRIu32 " %-24s %6" PRIu64 "  ", p, dm_coordinator_owned(c, p) ? c->held[p].lease.owner : "-",
                    held ? c->held[p].lease.epoch : 0);
        for (unsigned k = 0; k < count; k++)
            member(c, p, names[k], b);
        kl_buf_adds(b, count == 0 ? "  nobody\n" : "\n");
    }
}

static void text(struct kl_env_task *task)
{
    struct dm_cluster_text      *t = kl_container_of(task, struct dm_cluster_text, task);
    const struct dm_coordinator *c = t->c;
    struct kl_buf               *b = &t->out;

    t->complete = c->nodes_current && c->marks_current && c->table_current && c->leases_current && c->digests_current;
    kl_buf_addf(b, "coordinator: %s\n", c->lease_there ? c->lease.owner : "none yet");
    if (c->table != NULL)
        kl_buf_addf(b, "placement:   revision %" PRIu64 ", %" PRIu32 " partitions\n\n",
                    tsp_placement_revision(c->table), tsp_placement_partitions(c->table));
    else
        kl_buf_adds(b, "placement:   no table yet\n\n");
    nodes(c, b);
    if (c->table != NULL)
        partitions(c, b);
    dm_coordinator_differ_text(c, b);
    t->done(t);
}

void dm_coordinator_text(struct dm_coordinator *c, struct dm_cluster_text *t)
{
    t->c = c;
    t->task = (struct kl_env_task){ .run = text };
    c->env->sched->post(c->loop, &t->task);
}
