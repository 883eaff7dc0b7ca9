/*
 * Whose clock is wrong. Each heartbeat tells its sender's; a doorman whose own is far from that of most
 * ingestors would refuse good samples as too old or too new, for good, and says "later" in their place.
 */
#include "doorman/coordinator_priv.h"

#include <stdlib.h>

enum { CLOCKS_APART_MS = 5 * 60 * 1000 };

static bool apart(int64_t a_ms, int64_t b_ms)
{
    int64_t d;

    return __builtin_sub_overflow(a_ms, b_ms, &d) || d > CLOCKS_APART_MS || d < -CLOCKS_APART_MS;
}

void dm_coordinator_clocks(struct dm_coordinator *c)
{
    struct tsp_present all[TSP_NODES_MAX];
    int64_t  now_ms = kl_env_now_ms(c->env), most_ms = 0, was = atomic_load(&c->clock_off_ms);
    int64_t  now_ns = kl_env_mono_ns(c->env);
    unsigned count = tsp_roster_list(c->roster, all, now_ns), alive = 0, most = 0, far_before = 0;

    c->clocks_apart = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct tsp_node *n = all[i].node;

        if (n->now_ms == 0)
            continue;
        if (all[i].presence != TSP_ALIVE) {
            far_before += apart(n->now_ms, now_ms);
            continue;
        }
        alive++;
        c->clocks_apart += apart(n->now_ms, now_ms);
    }
    /* All against all only where somebody disagrees: this is done for each heartbeat that comes. */
    for (unsigned i = 0; i < count && c->clocks_apart > 0; i++) {
        const struct tsp_node *n = all[i].node;
        unsigned               agree = 0;

        if (all[i].presence != TSP_ALIVE || n->now_ms == 0)
            continue;
        for (unsigned k = 0; k < count; k++)
            agree += all[k].presence == TSP_ALIVE && all[k].node->now_ms != 0 &&
                     !apart(all[k].node->now_ms, n->now_ms);
        if (agree > most) {
            most = agree;
            most_ms = n->now_ms;
        }
    }
    /* One ingestor's word is not enough, nor is half of them. */
    most_ms = most >= 2 && 2 * most > alive && apart(most_ms, now_ms) ? most_ms - now_ms : 0;
    /* Neither is it right because those who said otherwise are silent now, or were when we came: what they
     * told last may be long ago, or we may be wrong and cut off since. */
    if (most_ms == 0 && alive - c->clocks_apart < 2 &&
        (c->clocks_apart > 0 || (alive == 0 && (was != DM_CLOCK_UNKNOWN || far_before > 0)) ||
         !c->nodes_current || !tsp_roster_settled(c->roster, now_ns)))
        return;
    atomic_store(&c->clock_off_ms, most_ms);
    if (most_ms != 0 && (was == 0 || was == DM_CLOCK_UNKNOWN))
        kl_logf(c->o.log, KL_ERROR, "the clock of this doorman is %lld s off those of most ingestors: pushes "
                "are refused until it is right", (long long)-(most_ms / 1000));
    else if (most_ms == 0 && was != 0 && was != DM_CLOCK_UNKNOWN)
        kl_logf(c->o.log, KL_INFO, "the clock of this doorman is right again");
}

const _Atomic int64_t *dm_coordinator_clock_off(const struct dm_coordinator *c) { return &c->clock_off_ms; }
