#ifndef PQL_H
#define PQL_H
/*
 * PromQL, the language of Prometheus 3.14, alone: it knows no network, no block, no thread.
 *
 *   pql_new -> pql_step: NEED  the caller fetches what pql_needs lists, pql_feed's it, steps again
 *                        WORK  the caller runs items 0..n-1 of pql_work, in any order, on any
 *                              threads, all of them, then steps again
 *                        DONE  pql_result says what came out
 *
 * It never blocks and never pulls. One thread at a time, except pql_work of different items.
 * Evaluation is columnar: a selector's series come whole, as sorted columns; every operator turns
 * matrices (series x steps) into matrices. An instant query is a range of one step. Aggregates fold in
 * canonical series order (kl_labels_cmp) with compensated sums, so answers do not depend on threads; an
 * aggregate right over a selector, or over a function of its range, each part of the series by itself
 * first, then the parts in the order of their numbers: so it does not matter where a part was folded.
 * Everything is charged to the budget; past it the query ends with PQL_EXECUTION and words.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"
#include "libkoal/base/hist.h"
#include "libkoal/base/labels.h"
#include "libkoal/base/match.h"
#include "libkoal/base/mem.h"

enum { PQL_TEXT_MAX = 1 << 20, PQL_DEPTH_MAX = 1000, PQL_OPERATORS_MAX = 10000, PQL_POINTS_MAX = 11000,
       PQL_PART_MAX = 65535 };

struct pql_series;
struct pql_params {
    struct kl_span text;                               /* copied */
    bool    instant;
    int64_t start_ms, end_ms, step_ms;                 /* instant: start = end = the time */
    int64_t lookback_ms;                               /* 0: 5 minutes */
    int64_t now_ms;                                    /* never used by the language itself */
    uint64_t memory_max_bytes, samples_max, series_max;    /* 0: 512 MiB, 50 M, 5 M */
    uint32_t result_limit;                             /* series in the answer, 0: all */
    bool    tally, samples_per_step;                   /* whether to count them, for stats; of each step */
    bool    notes_by_steps;                            /* see pql_said */
    bool    partial;                                   /* the text is that of a push: see pql_partial */
    unsigned workers;                                  /* how many there may be; 0: PQL_WORKERS_MAX */
    bool    step_each;                                 /* a step ends with its operator, as WORK of no
                                                          items, so that each one's time can be told */
    /* Where a need says `once`, floats may be fed without their columns: `later` not NULL, count at
     * most how many there are. When its series is looked at, `load` is called, by any worker, and its
     * columns need to live until that worker calls it again. False: it failed, and pql_fail knows. */
    bool  (*load)(void *ctx, const struct pql_series *s, unsigned worker, struct pql_series *loaded);
    void   *load_ctx;
};

enum pql_error { PQL_OK, PQL_BAD_DATA, PQL_EXECUTION, PQL_TIMEOUT, PQL_CANCELED, PQL_UNAVAILABLE, PQL_INTERNAL };
struct pql_failure { enum pql_error kind; char text[1024]; };  /* parse errors: "1:5: parse error: ..." */

struct pql_query;
/* Parses, checks types, plans. NULL and `failure` when the text is no query. */
struct pql_query *pql_new(const struct pql_params *params, struct pql_failure *failure);
void              pql_free(struct pql_query *q);
/* Whether it has a subquery, which may make many points of few series and few steps. */
bool              pql_nests(const struct pql_query *q);
/* What its regular expressions were compiled to, about: compiling them takes some 50 ns a byte. */
size_t            pql_regex_bytes(const struct pql_query *q);

/* A selector's data, from the caller. times ascending, strictly. hists NULL, or hists[i] not NULL
 * where sample i is a histogram (values[i] then is ignored); starts NULL or start times, 0 unknown.
 * Memory: from pql_arena (freed with the query), or outliving it. Stale markers included. */
struct pql_series {
    struct kl_labels labels;
    uint32_t count;
    const int64_t *times_ms;
    const double  *values;
    const struct kl_hist *const *hists;
    const int64_t *starts_ms;
    const struct pql_unseen *unseen;                   /* FOLD_RATE alone; NULL: all samples are here */
    const void *later;                                 /* the caller's: the samples come by `load` */
    uint32_t part;                                     /* which part of all series it is of: a partition;
                                                          at most PQL_PART_MAX */
};
/* Of the samples between one that is fed and the one before: how many there are, and what a counter lost in them, up
 * to and with this one: each value that a lower one followed, added up. Where `count` is 0 `lost` is not looked at. */
struct pql_unseen { double count, lost; };
/* What an operator takes of a range of samples, where nothing else of them matters. */
enum pql_fold { PQL_FOLD_NONE, PQL_FOLD_MIN, PQL_FOLD_MAX, PQL_FOLD_FIRST, PQL_FOLD_LAST, PQL_FOLD_COUNT,
                PQL_FOLD_SUM, PQL_FOLD_RATE };
