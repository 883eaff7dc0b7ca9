/*
 * The label pairs of many series, sorted, and the largest of what was counted in them: what
 * /status/tsdb and /cardinality/ have in common.
 */
#include <stdlib.h>

#include "querier/api_priv.h"

int qr_pair_cmp(const struct kl_label *a, const struct kl_label *b)
{
    int c = kl_span_cmp(a->name, b->name);

    return c != 0 ? c : kl_span_cmp(a->value, b->value);
}

static int by_pair(const void *a, const void *b)
{
    return qr_pair_cmp(a, b);
}

static size_t gather(const struct qr_names *n, struct kl_label *pairs)
{
    size_t count = 0;

    for (size_t i = 0; i < n->count; i++) {
        struct kl_cur   c = kl_labels_cur(n->labels[i]);
        struct kl_label x;

        while (kl_labels_next(&c, &x)) {
            if (pairs != NULL)
                pairs[count] = x;
            count++;
        }
    }
    return count;
}

struct kl_label *qr_pairs(struct qr_listing *l, size_t *count)
{
    struct kl_label *pairs;

    *count = gather(&l->names, NULL);
    if (!kl_budget_take(&l->names.job.budget, *count * sizeof *pairs)) {
        l->over_budget = true;
        return NULL;
    }
    pairs = kl_resize(NULL, (*count + 1) * sizeof *pairs);
    gather(&l->names, pairs);
    if (*count > 1)
        qsort(pairs, *count, sizeof *pairs, by_pair);
    return pairs;
}

void qr_pairs_free(struct qr_listing *l, struct kl_label *pairs, size_t count)
{
    kl_budget_give(&l->names.job.budget, count * sizeof *pairs);
    free(pairs);
}

void qr_top_init(struct qr_top *t, size_t most)
{
    *t = (struct qr_top){ .most = most };
    t->entries = kl_new((most + 1) * sizeof *t->entries);
}

void qr_top_deinit(struct qr_top *t)
{
    free(t->entries);
}

void qr_top_add(struct qr_top *t, struct kl_span name, struct kl_span value, uint64_t count)
{
    size_t at = t->count;

    if (t->most == 0 || (at == t->most && t->entries[at - 1].count >= count))
        return;
    if (at == t->most)
        at--;
    else
        t->count++;
    for (; at > 0 && t->entries[at - 1].count < count; at--)
        t->entries[at] = t->entries[at - 1];
    t->entries[at] = (struct qr_entry){ name, value, count };
}
