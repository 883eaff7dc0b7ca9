/* A tenant's head: its series by fingerprint and by number, and which labels they have. */
#include "ingestor/head_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS_FIRST = 64 };

struct ing_head *ing_head_new(struct kl_span tenant, int64_t window_ms, struct ing_files *files)
{
    struct ing_head *h = kl_new(sizeof *h);
    char *name = kl_new(tenant.size + 1);

    memcpy(name, tenant.at, tenant.size);
    h->tenant = kl_span(name, tenant.size);
    h->window_ms = window_ms;
    h->files = files;
    h->free_id = ING_NONE;
    h->slots = kl_new(SLOTS_FIRST * sizeof *h->slots);
    h->tags = kl_new(SLOTS_FIRST);
    h->slot_mask = SLOTS_FIRST - 1;
    h->all = roaring_bitmap_create();
    if (h->all == NULL)
        abort();
    h->memory.bytes[ING_MEM_SERIES] = SLOTS_FIRST * (int64_t)(sizeof *h->slots + 1);
    h->memory.bytes[ING_MEM_OTHER] = (int64_t)sizeof *h;
    ing_pairs_init(&h->pairs, &h->memory);
    return h;
}

static void series_deinit(struct ing_head *h, struct ing_series *s)
{
    for (struct ing_chunk *c = s->first, *next; c != NULL; c = next) {
        next = c->next;
        ing_chunk_free(h, c);
    }
    if (s->late != NULL)
        h->memory.bytes[ING_MEM_LATE] -= (int64_t)(s->late->room * sizeof *s->late->at);
    ing_tail_drop(&s->tail, &h->tails);
    h->memory.bytes[ING_MEM_SERIES] -= (int64_t)(s->pair_count * sizeof *s->pairs + 8);
    free(s->late);
    free(s->pairs);
}

void ing_head_free(struct ing_head *h)
{
    if (h == NULL)
        return;
    for (uint32_t i = 0; i < h->made; i++)
        if (ing_series_at(h, i)->alive)
            series_deinit(h, ing_series_at(h, i));
    for (uint32_t i = 0; i * ING_PAGE < h->made; i++)
        free(h->pages[i]);
    ing_extras_free(h);
    ing_pairs_deinit(&h->pairs);
    roaring_bitmap_free(h->all);
    ing_chunks_deinit(h);
    ing_blocks_deinit(&h->tails);
    kl_buf_deinit(&h->encoded);
    kl_buf_deinit(&h->spilled);
    free(h->pages);
    free(h->slots);
    free(h->tags);
    free((void *)h->tenant.at);
    free(h);
}

static uint8_t tag_of(struct kl_fp fp) { return (uint8_t)(fp.hi >> 56) | 1; }

/* Most that do not fit are told by their tag, a byte beside them, not by looking at them. */
static uint32_t slot(const struct ing_head *h, struct kl_fp fp)
{
    uint32_t at = (uint32_t)fp.lo & h->slot_mask;
    uint8_t  tag = tag_of(fp);

    while (h->tags[at] != 0 &&
           (h->tags[at] != tag || kl_fp_cmp(ing_series_at(h, h->slots[at])->fp, fp) != 0))
        at = (at + 1) & h->slot_mask;
    return at;
}

static void resize(struct ing_head *h, uint32_t size)
{
    h->memory.bytes[ING_MEM_SERIES] +=
        ((int64_t)size - h->slot_mask - 1) * (int64_t)(sizeof *h->slots + 1);
    free(h->slots);
    free(h->tags);
    h->slots = kl_resize(NULL, size * sizeof *h->slots);
    h->tags = kl_resize(NULL, size);
    memset(h->tags, 0, size);
    h->slot_mask = size - 1;
    for (uint32_t id = 0; id < h->made; id++) {
        const struct ing_series *s = ing_series_at(h, id);
        uint32_t                 at;

        if (!s->alive)
            continue;
        at = (uint32_t)s->fp.lo & h->slot_mask;        /* no two are equal: the first free one */
        while (h->tags[at] != 0)
            at = (at + 1) & h->slot_mask;
        h->slots[at] = id;
        h->tags[at] = tag_of(s->fp);
    }
}

void ing_head_reserve(struct ing_head *h, uint32_t count)
{
    uint32_t size = h->slot_mask + 1;

    while (size / 8 * 7 < count && size < 1u << 30)
        size *= 2;
    if (size > h->slot_mask + 1)
        resize(h, size);
}

void ing_head_prefetch(const struct ing_head *h, struct kl_fp fp)
{
    __builtin_prefetch(&h->tags[(uint32_t)fp.lo & h->slot_mask]);
    __builtin_prefetch(&h->slots[(uint32_t)fp.lo & h->slot_mask]);
}

