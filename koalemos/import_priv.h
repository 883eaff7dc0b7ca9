#ifndef KOALEMOS_IMPORT_PRIV_H
#define KOALEMOS_IMPORT_PRIV_H
/*
 * Blocks of Prometheus' TSDB become filesets, without the log: samples of the past need no window of
 * lateness, and nobody acknowledged them to anyone. Block by block, window by window, partition by
 * partition: written into the work folder, uploaded, committed into the catalogue; then the next.
 *
 * An imported fileset has the incarnation 0, which no log has: so it stands before everything that
 * ever came through a log, and where both have a sample for one time the log's wins. Its id is the time
 * of its making, in 2^-16 ms, and above those of the imports before it: of two imports the later wins.
 * Deletions hide it but those that the catalogue has already: what was deleted before may be imported anew.
 *
 * What a crash leaves: `progress-...` in the work folder names what was committed, and last what was
 * about to be; the next run goes on behind it. If by then the block's series are to be cut otherwise (a metric was
 * spread over more partitions, windows have another length), it begins anew: some samples are stored twice, none
 * is left out. A block that is done has an object catalogue/import/<tenant>/<ulid> in the store, and is not
 * taken again.
 */
#include "koalemos/reach.h"
#include "libblock/fileset.h"
#include "libtsproto/tsdb.h"

/* ---- import_source.c: where blocks are ---- */
struct import_source {
    struct kl_env     *env;
    struct kl_env_dir *dir;                            /* a folder, or */
    struct kl_store   *store;                          /* a bucket */
    char             **blocks;                         /* directly below it; "" : itself */
    size_t             count, room;
    bool               over;                           /* there are more than can be taken */
    bool               wal;                            /* it is the data folder of a Prometheus */
};
enum kl_code import_source_open(struct import_source *s, struct kl_app *app, const char *where,
                                struct kl_err *err);
void         import_source_close(struct import_source *s);
/* Its meta.json. KL_ENOENT: it is marked for deletion. */
enum kl_code import_source_meta(struct import_source *s, size_t i, struct tsp_tsdb_meta *m,
                                struct kl_err *err);
/* The block as a folder: itself, or a copy in `work`. Leave it; NULL: it is s->dir. */
enum kl_code import_source_enter(struct import_source *s, size_t i, const struct tsp_tsdb_meta *m,
                                 struct kl_env_dir *work, struct kl_env_dir **block, struct kl_err *err);
/* The copy goes, if there is one. */
enum kl_code import_source_forget(struct import_source *s, const struct tsp_tsdb_meta *m,
                                  struct kl_env_dir *work, struct kl_err *err);

/* ---- import_block.c: a block in a folder ---- */
struct import_row {                                    /* a series */
    uint64_t text;                                     /* its labels in `texts`, where they are kept */
    uint32_t text_size, ref, metric;                   /* metric: rises with its name */
    uint16_t partition;
};
struct import_sample { int64_t time_ms; double value; const struct kl_hist *hist; uint32_t order; };
struct import_file;
struct import_block {
    const struct tsp_tsdb_meta *meta;
    const char  *tenant;
    const struct tsp_placement *placement;
    bool         skip;                                 /* what is corrupt is passed over, and counted */
    bool         outer;                                /* Thanos' labels are added */
    int64_t      now_ms, window_ms;
    struct kl_log *log;
    /* filled: */
    struct import_row *rows;                           /* in the order of filesets, by partition */
    uint32_t     count;
    int64_t      first_window_ms;
    uint32_t     window_count;
    uint8_t     *windows;                              /* 1: there are chunks in it */
    uint64_t     cut;                                  /* a hash of what lands where: windows, partitions, labels */
    uint64_t     bad_series, bad_chunks, samples, histograms, deleted;
    /* its own: */
    struct kl_env_dir  *dir, *chunk_dir;
    struct import_file *index, *chunks;
    uint32_t            chunk_file;
    struct tsp_tsdb_toc toc;
    void                *symbol_bytes;
    struct tsp_tsdb_symbols *symbols;
    struct tsp_tsdb_stone *stones;
    size_t               stone_count;
    struct tsp_tsdb_series series;
    struct kl_buf        labels, texts;
    int64_t             *times;
    double              *values;
    struct kl_hist      *hists;                        /* all three: of one chunk */
    struct kl_arena      arena;
    struct import_sample *samples_at;
    size_t               sample_count, sample_room;
};
/* Reads the index once through. `dir` is borrowed. */
enum kl_code import_block_open(struct import_block *b, struct kl_env_dir *dir, struct kl_err *err);
void         import_block_close(struct import_block *b);
/* The series' samples in [from, to), rising, in samples_at; its labels. Until the next call. */
enum kl_code import_block_samples(struct import_block *b, const struct import_row *row, int64_t from_ms,
                                  int64_t to_ms, struct kl_labels *labels, struct kl_err *err);

/* ---- import_progress.c: how far it came ---- */
struct import_step { int64_t window_ms; uint64_t id; uint32_t partition; };
struct import_progress {
    struct kl_env_dir  *work;
    char                name[KL_ENV_DIR_NAME_MAX + 1];
    struct import_step *at;                            /* in the order of the work; the last may not be done */
    size_t              count, room;
    uint64_t            cut, was_cut;                  /* now; and when the steps were taken */
};
enum kl_code import_progress_open(struct import_progress *p, struct kl_env_dir *work, const char *tenant,
                                  const char *ulid, uint64_t cut, struct kl_err *err);
void         import_progress_close(struct import_progress *p);
bool         import_progress_has(const struct import_progress *p, int64_t window_ms, uint32_t partition);
enum kl_code import_progress_add(struct import_progress *p, const struct import_step *s,
                                 struct kl_err *err);  /* durable */
enum kl_code import_progress_drop_last(struct import_progress *p, struct kl_err *err);
/* Nothing is done, as it is cut now. Durable. */
enum kl_code import_progress_anew(struct import_progress *p, struct kl_err *err);
enum kl_code import_progress_end(struct import_progress *p, struct kl_err *err);

/* ---- import_write.c ---- */
struct import_job {
    struct reach        *reach;
    const char          *tenant;
    struct kl_env_dir   *filesets;                     /* where they are written */
    struct import_block *block;
    struct import_progress progress;
    uint64_t             filesets_made, samples_made;
    int64_t              oldest_ms;                    /* windows that end before are past retention */
    uint32_t             windows_old;
    void               (*told)(void *ctx, uint32_t done, uint32_t all);
    void                *ctx;
};
/* What a run before this one left in the work folder. */
enum kl_code import_clear(struct kl_env_dir *filesets, struct kl_err *err);
/* All of the block's windows and partitions that are not done. */
enum kl_code import_write(struct import_job *j, struct kl_err *err);
#endif
