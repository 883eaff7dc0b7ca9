#ifndef KL_LABELS_H
#define KL_LABELS_H
/*
 * A label set in its one canonical form, the same bytes in every process, file and message:
 *
 *   { varint name length, name, varint value length, value } ...     sorted by name, bytewise
 *
 * No name twice, no empty name, no empty value (an empty value is no label), names and values
 * valid UTF-8. `__name__` is a label like any other and sorts like any other. The fingerprint of
 * a series is kl_hash128 over these bytes. A kl_labels only borrows; it is a plain value.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"
#include "libkoal/base/hash.h"

enum { KL_LABELS_MAX = 256 };                          /* labels in one set, hard bound */
enum { KL_LABELS_BYTES_MAX = 64 * 1024 };              /* canonical bytes of one set, hard bound */

struct kl_label  { struct kl_span name, value; };
struct kl_labels { const uint8_t *at; size_t size; };

/* Iterate: `struct kl_cur c = kl_labels_cur(l); struct kl_label x; while (kl_labels_next(&c, &x))`.
 * On bytes that were not checked by kl_labels_check, stops and sets c.bad. */
struct kl_cur kl_labels_cur(struct kl_labels l);
bool          kl_labels_next(struct kl_cur *c, struct kl_label *label);
/* The value of `name`, or an empty span {"",0}. */
struct kl_span kl_labels_get(struct kl_labels l, struct kl_span name);
size_t         kl_labels_count(struct kl_labels l);
/* Whether unknown bytes are a canonical label set (order, emptiness, UTF-8, bounds). */
enum kl_code   kl_labels_check(struct kl_labels l, struct kl_err *err);
struct kl_fp   kl_labels_fp(struct kl_labels l);
/* Prometheus' order of label sets: pair by pair, name then value, the shorter set first. */
int            kl_labels_cmp(struct kl_labels a, struct kl_labels b);
/* The indices of `l` in that order; equal ones in any. Any thread; KL_LABELS_ORDER_BYTES for each meanwhile. */
enum { KL_LABELS_ORDER_BYTES = 32 };
void           kl_labels_order(const struct kl_labels *l, uint32_t *order, size_t count);

/* Building: add pairs in any order, then finish. Reusable; one thread. Pairs are borrowed until
 * finish. finish drops empty values, sorts, and fails KL_EINVAL on a name given twice or empty,
 * KL_ELIMIT past a bound; it appends the canonical bytes to `out`. */
struct kl_labels_builder { size_t count; struct kl_label pairs[KL_LABELS_MAX]; };
void         kl_labels_start(struct kl_labels_builder *b);
enum kl_code kl_labels_add(struct kl_labels_builder *b, struct kl_span name, struct kl_span value,
                           struct kl_err *err);        /* KL_ELIMIT past KL_LABELS_MAX */
enum kl_code kl_labels_finish(struct kl_labels_builder *b, struct kl_buf *out, struct kl_err *err);

bool kl_utf8_ok(struct kl_span s);
#endif
