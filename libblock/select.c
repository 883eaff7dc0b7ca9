/*
 * Selecting series: the matchers give a set, its index pages give fingerprints, those are sorted.
 * Data lies in another order, so series are fetched a batch at a time: the next ones by fingerprint,
 * visited in the order of data, so that each frame is read once a batch. A batch holds about
 * BATCH_BYTES of chunks; a select that fits reads every frame once.
 */
#include "libblock/fileset_priv.h"

#include <assert.h>
#include <stdlib.h>

enum { BATCH_BYTES = 8 << 20, BATCH_SERIES = 65536, BATCH_MEMORY_MAX = 1 << 30 };

struct item {                                          /* one series of the batch */
    uint32_t series, rank;
    struct kl_fp     fp;
    struct kl_labels labels;
    uint32_t chunk_from, chunk_count;
};
struct blk_select {
    struct blk_fileset *f;
    bool     with_chunks;
    bool     kept;                                     /* within blk_kept_enter */
    bool     again;                                    /* all of it will be asked for again */
    uint32_t most;                                     /* of what is kept; 0: of all there is */
    const struct blk_match *found;
    struct blk_match *own;                             /* `found`, where it is not the fileset's */
    uint32_t found_count, at;                          /* at: the first that is in no batch yet */
    uint32_t batch_size;
    struct item *items;                                /* by fingerprint once the batch is made */
    uint32_t item_count, item_at;
    struct kl_arena labels;                            /* of all, where one batch takes them */
    struct kl_arena arena;                             /* labels of the batch */
    struct blk_fetch fetch;                            /* and its chunks */
    struct blk_page page;
    struct blk_ahead pages;
};

static int by_fp(const void *a, const void *b)
{
    const struct blk_match *x = a, *y = b;
    int                 c = kl_fp_cmp(x->fp, y->fp);

    return c != 0 ? c : x->series < y->series ? -1 : x->series > y->series;
}

static enum kl_code keep_labels(struct kl_arena *arena, struct kl_labels labels,
                                struct kl_labels *kept, struct kl_err *err)
{
    void *copy = kl_arena_copy(arena, labels.at, labels.size);

    if (copy == NULL)
        return kl_fail(err, KL_ELIMIT, "select: a batch of more than %d bytes", BATCH_MEMORY_MAX);
    *kept = (struct kl_labels){ copy, labels.size };
    return KL_OK;
}

static void selection_key(const struct kl_matcher *m, size_t count, struct kl_buf *key)
{
    for (size_t i = 0; i < count; i++) {
        kl_buf_add8(key, (uint8_t)m[i].op);
        kl_buf_addspan(key, m[i].name);
        kl_buf_addspan(key, m[i].value);
    }
}

/* Which series match, by fingerprint; their labels are kept where one batch takes them all. */
static enum kl_code find(struct blk_select *s, const struct kl_matcher *m, size_t count,
                         struct kl_err *err)
{
    struct blk_fileset *f = s->f;
    struct blk_ids     *ids = blk_postings_match(f->postings, m, count);
    uint32_t            n = blk_ids_count(ids), *list = kl_resize(NULL, ((size_t)n + 1) * sizeof *list);
    bool                keep = n <= s->batch_size;

    blk_ids_list(ids, list);
    blk_ids_free(ids);
    s->found = s->own = kl_resize(NULL, ((size_t)n + 1) * sizeof *s->own);
    for (uint32_t i = 0; i < n; i++)
        blk_ahead_want(&s->pages, list[i] / BLK_PAGE_SERIES);
    for (uint32_t i = 0; i < n; i++) {
        struct kl_labels labels;

        if (blk_fileset_reach(f, list[i], &s->pages, &s->page, err) != KL_OK)
            goto failed;
        labels = blk_page_labels(&s->page, f->postings, list[i] % BLK_PAGE_SERIES);
        s->own[i] = (struct blk_match){ .fp = kl_labels_fp(labels), .series = list[i] };
        if (keep && keep_labels(&s->labels, labels, &s->own[i].labels, err) != KL_OK)
            goto failed;
    }
    free(list);
    s->found_count = n;
    qsort(s->own, n, sizeof *s->own, by_fp);
    return KL_OK;
failed:
    free(list);
    return err->code;
}