struct ing_series *ing_head_find(const struct ing_head *h, struct kl_fp fp)
{
    uint32_t at = slot(h, fp);

    return h->tags[at] == 0 ? NULL : ing_series_at(h, h->slots[at]);
}

static uint32_t take_id(struct ing_head *h)
{
    uint32_t id = h->free_id;

    if (id != ING_NONE) {
        h->free_id = ing_series_at(h, id)->definitions;
        return id;
    }
    id = h->made;
    if (id % ING_PAGE == 0) {
        if (id / ING_PAGE == h->page_room) {
            h->page_room = h->page_room == 0 ? 4 : h->page_room * 2;
            h->pages = kl_resize(h->pages, h->page_room * sizeof *h->pages);
        }
        h->pages[id / ING_PAGE] = kl_new(ING_PAGE * sizeof **h->pages);
        h->memory.bytes[ING_MEM_SERIES] += (int64_t)(ING_PAGE * sizeof **h->pages);
    }
    h->made++;
    return id;
}

struct ing_series *ing_head_add(struct ing_head *h, struct kl_fp fp, const uint32_t *pairs,
                                uint32_t count)
{
    uint32_t           id, at;
    struct ing_series *s;

    if (h->count + 1 > (h->slot_mask + 1) / 8 * 7)
        resize(h, (h->slot_mask + 1) * 2);
    at = slot(h, fp);
    assert(h->tags[at] == 0);
    id = take_id(h);
    s = ing_series_at(h, id);
    *s = (struct ing_series){ .fp = fp, .id = id, .last_ms = INT64_MIN, .alive = true,
                              .pair_count = (uint16_t)count };
    s->pairs = kl_resize(NULL, (count + (count == 0)) * sizeof *s->pairs);
    for (uint32_t i = 0; i < count; i++) {
        s->pairs[i] = pairs[i];
        ing_set_add(&ing_pair_at(h->pairs.pair_pages, pairs[i])->series, id,
                    &h->memory.bytes[ING_MEM_POSTINGS]);
    }
    h->memory.bytes[ING_MEM_SERIES] += (int64_t)(count * sizeof *s->pairs + 8);
    h->slots[at] = id;
    h->tags[at] = tag_of(fp);
    roaring_bitmap_add(h->all, id);
    h->count++;
    h->born++;
    return s;
}

struct ing_series *ing_head_series(struct ing_head *h, struct kl_fp fp, struct kl_labels labels)
{
    struct ing_series *s = ing_head_find(h, fp);
    uint32_t           pairs[KL_LABELS_MAX], count = 0;
    struct kl_cur      c = kl_labels_cur(labels);
    struct kl_label    label;

    if (s != NULL)
        return s;
    while (kl_labels_next(&c, &label)) {
        assert(count < KL_LABELS_MAX);
        pairs[count++] = ing_pairs_get(&h->pairs, label.name, label.value, true);
    }
    assert(!c.bad);
    return ing_head_add(h, fp, pairs, count);
}

/* Linear probing without tombstones: what follows in the run moves back where it may. */
static void slot_clear(struct ing_head *h, uint32_t at)
{
    uint32_t hole = at;

    for (;;) {
        uint32_t home;

        at = (at + 1) & h->slot_mask;
        if (h->tags[at] == 0)
            break;
        home = (uint32_t)ing_series_at(h, h->slots[at])->fp.lo & h->slot_mask;
        if (((at - home) & h->slot_mask) >= ((at - hole) & h->slot_mask)) {
            h->slots[hole] = h->slots[at];
            h->tags[hole] = h->tags[at];
            hole = at;
        }
    }
    h->tags[hole] = 0;
}

void ing_head_remove(struct ing_head *h, struct ing_series *s)
{
    assert(s->alive && ing_series_idle(s));
    for (uint32_t i = 0; i < s->pair_count; i++)
        ing_set_remove(&ing_pair_at(h->pairs.pair_pages, s->pairs[i])->series, s->id,
                       &h->memory.bytes[ING_MEM_POSTINGS]);
    slot_clear(h, slot(h, s->fp));
    roaring_bitmap_remove(h->all, s->id);
    series_deinit(h, s);
    s->alive = false;
    s->pairs = NULL;
    s->definitions = h->free_id;
    h->free_id = s->id;
    h->count--;
    h->gone++;
}

void ing_head_seal_idle(struct ing_head *h, uint32_t count)
{
    for (; count > 0 && h->made > 0; count--) {
        struct ing_series *s = ing_series_at(h, h->idle_at);
        uint8_t            seen = (uint8_t)(s->tail.count * 2 + 1);

        h->idle_at = (h->idle_at + 1) % h->made;
        if (!s->alive || s->tail.count == 0)
            continue;
        if (s->looked == seen)
            ing_series_seal_tail(h, s);
        s->looked = s->tail.count == 0 ? 0 : seen;
    }
}
