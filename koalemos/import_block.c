/*
 * A block is never in memory: of its index the symbols are, and 24 bytes a series; all else is read where
 * it is needed, a quarter of a MiB at a time. Series come in the order of their references, which is that of
 * their labels; filesets want them by metric first, and Thanos' labels may put them in another order.
 */
#include "koalemos/import_priv.h"

#include "libkoal/base/hash.h"
#include "libkoal/base/sorted.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { READ_AHEAD = 256 * 1024, SECTION_MAX = 1 << 30, ENTRY_MAX = 64 << 20, CHUNK_MAX = 64 << 20,
       WINDOWS_MAX = 100000, HISTS_ARENA_MAX = 1 << 30, SAMPLES_MAX = 1 << 26 };

/* ---- a file, read a piece at a time ---- */

struct import_file {
    struct kl_env_dir  *dir;
    struct kl_env_view *view;
    uint64_t size, at;                                 /* what `bytes` has is from `at` */
    uint8_t *bytes;
    size_t   have, room;
};

static void file_close(struct import_file *f)
{
    if (f == NULL)
        return;
    f->dir->view_close(f->view);
    free(f->bytes);
    free(f);
}

static enum kl_code file_open(struct kl_env_dir *dir, const char *name, struct import_file **out,
                              struct kl_err *err)
{
    struct import_file *f = kl_new(sizeof *f);

    f->dir = dir;
    if (dir->view(dir, name, &f->view, &f->size, err) != KL_OK) {
        free(f);
        return err->code;
    }
    *out = f;
    return KL_OK;
}

/* `size` bytes at `offset`, or as many as there are. Until the next call. */
static enum kl_code file_read(struct import_file *f, uint64_t offset, size_t size, struct kl_span *bytes,
                              struct kl_err *err)
{
    if (offset > f->size)
        return kl_fail(err, KL_ECORRUPT, "ends at byte %" PRIu64 ", before byte %" PRIu64, f->size, offset);
    if (f->size - offset < size)
        size = (size_t)(f->size - offset);
    if (offset < f->at || offset - f->at > f->have || f->have - (offset - f->at) < size) {
        size_t n = size > READ_AHEAD ? size : READ_AHEAD;

        if (f->size - offset < n)
            n = (size_t)(f->size - offset);
        if (n > f->room) {
            f->room = n;
            f->bytes = kl_resize(f->bytes, f->room);
        }
        f->have = 0;
        if (f->dir->view_read(f->view, offset, f->bytes, n, err) != KL_OK)
            return err->code;
        f->at = offset;
        f->have = n;
    }
    *bytes = kl_span(f->bytes + (offset - f->at), size);
    return KL_OK;
}

/* A section of the index, in memory of its own: free(*all). */
static enum kl_code read_section(struct import_block *b, uint64_t offset, void **all,
                                 struct kl_span *content, struct kl_err *err)
{
    struct kl_span head;
    uint64_t       size;

    if (file_read(b->index, offset, 4, &head, err) != KL_OK)
        return err->code;
    size = head.size == 4 ? (uint64_t)tsp_tsdb_be32(head.at) + 8 : 0;
    if (size > SECTION_MAX)
        return kl_fail(err, KL_ELIMIT, "section of %" PRIu64 " bytes, and 1 GiB is the most", size);
    if (size == 0 || size > b->index->size - offset)
        return kl_fail(err, KL_ECORRUPT, "section is cut short");
    *all = kl_resize(NULL, size);
    if (b->index->dir->view_read(b->index->view, offset, *all, size, err) == KL_OK &&
        tsp_tsdb_section(kl_span(*all, size), content, err) == KL_OK)
        return KL_OK;
    free(*all);
    *all = NULL;
    return err->code;
}

/* ---- the index ---- */

static enum kl_code open_index(struct import_block *b, struct kl_err *err)
{
    struct kl_span head, tail, content;
    uint8_t        first[TSP_TSDB_INDEX_HEAD];

