#ifndef ING_HEAD_PRIV_H
#define ING_HEAD_PRIV_H
/*
 * The head: one tenant's recent series in one partition, in memory.
 *
 *   pairs      (label name, value) interned once; a pair owns the set of series that have it
 *   series     by fingerprint; a number (u32) names it in sets; its labels are pair numbers
 *   chunks     of a series, a list in the order of precedence: of two values for one time the
 *              later chunk's wins; then the open tail; then the late samples
 *
 * Everything belongs to the partition's loop, with one exception: workers that write a fileset or
 * encode a page read `struct ing_chunk` (immutable but for `next` and `cut`) and, of a series, what
 * never changes after its birth (fp, pairs, pair_count), through a view of the pages of pairs.
 * Pages never move; a series, a pair or a chunk is freed only when no worker is out (busy).
 */
#include <roaring/roaring.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "libblock/chunk.h"
#include "libblock/deletion.h"
#include "libkoal/base/hist.h"
#include "libkoal/base/labels.h"
#include "libkoal/base/match.h"
#include "libkoal/env/dir.h"
#include "libtsproto/digest.h"

enum { ING_PAGE = 64 };                                /* pairs, names or series to a page */
enum { ING_TAIL_MAX = 120 };                           /* samples of an open tail */
enum { ING_GROWN = 120 };                              /* until so many a sealed chunk takes tails in */
enum { ING_RETIRED_BYTES_MAX = 4 << 20 };
enum { ING_TAIL_BYTES_MAX = 4096 };                    /* an open tail is sealed past this */
enum { ING_LATE_MAX = 120 };                           /* late samples before they are sealed */
enum { ING_HEAVY_BYTES = 256 * 1024 };                 /* of one series' chunks: a page holds it, well */
enum { ING_NONE = UINT32_MAX };

/* Bytes held, by kind, for /metrics and the memory bound. */
enum ing_kind { ING_MEM_SERIES, ING_MEM_LABELS, ING_MEM_POSTINGS, ING_MEM_TAILS, ING_MEM_CHUNKS,
                ING_MEM_LATE, ING_MEM_REFS, ING_MEM_OTHER, ING_MEM_KINDS };
struct ing_memory { int64_t bytes[ING_MEM_KINDS]; };

/* ---- set.c: a set of series numbers; one inline, a few in an array, many in Roaring ---- */
struct ing_set {
    uint32_t count;
    uint32_t room;                                     /* of `few`; UINT32_MAX: `many` is it */
    union { uint32_t one; uint32_t *few; roaring_bitmap_t *many; };
};
void ing_set_add(struct ing_set *s, uint32_t id, int64_t *bytes);      /* not twice */
void ing_set_remove(struct ing_set *s, uint32_t id, int64_t *bytes);
void ing_set_deinit(struct ing_set *s, int64_t *bytes);
void ing_set_or(const struct ing_set *s, roaring_bitmap_t *into);
void ing_set_and(const struct ing_set *s, roaring_bitmap_t *into);
void ing_set_andnot(const struct ing_set *s, roaring_bitmap_t *from);
bool ing_set_meets(const struct ing_set *s, const roaring_bitmap_t *other);
/* All of them, where they are few; NULL: ask ing_set_each. */
static inline const uint32_t *ing_set_few(const struct ing_set *s)
{
    return s->room == UINT32_MAX ? NULL : s->room == 0 ? &s->one : s->few;
}
/* Until `each` says false. */
void ing_set_each(const struct ing_set *s, bool (*each)(void *ctx, uint32_t id), void *ctx);

/* ---- pairs.c ---- */
struct ing_pair {
    uint8_t *text;                                     /* varint length, the value's bytes */
    uint32_t name;
    struct ing_set series;
};
struct ing_name {
    uint8_t *text;                                     /* varint length, the name's bytes */
    uint32_t *values;                                  /* pair numbers; the first `sorted` in order of value */
    uint32_t  count, room, sorted;
};
/* What a worker holds: the pages as they were. */
struct ing_view { struct ing_pair **pairs; struct ing_name **names; };

