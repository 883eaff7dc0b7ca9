#ifndef TSP_SELECT_H
#define TSP_SELECT_H
/*
 * What a querier asks the owner of a partition, and the answer: one request, one page.
 * Subject: tsp_select_subject. The request is the protobuf message koalemos.Select (nanopb), the
 * answer is hand-written bytes, since it is bulk:
 *
 *   u16 'K''A'  u8 version = 1  u8 flags (1: there is more; 2: it may be stale)
 *   u64 applied seq  u64 stream incarnation
 *   u64 placement revision  u64 catalogue revision (data catalogued up to it may be gone from here)
 *   u64 late-write counter   16 bytes cursor: the last fingerprint on this page
 *   then items until the end; `what` decides:
 *     SERIES   u64 fp.hi, u64 fp.lo, span labels, varint chunk count,
 *              { zigzag first time, varint (last - first), varint sample count, u8 kind, span chunk }
 *     LABELS   u64 fp.hi, u64 fp.lo, span labels               (series without samples)
 *     NAMES, VALUES   span text                                (sorted; cursor by text: see below)
 *     METADATA span metric, u8 type, span unit, span help
 *     MARKS    u64 position, then { zigzag hour, varint position }: the last record that brought
 *              something of that hour since the epoch; the first is for hours not named. None was
 *              brought later, up to `applied seq`. Of all tenants; hours that lie in the range
 *     EXEMPLARS as SERIES, with one chunk of kind TSP_CHUNK_EXEMPLARS a series, whose bytes are
 *              { zigzag time, f64 value, span canonical labels } by time; the newest 256 KiB of them
 *     PARTIAL  what an aggregate of the series comes to (pql_partial), all of it: there are no pages
 *     STOP     nothing at all, not even a head: the asker does not want a PARTIAL any more, which is
 *              answered then, KL_ECANCELED, if it was not yet. To the same subject as that was
 * A chunk's bytes are libblock's business (blk_chunk_*): opaque here, and so are a partial's.
 *
 * A question may be to several partitions, `also`: its subject is that of one. It is answered by a
 * bundle, of the pages of those that the same owner has at hand:
 *
 *   u16 'K''B'  u8 version = 1  u8 0    then { u32 partition, span page } until the end
 *
 * The first is always in it (or the answer is its failure); those left out are to be asked again. A
 * bundle ends near TSP_SELECT_PAGE bytes, as a page does.
 *
 * Series come in rising fingerprint order, NAMES and VALUES in bytewise order; the next page starts
 * after `cursor_fp`, or `cursor_text`. A page ends near TSP_SELECT_PAGE bytes; one series never
 * splits; a series larger than a message is answered KL_ELIMIT.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"
#include "libkoal/base/labels.h"
#include "libkoal/base/match.h"
#include "libkoal/base/trace.h"
#include "libtsproto/record.h"

enum { TSP_SELECT_PAGE = 512 * 1024, TSP_MATCHERS_MAX = 64, TSP_ALSO_MAX = 63 };
enum tsp_select_what { TSP_SEL_SERIES = 1, TSP_SEL_LABELS, TSP_SEL_NAMES, TSP_SEL_VALUES, TSP_SEL_METADATA,
                       TSP_SEL_EXEMPLARS, TSP_SEL_MARKS, TSP_SEL_PARTIAL, TSP_SEL_STOP };
/* DEFAULT: of a member that has compared what it applied with the log's end just now; others refuse,
 * KL_EAGAIN. STRONG: all that is in the log when asked. CAUSAL: min_seq at least. ANY: whatever the
 * member has; the page says whether it may be stale. */
enum tsp_consistency { TSP_READ_DEFAULT, TSP_READ_STRONG, TSP_READ_CAUSAL, TSP_READ_ANY };

/*
 * What a PARTIAL is of. An ingestor that does not know the kind of question, or another version of it,
 * refuses; the asker then asks for the series. `partitions` and `spread` are the asker's layout of the
 * selector's one metric: where a series with samples in the range has another place than the partition that
 * is asked, the answer is a refusal as well, for it may lie there too, and would count twice. `asker` (drawn at
 * random) and `number` name it to who stops it; asker 0: nobody will.
 */