/* An aggregate that may be folded where the series are: its text, and the steps that it is asked for. */
struct pql_push { struct kl_span text; int64_t start_ms, step_ms; uint32_t steps; };
struct pql_need {
    uint32_t id;
    uint32_t matcher_count;
    const struct kl_matcher *matchers;                 /* compiled; owned by the query */
    int64_t from_ms, to_ms;                            /* inclusive; what the operators can see */
    const char *func;                                  /* innermost function or aggregation, or "" : a hint */
    int64_t step_ms, range_ms;                         /* hints */
    bool by; uint32_t grouping_count; const struct kl_span *grouping;          /* a hint */
    bool once;                                         /* each series is looked at once: see load */
    /* Floats may be fed that are already folded, each over a bucket (k * m, (k + 1) * m] and at a time in
     * it, of any m that divides fold_ms: for the answer it is the same, bit for bit; of sums, nearly.
     * COUNT: then all are counts (of one sample: 1), and pql_feed_counts is called besides.
     * RATE: of a bucket its first and its last sample, and `unseen`; where `to_ms` lies between these two, both. A range
     * that begins or ends between two such samples is taken to hold its share of what lies between (range_rows.c). */
    enum pql_fold fold;
    int64_t fold_ms, fold_range_ms;                    /* the least range of all who look at it */
    const struct pql_push *push;                       /* NULL, or its only reader: pql_feed_partials will do */
};

enum pql_state { PQL_NEED, PQL_WORK, PQL_DONE };
enum pql_state pql_step(struct pql_query *q);
size_t pql_needs(struct pql_query *q, const struct pql_need **needs);
/* For several threads: each takes memory through its own arena of the query; capped by its budget. */
struct kl_arena *pql_arena(struct pql_query *q, unsigned worker);
enum { PQL_WORKERS_MAX = 64 };
/* Whether `samples` more and `series` more are within bounds; records the failure if not. Any thread. */
bool   pql_charge(struct pql_query *q, uint64_t samples, uint64_t series);
/* `series` need not be sorted; the array is copied, what it points at is not. */
void   pql_feed(struct pql_query *q, uint32_t need, const struct pql_series *series, size_t count);
void   pql_feed_counts(struct pql_query *q, uint32_t need);

/* ---- folded elsewhere ----
 * Where all series of a need that can be pushed lie in parts, of which none has a series that another has
 * too, each part may be folded by itself: by a query of `partial`, of the push's text and steps, which is fed
 * that part's series alone. Its bytes, and those of all other parts, are fed in place of the series; the
 * answer is the same, bit for bit, and so are statistics and budgets. What cannot be had that way (native
 * histograms, other notes than that something is no counter, averages that overflow) is refused with words,
 * by the one or the other; then the series are to be fed.
 */
/* After DONE. KL_ELIMIT: it failed, or is larger than `out` may be; KL_EINVAL: refused. */
enum kl_code pql_partial(struct pql_query *q, struct kl_buf *out, struct kl_err *err);
/* In the order of the parts. Copies what it keeps. On a failure nothing was fed: KL_ECORRUPT where the bytes
 * are not what they should be, KL_ELIMIT, KL_EINVAL. Any thread, one at a time a need. */
struct pql_fed_partials { uint64_t samples, series, groups; };
enum kl_code pql_feed_partials(struct pql_query *q, uint32_t need, const struct kl_span *parts, size_t count,
                               struct pql_fed_partials *fed, struct kl_err *err);
