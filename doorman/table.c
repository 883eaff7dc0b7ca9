#include "doorman/table.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

#include "libkoal/base/mem.h"

enum { SLOTS_FIRST = 1024 };

struct dm_table {
    struct dm_entry *slots;
    size_t   mask, count, max, hand;
    uint64_t next_ref, evicted;
};

_Static_assert(sizeof(struct dm_entry) == 40, "what the sizing counts on");

struct dm_table *dm_table_new(size_t entries_max)
{
    struct dm_table *t = kl_new(sizeof *t);

    assert(entries_max > 0);
    *t = (struct dm_table){ .mask = SLOTS_FIRST - 1, .max = entries_max, .next_ref = 1 };
    t->slots = kl_new(SLOTS_FIRST * sizeof *t->slots);
    return t;
}

void dm_table_free(struct dm_table *t)
{
    if (t == NULL)
        return;
    free(t->slots);
    free(t);
}

static size_t home(const struct dm_table *t, struct kl_fp key) { return key.lo & t->mask; }

void dm_table_prefetch(const struct dm_table *t, struct kl_fp key)
{
    __builtin_prefetch(&t->slots[home(t, key)], 1);
}

/* Its slot, or the empty one where it would be. */
static struct dm_entry *probe(const struct dm_table *t, struct kl_fp key)
{
    size_t i = home(t, key);

    while (t->slots[i].ref != 0 && kl_fp_cmp(t->slots[i].key, key) != 0)
        i = (i + 1) & t->mask;
    return &t->slots[i];
}

struct dm_entry *dm_table_find(struct dm_table *t, struct kl_fp key)
{
    struct dm_entry *e = probe(t, key);

    if (e->ref == 0)
        return NULL;
    e->recent = 1;
    return e;
}

static void grow(struct dm_table *t)
{
    struct dm_entry *old = t->slots;
    size_t           n = t->mask + 1;

    t->slots = kl_new(2 * n * sizeof *t->slots);
    t->mask = 2 * n - 1;
    t->hand = 0;
    for (size_t i = 0; i < n; i++)
        if (old[i].ref != 0)
            *probe(t, old[i].key) = old[i];
    free(old);
}

/* Empties slot `i` and moves up what probed past it, so that no probe ends too early. */
static void empty(struct dm_table *t, size_t i)
{
    for (size_t k = (i + 1) & t->mask; t->slots[k].ref != 0; k = (k + 1) & t->mask) {
        size_t away = (k - home(t, t->slots[k].key)) & t->mask;
        if (away >= ((k - i) & t->mask)) {
            t->slots[i] = t->slots[k];
            i = k;
        }
    }
    t->slots[i] = (struct dm_entry){ 0 };
    t->count--;
}

static void evict_one(struct dm_table *t)
{
    for (;;) {
        struct dm_entry *e = &t->slots[t->hand];
        if (e->ref != 0 && !e->recent) {
            empty(t, t->hand);
            t->evicted++;
            return;
        }
        e->recent = 0;
        t->hand = (t->hand + 1) & t->mask;
    }
}

struct dm_entry *dm_table_add(struct dm_table *t, struct kl_fp key)
{
    struct dm_entry *e;

    if (t->count == t->max)
        evict_one(t);
    else if (t->count >= (t->mask + 1) / 4 * 3)
        grow(t);
    e = probe(t, key);
    assert(e->ref == 0);
    *e = (struct dm_entry){ .key = key, .ref = t->next_ref++, .recent = 1 };
    t->count++;
    return e;
}

size_t   dm_table_count(const struct dm_table *t) { return t->count; }
size_t   dm_table_bytes(const struct dm_table *t) { return (t->mask + 1) * sizeof *t->slots; }
uint64_t dm_table_evicted(const struct dm_table *t) { return t->evicted; }
