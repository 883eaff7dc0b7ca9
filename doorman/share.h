#ifndef DM_SHARE_H
#define DM_SHARE_H
/*
 * What the gates of a doorman share of a tenant: how fast it may send and how many series it has.
 * A share is found by name, once per tenant and gate; afterwards its numbers are atomics, and nobody
 * waits for anybody. Shares are never given back: DM_SHARES_MAX bounds them.
 *
 * The rate is a token bucket kept as one number, the time at which it would be full. A push is let
 * in while the bucket is not empty, and what it held is taken out once it has been read: so a push
 * need not be counted before it is read, and one larger than the burst still gets in, and is paid
 * for by waiting. Over time the rate holds exactly; at once, each gate may overdraw by one push.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/mem.h"

enum { DM_SHARES_MAX = 64 * 1024 };

struct dm_share {
    _Atomic int64_t full_at_ns;                        /* on the monotonic clock */
    _Atomic int64_t active;                            /* series, of all gates */
    _Atomic size_t  inflight_bytes;                    /* of pushes not yet answered */
    _Atomic int64_t elsewhere;                         /* series, as the other doormen told */
    int64_t adding;                                    /* scratch of dm_peers */
    size_t size; char name[];
};
struct dm_shares;

struct dm_shares *dm_shares_new(void);
void dm_shares_free(struct dm_shares *s);
/* Any thread; a new one if need be. Tenants past DM_SHARES_MAX have one in common. */
struct dm_share *dm_share_of(struct dm_shares *s, struct kl_span tenant, uint64_t hash);
/* Each of them, in any order; new ones may be missed. */
void dm_shares_each(struct dm_shares *s, void (*see)(void *ctx, struct dm_share *share), void *ctx);

/* How long until a push is let in; 0: now. `per_s` 0: no bound. Any thread. */
int64_t dm_rate_wait_ns(const struct dm_share *s, int64_t now_ns, double per_s, double burst);
void    dm_rate_spend(struct dm_share *s, int64_t now_ns, double per_s, uint64_t samples);
/* One series more, unless that is more than `most` here and elsewhere together; 0: no bound. */
bool    dm_active_take(struct dm_share *s, uint64_t most);
void    dm_active_give(struct dm_share *s, uint32_t count);
#endif
