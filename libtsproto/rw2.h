#ifndef TSP_RW2_H
#define TSP_RW2_H
/*
 * Prometheus remote write 2.0 (spec: prometheus.io/docs/specs/prw/remote_write_spec_2_0), the message
 * io.prometheus.write.v2.Request after unpacking, read by a cursor as rw1.h reads its own. Strings
 * come once, in the message's symbol table, and are named by index. open() reads the table whole,
 * wherever it stands, into `arena`: 32 bytes a symbol, at most TSP_RW2_SYMBOLS_MAX; its first is "",
 * as the specification demands. Every index is checked against it before it is used.
 *
 * Indexes mean something else in every message, so what the doorman's remembered table is keyed by
 * is made of the symbols' hashes: tsp_rw2_key. Label order is part of it, as it is of rw1's bytes.
 *
 * Where the start of a counter is told changed while 2.0 was made: once a series
 * (created_timestamp, field 6), later in each sample and histogram. Both are read; the sample's own
 * wins. 0 is "not told".
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/err.h"
#include "libkoal/base/hash.h"
#include "libkoal/base/hist.h"
#include "libkoal/base/labels.h"
#include "libkoal/base/mem.h"

enum { TSP_RW2_SYMBOLS_MAX = 1 << 20 };

struct tsp_rw2_symbol { struct kl_span text; struct kl_fp hash; };
struct tsp_rw2 {
    struct kl_cur cur;
    const uint8_t *begin;
    const struct tsp_rw2_symbol *symbols;
    uint32_t symbol_count;
};
struct tsp_rw2_series {
    struct kl_span body;                               /* the TimeSeries message */
    int64_t created_ms;                                /* 0: not told for the series */
    uint32_t ref_count, sample_count, hist_count, exemplar_count;
    struct kl_span metadata;                           /* its message; at NULL: none */
};
struct tsp_rw2_metadata { uint8_t type; struct kl_span help, unit; };
enum tsp_rw2_item { TSP_RW2_END, TSP_RW2_SERIES, TSP_RW2_BROKEN };

/* KL_EINVAL: no such message; KL_ELIMIT: too many symbols, or more than `arena` holds. The message
 * and the arena stay as long as the reader. */
enum kl_code tsp_rw2_open(struct tsp_rw2 *r, struct kl_span message, struct kl_arena *arena,
                          struct kl_err *err);
/* BROKEN: the message is not protobuf from here on; err says at which byte; the next call says END.
 * What next() has handed out has whole samples; the rest is checked by the calls below; whether
 * symbols are UTF-8 is the caller's to check. */
enum tsp_rw2_item tsp_rw2_next(struct tsp_rw2 *r, struct tsp_rw2_series *series, struct kl_err *err);

/* KL_EINVAL on an index out of range or an odd number of them; KL_ELIMIT past KL_LABELS_MAX. */
enum kl_code tsp_rw2_key(const struct tsp_rw2 *r, const struct tsp_rw2_series *s, struct kl_fp *key,
                         struct kl_err *err);
/* Adds every label as sent to `b` (empty values too). As above; then those before the wrong one. */
enum kl_code tsp_rw2_labels(const struct tsp_rw2 *r, const struct tsp_rw2_series *s,
                            struct kl_labels_builder *b, struct kl_err *err);
/* KL_ENOENT: the series brought none. */
enum kl_code tsp_rw2_metadata(const struct tsp_rw2 *r, const struct tsp_rw2_series *s,
                              struct tsp_rw2_metadata *meta, struct kl_err *err);

/* A walk over one kind of item, linear however many there are. `false`: at the end err->code is
 * KL_OK, else it is why this item is unfit, and the walk may go on behind it. */
struct tsp_rw2_walk { struct kl_cur cur; const struct tsp_rw2 *r; int64_t created_ms; };
struct tsp_rw2_walk tsp_rw2_walk(const struct tsp_rw2 *r, const struct tsp_rw2_series *s);
/* Up to `cap` samples; returns how many. `starts_ms` may be NULL. */
size_t tsp_rw2_walk_samples(struct tsp_rw2_walk *walk, int64_t *times_ms, double *values,
                            int64_t *starts_ms, size_t cap);
bool tsp_rw2_walk_hist(struct tsp_rw2_walk *walk, struct kl_arena *arena, int64_t *time_ms,
                       int64_t *start_ms, struct kl_hist *h, struct kl_err *err);
bool tsp_rw2_walk_exemplar(struct tsp_rw2_walk *walk, struct kl_labels_builder *b, int64_t *time_ms,
                           double *value, struct kl_err *err);
#endif
