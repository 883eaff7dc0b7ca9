#ifndef PQL_HIST_PRIV_H
#define PQL_HIST_PRIV_H
/*
 * Arithmetic on native histograms. A working histogram (struct pql_hist) keeps each side as a sorted
 * list of {bucket index, count, compensation}; spans exist only in the kl_hist that goes in and out.
 * Source: the "Native Histograms" specification of Prometheus, and its rules for sums of different
 * resolutions, zero buckets and custom bounds.
 *
 * A working histogram owns malloc'd lists that grow and are reused; it belongs to one work item.
 */
#include "libpromql/eval_priv.h"

struct pql_side { uint32_t count, room; int32_t *index; double *n, *c; };
struct pql_hist {
    int32_t schema;
    uint8_t reset;
    double zero_threshold, zero, zero_c, count, count_c, sum, sum_c;
    struct pql_side pos, neg, spare;
    uint32_t bound_count, bound_room;
    const double *bounds;                              /* borrowed, or own_bounds */
    double *own_bounds;
};
void pql_hist_init(struct pql_hist *h);
void pql_hist_deinit(struct pql_hist *h);
void pql_hist_load(struct pql_hist *h, const struct kl_hist *from);
void pql_hist_copy(struct pql_hist *h, const struct pql_hist *from);
static inline bool pql_hist_custom(const struct kl_hist *h) { return h->schema == KL_HIST_CUSTOM; }

enum pql_hist_how { H_ADD, H_SUB, H_KAHAN };
struct pql_hist_said { bool collision, reconciled; };  /* of reset hints; of custom bounds */
/* h += other, h -= other, or the compensated sum. False: exponential with custom. Flags are only set. */
bool pql_hist_add(struct pql_hist *h, const struct kl_hist *other, enum pql_hist_how how,
                  struct pql_hist_said *said);
/* The compensated sum h += other / divisor. */
bool pql_hist_add_part(struct pql_hist *h, const struct kl_hist *other, double divisor,
                       struct pql_hist_said *said);
void pql_hist_mul(struct pql_hist *h, double factor);  /* compensations too */
void pql_hist_div(struct pql_hist *h, double divisor);
void pql_hist_settle(struct pql_hist *h);              /* adds the compensations in */
bool pql_hist_overflows(const struct pql_hist *h);
void pql_hist_reduce(struct pql_hist *h, int32_t schema, bool kahan);
/* As a value in the operator's arena; `compact` leaves out empty buckets. NULL: out of memory. */
const struct kl_hist *pql_hist_store(struct pql_op *op, unsigned worker, const struct pql_hist *h,
                                     bool compact);
const struct kl_hist *pql_hist_scaled(struct pql_op *op, unsigned worker, const struct kl_hist *h,
                                      double by, bool divide, bool compact);
const struct kl_hist *pql_hist_hinted(struct pql_op *op, unsigned worker, const struct kl_hist *h,
                                      uint8_t reset);

bool   pql_hist_equal(const struct kl_hist *a, const struct kl_hist *b);
bool   pql_hist_is_reset(const struct kl_hist *now, const struct kl_hist *before);
double pql_hist_bound(int32_t index, int32_t schema, const double *bounds, uint32_t bound_count);
double pql_hist_bound_exp(int32_t index, int32_t schema);

/* Walks buckets in order of value, ascending or descending; with the zero bucket between. */
struct pql_bucket { double lower, upper, count; bool lower_in, upper_in; int32_t index; };
struct pql_buckets {
    const struct kl_hist *h;
    bool down;
    int8_t state;
    const struct kl_hist_span *spans;
    const double *counts;
    uint32_t span_count, count_count, span, in_span, at;
    int64_t index;
    bool reverse, positive;
};
void pql_buckets_all(struct pql_buckets *it, const struct kl_hist *h, bool descending);
void pql_buckets_side(struct pql_buckets *it, const struct kl_hist *h, bool positive);
bool pql_buckets_next(struct pql_buckets *it, struct pql_bucket *b);

void pql_hist_text(struct kl_buf *out, const struct kl_hist *h);      /* as count_values shows it */
double pql_hist_quantile(struct pql_op *op, uint32_t step, double phi, const struct kl_hist *h,
                         struct kl_span name, int32_t at);
double pql_hist_fraction(struct pql_op *op, uint32_t step, double lower, double upper, const struct kl_hist *h,
                         struct kl_span name, int32_t at);
double pql_hist_variance(const struct kl_hist *h);
const struct kl_hist *pql_hist_trim(struct pql_op *op, unsigned worker, const struct kl_hist *h,
                                    double at, bool upper);
#endif
