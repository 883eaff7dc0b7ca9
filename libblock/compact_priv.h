#ifndef BLK_COMPACT_PRIV_H
#define BLK_COMPACT_PRIV_H
/* merge.c: one series out of several filesets. */
#include "libblock/compact.h"
#include "libblock/fileset_priv.h"

struct blk_part {                                      /* of one input */
    const struct blk_chunk_ref *chunks;                /* in time order */
    uint32_t chunk_count, hidden_count;
    struct blk_hidden hidden[BLK_HIDDEN_MAX + 2];         /* and what lies before and after */
};
struct blk_merge;
struct blk_merge *blk_merge_new(void);
void              blk_merge_free(struct blk_merge *m);
/* `chunks` are the merge's, or the parts', until the next call; there may be none left. */
enum kl_code blk_merge_series(struct blk_merge *m, const struct blk_part *parts, uint32_t count,
                              const struct blk_chunk_ref **chunks, uint32_t *chunk_count,
                              struct kl_err *err);
#endif