/* What was found becomes the fileset's, for the next that asks the same. */
static void offer(struct blk_select *s, const struct kl_buf *key)
{
    struct blk_selection *x;

    if (s->found_count > s->batch_size ||
        !(blk_kept_wants_selection(s->f, kl_buf_span(key)) || s->again))
        return;
    x = kl_new(sizeof *x);
    x->key = kl_resize(NULL, key->size + 1);
    if (key->size > 0)
        memcpy(x->key, key->at, key->size);
    x->key_size = key->size;
    x->found = s->own;
    x->count = s->found_count;
    x->labels = s->labels;
    if (blk_kept_offer_selection(s->f, x)) {
        s->own = NULL;
        kl_arena_init(&s->labels, BATCH_MEMORY_MAX);
    } else {
        x->found = NULL;
        kl_arena_init(&x->labels, 0);
        blk_selection_free(x);
    }
}

static enum kl_code find_or_know(struct blk_select *s, const struct kl_matcher *m, size_t count,
                                 struct kl_err *err)
{
    const struct blk_selection *known;
    struct kl_buf               key = { 0 };
    enum kl_code                code = KL_OK;

    if (!s->kept)
        return s->most > 0 ? kl_fail(err, KL_EAGAIN, "not in memory") : find(s, m, count, err);
    selection_key(m, count, &key);
    known = blk_kept_selection(s->f, kl_buf_span(&key));
    if (s->most > 0 && (known == NULL || known->count > s->most)) {
        code = kl_fail(err, KL_EAGAIN, "not in memory, or more than %u series", s->most);
    } else if (known != NULL) {
        s->found = known->found;
        s->found_count = known->count;
    } else {
        code = find(s, m, count, err);
        if (code == KL_OK)
            offer(s, &key);
    }
    kl_buf_deinit(&key);
    return code;
}

static enum kl_code open_select(struct blk_fileset *f, const struct kl_matcher *m, size_t count,
                                int64_t from_ms, int64_t to_ms, bool with_chunks, bool again, uint32_t most,
                                struct blk_select **out, struct kl_err *err)
{
    struct blk_select *s = kl_new(sizeof *s);
    uint64_t           each;

    s->f = blk_fileset_ref(f);
    s->with_chunks = with_chunks;
    s->again = again;
    s->most = most;
    s->kept = blk_kept_enter(f);
    kl_arena_init(&s->arena, BATCH_MEMORY_MAX);
    kl_arena_init(&s->labels, BATCH_MEMORY_MAX);
    blk_ahead_init(&s->pages, f, BLK_INDEX, &f->summaries.pages);
    blk_fetch_init(&s->fetch, f, from_ms, to_ms, BATCH_MEMORY_MAX);
    s->fetch.kept = s->kept;
    s->fetch.again = again;
    s->fetch.ahead.never = s->pages.never = most > 0;
    each = f->info.series_count > 0 ? f->info.chunk_bytes / f->info.series_count : 0;
    each = each < BATCH_BYTES ? each + 64 : BATCH_BYTES;       /* what info says may be anything */
    s->batch_size = (uint32_t)(BATCH_BYTES / each);
    s->batch_size = s->batch_size < 1 ? 1 : s->batch_size;
    s->batch_size = s->batch_size > BATCH_SERIES ? BATCH_SERIES : s->batch_size;
    if (!(with_chunks && (f->info.max_ms < from_ms || f->info.min_ms > to_ms)) &&
        find_or_know(s, m, count, err) != KL_OK) {
        blk_select_close(s);
        return err->code;
    }
    *out = s;
    return KL_OK;
}

enum kl_code blk_select_open(struct blk_fileset *f, const struct kl_matcher *m, size_t count,
                             int64_t from_ms, int64_t to_ms, bool with_chunks,
                             struct blk_select **s, struct kl_err *err)
{
    return open_select(f, m, count, from_ms, to_ms, with_chunks, false, 0, s, err);
}

