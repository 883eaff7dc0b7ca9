/* Compaction: all inputs are walked in the order of data, side by side, as a merge sort does. */
#include "libblock/compact_priv.h"

#include <assert.h>
#include <stdlib.h>

enum { FETCH_MAX = 1 << 30, SLICE_SAMPLES = 1 << 20 };

struct input {
    struct blk_fileset *f;
    int      roll;                                     /* rows of that rollup; -1: samples */
    uint32_t of;                                       /* rows: of that input */
    uint32_t series;                                   /* the present one */
    struct kl_labels labels;                           /* of it; none left: at NULL */
    struct kl_buf before;                              /* labels of the one before, */
    bool     any_before;                               /* if there was one */
    struct blk_page page;
    struct blk_ahead pages;
    struct blk_fetch fetch;
};

struct blk_compaction {
    struct blk_compact c;
    struct input      *inputs;
    uint32_t           input_count;                    /* those of samples first */
    struct blk_writer *w;
    struct { struct blk_writer *w; struct blk_roll *r; bool carried, lacks; } rolls[BLK_ROLLUPS_MAX];
    struct blk_merge  *m;
    struct blk_part   *parts;
    uint32_t          *which;
    uint64_t           at_most, series, samples;       /* done so far: of the inputs; written */
    bool               begun;
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
    if (in->labels.at != NULL) {
        kl_buf_reset(&in->before);
        kl_buf_add(&in->before, in->labels.at, in->labels.size);
        in->any_before = true;
    }
    if (in->series == in->f->info.series_count) {
        in->labels.at = NULL;
        return KL_OK;
    }
    if (blk_fileset_reach(in->f, in->series, &in->pages, &in->page, err) != KL_OK)
        return err->code;
    in->labels = blk_page_labels(&in->page, in->f->postings, in->series - in->page.first);
    if (in->any_before &&                              /* a merge of what does not rise would not rise */
        blk_data_order((struct kl_labels){ (const uint8_t *)in->before.at, in->before.size }, in->labels) >= 0) {
        kl_fail(err, KL_ECORRUPT, "series are not in order");
        return blk_fileset_corrupt(in->f, BLK_INDEX, err);
    }
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

static bool bounded(const struct blk_compact *c) { return c->from_ms != 0 || c->to_ms != 0; }

/* What lies outside of the wanted time is hidden; of an input that lies inside nothing is, so that
 * its chunks may be joined as they are. */
static void hide_outside(const struct blk_compact *c, const struct blk_info *in,
                         struct blk_part *part)
{
    if (!bounded(c))
        return;
    if (in->min_ms < c->from_ms)
        part->hidden[part->hidden_count++] = (struct blk_hidden){ INT64_MIN, c->from_ms - 1 };
    if (in->max_ms > c->to_ms)
        part->hidden[part->hidden_count++] = (struct blk_hidden){ c->to_ms + 1, INT64_MAX };
}

/* One series of those inputs among `which` that are of that kind, what is hidden left out. */
static enum kl_code merge_kind(struct blk_compaction *x, uint32_t n, int roll, const struct blk_chunk_ref **chunks,
                               uint32_t *count, struct kl_err *err)
{
    const struct blk_compact *c = &x->c;
    uint32_t                  parts = 0;

    *count = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct input    *in = &x->inputs[x->which[i]];
        struct blk_part *part = &x->parts[parts];

        if (in->roll != roll)
            continue;
        blk_fetch_clear(&in->fetch);
        if (blk_fetch_series(&in->fetch, in->series, err) != KL_OK)
            return err->code;
        part->chunks = in->fetch.chunks;
        part->chunk_count = in->fetch.count;
        part->hidden_count = c->hide ? c->hide(c->ctx, &in->f->info, in->labels, part->hidden) : 0;
        assert(part->hidden_count <= BLK_HIDDEN_MAX);
        hide_outside(c, &in->f->info, part);
        parts++;
    }
    return parts == 0 ? KL_OK : blk_merge_series(x->m, x->parts, parts, chunks, count, err);
}

