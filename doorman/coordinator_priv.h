#ifndef DM_COORDINATOR_PRIV_H
#define DM_COORDINATOR_PRIV_H
/* What coordinator.c keeps and coordinator_http.c shows. On the coordinator's loop only. */
#include <stdatomic.h>

#include "doorman/coordinator.h"
#include "libtsproto/digest.h"
#include "libtsproto/layout.h"

struct dm_held {                                       /* a partition's lease as last seen */
    bool there;
    struct tsp_lease lease;
};
struct dm_key { char *key; uint64_t revision; int64_t since_ns; };      /* since: it is as it is */
struct dm_keys {                                       /* what others wrote that is of one node, by key */
    struct dm_key *all; size_t count, room;
    bool disks_current, repairs_current, out, said;
    struct kl_bus_watch disk_watch, repair_watch;
    struct kl_bus_kv    op;
};
struct dm_coordinator {
    struct kl_env *env;
    struct kl_bus *bus;
    struct kl_env_loop *loop;
    struct dm_coordinator_options o;
    struct tsp_incarnation who;

    struct tsp_roster    *roster;
    struct tsp_placement *table;                       /* NULL: none, or not seen yet */
    struct tsp_layout    *layout;                      /* the same with the spreads, for who asks */
    uint64_t  table_revision;                          /* of its key; 0: the key is absent */
    struct tsp_digests   *digests;                     /* what members tell of their cuts */
    bool      nodes_current, marks_current, table_current, leases_current, digests_current;
    struct dm_held *held; uint32_t held_count;         /* one a partition of the table */

    bool      lease_there, mine;
    struct tsp_lease lease;                            /* the coordinator's, as last seen */
    uint64_t  lease_revision;
    int64_t   lease_moved_ns;                          /* when its beat was seen to change */
    int64_t   mine_until_ns;                           /* acting ends here unless renewed */
    int64_t   lease_sent_ns;
    bool      lease_out, table_out;                    /* operations under way */
    bool      said_unreadable, said_partitions;
    char      said[300];                               /* the last complaint, so as not to repeat it */
    struct tsp_rebalanced last;                        /* what the last look at the table found */

    _Atomic int64_t clock_off_ms;
    int64_t         clock_began_ms;                    /* what it said at monotonic 0, at the last look */
    unsigned        clocks_apart;                      /* ingestors whose clock is far from ours */

    struct dm_keys keys;
    struct kl_bus_watch node_watch, mark_watch, lease_watch, table_watch, digest_watch;
    struct kl_bus_kv  lease_op, table_op;
    struct kl_buf     lease_bytes, table_bytes;
    struct tsp_placement *next;                        /* the table that is being put */
    struct dm_split      *split;                       /* whose table that is, or NULL */
    struct kl_env_task  begin, end;
    struct kl_env_timer tick;
    struct {
        struct kl_metric *alive, *silent, *gone, *joining, *short_of, *same_zone, *orphans, *acting,
                         *revision, *joins, *leaves, *owners, *forgotten;
    } m;
};

/* Whether the partition's lease is of a start of a node that lives. */
bool dm_coordinator_owned(const struct dm_coordinator *c, uint32_t partition);
/* Its lease is good right now: it may act. */
bool dm_coordinator_acts(const struct dm_coordinator *c);
/* Puts `table` in place of the one that is there, by compare-and-set; takes it. False: one is under
 * way already. */
bool dm_coordinator_put(struct dm_coordinator *c, struct tsp_placement *table_take);
/* coordinator_differ.c: cuts that members sealed differently; the JSON is a field of an object. */
void     dm_coordinator_differ_watch(struct dm_coordinator *c);
uint32_t dm_coordinator_differ_count(const struct dm_coordinator *c);
void     dm_coordinator_differ_json(const struct dm_coordinator *c, struct kl_buf *b);
void     dm_coordinator_differ_text(const struct dm_coordinator *c, struct kl_buf *b);
/* coordinator_keys.c: what nodes leave behind that are no more. On the coordinator's loop. */
void dm_coordinator_keys_watch(struct dm_coordinator *c);
void dm_coordinator_keys_unwatch(struct dm_coordinator *c);
void dm_coordinator_keys_free(struct dm_coordinator *c);
void dm_coordinator_keys_see(struct dm_coordinator *c, const char *key, struct kl_span value, uint64_t revision);
void dm_coordinator_keys_tick(struct dm_coordinator *c);
/* coordinator_clock.c: a look at the clocks that heartbeats told. */
void dm_coordinator_clocks(struct dm_coordinator *c);
/* coordinator_split.c: the put of its table has come back. */
void dm_coordinator_split_put(struct dm_coordinator *c, const struct kl_bus_kv *op);
#endif
