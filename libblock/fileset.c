/* Opening a fileset, and reading its parts: each is checked against what vouches for it. */
#include "libblock/fileset_priv.h"

#include <stdlib.h>

enum kl_code blk_fileset_corrupt(const struct blk_fileset *f, enum blk_file file,
                                 struct kl_err *err)
{
    kl_within(err, "fileset %s: %s", f->path, blk_file_names[file]);
    return err->code;
}

enum kl_code blk_fileset_small(struct blk_fileset *f, enum blk_file file, struct blk_bytes *tally,
                               void **raw, size_t *size, struct kl_err *err)
{
    const struct blk_digest *d = &f->digests[file];
    void                    *bytes;
    enum kl_code             code;

    if (d->size > (uint64_t)BLK_FRAME_HEAD + BLK_FRAME_RAW_MAX)
        return kl_fail(err, KL_ECORRUPT, "larger than it can be");
    if ((bytes = malloc(d->size + 1)) == NULL)
        return kl_fail(err, KL_ELIMIT, "no memory for %llu bytes", (unsigned long long)d->size);
    code = f->source->read(f->source, file, 0, bytes, d->size, tally, err);
    if (code == KL_ENOENT)
        code = kl_fail(err, KL_ECORRUPT, "missing");
    if (code == KL_OK && kl_hash64_seed(bytes, d->size, f->seed) != d->check)
        code = kl_fail(err, KL_ECORRUPT, "digest does not match");
    if (code == KL_OK)
        code = blk_frame_read(kl_span(bytes, d->size), f->seed, raw, size, err);
    free(bytes);
    return code;
}

enum kl_code blk_fileset_unframe(const struct blk_fileset *f, enum blk_file file,
                                 const struct blk_place *place, const void *bytes, void **raw,
                                 size_t *size, struct kl_err *err)
{
    uint64_t     check;
    enum kl_code code;

    memcpy(&check, bytes, 8);
    if (check != place->check)
        code = kl_fail(err, KL_ECORRUPT, "not the frame that was written");
    else
        code = blk_frame_read(kl_span(bytes, place->size), f->seed, raw, size, err);
    if (code != KL_OK)
        kl_within(err, "fileset %s: %s at %llu", f->path, blk_file_names[file],
                  (unsigned long long)place->offset);
    return code;
}

enum kl_code blk_fileset_frame(struct blk_fileset *f, enum blk_file file,
                               const struct blk_place *place, struct blk_bytes *tally, void **raw,
                               size_t *size, struct kl_err *err)
{
    void        *bytes = malloc(place->size);
    enum kl_code code;

    if (bytes == NULL)
        return kl_fail(err, KL_ELIMIT, "no memory for %u bytes", place->size);
    code = f->source->read(f->source, file, place->offset, bytes, place->size, tally, err);
    if (code == KL_OK)
        code = blk_fileset_unframe(f, file, place, bytes, raw, size, err);
    else
        kl_within(err, "fileset %s: %s at %llu", f->path, blk_file_names[file],
                  (unsigned long long)place->offset);
    free(bytes);
    return code;
}

enum kl_code blk_fileset_page(struct blk_fileset *f, uint32_t number, struct blk_ahead *ahead,
                              struct blk_page *page, struct kl_err *err)
{
    const struct blk_place *place = &f->summaries.pages.at[number];
    void                   *raw;
    size_t                  size;
    enum kl_code            code;

    code = ahead != NULL ? blk_ahead_frame(ahead, number, &raw, &size, err)
                         : blk_fileset_frame(f, BLK_INDEX, place, NULL, &raw, &size, err);
    if (code != KL_OK)
        return code;
    code = blk_page_read(kl_span(raw, size), f->postings, place->first, place->count, page, err);
    free(raw);
    return code == KL_OK ? KL_OK : blk_fileset_corrupt(f, BLK_INDEX, err);
}

