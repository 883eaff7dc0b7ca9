#include "doorman/share.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS = 2 * DM_SHARES_MAX };
#define WAIT_MAX_NS (INT64_C(3600) * 1000000000)       /* of debt remembered: an hour's */

struct dm_shares {
    _Atomic uint32_t count;
    struct dm_share *beyond;                           /* of those past the bound */
    struct dm_share *_Atomic slots[SLOTS];             /* linear probing; only ever filled */
};

static struct dm_share *make(struct kl_span tenant)
{
    struct dm_share *x = kl_new(sizeof *x + tenant.size + 1);

    x->size = tenant.size;
    if (tenant.size > 0)
        memcpy(x->name, tenant.at, tenant.size);
    return x;
}

void dm_shares_free(struct dm_shares *s)
{
    if (s == NULL)
        return;
    free(s->beyond);
    for (uint32_t i = 0; i < SLOTS; i++)
        free(atomic_load_explicit(&s->slots[i], memory_order_relaxed));
    free(s);
}

struct dm_shares *dm_shares_new(void)
{
    struct dm_shares *s = kl_new(sizeof *s);

    s->beyond = make(kl_span("", 0));
    return s;
}

struct dm_share *dm_share_of(struct dm_shares *s, struct kl_span tenant, uint64_t hash)
{
    struct dm_share *mine = NULL, *x;
    uint32_t         i = (uint32_t)(hash % SLOTS);

    for (;; i = (i + 1) % SLOTS) {
        x = atomic_load_explicit(&s->slots[i], memory_order_acquire);
        if (x == NULL && mine == NULL) {
            if (atomic_fetch_add(&s->count, 1) >= DM_SHARES_MAX) {
                atomic_fetch_sub(&s->count, 1);
                return s->beyond;
            }
            mine = make(tenant);
        }
        /* Where another gate is faster, its name is looked at next. */
        if (x == NULL && atomic_compare_exchange_strong(&s->slots[i], &x, mine))
            return mine;
        if (kl_span_eq(kl_span(x->name, x->size), tenant))
            break;
    }
    if (mine != NULL) {
        atomic_fetch_sub(&s->count, 1);
        free(mine);
    }
    return x;
}

void dm_shares_each(struct dm_shares *s, void (*see)(void *ctx, struct dm_share *share), void *ctx)
{
    for (uint32_t i = 0; i < SLOTS; i++) {
        struct dm_share *x = atomic_load_explicit(&s->slots[i], memory_order_acquire);
        if (x != NULL)
            see(ctx, x);
    }
}

/* ---- the rate ---- */

int64_t dm_rate_wait_ns(const struct dm_share *s, int64_t now_ns, double per_s, double burst)
{
    double empty_ns;

    if (per_s <= 0)
        return 0;
    /* Empty, it is full again after this; it is empty now if it will be full only later. */
    empty_ns = burst / per_s * 1e9;
    if (empty_ns < 1)
        empty_ns = 1;
    empty_ns = (double)(atomic_load_explicit(&s->full_at_ns, memory_order_relaxed) - now_ns) - empty_ns;
    return empty_ns < 0 ? 0 : (int64_t)empty_ns + 1;
}

void dm_rate_spend(struct dm_share *s, int64_t now_ns, double per_s, uint64_t samples)
{
    int64_t full = atomic_load_explicit(&s->full_at_ns, memory_order_relaxed), next;
    double  more;

    if (per_s <= 0 || samples == 0)
        return;
    more = (double)samples / per_s * 1e9;
    do {
        next = full > now_ns ? full : now_ns;
        next = more > (double)(now_ns + WAIT_MAX_NS - next) ? now_ns + WAIT_MAX_NS
                                                            : next + (int64_t)more;
    } while (!atomic_compare_exchange_weak(&s->full_at_ns, &full, next));
}

/* ---- the series ---- */

bool dm_active_take(struct dm_share *s, uint64_t most)
{
    int64_t before = atomic_fetch_add_explicit(&s->active, 1, memory_order_relaxed);
    int64_t elsewhere = atomic_load_explicit(&s->elsewhere, memory_order_relaxed);

    if (most == 0 || (uint64_t)(before + elsewhere) < most)
        return true;
    atomic_fetch_sub_explicit(&s->active, 1, memory_order_relaxed);
    return false;
}

void dm_active_give(struct dm_share *s, uint32_t count)
{
    atomic_fetch_sub_explicit(&s->active, count, memory_order_relaxed);
}
