/*
 * Verifying a fileset: beyond the checksums of every byte, does it say the same of itself twice?
 * Every label set must be one, the order by fingerprint must be one, every chunk must
 * decode and follow the one before, and the counts must come out as info has them.
 */
#include "libblock/fileset_priv.h"

#include <stdlib.h>

struct verify {
    struct blk_fileset *f;
    int64_t  *times, *starts;
    double   *values;
    struct kl_hist *hists;
    struct kl_arena arena;
    uint64_t  samples, series;
};

static enum kl_code check_chunks(struct verify *v, const struct blk_selected *s, struct kl_err *err)
{
    int64_t last = INT64_MIN;

    for (uint32_t i = 0; i < s->chunk_count; i++) {
        const struct blk_chunk_ref *c = &s->chunks[i];
        uint32_t                    n;
        enum kl_code                code;

        code = c->kind == BLK_HISTS
                   ? blk_chunk_decode_hists(c->bytes, &v->arena, v->times, v->hists, v->starts, &n, err)
                   : blk_chunk_decode(c->bytes, v->times, v->values, v->starts, &n, err);
        kl_arena_deinit(&v->arena);
        if (code != KL_OK)
            return code;
        if (i > 0 && v->times[0] <= last)
            return kl_fail(err, KL_ECORRUPT, "chunks of a series overlap");
        last = v->times[n - 1];
        v->samples += n;
    }
    v->series++;
    return KL_OK;
}

static enum kl_code check_series(struct verify *v, struct kl_err *err)
{
    struct blk_select  *s;
    struct blk_selected one;
    enum kl_code        code;

    if (blk_select_open(v->f, NULL, 0, INT64_MIN, INT64_MAX, true, &s, err) != KL_OK)
        return err->code;
    while ((code = blk_select_next(s, &one, err)) == KL_OK) {
        if (kl_labels_check(one.labels, err) != KL_OK)
            code = kl_fail(err, KL_ECORRUPT, "a label set that is none");
        else
            code = check_chunks(v, &one, err);
        if (code != KL_OK) {
            blk_fileset_corrupt(v->f, BLK_DATA, err);
            break;
        }
        if (!blk_fileset_may_have(v->f, one.fp)) {
            code = kl_fail(err, KL_ECORRUPT, "a series is missing");
            blk_fileset_corrupt(v->f, BLK_BLOOM, err);
            break;
        }
    }
    blk_select_close(s);
    return code == KL_ENOENT ? KL_OK : code;
}

/* The order pages: every series once, fingerprints rising; `key` as summaries have it. */
static enum kl_code check_order(struct verify *v, struct kl_err *err)
{
    const struct blk_places *p = &v->f->summaries.order;
    uint64_t                 n = v->f->info.series_count;
    struct kl_fp            *fps = kl_resize(NULL, (n + 1) * sizeof *fps), last = { 0, 0 };
    struct blk_page         *page = kl_new(sizeof *page);
    uint64_t                 order[BLK_ORDER_SERIES];
    enum kl_code             code = KL_OK;

    for (uint32_t i = 0; i < v->f->summaries.pages.count && code == KL_OK; i++) {
        code = blk_fileset_page(v->f, i, NULL, page, err);
        for (uint32_t k = 0; k < page->count && code == KL_OK; k++)
            fps[page->first + k] = kl_labels_fp(blk_page_labels(page, v->f->postings, k));
    }
    for (uint32_t i = 0; i < p->count && code == KL_OK; i++) {
        if ((code = blk_fileset_order(v->f, i, order, err)) != KL_OK)
            break;
        for (uint32_t k = 0; k < p->at[i].count && code == KL_OK; k++) {
            if ((i + k > 0 && kl_fp_cmp(last, fps[order[k]]) >= 0) ||
                (k == 0 && p->at[i].key != fps[order[k]].hi)) {
                kl_fail(err, KL_ECORRUPT, "series are not in the order of fingerprints");
                code = blk_fileset_corrupt(v->f, BLK_INDEX, err);
            }
            last = fps[order[k]];
        }
    }
    blk_page_deinit(page);
    free(page);
    free(fps);
    return code;
}

enum kl_code blk_fileset_verify(struct blk_fileset *f, struct kl_err *err)
{
    struct verify          v = { .f = f };
    struct blk_extras_each none = { 0 };
    enum kl_code           code;

    v.times = kl_resize(NULL, BLK_CHUNK_MAX * sizeof *v.times);
    v.starts = kl_resize(NULL, BLK_CHUNK_MAX * sizeof *v.starts);
    v.values = kl_resize(NULL, BLK_CHUNK_MAX * sizeof *v.values);
    v.hists = kl_resize(NULL, BLK_CHUNK_MAX * sizeof *v.hists);
    kl_arena_init(&v.arena, 1 << 30);
    code = blk_fileset_extras(f, &none, err);
    if (code == KL_OK)
        code = check_order(&v, err);
    if (code == KL_OK)
        code = check_series(&v, err);
    if (code == KL_OK && (v.series != f->info.series_count || v.samples != f->info.sample_count)) {
        kl_fail(err, KL_ECORRUPT, "counts %llu series and %llu samples, not what is there",
                (unsigned long long)f->info.series_count, (unsigned long long)f->info.sample_count);
        code = blk_fileset_corrupt(f, BLK_INFO, err);
    }
    kl_arena_deinit(&v.arena);
    free(v.times);
    free(v.starts);
    free(v.values);
    free(v.hists);
    return code;
}