enum kl_code blk_fileset_order(struct blk_fileset *f, uint32_t number,
                               uint64_t order[BLK_ORDER_SERIES], struct kl_err *err)
{
    const struct blk_place *place = &f->summaries.order.at[number];
    void                   *raw;
    size_t                  size;
    enum kl_code            code = blk_fileset_frame(f, BLK_INDEX, place, NULL, &raw, &size, err);

    if (code != KL_OK)
        return code;
    code = blk_order_read(kl_span(raw, size), place->count, (uint32_t)f->info.series_count, order,
                          err);
    free(raw);
    return code == KL_OK ? KL_OK : blk_fileset_corrupt(f, BLK_INDEX, err);
}

enum kl_code blk_fileset_data(struct blk_fileset *f, uint32_t number, struct blk_ahead *ahead,
                              struct blk_data **d, struct kl_err *err)
{
    const struct blk_place *place = &f->summaries.data.at[number];
    struct blk_data        *read;
    void                   *raw;
    size_t                  size;

    if ((ahead != NULL ? blk_ahead_frame(ahead, number, &raw, &size, err)
                       : blk_fileset_frame(f, BLK_DATA, place, NULL, &raw, &size, err)) != KL_OK)
        return err->code;
    if (blk_data_read(raw, size, f->info.window_start_ms, number, &read, err) != KL_OK)
        return blk_fileset_corrupt(f, BLK_DATA, err);
    if (read->first != place->first || read->series_count != place->count) {
        blk_data_free(read);
        kl_fail(err, KL_ECORRUPT, "holds other series than summaries say");
        return blk_fileset_corrupt(f, BLK_DATA, err);
    }
    *d = read;
    return KL_OK;
}

static void destroy(struct blk_fileset *f)
{
    blk_kept_free(f->kept);
    if (f->source != NULL)
        f->source->close(f->source);
    blk_postings_free(f->postings);
    blk_summaries_deinit(&f->summaries);
    free(f->postings_raw);
    free(f->bloom_raw);
    free(f);
}

static enum kl_code read_info(struct blk_fileset *f, struct kl_err *err)
{
    char         path[BLK_PATH_MAX + 1];
    void        *raw;
    size_t       size;
    enum kl_code code = blk_fileset_small(f, BLK_INFO, &f->opening, &raw, &size, err);

    if (code == KL_OK) {
        code = blk_info_read(kl_span(raw, size), &f->info, err);
        free(raw);
    }
    if (code == KL_OK) {
        blk_fileset_path(&f->info, path);
        if (strcmp(path, f->path) != 0)
            code = kl_fail(err, KL_ECORRUPT, "belongs to %s", path);
    }
    return code == KL_OK ? KL_OK : blk_fileset_corrupt(f, BLK_INFO, err);
}

static uint64_t end_of(const struct blk_places *p, uint64_t none)
{
    return p->count > 0 ? p->at[p->count - 1].offset + p->at[p->count - 1].size : none;
}

static enum kl_code read_summaries(struct blk_fileset *f, struct kl_err *err)
{
    struct blk_summaries *s = &f->summaries;
    void                 *raw;
    size_t                size;
    enum kl_code          code = blk_fileset_small(f, BLK_SUMMARIES, &f->opening, &raw, &size, err);

    if (code == KL_OK) {
        code = blk_summaries_read(kl_span(raw, size), (uint32_t)f->info.series_count, s, err);
        free(raw);
    }
    if (code == KL_OK &&
        (blk_places_check(&s->data, f->seed) != f->digests[BLK_DATA].check ||
         blk_places_check(&s->order, blk_places_check(&s->pages, f->seed)) !=
             f->digests[BLK_INDEX].check ||
         end_of(&s->data, 0) != f->digests[BLK_DATA].size ||
         end_of(&s->order, end_of(&s->pages, 0)) != f->digests[BLK_INDEX].size))
        code = kl_fail(err, KL_ECORRUPT, "not what digests say of data and index");
    return code == KL_OK ? KL_OK : blk_fileset_corrupt(f, BLK_SUMMARIES, err);
}

static enum kl_code read_small_files(struct blk_fileset *f, struct kl_err *err)
{
    size_t size;