    if (file_open(b->dir, "index", &b->index, err) != KL_OK)
        return err->code;
    if (b->index->size < TSP_TSDB_INDEX_HEAD + TSP_TSDB_TOC)
        return kl_fail(err, KL_ECORRUPT, "has %" PRIu64 " bytes", b->index->size);
    if (file_read(b->index, 0, sizeof first, &head, err) != KL_OK)
        return err->code;
    memcpy(first, head.at, sizeof first);
    if (file_read(b->index, b->index->size - TSP_TSDB_TOC, TSP_TSDB_TOC, &tail, err) != KL_OK ||
        tsp_tsdb_toc_read(first, tail.at, b->index->size, &b->toc, err) != KL_OK)
        return err->code;
    if (read_section(b, b->toc.symbols, &b->symbol_bytes, &content, err) != KL_OK)
        return err->code;
    return tsp_tsdb_symbols_new(content, b->toc.version, b->toc.symbols + 4, &b->symbols, err);
}

static enum kl_code read_series(struct import_block *b, uint32_t ref, struct kl_err *err)
{
    uint64_t       offset = b->toc.version == 1 ? ref : (uint64_t)ref * 16, size;
    struct kl_span bytes, content;

    if (file_read(b->index, offset, TSP_TSDB_SIZE_HEAD, &bytes, err) != KL_OK)
        return err->code;
    size = tsp_tsdb_series_size(bytes);
    if (size == 0 || size > ENTRY_MAX)
        return kl_fail(err, KL_ECORRUPT, "series of %" PRIu64 " bytes", size);
    if (file_read(b->index, offset, (size_t)size, &bytes, err) != KL_OK ||
        tsp_tsdb_series_content(bytes, &content, err) != KL_OK)
        return err->code;
    return tsp_tsdb_series_read(content, b->symbols, &b->series, err);
}

static bool named(const struct kl_labels_builder *l, struct kl_span name, struct kl_span *value)
{
    for (size_t i = 0; i < l->count; i++)
        if (kl_span_eq(l->pairs[i].name, name)) {
            *value = l->pairs[i].value;
            return true;
        }
    return false;
}

/* The labels of the series just read, as they shall be called here, into b->labels. */
static enum kl_code make_labels(struct import_block *b, uint32_t *metric, struct kl_err *err)
{
    const struct tsp_tsdb_meta *m = b->meta;
    struct kl_labels_builder   *l = &b->series.labels;
    struct kl_span              value;
    struct kl_labels            made;

    *metric = named(l, kl_span_str("__name__"), &value)
            ? (uint32_t)((const char *)value.at - (const char *)b->symbol_bytes) : 0;
    for (uint32_t i = 0; i < m->outer_count && b->outer; i++) {
        struct kl_span name = kl_span_str(m->outer[i].name);

        if (strncmp(m->outer[i].name, "__", 2) != 0 && !named(l, name, &value) &&
            kl_labels_add(l, name, kl_span_str(m->outer[i].value), err) != KL_OK)
            return err->code;
    }
    kl_buf_reset(&b->labels);
    if (kl_labels_finish(l, &b->labels, err) != KL_OK)
        return err->code;
    made = (struct kl_labels){ (const uint8_t *)b->labels.at, b->labels.size };
    return kl_labels_check(made, err);
}

/* ---- the first pass ---- */

static int64_t floor_to(int64_t time_ms, int64_t window_ms)
{
    int64_t into = time_ms % window_ms;

    return time_ms - (into < 0 ? into + window_ms : into);
}

static enum kl_code set_windows(struct import_block *b, struct kl_err *err)
{
    const struct tsp_tsdb_meta *m = b->meta;
    __int128                    n;

    if (m->min_ms < -(INT64_C(1) << 61) || m->max_ms > INT64_C(1) << 61)
        return kl_fail(err, KL_ECORRUPT, "meta.json speaks of no time that is one");
    b->first_window_ms = floor_to(m->min_ms, b->window_ms);
    n = ((__int128)m->max_ms - b->first_window_ms) / b->window_ms + 1;
    if (n > WINDOWS_MAX)
        return kl_fail(err, KL_ELIMIT, "is of more than %d windows", WINDOWS_MAX);
    b->window_count = (uint32_t)n;
    b->windows = kl_resize(NULL, b->window_count);
    memset(b->windows, 0, b->window_count);
    return KL_OK;
}

