#ifndef DM_PEERS_H
#define DM_PEERS_H
/*
 * The doormen that live, for the limits that hold for all of them together.
 *
 *   KV  doorman.<incarnation of its first gate, 32 hex>
 *       version 1, beat (varint), and for each tenant with a bound on its series:
 *       name (varint length, bytes), active series here (varint)
 *
 * Each puts its key every heartbeat. One whose key stood still for three heartbeats, by the observer's
 * monotonic clock, lives no more; after ten minutes anybody deletes it. From what lives follow the
 * number by which rates are divided, and what of each tenant is active elsewhere: as old as a
 * heartbeat, so that much may pass the bound in a rush, and a series that is sent through two doormen
 * counts twice. Runs on the first gate's loop.
 */
#include "doorman/doorman.h"

struct dm_peers;
struct dm_peers *dm_peers_new(struct dm_doorman *d, struct kl_env_loop *loop, const char *who_hex);
void dm_peers_begin(struct dm_peers *p);               /* on the loop, as the next */
void dm_peers_end(struct dm_peers *p);
void dm_peers_free(struct dm_peers *p);                /* after the loop has ended */
#endif