enum kl_code blk_select_open_ahead(struct blk_fileset *f, const struct kl_matcher *m, size_t count,
                                   int64_t from_ms, int64_t to_ms, struct blk_select **s, struct kl_err *err)
{
    return open_select(f, m, count, from_ms, to_ms, true, true, 0, s, err);
}

enum kl_code blk_select_open_kept(struct blk_fileset *f, const struct kl_matcher *m, size_t count,
                                  int64_t from_ms, int64_t to_ms, bool with_chunks, uint32_t most,
                                  struct blk_select **s, struct kl_err *err)
{
    return open_select(f, m, count, from_ms, to_ms, with_chunks, false, most, s, err);
}

struct blk_tally blk_select_tally(const struct blk_select *s)
{
    return (struct blk_tally){ .data = s->fetch.ahead.bytes_of, .index = s->pages.bytes_of };
}

void blk_select_close(struct blk_select *s)
{
    if (s == NULL)
        return;
    blk_fetch_deinit(&s->fetch);
    blk_ahead_deinit(&s->pages);
    blk_page_deinit(&s->page);
    kl_arena_deinit(&s->arena);
    kl_arena_deinit(&s->labels);
    free(s->items);
    free(s->own);
    if (s->kept)
        blk_kept_leave(s->f);
    blk_fileset_unref(s->f);
    free(s);
}

static int by_series(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    return x->series < y->series ? -1 : x->series > y->series;
}
static int by_rank(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static enum kl_code make_batch(struct blk_select *s, struct kl_err *err)
{
    uint32_t n = s->found_count - s->at < s->batch_size ? s->found_count - s->at : s->batch_size;

    if (s->items == NULL)
        s->items = kl_resize(NULL, (n + 1) * sizeof *s->items);     /* no later batch has more */
    kl_arena_deinit(&s->arena);
    blk_fetch_reset(&s->fetch);
    for (uint32_t i = 0; i < n; i++)
        s->items[i] = (struct item){ .series = s->found[s->at + i].series, .rank = i,
                                     .fp = s->found[s->at + i].fp,
                                     .labels = s->found[s->at + i].labels };
    qsort(s->items, n, sizeof *s->items, by_series);
    blk_ahead_forget(&s->pages);
    for (uint32_t i = 0; i < n; i++) {
        blk_ahead_want(&s->pages, s->items[i].series / BLK_PAGE_SERIES);
        if (s->with_chunks)
            blk_fetch_want(&s->fetch, s->items[i].series);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct item *item = &s->items[i];

        if (item->labels.at == NULL) {
            struct kl_labels labels;

            if (blk_fileset_reach(s->f, item->series, &s->pages, &s->page, err) != KL_OK)
                return err->code;
            labels = blk_page_labels(&s->page, s->f->postings, item->series % BLK_PAGE_SERIES);
            if (keep_labels(&s->arena, labels, &item->labels, err) != KL_OK)
                return err->code;
        }
        item->chunk_from = s->fetch.count;
        if (s->with_chunks && blk_fetch_series(&s->fetch, item->series, err) != KL_OK)
            return err->code;
        item->chunk_count = s->fetch.count - item->chunk_from;
    }
    qsort(s->items, n, sizeof *s->items, by_rank);
    s->item_count = n;
    s->item_at = 0;
    s->at += n;
    return KL_OK;
}

enum kl_code blk_select_next(struct blk_select *s, struct blk_selected *out, struct kl_err *err)
{
    for (;;) {
        const struct item *item;

        if (s->item_at == s->item_count) {
            if (s->at == s->found_count)
                return kl_fail(err, KL_ENOENT, "no more series");
            if (make_batch(s, err) != KL_OK)
                return err->code;
        }
        item = &s->items[s->item_at++];
        if (s->with_chunks && item->chunk_count == 0)
            continue;                                  /* none of its chunks is in the range */
        *out = (struct blk_selected){ .fp = item->fp, .labels = item->labels,
                                      .chunk_count = item->chunk_count };
        if (s->with_chunks)
            out->chunks = s->fetch.chunks + item->chunk_from;
        return KL_OK;
    }
}