/* Chunks beyond the range that meta.json names are of no block that Prometheus would write. */
static enum kl_code see_chunks(struct import_block *b, struct kl_err *err)
{
    int64_t end_ms = b->first_window_ms + (int64_t)b->window_count * b->window_ms;

    for (size_t i = 0; i < b->series.count; i++) {
        const struct tsp_tsdb_chunk *c = &b->series.chunks[i];

        if (c->min_ms < b->first_window_ms || c->max_ms >= end_ms)
            return kl_fail(err, KL_ECORRUPT, "chunk of the times %" PRId64 " to %" PRId64 " ms, beyond the "
                           "block's", c->min_ms, c->max_ms);
        memset(b->windows + (c->min_ms - b->first_window_ms) / b->window_ms, 1,
               (size_t)((c->max_ms - b->first_window_ms) / b->window_ms -
                        (c->min_ms - b->first_window_ms) / b->window_ms + 1));
    }
    return KL_OK;
}

static enum kl_code take_series(struct import_block *b, uint32_t ref, struct import_row *row,
                                struct kl_err *err)
{
    struct kl_labels l;

    *row = (struct import_row){ .ref = ref };
    if (read_series(b, ref, err) != KL_OK || see_chunks(b, err) != KL_OK ||
        make_labels(b, &row->metric, err) != KL_OK)
        return err->code;
    l = (struct kl_labels){ (const uint8_t *)b->labels.at, b->labels.size };
    row->partition = (uint16_t)tsp_placement_of(b->placement, kl_span_str(b->tenant),
                                                kl_labels_get(l, kl_span_str("__name__")),
                                                kl_labels_fp(l), b->now_ms);
    return KL_OK;
}

/* Corrupt things are passed over where that was asked for. Other failures are the caller's. */
static bool pass_over(struct import_block *b, uint64_t *count, const struct kl_err *err)
{
    if (!b->skip || (err->code != KL_ECORRUPT && err->code != KL_EINVAL && err->code != KL_ELIMIT))
        return false;
    (*count)++;
    kl_logf(b->log, KL_WARN, "import: passed over: %s", err->text);
    return true;
}

static enum kl_code take_all(struct import_block *b, struct kl_span refs, uint32_t count,
                             struct kl_err *err)
{
    struct kl_buf last = { 0 };
    bool          keep = b->outer && b->meta->outer_count > 0;
    uint32_t      before = 0;
    enum kl_code  code = KL_OK;

    b->rows = kl_resize(NULL, ((size_t)count + 1) * sizeof *b->rows);
    for (uint32_t i = 0; i < count && code == KL_OK; i++) {
        uint32_t           ref = tsp_tsdb_posting(refs, i);
        struct import_row *row = &b->rows[b->count];

        code = i > 0 && ref <= before
             ? kl_fail(err, KL_ECORRUPT, "list of all series is out of order")
             : take_series(b, ref, row, err);
        before = ref;
        if (code == KL_OK && !keep && b->count > 0 &&
            kl_labels_cmp((struct kl_labels){ (uint8_t *)last.at, last.size },
                          (struct kl_labels){ (uint8_t *)b->labels.at, b->labels.size }) >= 0)
            code = kl_fail(err, KL_ECORRUPT, "stands behind one that it should stand before");
        if (code != KL_OK) {
            kl_within(err, "index: series %" PRIu32, ref);
            if (pass_over(b, &b->bad_series, err))
                code = KL_OK;
            continue;
        }
        kl_buf_reset(&last);
        kl_buf_add(&last, b->labels.at, b->labels.size);
        if (keep) {
            row->text = b->texts.size;
            row->text_size = (uint32_t)b->labels.size;
            kl_buf_add(&b->texts, b->labels.at, b->labels.size);
        }
        b->count++;
    }
    kl_buf_deinit(&last);
    return code;
}

static struct kl_labels text_of(const struct import_row *r, const struct import_block *b)
{
    return (struct kl_labels){ (const uint8_t *)b->texts.at + r->text, r->text_size };
}

