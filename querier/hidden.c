/*
 * What deletions hide of a fileset that is being read: the catalogue lists them (libblock/deletion.h),
 * and whoever reads obeys. Where none concerns the fileset, as nearly always, nothing here is in the
 * way; else labels and their values are told series by series, of those that have something left.
 */
#include <stdlib.h>

#include "querier/qr_priv.h"

enum { TEXTS_FIRST = 1024 };

struct qr_hidden {
    const struct blk_info *info;
    const struct blk_deletion **list;                  /* they live as the manifest */
    struct blk_hidden *spans;
    uint32_t count;
    bool     whole;                                    /* each hides a series altogether, or not at all */
    struct blk_hide *hide;
};

struct qr_hidden *qr_hidden_new(const struct blk_manifest *m, const struct blk_info *info)
{
    struct qr_hidden           *h;
    const struct blk_deletion **list;
    uint32_t                    count;

    if (m->deletion_count == 0)
        return NULL;
    list = kl_resize(NULL, m->deletion_count * sizeof *list);
    count = blk_manifest_concerning(m, info, list);
    if (count == 0) {
        free(list);
        return NULL;
    }
    h = kl_new(sizeof *h);
    h->info = info;
    h->list = list;
    h->count = count;
    h->spans = kl_resize(NULL, count * sizeof *h->spans);
    h->hide = blk_hide_new();
    h->whole = info->resolution_ms == 0;
    for (uint32_t i = 0; i < count; i++)
        h->whole = h->whole && list[i]->from_ms <= info->min_ms && list[i]->to_ms >= info->max_ms;
    return h;
}

void qr_hidden_free(struct qr_hidden *h)
{
    if (h == NULL)
        return;
    blk_hide_free(h->hide);
    free(h->list);
    free(h->spans);
    free(h);
}

bool qr_hidden_needs_chunks(const struct qr_hidden *h) { return h != NULL && !h->whole; }

enum kl_code qr_hidden_series(struct qr_hidden *h, const struct qr_fetch *f, struct blk_selected *got,
                              bool *left, struct kl_err *err)
{
    uint32_t n = blk_deletions_hide(h->list, h->count, got->labels, h->spans);

    *left = true;
    if (n == 0)
        return KL_OK;
    blk_hidden_widen(h->spans, n, h->info->resolution_ms);
    if (blk_hidden_all(h->spans, n, h->info->min_ms, h->info->max_ms)) {
        got->chunk_count = 0;
        *left = false;
        return KL_OK;
    }
    if (blk_hide_chunks(h->hide, h->spans, n, got->chunks, got->chunk_count, &got->chunks,
                        &got->chunk_count, err) != KL_OK)
        return err->code;
    *left = false;
    for (uint32_t i = 0; i < got->chunk_count; i++)
        *left = *left || (got->chunks[i].first_ms <= f->to_ms && got->chunks[i].last_ms >= f->from_ms);
    return KL_OK;
}

bool qr_hidden_at(struct qr_hidden *h, struct kl_labels labels, int64_t time_ms)
{
    uint32_t n = blk_deletions_hide(h->list, h->count, labels, h->spans);

    return blk_hidden_any(h->spans, n, time_ms, time_ms);
}

/* ---- names and values: a set that is put in order now and then ---- */

struct texts {
    struct kl_arena arena;
    struct kl_span *at;
    size_t count, sorted, room, next;
};

static int by_text(const void *a, const void *b)
{
    return kl_span_cmp(*(const struct kl_span *)a, *(const struct kl_span *)b);
}

static void unite(struct texts *t)
{
    size_t kept = 0;

    if (t->count > 0)
        qsort(t->at, t->count, sizeof *t->at, by_text);
    for (size_t i = 0; i < t->count; i++)
        if (i == 0 || !kl_span_eq(t->at[i], t->at[kept - 1]))
            t->at[kept++] = t->at[i];
    t->count = t->sorted = kept;
    t->next = kept * 2 > TEXTS_FIRST ? kept * 2 : TEXTS_FIRST;
}

static bool add(struct texts *t, struct kl_span text)
{
    void *copy;

    if (t->sorted > 0 && bsearch(&text, t->at, t->sorted, sizeof *t->at, by_text) != NULL)
        return true;
    copy = kl_arena_copy(&t->arena, text.size > 0 ? text.at : "", text.size > 0 ? text.size : 1);
    if (copy == NULL)
        return false;
    if (t->count == t->room) {
        t->room = t->room == 0 ? TEXTS_FIRST : t->room * 2;
        t->at = kl_resize(t->at, t->room * sizeof *t->at);
    }
    t->at[t->count++] = kl_span(copy, text.size);
    if (t->count >= t->next)
        unite(t);
    return true;
}

static bool add_labels(struct texts *t, struct kl_labels labels, struct kl_span label)
{
    struct kl_cur   c = kl_labels_cur(labels);
    struct kl_label x;
    bool            room = true;

    while (room && kl_labels_next(&c, &x))
        if (label.at == NULL)
            room = add(t, x.name);
        else if (kl_span_eq(x.name, label))
            room = add(t, x.value);
    return room;
}

enum kl_code qr_hidden_texts(struct qr_stored *x, struct kl_span label,
                             void (*each)(void *ctx, struct kl_span text), void *ctx,
                             struct kl_err *err)
{
    struct qr_fetch    *f = x->part->f;
    struct texts        t = { .next = TEXTS_FIRST };
    struct blk_select  *s;
    struct blk_selected got;
    enum kl_code        code;
    unsigned            n = 0;

    if (blk_select_open(x->open.fileset, f->matchers, f->matcher_count, f->from_ms, f->to_ms,
                        qr_hidden_needs_chunks(x->hidden), &s, err) != KL_OK)
        return err->code;
    kl_arena_init(&t.arena, f->job->budget.cap_bytes);
    while ((code = blk_select_next(s, &got, err)) == KL_OK) {
        bool left;

        if (++n % 64 == 0 && atomic_load_explicit(&f->job->stop, memory_order_relaxed))
            break;
        code = qr_hidden_series(x->hidden, f, &got, &left, err);
        if (code == KL_OK && left && !add_labels(&t, got.labels, label))
            code = qr_over_budget(f->job, err);
        if (code != KL_OK)
            break;
    }
    code = code == KL_ENOENT ? KL_OK : code;
    unite(&t);
    for (size_t i = 0; i < t.count && code == KL_OK; i++)
        each(ctx, t.at[i]);
    blk_select_close(s);
    kl_arena_deinit(&t.arena);
    free(t.at);
    return code;
}
