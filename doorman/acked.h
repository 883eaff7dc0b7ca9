#ifndef DM_ACKED_H
#define DM_ACKED_H
/*
 * What the log has of pushes that failed: for two minutes, by what was sent, which partitions had acked
 * all of a push's samples for them when the rest of it failed. When its sender comes again with the same
 * bytes, only the others are written. Forgetting one is harmless: equal samples are no news.
 *
 * Bounded: DM_ACKED_MAX pushes, the oldest of a few give way. One thread.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libkoal/base/hash.h"

enum { DM_ACKED_MAX = 1024, DM_ACKED_S = 120 };

struct dm_acked;
struct dm_acked *dm_acked_new(void);
void dm_acked_free(struct dm_acked *a);
/* A bit a partition, `words` of them; false: nothing is known, `bits` is left alone. */
bool dm_acked_find(struct dm_acked *a, struct kl_fp key, uint32_t now_s, uint64_t *bits, size_t words);
void dm_acked_put(struct dm_acked *a, struct kl_fp key, uint32_t now_s, const uint64_t *bits, size_t words);
void dm_acked_drop(struct dm_acked *a, struct kl_fp key);
void dm_acked_clear(struct dm_acked *a);               /* what was acked may be gone from the log */
#endif
