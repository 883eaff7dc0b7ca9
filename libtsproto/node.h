#ifndef TSP_NODE_H
#define TSP_NODE_H
/*
 * Who is in the cluster and who holds what, in the KV; both are small protobuf messages (node.proto).
 *
 *   node.<name>    what an ingestor says of itself, put again with a higher beat every heartbeat
 *   lease.<name>   who may act for a partition (lease.0007), or be the coordinator (lease.coordinator)
 *
 * Nothing is decided by a comparison of clocks; what they tell (now_ms) serves to name one that is wrong.
 * A node is alive while an observer sees its beat change:
 * it is silent when the beat stood still for the TTL by the observer's own monotonic clock. A node
 * itself counts its lease from the moment at which it *sent* the last heartbeat that was taken, and
 * for three quarters of the TTL only: so it has stopped acting before anybody thinks it silent.
 *
 * A name belongs to the instance that wrote the key last. Another one may take it when the old one is
 * silent; or at once when it is of the same disk, since a data folder is locked by who uses it.
 *
 * A lease changes hands by compare-and-set with the next epoch, and never expires by itself: it is
 * void when its owner's node is silent, is another instance, or is gone. What a lease guards carries
 * the epoch (a cut in the log, the catalogue's pointer), so that one who slept through the loss of
 * its lease is refused there. A partition's lease needs no heartbeat of its own: the node's is it.
 * The coordinator may be no node: its lease's own beat is put again every heartbeat.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"
#include "libtsproto/placement.h"
#include "libtsproto/record.h"

#define TSP_NODE_PREFIX  "node."
#define TSP_LEASE_PREFIX "lease."
#define TSP_LEASE_COORDINATOR "lease.coordinator"
enum { TSP_ZONE_MAX = 63, TSP_ADDRESS_MAX = 255, TSP_VERSION_MAX = 63, TSP_CAPACITY_MAX = 1000000 };

enum tsp_node_state { TSP_NODE_UP, TSP_NODE_DRAINING };
/* JOINING: loads, replays, or lags; READY: has applied what the log held a heartbeat ago. */
enum tsp_holding_state { TSP_HOLDING_JOINING, TSP_HOLDING_READY, TSP_HOLDING_BROKEN };
struct tsp_holding {
    uint32_t partition;
    enum tsp_holding_state state;
    uint64_t applied, behind;                          /* log sequence; records not yet applied */
};
struct tsp_node {
    char     name[TSP_NAME_MAX + 1], zone[TSP_ZONE_MAX + 1], address[TSP_ADDRESS_MAX + 1];
    char     version[TSP_VERSION_MAX + 1];
    uint32_t capacity;                                 /* a weight; 100 by default */
    uint32_t partitions;                               /* for how many it has room; 0: it did not tell */
    struct tsp_incarnation instance, disk;             /* of this start; of its data folder */
    enum tsp_node_state state;
    uint64_t beat;
    int64_t  started_ms, now_ms;                       /* now: its clock at this beat; 0: it did not tell */
    uint32_t holding_count;
    struct tsp_holding *holdings;                      /* rising partitions; malloc'ed by decode */
};
void         tsp_node_deinit(struct tsp_node *n);      /* frees what decode took */
void         tsp_node_key(const char *name, char *key, size_t size);
/* "" is a zone: the one of those that name none. KL_EINVAL with words on an unfit name or zone. */
enum kl_code tsp_node_check(const struct tsp_node *n, struct kl_err *err);
enum kl_code tsp_node_encode(const struct tsp_node *n, struct kl_buf *out, struct kl_err *err);
enum kl_code tsp_node_decode(struct kl_span bytes, struct tsp_node *n, struct kl_err *err);
/* What a node says of a partition; NULL: nothing. */
const struct tsp_holding *tsp_node_holding(const struct tsp_node *n, uint32_t partition);

struct tsp_lease {
    char     owner[TSP_NAME_MAX + 1];                  /* "": given back, free for whoever is next */
    struct tsp_incarnation instance;
    uint64_t epoch, beat;
};
void         tsp_lease_key(uint32_t partition, char *key, size_t size);
enum kl_code tsp_lease_encode(const struct tsp_lease *l, struct kl_buf *out, struct kl_err *err);
enum kl_code tsp_lease_decode(struct kl_span bytes, struct tsp_lease *l, struct kl_err *err);
#endif
