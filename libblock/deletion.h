#ifndef BLK_DELETION_H
#define BLK_DELETION_H
/*
 * A deletion: of the samples of some series in some span of time, those that precede it in the
 * partition's log are hidden, for ever. What comes later in the log is not.
 *
 *   log        ... samples ... D ... samples ...      D is read at sequence `seq` of `incarnation`
 *   head       drops what it holds when it reads D: a fileset of a later cut has none of it
 *   filesets   of earlier cuts (id < seq), and of logs before this one: have it still. The manifest
 *              lists D; whoever reads one of them leaves out what D means
 *   rewriting  a compaction leaves it out for good, and notes D's number on the result (obeyed)
 *
 * When no fileset is left that D concerns, nor one listed as gone that precedes it, the manifest
 * forgets D: its bytes are nowhere any more. Numbers are the partition's own, rising, and never used
 * twice while its catalogue lives.
 *
 * Immutable once made and shared by reference count; any thread.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "libblock/fileset.h"

enum { BLK_DELETIONS_MAX = 4096, BLK_DELETION_MATCHERS_MAX = 64 };

struct blk_deletion {
    uint64_t number, seq, incarnation;
    int64_t  at_ms;                                    /* by the log's clock */
    int64_t  from_ms, to_ms;                           /* both included */
    char     tenant[BLK_TENANT_MAX + 1];
    uint32_t matcher_count;                            /* 1..BLK_DELETION_MATCHERS_MAX, all must fit */
    struct kl_matcher *matchers;                       /* compiled */
    atomic_uint refs;
};
/* A copy of all that `like` says, texts and all, its expressions compiled. KL_EINVAL: what does not
 * compile, no matcher, too many, a span that ends before it begins. */
enum kl_code         blk_deletion_new(const struct blk_deletion *like, struct blk_deletion **d,
                                      struct kl_err *err);
struct blk_deletion *blk_deletion_ref(struct blk_deletion *d);
void                 blk_deletion_unref(struct blk_deletion *d);       /* NULL is fine */
/* May it hide anything of that fileset? By what a manifest knows: tenant, log, time, obeyed. */
bool blk_deletion_concerns(const struct blk_deletion *d, const struct blk_info *info);
/* Does it come later in the log than all of that fileset? */
bool blk_deletion_follows(const struct blk_deletion *d, uint64_t incarnation, uint64_t id);

struct blk_hidden { int64_t from_ms, to_ms; };         /* both included */
/* What `count` deletions hide of a series of these labels: rising spans that do not touch, at most
 * `count`. Returns how many. */
uint32_t blk_deletions_hide(const struct blk_deletion *const *list, uint32_t count,
                            struct kl_labels labels, struct blk_hidden *spans);
/* A row of a rollup stands for what lies before it in its bucket: spans over rows reach to the bucket's
 * end. Resolution 0: no rows, and they stay. */
void blk_hidden_widen(struct blk_hidden *spans, uint32_t count, int64_t resolution_ms);
/* Do the spans, rising, hide all of [from, to]? Any of it? */
bool blk_hidden_all(const struct blk_hidden *spans, uint32_t count, int64_t from_ms, int64_t to_ms);
bool blk_hidden_any(const struct blk_hidden *spans, uint32_t count, int64_t from_ms, int64_t to_ms);

/* Chunks without what is hidden: those that none of it touches as they are, those that reach across
 * a bound encoded anew. One thread. */
struct blk_hide;
struct blk_hide *blk_hide_new(void);
void             blk_hide_free(struct blk_hide *h);
/* `left` is the hide's, and with `chunks` until the next call. */
enum kl_code blk_hide_chunks(struct blk_hide *h, const struct blk_hidden *spans, uint32_t span_count,
                             const struct blk_chunk_ref *chunks, uint32_t count,
                             const struct blk_chunk_ref **left, uint32_t *left_count,
                             struct kl_err *err);
#endif
