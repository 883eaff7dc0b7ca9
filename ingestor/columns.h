#ifndef ING_COLUMNS_H
#define ING_COLUMNS_H
/*
 * Pages of series (libtsproto/select.h) as columns for the language, read by who rendered them: what a
 * querier would make of them, sample by sample. Floats only. All that is kept lies in an arena of the
 * query and is within its budget. One thread at a time.
 */
#include "libblock/chunk.h"
#include "libblock/runs.h"
#include "libtsproto/select.h"
#include "libpromql/pql.h"

struct blk_chunk_ref;
struct ing_columns {
    /* in */
    struct pql_query *q;
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
};
/* KL_EINVAL: there is what cannot be folded here: histograms, or a series that has another place;
 * KL_ELIMIT: past the query's budget; KL_ECORRUPT. */
enum kl_code ing_columns_page(struct ing_columns *c, struct kl_cur items, struct kl_err *err);
/* All of them to need 0, by their labels: they came by their fingerprints. */
void         ing_columns_feed(struct ing_columns *c);
void         ing_columns_free(struct ing_columns *c);  /* the columns stay, as long as the query does */
#endif
