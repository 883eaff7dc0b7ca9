#ifndef BLK_MANIFEST_H
#define BLK_MANIFEST_H
/*
 * The catalogue of a partition: which filesets exist, and from where the log must be replayed.
 * The manifest is an immutable object `catalogue/<pppp>/<revision, 20 digits>` in the store; the KV
 * key "catalogue.<pppp>" points at it and is changed only by compare-and-set that carries the
 * owner's lease epoch: {revision, epoch, digest}. A querier reads the pointer, then the manifest.
 *
 * A cut (seq, end): every sample with time < end_ms in records up to seq is in the filesets below.
 * Only cuts that no later one covers are kept (later seq and an end at least as late covers).
 *
 * Deletions (libblock/deletion.h) up to log position `deleted_seq` are in it: those that some fileset
 * still has to obey are listed; a reader of a fileset obeys those that concern it.
 */
#include <stdint.h>

#include "libblock/deletion.h"
#include "libblock/fileset.h"
#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"

enum { BLK_MANIFEST_FILESETS_MAX = 200000, BLK_CUTS_MAX = 64, BLK_GONE_MAX = 200000,
       BLK_GONE_MS = 15 * 60 * 1000 };                 /* what is gone is listed at least so long */

struct blk_cut { uint64_t seq; int64_t end_ms; };      /* end INT64_MAX: a flush of everything */
/* A fileset that this partition had and has no more: replaced, or past its retention. Its objects
 * are removed a while later, when nobody can be reading them by an older manifest. */
struct blk_gone { char path[BLK_PATH_MAX + 1]; int64_t at_ms; };
struct blk_manifest {
    uint32_t partition;
    uint64_t revision, epoch, incarnation;
    uint64_t replay_from;                              /* the first log position still needed */
    uint32_t cut_count;
    struct blk_cut cuts[BLK_CUTS_MAX];                 /* rising seq */
    uint32_t fileset_count;
    struct blk_info *filesets;                         /* malloc'ed, owned */
    uint32_t gone_count;
    struct blk_gone *gone;                             /* malloc'ed, owned */
    uint64_t deleted_seq;                              /* of this incarnation */
    uint64_t deletions_made;                           /* the last number that was given */
    uint32_t deletion_count;
    struct blk_deletion **deletions;                   /* malloc'ed, a reference each; rising numbers */
};
void         blk_manifest_deinit(struct blk_manifest *m);
void         blk_manifest_add(struct blk_manifest *m, const struct blk_info *info);
/* Takes filesets[i] out, the order of the others stays; into `gone` with the time `at_ms`. */
void         blk_manifest_drop(struct blk_manifest *m, uint32_t i, int64_t at_ms);
/* The fileset of that name, or fileset_count. */
uint32_t     blk_manifest_find(const struct blk_manifest *m, const struct blk_info *info);
/* Lists a path as gone at that time (perhaps one to come). Below BLK_GONE_MAX. */
void         blk_manifest_gone(struct blk_manifest *m, const char *path, int64_t at_ms);
/* It is not gone after all. */
void         blk_manifest_here(struct blk_manifest *m, const char *path);
/* Every path that is named or listed as gone, sorted: free() both. */
char       **blk_manifest_paths(const struct blk_manifest *m, size_t *count, char **text);
/* Takes the reference; its number must be above deletions_made. Below BLK_DELETIONS_MAX. */
void         blk_manifest_delete(struct blk_manifest *m, struct blk_deletion *d_take);
/* Those that concern the fileset, rising; room for m->deletion_count. They live as the manifest. */
uint32_t     blk_manifest_concerning(const struct blk_manifest *m, const struct blk_info *info,
                                     const struct blk_deletion **list);
/* How many filesets have yet to obey it; and whether one that is gone but perhaps still in the store
 * has what it hides. */
uint32_t     blk_manifest_disobeying(const struct blk_manifest *m, const struct blk_deletion *d,
                                     bool *gone);
/* Forgets deletions that hide nothing any more. */
void         blk_manifest_forget(struct blk_manifest *m);
void         blk_manifest_copy(struct blk_manifest *to, const struct blk_manifest *from);
void         blk_manifest_cut(struct blk_manifest *m, uint64_t seq, int64_t end_ms);
/* Is a sample at `time_ms` of record `seq` in the filesets? */
bool         blk_manifest_covers(const struct blk_manifest *m, uint64_t seq, int64_t time_ms);
void         blk_manifest_encode(const struct blk_manifest *m, struct kl_buf *out);  /* with crc */
enum kl_code blk_manifest_decode(struct kl_span bytes, struct blk_manifest *m, struct kl_err *err);
void         blk_manifest_key(uint32_t partition, uint64_t revision, char key[KL_STORE_KEY_MAX + 1]);
/* The pointer in the KV. */
struct blk_pointer { uint64_t revision, epoch, digest; };
void         blk_pointer_key(uint32_t partition, char *key, size_t size);
void         blk_pointer_encode(const struct blk_pointer *p, struct kl_buf *out);
enum kl_code blk_pointer_decode(struct kl_span bytes, struct blk_pointer *p, struct kl_err *err);

/* manifest_store.c: the one that `at` points at, out of the store. at->digest 0: it is not known, and set.
 * KL_ECORRUPT: it is another, or another partition's. Blocks. */
enum kl_code blk_manifest_read(struct kl_store *store, uint32_t partition, struct blk_pointer *at,
                               struct blk_manifest *m, struct kl_err *err);
/* Into the store, under the first revision from m->revision on that is free: what a crash left under one is
 * nobody's. m->revision, and *at, are what it became. Blocks. */
enum kl_code blk_manifest_put(struct kl_store *store, struct blk_manifest *m, struct blk_pointer *at,
                              struct kl_err *err);
#endif
