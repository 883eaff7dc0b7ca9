/*
 * Writing a fileset. Data is streamed, a frame at a time; of each series the writer keeps its
 * fingerprint and four bytes a label. The other files are made at the end. Each file is written
 * aside, synced, and published; the checkpoint after all of them, and after the folders' own names.
 */
#include "libblock/fileset_priv.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

struct blk_writer {
    struct blk_info   info;
    struct kl_env_dir *root;
    struct blk_folder folder;
    uint64_t          seed;
    struct blk_zip   *zip;
    struct blk_pairs *pairs;
    struct blk_columns *columns;
    struct blk_rechunk *rechunk;
    struct blk_extras *extras;
    struct blk_summaries summaries;
    struct blk_digest digests[BLK_FILES];
    struct kl_env_file *data;
    uint64_t          data_size;
    struct kl_buf     raw, frame, last_labels;         /* scratch; the labels of the last series */
    struct kl_fp     *fps;
    uint32_t          fp_room;
    enum kl_code      failed;                          /* the first failure, for good */
    struct kl_err     why;
};

static void free_writer(struct blk_writer *w)
{
    if (w->data != NULL)
        w->folder.window->close(w->data);
    blk_folder_leave(&w->folder);
    blk_zip_free(w->zip);
    blk_pairs_free(w->pairs);
    blk_columns_free(w->columns);
    blk_rechunk_free(w->rechunk);
    blk_extras_free(w->extras);
    blk_summaries_deinit(&w->summaries);
    kl_buf_deinit(&w->raw);
    kl_buf_deinit(&w->frame);
    kl_buf_deinit(&w->last_labels);
    free(w->fps);
    free(w);
}

static enum kl_code fail(struct blk_writer *w, struct kl_err *err)
{
    w->failed = err->code;
    w->why = *err;
    return err->code;
}

/* Is there a whole fileset in the folder already? Anything else there is removed. */
static enum kl_code clear(struct blk_writer *w, struct kl_err *err)
{
    struct kl_env_dir *dir = w->folder.window;
    void              *bytes;
    size_t             size;
    bool               whole;
    enum kl_code       code = dir->read(dir, "checkpoint", 4096, &bytes, &size, err);

    if (code == KL_OK) {
        whole = blk_checkpoint_whole(kl_span(bytes, size));
        free(bytes);
        if (whole)
            return kl_fail(err, KL_EEXIST, "it is there already");
    } else if (code != KL_ENOENT && code != KL_ELIMIT) {
        return code;
    }
    return blk_folder_empty(dir, err);
}

enum kl_code blk_writer_open(struct kl_env_dir *root, const struct blk_info *info,
                             struct blk_writer **out, struct kl_err *err)
{
    struct blk_writer *w;
    struct blk_info    named;
    char               path[BLK_PATH_MAX + 1];

    if (info->tenant[0] == '\0' || info->partition > 9999 || info->window_ms < 0)
        return kl_fail(err, KL_EINVAL, "write fileset: tenant, partition or window is unfit");
    blk_fileset_path(info, path);
    if (blk_fileset_path_parse(path, &named, err) != KL_OK)
        return kl_within(err, "write fileset");
    w = kl_new(sizeof *w);
    w->root = root;
    w->info = *info;
    w->info.series_count = w->info.sample_count = w->info.chunk_bytes = w->info.content = 0;
    w->info.min_ms = INT64_MAX;
    w->info.max_ms = INT64_MIN;
    w->seed = blk_seed(info);
    w->zip = blk_zip_new();
    w->pairs = blk_pairs_new();
    w->columns = blk_columns_new(info->window_start_ms);
    w->rechunk = blk_rechunk_new(info);
    w->extras = blk_extras_new();
    if (blk_folder_enter(root, info, true, &w->folder, err) != KL_OK || clear(w, err) != KL_OK ||
        w->folder.window->create(w->folder.window, "data.tmp", &w->data, err) != KL_OK) {
        free_writer(w);
        return kl_within(err, "write fileset %s", path);
    }
    *out = w;
    return KL_OK;
}

static enum kl_code flush_frame(struct blk_writer *w, struct kl_err *err)
{
    struct blk_place place = { .offset = w->data_size };

