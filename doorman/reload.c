/*
 * Policies are made on a loop of their own, since rules are compiled and tenants may be many, and lie
 * in a box. A gate compares one number before each push, and goes by the new ones from there on: a push
 * is read under one policy from its beginning to its end.
 */
#include "doorman/dm_priv.h"

#include <stddef.h>

static void put(struct dm_doorman *d, const struct kl_config *c)
{
    struct dm_limits    limits;
    struct dm_policies *p;

    dm_limits_read(c, &limits);
    p = dm_policies_new(c, &limits);
    atomic_store(&d->body_max, (size_t)dm_policies_body_max(p));
    kl_env_box_set(d->policies, dm_policies_held(p));
    atomic_fetch_add(&d->policies_turn, 1);
}

static void on_change(struct kl_env_listener *l)
{
    struct dm_doorman *d = kl_container_of(l, struct dm_doorman, listener);
    uint64_t           turn = kl_env_live_turn(d->options.live);
    struct kl_config  *c;

    if (turn == d->live_turn)
        return;
    d->live_turn = turn;                               /* what is got next is at least as new */
    c = kl_env_live_get(d->options.live);
    put(d, c);
    kl_config_free(c);
}

void dm_reload_begin(struct dm_doorman *d)
{
    struct kl_env_sched *sched = d->env->sched;
    struct dm_policies  *p;

    atomic_init(&d->policies_turn, 1);
    d->policies = kl_env_box_new(NULL);
    if (d->options.live == NULL) {
        p = dm_policies_new(d->options.config, &d->options.limits);
        atomic_init(&d->body_max, (size_t)dm_policies_body_max(p));
        kl_env_box_set(d->policies, dm_policies_held(p));
        return;
    }
    d->listener = (struct kl_env_listener){ .sched = sched, .changed = on_change };
    d->listener.loop = sched->loop_new(sched, "policies", 1);
    on_change(&d->listener);                           /* on this thread, before there is another */
    kl_env_live_listen(d->options.live, &d->listener);
}

void dm_reload_end(struct dm_doorman *d)
{
    if (d->listener.loop != NULL) {
        kl_env_live_unlisten(d->options.live, &d->listener);
        d->env->sched->loop_free(d->listener.loop);
    }
    kl_env_box_free(d->policies);
}

struct dm_policies *dm_policies_look(const struct dm_doorman *d)
{
    return dm_policies_of_held(kl_env_box_get(d->policies));
}

struct dm_limits dm_limits_of(const struct dm_doorman *d, struct kl_span tenant)
{
    struct dm_policies *p = dm_policies_look(d);
    struct dm_limits    l = dm_policy_of(p, tenant)->limits;

    dm_policies_free(p);
    return l;
}

const _Atomic size_t *dm_body_max(const struct dm_doorman *d) { return &d->body_max; }

/* False: there is no number left for it. */
static bool take_tenant(struct dm_gate *g, struct dm_tenant *t, struct dm_policies *next)
{
    const struct dm_policy *p = dm_policy_of(next, kl_span(t->name, t->size));

    if (dm_policy_reads_alike(t->policy, p)) {
        t->policy = p;
        return true;
    }
    if (!dm_tenants_renew(g->tenants, t))
        return false;
    dm_active_retire(g, t);
    return true;
}

void dm_policies_take(struct dm_gate *g)
{
    uint64_t            turn = atomic_load_explicit(&g->doorman->policies_turn, memory_order_acquire);
    struct dm_policies *next;
    struct dm_tenant   *t;
    bool                room = true;

    if (turn == g->policies_turn)
        return;
    next = dm_policies_look(g->doorman);               /* at least as new as the turn */
    for (uint32_t i = 0; room && (t = dm_tenants_at(g->tenants, i)) != NULL; i++)
        if (t->policy != NULL && !t->retired)
            room = take_tenant(g, t, next);
    if (!room) {                                       /* as where new tenants come: rare, and only dear */
        dm_table_reset(g->table);
        dm_tenants_reset(g->tenants);
    }
    dm_policies_free(g->policies);
    g->policies = next;
    g->policies_turn = turn;
}