struct ing_pairs {
    struct ing_pair **pair_pages;
    struct ing_name **name_pages;
    uint32_t pair_count, name_count, pair_room, name_room;    /* ever made; room: pages */
    uint32_t free_pair;                                /* a list through `name` of unused ones */
    uint32_t *slots; uint32_t slot_mask, pair_live;    /* pair numbers, */
    uint8_t  *tags;                                    /* and a byte of their hash; 0: empty */
    uint32_t *name_slots; uint32_t name_mask;
    struct ing_memory *memory;
};
void     ing_pairs_init(struct ing_pairs *p, struct ing_memory *memory);
void     ing_pairs_deinit(struct ing_pairs *p);
uint32_t ing_pairs_name(struct ing_pairs *p, struct kl_span name, bool make);   /* or ING_NONE */
uint32_t ing_pairs_get(struct ing_pairs *p, struct kl_span name, struct kl_span value, bool make);
uint32_t ing_pairs_of(struct ing_pairs *p, uint32_t name, struct kl_span value, bool make);
void     ing_pairs_sweep(struct ing_pairs *p);         /* frees every pair whose set is empty */
void     ing_pairs_sort(struct ing_pairs *p, struct ing_name *n);      /* all of values in order */
void     ing_pairs_reserve(struct ing_pairs *p, uint32_t count);       /* no rehash up to so many */
struct kl_span ing_text(const uint8_t *text);
static inline struct ing_pair *ing_pair_at(struct ing_pair **pages, uint32_t n)
{
    return &pages[n / ING_PAGE][n % ING_PAGE];
}
static inline struct ing_name *ing_name_at(struct ing_name **pages, uint32_t n)
{
    return &pages[n / ING_PAGE][n % ING_PAGE];
}
void ing_view_take(struct ing_view *v, const struct ing_pairs *p);     /* copies the directories */
void ing_view_drop(struct ing_view *v);
/* The canonical labels of a series: appended to `out`. */
void ing_render(struct ing_pair **pairs, struct ing_name **names, const uint32_t *of,
                uint32_t count, struct kl_buf *out);

/* ---- tail.c: the open tail, a stream of bytes; and what it holds, decoded ---- */
enum ing_tail_kind { ING_EMPTY = 0, ING_FLOATS = BLK_FLOATS, ING_HISTS = BLK_HISTS };
struct ing_tail {
    uint8_t *bytes;
    int64_t  first_ms, last_ms;
    uint64_t bits;                                     /* of the last value */
    int32_t  step_ms;                                  /* the last two samples' distance */
    uint16_t size, room, count;
    uint8_t  kind, end;                                /* enum ing_tail_end */
};
/* What its bytes end with: the start time of the last sample; one sample that repeats the one before,
 * or several. */
enum ing_tail_end { ING_END_OTHER, ING_END_START, ING_END_SAME, ING_END_REPEAT };
/* Where tails' bytes lie: most in blocks of three sizes that lie side by side, so that tails that come
 * and go leave no holes; long histograms by themselves. */
enum { ING_TAIL_TINY = 32, ING_TAIL_SMALL = 96, ING_TAIL_LARGE = 256, ING_TAIL_SIZES = 3, ING_TAIL_FEW = 32 };
struct ing_blocks {
    struct { void *free; uint8_t **pages; uint32_t count; } of[ING_TAIL_SIZES];
    int64_t bytes;                                     /* of all pages and all others */
};
uint16_t ing_block_room(uint16_t size);                /* of the smallest that holds so much */
uint8_t *ing_block_take(struct ing_blocks *b, uint16_t room);
void     ing_block_give(struct ing_blocks *b, uint8_t *bytes, uint16_t room);  /* NULL is fine */
void     ing_blocks_deinit(struct ing_blocks *b);
/* The tail's state, without its bytes, is enough to append. False: seal it first (full, too far
 * apart, of another kind). time_ms is above last_ms. */