    if (read_info(f, err) != KL_OK || read_summaries(f, err) != KL_OK)
        return err->code;
    if (blk_fileset_small(f, BLK_BLOOM, &f->opening, &f->bloom_raw, &f->bloom_size, err) != KL_OK)
        return blk_fileset_corrupt(f, BLK_BLOOM, err);
    if (!blk_bloom_whole(kl_span(f->bloom_raw, f->bloom_size))) {
        kl_fail(err, KL_ECORRUPT, "not a bloom file of version %d", BLK_VERSION);
        return blk_fileset_corrupt(f, BLK_BLOOM, err);
    }
    if (blk_fileset_small(f, BLK_POSTINGS, &f->opening, &f->postings_raw, &size, err) != KL_OK ||
        blk_postings_read(kl_span(f->postings_raw, size), (uint32_t)f->info.series_count,
                          &f->postings, err) != KL_OK)
        return blk_fileset_corrupt(f, BLK_POSTINGS, err);
    return KL_OK;
}

/* One of `root` and `store`. */
static enum kl_code open_from(struct kl_env_dir *root, struct kl_store *store, const char *path,
                              struct blk_fileset **out, struct kl_err *err)
{
    struct blk_info     named;
    struct blk_fileset *f;

    if (blk_fileset_path_parse(path, &named, err) != KL_OK)
        return err->code;
    f = kl_new(sizeof *f);
    atomic_init(&f->refs, 1);
    strcpy(f->path, path);
    f->seed = blk_seed(&named);
    if ((root != NULL ? blk_source_local(root, &named, f->digests, &f->source, err)
                      : blk_source_store(store, &named, f->digests, &f->opening, &f->source,
                                          err)) != KL_OK) {
        destroy(f);
        return kl_within(err, "fileset %s", path);
    }
    if (read_small_files(f, err) != KL_OK) {
        destroy(f);
        return err->code;
    }
    *out = f;
    return KL_OK;
}

enum kl_code blk_fileset_open_local(struct kl_env_dir *root, const char *path,
                                    struct blk_fileset **f, struct kl_err *err)
{
    return open_from(root, NULL, path, f, err);
}

enum kl_code blk_fileset_open_store(struct kl_store *store, const char *path,
                                    struct blk_fileset **f, struct kl_err *err)
{
    return open_from(NULL, store, path, f, err);
}

static void add(struct blk_bytes *sum, const struct blk_bytes *b)
{
    sum->wanted += b->wanted;
    sum->memory += b->memory;
    sum->disk += b->disk;
    sum->store += b->store;
    sum->shared += b->shared;
    sum->requests += b->requests;
}

void blk_tally_add(struct blk_tally *sum, const struct blk_tally *t)
{
    add(&sum->data, &t->data);
    add(&sum->index, &t->index);
}

struct blk_fileset *blk_fileset_ref(struct blk_fileset *f)
{
    atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
    return f;
}

void blk_fileset_unref(struct blk_fileset *f)
{
    if (f != NULL && atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) == 1)
        destroy(f);
}

const struct blk_bytes *blk_fileset_opening(const struct blk_fileset *f) { return &f->opening; }

const struct blk_info *blk_fileset_info(const struct blk_fileset *f) { return &f->info; }

bool blk_fileset_has_metric(const struct blk_fileset *f, struct kl_span metric)
{
    return blk_postings_has(f->postings, kl_span_str("__name__"), metric);
}

size_t blk_fileset_memory(const struct blk_fileset *f)
{
    return sizeof *f + f->bloom_size + f->source->memory_bytes +
           (f->summaries.data.room + f->summaries.pages.room + f->summaries.order.room) *
               sizeof(struct blk_place) +
           blk_postings_memory(f->postings);
}

void blk_fileset_files(const struct blk_fileset *f, struct blk_file_size files[BLK_FILE_COUNT])
{
    for (unsigned i = 0; i < BLK_FILES; i++)
        files[i] = (struct blk_file_size){ blk_file_names[i], f->digests[i].size };
    files[BLK_FILES] = (struct blk_file_size){ "digests", BLK_DIGESTS_SIZE };
    files[BLK_FILES + 1] = (struct blk_file_size){ "checkpoint", BLK_CHECKPOINT_SIZE };
}

