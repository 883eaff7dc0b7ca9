/*
 * Whose clock is wrong. Each heartbeat tells its sender's; a doorman whose own is far from that of most
 * ingestors would refuse good samples as too old or too new, for good, and says "later" in their place.
 *
 * What counts is who is heard now. An empty roster is no evidence: somebody may have deleted the keys, or we may
 * be cut off; so it neither makes a verdict nor ends one. A few of many are little: "right" wants most of those
 * that are known, unless nothing was known before and all that could be heard have been. A verdict is of the
 * clock as it ran then: one that was set since is another.
 */
#include "doorman/coordinator_priv.h"

#include <stdlib.h>

enum { CLOCKS_APART_MS = 5 * 60 * 1000 };

struct votes {
    int64_t  told_ms[TSP_NODES_MAX];                   /* what the clocks of those that are heard say now */
    unsigned count, apart;                             /* of these; far from ours */
    unsigned known;                                    /* ingestors that are not gone, heard or not */
    bool     silent_apart;                             /* one that is not heard told last what is far from ours */
};

static bool apart(int64_t a_ms, int64_t b_ms)
{
    int64_t d;

    return __builtin_sub_overflow(a_ms, b_ms, &d) || d > CLOCKS_APART_MS || d < -CLOCKS_APART_MS;
}

static void take_votes(const struct dm_coordinator *c, int64_t now_ms, int64_t now_ns, struct votes *v)
{
    struct tsp_present all[TSP_NODES_MAX];
    unsigned           count = tsp_roster_list(c->roster, all, now_ns);

    v->count = v->apart = v->known = 0;
    v->silent_apart = false;
    for (unsigned i = 0; i < count; i++) {
        const struct tsp_node *n = all[i].node;
        int64_t                told_ms;

        v->known += all[i].presence != TSP_GONE;
        if (all[i].presence != TSP_ALIVE) {
            v->silent_apart = v->silent_apart || (n->now_ms != 0 && apart(n->now_ms, now_ms));
        } else if (tsp_roster_clock(c->roster, n->name, now_ns, &told_ms)) {
            v->apart += apart(told_ms, now_ms);
            v->told_ms[v->count++] = told_ms;
        }
    }
}

/* By how much those who agree with each other and are most of all are ahead; 0: nobody is. One ingestor's word
 * is not enough, nor is half of them. All against all only where somebody disagrees with us: this is done for
 * each heartbeat that comes. */
static int64_t most_are_ahead(const struct votes *v, int64_t now_ms)
{
    int64_t  most_ms = now_ms;
    unsigned most = 0;

    for (unsigned i = 0; i < v->count && v->apart > 0; i++) {
        unsigned agree = 0;

        for (unsigned k = 0; k < v->count; k++)
            agree += !apart(v->told_ms[k], v->told_ms[i]);
        if (agree > most) {
            most = agree;
            most_ms = v->told_ms[i];
        }
    }
    return most >= 2 && 2 * most > v->count && apart(most_ms, now_ms) ? most_ms - now_ms : 0;
}

/* Does the roster hold whom the table names? It does not when keys were deleted. Without a table no push is taken
 * anyhow. */
static bool all_members_known(const struct dm_coordinator *c)
{
    if (!c->o.manage)
        return true;
    if (c->table == NULL)
        return false;
    for (uint32_t p = 0; p < tsp_placement_partitions(c->table); p++) {
        const char *names[TSP_REPLICAS_MAX];
        unsigned    count = tsp_placement_members(c->table, p, names, TSP_REPLICAS_MAX);

        for (unsigned k = 0; k < count; k++)
            if (tsp_roster_node(c->roster, names[k], NULL) == NULL)
                return false;
    }
    return true;
}

/* Nobody says that it is wrong. Is that enough to call it right, after `was`? */
static bool is_right(const struct dm_coordinator *c, const struct votes *v, int64_t was, int64_t now_ns)
{
    unsigned near = v->count - v->apart;
    bool     heard_all = c->nodes_current && tsp_roster_settled(c->roster, now_ns);

    if (v->count == 0)                                 /* ingestors of a static placement do not register */
        return !c->o.manage && was == DM_CLOCK_UNKNOWN && heard_all && !v->silent_apart;
    if (2 * near <= v->known && !(was == DM_CLOCK_UNKNOWN && heard_all && (near >= 2 || v->apart == 0)))
        return false;
    return c->nodes_current && all_members_known(c);
}

void dm_coordinator_clocks(struct dm_coordinator *c)
{
    struct votes v;
    int64_t      now_ms = kl_env_now_ms(c->env), now_ns = kl_env_mono_ns(c->env);
    int64_t      began_ms = now_ms - now_ns / 1000000, was = atomic_load(&c->clock_off_ms), ahead_ms;

    if (was == 0 && apart(began_ms, c->clock_began_ms)) {
        kl_logf(c->o.log, KL_WARN, "the clock of this doorman was set: it is compared with those of the ingestors "
                "again");
        atomic_store(&c->clock_off_ms, was = DM_CLOCK_UNKNOWN);
    }
    c->clock_began_ms = began_ms;
    take_votes(c, now_ms, now_ns, &v);
    c->clocks_apart = v.apart;
    ahead_ms = most_are_ahead(&v, now_ms);
    if (ahead_ms == 0 && (was == 0 || !is_right(c, &v, was, now_ns)))
        return;
    atomic_store(&c->clock_off_ms, ahead_ms);
    if (ahead_ms != 0 && (was == 0 || was == DM_CLOCK_UNKNOWN))
        kl_logf(c->o.log, KL_ERROR, "the clock of this doorman is %lld s off those of most ingestors: pushes "
                "are refused until it is right", (long long)-(ahead_ms / 1000));
    else if (ahead_ms == 0 && was != DM_CLOCK_UNKNOWN)
        kl_logf(c->o.log, KL_INFO, "the clock of this doorman is right again");
}

const _Atomic int64_t *dm_coordinator_clock_off(const struct dm_coordinator *c) { return &c->clock_off_ms; }
