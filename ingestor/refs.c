/*
 * What one writer's refs stand for, in one tenant. A definition is dropped only by a rule that the
 * log itself drives: two window cuts were read since it was last used or repeated. The oldest
 * definition in force bounds from where the log must be replayed, so a restart knows them all
 * again. Samples of a ref without a definition are kept under it, in the order they came.
 *
 * Writers count refs up, so they lie in pages of neighbours, nine bytes each; pages are found by
 * hash, so that a writer who does not is only dearer.
 */
#include "ingestor/ing_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS_FIRST = 8 };

static int64_t *memory(struct ing_refs *r) { return &r->head->memory.bytes[ING_MEM_REFS]; }

struct ing_refs *ing_refs_new(struct tsp_incarnation who, struct ing_head *head, uint64_t seq)
{
    struct ing_refs *r = kl_new(sizeof *r);

    r->who = who;
    r->head = head;
    r->base_seq = seq;
    r->slots = kl_new(SLOTS_FIRST * sizeof *r->slots);
    r->mask = SLOTS_FIRST - 1;
    *memory(r) += SLOTS_FIRST * (int64_t)sizeof *r->slots;
    return r;
}

void ing_refs_free(struct ing_refs *r)
{
    *memory(r) -= (r->mask + 1) * (int64_t)sizeof *r->slots +
                  r->page_count * (int64_t)sizeof(struct ing_ref_page);
    for (uint32_t i = 0; i < r->orphan_count; i++)
        kl_buf_deinit(&r->orphans[i].samples);
    for (uint32_t i = 0; i < r->page_count; i++)
        free(r->pages[i]);
    free(r->orphans);
    free(r->pages);
    free(r->slots);
    free(r);
}

static uint32_t slot(const struct ing_refs *r, uint64_t number)
{
    uint32_t at = (uint32_t)((number * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & r->mask;

    while (r->slots[at] != 0 && r->pages[r->slots[at] - 1]->number != number)
        at = (at + 1) & r->mask;
    return at;
}

static struct ing_ref_page *page_of(const struct ing_refs *r, uint64_t ref)
{
    uint32_t n = r->slots[slot(r, ref / ING_REF_PAGE)];

    return n == 0 ? NULL : r->pages[n - 1];
}

void ing_refs_prefetch(const struct ing_refs *r, uint64_t ref)
{
    const struct ing_ref_page *p = page_of(r, ref);

    if (p == NULL)
        return;
    __builtin_prefetch(&p->series[ref % ING_REF_PAGE]);
    __builtin_prefetch(&p->used[ref % ING_REF_PAGE], 1);
}

uint32_t ing_refs_find(struct ing_refs *r, uint64_t ref, uint8_t cut)
{
    struct ing_ref_page *p = page_of(r, ref);

    if (p == NULL)
        return ING_NONE;
    p->used[ref % ING_REF_PAGE] = cut;
    return p->series[ref % ING_REF_PAGE];
}

static void index_pages(struct ing_refs *r, uint32_t size)
{
    *memory(r) += ((int64_t)size - r->mask - 1) * (int64_t)sizeof *r->slots;
    free(r->slots);
    r->slots = kl_new(size * sizeof *r->slots);
    r->mask = size - 1;
    for (uint32_t i = 0; i < r->page_count; i++)
        r->slots[slot(r, r->pages[i]->number)] = i + 1;
}

static struct ing_ref_page *page_new(struct ing_refs *r, uint64_t number)
{
    struct ing_ref_page *p = kl_resize(NULL, sizeof *p);

    if (r->page_count == r->page_room) {
        r->page_room = r->page_room == 0 ? 8 : r->page_room * 2;
        r->pages = kl_resize(r->pages, r->page_room * sizeof(struct ing_ref_page *));
    }
    p->number = number;
    p->live = 0;
    for (uint32_t i = 0; i < ING_REF_PAGE; i++)
        p->series[i] = ING_NONE;
    r->pages[r->page_count++] = p;
    *memory(r) += (int64_t)sizeof *p;
    if (r->page_count * 2 > r->mask)
        index_pages(r, (r->mask + 1) * 2);
    else
        r->slots[slot(r, number)] = r->page_count;
    return p;
}

void ing_refs_set(struct ing_refs *r, uint64_t ref, uint32_t series, uint64_t seq, uint8_t cut)
{
    uint64_t             defined = (seq - r->base_seq) / ING_REF_GRAIN;
    struct ing_ref_page *p = page_of(r, ref);
    uint32_t             i = ref % ING_REF_PAGE;

    if (p == NULL)
        p = page_new(r, ref / ING_REF_PAGE);
    if (p->series[i] == ING_NONE) {
        p->live++;
        r->count++;
    }
    p->series[i] = series;
    p->defined[i] = defined > UINT32_MAX ? UINT32_MAX : (uint32_t)defined;
    p->used[i] = cut;
}

void ing_refs_sweep(struct ing_refs *r, uint8_t cut)
{
    uint32_t kept = 0, before = r->page_count;

    for (uint32_t n = 0; n < before; n++) {
        struct ing_ref_page *p = r->pages[n];

        for (uint32_t i = 0; i < ING_REF_PAGE; i++) {
            if ((p->series[i] & ING_ORPHAN_BIT) != 0 || (uint8_t)(cut - p->used[i]) < 2)
                continue;                              /* ING_NONE has the bit, too */
            ing_series_at(r->head, p->series[i])->definitions--;
            p->series[i] = ING_NONE;
            p->live--;
            r->count--;
        }
        if (p->live > 0) {
            r->pages[kept++] = p;
            continue;
        }
        free(p);
        *memory(r) -= (int64_t)sizeof *p;
    }
    r->page_count = kept;
    if (kept < before) {
        uint32_t size = SLOTS_FIRST;

        while (kept * 2 > size - 1)
            size *= 2;
        index_pages(r, size);
    }
}

uint64_t ing_refs_oldest(const struct ing_refs *r)
{
    uint64_t oldest = UINT64_MAX;
    uint32_t least = UINT32_MAX;
    bool     any = false;

    for (uint32_t n = 0; n < r->page_count; n++)
        for (uint32_t i = 0; i < ING_REF_PAGE; i++)
            if ((r->pages[n]->series[i] & ING_ORPHAN_BIT) == 0) {
                any = true;
                least = r->pages[n]->defined[i] < least ? r->pages[n]->defined[i] : least;
            }
    if (any)
        oldest = r->base_seq + (uint64_t)least * ING_REF_GRAIN;
    for (uint32_t i = 0; i < r->orphan_count; i++)
        if (r->orphans[i].first_seq < oldest)
            oldest = r->orphans[i].first_seq;
    return oldest;
}

struct ing_orphan *ing_refs_orphan(struct ing_refs *r, uint64_t ref, uint64_t seq, uint8_t cut)
{
    uint32_t known = ing_refs_find(r, ref, cut);

    if (known != ING_NONE) {
        assert((known & ING_ORPHAN_BIT) != 0);
        return &r->orphans[known & ~ING_ORPHAN_BIT];
    }
    if (r->orphan_count == r->orphan_room) {
        r->orphan_room = r->orphan_room == 0 ? 8 : r->orphan_room * 2;
        r->orphans = kl_resize(r->orphans, r->orphan_room * sizeof *r->orphans);
    }
    r->orphans[r->orphan_count] = (struct ing_orphan){ .ref = ref, .first_seq = seq };
    ing_refs_set(r, ref, ING_ORPHAN_BIT | r->orphan_count, seq, cut);
    return &r->orphans[r->orphan_count++];
}
