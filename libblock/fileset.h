#ifndef BLK_FILESET_H
#define BLK_FILESET_H
/*
 * A fileset: the series of one tenant and partition in one window, sealed. A folder
 *
 *   <tenant>/<partition, 4 digits>/<window start ms>-<id, 20 digits>[.<generation>][r<resolution, s>]/
 *       info data index summaries postings bloom extras digests checkpoint
 *
 * (FORMAT.md draws every byte.) The checkpoint is written last, after all else is synced: without
 * it the fileset does not exist. Its content is a pure function of the samples: no clock, no memory
 * limit enters. A finished fileset never changes; any thread may read it.
 *
 * In a store the same bytes are three objects below the same path: `data`, `meta` (the other files
 * packed, with a footer) and `checkpoint`, put last.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libblock/chunk.h"
#include "libkoal/base/labels.h"
#include "libkoal/base/match.h"
#include "libkoal/env/dir.h"
#include "libkoal/store/store.h"

enum { BLK_TENANT_MAX = 150, BLK_PATH_MAX = 255, BLK_FRAME = 64 * 1024 };

struct blk_info {
    char     tenant[BLK_TENANT_MAX + 1];
    uint32_t partition;
    int64_t  window_start_ms, window_ms;               /* window_ms 0: spans many windows (late, flush) */
    uint64_t id;                                       /* the log position of the cut that sealed it;
                                                          compacted: the greatest of its inputs' */
    uint64_t generation;                               /* 0: as a cut wrote it; else the catalogue's
                                                          revision that a compaction made it for */
    int64_t  resolution_ms;                            /* 0: samples; else rows of libblock/rollup.h, made
                                                          of the fileset that is named the same but for it */
    uint64_t incarnation;                              /* of the stream */
    uint64_t first_seq;                                /* log positions covered: first_seq..id */
    int64_t  min_ms, max_ms;                           /* of the samples; filled by the writer */
    uint64_t series_count, sample_count, chunk_bytes;  /* filled by the writer */
    uint64_t content;                                  /* digest of labels and samples, however coded:
                                                          owner and standbys compare it; the writer's */
    bool     quarantined;                              /* a manifest's: it was found corrupt, and is
                                                          neither read nor compacted any more */
    uint8_t  rolled;                                   /* a manifest's: the rollups that were made of it,
                                                          perhaps without a row: bit i, blk_rollup_ms[i] */
    bool     carried;                                  /* a manifest's, of a rollup: it has rows of series
                                                          that its fileset has no samples of */
    bool     lacks;                                    /* a manifest's, of a rollup: it has no rows of some series
                                                          that its fileset has samples of */
    uint64_t obeyed;                                   /* a manifest's: deletions of numbers up to it
                                                          hide nothing here (libblock/deletion.h) */
};
/* "<tenant>/<pppp>/<start>-<id>", and ".<generation>" and "r<resolution in s>" where these are not 0 */
void blk_fileset_path(const struct blk_info *info, char path[BLK_PATH_MAX + 1]);
enum kl_code blk_fileset_path_parse(const char *path, struct blk_info *info, struct kl_err *err);

/* ---- writing. One thread (a worker). ---- */
struct blk_writer;
/* Makes the folder below `root`. One of that name without checkpoint is emptied first; a whole one
 * is KL_EEXIST (the flush was done before: use it). */
enum kl_code blk_writer_open(struct kl_env_dir *root, const struct blk_info *info,
                             struct blk_writer **w, struct kl_err *err);
struct blk_chunk_ref { struct kl_span bytes; int64_t first_ms, last_ms; uint32_t count; uint8_t kind; };
/* Series in the order of (metric name, canonical labels by kl_labels_cmp), each once; chunks in time
 * order, not overlapping. Out of order is an assertion: the caller sorts. A fingerprint that is not
 * kl_labels_fp(labels) is KL_EINVAL. After a failure only finish, which fails, or abandon is left. */
enum kl_code blk_writer_series(struct blk_writer *w, struct kl_labels labels, struct kl_fp fp,
                               const struct blk_chunk_ref *chunks, uint32_t count,
                               struct kl_err *err);
/* Exemplars and metadata, any time before finish. */
enum kl_code blk_writer_metadata(struct blk_writer *w, struct kl_span metric, uint8_t type,
                                 struct kl_span unit, struct kl_span help, struct kl_err *err);
enum kl_code blk_writer_exemplar(struct blk_writer *w, struct kl_fp fp, int64_t time_ms,
                                 double value, struct kl_labels labels, struct kl_err *err);
/* Durable with KL_OK, checkpoint included; frees w in every case. `done` gets the filled info. */
enum kl_code blk_writer_finish(struct blk_writer *w, struct blk_info *done, struct kl_err *err);
void         blk_writer_abandon(struct blk_writer *w); /* removes what it can; frees w */

/* Copies a finished local fileset into a store, checkpoint last, then opens it there as a reader
 * would. An object that is already there with the same bytes is taken as done (a retry). Blocks: on
 * a worker. */
enum kl_code blk_fileset_upload(struct kl_env_dir *root, const char *path, struct kl_store *store,
                                struct kl_err *err);
/* The same of its objects in a store; those that are not there are no failure. Blocks. */
enum kl_code blk_fileset_remove_stored(struct kl_store *store, const char *path,
                                       struct kl_err *err);
/* Removes a local fileset, checkpoint first. */
enum kl_code blk_fileset_remove(struct kl_env_dir *root, const char *path, struct kl_err *err);
/* Every whole fileset below `root`, in no order; unfinished ones are named to `unfinished`. */
enum kl_code blk_fileset_scan(struct kl_env_dir *root,
                              void (*whole)(void *ctx, const char *path),
                              void (*unfinished)(void *ctx, const char *path), void *ctx,
                              struct kl_err *err);

