/*
 * What one writer's refs stand for, in one tenant. A definition is dropped only by a rule that the
 * log itself drives: two window cuts were read since it was last used or repeated. The oldest
 * definition in force bounds from where the log must be replayed, so a restart knows them all
 * again. Samples of a ref without a definition are kept under it, in the order they came.
 */
#include "ingestor/ing_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS_FIRST = 32 };

static int64_t *memory(struct ing_refs *r) { return &r->head->memory.bytes[ING_MEM_REFS]; }

static void slots_new(struct ing_refs *r, uint32_t size)
{
    r->slots = kl_resize(NULL, size * sizeof *r->slots);
    r->used = kl_resize(NULL, size);
    for (uint32_t i = 0; i < size; i++)
        r->slots[i].series = ING_NONE;
    r->mask = size - 1;
    r->count = 0;
    *memory(r) += size * (int64_t)(sizeof *r->slots + 1);
}

struct ing_refs *ing_refs_new(struct tsp_incarnation who, struct ing_head *head, uint64_t seq)
{
    struct ing_refs *r = kl_new(sizeof *r);

    r->who = who;
    r->head = head;
    r->base_seq = seq;
    slots_new(r, SLOTS_FIRST);
    return r;
}

void ing_refs_free(struct ing_refs *r)
{
    *memory(r) -= (r->mask + 1) * (int64_t)(sizeof *r->slots + 1);
    for (uint32_t i = 0; i < r->orphan_count; i++)
        kl_buf_deinit(&r->orphans[i].samples);
    free(r->orphans);
    free(r->slots);
    free(r->used);
    free(r);
}

/* Refs are counted up by their writer, so they would lie in runs: spread them. */
static uint32_t home(const struct ing_refs *r, uint64_t ref)
{
    return (uint32_t)((ref * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & r->mask;
}

static uint32_t slot(const struct ing_refs *r, uint64_t ref)
{
    uint32_t at = home(r, ref);

    while (r->slots[at].series != ING_NONE && r->slots[at].ref != ref)
        at = (at + 1) & r->mask;
    return at;
}

void ing_refs_prefetch(const struct ing_refs *r, uint64_t ref)
{
    uint32_t at = home(r, ref);

    __builtin_prefetch(&r->slots[at]);
    __builtin_prefetch(&r->used[at], 1);
}

uint32_t ing_refs_find(struct ing_refs *r, uint64_t ref, uint8_t cut)
{
    uint32_t at = slot(r, ref);

    r->used[at] = cut;
    return r->slots[at].series;
}

/* Into `size` slots, without those that `keep` does not name. */
static void rehash(struct ing_refs *r, uint32_t size, bool (*keep)(struct ing_refs *, uint32_t,
                   uint8_t), uint8_t cut)
{
    struct ing_ref *old = r->slots;
    uint8_t        *used = r->used;
    uint32_t        old_size = r->mask + 1;
    bool           *stays = kl_resize(NULL, old_size);

    for (uint32_t i = 0; i < old_size; i++)
        stays[i] = old[i].series != ING_NONE && (keep == NULL || keep(r, i, cut));
    *memory(r) -= old_size * (int64_t)(sizeof *old + 1);
    slots_new(r, size);
    for (uint32_t i = 0; i < old_size; i++) {
        uint32_t at;

        if (!stays[i])
            continue;
        at = slot(r, old[i].ref);
        r->slots[at] = old[i];
        r->used[at] = used[i];
        r->count++;
    }
    free(old);
    free(used);
    free(stays);
}

void ing_refs_set(struct ing_refs *r, uint64_t ref, uint32_t series, uint64_t seq, uint8_t cut)
{
    uint64_t defined = (seq - r->base_seq) / ING_REF_GRAIN;
    uint32_t at = slot(r, ref);

    if (r->slots[at].series == ING_NONE) {
        if ((r->count + 1) > (r->mask + 1) / 8 * 7) {
            rehash(r, (r->mask + 1) * 2, NULL, 0);
            at = slot(r, ref);
        }
        r->count++;
    }
    r->slots[at] = (struct ing_ref){ .ref = ref, .series = series,
                                     .defined = defined > UINT32_MAX ? UINT32_MAX
                                                                     : (uint32_t)defined };
    r->used[at] = cut;
}

static bool stays(struct ing_refs *r, uint32_t at, uint8_t cut)
{
    if ((r->slots[at].series & ING_ORPHAN_BIT) != 0 || (uint8_t)(cut - r->used[at]) < 2)
        return true;
    ing_series_at(r->head, r->slots[at].series)->definitions--;
    return false;
}

void ing_refs_sweep(struct ing_refs *r, uint8_t cut)
{
    uint32_t drop = 0;

    for (uint32_t i = 0; i <= r->mask; i++)
        drop += r->slots[i].series != ING_NONE && (r->slots[i].series & ING_ORPHAN_BIT) == 0 &&
                (uint8_t)(cut - r->used[i]) >= 2;
    if (drop > 0) {
        uint32_t size = r->mask + 1;

        while (size > SLOTS_FIRST && r->count - drop < size / 4)
            size /= 2;
        rehash(r, size, stays, cut);
    }
}

uint64_t ing_refs_oldest(const struct ing_refs *r)
{
    uint64_t oldest = UINT64_MAX;

    for (uint32_t i = 0; i <= r->mask; i++)
        if (r->slots[i].series != ING_NONE && (r->slots[i].series & ING_ORPHAN_BIT) == 0) {
            uint64_t seq = r->base_seq + (uint64_t)r->slots[i].defined * ING_REF_GRAIN;

            oldest = seq < oldest ? seq : oldest;
        }
    for (uint32_t i = 0; i < r->orphan_count; i++)
        if (r->orphans[i].first_seq < oldest)
            oldest = r->orphans[i].first_seq;
    return oldest;
}

struct ing_orphan *ing_refs_orphan(struct ing_refs *r, uint64_t ref, uint64_t seq, uint8_t cut)
{
    uint32_t at = slot(r, ref);

    if (r->slots[at].series == ING_NONE) {
        if (r->orphan_count == r->orphan_room) {
            r->orphan_room = r->orphan_room == 0 ? 8 : r->orphan_room * 2;
            r->orphans = kl_resize(r->orphans, r->orphan_room * sizeof *r->orphans);
        }
        r->orphans[r->orphan_count] = (struct ing_orphan){ .ref = ref, .first_seq = seq };
        ing_refs_set(r, ref, ING_ORPHAN_BIT | r->orphan_count, seq, cut);
        return &r->orphans[r->orphan_count++];
    }
    assert((r->slots[at].series & ING_ORPHAN_BIT) != 0);
    return &r->orphans[r->slots[at].series & ~ING_ORPHAN_BIT];
}
