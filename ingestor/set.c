/*
 * A set of series numbers as a pair (label name, value) has it. Most pairs of a high-cardinality
 * label have one series or a few, where a Roaring bitmap would cost more than the series itself:
 * so one number lies inline, up to FEW_MAX in a sorted array, and only then it is a bitmap.
 */
#include "ingestor/head_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { FEW_MAX = 32 };
#define MANY UINT32_MAX

static void grow_few(struct ing_set *s, int64_t *bytes)
{
    if (s->count == 1) {
        uint32_t one = s->one;

        s->few = kl_resize(NULL, 4 * sizeof *s->few);
        s->few[0] = one;
        s->room = 4;
        *bytes += 16;
    } else if (s->count == s->room) {
        *bytes += s->room * (int64_t)sizeof *s->few;
        s->room *= 2;
        s->few = kl_resize(s->few, s->room * sizeof *s->few);
    }
}

static void to_many(struct ing_set *s, int64_t *bytes)
{
    roaring_bitmap_t *r = roaring_bitmap_of_ptr(s->count, s->few);

    if (r == NULL)
        abort();
    *bytes -= s->room * (int64_t)sizeof *s->few;
    free(s->few);
    s->many = r;
    s->room = MANY;
    *bytes += 160;                                     /* header and the first container, about */
}

void ing_set_add(struct ing_set *s, uint32_t id, int64_t *bytes)
{
    if (s->room == MANY) {
        roaring_bitmap_add(s->many, id);
        s->count++;
        *bytes += 2;
        return;
    }
    if (s->count == 0) {
        s->one = id;
        s->count = 1;
        return;
    }
    if (s->count == FEW_MAX) {
        to_many(s, bytes);
        ing_set_add(s, id, bytes);
        return;
    }
    grow_few(s, bytes);
    uint32_t at = s->count;
    while (at > 0 && s->few[at - 1] > id) {
        s->few[at] = s->few[at - 1];
        at--;
    }
    s->few[at] = id;
    s->count++;
}

void ing_set_remove(struct ing_set *s, uint32_t id, int64_t *bytes)
{
    if (s->room == MANY) {
        roaring_bitmap_remove(s->many, id);
        s->count--;
        *bytes -= 2;
        if (s->count == 0)
            ing_set_deinit(s, bytes);
        return;
    }
    if (s->room == 0) {
        assert(s->count == 1 && s->one == id);
        s->count = 0;
        return;
    }
    uint32_t at = 0;
    while (at < s->count && s->few[at] != id)
        at++;
    assert(at < s->count);
    memmove(s->few + at, s->few + at + 1, (s->count - at - 1) * sizeof *s->few);
    if (--s->count == 0) {
        ing_set_deinit(s, bytes);
    } else if (s->count == 1) {
        uint32_t one = s->few[0];

        *bytes -= s->room * (int64_t)sizeof *s->few;
        free(s->few);
        s->one = one;
        s->room = 0;
    }
}

void ing_set_deinit(struct ing_set *s, int64_t *bytes)
{
    if (s->room == MANY) {
        roaring_bitmap_free(s->many);
        *bytes -= 160 + 2 * (int64_t)s->count;
    } else if (s->room > 0) {
        *bytes -= s->room * (int64_t)sizeof *s->few;
        free(s->few);
    }
    *s = (struct ing_set){ 0 };
}

static const uint32_t *few(const struct ing_set *s) { return s->room == 0 ? &s->one : s->few; }

void ing_set_or(const struct ing_set *s, roaring_bitmap_t *into)
{
    if (s->room == MANY)
        roaring_bitmap_or_inplace(into, s->many);
    else
        roaring_bitmap_add_many(into, s->count, few(s));
}

void ing_set_and(const struct ing_set *s, roaring_bitmap_t *into)
{
    if (s->room == MANY) {
        roaring_bitmap_and_inplace(into, s->many);
        return;
    }
    uint32_t both[FEW_MAX], count = 0;

    for (uint32_t i = 0; i < s->count; i++)
        if (roaring_bitmap_contains(into, few(s)[i]))
            both[count++] = few(s)[i];
    roaring_bitmap_clear(into);
    roaring_bitmap_add_many(into, count, both);
}

void ing_set_andnot(const struct ing_set *s, roaring_bitmap_t *from)
{
    if (s->room == MANY)
        roaring_bitmap_andnot_inplace(from, s->many);
    else
        roaring_bitmap_remove_many(from, s->count, few(s));
}

bool ing_set_meets(const struct ing_set *s, const roaring_bitmap_t *other)
{
    if (s->room == MANY)
        return roaring_bitmap_intersect(s->many, other);
    for (uint32_t i = 0; i < s->count; i++)
        if (roaring_bitmap_contains(other, few(s)[i]))
            return true;
    return false;
}

void ing_set_each(const struct ing_set *s, bool (*each)(void *ctx, uint32_t id), void *ctx)
{
    if (s->room == MANY) {
        roaring_uint32_iterator_t it;

        roaring_init_iterator(s->many, &it);
        while (it.has_value && each(ctx, it.current_value))
            roaring_advance_uint32_iterator(&it);
        return;
    }
    for (uint32_t i = 0; i < s->count && each(ctx, few(s)[i]); i++)
        ;
}