bool ing_tail_add(struct ing_tail *t, int64_t time_ms, double value, struct ing_blocks *b);
bool ing_tail_add_hist(struct ing_tail *t, int64_t time_ms, struct kl_span hist, struct ing_blocks *b);
/* Whether a sample of that time and value (floats) or those bytes (histograms), and without a start time, is in it. */
bool ing_tail_has(const struct ing_tail *t, int64_t time_ms, double value);
bool ing_tail_has_hist(const struct ing_tail *t, int64_t time_ms, struct kl_span hist);
/* Bytes from a file: is this a tail that the others may read? Sets `end`. */
bool ing_tail_check(struct ing_tail *t);
/* The start time of the last sample. False: no room, seal it first. */
bool ing_tail_start(struct ing_tail *t, int64_t start_ms, struct ing_blocks *b);
void ing_tail_drop(struct ing_tail *t, struct ing_blocks *b);  /* its samples and its bytes */
struct ing_run {                                       /* decoded: what a chunk or a tail holds */
    uint32_t count;
    int64_t  times[BLK_CHUNK_MAX], starts[BLK_CHUNK_MAX];
    double   values[BLK_CHUNK_MAX];
};
void ing_tail_floats(const struct ing_tail *t, struct ing_run *run);
/* The histograms' arrays lie in `arena`. KL_ELIMIT past its cap. */
enum kl_code ing_tail_hists(const struct ing_tail *t, struct kl_arena *arena, int64_t *times,
                            int64_t *starts, struct kl_hist *hists, struct kl_err *err);
/* As a chunk, appended to `out`. */
enum kl_code ing_tail_encode(const struct ing_tail *t, struct kl_buf *out, struct kl_err *err);

/* ---- chunks.c: sealed chunks, in memory or spilled into a file of the snapshot ---- */
enum { ING_CHUNK_BYTES_MAX = (1 << 24) - 1, ING_CUTS_MAX = (1 << 20) - 1, ING_FILES_MAX = 255 };
struct ing_chunk {                                     /* immutable but for next and cut; in memory, at */
    struct ing_chunk *next;
    int64_t  first_ms;
    uint32_t span_ms;                                  /* from the first to the last sample */
    uint32_t at;                                       /* spilled: where in that file; else not 0: a snapshot's pass names it */
    uint32_t size : 24, file : 8;                      /* file 0: its bytes follow */
    uint32_t cut : 20, count : 10, kind : 2;           /* cut: that job has it; 0: none */
    uint8_t  bytes[];
};
_Static_assert(sizeof(struct ing_chunk) == 32, "what a sealed chunk weighs beside its bytes");
static inline int64_t ing_chunk_last(const struct ing_chunk *c) { return c->first_ms + c->span_ms; }

/* Files of spilled chunks, by number. A slot is set before a chunk names it, and emptied when none
 * does any more and no worker is out: so workers read it without a lock. */
struct ing_file {
    struct kl_env_dir  *dir;                           /* of the view; the partition's */
    struct kl_env_view *view;
    uint64_t serial, size;                             /* its name's number, its bytes */
    uint64_t live_bytes; uint32_t live;                /* of chunks that name it */
};
struct ing_files {
    struct ing_file *at[ING_FILES_MAX + 1];
    uint64_t live_bytes;
    _Atomic int damaged;                               /* 0; 1: somebody writes the words; 2: they are there */
    struct kl_err words; uint64_t bad_serial;
};
enum { ING_SPILLED_HEAD = 4 };                         /* before a chunk's bytes in a file: their checksum */
uint32_t ing_spilled_crc(uint64_t serial, uint64_t at, struct kl_span bytes);
/* A chunk's bytes: its own, or read into `scratch` and checked. KL_ECORRUPT, KL_EIO with the file's
 * name, and then the first such failure is kept in `files`. Any thread; a worker while nothing is
 * freed. */
enum kl_code ing_chunk_bytes(struct ing_files *files, const struct ing_chunk *c,
                             struct kl_buf *scratch, struct kl_span *bytes, struct kl_err *err);
/* The same of several at once, in spilled.c: those that lie near each other are read together. `block`
 * is what `bytes` lie in, malloc'ed, or NULL. At hand: without waiting for the disk, else KL_EAGAIN. */
enum kl_code ing_chunks_bytes(struct ing_files *files, const struct ing_chunk *const *chunks, uint32_t count,
                              bool at_hand, struct kl_span *bytes, char **block, struct kl_err *err);
/* `read`: as it lies in the file, checksum first. */
enum kl_code ing_chunk_check(struct ing_files *files, const struct ing_chunk *c, const char *read,
                             struct kl_span *bytes, struct kl_err *err);
enum kl_code ing_chunk_damaged(struct ing_files *files, const struct ing_file *f, struct kl_err *err);

