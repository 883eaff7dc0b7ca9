/*
 * Texts, sorted and each once. They come as a few runs that are sorted already, one a source: a merge of
 * the runs there are (Knuth, TAOCP 3, 5.2.4, "natural merge") costs one look at each where there is one run.
 */
#include <stdlib.h>

#include "querier/qr_priv.h"

/* Where the run that begins at `from` ends. */
static size_t run_end(const struct kl_span *at, size_t from, size_t count)
{
    size_t i = from + 1;

    while (i < count && kl_span_cmp(at[i - 1], at[i]) <= 0)
        i++;
    return i < count ? i : count;
}

/* Two runs side by side, [from, middle) and [middle, to), into one at the same place of `out`. */
static void join(const struct kl_span *at, struct kl_span *out, size_t from, size_t middle, size_t to)
{
    size_t a = from, b = middle;

    while (a < middle && b < to)
        out[from++] = kl_span_cmp(at[b], at[a]) < 0 ? at[b++] : at[a++];
    if (a < middle)
        memcpy(out + from, at + a, (middle - a) * sizeof *at);
    else if (b < to)
        memcpy(out + from, at + b, (to - b) * sizeof *at);
}

size_t qr_texts_unite(struct kl_span *texts, size_t count)
{
    struct kl_span *from = texts, *to = NULL;
    size_t          n = 0, runs;

    if (count == 0)
        return 0;
    if (run_end(from, 0, count) < count)
        to = kl_resize(NULL, count * sizeof *to);
    do {
        runs = 0;
        for (size_t at = 0; to != NULL && at < count; runs++) {
            size_t middle = run_end(from, at, count);
            size_t end = middle < count ? run_end(from, middle, count) : count;

            join(from, to, at, middle, end);
            at = end;
        }
        if (to != NULL) {
            struct kl_span *swap = from;

            from = to;
            to = swap;
        }
    } while (runs > 1);
    for (size_t i = 0; i < count; i++)                 /* n <= i: what is written was read */
        if (i == 0 || !kl_span_eq(from[i], texts[n - 1]))
            texts[n++] = from[i];
    if (to != NULL)
        free(from == texts ? to : from);
    return n;
}
