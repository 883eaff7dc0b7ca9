#ifndef PQL_EVAL_PRIV_H
#define PQL_EVAL_PRIV_H
/*
 * The evaluator: a list of operators in the order they run, each turning matrices into a matrix.
 *
 * A matrix is rows (series) over a grid (steps): a column of doubles, a column of bytes that say
 * what stands at each step (nothing, a float, a histogram), and where any row has histograms a
 * column of pointers. Rows are immutable once their operator is done, so later ones may share them.
 *
 * An operator runs in three parts: prepare (one thread: allocates rows, decides the number of work
 * items), item (any thread: fills a slice of rows), finish (one thread: drops empty rows, joins rows
 * of equal labels). Its memory is in arenas of its own, one per worker, freed when the last operator
 * that reads it is done. All arenas together are bounded by the query's budget.
 */
#include <stdatomic.h>

#include "libpromql/ast_priv.h"

struct pql_grid { int64_t start, step; uint32_t count; };
static inline int64_t pql_at(struct pql_grid g, uint32_t i) { return g.start + (int64_t)i * g.step; }

enum { P_NONE = 0, P_FLOAT = 1, P_HIST = 2 };
struct pql_row {
    struct kl_labels labels;
    double *v;
    uint8_t *has;                                      /* P_* per step */
    const struct kl_hist **h;                          /* NULL: no histogram anywhere */
    uint32_t have;                                     /* steps with something */
    bool drop_name;                                    /* the name goes at the very end */
    uint32_t part;                                     /* its series', right over a selector; else 0 */
};
struct pql_rows { uint32_t count; struct pql_row *at; };

struct pql_op;
struct pql_op_kind {
    const char *name;
    void (*prepare)(struct pql_op *op);                /* may set op->items, op->waits */
    void (*item)(struct pql_op *op, size_t item, unsigned worker);
    void (*finish)(struct pql_op *op);                 /* NULL: nothing to do */
};

enum { PQL_INPUTS_MAX = 16, PQL_ITEMS_MAX = 512 };
struct pql_op {
    struct pql_query *q;
    struct pql_op *next;
    const struct pql_op_kind *kind;
    const struct pql_node *node;
    struct pql_grid grid;
    struct pql_op **in;                                /* NULL where an argument is a string */
    uint32_t in_count, need;                           /* need: index + 1, or 0 */
    uint32_t users, phase, number;
    uint32_t order, times;                             /* when Prometheus would last evaluate it, and how
                                                          often: what is written twice is run once */
    uint64_t rows_elsewhere, points_elsewhere;         /* that it has in other places: partial_priv.h */
    uint32_t weight;                                   /* how often its samples count: see tally.c */
    uint64_t rows_made, points_made, items_made, bytes_used;   /* told when it is done */
    uint32_t inputs_had, *input_numbers;
    bool waits;                                        /* wants data before it can go on */
    bool shares;                                       /* its rows point into its inputs' memory */
    struct pql_rows out;
    size_t items;
    void *own;
    struct kl_arena *arenas;                           /* one a worker */
};

struct pql_fed { uint32_t count; const struct pql_series *at; };
struct pql_partials;
struct pql_need_state {
    struct pql_need need;
    struct pql_partials *partials;                     /* in place of `fed`; NULL: none */
    struct pql_fed fed;
    bool done, stats_only;                             /* histograms without buckets will do */
    bool counts;                                       /* what was fed are counts of samples */
    int64_t seen_from_ms;                              /* stats_only: what is before only tells of resets */
};

struct pql_annos;
struct pql_query {
    struct pql_parse parse;
    struct pql_params params;
    int64_t lookback_ms;
    struct pql_node *root;
    struct kl_arena plan;
    struct pql_op *ops, **ops_tail, *cur, *top;
    bool fed_all;
    struct pql_need_state *needs;
    uint32_t need_count, need_room, needs_done;        /* needs_done: the first so many are */
    struct pql_need *needs_out;                        /* what pql_needs hands out */
    size_t memory_max;
    uint64_t samples_max, series_max;
    _Atomic uint64_t memory, samples, samples_peak, series;
    _Atomic uint64_t charged;                          /* of the samples, by pql_charge */
    _Atomic uint64_t samples_total, each_step;         /* each_step: of what is the same at each */
    bool tally;                                        /* count as tally.c does; then there are: */
    _Atomic uint64_t *per_step, *reads;                /* of each step */
    uint32_t step_count, weight, op_count, orders;     /* weight: while planning */
    atomic_int failing;                                /* 0; 1: being written; 2: written */
    struct pql_failure failure;
    struct pql_annos *annos;
    struct kl_arena *worker_arenas;                    /* the caller's, one a worker */
    struct kl_arena *label_arenas;                     /* label sets outlive their operators */
    struct pql_result result;
    struct kl_arena result_arena;
    bool done, nests;                                  /* nests: some subquery was planned */
};

