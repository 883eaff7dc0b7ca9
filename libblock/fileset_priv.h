#ifndef BLK_FILESET_PRIV_H
#define BLK_FILESET_PRIV_H
/*
 * What the files of a fileset share inside this folder. FORMAT.md draws the bytes.
 * Sizes that come from disk are bound by the size of the file they came from, before anything is
 * allocated after them.
 */
#include <stdatomic.h>

#include "libblock/blk_priv.h"
#include "libblock/fileset.h"

enum blk_file {                                        /* the order of `digests` and of `meta` */
    BLK_INDEX, BLK_EXTRAS, BLK_POSTINGS, BLK_BLOOM, BLK_SUMMARIES, BLK_INFO, BLK_DATA, BLK_FILES
};
enum { BLK_VERSION = 1 };
enum { BLK_INFO_VERSION = 3, BLK_WINDOW_NAME = 96 };
enum { BLK_FRAME_HEAD = 16, BLK_FRAME_RAW_MAX = 256 << 20, BLK_CHUNK_BYTES_MAX = 64 << 20 };
enum { BLK_PAGE_SERIES = 128, BLK_ORDER_SERIES = 1024, BLK_SERIES_MAX = 1 << 27 };
extern const char *const blk_file_names[BLK_FILES];
uint64_t blk_seed(const struct blk_info *info);        /* binds checksums to tenant, partition, window */

/* writer.c: the order of series in data: by metric name, then by labels. */
int blk_data_order(struct kl_labels a, struct kl_labels b);

/* ---- frame.c: bytes with a checksum, compressed where that pays ---- */
struct blk_zip;                                        /* a compressor; one thread */
struct blk_zip *blk_zip_new(void);
void            blk_zip_free(struct blk_zip *z);
/* Appends a frame to `out`; *check gets its checksum. */
enum kl_code blk_frame_write(struct blk_zip *z, uint64_t seed, struct kl_span raw,
                             struct kl_buf *out, uint64_t *check, struct kl_err *err);
/* A whole frame back into a malloc'ed `*raw` (at least one byte of room). */
enum kl_code blk_frame_read(struct kl_span frame, uint64_t seed, void **raw, size_t *size,
                            struct kl_err *err);

/* ---- set.c: a set of series, coded; ids.c: the same in memory, over Roaring ---- */
void blk_set_write(const uint32_t *ids, uint32_t count, struct kl_buf *out);   /* rising, count >= 1 */
struct blk_ids;
/* Moves past a set; false unless it is one, with all below `limit`. Adds to `into` unless NULL. */
bool blk_set_read(struct kl_cur *c, uint32_t limit, struct blk_ids *into);
struct blk_ids *blk_ids_new(void);
void     blk_ids_free(struct blk_ids *s);
void     blk_ids_add(struct blk_ids *s, uint32_t id);
void     blk_ids_add_range(struct blk_ids *s, uint32_t from, uint32_t to);     /* [from, to) */
void     blk_ids_and(struct blk_ids *s, const struct blk_ids *other);
void     blk_ids_andnot(struct blk_ids *s, const struct blk_ids *other);
void     blk_ids_flip(struct blk_ids *s, uint32_t limit);                      /* within [0, limit) */
uint32_t blk_ids_count(const struct blk_ids *s);
bool     blk_ids_has(const struct blk_ids *s, uint32_t id);
bool     blk_ids_meets(const struct blk_ids *s, const struct blk_ids *other);
void     blk_ids_list(const struct blk_ids *s, uint32_t *ids);                 /* room for count */

/* ---- info.c, digests.c ---- */
void         blk_info_write(const struct blk_info *info, struct kl_buf *out);
enum kl_code blk_info_read(struct kl_span raw, struct blk_info *info, struct kl_err *err);
/* The fields of blk_info alone, but for the generation; for the manifest, too. */
void blk_info_fields(const struct blk_info *info, struct kl_buf *out);
bool blk_info_parse(struct kl_cur *c, struct blk_info *info);
struct blk_digest { uint64_t size, check; };
enum { BLK_DIGESTS_SIZE = 5 + 16 * BLK_FILES, BLK_CHECKPOINT_SIZE = 17 };
_Static_assert(BLK_FILE_COUNT == BLK_FILES + 2, "and digests, checkpoint");
void         blk_digests_write(const struct blk_digest d[BLK_FILES], struct kl_buf *out);
enum kl_code blk_digests_read(struct kl_span bytes, struct blk_digest d[BLK_FILES],
                              struct kl_err *err);
