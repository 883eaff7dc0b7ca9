#ifndef DM_TABLE_H
#define DM_TABLE_H
/*
 * The remembered table of a gate: which series stand behind raw label bytes seen before, so that a known
 * series costs one look-up and its labels are not read again.
 *
 * Keyed by a 128-bit hash of tenant and raw bytes; open addressing with linear probing; grows by
 * doubling up to a bound, past which the entry longest unused (second chance) gives way: its series
 * gets a new ref when it comes again. 40 bytes an entry. Owned by the gate's loop.
 */
#include <stddef.h>
#include <stdint.h>

#include "libkoal/base/hash.h"

struct dm_entry {
    struct kl_fp key;
    uint64_t ref;                                      /* never 0, never given twice; 0: empty slot */
    uint32_t defined_epoch;                            /* of its partition's stream; 0: not acked yet */
    uint32_t defined_s;                                /* when acked, mono seconds */
    uint32_t defined_batch;                            /* the last batch that carries its definition */
    uint16_t placed_epoch;                             /* of the placement table it was placed by */
    uint16_t partition : 15, recent : 1;
};

struct dm_table;
struct dm_table *dm_table_new(size_t entries_max);
void             dm_table_free(struct dm_table *t);
/* Brings the slot of a key towards the cache; a look-up a few hundred ns later finds it there. */
void             dm_table_prefetch(const struct dm_table *t, struct kl_fp key);
/* NULL when it is unknown. Good until the next add. */
struct dm_entry *dm_table_find(struct dm_table *t, struct kl_fp key);
/* A new entry for a key that is not there, zeroed but for key and ref. Good until the next add. */
struct dm_entry *dm_table_add(struct dm_table *t, struct kl_fp key);
size_t           dm_table_count(const struct dm_table *t);
size_t           dm_table_bytes(const struct dm_table *t);
uint64_t         dm_table_evicted(const struct dm_table *t);
#endif
