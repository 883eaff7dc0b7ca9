#ifndef PQL_RANGE_PRIV_H
#define PQL_RANGE_PRIV_H
/* Functions of range vectors: what one is told, for one series at one step. */
#include "libpromql/hist_priv.h"

struct pql_range_call {
    struct pql_op *op;
    unsigned worker;
    uint16_t id;                                       /* enum pql_fn */
    bool anchored, smoothed;
    int32_t at;                                        /* the place warnings name */
    int64_t range_ms;
    uint32_t step;                                     /* of the operator's grid */
    double range_s, p[2];                              /* the other arguments at this step */
    struct kl_span name;
    const struct pql_source *src;
    uint32_t f_from, h_from;                           /* where the window begins in src */
    const uint32_t *resets;                            /* indices in src->f of counter resets */
    uint32_t reset_count, reset_from;
    const uint32_t *overlaps;                          /* and of overlapping start times */
    uint32_t overlap_count;
    double *scratch;                                   /* room for the window's floats */
};
struct pql_val { double v; const struct kl_hist *h; };
/* False: no sample at this step. */
typedef bool pql_range_fn(struct pql_range_call *c, const struct pql_window *w, struct pql_val *out);

pql_range_fn pql_range_rate, pql_range_rate_rows, pql_range_instant, pql_range_float, pql_range_ends, pql_range_trend,
    pql_range_changes, pql_range_sum, pql_range_hist_rate, pql_range_hist_instant,
    pql_range_hist_sum, pql_range_extended, pql_range_hist_extended;

/* rate, increase, delta of a series of floats at all steps; `end`, `step`: of the windows. */
void pql_rate_series(struct pql_range_call *c, const struct pql_samples *f, struct pql_grid g,
                     int64_t end, int64_t step, struct pql_row *row);
/* May any value be below the one before it? Always true where one is; not always false where none is. */
bool pql_may_fall(const double *v, uint32_t count);
/* Are all `d` apart? */
bool pql_even_times(const int64_t *t, uint32_t count, int64_t d);
/* Of each step the last value of its window less the first, times `factor`; windows move by k samples. False
 * where a counter may have begun at zero in some window, of `interval` seconds between its samples and
 * `to_start` before them: then the values are not to be used. `interval` 0: no counter, never false. */
bool pql_even_rates(const double *first, const double *last, uint32_t k, uint32_t count, double factor,
                    double interval, double to_start, double *out);
bool pql_start_is_reset(int64_t before_start, int64_t before, int64_t start, int64_t now);
static inline int64_t pql_start_at(const int64_t *st, uint32_t i) { return st != NULL ? st[i] : 0; }
bool pql_start_overlaps(int64_t before_start, int64_t before, int64_t start);
static inline void pql_range_note(struct pql_range_call *c, enum pql_note what)
{
    pql_note(c->op, c->step, what, c->at, c->name, kl_span("", 0), 0, 0);
}
static inline void pql_range_said(struct pql_range_call *c, const struct pql_hist_said *said,
                                  const char *operation)
{
    if (said->reconciled)
        pql_note(c->op, c->step, A_MISMATCHED_BOUNDS, c->at, kl_span("", 0), kl_span_str(operation), 0, 0);
}
/* Under `anchored`: where the function's view begins; false where it sees nothing. */
bool pql_range_first(const struct pql_range_call *c, const struct pql_window *w, uint32_t *f,
                     uint32_t *h);
#endif
