/*
 * libblock: a whole fileset whose checksums are right and whose content is not. Each four bytes of
 * input change one byte of it: which part, where (two bytes), to what. Then it is read in all ways.
 */
#include <stdlib.h>
#include <string.h>

#include "libblock/fileset_priv.h"

enum { SERIES = 40, PARTS = 5, POSTINGS = 0, PAGE, ORDER, FIRST_FRAME, SECOND_FRAME };

static struct kl_buf parts[PARTS];                     /* as a writer makes them */
static uint32_t      frame_first[2], frame_count[2];

static struct kl_fp fps[SERIES];

static void make_labels(uint32_t i, struct kl_buf *out)
{
    static struct kl_labels_builder b;
    struct kl_err err;
    char   n[2] = { (char)('a' + i % 10), 0 };

    kl_labels_start(&b);
    kl_labels_add(&b, kl_span_str("__name__"), kl_span_str(i < 20 ? "one" : "two"), &err);
    kl_labels_add(&b, kl_span_str("job"), kl_span_str(i % 20 < 10 ? "node" : "noise"), &err);
    kl_labels_add(&b, kl_span_str("x"), kl_span_str(n), &err);
    if (kl_labels_finish(&b, out, &err) != KL_OK)
        abort();
}

static void make_frames(void)
{
    struct blk_columns *columns = blk_columns_new(0);
    int64_t             times[30];
    double              values[30];

    for (uint32_t i = 0; i < SERIES; i++) {
        for (uint32_t half = 0; half < 2; half++) {
            struct kl_buf    chunk = { 0 };
            struct blk_parts p;
            struct kl_err    err;

            for (uint32_t k = 0; k < 30; k++) {
                times[k] = (int64_t)(half * 30 + k) * 1000 + (i % 2 ? k % 3 : 0);
                values[k] = i % 3 ? (double)(k * i) : (double)(k * k % 17) / 10;
            }
            blk_chunk_encode(times, values, NULL, 30, &chunk);
            if (blk_chunk_split(kl_buf_span(&chunk), &p, &err) != KL_OK)
                abort();
            blk_columns_add(columns, i, &p);
            kl_buf_deinit(&chunk);
        }
        if (i == SERIES / 2 - 1)
            blk_columns_flush(columns, &parts[FIRST_FRAME], &frame_first[0], &frame_count[0]);
    }
    blk_columns_flush(columns, &parts[SECOND_FRAME], &frame_first[1], &frame_count[1]);
    blk_columns_free(columns);
}

static int by_fp(const void *a, const void *b)
{
    return kl_fp_cmp(fps[*(const uint32_t *)a], fps[*(const uint32_t *)b]);
}

static void make_parts(void)
{
    struct blk_pairs *pairs = blk_pairs_new();
    uint32_t          order[SERIES];

    for (uint32_t i = 0; i < SERIES; i++) {
        struct kl_buf    text = { 0 };
        struct kl_labels l;

        make_labels(i, &text);
        l = (struct kl_labels){ (uint8_t *)text.at, text.size };
        fps[i] = kl_labels_fp(l);
        order[i] = i;
        blk_pairs_series(pairs, l);
        kl_buf_deinit(&text);
    }
    blk_pairs_finish(pairs, &parts[POSTINGS]);
    blk_page_write(pairs, 0, SERIES, &parts[PAGE]);
    qsort(order, SERIES, sizeof *order, by_fp);
    blk_order_write(order, SERIES, SERIES, &parts[ORDER]);
    make_frames();
    blk_pairs_free(pairs);
}

/* Files in memory. */
struct memory { struct blk_source source; struct kl_buf files[BLK_FILES]; };

static enum kl_code read_memory(struct blk_source *s, enum blk_file file, uint64_t offset,
                                void *bytes, size_t size, struct kl_err *err)
{
    const struct kl_buf *b = &((struct memory *)s)->files[file];

    if (offset > b->size || size > b->size - offset)
        return kl_fail(err, KL_EIO, "past the end");
    memcpy(bytes, b->at + offset, size);
    return KL_OK;
}

static void close_memory(struct blk_source *s)
{
    struct memory *m = (struct memory *)s;

    for (unsigned i = 0; i < BLK_FILES; i++)
        kl_buf_deinit(&m->files[i]);
    free(m);
}

static void put_frame(struct blk_zip *z, struct memory *m, enum blk_file file, struct kl_span raw,
                      struct blk_places *places, struct blk_place place)
{
    struct kl_err err;