static enum kl_code write_rows(struct blk_compaction *x, uint32_t roll, struct kl_labels labels,
                               const struct blk_chunk_ref *rows, uint32_t count, struct kl_err *err)
{
    return count == 0 ? KL_OK : blk_writer_series(x->rolls[roll].w, labels, kl_labels_fp(labels), rows, count, err);
}

/* Has a fileset rows of it, and the one that they were made of no samples any more? */
static bool is_lone(const struct blk_compaction *x, uint32_t n, uint32_t roll)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct input *in = &x->inputs[x->which[i]];
        bool                has = false;

        for (uint32_t k = 0; k < n && in->roll == (int)roll && !has; k++)
            has = x->which[k] == in->of;
        if (in->roll == (int)roll && !has)
            return true;
    }
    return false;
}

/* Rows of samples; or those that there were before, where there are no samples to make all of them of. */
static enum kl_code roll_series(struct blk_compaction *x, uint32_t n, struct kl_labels labels,
                                const struct blk_chunk_ref *chunks, uint32_t count, struct kl_err *err)
{
    const struct blk_compact *c = &x->c;
    bool                      carries[BLK_ROLLUPS_MAX];

    for (uint32_t i = 0; i < c->roll_count; i++) {     /* these first: the merge lends its chunks until the next */
        const struct blk_chunk_ref *rows = NULL;
        uint32_t                    row_count;

        carries[i] = is_lone(x, n, i);
        if (carries[i] || count == 0)
            continue;
        if (c->rows != NULL && !c->rows(c->ctx, c->rolls[i].resolution_ms, labels)) {
            x->rolls[i].lacks = true;
            continue;
        }
        if (blk_roll_series(x->rolls[i].r, chunks, count, &rows, &row_count, err) != KL_OK ||
            write_rows(x, i, labels, rows, row_count, err) != KL_OK)
            return err->code;
    }
    for (uint32_t i = 0; i < c->roll_count; i++) {
        const struct blk_chunk_ref *rows = NULL;
        uint32_t                    row_count;

        if (!carries[i] && count > 0)
            continue;
        if (merge_kind(x, n, (int)i, &rows, &row_count, err) != KL_OK ||
            write_rows(x, i, labels, rows, row_count, err) != KL_OK)
            return err->code;
        for (uint32_t k = 0; k < row_count; k++)
            x->samples += rows[k].count;
        x->rolls[i].carried |= row_count > 0;
    }
    return KL_OK;
}

static enum kl_code one_series(struct blk_compaction *x, uint32_t n, struct kl_err *err)
{
    struct kl_labels            labels = x->inputs[x->which[0]].labels;
    const struct blk_chunk_ref *chunks = NULL;
    uint32_t                    count;

    if (merge_kind(x, n, -1, &chunks, &count, err) != KL_OK)
        return err->code;
    for (uint32_t i = 0; i < count; i++)
        x->samples += chunks[i].count;
    if (count > 0 && blk_writer_series(x->w, labels, kl_labels_fp(labels), chunks, count, err) != KL_OK)
        return err->code;
    if (roll_series(x, n, labels, chunks, count, err) != KL_OK)
        return err->code;
    x->series += n;
    for (uint32_t i = 0; i < n; i++) {
        x->inputs[x->which[i]].series++;
        if (step(&x->inputs[x->which[i]], err) != KL_OK)
            return err->code;
    }
    return KL_OK;
}

struct extras_ctx {
    const struct blk_compact *c;
    struct blk_fileset *from;
    struct kl_fp   fp;                                 /* of `labels`, and what is hidden of it */
    struct kl_buf  labels;
    uint32_t       hidden_count;
    struct blk_hidden hidden[BLK_HIDDEN_MAX];
    struct blk_writer *w;
    struct kl_err *err;
    enum kl_code code;
};

static void on_metadata(void *ctx, struct kl_span metric, uint8_t type, struct kl_span unit,
                        struct kl_span help)
{
    struct extras_ctx *x = ctx;

    if (x->code == KL_OK)
        x->code = blk_writer_metadata(x->w, metric, type, unit, help, x->err);
}

/* They stand by series, so each is looked up once. An exemplar whose series no input has any more
 * can be told of nothing, and stays. */
