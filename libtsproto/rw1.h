#ifndef TSP_RW1_H
#define TSP_RW1_H
/*
 * Prometheus remote write 1.0 (spec: prometheus.io/docs/specs/prw/remote_write_spec), the message
 * prometheus.WriteRequest after snappy, read by a cursor that builds no objects.
 * next() walks from series to series: `labels_raw` is the run of bytes of the series' label fields
 * exactly as sent (what the doorman's remembered table is keyed by: kl_hash128 over it). Only when
 * that is unknown are the labels themselves read, by tsp_rw1_labels. Samples are read into the
 * caller's arrays. Hostile input: every length is checked, nesting is fixed, nothing is allocated.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/err.h"
#include "libkoal/base/hist.h"
#include "libkoal/base/labels.h"

struct tsp_rw1 { struct kl_cur cur; const uint8_t *begin; };
struct tsp_rw1_series {
    struct kl_span body;                               /* the TimeSeries message */
    /* All label fields when they lie together at the front, as every known sender writes them;
     * else {NULL,0} and the series is read by tsp_rw1_labels alone. */
    struct kl_span labels_raw;
    uint32_t label_count, sample_count, hist_count, exemplar_count;
};
struct tsp_rw1_metadata { uint8_t type; struct kl_span metric, help, unit; };
enum tsp_rw1_item { TSP_RW1_END, TSP_RW1_SERIES, TSP_RW1_META, TSP_RW1_BROKEN };

void tsp_rw1_open(struct tsp_rw1 *r, struct kl_span message);
/* BROKEN: the message is not protobuf from here on; err says at which byte; the next call says END.
 * What next() has handed out has whole samples; labels, histograms and exemplars are checked by
 * their own calls; whether labels are UTF-8 is the caller's to check. */
enum tsp_rw1_item tsp_rw1_next(struct tsp_rw1 *r, struct tsp_rw1_series *series,
                               struct tsp_rw1_metadata *meta, struct kl_err *err);
/* Adds every label as sent to `b` (empty values too). KL_EINVAL when malformed, KL_ELIMIT. */
enum kl_code tsp_rw1_labels(const struct tsp_rw1_series *s, struct kl_labels_builder *b,
                            struct kl_err *err);
/* Up to `cap` samples, starting after the first `skip`; returns how many. */
size_t tsp_rw1_samples(const struct tsp_rw1_series *s, size_t skip, int64_t *times_ms,
                       double *values, size_t cap);
/* Native histograms and exemplars, one by one; false at the end (then err->code is KL_OK) and on an
 * unfit one. Arrays lie in `arena`, an exemplar's label spans in the message. */
bool tsp_rw1_hist(const struct tsp_rw1_series *s, size_t nth, struct kl_arena *arena,
                  int64_t *time_ms, struct kl_hist *h, struct kl_err *err);
bool tsp_rw1_exemplar(const struct tsp_rw1_series *s, size_t nth, struct kl_labels_builder *b,
                      int64_t *time_ms, double *value, struct kl_err *err);

/*
 * The same by a walk that remembers where it is. The calls above begin at the front each time, which
 * is fine for a page of samples or a few histograms, but quadratic over a series of a hostile
 * million: whoever loops takes these. A walk is for one kind of item. `false`: at the end
 * err->code is KL_OK, else it is why this item is unfit, and the walk may go on behind it.
 */
struct kl_cur tsp_rw1_walk(const struct tsp_rw1_series *s);
size_t tsp_rw1_walk_samples(struct kl_cur *walk, int64_t *times_ms, double *values, size_t cap);
bool   tsp_rw1_walk_hist(struct kl_cur *walk, struct kl_arena *arena, int64_t *time_ms,
                         struct kl_hist *h, struct kl_err *err);
bool   tsp_rw1_walk_exemplar(struct kl_cur *walk, struct kl_labels_builder *b, int64_t *time_ms,
                             double *value, struct kl_err *err);
#endif
