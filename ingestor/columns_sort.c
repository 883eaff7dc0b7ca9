/*
 * Series that several hands have read, by their labels: in ranges of the order, each sorted by whoever takes it. Sorted runs
 * of each hand would have to be merged by one: of series whose labels lie anywhere in memory that takes longer than
 * sorting them.
 */
#include "ingestor/columns.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 64 };                                 /* a range, out of which bounds are chosen */

static int by_labels(const void *a, const void *b)
{
    return kl_labels_cmp(*(const struct kl_labels *)a, *(const struct kl_labels *)b);
}

/* The n-th of all. */
static struct kl_labels labels_of(struct ing_columns *const *all, size_t n)
{
    while (n >= (*all)->count)
        n -= (*all++)->count;
    return (*all)->series[n].labels;
}

void ing_sort_begin(struct ing_sort *s, struct ing_columns *const *all, unsigned count, unsigned ranges)
{
    struct kl_labels samples[ING_RANGES_MAX * SAMPLES];
    size_t           taken;

    assert(ranges > 0 && ranges <= ING_RANGES_MAX);
    *s = (struct ing_sort){ .all = all, .all_count = count };
    for (unsigned i = 0; i < count; i++)
        s->count += all[i]->count;
    s->range_count = s->count < ING_SORT_LEAST ? 1 : ranges;
    s->series = kl_resize(NULL, (s->count + 1) * sizeof *s->series);
    if (s->range_count == 1)
        return;
    taken = s->range_count * SAMPLES;
    for (size_t k = 0; k < taken; k++)
        samples[k] = labels_of(all, k * s->count / taken);
    qsort(samples, taken, sizeof *samples, by_labels);
    for (unsigned r = 1; r < s->range_count; r++)
        s->bounds[r] = samples[r * SAMPLES];
}

void ing_sort_place(struct ing_sort *s, unsigned which)
{
    struct ing_columns *c = s->all[which];

    memset(c->in_range, 0, sizeof c->in_range);
    c->range = kl_resize(c->range, c->count + 1);
    for (uint32_t i = 0; i < c->count; i++) {
        unsigned r = 0;

        while (r + 1 < s->range_count && kl_labels_cmp(c->series[i].labels, s->bounds[r + 1]) >= 0)
            r++;
        c->range[i] = (uint8_t)r;
        c->in_range[r]++;
    }
}

/* Where the range begins among all, and how many it has. */
static size_t place_of(const struct ing_sort *s, unsigned range, size_t *count)
{
    size_t begin = 0;

    *count = 0;
    for (unsigned i = 0; i < s->all_count; i++) {
        for (unsigned r = 0; r < range; r++)
            begin += s->all[i]->in_range[r];
        *count += s->all[i]->in_range[range];
    }
    return begin;
}

void ing_sort_range(struct ing_sort *s, unsigned range)
{
    size_t             count, begin = place_of(s, range, &count), n = 0;
    struct pql_series *found = kl_resize(NULL, (count + 1) * sizeof *found);
    struct kl_labels  *labels = kl_resize(NULL, (count + 1) * sizeof *labels);
    uint32_t          *order = kl_resize(NULL, (count + 1) * sizeof *order);

    for (unsigned i = 0; i < s->all_count; i++)
        for (uint32_t k = 0; k < s->all[i]->count; k++)
            if (s->all[i]->range[k] == range) {
                labels[n] = s->all[i]->series[k].labels;
                found[n++] = s->all[i]->series[k];
            }
    assert(n == count);
    kl_labels_order(labels, order, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        s->series[begin + i] = found[order[i]];
    free(found);
    free(labels);
    free(order);
}

void ing_sort_end(struct ing_sort *s)
{
    free(s->series);
    *s = (struct ing_sort){ 0 };
}
