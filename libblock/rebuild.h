#ifndef BLK_REBUILD_H
#define BLK_REBUILD_H
/*
 * The catalogue from the store alone: for `koalemos catalog rebuild`, when the KV that held the
 * pointers is lost. Blocks; one thread.
 *
 * Of a partition's manifests that one counts which the highest epoch wrote last: a manifest is put
 * when all it names has been uploaded, so one that never was pointed at is as good, and a stale
 * owner's has a lower epoch. Filesets of cuts after it are added: they came up, their manifest did
 * not. What is in neither was replaced or never finished, and is an orphan.
 *
 * Where no manifest is left (or `filesets_only`), the infos tell: a fileset gives way to one of a
 * higher generation whose log positions and time span hold its own. What is kept of both is read
 * twice and merged, which does no harm; what deletion or retention took may come back. All that the
 * log still has is replayed over it.
 */
#include "libblock/manifest.h"

enum { BLK_REBUILD_MANIFESTS_MAX = 1000 };

struct blk_rebuilt {
    struct blk_manifest m;                             /* each's to keep: free it, or zero it here */
    bool     as_is;                                    /* it is an object already, and unchanged, */
    uint64_t digest;                                   /* of these bytes */
    uint64_t revision_next;                            /* the first that no manifest has, nor a name */
    uint32_t manifests, unreadable;                    /* found; of these, that tell nothing */
    uint32_t added, superseded, orphans;
    uint32_t missing, corrupt;                         /* named but not there; there but not whole */
    char     words[2 * BLK_PATH_MAX];                  /* about one of the last two */
};
struct blk_rebuild {
    struct kl_store *store;
    bool     filesets_only;
    /* Each partition that has anything in the store, rising. False: no further. */
    bool   (*each)(void *ctx, struct blk_rebuilt *r);
    void    *ctx;
};
enum kl_code blk_rebuild(const struct blk_rebuild *b, struct kl_err *err);
/* Puts the manifest under revision_next, or a later one that is free, unless it is as it is, and
 * makes the pointer to it. */
enum kl_code blk_rebuilt_put(struct kl_store *store, struct blk_rebuilt *r, struct blk_pointer *at,
                             struct kl_err *err);
#endif
