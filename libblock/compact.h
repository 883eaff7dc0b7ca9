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
#include "libblock/deletion.h"
#include "libblock/rollup.h"

enum { BLK_INPUTS_MAX = 256, BLK_HIDDEN_MAX = 64 };

struct blk_carried { struct blk_fileset *rows; uint32_t of; };        /* of: the input */
struct blk_compact {
    struct blk_fileset *const *inputs;                 /* borrowed; later ones win */
    uint32_t count;                                    /* 1..BLK_INPUTS_MAX */
    struct kl_env_dir *root;                           /* where the result goes, */
    const struct blk_info *info;                       /* and what it is called: as blk_writer_open */
    /* What of a series of an input was deleted since, its exemplars included; NULL: nothing ever.
     * Returns how many ranges it filled, at most BLK_HIDDEN_MAX. */
    uint32_t (*hide)(void *ctx, const struct blk_info *input, struct kl_labels labels,
                     struct blk_hidden *ranges);
    /* For blk_compact: NULL, or called now and then; false: stop, with KL_ECANCELED. */
    bool (*progress)(void *ctx, uint64_t series_done, uint64_t series_at_most);
    void *ctx;
    /* Only samples and exemplars within, both included; both 0: all. */
    int64_t from_ms, to_ms;
    /* Besides, rollups of the result: what each is called, with its resolution. */
    const struct blk_info *rolls;
    uint32_t roll_count;                               /* up to BLK_ROLLUPS_MAX */
    /* Of each of them, the filesets of its rows that some inputs had. Of a series that has no samples left, and of one
     * that such an input has none of any more, the rows that `hide` leaves are taken over. Borrowed. */
    const struct blk_carried *carried[BLK_ROLLUPS_MAX];
    uint32_t carried_count[BLK_ROLLUPS_MAX];           /* at most one an input */
    /* Shall rows be made of a series' samples? NULL: of all. A rollup that has none of some `lacks` them. */
    bool (*rows)(void *ctx, int64_t resolution_ms, struct kl_labels labels);
};
/* In slices, so that a worker can do something else in between. Borrows all that `c` names. After
 * KL_OK from begin, one of finish and abandon. */
struct blk_compaction;
enum kl_code blk_compaction_begin(const struct blk_compact *c, struct blk_compaction **x,
                                  struct kl_err *err);         /* KL_EEXIST as blk_writer_open */
/* Goes on for about so many samples; KL_ENOENT: all are done. */
enum kl_code blk_compaction_step(struct blk_compaction *x, uint64_t samples, struct kl_err *err);
/* Durable with KL_OK; after a failure there is no such fileset. Frees x. `done` has room for the
 * fileset and then each rollup; of one that took rows over `carried` is set, and `lacks`. */
enum kl_code blk_compaction_finish(struct blk_compaction *x, struct blk_info *done,
                                   struct kl_err *err);
void         blk_compaction_abandon(struct blk_compaction *x); /* removes what it can; frees x */
/* All of it at once. Durable with KL_OK. After a failure there is no such fileset. */
enum kl_code blk_compact(const struct blk_compact *c, struct blk_info *done, struct kl_err *err);
#endif