void         blk_checkpoint_write(struct kl_span digests, uint64_t seed, struct kl_buf *out);
/* Do the two belong together, and to this fileset? */
enum kl_code blk_checkpoint_check(struct kl_span checkpoint, struct kl_span digests, uint64_t seed,
                                  struct kl_err *err);
bool         blk_checkpoint_whole(struct kl_span checkpoint);                  /* by itself */

/* ---- summaries.c: where the frames of data and index are ---- */
struct blk_place { uint64_t offset, check, key; uint32_t size, first, count; };
struct blk_places { struct blk_place *at; uint32_t count, room; };
struct blk_summaries { struct blk_places data, pages, order; };
void         blk_places_add(struct blk_places *p, struct blk_place place);
uint64_t     blk_places_check(const struct blk_places *p, uint64_t seed);
void         blk_summaries_write(const struct blk_summaries *s, struct kl_buf *out);
enum kl_code blk_summaries_read(struct kl_span raw, uint32_t series_count, struct blk_summaries *s,
                                struct kl_err *err);
void         blk_summaries_deinit(struct blk_summaries *s);

/* ---- bloom.c ---- */
void blk_bloom_write(const struct kl_fp *fps, uint32_t count, struct kl_buf *out);
bool blk_bloom_whole(struct kl_span bloom);
bool blk_bloom_may_have(struct kl_span bloom, struct kl_fp fp);

/* ---- pairs.c: the writer's dictionary of (name, value) and who has them ---- */
struct blk_pairs;
struct blk_pairs *blk_pairs_new(void);
void         blk_pairs_free(struct blk_pairs *p);
void         blk_pairs_series(struct blk_pairs *p, struct kl_labels labels);   /* the next series */
/* Once, after the last series: the postings file, and (name id, value id) for each pair. */
void         blk_pairs_finish(struct blk_pairs *p, struct kl_buf *out);
struct blk_pair { uint32_t name, value; };
uint32_t     blk_pairs_of(const struct blk_pairs *p, uint32_t series, struct blk_pair *pairs);

/* ---- postings.c: reading them ---- */
struct blk_postings;
enum kl_code blk_postings_read(struct kl_span raw, uint32_t series_count, struct blk_postings **p,
                               struct kl_err *err);                            /* borrows raw */
void         blk_postings_free(struct blk_postings *p);
size_t       blk_postings_memory(const struct blk_postings *p);
/* The series that match. Never NULL. */
struct blk_ids *blk_postings_match(const struct blk_postings *p, const struct kl_matcher *m,
                                   size_t count);
struct kl_span blk_postings_name(const struct blk_postings *p, uint32_t name);
bool blk_postings_has_pair(const struct blk_postings *p, struct blk_pair pair);
/* Of a pair that it has: the name; the value replaces what is in `text`. */
struct kl_span blk_postings_pair(const struct blk_postings *p, struct blk_pair pair,
                                 struct kl_buf *text);
/* `within` NULL: all series. */
void blk_postings_names(const struct blk_postings *p, const struct blk_ids *within,
                        void (*each)(void *ctx, struct kl_span text), void *ctx);
void blk_postings_values(const struct blk_postings *p, struct kl_span label,
                         const struct blk_ids *within,
                         void (*each)(void *ctx, struct kl_span text), void *ctx);

bool blk_postings_has(const struct blk_postings *p, struct kl_span name, struct kl_span value);

/* ---- pages.c: the index: labels of 128 series in data order; and the order of fingerprints ---- */
enum { BLK_PAGE_TEXTS = 256 };
struct blk_page {                                      /* of a cursor; zeroed before the first read */
    uint32_t first, count;
    struct blk_pair *pairs;                            /* of all series, end to end */
    uint32_t pair_room, ends[BLK_PAGE_SERIES];
    struct kl_buf labels;                              /* of the series asked for last */
    struct { struct blk_pair pair; bool known; struct kl_buf value; } texts[BLK_PAGE_TEXTS];
};
void         blk_page_write(const struct blk_pairs *pairs, uint32_t first, uint32_t count,
                            struct kl_buf *out);
