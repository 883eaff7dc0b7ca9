#ifndef DM_HA_H
#define DM_HA_H
/*
 * Pairs of senders that scrape the same: series of one cluster label and two replica labels. Of each
 * (tenant, cluster) one replica is the leader; only its samples are taken, without the replica label.
 *
 *   KV  ha.<tenant>.<hash of the cluster's name, 32 hex>
 *       where the tenant's name begins or ends with a dot, or has two in a row, each of its dots is a '='
 *       version 1, cluster, replica (both: varint length, bytes), wall time (zigzag ms, for people)
 *
 * The key is written by compare-and-set alone, so that two doormen never elect two. Each gate watches
 * the keys and goes by what it has seen:
 *  - the leader's key is put again when it sends and the key is a third of `failover` old; beside the
 *    pushes. Of a key older than `failover` no push is taken before it was put.
 *  - another replica is elected when the key stood still for four thirds of `failover`: so not before
 *    the leader has sent nothing for `failover`, and a third of it later at the latest.
 *  - a push that finds no leader, or one that has to be put first, waits for that in its gate.
 * Nobody's clock is compared with another's: a gate counts by its own monotonic clock, from the moment
 * at which it sent the put that was taken, or at which it saw the key change.
 * A tenant's clusters are bounded; one that was silent for an hour makes room for a new one.
 *
 * Everything here runs on the gate's loop.
 */
#include <stdbool.h>
#include <stdint.h>

#include "doorman/policy.h"

enum { DM_HA_NAME_MAX = 1024 };                        /* bytes of a cluster's or replica's name */
enum { DM_HA_WAITS_MAX = 5 };                          /* of one push; then 503 */

struct dm_gate;
struct dm_ticket;
struct dm_ha_cluster;
enum dm_ha_verdict { DM_HA_TAKE, DM_HA_PASS_OVER, DM_HA_WAIT, DM_HA_TOO_MANY };

/* What a push has found of the pair that it comes from. */
struct dm_ha_pair { uint16_t tag; enum dm_ha_verdict verdict; };    /* tag 0: nothing yet */

struct dm_ha;
struct dm_ha *dm_ha_new(struct dm_gate *g);
void dm_ha_free(struct dm_ha *ha);                     /* after the loop has ended */
void dm_ha_begin(struct dm_ha *ha);                    /* on the loop: watches the keys */
void dm_ha_end(struct dm_ha *ha);
bool dm_ha_known(const struct dm_ha *ha);              /* has it seen all keys there were? Any thread */
/* Whether samples of this pair are taken. WAIT: `on` is what for; dm_ha_wait. */
enum dm_ha_verdict dm_ha_judge(struct dm_ha *ha, const struct dm_policy *policy, struct kl_span tenant,
                               struct kl_span cluster, struct kl_span replica,
                               struct dm_ha_cluster **on);
/* The push is read again (dm_gate_reread) when it is known, or fails (dm_gate_finish). */
void dm_ha_wait(struct dm_ha_cluster *on, struct dm_ticket *t);
#endif