    if (blk_columns_size(w->columns) == 0)
        return KL_OK;
    kl_buf_reset(&w->raw);
    kl_buf_reset(&w->frame);
    blk_columns_flush(w->columns, &w->raw, &place.first, &place.count);
    if (blk_frame_write(w->zip, w->seed, kl_buf_span(&w->raw), &w->frame, &place.check, err) != KL_OK ||
        w->folder.window->append(w->data, w->frame.at, w->frame.size, err) != KL_OK)
        return err->code;
    place.size = (uint32_t)w->frame.size;
    w->data_size += w->frame.size;
    blk_places_add(&w->summaries.data, place);
    return KL_OK;
}

struct piece_ctx { struct blk_writer *w; struct kl_err *err; enum kl_code code; };

static void add_piece(void *ctx, const struct blk_parts *parts)
{
    struct piece_ctx  *p = ctx;
    struct blk_writer *w = p->w;

    if (p->code != KL_OK)
        return;
    if (parts->time.size + parts->rest.size > BLK_CHUNK_BYTES_MAX) {
        p->code = kl_fail(p->err, KL_ELIMIT, "a chunk of more than %d bytes", BLK_CHUNK_BYTES_MAX);
        return;
    }
    w->info.sample_count += parts->count;
    w->info.chunk_bytes += parts->time.size + parts->rest.size;
    w->info.min_ms = parts->first_ms < w->info.min_ms ? parts->first_ms : w->info.min_ms;
    w->info.max_ms = parts->last_ms > w->info.max_ms ? parts->last_ms : w->info.max_ms;
    if (blk_columns_size(w->columns) + parts->time.size + parts->rest.size > BLK_FRAME)
        p->code = flush_frame(w, p->err);
    blk_columns_add(w->columns, (uint32_t)w->info.series_count, parts);
}

int blk_data_order(struct kl_labels a, struct kl_labels b)
{
    struct kl_span name = kl_span_str("__name__");
    int            c = kl_span_cmp(kl_labels_get(a, name), kl_labels_get(b, name));

    return c != 0 ? c : kl_labels_cmp(a, b);
}

enum kl_code blk_writer_series(struct blk_writer *w, struct kl_labels labels, struct kl_fp fp,
                               const struct blk_chunk_ref *chunks, uint32_t count,
                               struct kl_err *err)
{
    struct piece_ctx p = { .w = w, .err = err, .code = KL_OK };
    uint32_t         n = (uint32_t)w->info.series_count;

    assert(count > 0);
    if (w->failed != KL_OK) {
        *err = w->why;
        return err->code;
    }
    if (kl_fp_cmp(kl_labels_fp(labels), fp) != 0) {    /* it came from another process, once */
        kl_fail(err, KL_EINVAL, "series %u: the fingerprint is not of its labels", n);
        return fail(w, err);
    }
    if (n > 0) {
        struct kl_labels last = { (const uint8_t *)w->last_labels.at, w->last_labels.size };
        assert(blk_data_order(last, labels) < 0);
    }
    if (n == BLK_SERIES_MAX) {
        kl_fail(err, KL_ELIMIT, "more than %d series in a fileset", BLK_SERIES_MAX);
        return fail(w, err);
    }
    kl_buf_reset(&w->last_labels);
    kl_buf_add(&w->last_labels, labels.at, labels.size);
    w->info.content = kl_hash64_seed(labels.at, labels.size, w->info.content);
    if (blk_rechunk_series(w->rechunk, chunks, count, add_piece, &p, &w->info.content, err) != KL_OK ||
        p.code != KL_OK) {
        kl_within(err, "series %u", n);
        return fail(w, err);
    }
    blk_pairs_series(w->pairs, labels);
    if (n == w->fp_room) {
        w->fp_room = n ? n * 2 : 256;
        w->fps = kl_resize(w->fps, w->fp_room * sizeof *w->fps);
    }
    w->fps[n] = fp;
    w->info.series_count++;
    return KL_OK;
}

enum kl_code blk_writer_metadata(struct blk_writer *w, struct kl_span metric, uint8_t type,
                                 struct kl_span unit, struct kl_span help, struct kl_err *err)
{
    return blk_extras_metadata(w->extras, metric, type, unit, help, err);
}

enum kl_code blk_writer_exemplar(struct blk_writer *w, struct kl_fp fp, int64_t time_ms,
                                 double value, struct kl_labels labels, struct kl_err *err)
{
    return blk_extras_exemplar(w->extras, fp, time_ms, value, labels, err);
}

