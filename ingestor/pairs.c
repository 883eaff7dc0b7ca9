/*
 * Label names and (name, value) pairs, interned: a series is a list of pair numbers, and each pair
 * has the set of its series, so interning and postings are one table. Pairs and names lie in pages
 * that never move. A pair whose last series goes stays until the next sweep.
 */
#include "ingestor/head_priv.h"

#include "libkoal/base/hash.h"
#include "libkoal/base/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS_FIRST = 64 };

struct kl_span ing_text(const uint8_t *text)
{
    size_t   size = 0;
    unsigned shift = 0;

    while (*text & 0x80) {
        size |= (size_t)(*text++ & 0x7f) << shift;
        shift += 7;
    }
    size |= (size_t)*text++ << shift;
    return kl_span(text, size);
}

static uint8_t *text_new(struct kl_span s, struct ing_memory *memory)
{
    uint8_t head[10], *text;
    size_t  n = 0, left = s.size;

    while (left > 0x7f) {
        head[n++] = (uint8_t)(left | 0x80);
        left >>= 7;
    }
    head[n++] = (uint8_t)left;
    text = kl_resize(NULL, n + s.size);
    memcpy(text, head, n);
    if (s.size > 0)
        memcpy(text + n, s.at, s.size);
    memory->bytes[ING_MEM_LABELS] += (int64_t)(n + s.size + 8);
    return text;
}

static void text_free(uint8_t *text, struct ing_memory *memory)
{
    struct kl_span s = ing_text(text);

    memory->bytes[ING_MEM_LABELS] -= (int64_t)(s.size + (size_t)((const uint8_t *)s.at - text) + 8);
    free(text);
}

void ing_pairs_init(struct ing_pairs *p, struct ing_memory *memory)
{
    *p = (struct ing_pairs){ .memory = memory, .free_pair = ING_NONE };
    p->slots = kl_new(SLOTS_FIRST * sizeof *p->slots);
    p->tags = kl_new(SLOTS_FIRST);
    p->slot_mask = SLOTS_FIRST - 1;
    p->name_slots = kl_new(SLOTS_FIRST * sizeof *p->name_slots);
    p->name_mask = SLOTS_FIRST - 1;
    memory->bytes[ING_MEM_LABELS] += SLOTS_FIRST * (2 * (int64_t)sizeof *p->slots + 1);
}

void ing_pairs_deinit(struct ing_pairs *p)
{
    for (uint32_t i = 0; i < p->pair_count; i++) {
        struct ing_pair *pair = ing_pair_at(p->pair_pages, i);

        if (pair->text == NULL)
            continue;
        ing_set_deinit(&pair->series, &p->memory->bytes[ING_MEM_POSTINGS]);
        text_free(pair->text, p->memory);
    }
    for (uint32_t i = 0; i < p->name_count; i++) {
        struct ing_name *n = ing_name_at(p->name_pages, i);

        text_free(n->text, p->memory);
        free(n->values);
    }
    for (uint32_t i = 0; i * ING_PAGE < p->pair_count; i++)
        free(p->pair_pages[i]);
    for (uint32_t i = 0; i * ING_PAGE < p->name_count; i++)
        free(p->name_pages[i]);
    free(p->pair_pages);
    free(p->name_pages);
    free(p->slots);
    free(p->tags);
    free(p->name_slots);
}

/* Room in a directory of pages for number `n`; the pages themselves never move. */
static void *page_for(void ***pages, uint32_t *room, uint32_t n, size_t each,
                      struct ing_memory *memory)
{
    uint32_t page = n / ING_PAGE;

    if (n % ING_PAGE != 0)
        return (*pages)[page];
    if (page == *room) {
        *room = *room == 0 ? 8 : *room * 2;
        *pages = kl_resize(*pages, *room * sizeof **pages);
    }
    memory->bytes[ING_MEM_LABELS] += (int64_t)(ING_PAGE * each);
    return (*pages)[page] = kl_new(ING_PAGE * each);
}

static uint32_t name_slot(const struct ing_pairs *p, struct kl_span name)
{
    uint32_t at = (uint32_t)kl_hash64(name.at, name.size) & p->name_mask;

    while (p->name_slots[at] != 0 &&
           !kl_span_eq(ing_text(ing_name_at(p->name_pages, p->name_slots[at] - 1)->text), name))
        at = (at + 1) & p->name_mask;
    return at;
}

