#ifndef TSP_OTLP_H
#define TSP_OTLP_H
/*
 * OpenTelemetry metrics (opentelemetry-proto, collector/metrics/v1 and metrics/v1), an
 * ExportMetricsServiceRequest after unpacking, read where it lies. The message is a tree:
 *
 *   request ─► resource (attributes) ─► scope (name, version) ─► metric (name, unit, kind) ─► points
 *
 * and each level is walked by the same call: tsp_otlp_next() finds the next child's bytes, a _read()
 * says what the child is. On the wire what is known of a level may stand behind its children, so a
 * level is looked through before its children are walked: two passes over tags and lengths, no objects.
 * A message is checked down to its metrics by tsp_otlp_check() before any of it is taken, so that a
 * broken one is refused whole; a broken data point is that point's own fault.
 *
 * JSON bodies become this message first (otlp_json.h).
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/err.h"
#include "libkoal/base/hash.h"
#include "libkoal/base/hist.h"
#include "libkoal/base/labels.h"
#include "libkoal/base/mem.h"

enum tsp_otlp_kind { TSP_OTLP_NONE, TSP_OTLP_GAUGE, TSP_OTLP_SUM, TSP_OTLP_HIST, TSP_OTLP_EXP,
                     TSP_OTLP_SUMMARY };
enum tsp_otlp_temporality { TSP_OTLP_UNSPECIFIED, TSP_OTLP_DELTA, TSP_OTLP_CUMULATIVE };
/* Field numbers of the repeated children, for tsp_otlp_next. */
enum { TSP_OTLP_RESOURCES = 1, TSP_OTLP_SCOPES = 2, TSP_OTLP_METRICS = 2, TSP_OTLP_POINTS = 1 };

struct tsp_otlp_resource { struct kl_span body, resource; };   /* resource: its message, or {"",0} */
struct tsp_otlp_scope { struct kl_span body, scope, name, version, schema_url; };
struct tsp_otlp_metric {
    struct kl_span body, name, unit, description;
    struct kl_span data;                               /* the message that holds the points */
    enum tsp_otlp_kind kind;
    bool    monotonic;                                 /* of sums */
    uint8_t temporality;                               /* of sums and histograms; else CUMULATIVE */
};
struct tsp_otlp_point {
    struct kl_span body;
    enum tsp_otlp_kind kind;
    struct kl_fp attributes;                           /* hash of the attributes' bytes, in their order */
    uint64_t start_ns, time_ns;                        /* 0: not told */
    bool     absent;                                   /* the flag "no recorded value" */
    bool     has_value;                                /* of numbers */
    double   value;                                    /* of numbers; integers past 2^53 are rounded */
    uint64_t count;                                    /* of the others */
    bool     has_sum;
    double   sum;
    uint32_t bound_count, bucket_count, quantile_count, exemplar_count;
    struct kl_span positive, negative;                 /* of exponential ones: Buckets */
    int32_t  scale;
    uint64_t zero_count;
    double   zero_threshold;
};

/* The next child with that field number. False at the end, or where the bytes are no protobuf (c->bad). */
bool tsp_otlp_next(struct kl_cur *c, uint32_t number, struct kl_span *child);
struct kl_cur tsp_otlp_in(struct kl_span message);

/* False: not such a message. */
bool tsp_otlp_resource_read(struct kl_span body, struct tsp_otlp_resource *r);
bool tsp_otlp_scope_read(struct kl_span body, struct tsp_otlp_scope *s);
bool tsp_otlp_metric_read(struct kl_span body, struct tsp_otlp_metric *m);
/* KL_EINVAL for a point that is cut short, or has fields of foreign types. */
enum kl_code tsp_otlp_point_read(enum tsp_otlp_kind kind, struct kl_span body,
                                 struct tsp_otlp_point *p, struct kl_err *err);

/* Checks the tree down to each metric's points, and tells whether any metric is of delta
 * temporality. KL_EINVAL: err says where it breaks off. */
enum kl_code tsp_otlp_check(struct kl_span message, bool *has_delta, struct kl_err *err);

/* The numbers of a repeated fixed64 or double field, one after the other, packed or not. */
struct tsp_otlp_numbers { struct kl_cur message, packed; uint32_t number; };
struct tsp_otlp_numbers tsp_otlp_bounds(const struct tsp_otlp_point *p);       /* of TSP_OTLP_HIST */
struct tsp_otlp_numbers tsp_otlp_buckets(const struct tsp_otlp_point *p);
bool tsp_otlp_numbers_next(struct tsp_otlp_numbers *n, uint64_t *bits);
/* Whether bounds rise and there is one bucket more than bounds, or neither. KL_EINVAL. */
enum kl_code tsp_otlp_hist_check(const struct tsp_otlp_point *p, struct kl_err *err);

/* The quantiles of a summary: walk the point's body. */
bool tsp_otlp_quantile_next(struct kl_cur *c, double *quantile, double *value);

/* The exemplars: walk the point's body. Its labels are trace_id, span_id (hex, in `arena`) and, where
 * all together have at most 128 characters, the filtered attributes. False at the end, then err->code
 * is KL_OK, or for one that is no exemplar. */
bool tsp_otlp_exemplar_next(struct kl_cur *c, const struct tsp_otlp_point *p, struct kl_arena *arena,
                            struct kl_labels_builder *b, uint64_t *time_ns, double *value,
                            struct kl_err *err);

/* ---- histograms as values ---- */

/* An exponential histogram with its buckets side by side: what deltas are added up in. Bucket i of a
 * side lies in (base^(offset+i), base^(offset+i+1)], base = 2^(2^-scale). */
enum { TSP_OTLP_SCALE_MAX = 8, TSP_OTLP_SCALE_MIN = -4 };
struct tsp_otlp_side { int32_t offset; uint32_t count; double *counts; };
struct tsp_otlp_exp {
    int32_t scale;
    double  zero_threshold, zero_count, count, sum;
    struct tsp_otlp_side pos, neg;                     /* no empty bucket at either end */
};
/* Arrays lie in `arena`; scales above 8 are brought down to it, as native histograms end there.
 * KL_EINVAL: a scale below -4, counts past 2^53, or that do not add up; KL_ELIMIT: too many buckets. */
enum kl_code tsp_otlp_exp_read(const struct tsp_otlp_point *p, struct kl_arena *arena,
                               struct tsp_otlp_exp *e, struct kl_err *err);
/* In place; `scale` is at most e->scale. */
void         tsp_otlp_exp_rescale(struct tsp_otlp_exp *e, int32_t scale);
/* KL_ELIMIT when `arena` has no room. The histogram's arrays lie in it, or are e's. */
enum kl_code tsp_otlp_exp_hist(const struct tsp_otlp_exp *e, struct kl_arena *arena, struct kl_hist *h,
                               struct kl_err *err);
/* Explicit buckets as a native histogram of custom bounds (schema -53). */
enum kl_code tsp_otlp_custom_hist(const double *bounds, const double *counts, uint32_t bound_count,
                                  double count, double sum, struct kl_arena *arena, struct kl_hist *h,
                                  struct kl_err *err);
/* A histogram that ends its series. */
struct kl_hist tsp_otlp_stale_hist(void);
#endif
