#ifndef DM_OTLP_PRIV_H
#define DM_OTLP_PRIV_H
/*
 * Reading an OTLP message: where in its tree the reader stands (take_otlp.c), and a data point's
 * series. One point may be many series: a histogram has _count, _sum and a _bucket a bound. A series
 * is remembered by the bytes of its resource, scope, metric and attributes, and by which of the
 * point's series it is; its labels are translated only when it is defined.
 */
#include "doorman/deltas.h"
#include "doorman/dm_priv.h"
#include "libtsproto/otlp_labels.h"

enum dm_otlp_role { DM_OTLP_PLAIN, DM_OTLP_COUNT, DM_OTLP_SUM, DM_OTLP_BUCKET, DM_OTLP_QUANTILE,
                    DM_OTLP_TARGET, DM_OTLP_DELTA };   /* the last: its remembered sum */
struct dm_otlp {
    struct dm_gate   *gate;
    struct dm_ticket *ticket;
    struct dm_sender  sender;
    const struct tsp_otlp_settings *settings;
    struct tsp_otlp_resource resource;
    struct tsp_otlp_scope    scope;
    struct tsp_otlp_metric   metric;
    struct kl_fp resource_key, metric_key;             /* the second: of all that stands above a point */
    struct tsp_otlp_shared shared;                     /* of the scope's points; made when wanted */
    bool     has_shared;
    struct kl_span name;                               /* the metric's, translated; made when wanted */
    enum kl_code   name_code;                          /* KL_ENOENT: not made yet */
    bool     told;                                     /* the metric's metadata, in this message */
    uint64_t exemplars_refused;                        /* no part of their points */
    int64_t  first_ms, last_ms;                        /* of the resource's points that were taken */
    bool     any;
    /* Whose labels dm_otlp_labels makes. */
    const struct tsp_otlp_point *point;
    enum dm_otlp_role role;
    double   mark;                                     /* a bucket's bound, a quantile */
};

static inline int64_t dm_otlp_ms(uint64_t ns) { return (int64_t)(ns / 1000000); }

/* The key of the point's series of that role. */
struct kl_fp dm_otlp_key(const struct dm_otlp *o, const struct tsp_otlp_point *p, enum dm_otlp_role role,
                         double mark);
/* Finds it; false: its labels are refused, and counted, or a rule drops it. `o` stays where it is while
 * `s` is used. */
bool dm_otlp_find(struct dm_otlp *o, const struct tsp_otlp_point *p, enum dm_otlp_role role, double mark,
                  struct dm_series *s);
/* One float of that series, and the metric's metadata when the series is defined. False where it was
 * refused, and the others of the point would be, too. */
bool dm_otlp_float(struct dm_otlp *o, const struct tsp_otlp_point *p, enum dm_otlp_role role, double mark,
                   double value, uint64_t start_ns);
void dm_otlp_told(struct dm_otlp *o, struct dm_series *s);     /* the metadata, if `s` was defined */
/* The point is refused: one sample of its plain series. */
void dm_otlp_refuse(struct dm_otlp *o, const struct tsp_otlp_point *p, enum dm_reason why);
/* Whether a delta was added up; else the point is refused. */
bool dm_otlp_added(struct dm_otlp *o, const struct tsp_otlp_point *p, enum dm_delta verdict);
struct dm_delta_of dm_otlp_delta(const struct dm_otlp *o, const struct tsp_otlp_point *p);

/* ---- take_otlp_hist.c ---- */
void dm_otlp_hist(struct dm_otlp *o, const struct tsp_otlp_point *p);
void dm_otlp_exp(struct dm_otlp *o, const struct tsp_otlp_point *p);
void dm_otlp_exemplars(struct dm_otlp *o, const struct tsp_otlp_point *p, struct dm_series *s);
#endif