/* ---- failures, memory, budget: any thread ---- */
bool  pql_failed(struct pql_query *q);
void *pql_alloc(struct pql_op *op, unsigned worker, size_t size);     /* NULL: the query failed */
void *pql_zalloc(struct pql_op *op, unsigned worker, size_t size);
void *pql_label_alloc(struct pql_query *q, unsigned worker, size_t size);    /* until the end */
/* Memory from elsewhere, which counts until it is given back. False: the query failed, and nothing is to be given back. */
bool  pql_memory_take(struct pql_query *q, size_t size);
void  pql_memory_give(struct pql_query *q, size_t size);
/* ---- tally.c: what the samples that an item looks at add to the statistics. `begin` says whether they
 * are wanted; without, the others do nothing. What a subquery does inside is read, but not seen; what is
 * evaluated once is seen at each step, and read once. ---- */
struct pql_tally { struct pql_op *op; uint64_t *seen, *read; };
struct pql_tally_range {
    const struct pql_when *when;
    int64_t offset_ms, range_ms, before_ms, after_ms;
    bool stored;                                       /* not a subquery's points */
};
struct pql_source;
bool  pql_tally_begin(struct pql_op *op, struct pql_tally *t);
void  pql_tally_add(struct pql_tally *t, uint32_t step, uint64_t seen, uint64_t read);    /* of the operator's grid */
void  pql_tally_row(struct pql_tally *t, const struct pql_row *r);
void  pql_tally_points(struct pql_tally *t, const struct pql_point *points, uint32_t count);
void  pql_tally_windows(struct pql_tally *t, const struct pql_source *s,
                        const struct pql_tally_range *r);
void  pql_tally_end(struct pql_tally *t);
bool  pql_count_points(struct pql_query *q, uint64_t points);         /* live; false: too many */

/* ---- rows ---- */
/* Rows with room for the grid, nothing present. `hists`: with a column of pointers. */
bool pql_rows_new(struct pql_op *op, unsigned worker, struct pql_row *rows, uint32_t count,
                  bool hists);
bool pql_row_hists(struct pql_op *op, unsigned worker, struct pql_row *row);  /* adds the column */
/* The rows of an item of work, [*from, *to): each new, with the labels that `in` has there, but the name. */
bool pql_rows_of_slice(struct pql_op *op, size_t item, unsigned worker, const struct pql_rows *in,
                       uint32_t *from, uint32_t *to);
struct pql_row *pql_out_rows(struct pql_op *op, uint32_t count);      /* zeroed headers, op->out */
void pql_drop_empty(struct pql_op *op);
/* Joins rows of equal labels; fails the query where two have a value at one step. */
void pql_join_equal(struct pql_op *op);
/* How many items for `units` things of `cost` each; sets op->items. */
void pql_slice(struct pql_op *op, uint32_t units, uint64_t cost);
static inline void pql_slice_of(const struct pql_op *op, size_t item, uint32_t units, uint32_t *from,
                                uint32_t *to)
{
    *from = (uint32_t)((uint64_t)units * item / op->items);
    *to = (uint32_t)((uint64_t)units * (item + 1) / op->items);
}
static inline void pql_put(struct pql_row *r, uint32_t i, double v)
{
    r->v[i] = v;
    r->has[i] = P_FLOAT;
    r->have++;
}
static inline void pql_put_hist(struct pql_row *r, uint32_t i, const struct kl_hist *h)
{
    r->v[i] = 0;
    r->h[i] = h;
    r->has[i] = P_HIST;
    r->have++;
}
static inline const struct kl_hist *pql_hist_at(const struct pql_row *r, uint32_t i)
{
    return r->has[i] == P_HIST ? r->h[i] : NULL;
}
/* The value of a scalar input at a step. */
static inline double pql_scalar(const struct pql_op *in, uint32_t i)
{
    return in->out.count > 0 ? in->out.at[0].v[i] : NAN;
}