enum kl_code blk_page_read(struct kl_span raw, const struct blk_postings *p, uint32_t first,
                           uint32_t count, struct blk_page *page, struct kl_err *err);
/* Canonical labels of series first + i; borrowed until the next call. */
struct kl_labels blk_page_labels(struct blk_page *page, const struct blk_postings *p, uint32_t i);
void         blk_page_deinit(struct blk_page *page);
/* An order page: the numbers of `count` (at most BLK_ORDER_SERIES) series. */
void         blk_order_write(const uint32_t *order, uint32_t count, uint32_t series_count,
                             struct kl_buf *out);
enum kl_code blk_order_read(struct kl_span raw, uint32_t count, uint32_t series_count,
                            uint64_t order[BLK_ORDER_SERIES], struct kl_err *err);
/* ---- columns.c: a data frame: chunks of many series, time columns kept once ---- */
struct blk_columns;                                    /* being written */
struct blk_columns *blk_columns_new(int64_t origin_ms);
void   blk_columns_free(struct blk_columns *c);
void   blk_columns_add(struct blk_columns *c, uint32_t series, const struct blk_parts *parts);
size_t blk_columns_size(const struct blk_columns *c);  /* of the frame so far, roughly; 0: empty */
/* The raw frame into `out`, then begins the next one. */
void   blk_columns_flush(struct blk_columns *c, struct kl_buf *out, uint32_t *first,
                         uint32_t *count);

struct blk_column { uint32_t count, at, size; int64_t first_ms, last_ms; };
struct blk_cell { uint32_t back, column, at, size; uint8_t kind; };
struct blk_data {                                      /* a frame that was read */
    uint8_t *raw; size_t size;                         /* owned */
    bool kept;                                         /* by the fileset: keep.c */
    uint32_t first, series_count, cell_count, column_count;
    uint32_t *cells_end;                               /* by series: where its cells end */
    struct blk_cell *cells;
    struct blk_column *columns;
};
enum kl_code blk_data_read(void *raw_take, size_t size, int64_t origin_ms, uint32_t frame_number,
                           struct blk_data **d, struct kl_err *err);
void         blk_data_free(struct blk_data *d);        /* does nothing while it is kept */

/* ---- rechunk.c: a series' chunks, cut anew at fixed boundaries ---- */
struct blk_rechunk;
struct blk_rechunk *blk_rechunk_new(const struct blk_info *info);
void         blk_rechunk_free(struct blk_rechunk *r);
/* Calls `emit` for each piece, in time order; `content` is chained over the samples. */
enum kl_code blk_rechunk_series(struct blk_rechunk *r, const struct blk_chunk_ref *chunks,
                                uint32_t count,
                                void (*emit)(void *ctx, const struct blk_parts *parts), void *ctx,
                                uint64_t *content, struct kl_err *err);

/* ---- extras.c ---- */
struct blk_extras;
struct blk_extras *blk_extras_new(void);
void         blk_extras_free(struct blk_extras *x);
enum kl_code blk_extras_metadata(struct blk_extras *x, struct kl_span metric, uint8_t type,
                                 struct kl_span unit, struct kl_span help, struct kl_err *err);
enum kl_code blk_extras_exemplar(struct blk_extras *x, struct kl_fp fp, int64_t time_ms,
                                 double value, struct kl_labels labels, struct kl_err *err);
void         blk_extras_write(struct blk_extras *x, struct kl_buf *out);
enum kl_code blk_extras_read(struct kl_span raw, const struct blk_extras_each *each,
                             struct kl_err *err);