void   pql_info(struct pql_query *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The caller could not fetch: the query will end with this failure. Any time before DONE. */
void   pql_fail(struct pql_query *q, enum pql_error kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void   pql_warn(struct pql_query *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
size_t pql_work_count(struct pql_query *q);
void   pql_work(struct pql_query *q, size_t item, unsigned worker);

/* ---- after DONE ---- */
enum pql_type { PQL_SCALAR, PQL_STRING, PQL_VECTOR, PQL_MATRIX };
struct pql_point { int64_t time_ms; double value; const struct kl_hist *hist; };
struct pql_out_series { struct kl_labels labels; uint32_t count; const struct pql_point *points; };
struct pql_result {
    struct pql_failure failure;                        /* kind PQL_OK: there is a result */
    enum pql_type type;
    struct kl_span string;                             /* PQL_STRING, and its time in `time_ms` */
    int64_t time_ms;
    size_t series_count; const struct pql_out_series *series;  /* scalar: one, without labels */
    size_t warning_count, info_count; const char *const *warnings, *const *infos;
    bool limited;                                      /* result_limit cut it */
    uint64_t samples_peak;
    uint64_t samples_total, samples_read;              /* "queryable" and read ones, as Prometheus counts
                                                          them; where a tally was asked for, else 0 */
    uint32_t step_count; const uint64_t *samples_per_step, *reads_per_step;    /* the same */
};
const struct pql_result *pql_result(struct pql_query *q);
/* Appends `"resultType":...,"result":...` of Prometheus' JSON. May be called once per part:
 * writes series [from, to) and returns; brackets are written at from == 0 and to == count. */
void pql_result_json(const struct pql_result *r, size_t from, size_t to, struct kl_buf *out);
/* The same, a piece at a time: appends until `out` holds more than `bytes`, at a point's end. A cursor
 * begins as {0}; false: that was the last piece. Any thread, one at a time a cursor. */
struct pql_cursor { size_t series; uint32_t point; bool begun, hists, listed; };
bool pql_result_json_piece(const struct pql_result *r, struct pql_cursor *c, size_t bytes,
                           struct kl_buf *out);

/* A sample's value as the API writes it, without quotes. */
void pql_value_json(struct kl_buf *out, double v);

/* ---- what was said at which steps: after DONE, of a range query with notes_by_steps. One thread. ---- */
/* A warning or info of the language, apart from the query that noted it. */
struct pql_said {
    uint8_t what;
    int32_t at;
    uint32_t order;
    const char *name, *more;
    double  x, y;
    const uint64_t *steps;                             /* a bit a step */
};
/* Is it known of all of them at which steps they were noted? Else what follows tells less. */
bool pql_said_by_steps(const struct pql_query *q);
/* What was noted at steps [first, first + count), those counted from 0 on; false: it is more than the arena
 * may hold. */
bool pql_said_cut(const struct pql_query *q, uint32_t first, uint32_t count, struct kl_arena *arena,
                  const struct pql_said **said, uint32_t *said_count);
/* As if q, of the same text, had noted it: what was said at steps [from, to], of which the first is q's step
 * `at`. */
void pql_said_again(struct pql_query *q, const struct pql_said *said, uint32_t said_count, uint32_t from,
                    uint32_t to, uint32_t at);
/* The lists of pql_result anew; false: no memory. */
bool pql_said_tell(struct pql_query *q);
/* What pql_warn or pql_info were told: q's own. */
size_t pql_said_besides(const struct pql_query *q, bool infos, const char *const **texts);

/* ---- what it does, for query_explain ---- */
/* Operators run in order: pql_operator tells which one is next or at work, so that the caller, who has
 * a clock, may sum up time for each. */
size_t pql_operator_count(const struct pql_query *q);
size_t pql_operator(const struct pql_query *q);        /* pql_operator_count at the end */
/* The operators as a JSON array, and as lines of text: kind, expression, inputs by number, steps,
 * series, points, work items, memory; with `ns` (one each, or NULL) also time. */
void   pql_explain_json(const struct pql_query *q, const int64_t *ns, struct kl_buf *out);
void   pql_explain_text(const struct pql_query *q, const int64_t *ns, struct kl_buf *out);

/* ---- the language as text ---- */
/* Matchers of a series selector ("match[]"): `{...}` or `name{...}`. They live in `arena`; regexes are
 * freed by pql_selector_free. */
enum kl_code pql_selector(struct kl_span text, struct kl_arena *arena,
                          const struct kl_matcher **matchers, size_t *count, struct kl_err *err);
void         pql_selector_free(const struct kl_matcher *matchers, size_t count);
/* The matchers of each selector of a query, in the order of the text, as pql_selector gives them; at
 * most `most` (KL_ELIMIT past it). *count is set on a failure too: what is there wants freeing. */
struct pql_selected { const struct kl_matcher *matchers; size_t count; };
enum kl_code pql_selectors(struct kl_span text, struct kl_arena *arena, struct pql_selected *out,
                           size_t most, size_t *count, struct kl_err *err);
/* Is the value of this text at a step the same whatever range of steps it is asked in? slack_ms: two
 * ranges may look back further, one than the other, by so much. False where that is not known. */
bool         pql_steady(struct kl_span text, int64_t step_ms, int64_t *slack_ms);
/* Prometheus' own formatting, and its JSON tree. */
enum kl_code pql_format(struct kl_span text, struct kl_buf *out, struct kl_err *err);
enum kl_code pql_tree_json(struct kl_span text, struct kl_buf *out, struct kl_err *err);
/* The i-th of all functions, by name; NULL past the last. */
const char  *pql_function_name(size_t i);
/* "5m", "1h30m", "300", "1.5" (seconds) -> ms. The forms of the API's step and timeout. */
enum kl_code pql_duration(const char *text, int64_t *ms, struct kl_err *err);
#endif
