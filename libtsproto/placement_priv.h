#ifndef TSP_PLACEMENT_PRIV_H
#define TSP_PLACEMENT_PRIV_H
/* Between placement.c and layout.c. */
#include "libtsproto/placement.h"

/* What decides where a metric begins, and what its spreads are found by. */
uint64_t tsp_placement_base(struct kl_span tenant, struct kl_span metric);
/* Adds all that are larger than what the table has, in any order; those it cannot hold are left out.
 * The array is sorted. */
void     tsp_placement_take_spreads(struct tsp_placement *p, const struct tsp_spread **all, size_t count);
#endif
