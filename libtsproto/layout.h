#ifndef TSP_LAYOUT_H
#define TSP_LAYOUT_H
/*
 * The placement table as it lies in the KV: in several keys, as a value there is at most 64 KiB.
 *
 *   placement               partitions and their members (koalemos.Placement)
 *   placement.spread.NN     the spreads of the metrics that fall to this key (koalemos.Spreads); 00 to 15
 *
 * A key is written only by compare-and-set, and a spread once recorded is never taken back: readers
 * need it as long as data of its time exists. One key holds about a thousand spreads.
 *
 * A layout is fed with what a watch of the prefix TSP_PLACEMENT_KEY brings, or what was got by name,
 * and gives the table of all keys together. The table's revision is the KV's own of the newest key in
 * it: since every change there has a higher revision than all before it, of two tables the one with
 * the higher revision knows all that the other does, once the watch is current.
 *
 * Plain memory, one thread.
 */
#include "libtsproto/placement.h"

enum { TSP_SPREAD_KEYS = 16, TSP_SPREAD_VALUE_MAX = 60 * 1024 };

struct tsp_layout;
struct tsp_layout *tsp_layout_new(void);
void tsp_layout_free(struct tsp_layout *l);
/* The key has this value now (at NULL: it was deleted: what it said is kept). Other keys and older
 * revisions are passed over. True: the table is another now. On a value that cannot be read, or a
 * table it does not fit, err has words and what was known stays; else err->code is KL_OK. */
bool tsp_layout_see(struct tsp_layout *l, const char *key, struct kl_span value, uint64_t revision,
                    struct kl_err *err);
/* The table, the caller's; NULL while there is no key "placement". */
struct tsp_placement *tsp_layout_table(const struct tsp_layout *l);

/* For who records a spread: the key that the metric falls to, and the value with `more` added to what
 * the key holds. Those that are no larger than what is recorded are left out; *added says how many were
 * not. KL_ELIMIT: no room left in the key. `expect` is the revision for the compare-and-set. */
void         tsp_spread_key(uint32_t number, char *out, size_t size);
uint32_t     tsp_spread_number(struct kl_span tenant, struct kl_span metric);
enum kl_code tsp_layout_add(const struct tsp_layout *l, uint32_t number, const struct tsp_spread *more,
                            size_t count, struct kl_buf *value, size_t *added, uint64_t *expect,
                            struct kl_err *err);
#endif
