/* Compaction: all inputs are walked in the order of data, side by side, as a merge sort does. */
#include "libblock/compact_priv.h"

#include <assert.h>
#include <stdlib.h>

enum { FETCH_MAX = 1 << 30, PROGRESS_EACH = 1024 };

struct input {
    struct blk_fileset *f;
    uint32_t series;                                   /* the present one */
    struct kl_labels labels;                           /* of it; none left: at NULL */
    struct blk_page page;
    struct blk_ahead pages;
    struct blk_fetch fetch;
};

static void want_all(struct input *in)
{
    const struct blk_summaries *s = &in->f->summaries;

    blk_ahead_init(&in->pages, in->f, BLK_INDEX, &s->pages);
    for (uint32_t i = 0; i < s->pages.count; i++)
        blk_ahead_want(&in->pages, i);
    for (uint32_t i = 0; i < s->data.count; i++)
        blk_ahead_want(&in->fetch.ahead, i);
}

static enum kl_code step(struct input *in, struct kl_err *err)
{
    if (in->series == in->f->info.series_count) {
        in->labels.at = NULL;
        return KL_OK;
    }
    if (blk_fileset_reach(in->f, in->series, &in->pages, &in->page, err) != KL_OK)
        return err->code;
    in->labels = blk_page_labels(&in->page, in->f->postings, in->series - in->page.first);
    return KL_OK;
}

/* The inputs whose present series comes first; they all have the same. Returns how many. */
static uint32_t next_series(struct input *inputs, uint32_t count, uint32_t *which)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < count; i++) {
        int c;

        if (inputs[i].labels.at == NULL)
            continue;
        c = n == 0 ? -1 : blk_data_order(inputs[i].labels, inputs[which[0]].labels);
        if (c < 0)
            n = 0;
        if (c <= 0)
            which[n++] = i;
    }
    return n;
}

static enum kl_code one_series(const struct blk_compact *c, struct input *inputs,
                               const uint32_t *which, uint32_t n, struct blk_part *parts,
                               struct blk_merge *m, struct blk_writer *w, struct kl_err *err)
{
    struct kl_labels            labels = inputs[which[0]].labels;
    const struct blk_chunk_ref *chunks;
    uint32_t                    count;

    for (uint32_t i = 0; i < n; i++) {
        struct input *in = &inputs[which[i]];

        blk_fetch_clear(&in->fetch);
        if (blk_fetch_series(&in->fetch, in->series, err) != KL_OK)
            return err->code;
        parts[i].chunks = in->fetch.chunks;
        parts[i].chunk_count = in->fetch.count;
        parts[i].hidden_count = c->hide ? c->hide(c->ctx, &in->f->info, labels, parts[i].hidden) : 0;
        assert(parts[i].hidden_count <= BLK_HIDDEN_MAX);
    }
    if (blk_merge_series(m, parts, n, &chunks, &count, err) != KL_OK)
        return err->code;
    if (count > 0 &&
        blk_writer_series(w, labels, kl_labels_fp(labels), chunks, count, err) != KL_OK)
        return err->code;
    for (uint32_t i = 0; i < n; i++) {
        inputs[which[i]].series++;
        if (step(&inputs[which[i]], err) != KL_OK)
            return err->code;
    }
    return KL_OK;
}

struct extras_ctx { struct blk_writer *w; struct kl_err *err; enum kl_code code; };

static void on_metadata(void *ctx, struct kl_span metric, uint8_t type, struct kl_span unit,
                        struct kl_span help)
{
    struct extras_ctx *x = ctx;

    if (x->code == KL_OK)
        x->code = blk_writer_metadata(x->w, metric, type, unit, help, x->err);
}

static void on_exemplar(void *ctx, struct kl_fp fp, int64_t time_ms, double value,
                        struct kl_labels labels)
{
    struct extras_ctx *x = ctx;

    if (x->code == KL_OK)
        x->code = blk_writer_exemplar(x->w, fp, time_ms, value, labels, x->err);
}

static enum kl_code copy_extras(const struct blk_compact *c, struct blk_writer *w, struct kl_err *err)
{
    struct extras_ctx      x = { .w = w, .err = err, .code = KL_OK };
    struct blk_extras_each each = { on_metadata, on_exemplar, &x };

    for (uint32_t i = 0; i < c->count; i++)            /* in order: the later metadata counts */
        if (blk_fileset_extras(c->inputs[i], &each, err) != KL_OK || x.code != KL_OK)
            return err->code;
    return KL_OK;
}

static enum kl_code run(const struct blk_compact *c, struct input *inputs, struct blk_writer *w,
                        struct kl_err *err)
{
    struct blk_merge *m = blk_merge_new();
    struct blk_part  *parts = kl_resize(NULL, c->count * sizeof *parts);
    uint32_t         *which = kl_resize(NULL, c->count * sizeof *which), n;
    uint64_t          at_most = 0, done = 0;
    enum kl_code      code = KL_OK;

    for (uint32_t i = 0; i < c->count && code == KL_OK; i++) {
        at_most += c->inputs[i]->info.series_count;
        code = step(&inputs[i], err);
    }
    while (code == KL_OK && (n = next_series(inputs, c->count, which)) > 0) {
        code = one_series(c, inputs, which, n, parts, m, w, err);
        done += n;
        if (code == KL_OK && c->progress && done / PROGRESS_EACH != (done - n) / PROGRESS_EACH &&
            !c->progress(c->ctx, done, at_most))
            code = kl_fail(err, KL_ECANCELED, "stopped");
    }
    if (code == KL_OK)
        code = copy_extras(c, w, err);
    blk_merge_free(m);
    free(parts);
    free(which);
    return code;
}

enum kl_code blk_compact(const struct blk_compact *c, struct blk_info *done, struct kl_err *err)
{
    struct input      *inputs;
    struct blk_writer *w;
    enum kl_code       code;

    assert(c->count >= 1 && c->count <= BLK_INPUTS_MAX);
    if (blk_writer_open(c->root, c->info, &w, err) != KL_OK)
        return kl_within(err, "compact");
    inputs = kl_new(c->count * sizeof *inputs);
    for (uint32_t i = 0; i < c->count; i++) {
        inputs[i].f = c->inputs[i];
        blk_fetch_init(&inputs[i].fetch, c->inputs[i], INT64_MIN, INT64_MAX, FETCH_MAX);
        want_all(&inputs[i]);
    }
    code = run(c, inputs, w, err);
    for (uint32_t i = 0; i < c->count; i++) {
        blk_fetch_deinit(&inputs[i].fetch);
        blk_ahead_deinit(&inputs[i].pages);
        blk_page_deinit(&inputs[i].page);
    }
    free(inputs);
    if (code == KL_OK)
        code = blk_writer_finish(w, done, err);
    else
        blk_writer_abandon(w);
    return code == KL_OK ? KL_OK : kl_within(err, "compact");
}
