/* Data from the caller: sorted once into the canonical order of label sets. The caller usually
 * brings sorted runs (one a partition), so the sort is a merge of what is already in order. */
#include <stdlib.h>
#include <string.h>

#include "libpromql/hist_priv.h"

static size_t run_end(const struct pql_series *s, size_t from, size_t count)
{
    size_t i = from + 1;

    while (i < count && kl_labels_cmp(s[i - 1].labels, s[i].labels) <= 0)
        i++;
    return i;
}

static void merge(const struct pql_series *s, size_t a, size_t b, size_t end, struct pql_series *out)
{
    size_t i = a, k = b, n = a;

    while (i < b && k < end)
        out[n++] = kl_labels_cmp(s[k].labels, s[i].labels) < 0 ? s[k++] : s[i++];
    while (i < b)
        out[n++] = s[i++];
    while (k < end)
        out[n++] = s[k++];
}

/* Natural merge sort: each pass halves the number of runs. Returns the sorted one of both. */
static struct pql_series *sort_series(struct pql_series *s, struct pql_series *spare, size_t count)
{
    for (;;) {
        size_t from = 0, runs = 0;

        while (from < count) {
            size_t b = run_end(s, from, count), end = b < count ? run_end(s, b, count) : b;
            if (from == 0 && b == count)
                return s;
            merge(s, from, b, end, spare);
            from = end;
            runs++;
        }
        struct pql_series *t = s;
        s = spare;
        spare = t;
        if (runs <= 1)
            return s;
    }
}

/*
 * Histograms without their buckets, for whom count and sum are enough. What the buckets say of counter
 * resets goes into the hint, seen from one sample to the next. The first that can be seen never says
 * "reset": Prometheus has its hint from storage, which tells only what was no reset.
 */
static bool strip(struct pql_query *q, struct pql_series *s, int64_t seen_from)
{
    const struct kl_hist **bare = pql_label_alloc(q, 0, s->count * sizeof *bare);
    const struct kl_hist  *last = NULL;
    int64_t                last_ms = INT64_MIN;

    for (uint32_t i = 0; bare != NULL && i < s->count; i++) {
        const struct kl_hist *h = s->hists[i];
        struct kl_hist       *to;

        bare[i] = h;
        if (h == NULL || kl_is_stale(h->sum))
            continue;
        to = pql_label_alloc(q, 0, sizeof *to);
        if (to == NULL)
            return false;
        *to = (struct kl_hist){ .schema = h->schema, .reset = h->reset, .count = h->count,
                                .sum = h->sum };
        if (h->reset == KL_HIST_UNKNOWN && last != NULL) {
            bool first = s->times_ms[i] >= seen_from && last_ms < seen_from;
            to->reset = !pql_hist_is_reset(h, last) ? KL_HIST_NO_RESET
                      : first ? KL_HIST_UNKNOWN : KL_HIST_RESET;
        }
        last = h;
        last_ms = s->times_ms[i];
        bare[i] = to;
    }
    s->hists = bare;
    return bare != NULL;
}

void pql_feed_counts(struct pql_query *q, uint32_t need)
{
    if (need < q->need_count)
        q->needs[need].counts = true;
}

void pql_feed(struct pql_query *q, uint32_t need, const struct pql_series *series, size_t count)
{
    struct pql_need_state *n;
    struct pql_series     *copy = NULL, *sorted;
    size_t                 at;

    if (need >= q->need_count || q->needs[need].done || pql_failed(q))
        return;
    if (count > UINT32_MAX / 2 || count > q->memory_max / (2 * sizeof *copy)) {
        pql_fail(q, PQL_EXECUTION, "query needs more memory than its budget of %zu bytes",
                 q->memory_max);
        return;
    }
    n = &q->needs[need];
    n->done = true;
    if (count == 0)
        return;
    copy = kl_resize(NULL, 2 * count * sizeof *copy);
    at = 0;
    for (size_t i = 0; i < count; i++)
        if (series[i].count > 0)
            copy[at++] = series[i];
    sorted = sort_series(copy, copy + count, at);
    if (sorted != copy)
        memmove(copy, sorted, at * sizeof *copy);
    n->fed.at = kl_resize(copy, (at + 1) * sizeof *copy);
    n->fed.count = (uint32_t)at;
    atomic_fetch_add(&q->memory, at * sizeof *copy);   /* until the query's end */
    for (size_t i = 0; n->stats_only && i < at; i++)
        if (((struct pql_series *)n->fed.at)[i].hists != NULL
            && !strip(q, (struct pql_series *)n->fed.at + i, n->seen_from_ms))
            return;
}