/* A whole file: aside, synced, published. */
static enum kl_code save(struct kl_env_dir *dir, const char *name, struct kl_span bytes,
                         struct kl_err *err)
{
    struct kl_env_file *file;
    char                aside[32];
    enum kl_code        code;

    snprintf(aside, sizeof aside, "%s.tmp", name);
    code = dir->create(dir, aside, &file, err);
    if (code != KL_OK)
        return kl_within(err, "%s", name);
    code = dir->append(file, bytes.at, bytes.size, err);
    if (code == KL_OK)
        code = dir->sync(file, err);
    if (code == KL_OK)
        code = dir->publish(file, name, err);
    dir->close(file);
    return code == KL_OK ? KL_OK : kl_within(err, "%s", name);
}

/* A small file, which is one frame; its raw bytes are in w->raw. */
static enum kl_code save_small(struct blk_writer *w, enum blk_file file, struct kl_err *err)
{
    struct blk_digest *d = &w->digests[file];
    uint64_t           check;

    if (!kl_buf_ok(&w->raw))
        return kl_fail(err, KL_ELIMIT, "%s: too large", blk_file_names[file]);
    kl_buf_reset(&w->frame);
    if (blk_frame_write(w->zip, w->seed, kl_buf_span(&w->raw), &w->frame, &check, err) != KL_OK)
        return kl_within(err, "%s", blk_file_names[file]);
    d->size = w->frame.size;
    d->check = kl_hash64_seed(w->frame.at, w->frame.size, w->seed);
    return save(w->folder.window, blk_file_names[file], kl_buf_span(&w->frame), err);
}

static int by_fp(const void *a, const void *b, void *ctx)
{
    const struct kl_fp *fps = ctx;
    uint32_t            x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int                 c = kl_fp_cmp(fps[x], fps[y]);

    return c != 0 ? c : x < y ? -1 : x > y;
}

static enum kl_code add_index_frame(struct blk_writer *w, struct kl_buf *index,
                                    struct blk_places *places, struct blk_place place,
                                    struct kl_err *err)
{
    size_t from = index->size;

    if (blk_frame_write(w->zip, w->seed, kl_buf_span(&w->raw), index, &place.check, err) != KL_OK)
        return err->code;
    place.size = (uint32_t)(index->size - from);
    blk_places_add(places, place);
    return KL_OK;
}

static enum kl_code make_index(struct blk_writer *w, struct kl_buf *index, struct kl_err *err)
{
    uint32_t     n = (uint32_t)w->info.series_count;
    uint32_t    *order = kl_resize(NULL, ((size_t)n + 1) * sizeof *order);
    enum kl_code code = KL_OK;

    for (uint32_t at = 0; at < n && code == KL_OK; at += BLK_PAGE_SERIES) {
        struct blk_place place = { .first = at };
        place.count = n - at < BLK_PAGE_SERIES ? n - at : BLK_PAGE_SERIES;
        kl_buf_reset(&w->raw);
        blk_page_write(w->pairs, at, place.count, &w->raw);
        code = add_index_frame(w, index, &w->summaries.pages, place, err);
    }
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    qsort_r(order, n, sizeof *order, by_fp, w->fps);
    for (uint32_t at = 0; at < n && code == KL_OK; at += BLK_ORDER_SERIES) {
        struct blk_place place = { .first = at, .key = w->fps[order[at]].hi };
        place.count = n - at < BLK_ORDER_SERIES ? n - at : BLK_ORDER_SERIES;
        kl_buf_reset(&w->raw);
        blk_order_write(order + at, place.count, n, &w->raw);
        code = add_index_frame(w, index, &w->summaries.order, place, err);
    }
    free(order);
    return code;
}

static enum kl_code save_index(struct blk_writer *w, struct kl_err *err)
{
    struct blk_digest *d = &w->digests[BLK_INDEX];
    struct kl_buf      index = { 0 };
    enum kl_code       code = make_index(w, &index, err);

    if (code == KL_OK)
        code = save(w->folder.window, blk_file_names[BLK_INDEX], kl_buf_span(&index), err);
    d->size = index.size;
    d->check = blk_places_check(&w->summaries.order,
                                blk_places_check(&w->summaries.pages, w->seed));
    kl_buf_deinit(&index);
    return code;
}