/* ---- labels ---- */
struct pql_names { uint32_t count; struct kl_span *at; };
struct kl_labels pql_labels_keep(struct pql_op *op, unsigned worker, struct kl_labels l,
                                 struct pql_names names);
struct kl_labels pql_labels_drop(struct pql_op *op, unsigned worker, struct kl_labels l,
                                 struct pql_names names);
/* Without __name__, __type__ and __unit__. */
struct kl_labels pql_labels_bare(struct pql_op *op, unsigned worker, struct kl_labels l);
/* With `name` set to `value`; an empty value takes the label away. */
struct kl_labels pql_labels_set(struct pql_op *op, unsigned worker, struct kl_labels l,
                                struct kl_span name, struct kl_span value);
void pql_labels_text(struct kl_buf *out, struct kl_labels l);         /* {a="b", c="d"} */
static inline bool pql_labels_eq(struct kl_labels a, struct kl_labels b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.at, b.at, a.size) == 0);
}
struct kl_span pql_metric_name(struct kl_labels l);

/* Label sets to consecutive numbers, in order of first sight. Lives in the operator's arena. */
struct pql_index { uint32_t count, room, mask; uint32_t *slots; struct kl_labels *keys; };
bool     pql_index_new(struct pql_op *op, struct pql_index *x, uint32_t expect);
/* The number of `key`; UINT32_MAX when memory is out. A new key is not copied. */
uint32_t pql_index_put(struct pql_op *op, struct pql_index *x, struct kl_labels key);
uint32_t pql_index_find(const struct pql_index *x, struct kl_labels key);    /* UINT32_MAX: unknown */
/* The key of a series for matching or grouping, in `scratch`; copied where it is new. */
uint32_t pql_index_key(struct pql_op *op, struct pql_index *x, struct kl_buf *scratch,
                       struct kl_labels l, struct pql_names names, bool keep);

/* ---- warnings and infos: any thread ---- */
enum pql_note {
    A_INVALID_QUANTILE, A_INVALID_RATIO, A_BAD_BUCKET, A_MIXED_RANGE, A_MIXED_AGG, A_MIXED_CLASSIC,
    A_NOT_COUNTER, A_NOT_GAUGE, A_MIXED_SCHEMAS, A_NON_COUNTER, A_NON_COUNTER_LABEL, A_MONOTONIC,
    A_INCOMPATIBLE_TYPES, A_IGNORED_IN_AGG, A_IGNORED_IN_RANGE, A_INCOMPATIBLE_LAYOUT,
    A_SORT_IN_RANGE, A_QUANTILE_NAN, A_QUANTILE_SKEW, A_FRACTION_NAN, A_RESET_COLLISION,
    A_MISMATCHED_BOUNDS, A_START_OVERLAP
};
enum { PQL_ANY_STEP = -1 };
/* `step`: of the operator's grid, at which it is so, and would be whatever other steps there are; PQL_ANY_STEP
 * where it takes several to say so. `name`: what the sentence speaks of; `more`: its second word; x, y: its
 * numbers. */
void pql_note(struct pql_op *op, int64_t step, enum pql_note what, int32_t at, struct kl_span name,
              struct kl_span more, double x, double y);
/* The same for each step at which the row has a float. */
void pql_note_floats(struct pql_op *op, const struct pql_row *row, enum pql_note what, int32_t at,
                     struct kl_span name, struct kl_span more);
void pql_note_monotonic(struct pql_op *op, int32_t at, struct kl_span name, int64_t ts_ms,
                        double least_bucket, double most_bucket, double diff);
struct pql_annos *pql_annos_new(const struct pql_params *p);
void pql_annos_free(struct pql_annos *a);
void pql_annos_info(struct pql_annos *a, const char *text);    /* each text once */
void pql_annos_warn(struct pql_annos *a, const char *text);           /* the caller's own */
bool pql_annos_result(struct pql_query *q);                           /* into q->result */

/* ---- planning ---- */
bool pql_plan(struct pql_query *q);                    /* false: q->failure says why */
struct pql_op *pql_op_new(struct pql_query *q, const struct pql_op_kind *kind,
                          const struct pql_node *node, struct pql_grid grid, uint32_t inputs);
uint32_t pql_need_new(struct pql_query *q, const struct kl_matcher *matchers, uint32_t count,
                      int64_t from, int64_t to, const char *func, int64_t step, int64_t range,
                      const struct pql_node *agg, bool alone);
void pql_op_release(struct pql_op *op);                /* one reader less */

