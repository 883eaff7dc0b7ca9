#ifndef DM_TABLE_H
#define DM_TABLE_H
/*
 * What a gate remembers of the series that passed it: one row of 48 bytes each, found by a hash of
 * the label bytes exactly as they were sent. A known series is thereby neither parsed, checked nor
 * placed again; its labels are not kept, since the push at hand holds them whenever they are needed.
 *
 *   slots   {tag, row + 1}, open addressing, linear probing, deletion by shifting back
 *   rows    in the order first seen: series of one sender lie side by side
 *
 * Bounded: past `rows_max` a new series takes the place of a cold one (a clock hand passes over the
 * rows, and spares those used since it last came by). Rows move when the table grows: a pointer to
 * one is good until the next dm_table_add. One thread.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/hash.h"

enum { DM_TABLE_GROUP = 16 };                          /* look-ups prefetched together */

struct dm_row {
    struct kl_fp key;
    uint64_t ref;                                      /* counted up in its partition; 0: none yet */
    uint32_t placed;                                   /* the gate's placement generation */
    uint32_t defined_epoch;                            /* of the partition, when the definition was acked */
    uint32_t defined_s;                                /* when, in the gate's seconds */
    uint32_t in_batch;                                 /* serial of the last batch that carries it */
    uint16_t tenant;                                   /* dm_tenants' number: compared, not hashed */
    uint16_t active;                                   /* the period in which it was last sent; 0: never */
    uint16_t pair;                                     /* a hash of its cluster and replica; 0: no HA */
    uint16_t partition : 12;
    uint16_t used : 1;                                 /* since the hand passed */
    uint16_t dropped : 1;                              /* by a rule: it has no ref */
};

struct dm_table;
struct dm_table *dm_table_new(uint32_t rows_max);
/* `gone` sees each row that gives way to another, and those of a reset. */
void dm_table_watch(struct dm_table *t, void (*gone)(void *ctx, const struct dm_row *row), void *ctx);
void dm_table_free(struct dm_table *t);
/* Begins to load what looking up these keys will touch; at most DM_TABLE_GROUP. */
void dm_table_prefetch(const struct dm_table *t, const struct kl_fp *keys, size_t count);
struct dm_row *dm_table_find(struct dm_table *t, struct kl_fp key, uint32_t tenant);    /* or NULL */
/* A new row, all but its key and tenant zero; the key must be absent. */
struct dm_row *dm_table_add(struct dm_table *t, struct kl_fp key, uint32_t tenant);
/* A row's number, to find it again after it may have moved. NULL when it is another series' by now. */
uint32_t       dm_table_index(const struct dm_table *t, const struct dm_row *row);
struct dm_row *dm_table_at(struct dm_table *t, uint32_t index, uint32_t partition, uint64_t ref);
void     dm_table_reset(struct dm_table *t);           /* forgets all rows */
uint32_t dm_table_count(const struct dm_table *t);
uint64_t dm_table_evicted(const struct dm_table *t);
#endif