bool blk_fileset_may_have(const struct blk_fileset *f, struct kl_fp fp)
{
    return blk_bloom_may_have(kl_span(f->bloom_raw, f->bloom_size), fp);
}

enum kl_code blk_fileset_reach(struct blk_fileset *f, uint32_t series, struct blk_ahead *ahead,
                               struct blk_page *page, struct kl_err *err)
{
    if (page->count > 0 && series >= page->first && series - page->first < page->count)
        return KL_OK;
    page->count = 0;
    return blk_fileset_page(f, series / BLK_PAGE_SERIES, ahead, page, err);
}

static enum kl_code find_in(struct blk_fileset *f, const uint64_t *order, uint32_t count,
                            struct kl_fp fp, struct blk_page *page, struct kl_buf *labels,
                            struct kl_err *err)
{
    for (uint32_t low = 0, high = count; low < high;) {
        uint32_t mid = low + (high - low) / 2, series = (uint32_t)order[mid];
        struct kl_labels found;
        int              c;

        if (blk_fileset_reach(f, series, NULL, page, err) != KL_OK)
            return err->code;
        found = blk_page_labels(page, f->postings, series - page->first);
        c = kl_fp_cmp(kl_labels_fp(found), fp);
        if (c == 0) {
            kl_buf_add(labels, found.at, found.size);
            return KL_OK;
        }
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return kl_fail(err, KL_ENOENT, "no such series");
}

enum kl_code blk_fileset_find(struct blk_fileset *f, struct kl_fp fp, struct kl_buf *labels,
                              struct kl_err *err)
{
    const struct blk_places *places = &f->summaries.order;
    uint32_t                 low = 0, high = places->count;
    uint64_t                 order[BLK_ORDER_SERIES];
    struct blk_page         *page;
    enum kl_code             code;

    if (places->count == 0 || !blk_fileset_may_have(f, fp))
        return kl_fail(err, KL_ENOENT, "no such series");
    while (high - low > 1) {                           /* the last page that begins at or below fp */
        uint32_t mid = low + (high - low) / 2;
        if (places->at[mid].key <= fp.hi)
            low = mid;
        else
            high = mid;
    }
    if (blk_fileset_order(f, low, order, err) != KL_OK)
        return err->code;
    page = kl_new(sizeof *page);
    code = find_in(f, order, places->at[low].count, fp, page, labels, err);
    blk_page_deinit(page);
    free(page);
    return code;
}

enum kl_code blk_fileset_extras(struct blk_fileset *f, const struct blk_extras_each *each,
                                struct kl_err *err)
{
    void        *raw;
    size_t       size;
    enum kl_code code = blk_fileset_small(f, BLK_EXTRAS, NULL, &raw, &size, err);

    if (code == KL_OK) {
        code = blk_extras_read(kl_span(raw, size), each, err);
        free(raw);
    }
    return code == KL_OK ? KL_OK : blk_fileset_corrupt(f, BLK_EXTRAS, err);
}

enum kl_code blk_fileset_names(struct blk_fileset *f, const struct kl_matcher *m, size_t count,
                               void (*each)(void *ctx, struct kl_span text), void *ctx,
                               struct kl_err *err)
{
    struct blk_ids *within = count > 0 ? blk_postings_match(f->postings, m, count) : NULL;

    (void)err;                                         /* all is in memory, and was checked */
    blk_postings_names(f->postings, within, each, ctx);
    blk_ids_free(within);
    return KL_OK;
}

enum kl_code blk_fileset_values(struct blk_fileset *f, struct kl_span label,
                                const struct kl_matcher *m, size_t count,
                                void (*each)(void *ctx, struct kl_span text), void *ctx,
                                struct kl_err *err)
{
    struct blk_ids *within = count > 0 ? blk_postings_match(f->postings, m, count) : NULL;

    (void)err;
    blk_postings_values(f->postings, label, within, each, ctx);
    blk_ids_free(within);
    return KL_OK;
}
