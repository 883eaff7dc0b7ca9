#ifndef ING_MEMBER_H
#define ING_MEMBER_H
/*
 * An ingestor as a member of its cell (libtsproto/node.h): it claims its name in the KV, beats, says what
 * it holds, and takes and gives back the leases of partitions.
 *
 * Who should own a partition follows from the placement table: the first of its members that is alive and
 * READY. One that has a lease and is not that any more gives it back; the one that should takes it when it
 * was given back or its owner is void. So two never think themselves owner for long, and never both with
 * the highest epoch; what a lease guards carries the epoch and is refused where a higher one was seen.
 *
 * While the KV is out of reach nothing changes hands: three quarters of the bound after the last heartbeat
 * that it took, this member owns nothing until it takes one again; it goes on applying and answering.
 *
 * Everything runs on one loop of its own. ing_member_epoch, ing_member_owner and ing_member_ready: any thread.
 */
#include "libkoal/base/log.h"
#include "libkoal/base/metrics.h"
#include "libkoal/bus/bus.h"
#include "libkoal/env/env.h"
#include "libtsproto/roster.h"

struct ing_member_options {
    const char *name, *zone, *address, *version;       /* as in node.h; "" where there is none */
    uint32_t    capacity, partitions;
    struct tsp_incarnation instance, disk;
    int64_t     heartbeat_ms, silent_ms, gone_ms;
    /* What it holds now, rising partitions; `out` has room for all. On the member's loop. */
    uint32_t  (*holdings)(void *ctx, struct tsp_holding *out);
    /* The highest epoch that the partition's log or catalogue has shown. May be NULL. */
    uint64_t  (*epoch_seen)(void *ctx, uint32_t partition);
    /* Its lease of a partition came (epoch > 0) or went (0). On the member's loop. May be NULL. */
    void      (*changed)(void *ctx, uint32_t partition, uint64_t epoch);
    void       *ctx;
    struct kl_log *log;
    struct kl_metrics *metrics;                        /* may be NULL */
};
struct ing_member;
/* KL_EINVAL with words: a name or zone that cannot be one. */
enum kl_code ing_member_new(struct kl_env *env, struct kl_bus *bus,
                            const struct ing_member_options *options, struct ing_member **m,
                            struct kl_err *err);
/* Says that it holds nothing any more and gives back its leases, so that the next owners need not wait
 * for its silence; then `done`, on the member's loop. Not waited for when the KV is out of reach: whoever
 * waits for `done` bounds that. Any thread, once. */
void     ing_member_leave(struct ing_member *m, void (*done)(void *ctx), void *ctx);
/* After the bus is closed: nothing of it runs any more, and what it is asked it answers as it knows it. */
void     ing_member_end(struct ing_member *m);
void     ing_member_free(struct ing_member *m);        /* ends it before, where that was not done */
/* The epoch under which this member owns the partition right now; 0: it does not. */
uint64_t ing_member_epoch(const struct ing_member *m, uint32_t partition);
/* The hash (kl_hash64) of the name of who owns the partition: another member, alive and ready, as of the last
 * tick; 0: none, or nobody knows. */
uint64_t ing_member_owner(const struct ing_member *m, uint32_t partition);
/* On the member's loop: is any other member of the partition alive and ready? */
bool     ing_member_other_ready(struct ing_member *m, uint32_t partition);
/* False with words: the name is another's, the KV was not reached, or an operator removed it. */
bool     ing_member_ready(const struct ing_member *m, struct kl_err *err);
#endif
