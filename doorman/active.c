/* Series by whether they were sent lately: counted per tenant, in periods, and bounded. */
#include "doorman/dm_priv.h"

enum { LOOK_MS = 60000 };

static void give(struct dm_gate *g, struct dm_tenant *t, uint32_t count)
{
    dm_active_give(t->share, count);
    g->active -= count;
}

static void roll(struct dm_gate *g, struct dm_tenant *t)
{
    if (t->period == g->period)
        return;
    give(g, t, t->active[1]);
    t->active[1] = t->active[0];
    t->active[0] = 0;
    if ((uint16_t)(g->period - t->period) > 1) {
        give(g, t, t->active[1]);
        t->active[1] = 0;
    }
    t->period = g->period;
}

void dm_active_tenant(struct dm_gate *g, struct dm_tenant *t)
{
    if (t->policy == NULL) {
        t->policy = dm_policy_of(g->policies, kl_span(t->name, t->size));
        t->share = dm_share_of(g->doorman->shares, kl_span(t->name, t->size), t->hash);
        t->period = g->period;
    }
    roll(g, t);
}

bool dm_active_touch(struct dm_gate *g, struct dm_tenant *t, struct dm_row *row)
{
    if (row != NULL && row->active == g->period)
        return true;
    if (row != NULL && row->active != 0 && row->active == (uint16_t)(g->period - 1)) {
        t->active[1]--;
    } else {
        if (!dm_active_take(t->share, t->policy->limits.series_max))
            return false;
        g->active++;
    }
    t->active[0]++;
    if (row != NULL)
        row->active = g->period;
    return true;
}

void dm_active_retire(struct dm_gate *g, struct dm_tenant *t)
{
    give(g, t, t->active[0] + t->active[1]);
    t->active[0] = t->active[1] = 0;
}

/* A row gives way: its series is counted no more. */
static void gone(void *ctx, const struct dm_row *row)
{
    struct dm_gate   *g = ctx;
    struct dm_tenant *t = dm_tenants_at(g->tenants, row->tenant);

    if (t == NULL || t->retired || row->active == 0)
        return;
    if (row->active == t->period)
        t->active[0]--;
    else if (row->active == (uint16_t)(t->period - 1))
        t->active[1]--;
    else
        return;
    give(g, t, 1);
}

/* A tenant that has gone to another gate or doorman is forgotten here, though it sends nothing. */
static void on_minute(struct kl_env_timer *timer)
{
    struct dm_gate   *g = kl_container_of(timer, struct dm_gate, minute);
    struct dm_tenant *t;

    g->period = (uint16_t)((kl_env_mono_ns(g->env) - g->born_ns) / 1000000000 / DM_ACTIVE_S + 1);
    for (uint32_t i = 0; (t = dm_tenants_at(g->tenants, i)) != NULL; i++)
        if (t->share != NULL)
            roll(g, t);
    kl_gauge_set(g->active_gauge, (double)g->active);
    g->env->sched->arm(g->loop, &g->minute, LOOK_MS);
}

void dm_active_watch(struct dm_gate *g)
{
    g->period = 1;
    dm_table_watch(g->table, gone, g);
}

void dm_active_begin(struct dm_gate *g)
{
    g->minute.fire = on_minute;
    g->env->sched->arm(g->loop, &g->minute, LOOK_MS);
}

void dm_active_end(struct dm_gate *g) { g->env->sched->disarm(g->loop, &g->minute); }