/* ---- source.c: the bytes of a fileset, wherever it lies ---- */
struct blk_source {
    /* Exactly that many bytes of a file; any thread. `tally` may be NULL. */
    enum kl_code (*read)(struct blk_source *s, enum blk_file file, uint64_t offset, void *bytes,
                         size_t size, struct blk_bytes *tally, struct kl_err *err);
    /* That will be read soon. NULL: it makes no difference. */
    void (*ahead)(struct blk_source *s, enum blk_file file, uint64_t offset, size_t size);
    void (*close)(struct blk_source *s);
    /* As many bytes more are read sooner than asked for apart, as long as all that is read is at most
     * so many per cent of what is wanted; and what it keeps in memory. */
    uint32_t near_bytes, percent_max;
    size_t   memory_bytes;
};
/* Both also read and check checkpoint and digests. */
enum kl_code blk_source_local(struct kl_env_dir *root, const struct blk_info *named,
                              struct blk_digest d[BLK_FILES], struct blk_source **s,
                              struct kl_err *err);
enum kl_code blk_source_store(struct kl_store *store, const struct blk_info *named,
                              struct blk_digest d[BLK_FILES], struct blk_bytes *opening,
                              struct blk_source **s, struct kl_err *err);
/* The folder of a fileset below `root`, with those above it; leave them all again. */
struct blk_folder { struct kl_env_dir *tenant, *partition, *window; };
enum kl_code blk_folder_enter(struct kl_env_dir *root, const struct blk_info *info, bool make,
                              struct blk_folder *f, struct kl_err *err);
void         blk_folder_leave(struct blk_folder *f);
enum { BLK_RESOLUTION_MAX_MS = 1000 * 86400 };
bool         blk_resolution_read(struct kl_cur *c, struct blk_info *info);     /* in seconds; false: unfit */
void         blk_folder_names(const struct blk_info *info, char partition[8], char window[BLK_WINDOW_NAME]);
/* Removes what lies in the folder of a fileset, the checkpoint first. */
enum kl_code blk_folder_empty(struct kl_env_dir *dir, struct kl_err *err);
enum kl_code blk_read_small(struct kl_env_dir *dir, const char *name, size_t cap, void **bytes,
                            size_t *size, struct kl_err *err);

/* ---- keep.c: what is kept for later selects. Within enter (false: use nothing of it) and leave. ---- */
enum { BLK_SELECTIONS_MAX = 16 };
struct blk_match { struct kl_fp fp; uint32_t series; struct kl_labels labels; };  /* labels: may be none */
struct blk_selection {                                 /* what a list of matchers means */
    uint8_t *key; size_t key_size;
    struct blk_match *found; uint32_t count;           /* by fingerprint */
    struct kl_arena labels;
    atomic_bool used;
};
struct blk_kept;
bool blk_kept_enter(struct blk_fileset *f);
void blk_kept_leave(struct blk_fileset *f);
struct blk_data *blk_kept_data(struct blk_fileset *f, uint32_t number);     /* NULL: it is not kept */
/* From here it may be the fileset's: blk_data_free knows. */
void blk_kept_offer_data(struct blk_fileset *f, uint32_t number, struct blk_data *d, bool again);
const struct blk_selection *blk_kept_selection(struct blk_fileset *f, struct kl_span key);
bool blk_kept_wants_selection(struct blk_fileset *f, struct kl_span key);   /* is it asked for again? */
bool blk_kept_offer_selection(struct blk_fileset *f, struct blk_selection *s);   /* true: it is its */
void blk_selection_free(struct blk_selection *s);
void blk_kept_free(struct blk_kept *k);

/* ---- fileset.c ---- */
struct blk_fileset {
    _Atomic unsigned refs;
    char path[BLK_PATH_MAX + 1];
    uint64_t seed;
    struct blk_info info;
    struct blk_digest digests[BLK_FILES];
    struct blk_source *source;
    struct blk_summaries summaries;
    void *postings_raw, *bloom_raw;
    size_t bloom_size;
    struct blk_postings *postings;
    struct blk_kept *kept;                             /* NULL: nothing is */
    struct blk_bytes opening;
};
enum kl_code blk_fileset_frame(struct blk_fileset *f, enum blk_file file,
                               const struct blk_place *place, struct blk_bytes *tally, void **raw,
                               size_t *size, struct kl_err *err);
/* The same of a frame whose bytes are there already. */
enum kl_code blk_fileset_unframe(const struct blk_fileset *f, enum blk_file file,
                                 const struct blk_place *place, const void *bytes, void **raw,
                                 size_t *size, struct kl_err *err);