static bool hidden(struct extras_ctx *x, struct kl_fp fp, int64_t time_ms)
{
    enum kl_code code;

    if (x->c->hide == NULL)
        return false;
    if (x->labels.size == 0 || kl_fp_cmp(fp, x->fp) != 0) {
        kl_buf_reset(&x->labels);
        x->fp = fp;
        x->hidden_count = 0;
        code = blk_fileset_find(x->from, fp, &x->labels, x->err);
        if (code == KL_OK)
            x->hidden_count = x->c->hide(x->c->ctx, &x->from->info,
                                         (struct kl_labels){ (const uint8_t *)x->labels.at, x->labels.size },
                                         x->hidden);
        else if (code != KL_ENOENT)
            x->code = code;
    }
    return blk_hidden_any(x->hidden, x->hidden_count, time_ms, time_ms);
}

static void on_exemplar(void *ctx, struct kl_fp fp, int64_t time_ms, double value,
                        struct kl_labels labels)
{
    struct extras_ctx *x = ctx;

    if (bounded(x->c) && (time_ms < x->c->from_ms || time_ms > x->c->to_ms))
        return;
    if (x->code != KL_OK || hidden(x, fp, time_ms))
        return;
    if (x->code == KL_OK)
        x->code = blk_writer_exemplar(x->w, fp, time_ms, value, labels, x->err);
}

static enum kl_code copy_extras(const struct blk_compact *c, struct blk_writer *w, struct kl_err *err)
{
    struct extras_ctx      x = { .c = c, .w = w, .err = err, .code = KL_OK };
    struct blk_extras_each each = { on_metadata, on_exemplar, &x };

    for (uint32_t i = 0; i < c->count && x.code == KL_OK; i++) {       /* in order: the later metadata counts */
        enum kl_code code;

        x.from = c->inputs[i];
        kl_buf_reset(&x.labels);
        code = blk_fileset_extras(c->inputs[i], &each, err);
        x.code = x.code == KL_OK ? code : x.code;
    }
    kl_buf_deinit(&x.labels);
    return x.code;
}

static void destroy(struct blk_compaction *x)
{
    for (uint32_t i = 0; i < x->input_count; i++) {
        blk_fetch_deinit(&x->inputs[i].fetch);
        blk_ahead_deinit(&x->inputs[i].pages);
        blk_page_deinit(&x->inputs[i].page);
        kl_buf_deinit(&x->inputs[i].before);
    }
    for (uint32_t i = 0; i < x->c.roll_count; i++)
        blk_roll_free(x->rolls[i].r);
    blk_merge_free(x->m);
    free(x->inputs);
    free(x->parts);
    free(x->which);
    free(x);
}

static void add_input(struct blk_compaction *x, struct blk_fileset *f, int roll, uint32_t of)
{
    struct input *in = &x->inputs[x->input_count++];

    in->f = f;
    in->roll = roll;
    in->of = of;
    x->at_most += f->info.series_count;
    blk_fetch_init(&in->fetch, f, INT64_MIN, INT64_MAX, FETCH_MAX);
    want_all(in);
}

enum kl_code blk_compaction_begin(const struct blk_compact *c, struct blk_compaction **out,
                                  struct kl_err *err)
{
    struct blk_compaction *x;
    struct blk_writer     *w;
    uint32_t               total = c->count;

    for (uint32_t i = 0; i < c->roll_count; i++) {
        assert(c->carried_count[i] <= c->count);
        total += c->carried_count[i];
    }
    assert(c->count >= 1 && c->count <= BLK_INPUTS_MAX);
    assert(c->roll_count <= BLK_ROLLUPS_MAX);
    if (blk_writer_open(c->root, c->info, &w, err) != KL_OK)
        return kl_within(err, "compact");
    x = kl_new(sizeof *x);
    x->c = *c;
    x->w = w;
    for (uint32_t i = 0; i < c->roll_count; i++) {
        if (blk_writer_open(c->root, &c->rolls[i], &x->rolls[i].w, err) != KL_OK) {
            while (i-- > 0) {
                blk_writer_abandon(x->rolls[i].w);
                blk_roll_free(x->rolls[i].r);
            }
            blk_writer_abandon(w);
            free(x);
            return kl_within(err, "compact");
        }
        x->rolls[i].r = blk_roll_new(c->rolls[i].resolution_ms);
    }
    x->m = blk_merge_new();
    x->parts = kl_resize(NULL, total * sizeof *x->parts);
    x->which = kl_resize(NULL, total * sizeof *x->which);
    x->inputs = kl_new(total * sizeof *x->inputs);
    for (uint32_t i = 0; i < c->count; i++)
        add_input(x, c->inputs[i], -1, i);
    for (uint32_t i = 0; i < c->roll_count; i++)
        for (uint32_t k = 0; k < c->carried_count[i]; k++)
            add_input(x, c->carried[i][k].rows, (int)i, c->carried[i][k].of);
    *out = x;
    return KL_OK;
}

