#include "doorman/table.h"

#include "libkoal/base/mem.h"
#include "libkoal/bus/bus.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_FIRST = 1024, HAND_STEPS_MAX = 64 };

struct slot { uint32_t tag, row; };                    /* row 0: empty; else its index + 1 */
struct dm_table {
    struct slot   *slots;
    struct dm_row *rows;
    uint32_t mask;                                     /* slots - 1; there are at least 2 a row */
    uint32_t count, room, rows_max, hand;
    uint64_t evicted;
    void   (*gone)(void *ctx, const struct dm_row *row);
    void    *ctx;
};

_Static_assert(sizeof(struct dm_row) == 48, "a remembered series weighs 48 bytes and its slots");
_Static_assert(KL_BUS_PARTITIONS_MAX <= 1 << 12, "a row has twelve bits for its partition");

static uint32_t tag_of(struct kl_fp key) { return (uint32_t)key.lo; }

static void place(struct dm_table *t, uint32_t tag, uint32_t row)
{
    uint32_t i = tag & t->mask;

    while (t->slots[i].row != 0)
        i = (i + 1) & t->mask;
    t->slots[i] = (struct slot){ .tag = tag, .row = row + 1 };
}

static void resize(struct dm_table *t, uint32_t room)
{
    uint32_t slots = 4;

    while (slots < 2 * room)
        slots *= 2;
    t->room = room;
    t->rows = kl_resize(t->rows, (size_t)room * sizeof *t->rows);
    free(t->slots);
    t->slots = kl_new((size_t)slots * sizeof *t->slots);
    t->mask = slots - 1;
    for (uint32_t i = 0; i < t->count; i++)
        place(t, tag_of(t->rows[i].key), i);
}

struct dm_table *dm_table_new(uint32_t rows_max)
{
    struct dm_table *t = kl_new(sizeof *t);

    assert(rows_max > 0 && rows_max <= 1u << 30);
    t->rows_max = rows_max;
    resize(t, rows_max < ROWS_FIRST ? rows_max : ROWS_FIRST);
    return t;
}

void dm_table_free(struct dm_table *t)
{
    if (t == NULL)
        return;
    free(t->slots);
    free(t->rows);
    free(t);
}

void dm_table_watch(struct dm_table *t, void (*gone)(void *ctx, const struct dm_row *row), void *ctx)
{
    t->gone = gone;
    t->ctx = ctx;
}

void dm_table_prefetch(const struct dm_table *t, const struct kl_fp *keys, size_t count)
{
    for (size_t i = 0; i < count; i++)
        __builtin_prefetch(&t->slots[tag_of(keys[i]) & t->mask]);
    for (size_t i = 0; i < count; i++) {
        uint32_t row = t->slots[tag_of(keys[i]) & t->mask].row;
        if (row != 0)
            __builtin_prefetch(&t->rows[row - 1], 1);
    }
}

struct dm_row *dm_table_find(struct dm_table *t, struct kl_fp key, uint32_t tenant)
{
    uint32_t tag = tag_of(key);

    for (uint32_t i = tag & t->mask; t->slots[i].row != 0; i = (i + 1) & t->mask) {
        struct dm_row *row = &t->rows[t->slots[i].row - 1];
        if (t->slots[i].tag == tag && row->key.hi == key.hi && row->key.lo == key.lo &&
            row->tenant == tenant) {
            row->used = true;
            return row;
        }
    }
    return NULL;
}

/* Empties the row's slot, and moves back those after it that would no longer be found. */
static void unplace(struct dm_table *t, uint32_t row)
{
    uint32_t hole = tag_of(t->rows[row].key) & t->mask;

    while (t->slots[hole].row != row + 1)
        hole = (hole + 1) & t->mask;
    for (uint32_t i = (hole + 1) & t->mask; t->slots[i].row != 0; i = (i + 1) & t->mask) {
        uint32_t home = t->slots[i].tag & t->mask;
        if (((i - home) & t->mask) >= ((i - hole) & t->mask)) {
            t->slots[hole] = t->slots[i];
            hole = i;
        }
    }
    t->slots[hole].row = 0;
}

static uint32_t evict(struct dm_table *t)
{
    uint32_t row;

    for (unsigned step = 0; step < HAND_STEPS_MAX && t->rows[t->hand].used; step++) {
        t->rows[t->hand].used = false;
        t->hand = (t->hand + 1) % t->count;
    }
    row = t->hand;                                     /* where all were in use, simply the next */
    t->hand = (t->hand + 1) % t->count;
    unplace(t, row);
    if (t->gone != NULL)
        t->gone(t->ctx, &t->rows[row]);
    t->evicted++;
    return row;
}

struct dm_row *dm_table_add(struct dm_table *t, struct kl_fp key, uint32_t tenant)
{
    uint32_t row;

    if (t->count == t->room && t->room < t->rows_max)
        resize(t, t->room > t->rows_max / 2 ? t->rows_max : t->room * 2);
    row = t->count < t->room ? t->count++ : evict(t);
    t->rows[row] = (struct dm_row){ .key = key, .tenant = (uint16_t)tenant, .used = true };
    place(t, tag_of(key), row);
    return &t->rows[row];
}

uint32_t dm_table_index(const struct dm_table *t, const struct dm_row *row)
{
    return (uint32_t)(row - t->rows);
}

struct dm_row *dm_table_at(struct dm_table *t, uint32_t index, uint32_t partition, uint64_t ref)
{
    struct dm_row *row = &t->rows[index];

    return index < t->count && row->partition == partition && row->ref == ref ? row : NULL;
}

void dm_table_reset(struct dm_table *t)
{
    for (uint32_t i = 0; t->gone != NULL && i < t->count; i++)
        t->gone(t->ctx, &t->rows[i]);
    t->count = t->hand = 0;
    memset(t->slots, 0, ((size_t)t->mask + 1) * sizeof *t->slots);
}

uint32_t dm_table_count(const struct dm_table *t) { return t->count; }
uint64_t dm_table_evicted(const struct dm_table *t) { return t->evicted; }
