#ifndef ING_COLUMNS_H
#define ING_COLUMNS_H
/*
 * Pages of series (libtsproto/select.h) as columns for the language, read by who rendered them: what a
 * querier would make of them, sample by sample. Floats only. All that is kept lies in an arena of the
 * query and is within its budget, also where several of these fill one query. One thread at a time.
 */
#include "libblock/chunk.h"
#include "libblock/runs.h"
#include "libtsproto/select.h"
#include "libpromql/pql.h"

enum { ING_RANGES_MAX = 8, ING_SORT_LEAST = 4096 };    /* fewer are one range */

struct blk_chunk_ref;
struct ing_columns {
    /* in */
    struct pql_query *q;
    unsigned worker;                                   /* whose arena of the query */
    struct kl_budget *budget;                          /* of all that fill it */
    struct kl_span tenant;
    uint32_t partition;
    struct tsp_push place;                             /* where each series is to be */
    int64_t  from_ms, to_ms;
    /* out */
    struct pql_series *series; uint32_t count;
    /* state */
    uint32_t room;
    struct blk_chunk_ref *refs; uint32_t ref_room;
    struct blk_runs runs;
    int64_t  starts[BLK_CHUNK_MAX];
    uint32_t scratch_room;                             /* of these, for chunks that overlap */
    int64_t *times, *start_times; double *values; uint32_t *index, *other;
    uint8_t *range; uint32_t in_range[ING_RANGES_MAX]; /* columns_sort.c: of each series; how many of each */
};
/* KL_EINVAL: there is what cannot be folded here: histograms, or a series that has another place;
 * KL_ELIMIT: past the query's budget; KL_ECORRUPT. */
enum kl_code ing_columns_page(struct ing_columns *c, struct kl_cur items, struct kl_err *err);
void         ing_columns_free(struct ing_columns *c);  /* the columns stay, as long as the query does */

/*
 * columns_sort.c: all of several columns by their labels, for they came by their fingerprints. _begin, then _place for each of
 * the columns, then _range for each range, the ones after all of the others, in any order, by any threads.
 */
struct ing_sort {
    struct ing_columns *const *all; unsigned all_count;                /* the caller's */
    unsigned range_count;                              /* how many there are, at most as many as were asked for */
    struct pql_series *series; size_t count;           /* at the end: sorted */
    struct kl_labels bounds[ING_RANGES_MAX];           /* from the second on: where it begins */
};
void ing_sort_begin(struct ing_sort *s, struct ing_columns *const *all, unsigned count, unsigned ranges);
void ing_sort_place(struct ing_sort *s, unsigned which);
void ing_sort_range(struct ing_sort *s, unsigned range);
void ing_sort_end(struct ing_sort *s);
#endif
