#ifndef TSP_CENSUS_H
#define TSP_CENSUS_H
/*
 * How many series the largest metrics of a partition have, as its owner counted them: what a decision
 * to spread a metric rests on. In the KV under census.<pppp>, koalemos.Census; written by whoever
 * owns the partition while it holds a metric worth telling, deleted when it does not.
 *
 * Only series count that had a sample since `since_ms`, on the owner's clock: so what a metric left
 * behind in a partition when it was spread is no reason to spread it again.
 */
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"

#define TSP_CENSUS_PREFIX "census."
enum { TSP_CENSUS_METRICS_MAX = 256, TSP_CENSUS_VALUE_MAX = 60 * 1024 };

struct tsp_census_metric { struct kl_span tenant, metric; uint64_t series; };
struct tsp_census {
    uint32_t partition;
    int64_t  since_ms;
    uint32_t count;
    struct tsp_census_metric metrics[TSP_CENSUS_METRICS_MAX];
};

void         tsp_census_key(uint32_t partition, char *out, size_t size);
/* Metrics behind the last that fits TSP_CENSUS_VALUE_MAX are left out: put the largest first. */
enum kl_code tsp_census_encode(const struct tsp_census *c, struct kl_buf *out, struct kl_err *err);
/* Spans lie in `arena`. */
enum kl_code tsp_census_decode(struct kl_span bytes, struct kl_arena *arena, struct tsp_census *c,
                               struct kl_err *err);
#endif
