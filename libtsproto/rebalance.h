#ifndef TSP_REBALANCE_H
#define TSP_REBALANCE_H
/*
 * Which ingestors should have which partitions: a pure function of the table as it is and of the
 * nodes as they are, so that whoever is the coordinator comes to the same table, and a simulation too.
 *
 * Each partition should have `replicas` members in different zones (or, where there are too few
 * zones, at least on different nodes), the first of them its owner; every node members and owners by
 * its capacity. A member is moved only where that needs it: because its node is gone or drains, its
 * zone is doubled though another is free, or loads differ by more than one partition.
 *
 * A table is changed one safe step at a time; the next is taken when the nodes have said what became
 * of this one:
 *   1. who should join is added at the end of a partition's members; it loads and catches up (JOINING);
 *   2. when every member that should be there is READY, those that should not be there leave;
 *   3. the owner-to-be comes first once it is READY.
 * A member that is gone (silent past replica_timeout) leaves at once if another is READY or if the
 * partition would be without a live member: a newcomer then restores it from the store and the log.
 * A partition never loses its last READY member while that member is alive. At most
 * `joins_at_once` partitions have a member JOINING, so that a rebalance does not load all at once.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libtsproto/node.h"
#include "libtsproto/placement.h"

enum { TSP_NODES_MAX = TSP_MEMBERS_MAX };
enum tsp_presence { TSP_ALIVE, TSP_SILENT, TSP_GONE };   /* silent: past the TTL; gone: replica_timeout */
struct tsp_present { const struct tsp_node *node; enum tsp_presence presence; };
struct tsp_rebalance {
    unsigned replicas;                                 /* wanted: 1..TSP_REPLICAS_MAX - 1 */
    unsigned joins_at_once;                            /* 0: no bound */
};
struct tsp_rebalanced {
    unsigned joins, leaves, owners;                    /* members added, removed; owners changed */
    unsigned joining;                                  /* members that are there and not READY yet */
    unsigned short_of;                                 /* partitions with fewer than `replicas` alive */
    unsigned same_zone;                                /* partitions with two members in one zone */
    unsigned orphans;                                  /* partitions without any live member */
};
/* Changes `table` (not its revision). `nodes` in any order, each name once; members that no node
 * speaks of count as gone. KL_EINVAL: no node is alive and not draining: the table is left alone. */
enum kl_code tsp_rebalance_step(struct tsp_placement *table, const struct tsp_present *nodes,
                                unsigned count, const struct tsp_rebalance *want,
                                struct tsp_rebalanced *done, struct kl_err *err);
#endif