static void grow_names(struct ing_pairs *p)
{
    uint32_t size = (p->name_mask + 1) * 2;

    p->memory->bytes[ING_MEM_LABELS] += size / 2 * (int64_t)sizeof *p->name_slots;
    free(p->name_slots);
    p->name_slots = kl_resize(NULL, size * sizeof *p->name_slots);
    memset(p->name_slots, 0, size * sizeof *p->name_slots);
    p->name_mask = size - 1;
    for (uint32_t i = 0; i < p->name_count; i++)
        p->name_slots[name_slot(p, ing_text(ing_name_at(p->name_pages, i)->text))] = i + 1;
}

uint32_t ing_pairs_name(struct ing_pairs *p, struct kl_span name, bool make)
{
    uint32_t at = name_slot(p, name), n;

    if (p->name_slots[at] != 0)
        return p->name_slots[at] - 1;
    if (!make)
        return ING_NONE;
    if ((p->name_count + 1) * 2 > p->name_mask) {
        grow_names(p);
        at = name_slot(p, name);
    }
    n = p->name_count;
    page_for((void ***)&p->name_pages, &p->name_room, n, sizeof(struct ing_name), p->memory);
    p->name_count++;
    *ing_name_at(p->name_pages, n) = (struct ing_name){ .text = text_new(name, p->memory) };
    p->name_slots[at] = n + 1;
    return n;
}

/* Most that do not fit are told by their tag, a byte beside them, not by looking at them. */
static uint32_t pair_slot(const struct ing_pairs *p, uint32_t name, struct kl_span value, uint8_t *tag)
{
    uint64_t hash = kl_hash64_seed(value.at, value.size, name);
    uint32_t at = (uint32_t)hash & p->slot_mask;

    *tag = (uint8_t)(hash >> 56) | 1;
    for (; p->tags[at] != 0; at = (at + 1) & p->slot_mask) {
        const struct ing_pair *pair;

        if (p->tags[at] != *tag)
            continue;
        pair = ing_pair_at(p->pair_pages, p->slots[at]);
        if (pair->name == name && kl_span_eq(ing_text(pair->text), value))
            break;
    }
    return at;
}

static void rehash(struct ing_pairs *p, uint32_t size)
{
    p->memory->bytes[ING_MEM_LABELS] +=
        ((int64_t)size - p->slot_mask - 1) * (int64_t)(sizeof *p->slots + 1);
    free(p->slots);
    free(p->tags);
    p->slots = kl_resize(NULL, size * sizeof *p->slots);
    p->tags = kl_resize(NULL, size);
    memset(p->tags, 0, size);
    p->slot_mask = size - 1;
    for (uint32_t i = 0; i < p->pair_count; i++) {
        const struct ing_pair *pair = ing_pair_at(p->pair_pages, i);
        uint32_t               at;
        uint8_t                tag;

        if (pair->text == NULL)
            continue;
        at = pair_slot(p, pair->name, ing_text(pair->text), &tag);
        p->slots[at] = i;
        p->tags[at] = tag;
    }
}

void ing_pairs_reserve(struct ing_pairs *p, uint32_t count)
{
    uint32_t size = p->slot_mask + 1;

    while (size / 4 * 3 < count && size < 1u << 30)
        size *= 2;
    if (size > p->slot_mask + 1)
        rehash(p, size);
}

static void name_add(struct ing_pairs *p, struct ing_name *n, uint32_t pair)
{
    if (n->count == n->room) {
        p->memory->bytes[ING_MEM_LABELS] -= n->room * (int64_t)sizeof *n->values;
        n->room = n->room == 0 ? 4 : n->room + n->room / 2;
        n->values = kl_resize(n->values, n->room * sizeof *n->values);
        p->memory->bytes[ING_MEM_LABELS] += n->room * (int64_t)sizeof *n->values;
    }
    n->values[n->count++] = pair;
}

uint32_t ing_pairs_get(struct ing_pairs *p, struct kl_span name, struct kl_span value, bool make)
{
    uint32_t n = ing_pairs_name(p, name, make);

    return n == ING_NONE ? ING_NONE : ing_pairs_of(p, n, value, make);
}