static int in_order(const void *x, const void *y, void *ctx)
{
    const struct import_row *a = x, *c = y;
    const struct import_block *b = ctx;
    int                      cmp;

    if (a->partition != c->partition)
        return a->partition < c->partition ? -1 : 1;
    if (a->metric != c->metric)
        return a->metric < c->metric ? -1 : 1;
    cmp = b->texts.size > 0 ? kl_labels_cmp(text_of(a, b), text_of(c, b)) : 0;
    return cmp != 0 ? cmp : a->ref < c->ref ? -1 : a->ref > c->ref;
}

static enum kl_code sort_rows(struct import_block *b, struct kl_err *err)
{
    if (b->count > 0)
        qsort_r(b->rows, b->count, sizeof *b->rows, in_order, b);
    for (uint32_t i = 1; i < b->count && b->texts.size > 0; i++)
        if (b->rows[i].partition == b->rows[i - 1].partition &&
            kl_labels_cmp(text_of(&b->rows[i], b), text_of(&b->rows[i - 1], b)) == 0)
            return kl_fail(err, KL_ECORRUPT, "series %" PRIu32 " and %" PRIu32 " have the same labels",
                           b->rows[i - 1].ref, b->rows[i].ref);
    return KL_OK;
}

/* Two runs that cut the block alike have the same. */
static uint64_t hash_cut(const struct import_block *b)
{
    const int64_t how[] = { b->window_ms, b->outer };
    uint64_t      hash = kl_hash64(how, sizeof how);

    for (uint32_t i = 0; i < b->count; i++) {
        const uint32_t row[] = { b->rows[i].ref, b->rows[i].partition };

        hash = kl_hash64_seed(row, sizeof row, hash);
    }
    return hash;
}

static enum kl_code read_index(struct import_block *b, struct kl_err *err)
{
    uint64_t       offset = 0;
    uint32_t       count = 0;
    void          *bytes;
    struct kl_span content;
    enum kl_code   code;

    if (open_index(b, err) != KL_OK || read_section(b, b->toc.postings_table, &bytes, &content, err) != KL_OK)
        return err->code;
    code = tsp_tsdb_all_series(content, &offset, err);
    free(bytes);
    if (code != KL_OK || read_section(b, offset, &bytes, &content, err) != KL_OK)
        return err->code;
    code = tsp_tsdb_postings(content, &count, err);
    if (code == KL_OK)
        code = take_all(b, content, count, err);
    free(bytes);
    if (code != KL_OK || sort_rows(b, err) != KL_OK)
        return err->code;
    b->cut = hash_cut(b);
    return KL_OK;
}

static enum kl_code read_stones(struct import_block *b, struct kl_err *err)
{
    void        *bytes;
    size_t       size;
    enum kl_code code = b->dir->read(b->dir, "tombstones", SECTION_MAX, &bytes, &size, err);

    if (code != KL_OK)
        return code == KL_ENOENT ? KL_OK : kl_within(err, "tombstones");
    code = tsp_tsdb_stones_read(kl_span(bytes, size), &b->stones, &b->stone_count, err);
    free(bytes);
    return code == KL_OK ? KL_OK : kl_within(err, "tombstones");
}

enum kl_code import_block_open(struct import_block *b, struct kl_env_dir *dir, struct kl_err *err)
{
    b->dir = dir;
    b->times = kl_resize(NULL, TSP_TSDB_SAMPLES_MAX * sizeof *b->times);
    b->values = kl_resize(NULL, TSP_TSDB_SAMPLES_MAX * sizeof *b->values);
    b->hists = kl_resize(NULL, TSP_TSDB_SAMPLES_MAX * sizeof *b->hists);
    kl_arena_init(&b->arena, HISTS_ARENA_MAX);
    if (set_windows(b, err) != KL_OK || read_stones(b, err) != KL_OK)
        return err->code;
    if (dir->enter(dir, "chunks", false, &b->chunk_dir, err) != KL_OK) {
        b->chunk_dir = NULL;
        return kl_within(err, "chunks");
    }
    return read_index(b, err) == KL_OK ? KL_OK : kl_within(err, "index");
}

