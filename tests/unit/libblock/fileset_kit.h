#ifndef BLK_FILESET_KIT_H
#define BLK_FILESET_KIT_H
/* What the tests of filesets share: series to write, a store in memory. Header only: each test of
 * this folder is one file. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "libblock/fileset.h"
#include "libkoal/base/match.h"

static uint64_t kit_seed;
static inline uint64_t kit_draw(void)
{
    uint64_t z = kit_seed += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* ---- a store in memory ---- */
struct kit_object { char key[KL_STORE_KEY_MAX + 1]; uint8_t *bytes; size_t size; };
struct kit_store { struct kl_store store; struct kit_object objects[32]; unsigned count, gets; };

static struct kit_object *kit_find(struct kl_store *s, const char *key)
{
    struct kit_store *k = (struct kit_store *)s;
    for (unsigned i = 0; i < k->count; i++)
        if (strcmp(k->objects[i].key, key) == 0)
            return &k->objects[i];
    return NULL;
}
static enum kl_code kit_put(struct kl_store *s, const char *key, struct kl_span b, struct kl_err *err)
{
    struct kit_store  *k = (struct kit_store *)s;
    struct kit_object *o;
    if (kit_find(s, key) != NULL)
        return kl_fail(err, KL_EEXIST, "there");
    o = &k->objects[k->count++];
    strcpy(o->key, key);
    o->bytes = malloc(b.size + 1);
    memcpy(o->bytes, b.at, b.size);
    o->size = b.size;
    return KL_OK;
}
static enum kl_code kit_get(struct kl_store *s, const char *key, uint64_t at, void *b, size_t n,
                            struct kl_err *err)
{
    struct kit_object *o = kit_find(s, key);
    ((struct kit_store *)s)->gets++;
    if (o == NULL)
        return kl_fail(err, KL_ENOENT, "none");
    if (at > o->size || n > o->size - at)
        return kl_fail(err, KL_EIO, "past the end");
    memcpy(b, o->bytes + at, n);
    return KL_OK;
}
static enum kl_code kit_head(struct kl_store *s, const char *key, uint64_t *n, struct kl_err *err)
{
    struct kit_object *o = kit_find(s, key);
    if (o == NULL)
        return kl_fail(err, KL_ENOENT, "none");
    *n = o->size;
    return KL_OK;
}
static inline void kit_store_init(struct kit_store *k)
{
    memset(k, 0, sizeof *k);
    k->store.put = kit_put;
    k->store.get = kit_get;
    k->store.head = kit_head;
}
static inline void kit_store_deinit(struct kit_store *k)
{
    for (unsigned i = 0; i < k->count; i++)
        free(k->objects[i].bytes);
}

/* ---- series ---- */
enum { KIT_SERIES_MAX = 4096, KIT_SAMPLES_MAX = 2048 };
struct kit_series {
    uint8_t labels[512]; size_t labels_size; struct kl_fp fp;
    bool hists;
    uint32_t count;
    int64_t *times; double *values;
};
static struct kit_series kit[KIT_SERIES_MAX];
static uint32_t          kit_count;

static inline struct kl_labels kit_labels(const struct kit_series *s)
{
    return (struct kl_labels){ s->labels, s->labels_size };
}
static inline struct kl_span kit_text(const char *s) { return kl_span(s, strlen(s)); }

/* "name", "value", ... NULL */
static inline void kit_name(struct kit_series *s, const char *const *pairs)
{
    static struct kl_labels_builder b;
    struct kl_buf out = { 0 };
    struct kl_err err;

    kl_labels_start(&b);
    for (; *pairs != NULL; pairs += 2)
        ck_assert_int_eq(kl_labels_add(&b, kit_text(pairs[0]), kit_text(pairs[1]), &err), KL_OK);
    ck_assert_int_eq(kl_labels_finish(&b, &out, &err), KL_OK);
    ck_assert_uint_le(out.size, sizeof s->labels);
    memcpy(s->labels, out.at, out.size);
    s->labels_size = out.size;
    s->fp = kl_labels_fp(kit_labels(s));
    kl_buf_deinit(&out);
}

static inline int kit_order(const void *a, const void *b)
{
    const struct kit_series *x = a, *y = b;
    struct kl_span name = kit_text("__name__");
    int c = kl_span_cmp(kl_labels_get(kit_labels(x), name), kl_labels_get(kit_labels(y), name));
    return c != 0 ? c : kl_labels_cmp(kit_labels(x), kit_labels(y));
}

