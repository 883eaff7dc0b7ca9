#ifndef KL_METRICS_H
#define KL_METRICS_H
/*
 * What a process counts about itself, shown at /metrics in the text exposition format.
 * A registry belongs to the process (or a test) and is handed in. Counters and gauges are atomics:
 * any thread may add. Series are registered once, at start, never per request; a label value that
 * input chooses (a tenant) goes through kl_metrics_tenant's bounded set of the module that counts.
 */
#include <stdatomic.h>
#include <stdint.h>

#include "libkoal/base/buf.h"

struct kl_metrics;
struct kl_metric { _Atomic uint64_t bits; };           /* a counter: integer; a gauge: double bits */

enum kl_metric_kind { KL_COUNTER, KL_GAUGE };
struct kl_metrics *kl_metrics_new(void);
void               kl_metrics_free(struct kl_metrics *m);
/* The series `name{labels}`; `labels` as in exposition without braces ("code=\"200\"") or "".
 * The same name and labels give the same series. Lives as long as the registry. */
struct kl_metric  *kl_metrics_add(struct kl_metrics *m, enum kl_metric_kind kind, const char *name,
                                  const char *labels, const char *help);
/* A histogram with fixed bounds (ascending, in the metric's unit, +Inf is implied). */
struct kl_metric_hist;
struct kl_metric_hist *kl_metrics_hist(struct kl_metrics *m, const char *name, const char *labels,
                                       const char *help, const double *bounds, unsigned count);
void kl_metric_observe(struct kl_metric_hist *h, double v);
static inline void kl_count(struct kl_metric *c, uint64_t n)
{
    atomic_fetch_add_explicit(&c->bits, n, memory_order_relaxed);
}
void kl_gauge_set(struct kl_metric *g, double v);
/* Appends every family, sorted by name, HELP and TYPE first. */
void kl_metrics_write(const struct kl_metrics *m, struct kl_buf *out);
#endif
