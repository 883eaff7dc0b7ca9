#ifndef BLK_TOOLS_H
#define BLK_TOOLS_H
/*
 * For `koalemos inspect` and `koalemos verify`: what lies below a folder, and what a fileset is made
 * of. The folder may be anything: the data folder of a process, one that is an object store, or one
 * that holds several of either. One thread.
 */
#include "libblock/fileset.h"

/* ---- what there is ---- */
enum blk_found_kind {
    BLK_FOUND_LOCAL,                                   /* a fileset of files, as an ingestor writes it */
    BLK_FOUND_STORED,                                  /* one of objects: data, meta, checkpoint */
    BLK_FOUND_UNFINISHED,                              /* either, without a checkpoint: it does not exist */
    BLK_FOUND_MANIFEST,
};
struct blk_found {
    enum blk_found_kind kind;
    char    *root;                                     /* from the folder searched; "": itself */
    char    *path;                                     /* from there: a fileset's, or a manifest's key */
    uint64_t bytes;                                    /* of its files */
};
/* Sorted by root, kind, path. */
struct blk_finds { struct blk_found *at; size_t count, room; };
enum { BLK_FIND_DEPTH = 12 };                          /* folders below each other that are entered */

enum kl_code blk_find(struct kl_env_dir *top, struct blk_finds *finds, struct kl_err *err);
void         blk_finds_deinit(struct blk_finds *finds);
/* A fileset that was found, open with the folders above it; `top` stays open meanwhile. KL_ENOENT:
 * it went in between, or was never finished. */
struct blk_found_open {
    struct blk_fileset *f;
    struct kl_store    *store;
    struct kl_env_dir  *dirs[BLK_FIND_DEPTH];
    unsigned            depth;
};
enum kl_code blk_found_open(struct kl_env_dir *top, const struct blk_found *x,
                            struct blk_found_open *o, struct kl_err *err);
void         blk_found_close(struct blk_found_open *o);
/* The bytes of a manifest that was found; free() them. */
enum kl_code blk_found_read(struct kl_env_dir *top, const struct blk_found *x, void **bytes,
                            size_t *size, struct kl_err *err);

/* ---- what a fileset is made of ---- */
enum { BLK_CODECS_MAX = 48 };
struct blk_codec_count { const char *name; uint64_t chunks, samples, bytes; };  /* bytes of values */
struct blk_census {
    uint64_t filesets, series, samples, chunks, time_columns, time_bytes;
    struct blk_codec_count codecs[BLK_CODECS_MAX];     /* in the order of blk_chunk_codec's names met */
    uint32_t codec_count;
};
/* Adds what is in `f`; reads and checks all of its data. After a failure `c` has part of it. */
enum kl_code blk_fileset_census(struct blk_fileset *f, struct blk_census *c, struct kl_err *err);
#endif