    place.offset = m->files[file].size;
    if (blk_frame_write(z, 0, raw, &m->files[file], &place.check, &err) != KL_OK)
        abort();
    place.size = (uint32_t)(m->files[file].size - place.offset);
    if (places != NULL)
        blk_places_add(places, place);
}

static void nothing(void *ctx, struct kl_span text) { (void)ctx; (void)text; }

static void read_everything(struct blk_fileset *f)
{
    struct kl_matcher   m[2] = {
        { .op = KL_MATCH_EQ, .name = kl_span("job", 3), .value = kl_span("node", 4) },
        { .op = KL_MATCH_NE, .name = kl_span("x", 1), .value = kl_span("c", 1) },
    };
    struct blk_select  *s;
    struct blk_selected one;
    struct kl_buf       labels = { 0 };
    struct kl_err       err;

    for (size_t n = 0; n < 3; n++) {
        if (blk_select_open(f, m, n, 5000, 40000, n != 1, &s, &err) != KL_OK)
            continue;
        while (blk_select_next(s, &one, &err) == KL_OK)
            for (uint32_t i = 0; i < one.chunk_count; i++)
                blk_chunk_codec(one.chunks[i].bytes);
        blk_select_close(s);
    }
    for (uint32_t i = 0; i < SERIES; i += 7)
        blk_fileset_find(f, fps[i], &labels, &err);
    kl_buf_deinit(&labels);
    blk_fileset_names(f, m, 2, nothing, NULL, &err);
    blk_fileset_values(f, kl_span("x", 1), m, 1, nothing, NULL, &err);
    blk_fileset_verify(f, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size)
{
    static bool         made;
    struct kl_buf       now[PARTS] = { { 0 } };
    static struct blk_zip *z;                          /* dear to make: one for all */
    struct blk_fileset *f = kl_new(sizeof *f);
    struct memory      *m = kl_new(sizeof *m);
    struct kl_buf       extra = { 0 }, bloom = { 0 };
    struct blk_extras  *extras = blk_extras_new();
    struct kl_err       err;
    uint64_t            key;

    if (!made) {
        z = blk_zip_new();
        make_parts();
    }
    made = true;
    for (unsigned i = 0; i < PARTS; i++)
        kl_buf_add(&now[i], parts[i].at, parts[i].size);
    for (; size >= 4; in += 4, size -= 4) {
        struct kl_buf *b = &now[in[0] % PARTS];
        b->at[(in[1] << 8 | in[2]) % b->size] = (char)in[3];
    }
    atomic_init(&f->refs, 1);
    strcpy(f->path, "t/0000/0-00000000000000000001");
    f->info = (struct blk_info){ .tenant = "t", .id = 1, .window_ms = 7200000, .max_ms = 60000,
                                 .series_count = SERIES, .sample_count = SERIES * 60,
                                 .chunk_bytes = 4000 };
    m->source.read = read_memory;
    m->source.close = close_memory;
    m->source.near_bytes = 1000;
    f->source = &m->source;
    put_frame(z, m, BLK_INDEX, kl_buf_span(&now[PAGE]), &f->summaries.pages,
              (struct blk_place){ .count = SERIES });
    memcpy(&key, &fps[0].hi, 8);
    for (uint32_t i = 0; i < SERIES; i++)
        key = fps[i].hi < key ? fps[i].hi : key;
    put_frame(z, m, BLK_INDEX, kl_buf_span(&now[ORDER]), &f->summaries.order,
              (struct blk_place){ .count = SERIES, .key = key });
    for (unsigned i = 0; i < 2; i++)
        put_frame(z, m, BLK_DATA, kl_buf_span(&now[FIRST_FRAME + i]), &f->summaries.data,
                  (struct blk_place){ .first = frame_first[i], .count = frame_count[i] });
    blk_extras_write(extras, &extra);
    put_frame(z, m, BLK_EXTRAS, kl_buf_span(&extra), NULL, (struct blk_place){ 0 });
    f->digests[BLK_EXTRAS] = (struct blk_digest){
        m->files[BLK_EXTRAS].size, kl_hash64(m->files[BLK_EXTRAS].at, m->files[BLK_EXTRAS].size) };
    blk_bloom_write(fps, SERIES, &bloom);
    f->bloom_raw = bloom.at;
    f->bloom_size = bloom.size;
    if (blk_postings_read(kl_buf_span(&now[POSTINGS]), SERIES, &f->postings, &err) == KL_OK)
        read_everything(f);
    blk_fileset_unref(f);
    blk_extras_free(extras);
    kl_buf_deinit(&extra);
    for (unsigned i = 0; i < PARTS; i++)
        kl_buf_deinit(&now[i]);
    return 0;
}