/* Whose tally is NULL is not told. */
enum kl_code blk_fileset_small(struct blk_fileset *f, enum blk_file file, struct blk_bytes *tally,
                               void **raw, size_t *size, struct kl_err *err);
/* `ahead` NULL: by itself. */
struct blk_ahead;
enum kl_code blk_fileset_page(struct blk_fileset *f, uint32_t number, struct blk_ahead *ahead,
                              struct blk_page *page, struct kl_err *err);
enum kl_code blk_fileset_order(struct blk_fileset *f, uint32_t number,
                               uint64_t order[BLK_ORDER_SERIES], struct kl_err *err);
enum kl_code blk_fileset_data(struct blk_fileset *f, uint32_t number, struct blk_ahead *ahead,
                              struct blk_data **d, struct kl_err *err);
/* The page that holds `series` into `page`, unless it is there already. */
enum kl_code blk_fileset_reach(struct blk_fileset *f, uint32_t series, struct blk_ahead *ahead,
                               struct blk_page *page, struct kl_err *err);
enum kl_code blk_fileset_corrupt(const struct blk_fileset *f, enum blk_file file,
                                 struct kl_err *err);  /* names the fileset and the file in err */

/* ---- ahead.c: frames wanted in rising order, several in one read ---- */
struct blk_ahead {
    struct blk_fileset *f;                             /* borrowed */
    enum blk_file file;
    const struct blk_places *places;
    uint32_t *wanted, wanted_count, wanted_room, wanted_at;
    uint8_t *bytes;                                    /* [from, from + size) of the file */
    size_t   size, room;
    uint64_t from;
    struct blk_bytes bytes_of;                         /* of what was taken through it */
    uint8_t *counted;                                  /* a bit a frame that is in `wanted` */
    bool     never;                                    /* KL_EAGAIN instead of a read */
};
void blk_ahead_init(struct blk_ahead *a, struct blk_fileset *f, enum blk_file file,
                    const struct blk_places *places);
void blk_ahead_deinit(struct blk_ahead *a);
void blk_ahead_forget(struct blk_ahead *a);            /* what was wanted, and what was read */
void blk_ahead_want(struct blk_ahead *a, uint32_t number);    /* rising; again is nothing new */
/* Adds the frame to `wanted`; false: it was there already. */
bool blk_ahead_count(struct blk_ahead *a, uint32_t number);
/* As blk_fileset_frame; in any order, but only what was wanted next comes with what follows it. */
enum kl_code blk_ahead_frame(struct blk_ahead *a, uint32_t number, void **raw, size_t *size,
                             struct kl_err *err);

/* ---- fetch.c: the chunks of series ---- */
enum { BLK_FETCH_LENT = 16 };
struct blk_fetch {
    struct blk_fileset *f;                             /* borrowed */
    int64_t from_ms, to_ms;                            /* only chunks that meet this */
    struct blk_chunk_ref *chunks;                      /* all since the last reset; bytes in `arena` */
    uint32_t count, room;
    struct kl_arena arena;
    struct blk_ahead ahead;
    bool kept;                                         /* within blk_kept_enter */
    bool again;                                        /* what is read will be wanted again */
    struct blk_data *data;                             /* the frame at hand */
    uint32_t data_number;
    struct { struct blk_data *data; uint32_t number; uint64_t used; } lent[BLK_FETCH_LENT];
    uint64_t clock;
    struct kl_buf out;
};
void         blk_fetch_init(struct blk_fetch *x, struct blk_fileset *f, int64_t from_ms,
                            int64_t to_ms, size_t cap_bytes);
/* Says beforehand which series will be asked for, rising. */
void         blk_fetch_want(struct blk_fetch *x, uint32_t series);
enum kl_code blk_fetch_series(struct blk_fetch *x, uint32_t series, struct kl_err *err);
void         blk_fetch_clear(struct blk_fetch *x);    /* the chunks */
void         blk_fetch_reset(struct blk_fetch *x);    /* and what was wanted */
void         blk_fetch_deinit(struct blk_fetch *x);
#endif