/* ---- series.c ---- */
struct ing_late_sample { int64_t time_ms, start_ms; double value; };
struct ing_late { uint32_t count, room; struct ing_late_sample at[]; };    /* rising times */
struct ing_series {
    struct kl_fp fp;
    uint32_t *pairs;                                   /* in the order of the label names */
    struct ing_chunk *first, *last;
    struct ing_late  *late;
    struct ing_tail   tail;
    int64_t  last_ms;                                  /* of any sample yet, INT64_MIN: none */
    uint32_t id, definitions;                          /* how many refs stand for it */
    uint32_t chunk_bytes;                              /* of its chunks that no cut has taken */
    uint16_t pair_count;
    bool     alive;
    uint8_t  looked;                                   /* by its tail's count: when it was last looked at */
};

struct ing_head {
    struct kl_span tenant;                             /* malloc'ed */
    struct ing_pairs pairs;
    struct ing_series **pages; uint32_t page_room;
    uint32_t made, free_id, count;                     /* free_id: a list through `definitions` */
    uint32_t *slots, slot_mask;                        /* by fingerprint: numbers, */
    uint8_t  *tags;                                    /* and a byte of it; 0: empty */
    roaring_bitmap_t *all;
    uint64_t born, gone;                               /* series ever made and removed: a generation */
    struct ing_memory memory;
    int64_t  window_ms, window_lo, window_hi;          /* the window of the last sample looked at */
    struct ing_blocks tails;
    struct kl_buf encoded, spilled;                    /* scratch */
    struct ing_files *files;                           /* the partition's; NULL: nothing is spilled */
    struct ing_chunk **chunk_pages, *chunk_free;       /* of spilled chunks, which lie side by side */
    uint32_t chunk_page_count;
    uint64_t sealed_bytes;                             /* of chunks in memory */
    struct ing_chunk *retired; size_t retired_bytes;   /* that a larger one has replaced */
    uint32_t idle_at;                                  /* the next series to look at */
    bool     again;                                    /* samples may come that are in the tails already */
    bool     heavy;                                    /* a series outgrows a message: cut it soon */
    uint64_t samples, late_samples, equal_samples;
    struct ing_extras *extras;
};
struct ing_head   *ing_head_new(struct kl_span tenant, int64_t window_ms, struct ing_files *files);
void               ing_head_free(struct ing_head *h);
static inline struct ing_series *ing_series_at(const struct ing_head *h, uint32_t id)
{
    return &h->pages[id / ING_PAGE][id % ING_PAGE];
}
void               ing_head_reserve(struct ing_head *h, uint32_t count);      /* no rehash up to so many */
void               ing_head_prefetch(const struct ing_head *h, struct kl_fp fp);
struct ing_series *ing_head_find(const struct ing_head *h, struct kl_fp fp);
struct ing_series *ing_head_series(struct ing_head *h, struct kl_fp fp, struct kl_labels labels);
/* A series of pairs that are there, in the order of their names; its fingerprint must be new. */
struct ing_series *ing_head_add(struct ing_head *h, struct kl_fp fp, const uint32_t *pairs, uint32_t count);
void               ing_head_remove(struct ing_head *h, struct ing_series *s);
/* Looks at the next `count` series; a tail that is as it was when looked at before is sealed. */
void               ing_head_seal_idle(struct ing_head *h, uint32_t count);
/* No sample and no ref speaks of it. */
static inline bool ing_series_idle(const struct ing_series *s)
{
    return s->definitions == 0 && s->first == NULL && s->tail.count == 0 && s->late == NULL;
}

/* A sample, whatever its time: equal to one that is there, late, of another kind. No chunk or tail
 * reaches over a window's bound. `hist` is what tsp_hist_put writes. */
void ing_series_float(struct ing_head *h, struct ing_series *s, int64_t time_ms, double value);
void ing_series_hist(struct ing_head *h, struct ing_series *s, int64_t time_ms, struct kl_span hist);
/* The start time of a sample that was given before, if it is held and no cut has taken it. 0: none. */
void ing_series_start(struct ing_head *h, struct ing_series *s, int64_t time_ms, int64_t start_ms);
/* The open tail, and the late samples, become chunks. */
void ing_series_seal_tail(struct ing_head *h, struct ing_series *s);
void ing_series_seal_late(struct ing_head *h, struct ing_series *s);
/* Everything before end_ms that is not sealed for another cut belongs to `cut` now; calls each
 * chunk. A chunk that reaches across end_ms is divided. */