enum kl_code blk_compaction_step(struct blk_compaction *x, uint64_t samples, struct kl_err *err)
{
    uint64_t     until = x->samples + samples, series = x->series;
    uint32_t     n;
    enum kl_code code = KL_OK;

    for (uint32_t i = 0; !x->begun && i < x->input_count && code == KL_OK; i++)
        code = step(&x->inputs[i], err);
    x->begun = true;
    /* A series counts, too: there are inputs of many that have little each. */
    while (code == KL_OK && x->samples + (x->series - series) * 16 < until) {
        n = next_series(x->inputs, x->input_count, x->which);
        if (n == 0)
            return kl_fail(err, KL_ENOENT, "all is done");
        code = one_series(x, n, err);
    }
    return code == KL_OK ? KL_OK : kl_within(err, "compact");
}

enum kl_code blk_compaction_finish(struct blk_compaction *x, struct blk_info *done,
                                   struct kl_err *err)
{
    struct blk_writer *w[1 + BLK_ROLLUPS_MAX] = { x->w };
    struct kl_env_dir *root = x->c.root;
    struct blk_info    all[1 + BLK_ROLLUPS_MAX];
    uint32_t           count = 1 + x->c.roll_count, made = 0;
    bool               carried[1 + BLK_ROLLUPS_MAX] = { false }, lacks[1 + BLK_ROLLUPS_MAX] = { false };

    if (copy_extras(&x->c, x->w, err) != KL_OK) {
        blk_compaction_abandon(x);
        return kl_within(err, "compact");
    }
    for (uint32_t i = 1; i < count; i++) {
        w[i] = x->rolls[i - 1].w;
        carried[i] = x->rolls[i - 1].carried;
        lacks[i] = x->rolls[i - 1].lacks;
    }
    destroy(x);
    while (made < count && blk_writer_finish(w[made], &all[made], err) == KL_OK) {
        all[made].carried = carried[made];
        all[made].lacks = lacks[made];
        made++;
    }
    if (made == count) {
        if (done != NULL)
            memcpy(done, all, count * sizeof *all);
        return KL_OK;
    }
    for (uint32_t i = made + 1; i < count; i++)
        blk_writer_abandon(w[i]);
    while (made-- > 0) {
        struct kl_err unheard = { 0 };                 /* the first failure is the one to tell */
        char          path[BLK_PATH_MAX + 1];

        blk_fileset_path(&all[made], path);
        blk_fileset_remove(root, path, &unheard);
    }
    return kl_within(err, "compact");
}

void blk_compaction_abandon(struct blk_compaction *x)
{
    blk_writer_abandon(x->w);
    for (uint32_t i = 0; i < x->c.roll_count; i++)
        blk_writer_abandon(x->rolls[i].w);
    destroy(x);
}

enum kl_code blk_compact(const struct blk_compact *c, struct blk_info *done, struct kl_err *err)
{
    struct blk_compaction *x;
    enum kl_code           code;

    if (blk_compaction_begin(c, &x, err) != KL_OK)
        return err->code;
    while ((code = blk_compaction_step(x, SLICE_SAMPLES, err)) == KL_OK)
        if (c->progress && !c->progress(c->ctx, x->series, x->at_most)) {
            code = kl_fail(err, KL_ECANCELED, "compact: stopped");
            break;
        }
    if (code == KL_ENOENT)
        return blk_compaction_finish(x, done, err);
    blk_compaction_abandon(x);
    return code;
}
