/*
 * Label sets sorted in kl_labels_cmp's order, without comparing whole sets n log n times. All sets of
 * a group share some first bytes; the field that holds the first byte in which they differ is found
 * once for the group, and the next eight bytes of that field's text, as a number, are what is sorted.
 * Sets with equal numbers are a group of their own, which shares more bytes. A radix sort of strings
 * by their most significant bytes (Knuth, TAOCP 3, 5.2.5), with the common front skipped.
 */
#include <stdlib.h>
#include <string.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/labels.h"
#include "libkoal/base/mem.h"

enum { FEW = 6, DEPTH_MAX = 32 };

struct entry { uint64_t key; uint32_t index; };

static size_t common(struct kl_labels a, struct kl_labels b, size_t most)
{
    size_t   at = 0;
    uint64_t x, y;

    if (a.size < most)
        most = a.size;
    if (b.size < most)
        most = b.size;
    for (; at + 8 <= most; at += 8) {
        memcpy(&x, a.at + at, 8);
        memcpy(&y, b.at + at, 8);
        if (x != y)
            return at + (size_t)(__builtin_ctzll(x ^ y) / 8);
    }
    while (at < most && a.at[at] == b.at[at])
        at++;
    return at;
}

/* Where the field begins that holds byte `at` of a set. */
static size_t field_of(struct kl_labels l, size_t at)
{
    size_t begin = 0;

    while (begin < l.size) {
        struct kl_cur c = kl_cur(l.at + begin, l.size - begin);
        size_t        end;

        (void)kl_cur_span(&c);
        end = (size_t)(c.at - l.at);
        if (c.bad || end > at)
            break;
        begin = end;
    }
    return begin;
}

/* The text of the field at `begin`; of nothing, where the set ends there. */
static struct kl_labels text_at(struct kl_labels l, size_t begin)
{
    struct kl_cur  c = kl_cur(l.at + begin, begin < l.size ? l.size - begin : 0);
    struct kl_span s = kl_cur_left(&c) > 0 ? kl_cur_span(&c) : kl_span("", 0);

    return (struct kl_labels){ s.at, s.size };
}

static uint64_t key_of(struct kl_labels text, size_t skip)
{
    uint64_t key = 0;

    if (text.size >= skip + 8) {
        memcpy(&key, text.at + skip, 8);
        return __builtin_bswap64(key);                 /* the first byte weighs most */
    }
    for (size_t i = 0; i < 8; i++)
        key = key << 8 | (skip + i < text.size ? text.at[skip + i] : 0);
    return key;
}

static void insertion(const struct kl_labels *l, struct entry *e, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct entry x = e[i];
        size_t       at = i;

        for (; at > 0 && kl_labels_cmp(l[e[at - 1].index], l[x.index]) > 0; at--)
            e[at] = e[at - 1];
        e[at] = x;
    }
}

/* Bottom up, between two arrays; the result is in `e`. */
static void sort_keys(struct entry *e, struct entry *spare, size_t count)
{
    struct entry *from = e, *to = spare;

    for (size_t width = 1; width < count; width *= 2) {
        struct entry *swap = from;

        for (size_t at = 0; at < count; at += 2 * width) {
            size_t a = at, a_end = at + width < count ? at + width : count;
            size_t b = a_end, b_end = b + width < count ? b + width : count;

            for (size_t out = at; out < b_end; out++)
                to[out] = b == b_end || (a < a_end && from[a].key <= from[b].key) ? from[a++]
                                                                                    : from[b++];
        }
        from = to;
        to = swap;
    }
    if (from != e)
        memcpy(e, from, count * sizeof *e);
}

static int by_labels(const void *a, const void *b, void *ctx)
{
    const struct kl_labels *l = ctx;

    return kl_labels_cmp(l[((const struct entry *)a)->index], l[((const struct entry *)b)->index]);
}

static void sort_group(const struct kl_labels *l, struct entry *e, struct entry *spare,
                       size_t count, unsigned depth)
{
    struct kl_labels first = l[e[0].index], text;
    size_t           shared = first.size, longest = first.size, begin, skip;

    if (count <= FEW) {
        insertion(l, e, count);
        return;
    }
    if (depth == DEPTH_MAX) {                          /* made to split off one set at a time */
        qsort_r(e, count, sizeof *e, by_labels, (void *)l);
        return;
    }
    for (size_t i = 1; i < count; i++) {
        shared = common(first, l[e[i].index], shared);
        if (l[e[i].index].size > longest)
            longest = l[e[i].index].size;
    }
    if (shared == longest)
        return;                                        /* all the same */
    begin = field_of(first, shared);
    text = text_at(first, begin);
    skip = text.size;
    for (size_t i = 1; i < count && skip > 0; i++)
        skip = common(text, text_at(l[e[i].index], begin), skip);
    for (size_t i = 0; i < count; i++)
        e[i].key = key_of(text_at(l[e[i].index], begin), skip);
    sort_keys(e, spare, count);
    for (size_t i = 0, n; i < count; i += n) {
        for (n = 1; i + n < count && e[i + n].key == e[i].key; n++)
            ;
        if (n > 1)
            sort_group(l, e + i, spare, n, depth + 1);
    }
}

void kl_labels_order(const struct kl_labels *l, uint32_t *order, size_t count)
{
    struct entry *e = kl_resize(NULL, (2 * count + 1) * sizeof *e);

    for (size_t i = 0; i < count; i++)
        e[i] = (struct entry){ .index = (uint32_t)i };
    if (count > 1)
        sort_group(l, e, e + count, count, 0);
    for (size_t i = 0; i < count; i++)
        order[i] = e[i].index;
    free(e);
}
