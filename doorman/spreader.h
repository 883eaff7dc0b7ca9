#ifndef DM_SPREADER_H
#define DM_SPREADER_H
/*
 * The spreader: reads what the owners of partitions tell of their largest metrics (libtsproto/census.h)
 * and records a larger spread for one that outgrows a partition, by compare-and-set
 * (libtsproto/layout.h), to be gone by from a while later on, so that whoever reads has heard of it.
 *
 * Every doorman has one; none of them leads. One whose clock is wrong leaves it to the others: a spread that begins in
 * ten years would be the last of its metric until then. Who loses the race for a key sees the winner's spread and
 * has nothing left to do: a spread that is recorded is not outgrown before series are counted that came
 * after it began. A crash leaves a spread recorded, or not.
 */
#include "libkoal/base/log.h"
#include "libkoal/base/metrics.h"
#include "libkoal/bus/bus.h"
#include "libkoal/env/env.h"

struct dm_spreader_options {
    uint64_t series_max;                               /* of a metric in a partition; 0: spreads nothing */
    int64_t  delay_ms;                                 /* from recorded to in use */
    const _Atomic int64_t *clock_off_ms;               /* while not 0 it records nothing; may be NULL */
    struct kl_log *log;
    struct kl_metrics *metrics;                        /* may be NULL */
};
struct dm_spreader;
struct dm_spreader *dm_spreader_new(struct kl_env *env, struct kl_bus *bus,
                                    const struct dm_spreader_options *options);
void dm_spreader_free(struct dm_spreader *s);          /* after the bus is closed */
#endif
