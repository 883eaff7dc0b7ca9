/* A page of exemplars: those in the range, of the series that match; by series, then by time. */
#include "ingestor/ing_priv.h"

#include <stdlib.h>

/* What one series says at once: the newest. A series never spans pages. */
enum { SERIES_BYTES_MAX = 256 << 10, EXEMPLAR_GUESS = 24 };

static int by_series(const void *a, const void *b)
{
    const struct ing_exemplar *x = *(const struct ing_exemplar *const *)a;
    const struct ing_exemplar *y = *(const struct ing_exemplar *const *)b;
    int                        c = kl_fp_cmp(x->fp, y->fp);

    return c != 0 ? c : x->time_ms < y->time_ms ? -1 : x->time_ms > y->time_ms;
}

static bool wanted(const struct ing_head *h, const roaring_bitmap_t *set,
                   const struct tsp_select *q, const struct ing_exemplar *e)
{
    const struct ing_series *s;

    if (e->time_ms < q->from_ms || e->time_ms > q->to_ms ||
        (q->has_cursor && kl_fp_cmp(e->fp, q->cursor_fp) <= 0))
        return false;
    s = ing_head_find(h, e->fp);
    return s != NULL && (set == NULL || roaring_bitmap_contains(set, s->id));
}

/* One series' exemplars, as libtsproto/select.h has them. */
static void add_series(const struct ing_head *h, const struct ing_exemplar *const *e, size_t count,
                       struct kl_buf *scratch, struct kl_buf *out)
{
    const struct ing_series *s = ing_head_find(h, e[0]->fp);
    size_t                   first = count, bytes = 0;

    while (first > 0 && bytes < SERIES_BYTES_MAX)
        bytes += e[--first]->labels.size + EXEMPLAR_GUESS;
    kl_buf_add64(out, s->fp.hi);
    kl_buf_add64(out, s->fp.lo);
    kl_buf_reset(scratch);
    ing_render(h->pairs.pair_pages, h->pairs.name_pages, s->pairs, s->pair_count, scratch);
    kl_buf_addspan(out, kl_buf_span(scratch));
    kl_buf_reset(scratch);
    for (size_t i = first; i < count; i++)
        tsp_exemplar_put(scratch, e[i]->time_ms, e[i]->value, e[i]->labels);
    tsp_exemplars_end(out, e[first]->time_ms, e[count - 1]->time_ms, count - first,
                      kl_buf_span(scratch));
}

void ing_exemplars_page(const struct ing_head *h, const roaring_bitmap_t *set,
                        const struct tsp_select *q, struct kl_buf *out, struct tsp_page *page)
{
    const struct ing_extras    *x = h->extras;
    const struct ing_exemplar **found;
    struct kl_buf               scratch = { 0 };
    size_t                      count = 0, shown = 0;

    if (x == NULL || x->exemplar_count == 0)
        return;
    found = kl_resize(NULL, x->exemplar_count * sizeof *found);
    for (uint32_t i = 0; i < x->exemplar_count; i++)
        if (wanted(h, set, q, &x->exemplars[i]))
            found[count++] = &x->exemplars[i];
    if (count > 1)
        qsort(found, count, sizeof *found, by_series);
    for (size_t i = 0, n; i < count; i += n) {
        for (n = 1; i + n < count && kl_fp_cmp(found[i]->fp, found[i + n]->fp) == 0; n++)
            ;
        if (out->size > TSP_SELECT_PAGE || (q->limit != 0 && shown == q->limit)) {
            page->more = true;
            break;
        }
        add_series(h, found + i, n, &scratch, out);
        page->cursor = found[i]->fp;
        shown++;
    }
    kl_buf_deinit(&scratch);
    free(found);
}