void import_block_close(struct import_block *b)
{
    file_close(b->chunks);
    file_close(b->index);
    if (b->chunk_dir != NULL)
        b->chunk_dir->leave(b->chunk_dir);
    tsp_tsdb_symbols_free(b->symbols);
    tsp_tsdb_series_deinit(&b->series);
    kl_buf_deinit(&b->labels);
    kl_buf_deinit(&b->texts);
    kl_arena_deinit(&b->arena);
    free(b->symbol_bytes);
    free(b->stones);
    free(b->rows);
    free(b->windows);
    free(b->times);
    free(b->values);
    free(b->hists);
    free(b->samples_at);
}

/* ---- samples ---- */

static enum kl_code chunk_bytes(struct import_block *b, uint64_t ref, uint8_t *encoding,
                                struct kl_span *data, struct kl_err *err)
{
    uint32_t       file = (uint32_t)(ref >> 32), offset = (uint32_t)ref;
    struct kl_span bytes;
    uint64_t       size;
    char           name[16];

    if (b->chunks == NULL || b->chunk_file != file) {
        file_close(b->chunks);
        b->chunks = NULL;
        snprintf(name, sizeof name, "%06" PRIu64, (uint64_t)file + 1);
        if (file_open(b->chunk_dir, name, &b->chunks, err) != KL_OK)
            return err->code == KL_ENOENT ? kl_fail(err, KL_ECORRUPT, "there is no such file") : err->code;
        b->chunk_file = file;
        if (file_read(b->chunks, 0, TSP_TSDB_CHUNKS_HEAD, &bytes, err) != KL_OK ||
            (bytes.size < TSP_TSDB_CHUNKS_HEAD && kl_fail(err, KL_ECORRUPT, "has %zu bytes", bytes.size) != KL_OK) ||
            tsp_tsdb_chunks_head(bytes.at, err) != KL_OK) {    /* the next that asks shall hear it, too */
            file_close(b->chunks);
            b->chunks = NULL;
            return err->code;
        }
    }
    if (file_read(b->chunks, offset, TSP_TSDB_SIZE_HEAD, &bytes, err) != KL_OK)
        return err->code;
    size = tsp_tsdb_chunk_size(bytes);
    if (size == 0 || size > CHUNK_MAX)
        return kl_fail(err, KL_ECORRUPT, "chunk of %" PRIu64 " bytes", size);
    if (file_read(b->chunks, offset, (size_t)size, &bytes, err) != KL_OK)
        return err->code;
    return tsp_tsdb_chunk_content(bytes, encoding, data, err);
}

static enum kl_code decode(struct import_block *b, uint64_t ref, uint32_t *count, bool *hists,
                           struct kl_err *err)
{
    uint8_t        encoding;
    struct kl_span data;

    if (chunk_bytes(b, ref, &encoding, &data, err) != KL_OK)
        return err->code;
    *hists = encoding != TSP_TSDB_XOR;
    switch (encoding) {
    case TSP_TSDB_XOR:
        return tsp_tsdb_floats(data, b->times, b->values, count, err);
    case TSP_TSDB_HISTOGRAM:
    case TSP_TSDB_FLOAT_HISTOGRAM:
        return tsp_tsdb_hists(data, encoding == TSP_TSDB_FLOAT_HISTOGRAM, &b->arena, b->times, b->hists,
                              count, err);
    default:
        return kl_fail(err, KL_ECORRUPT, "chunk of encoding %u, which is not known", encoding);
    }
}

/* The first of the series' tombstones; `end` past the last. */
static const struct tsp_tsdb_stone *stones_of(const struct import_block *b, uint32_t ref,
                                              const struct tsp_tsdb_stone **end)
{
    size_t first = KL_FIRST(i, b->stone_count, b->stones[i].series >= ref), after = first;

    while (after < b->stone_count && b->stones[after].series == ref)
        after++;
    *end = b->stones + after;
    return b->stones + first;
}

