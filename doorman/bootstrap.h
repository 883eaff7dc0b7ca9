#ifndef DM_BOOTSTRAP_H
#define DM_BOOTSTRAP_H
/*
 * Makes the placement table say what the configuration says: which ingestor has which partitions.
 * Reads it from the KV, and where it is absent or assigns otherwise writes it by compare-and-set,
 * again and again while the bus is out of reach or another doorman was quicker. Spreads that the
 * table remembers are kept. Runs on a loop of its own, until it has succeeded or is freed.
 *
 * `assign` is "ingestor-0=0-7,ingestor-1=8-15"; NULL or empty: all to ingestor-0. Every partition
 * must be named exactly once.
 */
#include "libkoal/base/log.h"
#include "libkoal/bus/bus.h"
#include "libtsproto/placement.h"

/* The table that `assign` describes. KL_EINVAL with words that name the part that is wrong. */
enum kl_code dm_placement_parse(const char *assign, uint32_t partitions, struct tsp_placement **p,
                                struct kl_err *err);

struct dm_bootstrap;
/* Takes `wanted`. */
struct dm_bootstrap *dm_bootstrap_new(struct kl_env *env, struct kl_bus *bus,
                                      struct tsp_placement *wanted_take, struct kl_log *log);
/* After the bus is closed: a call under way has come back by then. */
void dm_bootstrap_free(struct dm_bootstrap *b);
#endif