/* A plausible set: `n` series of a few metrics, instances and devices; every ninth of histograms. */
static inline void kit_make(uint64_t seed, uint32_t n, uint32_t samples, int64_t from_ms,
                            int64_t step_ms)
{
    kit_seed = seed;
    kit_count = n;
    for (uint32_t i = 0; i < n; i++) {
        struct kit_series *s = &kit[i];
        char metric[32], instance[32], device[32];
        const char *pairs[] = { "__name__", metric, "instance", instance, "device", device,
                                i % 3 == 0 ? "env" : "zone", i % 2 ? "prod" : "a\xc3\xa9", NULL };
        double at = (double)(kit_draw() % 1000);

        snprintf(metric, sizeof metric, "metric_%02u_total", i % 7);
        snprintf(instance, sizeof instance, "host-%03u:9100", i / 7 % 40);
        snprintf(device, sizeof device,
                 i < 280 && i % 5 == 0 ? "" : "sd%c",
                 'a' + (int)(i / 280));
        kit_name(s, pairs);
        s->hists = i % 9 == 4;
        s->count = samples;
        s->times = realloc(s->times, samples * 8);
        s->values = realloc(s->values, samples * 8);
        for (uint32_t k = 0; k < samples; k++) {
            s->times[k] = from_ms + (int64_t)k * step_ms + (int64_t)(i / 7 % 40);
            s->values[k] = i % 4 ? (at += (double)(kit_draw() % 50) / 4) : at;
        }
    }
    qsort(kit, n, sizeof *kit, kit_order);
}

static const struct kl_hist_span kit_spans[1] = { { -2, 3 } };
static inline struct kl_hist kit_hist(const struct kit_series *s, uint32_t k, double buckets[3])
{
    for (unsigned b = 0; b < 3; b++)
        buckets[b] = (double)(k * (b + 1));
    return (struct kl_hist){ .schema = 3, .reset = k == 0 ? KL_HIST_RESET : KL_HIST_NO_RESET,
                             .was_int = true, .zero_threshold = 1e-128, .zero_count = k,
                             .count = (double)(k * 7), .sum = s->values[k], .pos_span_count = 1,
                             .pos_count = 3, .pos_spans = kit_spans, .pos = buckets };
}

/* Chunks of at most `each` samples of a series, appended to `bytes`; refs are set at the end. */
static inline uint32_t kit_chunks(const struct kit_series *s, uint32_t each, struct kl_buf *bytes,
                                  struct blk_chunk_ref *refs)
{
    static struct kl_hist h[BLK_CHUNK_MAX];
    static double buckets[BLK_CHUNK_MAX][3];
    static size_t ends[KIT_SAMPLES_MAX + 1];
    uint32_t n = 0;

    kl_buf_reset(bytes);
    for (uint32_t from = 0; from < s->count; from += each, n++) {
        uint32_t count = s->count - from < each ? s->count - from : each;
        if (s->hists) {
            for (uint32_t k = 0; k < count; k++)
                h[k] = kit_hist(s, from + k, buckets[k]);
            blk_chunk_encode_hists(s->times + from, h, NULL, count, bytes);
        } else {
            blk_chunk_encode(s->times + from, s->values + from, NULL, count, bytes);
        }
        ends[n] = bytes->size;
        refs[n] = (struct blk_chunk_ref){ .first_ms = s->times[from], .count = count,
                                          .last_ms = s->times[from + count - 1],
                                          .kind = s->hists ? BLK_HISTS : BLK_FLOATS };
    }
    for (uint32_t i = 0; i < n; i++)
        refs[i].bytes = kl_span(bytes->at + (i > 0 ? ends[i - 1] : 0),
                                ends[i] - (i > 0 ? ends[i - 1] : 0));
    return n;
}

static struct blk_chunk_ref kit_refs[KIT_SAMPLES_MAX];

/* All of `kit`, in chunks of `each` samples. */
static inline enum kl_code kit_write(struct kl_env_dir *root, const struct blk_info *info,
                                     uint32_t each, struct blk_info *done, struct kl_err *err)
{
    struct blk_writer *w;
    struct kl_buf      bytes = { 0 };
    enum kl_code       code = blk_writer_open(root, info, &w, err);

    if (code != KL_OK)
        return code;
    for (uint32_t i = 0; i < kit_count && code == KL_OK; i++) {
        uint32_t n = kit_chunks(&kit[i], each, &bytes, kit_refs);
        code = blk_writer_series(w, kit_labels(&kit[i]), kit[i].fp, kit_refs, n, err);
    }
    kl_buf_deinit(&bytes);
    if (code != KL_OK) {
        blk_writer_abandon(w);
        return code;
    }
    blk_writer_metadata(w, kit_text("metric_01_total"), 1, kit_text("s"), kit_text("help"), err);
    if (kit_count > 0)
        blk_writer_exemplar(w, kit[0].fp, kit[0].times[0], 0.5, kit_labels(&kit[0]), err);
    return blk_writer_finish(w, done, err);
}
#endif