extern const struct pql_op_kind pql_op_empty, pql_op_number, pql_op_string, pql_op_vector,
    pql_op_top_matrix, pql_op_broadcast, pql_op_unary, pql_op_scalar_fn, pql_op_map, pql_op_date,
    pql_op_range, pql_op_absent_range, pql_op_binary, pql_op_match, pql_op_set, pql_op_agg,
    pql_op_topk, pql_op_count_values, pql_op_label_replace, pql_op_label_join, pql_op_sort,
    pql_op_absent, pql_op_to_scalar, pql_op_to_vector, pql_op_hist_fn, pql_op_hist_quantile,
    pql_op_info, pql_op_result;

/* ---- samples of a range ---- */
struct pql_samples {
    const int64_t *t;
    const double *v;
    const int64_t *st;
    uint32_t count;
    const struct pql_unseen *u;
};
struct pql_hists { const int64_t *t; const struct kl_hist *const *h; const int64_t *st; uint32_t count; };
/* What a range function sees at one step: samples in (start, end], floats and histograms apart.
 * Under anchored and smoothed it reaches a lookback further. */
struct pql_window {
    struct pql_samples f;
    struct pql_hists h;
    int64_t start, end, ts;
};

/* Series of a range vector, from a selector or a subquery, as arrays: floats and histograms apart,
 * stale markers gone. Where that needs a copy it is in `room`, reused for the next series. */
struct pql_source {
    struct kl_labels labels;
    uint32_t part;
    bool drop_name;
    struct pql_samples f;
    struct pql_hists h;
};
struct pql_room {
    uint32_t room;
    int64_t *ft, *fst, *ht, *hst;
    double *fv;
    struct pql_unseen *fu;
    const struct kl_hist **hv;
};
void     pql_room_free(struct pql_room *r);
uint32_t pql_source_count(const struct pql_op *op);
/* What a worker needs besides to have a series as arrays: of a subquery its steps. Of a selector it is little beside the
 * samples, which are charged. */
size_t   pql_source_bytes(const struct pql_op *op);
bool     pql_source_get(struct pql_op *op, unsigned worker, uint32_t i, struct pql_room *room,
                        struct pql_source *s);
/* The samples of one series of a selector; labels are the caller's to fill. */
void     pql_source_series(const struct pql_series *in, struct pql_room *r, struct pql_source *s);
struct pql_fed *pql_op_fed(const struct pql_op *op);
/* Series i of it, its samples loaded into *room where they were not fed. NULL: the query failed. */
const struct pql_series *pql_op_series(const struct pql_op *op, unsigned worker, uint32_t i,
                                       struct pql_series *room);
/* A `smoothed` instant selector: between samples, on the line that joins them. */
void pql_smooth_row(struct pql_op *op, unsigned worker, struct pql_row *r, const struct pql_series *s);
struct kl_labels pql_absent_labels(struct pql_op *op, const struct pql_node *arg);

/* ---- arithmetic as Go does it ---- */
static inline void pql_kahan(double inc, double *sum, double *c)
{
    double t = *sum + inc;

    if (isinf(t))
        *c = 0;
    else if (fabs(*sum) >= fabs(inc))
        *c += (*sum - t) + inc;
    else
        *c += (inc - t) + *sum;
    *sum = t;
}
static inline double pql_max(double x, double y)
{
    if ((isinf(x) && x > 0) || (isinf(y) && y > 0))
        return INFINITY;
    if (isnan(x) || isnan(y))
        return NAN;
    if (x == 0 && x == y)
        return signbit(x) ? y : x;
    return x > y ? x : y;
}
static inline double pql_min(double x, double y)
{
    if ((isinf(x) && x < 0) || (isinf(y) && y < 0))
        return -INFINITY;
    if (isnan(x) || isnan(y))
        return NAN;
    if (x == 0 && x == y)
        return signbit(x) ? x : y;
    return x < y ? x : y;
}
static inline int64_t pql_to_i64(double v)             /* out of range as amd64 has it */
{
    return v >= -9223372036854775808.0 && v < 9223372036854775808.0 ? (int64_t)v : INT64_MIN;
}
double pql_quantile(double q, double *values, uint32_t count);        /* sorts `values` */
double pql_binop(uint8_t op, double a, double b, bool *keep);         /* floats; comparisons keep a */
double pql_scalar_op(uint8_t op, double a, double b);

/* ---- ending ---- */
void pql_finish(struct pql_query *q);                  /* the top's rows into q->result */
#endif
