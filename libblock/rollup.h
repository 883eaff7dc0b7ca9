#ifndef BLK_ROLLUP_H
#define BLK_ROLLUP_H
/*
 * Rollups: of each series one row for every bucket of `resolution_ms` that has samples. A bucket is
 * (k * resolution, (k + 1) * resolution], open on the left as ranges of PromQL are, since 1970; a row's
 * time is that of its last sample, so rows of neighbouring filesets never share one.
 *
 *   count, sum, min, max, first, last     of the bucket's floats; stale markers are no samples
 *   resets       what a counter lost in the bucket: each value that a lower one followed, or that one followed
 *                whose start time says that the counter began anew, added up
 *   since_ms     from the first sample to the last
 *   begun_ms     the start time of the first sample: SAME as that of the last, which is the row's, NONE or a time
 *
 * A row is kept as a histogram of a schema that no histogram has (FORMAT.md): the columns of buckets
 * over time are what it needs, and all that reads, checks and merges chunks knows them.
 *
 * What is exact. Over times that are multiples of the resolution, of a range that is one:
 *   min_over_time, max_over_time, last_over_time, first_over_time, present_over_time, count_over_time
 * give bit for bit what the samples give: the fold over a bucket, and then over buckets, takes the same
 * sample; counts are integers. sum_over_time adds in another order, so it may differ in the last digits; so do rate
 * and increase, where a counter was reset more than once in a bucket. Of start times rows have all that these two
 * go by; only that two overlap is not told of what lies inside of one row.
 *
 * A series that has histograms in the window is kept as it is, sample by sample.
 */
#include "libblock/fileset.h"

enum { BLK_ROLLUP_SCHEMA = 100, BLK_ROLLUPS_MAX = 2 };
static const int64_t blk_rollup_ms[BLK_ROLLUPS_MAX] = { 300000, 3600000 };

enum { BLK_ROW_BEGUN_SAME = 0, BLK_ROW_BEGUN_NONE = -1 };
struct blk_row { double count, sum, min, max, first, last, resets, since_ms, begun_ms; };
/* The start time of a row's first sample, where the last has that one; 0: unknown. */
int64_t blk_row_begun(const struct blk_row *row, int64_t last_start_ms);
/* False: it is a histogram. */
bool blk_row_get(const struct kl_hist *h, struct blk_row *row);

/* One thread. */
struct blk_roll;
struct blk_roll *blk_roll_new(int64_t resolution_ms);
void             blk_roll_free(struct blk_roll *r);
/* Rows of a series, from its chunks in time order; `out` is the roll's, or `chunks`, until the next call. */
enum kl_code     blk_roll_series(struct blk_roll *r, const struct blk_chunk_ref *chunks, uint32_t count,
                                 const struct blk_chunk_ref **out, uint32_t *out_count,
                                 struct kl_err *err);
/* The end of the bucket that has time_ms. */
int64_t          blk_bucket_end(int64_t time_ms, int64_t resolution_ms);
#endif