static enum kl_code take_chunk(struct import_block *b, const struct import_row *row,
                               const struct tsp_tsdb_chunk *c, int64_t from_ms, int64_t to_ms,
                               struct kl_err *err)
{
    const struct tsp_tsdb_stone *end, *s = stones_of(b, row->ref, &end);
    uint32_t n = 0;
    bool     hists = false;

    if (decode(b, c->ref, &n, &hists, err) != KL_OK)
        return kl_within(err, "chunks/%06" PRIu64 ", byte %" PRIu32, (c->ref >> 32) + 1, (uint32_t)c->ref);
    if (b->sample_count + n > SAMPLES_MAX)
        return kl_fail(err, KL_ELIMIT, "more than %d samples of one series in one window", SAMPLES_MAX);
    if (b->sample_count + n > b->sample_room) {
        b->sample_room = (b->sample_count + n) * 2;
        b->samples_at = kl_resize(b->samples_at, b->sample_room * sizeof *b->samples_at);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct kl_hist *kept = NULL;

        if (b->times[i] < from_ms || b->times[i] >= to_ms)
            continue;
        while (s < end && s->to_ms < b->times[i])      /* times rise: it hides none of the later ones */
            s++;
        if (s < end && s->from_ms <= b->times[i]) {
            b->deleted++;
            continue;
        }
        if (hists && (kept = kl_arena_copy(&b->arena, &b->hists[i], sizeof b->hists[i])) == NULL)
            return kl_fail(err, KL_ELIMIT, "a series of more than %d MiB of histograms", HISTS_ARENA_MAX >> 20);
        b->samples_at[b->sample_count] = (struct import_sample){ b->times[i], hists ? 0 : b->values[i], kept,
                                                                 (uint32_t)b->sample_count };
        b->sample_count++;
        b->histograms += hists;
    }
    return KL_OK;
}

static int by_time(const void *x, const void *y)
{
    const struct import_sample *a = x, *b = y;

    if (a->time_ms != b->time_ms)
        return a->time_ms < b->time_ms ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

/* Chunks that overlap: rising times, of equal ones the last. */
static void settle(struct import_block *b)
{
    struct import_sample *s = b->samples_at;
    size_t                kept = 0;
    bool                  rising = true;

    for (size_t i = 1; i < b->sample_count && rising; i++)
        rising = s[i - 1].time_ms < s[i].time_ms;
    if (rising)
        return;
    qsort(s, b->sample_count, sizeof *s, by_time);
    for (size_t i = 0; i < b->sample_count; i++)
        if (i + 1 == b->sample_count || s[i].time_ms != s[i + 1].time_ms)
            s[kept++] = s[i];
    b->sample_count = kept;
}

/* Where a corrupt chunk spans windows, it is counted in the one in which it begins. */
static enum kl_code take_chunks(struct import_block *b, const struct import_row *row, int64_t from_ms,
                                int64_t to_ms, struct kl_err *err)
{
    for (size_t i = 0; i < b->series.count; i++) {
        const struct tsp_tsdb_chunk *c = &b->series.chunks[i];
        uint64_t                     unheard = 0;

        if (c->max_ms < from_ms || c->min_ms >= to_ms || take_chunk(b, row, c, from_ms, to_ms, err) == KL_OK)
            continue;
        if (!pass_over(b, c->min_ms >= from_ms ? &b->bad_chunks : &unheard, err))
            return err->code;
    }
    return KL_OK;
}

enum kl_code import_block_samples(struct import_block *b, const struct import_row *row, int64_t from_ms,
                                  int64_t to_ms, struct kl_labels *labels, struct kl_err *err)
{
    uint32_t metric;

    if (b->arena.used_bytes > 0)
        kl_arena_deinit(&b->arena);
    b->sample_count = 0;
    if (read_series(b, row->ref, err) != KL_OK || make_labels(b, &metric, err) != KL_OK)
        return kl_within(err, "index: series %" PRIu32, row->ref);
    if (take_chunks(b, row, from_ms, to_ms, err) != KL_OK)
        return err->code;
    settle(b);
    b->samples += b->sample_count;
    *labels = (struct kl_labels){ (const uint8_t *)b->labels.at, b->labels.size };
    return KL_OK;
}