enum { TSP_PUSH_VERSION = 1, TSP_PUSH_TEXT_MAX = 64 << 10, TSP_PUSH_STEPS_MAX = 11001 };
struct tsp_push {
    uint32_t version;                                  /* of the evaluation, and of what comes back */
    struct kl_span text;
    int64_t  start_ms, step_ms, lookback_ms;
    uint32_t steps;
    uint64_t samples_max;                              /* of the query; at the ingestor a bound of its own counts too */
    bool     tally;
    uint32_t partitions, spread;
    uint64_t asker, number;
};
struct tsp_select {
    enum tsp_select_what what;
    uint32_t partition;
    struct kl_span tenant;
    uint32_t matcher_count;
    struct kl_matcher matchers[TSP_MATCHERS_MAX];      /* decode leaves .re NULL; tsp_select_compile */
    int64_t from_ms, to_ms;                            /* inclusive */
    struct kl_span label;                              /* VALUES */
    bool has_cursor;
    struct kl_fp cursor_fp;
    struct kl_span cursor_text;
    uint32_t limit;                                    /* items in all; 0: no limit */
    enum tsp_consistency consistency;
    uint64_t min_seq;                                  /* CAUSAL */
    int64_t timeout_ms;
    uint32_t also_count;                               /* 0: the answer is a page, not a bundle */
    uint32_t also[TSP_ALSO_MAX];
    struct tsp_push push;                              /* PARTIAL; of STOP asker and number alone */
    struct kl_trace trace;                             /* on: the asker's span */
    struct kl_span request_id;                         /* for the log; at most TSP_REQUEST_ID_MAX */
};
enum { TSP_REQUEST_ID_MAX = 64 };
void         tsp_select_subject(char *out, size_t size, uint32_t partition);
/* The same question to one member, whether or not it is the owner. */
void         tsp_select_member(char *out, size_t size, uint32_t partition, const char *name);
enum kl_code tsp_select_encode(const struct tsp_select *s, struct kl_buf *out, struct kl_err *err);
/* Spans lie in `bytes` or `arena`. */
enum kl_code tsp_select_decode(struct kl_span bytes, struct kl_arena *arena, struct tsp_select *s,
                               struct kl_err *err);
/* Compiles the regexes; tsp_select_release frees them. */
enum kl_code tsp_select_compile(struct tsp_select *s, struct kl_err *err);
void         tsp_select_release(struct tsp_select *s);

/* Of an item of EXEMPLARS: each of its exemplars, and what stands behind fingerprint and labels. */
enum { TSP_CHUNK_EXEMPLARS = 0xee };
void tsp_exemplar_put(struct kl_buf *run, int64_t time_ms, double value, struct kl_span labels);
void tsp_exemplars_end(struct kl_buf *out, int64_t first_ms, int64_t last_ms, size_t count,
                       struct kl_span run);
/* The next of a run; false at its end, or with c->bad. Its labels are not checked. */
bool tsp_exemplar_next(struct kl_cur *c, int64_t *time_ms, double *value, struct kl_labels *labels);

/* Of MARKS. */
void tsp_marks_begin(struct kl_buf *out, uint64_t rest);
void tsp_marks_add(struct kl_buf *out, int64_t hour, uint64_t seq);
/* The first of the items; then each other: false at the end, or with c->bad. */
uint64_t tsp_marks_rest(struct kl_cur *c);
bool     tsp_marks_next(struct kl_cur *c, int64_t *hour, uint64_t *seq);

struct tsp_page {                                      /* the head of an answer */
    bool more, stale;
    uint64_t applied_seq, incarnation, placement_revision, catalogue_revision, late_writes;
    struct kl_fp cursor;
};
enum { TSP_PAGE_HEAD_SIZE = 60 };
void         tsp_page_begin(struct kl_buf *out);                          /* reserves the head */
void         tsp_page_end(struct kl_buf *out, const struct tsp_page *page);   /* fills it */
enum kl_code tsp_page_open(struct kl_span answer, struct tsp_page *page, struct kl_cur *items,
                           struct kl_err *err);
void         tsp_bundle_begin(struct kl_buf *out);
void         tsp_bundle_add(struct kl_buf *out, uint32_t partition, struct kl_span page);
/* KL_EINVAL: it is no bundle. */
enum kl_code tsp_bundle_open(struct kl_span answer, struct kl_cur *pages, struct kl_err *err);
bool         tsp_bundle_next(struct kl_cur *pages, uint32_t *partition, struct kl_span *page);
#endif