/* ---- reading. Any thread; opening reads checkpoint, digests, info, summaries, bloom, postings.
 * KL_ENOENT: no checkpoint, no fileset. ---- */
struct blk_fileset;                                    /* shared: ref/unref */
enum kl_code blk_fileset_open_local(struct kl_env_dir *root, const char *path,
                                    struct blk_fileset **f, struct kl_err *err);
enum kl_code blk_fileset_open_store(struct kl_store *store, const char *path,
                                    struct blk_fileset **f, struct kl_err *err);
struct blk_fileset *blk_fileset_ref(struct blk_fileset *f);
/* Where bytes came from, as they lie in their files. Of a fileset that is no store's, only `wanted`
 * and `memory` are told. */
struct blk_bytes {
    uint64_t wanted;                                   /* of frames that were needed, each once a select */
    uint64_t memory;                                   /* of these, of such as were kept */
    uint64_t disk, store, shared;                      /* kl_store_tally; also what lies between frames */
    uint64_t requests;                                 /* to the store */
};
struct blk_tally { struct blk_bytes data, index; };    /* index: all that is not chunks */
void   blk_tally_add(struct blk_tally *sum, const struct blk_tally *t);
/* What its opening took; all of it index. */
const struct blk_bytes *blk_fileset_opening(const struct blk_fileset *f);
void   blk_fileset_unref(struct blk_fileset *f);
const struct blk_info *blk_fileset_info(const struct blk_fileset *f);
bool   blk_fileset_has_metric(const struct blk_fileset *f, struct kl_span metric);
size_t blk_fileset_memory(const struct blk_fileset *f);
/* Its files and what each takes, for `koalemos inspect`. Static names. */
enum { BLK_FILE_COUNT = 9 };
struct blk_file_size { const char *name; uint64_t bytes; };
void   blk_fileset_files(const struct blk_fileset *f, struct blk_file_size files[BLK_FILE_COUNT]);

/* What is kept in memory of what was read, for later selects: of all filesets that were given the
 * same blk_keep together at most cap_bytes; past half of that only what is read again. It outlives them. Any thread. */
struct blk_keep { _Atomic size_t cap_bytes, bytes; _Atomic uint64_t hits, misses; };
void   blk_fileset_keep(struct blk_fileset *f, struct blk_keep *keep);      /* before it is shared */
/* Lets go of what was not used since the last trim; of nothing while a select is open. */
void   blk_fileset_trim(struct blk_fileset *f);

/* Selection: the series that match, in rising fingerprint order. KL_ECORRUPT names file and place.
 * One thread a cursor. */
struct blk_select;
struct blk_selected {                                  /* borrowed until the next call */
    struct kl_fp fp; struct kl_labels labels;
    const struct blk_chunk_ref *chunks; uint32_t chunk_count;  /* only those in [from, to] */
};
enum kl_code blk_select_open(struct blk_fileset *f, const struct kl_matcher *m, size_t count,
                             int64_t from_ms, int64_t to_ms, bool with_chunks,
                             struct blk_select **s, struct kl_err *err);
/* The same, with chunks, of what will be selected again: what it reads is kept as if it was read before. */
enum kl_code blk_select_open_ahead(struct blk_fileset *f, const struct kl_matcher *m, size_t count,
                                   int64_t from_ms, int64_t to_ms, struct blk_select **s, struct kl_err *err);
/* The same from what is kept in memory alone, of at most `most` series, for who may not wait: KL_EAGAIN,
 * from this or from next, where that is not enough. */
enum kl_code blk_select_open_kept(struct blk_fileset *f, const struct kl_matcher *m, size_t count,
                                  int64_t from_ms, int64_t to_ms, bool with_chunks, uint32_t most,
                                  struct blk_select **s, struct kl_err *err);
/* KL_ENOENT at the end. */
enum kl_code blk_select_next(struct blk_select *s, struct blk_selected *out, struct kl_err *err);
/* What it took so far. */
struct blk_tally blk_select_tally(const struct blk_select *s);
void         blk_select_close(struct blk_select *s);
/* Label names, and values of a label, of the series that match; sorted, each once. */
enum kl_code blk_fileset_names(struct blk_fileset *f, const struct kl_matcher *m, size_t count,
                               void (*each)(void *ctx, struct kl_span text), void *ctx,
                               struct kl_err *err);
enum kl_code blk_fileset_values(struct blk_fileset *f, struct kl_span label,
                                const struct kl_matcher *m, size_t count,
                                void (*each)(void *ctx, struct kl_span text), void *ctx,
                                struct kl_err *err);
/* The series of that fingerprint; its canonical labels are appended to `labels`. KL_ENOENT: none.
 * may_have asks only the bloom filter: no file is read; true is wrong for one in a hundred. */
bool         blk_fileset_may_have(const struct blk_fileset *f, struct kl_fp fp);
enum kl_code blk_fileset_find(struct blk_fileset *f, struct kl_fp fp, struct kl_buf *labels,
                              struct kl_err *err);
/* Metadata by metric name, then exemplars by (series, time). Either may be NULL. What is borrowed
 * is so until the call returns. */
struct blk_extras_each {
    void (*metadata)(void *ctx, struct kl_span metric, uint8_t type, struct kl_span unit,
                     struct kl_span help);
    void (*exemplar)(void *ctx, struct kl_fp fp, int64_t time_ms, double value,
                     struct kl_labels labels);
    void *ctx;
};
enum kl_code blk_fileset_extras(struct blk_fileset *f, const struct blk_extras_each *each,
                                struct kl_err *err);
/* Reads and checks every byte. */
enum kl_code blk_fileset_verify(struct blk_fileset *f, struct kl_err *err);
#endif
