#ifndef BLK_COMPACT_H
#define BLK_COMPACT_H
/*
 * Several filesets of one tenant and partition become one: small into larger windows, late samples
 * into the window they belong to, deleted ones left out for good.
 *
 * Of two samples of one series at one time the later input's wins; the caller orders the inputs by
 * log position. Where inputs do not overlap in time, their chunks are joined as they are. Series are
 * read in the order of data, each frame once; memory is that of a writer, and of one series of each
 * input. Blocks for long: on a worker. The result is a function of the inputs' samples and of `info`.
 */
#include "libblock/fileset.h"

enum { BLK_INPUTS_MAX = 256, BLK_HIDDEN_MAX = 64 };

struct blk_hidden { int64_t from_ms, to_ms; };         /* both included */
struct blk_compact {
    struct blk_fileset *const *inputs;                 /* borrowed; later ones win */
    uint32_t count;                                    /* 1..BLK_INPUTS_MAX */
    struct kl_env_dir *root;                           /* where the result goes, */
    const struct blk_info *info;                       /* and what it is called: as blk_writer_open */
    /* What of a series of an input was deleted since; NULL: nothing ever. Returns how many ranges it
     * filled, at most BLK_HIDDEN_MAX. */
    uint32_t (*hide)(void *ctx, const struct blk_info *input, struct kl_labels labels,
                     struct blk_hidden *ranges);
    /* NULL, or called now and then; false: stop, with KL_ECANCELED. */
    bool (*progress)(void *ctx, uint64_t series_done, uint64_t series_at_most);
    void *ctx;
};
/* Durable with KL_OK. After a failure there is no such fileset. KL_EEXIST as blk_writer_open. */
enum kl_code blk_compact(const struct blk_compact *c, struct blk_info *done, struct kl_err *err);
#endif