static enum kl_code save_data(struct blk_writer *w, struct kl_err *err)
{
    struct kl_env_dir *dir = w->folder.window;
    enum kl_code       code = flush_frame(w, err);

    if (code == KL_OK)
        code = dir->sync(w->data, err);
    if (code == KL_OK)
        code = dir->publish(w->data, blk_file_names[BLK_DATA], err);
    dir->close(w->data);
    w->data = NULL;
    w->digests[BLK_DATA].size = w->data_size;
    w->digests[BLK_DATA].check = blk_places_check(&w->summaries.data, w->seed);
    return code == KL_OK ? KL_OK : kl_within(err, "data");
}

/* The names of the folders above are durable before the checkpoint is, or it would vouch for a
 * fileset that nobody finds. */
static enum kl_code sync_folders(struct blk_writer *w, struct kl_err *err)
{
    if (w->folder.partition->sync_names(w->folder.partition, err) != KL_OK ||
        w->folder.tenant->sync_names(w->folder.tenant, err) != KL_OK)
        return err->code;
    return w->root->sync_names(w->root, err);
}

static enum kl_code finish(struct blk_writer *w, struct kl_err *err)
{
    struct kl_env_dir *dir = w->folder.window;
    struct kl_buf      digests = { 0 }, checkpoint = { 0 };
    enum kl_code       code;

    if (w->info.series_count == 0)
        w->info.min_ms = w->info.max_ms = w->info.window_start_ms;
    if (save_data(w, err) != KL_OK)
        return err->code;
    kl_buf_reset(&w->raw);
    blk_pairs_finish(w->pairs, &w->raw);
    if (save_small(w, BLK_POSTINGS, err) != KL_OK || save_index(w, err) != KL_OK)
        return err->code;
    kl_buf_reset(&w->raw);
    blk_summaries_write(&w->summaries, &w->raw);
    if (save_small(w, BLK_SUMMARIES, err) != KL_OK)
        return err->code;
    kl_buf_reset(&w->raw);
    blk_bloom_write(w->fps, (uint32_t)w->info.series_count, &w->raw);
    if (save_small(w, BLK_BLOOM, err) != KL_OK)
        return err->code;
    kl_buf_reset(&w->raw);
    blk_extras_write(w->extras, &w->raw);
    if (save_small(w, BLK_EXTRAS, err) != KL_OK)
        return err->code;
    kl_buf_reset(&w->raw);
    blk_info_write(&w->info, &w->raw);
    if (save_small(w, BLK_INFO, err) != KL_OK || sync_folders(w, err) != KL_OK)
        return err->code;
    blk_digests_write(w->digests, &digests);
    blk_checkpoint_write(kl_buf_span(&digests), w->seed, &checkpoint);
    code = save(dir, "digests", kl_buf_span(&digests), err);
    if (code == KL_OK)
        code = save(dir, "checkpoint", kl_buf_span(&checkpoint), err);
    kl_buf_deinit(&digests);
    kl_buf_deinit(&checkpoint);
    return code;
}

enum kl_code blk_writer_finish(struct blk_writer *w, struct blk_info *done, struct kl_err *err)
{
    char path[BLK_PATH_MAX + 1];

    blk_fileset_path(&w->info, path);
    if (w->failed != KL_OK)
        *err = w->why;
    if (w->failed != KL_OK || finish(w, err) != KL_OK) {
        struct kl_err first = *err;
        blk_writer_abandon(w);
        *err = first;
        return kl_within(err, "write fileset %s", path);
    }
    if (done != NULL)
        *done = w->info;
    free_writer(w);
    return KL_OK;
}

void blk_writer_abandon(struct blk_writer *w)
{
    struct kl_err ignored;                             /* what is left has no checkpoint */
    char          partition[8], window[BLK_WINDOW_NAME];

    if (w->data != NULL)
        w->folder.window->close(w->data);
    w->data = NULL;
    if (blk_folder_empty(w->folder.window, &ignored) == KL_OK) {
        blk_folder_names(&w->info, partition, window);
        w->folder.window->leave(w->folder.window);
        w->folder.window = NULL;
        w->folder.partition->remove_dir(w->folder.partition, window, &ignored);
    }
    free_writer(w);
}