uint32_t ing_pairs_of(struct ing_pairs *p, uint32_t n, struct kl_span value, bool make)
{
    uint32_t at, id;
    uint8_t  tag;

    at = pair_slot(p, n, value, &tag);
    if (p->tags[at] != 0)
        return p->slots[at];
    if (!make)
        return ING_NONE;
    if ((p->pair_live + 1) > (p->slot_mask + 1) / 4 * 3) {
        rehash(p, (p->slot_mask + 1) * 2);
        at = pair_slot(p, n, value, &tag);
    }
    if (p->free_pair != ING_NONE) {
        id = p->free_pair;
        p->free_pair = ing_pair_at(p->pair_pages, id)->name;
    } else {
        id = p->pair_count;
        page_for((void ***)&p->pair_pages, &p->pair_room, id, sizeof(struct ing_pair), p->memory);
        p->pair_count++;
    }
    *ing_pair_at(p->pair_pages, id) =
        (struct ing_pair){ .text = text_new(value, p->memory), .name = n };
    p->slots[at] = id;
    p->tags[at] = tag;
    p->pair_live++;
    name_add(p, ing_name_at(p->name_pages, n), id);
    return id;
}

void ing_pairs_sweep(struct ing_pairs *p)
{
    uint32_t freed = 0;

    for (uint32_t i = 0; i < p->name_count; i++) {
        struct ing_name *n = ing_name_at(p->name_pages, i);
        uint32_t kept = 0, sorted = 0;

        for (uint32_t k = 0; k < n->count; k++) {
            struct ing_pair *pair = ing_pair_at(p->pair_pages, n->values[k]);

            if (pair->series.count > 0) {
                sorted += k < n->sorted;
                n->values[kept++] = n->values[k];
                continue;
            }
            text_free(pair->text, p->memory);
            *pair = (struct ing_pair){ .name = p->free_pair };
            p->free_pair = n->values[k];
            freed++;
        }
        n->count = kept;
        n->sorted = sorted;
    }
    p->pair_live -= freed;
    if (freed > 0) {
        uint32_t size = p->slot_mask + 1;

        while (size > SLOTS_FIRST && p->pair_live < size / 8)
            size /= 2;
        rehash(p, size);
    }
}

struct by_value { struct kl_span value; uint32_t pair; };

static int by_value(const void *a, const void *b)
{
    return kl_span_cmp(((const struct by_value *)a)->value, ((const struct by_value *)b)->value);
}

/* The new ones are sorted alone and merged with what was in order. */
void ing_pairs_sort(struct ing_pairs *p, struct ing_name *n)
{
    uint32_t         fresh = n->count - n->sorted, a = 0, b = 0;
    struct by_value *v;
    uint32_t        *merged;

    if (fresh == 0)
        return;
    v = kl_resize(NULL, fresh * sizeof *v);
    for (uint32_t i = 0; i < fresh; i++) {
        v[i].pair = n->values[n->sorted + i];
        v[i].value = ing_text(ing_pair_at(p->pair_pages, v[i].pair)->text);
    }
    qsort(v, fresh, sizeof *v, by_value);
    merged = kl_resize(NULL, n->room * sizeof *merged);
    for (uint32_t i = 0; i < n->count; i++) {
        bool old = b == fresh ||
                   (a < n->sorted &&
                    kl_span_cmp(ing_text(ing_pair_at(p->pair_pages, n->values[a])->text),
                                v[b].value) < 0);

        merged[i] = old ? n->values[a++] : v[b++].pair;
    }
    free(v);
    free(n->values);
    n->values = merged;
    n->sorted = n->count;
}

void ing_view_take(struct ing_view *v, const struct ing_pairs *p)
{
    size_t pairs = (p->pair_count + ING_PAGE - 1) / ING_PAGE;
    size_t names = (p->name_count + ING_PAGE - 1) / ING_PAGE;

    v->pairs = kl_resize(NULL, (pairs + 1) * sizeof *v->pairs);
    v->names = kl_resize(NULL, (names + 1) * sizeof *v->names);
    if (pairs > 0)
        memcpy(v->pairs, p->pair_pages, pairs * sizeof *v->pairs);
    if (names > 0)
        memcpy(v->names, p->name_pages, names * sizeof *v->names);
}

void ing_view_drop(struct ing_view *v)
{
    free(v->pairs);
    free(v->names);
    *v = (struct ing_view){ 0 };
}

static void add_text(struct kl_buf *out, const uint8_t *text)
{
    struct kl_span s = ing_text(text);

    kl_buf_add(out, text, s.size + (size_t)((const uint8_t *)s.at - text));
}

void ing_render(struct ing_pair **pairs, struct ing_name **names, const uint32_t *of,
                uint32_t count, struct kl_buf *out)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct ing_pair *pair = ing_pair_at(pairs, of[i]);

        add_text(out, ing_name_at(names, pair->name)->text);
        add_text(out, pair->text);
    }
}
