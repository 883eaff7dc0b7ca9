#ifndef DM_DELTAS_H
#define DM_DELTAS_H
/*
 * Deltas added up. What is stored is cumulative, as Prometheus' language wants it; a sender of delta
 * temporality tells only what came since its last report. A gate remembers, per series of that kind,
 * the sum so far, where it began and up to when it has been told; a histogram's buckets too.
 *
 *   - The first delta begins a sum: its value, from its own start on.
 *   - A later one, by time, is added. What a gap in between may have held is unknown, and no reset.
 *   - The same once more (same start, same time) is a retry: nothing is added, the sum is told again.
 *   - An older one comes too late: it would change sums that were already told.
 *   - A histogram of other bounds, or of another zero bucket, begins anew.
 *
 * What is remembered is lost with the process, and is not shared with other processes: the next delta
 * then begins a new sum with a new start, which rate() and its kin see as a counter's reset. All of a
 * tenant's deltas therefore go to one gate, and should go to one doorman.
 *
 * Bounded in bytes: beyond, series that told nothing for DM_DELTA_IDLE_S give way, and where there are
 * none, new ones are refused. One thread.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/hash.h"
#include "libtsproto/otlp.h"

enum { DM_DELTA_IDLE_S = 600 };
enum dm_delta { DM_DELTA_ADDED, DM_DELTA_AGAIN, DM_DELTA_OLD, DM_DELTA_NO_ROOM };

struct dm_deltas;
struct dm_deltas *dm_deltas_new(size_t bytes_max);
void   dm_deltas_free(struct dm_deltas *d);
size_t dm_deltas_count(const struct dm_deltas *d);
size_t dm_deltas_bytes(const struct dm_deltas *d);

/* Which delta of which series: the key must tell tenants and kinds apart. */
struct dm_delta_of { struct kl_fp key; uint64_t start_ns, time_ns; uint32_t now_s; };

/* In: what the delta says; out, where it was added or came again: the sum, and *start_ns its begin. */
enum dm_delta dm_deltas_number(struct dm_deltas *d, const struct dm_delta_of *of, double *value,
                               uint64_t *start_ns);
/* `counts` has bound_count + 1 places. */
enum dm_delta dm_deltas_hist(struct dm_deltas *d, const struct dm_delta_of *of, const double *bounds,
                             uint32_t bound_count, double *counts, double *count, double *sum,
                             uint64_t *start_ns);
/* Brings both to one scale, coarser while a side would have more than DM_DELTA_BUCKETS_MAX buckets.
 * Out: e's arrays are the sum's own, until the next call. */
enum { DM_DELTA_BUCKETS_MAX = 320 };
enum dm_delta dm_deltas_exp(struct dm_deltas *d, const struct dm_delta_of *of, struct tsp_otlp_exp *e,
                            uint64_t *start_ns);
#endif
