#ifndef TSP_PLACEMENT_H
#define TSP_PLACEMENT_H
/*
 * Where series land: the one table that doormen, ingestors and queriers share.
 *
 *   partition = (base(tenant, metric name) + (hash(labels) mod 2^spread)) mod P
 *
 * base = kl_hash64 over tenant NUL metric; hash(labels) = fingerprint.lo. Only exceptions to spread 0 are
 * stored. A writer uses the spread valid at its clock; a reader always the largest ever recorded.
 * P is a power of two; it may be doubled (a split): x mod P and x mod 2P nest. A writer goes by the new P
 * from the split's valid_from on; a reader asks by the old one as well for whatever is not younger than
 * that by TSP_LAYOUT_KEPT_MS, more than any writer could be behind. The table is immutable; a changed one is
 * a new object with a higher revision. It is kept in the KV under TSP_PLACEMENT_KEY as the protobuf
 * message koalemos.Placement (placement.proto, nanopb), written only by compare-and-set; its spreads
 * have keys of their own (layout.h).
 */
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"
#include "libkoal/base/hash.h"

#define TSP_PLACEMENT_KEY "placement"
enum { TSP_PARTITIONS_MAX = 4096, TSP_SPREADS_MAX = 16384, TSP_MEMBERS_MAX = 512,
       TSP_REPLICAS_MAX = 5, TSP_NAME_MAX = 63 };

enum { TSP_LAYOUTS_MAX = 13 };                         /* of 1, 2, ... 4096 partitions */
#define TSP_LAYOUT_KEPT_MS INT64_C(86400000)

struct tsp_split { uint32_t partitions; int64_t valid_from_ms; };       /* to so many, from then on */
struct tsp_spread { struct kl_span tenant, metric; uint8_t spread; int64_t valid_from_ms; };
struct tsp_placement;
/* A table for P partitions and no members or exceptions, revision 0. Aborts if P is unfit. */
struct tsp_placement *tsp_placement_new(uint32_t partitions);
struct tsp_placement *tsp_placement_copy(const struct tsp_placement *p);
void     tsp_placement_free(struct tsp_placement *p);
uint32_t tsp_placement_partitions(const struct tsp_placement *p);
uint64_t tsp_placement_revision(const struct tsp_placement *p);
void     tsp_placement_set_revision(struct tsp_placement *p, uint64_t revision);
/* Owner first, then standbys; replaces what was. Names are copied: [A-Za-z0-9._-]+. */
enum kl_code tsp_placement_assign(struct tsp_placement *p, uint32_t partition,
                                  const char *const *members, unsigned count, struct kl_err *err);
unsigned     tsp_placement_members(const struct tsp_placement *p, uint32_t partition,
                                   const char **members, unsigned cap);
/* Records a larger spread for a metric; a smaller one is KL_EINVAL. */
enum kl_code tsp_placement_spread(struct tsp_placement *p, const struct tsp_spread *s,
                                  struct kl_err *err);

/* Doubles P for writers from `valid_from_ms` on. Partition p + P has the members of p, until others are
 * assigned. KL_EINVAL: not later than the last split; KL_ELIMIT: there are TSP_PARTITIONS_MAX. */
enum kl_code tsp_placement_split(struct tsp_placement *p, int64_t valid_from_ms, struct kl_err *err);
unsigned     tsp_placement_splits(const struct tsp_placement *p, const struct tsp_split **splits);
/* The P that a writer goes by at `now_ms`. */
uint32_t     tsp_placement_partitions_at(const struct tsp_placement *p, int64_t now_ms);
/* Those that a reader of samples of `from_ms` and later has to ask by, the newest first. */
unsigned     tsp_placement_layouts(const struct tsp_placement *p, int64_t from_ms,
                                   uint32_t partitions[TSP_LAYOUTS_MAX]);

/* For a writer, at `now_ms`. `base` once a metric, `of` once a series. */
uint32_t tsp_placement_of(const struct tsp_placement *p, struct kl_span tenant,
                          struct kl_span metric, struct kl_fp fp, int64_t now_ms);
/* By a layout of so many partitions, and the metric's spread. */
uint32_t tsp_placement_place(struct kl_span tenant, struct kl_span metric, struct kl_fp fp, uint32_t spread,
                             uint32_t partitions);
/* For a reader: the first partition and how many follow it (modulo P) that may hold `metric`. */
void     tsp_placement_range(const struct tsp_placement *p, struct kl_span tenant,
                             struct kl_span metric, uint32_t *first, uint32_t *count);
/* The same by an older layout's P. */
void     tsp_placement_range_of(const struct tsp_placement *p, uint32_t partitions, struct kl_span tenant,
                                struct kl_span metric, uint32_t *first, uint32_t *count);
/* Of the places that a series has had, which is newer? The latest time from which writers put it into
 * `partition`; INT64_MIN: from the first, or never. */
int64_t  tsp_placement_since(const struct tsp_placement *p, struct kl_span tenant, struct kl_span metric,
                             struct kl_fp fp, uint32_t partition);

/* The largest spread recorded for the metric, 0 without one, and since when writers go by it. */
uint8_t  tsp_placement_spread_of(const struct tsp_placement *p, struct kl_span tenant,
                                 struct kl_span metric, int64_t *valid_from_ms);
/* How many spreads and splits writers go by at `now_ms`: where that is the same at two times, so is every series'
 * place. *next_ms: when the next begins, or INT64_MAX. Looks at all of them. */
uint32_t tsp_placement_steps(const struct tsp_placement *p, int64_t now_ms, int64_t *next_ms);

enum kl_code tsp_placement_encode(const struct tsp_placement *p, struct kl_buf *out,
                                  struct kl_err *err);
enum kl_code tsp_placement_decode(struct kl_span bytes, struct tsp_placement **p,
                                  struct kl_err *err);
#endif
