/*
 * Samples of the head that a deletion means go, as if they had never come: the open tail is sealed
 * first where it reaches into the span, late samples are taken out one by one, chunks are left out
 * or encoded anew in their place, so the order of precedence stays.
 *
 * A chunk that a cut has taken is another matter: the cut stands before the deletion in the log, so
 * its fileset holds the samples, and a worker may be writing them. It leaves the series' list, where
 * questions look, and is handed to `taken`; what is left of it goes on under the cut's number.
 */
#include "ingestor/head_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void erase_tail(struct ing_head *h, struct ing_series *s, int64_t from_ms, int64_t to_ms)
{
    if (s->tail.count == 0 || s->tail.first_ms > to_ms || s->tail.last_ms < from_ms)
        return;
    if (s->tail.first_ms >= from_ms && s->tail.last_ms <= to_ms)
        ing_tail_drop(&s->tail, &h->tails);
    else
        ing_series_seal_tail(h, s);
}

static void erase_late(struct ing_head *h, struct ing_series *s, int64_t from_ms, int64_t to_ms)
{
    struct ing_late *l = s->late;
    uint32_t         kept = 0;

    for (uint32_t i = 0; l != NULL && i < l->count; i++)
        if (l->at[i].time_ms < from_ms || l->at[i].time_ms > to_ms)
            l->at[kept++] = l->at[i];
    if (l == NULL)
        return;
    l->count = kept;
    if (kept > 0)
        return;
    h->memory.bytes[ING_MEM_LATE] -= (int64_t)(l->room * sizeof *l->at);
    free(l);
    s->late = NULL;
}

/* What is left of a chunk, in its place; NULL: nothing. */
static struct ing_chunk *left_of(struct ing_head *h, const struct ing_chunk *c,
                                 const struct blk_chunk_ref *left)
{
    struct blk_chunk_head head;
    struct kl_err         err;
    struct ing_chunk     *n;

    if (blk_chunk_peek(left->bytes, &head, &err) != KL_OK)
        assert(!"a chunk that was just encoded can be read");
    n = ing_chunk_new(h, left->bytes, &head);
    n->cut = c->cut;
    n->next = c->next;
    return n;
}

void ing_series_erase(struct ing_head *h, struct ing_series *s, struct blk_hide *hide,
                      struct blk_hidden span, ing_taken taken, void *ctx)
{
    struct ing_chunk **link = &s->first, *before = NULL, *c;

    erase_tail(h, s, span.from_ms, span.to_ms);
    erase_late(h, s, span.from_ms, span.to_ms);
    while ((c = *link) != NULL) {
        struct blk_chunk_ref        ref = { .first_ms = c->first_ms, .last_ms = ing_chunk_last(c),
                                            .count = c->count, .kind = c->kind };
        const struct blk_chunk_ref *left = NULL;
        struct ing_chunk           *now = NULL;
        uint32_t                    n = 0;
        struct kl_err               err;

        if (ref.first_ms > span.to_ms || ref.last_ms < span.from_ms) {
            before = c;
            link = &c->next;
            continue;
        }
        if (ref.first_ms < span.from_ms || ref.last_ms > span.to_ms) {
            if (ing_chunk_bytes(h->files, c, &h->spilled, &ref.bytes, &err) != KL_OK)
                return;                                /* the partition begins anew, from the log */
            if (blk_hide_chunks(hide, &span, 1, &ref, 1, &left, &n, &err) != KL_OK)
                assert(!"a sealed chunk can be read");
            if (n == 1 && left->count == c->count) {   /* none of its samples lies in the span */
                before = c;
                link = &c->next;
                continue;
            }
        }
        if (n > 0)
            now = left_of(h, c, left);
        *link = now != NULL ? now : c->next;
        if (s->last == c)
            s->last = now != NULL ? now : before;
        if (now != NULL) {
            before = now;
            link = &now->next;
        }
        if (c->cut != 0) {
            taken(ctx, h, s, c);
            continue;
        }
        s->chunk_bytes += (now != NULL ? now->size : 0) - c->size;
        ing_chunk_retire(h, c);
    }
}

struct meant { const struct ing_head *head; const roaring_bitmap_t *set; struct blk_hidden span; };

static enum ing_fate exemplar_fate(void *ctx, const struct ing_exemplar *e)
{
    const struct meant      *m = ctx;
    const struct ing_series *s;

    if (e->time_ms < m->span.from_ms || e->time_ms > m->span.to_ms || (s = ing_head_find(m->head, e->fp)) == NULL)
        return ING_KEPT;
    return roaring_bitmap_contains(m->set, s->id) ? ING_GONE : ING_KEPT;
}

void ing_head_erase(struct ing_head *h, const struct blk_deletion *d, ing_taken taken, void *ctx)
{
    roaring_bitmap_t         *set = ing_match(h, d->matchers, d->matcher_count);
    struct blk_hidden         span = { d->from_ms, d->to_ms };
    struct blk_hide          *hide = blk_hide_new();
    struct meant              meant = { h, set, span };
    roaring_uint32_iterator_t it;

    roaring_init_iterator(set, &it);
    for (; it.has_value; roaring_advance_uint32_iterator(&it))
        ing_series_erase(h, ing_series_at(h, it.current_value), hide, span, taken, ctx);
    ing_extras_sift(h, exemplar_fate, &meant);
    blk_hide_free(hide);
    roaring_bitmap_free(set);
}
