#ifndef TSP_TSDB_H
#define TSP_TSDB_H
/*
 * A block of Prometheus' TSDB, as Prometheus, Thanos, Cortex and Mimir write it: a folder
 *
 *   <ulid>/meta.json  index  chunks/000001 ...  [tombstones]
 *
 * Here are the readers of its bytes, all of them on memory that the caller brings, so that they can be
 * fuzzed; `koalemos import` has the files. Numbers are big-endian, checksums CRC-32C, varints Go's.
 *
 *   index       u32 baaad700, u8 version (1, 2)
 *               symbols | series | label indices | postings | label offsets | postings offsets
 *               toc: 6 x u64 where each of those begins, 0: there is none; u32 crc
 *   a section   u32 size, content, u32 crc
 *   symbols     u32 count, { uvarint size, bytes }, sorted  a reference is its number; version 1: its offset
 *   postings    u32 count, u32 references of series         of the pair "" = "": all there are
 *   series      uvarint size, content, u32 crc              at 16 times its reference; version 1: at it
 *   chunk file  u32 85bd40dd, u8 1, 3 bytes; then chunks    chunk reference: u32 file, u32 offset
 *   chunk       uvarint size, u8 encoding, data, u32 crc over encoding and data
 *   tombstones  u32 0130ba30, u8 1, { uvarint series, varint from, varint to }, u32 crc over the latter
 *
 * KL_ECORRUPT: not what it should be, with words; KL_ELIMIT: past a bound. Pure; any thread.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"
#include "libkoal/base/hist.h"
#include "libkoal/base/labels.h"

/* ---- meta.json ---- */
enum { TSP_TSDB_META_MAX = 16 << 20, TSP_TSDB_ULID = 26, TSP_TSDB_OUTER_MAX = 64,
       TSP_TSDB_DEPTH_MAX = 32 };
struct tsp_tsdb_meta {
    char     ulid[TSP_TSDB_ULID + 1];
    int64_t  min_ms, max_ms;                           /* the block's range, max excluded */
    uint64_t series, samples, chunks;                  /* as it says; 0 where it does not */
    int64_t  resolution_ms;                            /* Thanos' downsampling; 0: raw */
    uint32_t outer_count;                              /* Thanos' labels, that all series have besides */
    struct { char *name, *value; } outer[TSP_TSDB_OUTER_MAX];
};
enum kl_code tsp_tsdb_meta_read(struct kl_span bytes, struct tsp_tsdb_meta *m, struct kl_err *err);
void         tsp_tsdb_meta_deinit(struct tsp_tsdb_meta *m);

/* ---- tombstones: samples that were deleted; sorted by series, then time ---- */
enum { TSP_TSDB_STONES_MAX = 1 << 24 };
struct tsp_tsdb_stone { uint64_t series; int64_t from_ms, to_ms; };    /* both included */
enum kl_code tsp_tsdb_stones_read(struct kl_span bytes, struct tsp_tsdb_stone **stones, size_t *count,
                                  struct kl_err *err);                 /* free(*stones) */

/* ---- index ---- */
enum { TSP_TSDB_INDEX_HEAD = 5, TSP_TSDB_TOC = 52, TSP_TSDB_SIZE_HEAD = 10 };
struct tsp_tsdb_toc {
    uint8_t  version;
    uint64_t symbols, series, label_indices, label_table, postings, postings_table;
};
/* The first TSP_TSDB_INDEX_HEAD bytes of a file of `size`, and its last TSP_TSDB_TOC. */
enum kl_code tsp_tsdb_toc_read(const uint8_t *head, const uint8_t *tail, uint64_t size,
                               struct tsp_tsdb_toc *toc, struct kl_err *err);
static inline uint32_t tsp_tsdb_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
/* A section, whole: its first four bytes said how long its content is. Checks that, and the crc. */
enum kl_code tsp_tsdb_section(struct kl_span bytes, struct kl_span *content, struct kl_err *err);

struct tsp_tsdb_symbols;                               /* borrows the content; immutable */
enum kl_code tsp_tsdb_symbols_new(struct kl_span content, uint8_t version, uint64_t offset,
                                  struct tsp_tsdb_symbols **s, struct kl_err *err);
void         tsp_tsdb_symbols_free(struct tsp_tsdb_symbols *s);
/* False: there is none of that reference. */
bool         tsp_tsdb_symbol(const struct tsp_tsdb_symbols *s, uint64_t ref, struct kl_span *text);

/* Where the list of all series is, by the content of the postings' offset table. */
enum kl_code tsp_tsdb_all_series(struct kl_span content, uint64_t *offset, struct kl_err *err);
/* A postings list's content: the nth of `count` references. */
enum kl_code tsp_tsdb_postings(struct kl_span content, uint32_t *count, struct kl_err *err);
static inline uint32_t tsp_tsdb_posting(struct kl_span content, uint32_t i)
{
    return tsp_tsdb_be32((const uint8_t *)content.at + 4 + (size_t)i * 4);
}

/* A series, or a chunk: how many bytes it has in all, by the first TSP_TSDB_SIZE_HEAD of them (or
 * fewer, at the end of the file); 0: no bytes that make sense. Then its content, checked by its crc. */
uint64_t     tsp_tsdb_series_size(struct kl_span head);
uint64_t     tsp_tsdb_chunk_size(struct kl_span head);
enum kl_code tsp_tsdb_series_content(struct kl_span bytes, struct kl_span *content, struct kl_err *err);
enum kl_code tsp_tsdb_chunk_content(struct kl_span bytes, uint8_t *encoding, struct kl_span *data,
                                    struct kl_err *err);

struct tsp_tsdb_chunk { int64_t min_ms, max_ms; uint64_t ref; };       /* both included */
struct tsp_tsdb_series {                               /* {0}; deinit when done */
    struct kl_labels_builder labels;                   /* pairs borrowed from the symbols */
    struct tsp_tsdb_chunk   *chunks;
    size_t                   count, room;
};
enum kl_code tsp_tsdb_series_read(struct kl_span content, const struct tsp_tsdb_symbols *symbols,
                                  struct tsp_tsdb_series *s, struct kl_err *err);
void         tsp_tsdb_series_deinit(struct tsp_tsdb_series *s);

/* ---- chunk files ---- */
enum { TSP_TSDB_CHUNKS_HEAD = 8, TSP_TSDB_SAMPLES_MAX = 65535 };
enum tsp_tsdb_encoding { TSP_TSDB_XOR = 1, TSP_TSDB_HISTOGRAM = 2, TSP_TSDB_FLOAT_HISTOGRAM = 3 };
enum kl_code tsp_tsdb_chunks_head(const uint8_t head[TSP_TSDB_CHUNKS_HEAD], struct kl_err *err);
/* Into arrays of TSP_TSDB_SAMPLES_MAX; times rise strictly. */
enum kl_code tsp_tsdb_floats(struct kl_span data, int64_t *times_ms, double *values, uint32_t *count,
                             struct kl_err *err);
/* The same of either kind of histogram; their arrays lie in `arena`. */
enum kl_code tsp_tsdb_hists(struct kl_span data, bool floats, struct kl_arena *arena, int64_t *times_ms,
                            struct kl_hist *hists, uint32_t *count, struct kl_err *err);
#endif