void ing_series_cut(struct ing_head *h, struct ing_series *s, uint32_t cut, int64_t end_ms,
                    void (*each)(void *ctx, struct ing_series *s, struct ing_chunk *c), void *ctx);
/* Forgets the chunks sealed for `cut`. */
void ing_series_let_go(struct ing_head *h, struct ing_series *s, uint32_t cut);
/* A chunk in memory of the size of h->encoded's content, those bytes its own; not yet in a list. */
struct ing_chunk *ing_chunk_new(struct ing_head *h, struct kl_span bytes, const struct blk_chunk_head *head);
/* One that lies in a file: as `like`, or as told. */
void ing_chunk_append(struct ing_series *s, struct ing_chunk *c);
struct ing_chunk *ing_chunk_spilled(struct ing_head *h, const struct ing_chunk *like, uint32_t file,
                                    uint32_t at);
void ing_chunk_free(struct ing_head *h, struct ing_chunk *c);
/* Out of its list, but a page may be made of it: freed by ing_chunks_bury, when none is. */
void ing_chunk_retire(struct ing_head *h, struct ing_chunk *c);
void ing_chunks_bury(struct ing_head *h);
void ing_chunks_deinit(struct ing_head *h);            /* the pages, when no chunk is left */
/* Whether any sample lies in [from, to] (by the bounds of chunks). */
bool ing_series_meets(const struct ing_series *s, int64_t from_ms, int64_t to_ms);

/* ---- match.c: which series a list of matchers means; the caller frees it ---- */
roaring_bitmap_t *ing_match(struct ing_head *h, const struct kl_matcher *m, size_t count);

/* ---- extras.c: metadata and exemplars of a tenant ---- */
/* old: a cut that ended after it found no fileset to put it into. told_ms: by the log's clock. */
struct ing_meta { uint8_t type; bool old; int64_t told_ms; struct kl_span metric, unit, help; };
struct ing_exemplar { struct kl_fp fp; int64_t time_ms; double value; struct kl_span labels; bool old; };
struct ing_extras {
    struct ing_meta *metas; uint32_t meta_count, meta_room, meta_fresh;        /* by metric, in order */
    struct ing_exemplar *exemplars; uint32_t exemplar_count, exemplar_room, exemplar_fresh;
    uint32_t *slots, slot_mask;                        /* of exemplars: number + 1 */
};
enum { ING_META_MAX = 1 << 20, ING_EXEMPLARS_MAX = 1 << 18 };  /* that are not old, and as many that are */
/* Copied. False: there is no room. */
bool ing_extras_meta(struct ing_head *h, const struct ing_meta *m);
bool ing_extras_exemplar(struct ing_head *h, const struct ing_exemplar *e);
/* Metadata told before end_ms: a fileset took it, and it goes; or it is old. */
void ing_extras_told(struct ing_head *h, int64_t end_ms, bool took);
enum ing_fate { ING_KEPT, ING_OLD, ING_GONE };         /* KEPT: as it is */
void ing_extras_sift(struct ing_head *h, enum ing_fate (*fate)(void *ctx, const struct ing_exemplar *e), void *ctx);
/* Adds all that is not old. False: there is nothing. */
bool ing_extras_digest(const struct ing_head *h, struct tsp_digest_sum of[TSP_DIGEST_KINDS]);
void ing_extras_free(struct ing_head *h);

/* ---- erase.c: what a deletion means goes. A chunk that a cut has taken leaves the list and is handed
 * to `taken`, which frees it when that cut is let go. ---- */
typedef void (*ing_taken)(void *ctx, struct ing_head *h, struct ing_series *s, struct ing_chunk *c);
void ing_series_erase(struct ing_head *h, struct ing_series *s, struct blk_hide *hide,
                      struct blk_hidden span, ing_taken taken, void *ctx);
void ing_head_erase(struct ing_head *h, const struct blk_deletion *d, ing_taken taken, void *ctx);
#endif
