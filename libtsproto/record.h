#ifndef TSP_RECORD_H
#define TSP_RECORD_H
/*
 * One record of the log: what a doorman (or an owner: cuts) appends to a partition at once.
 *
 *   u16 magic 'K''R'   u8 version = 1   u8 flags (1: body is zstd)   u32 crc32c of all that follows
 *   16 bytes writer incarnation   u64 counter   u32 body size, unpacked   body
 *   body: sections, each  u8 type   u32 size   payload         all integers little-endian
 *
 *   1 definitions  span tenant, then until the end { zigzag varint ref - previous ref,
 *                  u64 fp.hi, u64 fp.lo, span canonical labels }
 *   2 floats       span tenant, zigzag base time; then until the end a run:
 *                  varint (zigzag(ref - previous ref) << 1 | many), [many: varint count],
 *                  count x { zigzag(time - previous time; first: base time), 8 bytes the double }
 *   3 histograms   span tenant, zigzag base time; { zigzag ref delta, zigzag time delta, a histogram
 *                  as tsp_hist_put writes it }
 *   4 start times  span tenant; { zigzag ref delta, zigzag sample time, zigzag (time - start time) }
 *   5 exemplars    span tenant; { zigzag ref delta, zigzag time, f64 value, span canonical labels }
 *   6 metadata     span tenant; { span metric, u8 type, span unit, span help }
 *   7 deletions    span tenant; zigzag from, zigzag to, varint matcher count, {u8 op, span, span}
 *   8 cut          zigzag window start, varint window length ms (0: flush everything),
 *                  varint lease epoch, varint format version
 *
 * Refs are a doorman incarnation's own: {writer incarnation, partition, stream incarnation, ref}
 * names a series once its definition has been seen; the same tenant and ref are always the same
 * series. A definition counts as sent only after the ack of a record that held it; until then every
 * record with samples of it repeats it, and it is repeated hourly. A reader that meets a ref it has
 * no definition for keeps the samples under the ref until the definition comes.
 * An unknown version, flag or section type stops the reader (KL_ECORRUPT): it is never skipped.
 * A record is at most TSP_RECORD_MAX bytes packed and TSP_RECORD_BODY_MAX unpacked.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"
#include "libkoal/base/hist.h"
#include "libkoal/base/labels.h"
#include "libkoal/base/match.h"

enum { TSP_RECORD_CLOSE = 256 * 1024, TSP_RECORD_BODY_MAX = 4 << 20, TSP_RECORD_MAX = 900 * 1024 };
enum { TSP_TENANT_MAX = 150 };
enum tsp_section { TSP_DEFINITIONS = 1, TSP_FLOATS, TSP_HISTOGRAMS, TSP_STARTS, TSP_EXEMPLARS,
                   TSP_METADATA, TSP_DELETIONS, TSP_CUT };

struct tsp_incarnation { uint8_t bytes[16]; };
struct tsp_deletion {                                  /* .re of the matchers is not compiled */
    int64_t from_ms, to_ms;
    uint32_t matcher_count;
    struct kl_matcher matchers[64];
};
struct tsp_cut { int64_t window_start_ms, window_ms; uint64_t epoch; uint32_t format; };

/* ---- writing: one thread; reusable; memory bounded by the record's bounds ---- */
struct tsp_record_writer;
struct tsp_record_writer *tsp_record_writer_new(void);
void   tsp_record_writer_free(struct tsp_record_writer *w);
void   tsp_record_start(struct tsp_record_writer *w);              /* forget what was begun */
size_t tsp_record_size(const struct tsp_record_writer *w);         /* body so far, unpacked */
/* Each belongs to `tenant`; definitions and floats of different tenants may be mixed freely, the
 * writer opens a section when tenant or kind changes (keeping one of each kind open a tenant). */
void tsp_record_define(struct tsp_record_writer *w, struct kl_span tenant, uint64_t ref,
                       struct kl_fp fp, struct kl_labels labels);
void tsp_record_floats(struct tsp_record_writer *w, struct kl_span tenant, uint64_t ref,
                       const int64_t *times_ms, const double *values, size_t count);
void tsp_record_hist(struct tsp_record_writer *w, struct kl_span tenant, uint64_t ref,
                     int64_t time_ms, const struct kl_hist *h);
void tsp_record_start_time(struct tsp_record_writer *w, struct kl_span tenant, uint64_t ref,
                           int64_t time_ms, int64_t start_ms);
void tsp_record_exemplar(struct tsp_record_writer *w, struct kl_span tenant, uint64_t ref,
                         int64_t time_ms, double value, struct kl_labels labels);
void tsp_record_metadata(struct tsp_record_writer *w, struct kl_span tenant, struct kl_span metric,
                         uint8_t type, struct kl_span unit, struct kl_span help);
void tsp_record_delete(struct tsp_record_writer *w, struct kl_span tenant,
                       const struct tsp_deletion *d);  /* at least one matcher */
void tsp_record_cut(struct tsp_record_writer *w, const struct tsp_cut *cut);
/* Packs (zstd when it pays) and seals; appends the record to `out`. KL_ELIMIT past the bounds. */
enum kl_code tsp_record_finish(struct tsp_record_writer *w, struct tsp_incarnation who,
                               uint64_t counter, struct kl_buf *out, struct kl_err *err);

/* ---- reading: callbacks, no objects; spans and arrays are borrowed during the call ---- */
struct tsp_record_head { struct tsp_incarnation who; uint64_t counter; };
struct tsp_record_sink {                               /* NULL members are not wanted */
    void *ctx;
    void (*define)(void *ctx, struct kl_span tenant, uint64_t ref, struct kl_fp fp,
                   struct kl_labels labels);           /* labels are checked canonical */
    void (*floats)(void *ctx, struct kl_span tenant, uint64_t ref, const int64_t *times_ms,
                   const double *values, size_t count);        /* runs, at most 512 at a time */
    void (*hist)(void *ctx, struct kl_span tenant, uint64_t ref, int64_t time_ms,
                 const struct kl_hist *h);
    void (*start_time)(void *ctx, struct kl_span tenant, uint64_t ref, int64_t time_ms,
                       int64_t start_ms);
    void (*exemplar)(void *ctx, struct kl_span tenant, uint64_t ref, int64_t time_ms, double value,
                     struct kl_labels labels);
    void (*metadata)(void *ctx, struct kl_span tenant, struct kl_span metric, uint8_t type,
                     struct kl_span unit, struct kl_span help);
    void (*deletion)(void *ctx, struct kl_span tenant, const struct tsp_deletion *d);
    void (*cut)(void *ctx, const struct tsp_cut *cut);
};
struct tsp_record_reader;                              /* scratch and a zstd context; one thread */
struct tsp_record_reader *tsp_record_reader_new(void);
void tsp_record_reader_free(struct tsp_record_reader *r);
/* Checks magic, version, crc, bounds and every section whole BEFORE the first callback, so a bad
 * record changes nothing. `head` may be NULL. In a record, its definitions are called first. */
enum kl_code tsp_record_read(struct tsp_record_reader *r, struct kl_span record,
                             const struct tsp_record_sink *sink, struct tsp_record_head *head,
                             struct kl_err *err);

/* A histogram as bytes, for records and select answers. get's arrays lie in `arena`. */
void         tsp_hist_put(struct kl_buf *out, const struct kl_hist *h);
enum kl_code tsp_hist_get(struct kl_cur *c, struct kl_arena *arena, struct kl_hist *h,
                          struct kl_err *err);
#endif
