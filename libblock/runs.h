#ifndef BLK_RUNS_H
#define BLK_RUNS_H
/*
 * The samples of one series as its chunks have them, put in order of time. Chunks are added in their order of
 * precedence (blocks by rising log position, then the live head); of two samples with one timestamp that of
 * the later one stays. Each maximal stretch in order is a run; runs are merged two by two.
 *
 * Plain memory of one thread. `times` are the caller's, and so are the two arrays of indices, with room for all.
 */
#include <stddef.h>
#include <stdint.h>

struct blk_run { uint32_t from, to; };
struct blk_runs { struct blk_run *at; size_t count, room; };            /* begins as {0}; free(at) ends it */

/* times[from..to) ascend strictly, and stand behind all that was added before. */
void     blk_runs_add(struct blk_runs *r, const int64_t *times, uint32_t from, uint32_t to);
/* All that was added, `total` samples: their indices by time, in *index; says how many stay. May exchange the
 * two arrays. The runs are gone then. */
uint32_t blk_runs_merge(struct blk_runs *r, const int64_t *times, uint32_t total, uint32_t **index, uint32_t **other);
#endif
