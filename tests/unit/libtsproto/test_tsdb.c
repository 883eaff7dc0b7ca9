/* libtsproto/tsdb: a block that Prometheus 2.42 wrote (tests/data/prometheus-v2), and blocks that it would not. */
#include "libtsproto/tsdb.h"
#include "tests/suite.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct kl_err err;

struct bytes { uint8_t *at; size_t size; };

static struct bytes load(const char *name)
{
    struct bytes b = { malloc(1 << 20), 0 };
    char         path[200];
    FILE        *f;

    snprintf(path, sizeof path, "tests/data/prometheus-v2/%s", name);
    f = fopen(path, "rb");
    ck_assert_ptr_nonnull(f);
    b.size = fread(b.at, 1, 1 << 20, f);
    fclose(f);
    return b;
}

static struct kl_span section(struct bytes b, uint64_t offset)
{
    struct kl_span content;

    ck_assert_int_eq(tsp_tsdb_section(kl_span(b.at + offset, tsp_tsdb_be32(b.at + offset) + 8u), &content, &err),
                     KL_OK);
    return content;
}

/* ---- what the block holds, as text ---- */

static int64_t        times[TSP_TSDB_SAMPLES_MAX];
static double         values[TSP_TSDB_SAMPLES_MAX];
static struct kl_hist hists[TSP_TSDB_SAMPLES_MAX];

static enum kl_code decode(struct bytes file, uint64_t ref, struct kl_arena *arena, uint8_t *encoding, uint32_t *n)
{
    struct kl_span whole = kl_span(file.at + (uint32_t)ref, file.size - (uint32_t)ref), data;

    ck_assert_uint_eq(ref >> 32, 0);
    whole.size = tsp_tsdb_chunk_size(whole);
    ck_assert_int_eq(tsp_tsdb_chunk_content(whole, encoding, &data, &err), KL_OK);
    return *encoding == TSP_TSDB_XOR ? tsp_tsdb_floats(data, times, values, n, &err)
                                     : tsp_tsdb_hists(data, *encoding == TSP_TSDB_FLOAT_HISTOGRAM, arena, times,
                                                      hists, n, &err);
}

struct world {
    struct bytes             index, chunks;
    struct tsp_tsdb_toc      toc;
    struct tsp_tsdb_symbols *symbols;
    struct kl_span           postings;
    uint32_t                 count;
    struct tsp_tsdb_series   series;
    struct kl_arena          arena;
} w;

static void setup(void)
{
    uint64_t offset;

    w = (struct world){ .index = load("index"), .chunks = load("chunks/000001") };
    kl_arena_init(&w.arena, 1 << 24);
    ck_assert_int_eq(tsp_tsdb_toc_read(w.index.at, w.index.at + w.index.size - TSP_TSDB_TOC, w.index.size, &w.toc, &err),
                     KL_OK);
    ck_assert_uint_eq(w.toc.version, 2);
    ck_assert_int_eq(tsp_tsdb_symbols_new(section(w.index, w.toc.symbols), 2, w.toc.symbols + 4, &w.symbols, &err), KL_OK);
    ck_assert_int_eq(tsp_tsdb_all_series(section(w.index, w.toc.postings_table), &offset, &err), KL_OK);
    w.postings = section(w.index, offset);
    ck_assert_int_eq(tsp_tsdb_postings(w.postings, &w.count, &err), KL_OK);
    ck_assert_int_eq(tsp_tsdb_chunks_head(w.chunks.at, &err), KL_OK);
}

static void teardown(void)
{
    free(w.index.at);
    free(w.chunks.at);
    tsp_tsdb_symbols_free(w.symbols);
    tsp_tsdb_series_deinit(&w.series);
    kl_arena_deinit(&w.arena);
}

static void open_series(uint32_t i)
{
    uint64_t       at = (uint64_t)tsp_tsdb_posting(w.postings, i) * 16;
    struct kl_span whole = kl_span(w.index.at + at, w.index.size - at), content;

    whole.size = tsp_tsdb_series_size(whole);
    ck_assert_int_eq(tsp_tsdb_series_content(whole, &content, &err), KL_OK);
    ck_assert_int_eq(tsp_tsdb_series_read(content, w.symbols, &w.series, &err), KL_OK);
}

static bool is_label(size_t i, const char *name, const char *value)
{
    return kl_span_eq(w.series.labels.pairs[i].name, kl_span_str(name)) &&
           kl_span_eq(w.series.labels.pairs[i].value, kl_span_str(value));
}

static const int64_t t0 = INT64_C(1795990140000);

START_TEST(every_float_of_a_block_comes_back_bit_for_bit)
{
    static const double odd[] = { 0, 0, 1.5, NAN, INFINITY, -INFINITY, 0, 1e300, -1e-300, 12 };
    uint8_t             encoding;
    uint32_t            n, seen = 0;

    ck_assert_uint_eq(w.count, 4);
    open_series(0);
    ck_assert_uint_eq(w.series.labels.count, 2);
    ck_assert(is_label(0, "__name__", "a") && is_label(1, "k", "v"));
    ck_assert_uint_eq(w.series.count, 1);
    ck_assert_int_eq(decode(w.chunks, w.series.chunks[0].ref, &w.arena, &encoding, &n), KL_OK);
    ck_assert_uint_eq(n, 50);
    for (uint32_t i = 0; i < n; i++) {
        ck_assert_int_eq(times[i], t0 + i * 15000 + i % 3);
        if (i % 10 == 6)
            ck_assert(kl_is_stale(values[i]));
        else if (i % 10 == 3)
            ck_assert(isnan(values[i]) && !kl_is_stale(values[i]));
        else
            ck_assert_uint_eq(kl_f64_bits(values[i]), kl_f64_bits(odd[i % 10]));
    }
    open_series(1);
    for (size_t k = 0; k < w.series.count; k++) {
        ck_assert_int_eq(decode(w.chunks, w.series.chunks[k].ref, &w.arena, &encoding, &n), KL_OK);
        ck_assert_int_eq(times[0], w.series.chunks[k].min_ms);
        ck_assert_int_eq(times[n - 1], w.series.chunks[k].max_ms);
        for (uint32_t i = 0; i < n; i++, seen++)
            ck_assert(times[i] == t0 + seen * INT64_C(1000) && values[i] == (double)seen);
    }
    ck_assert_uint_eq(seen, 300);
}
END_TEST

START_TEST(every_histogram_of_a_block_comes_back)
{
    bool         floats = _i == 0;                     /* "float" stands before "int" */
    double       more = floats ? 0.25 : 0;
    uint8_t      encoding;
    uint32_t     n;

    open_series(2 + (uint32_t)_i);
    ck_assert(is_label(0, "__name__", "h") && is_label(1, "kind", floats ? "float" : "int"));
    ck_assert_int_eq(decode(w.chunks, w.series.chunks[0].ref, &w.arena, &encoding, &n), KL_OK);
    ck_assert_uint_eq(encoding, floats ? TSP_TSDB_FLOAT_HISTOGRAM : TSP_TSDB_HISTOGRAM);
    ck_assert_uint_eq(n, 40);
    for (uint32_t i = 0; i < n; i++) {
        const struct kl_hist *h = &hists[i];
        double                pos[] = { i + 1, i + 2, 2 * i + 3, i + 4 }, neg[] = { i, i + 1 };

        ck_assert_int_eq(times[i], t0 + i * 15000);
        ck_assert(h->schema == 2 && h->zero_threshold == 1e-3 && h->was_int == !floats);
        ck_assert(h->sum == i * 0.25 && h->zero_count == i);
        ck_assert(h->count == 8.0 * i + 11 + 6 * more);
        ck_assert_int_eq(h->reset, i == 0 ? KL_HIST_UNKNOWN : KL_HIST_NO_RESET);
        ck_assert(h->pos_count == 4 && h->neg_count == 2 && h->pos_span_count == 2 && h->neg_span_count == 2);
        ck_assert(h->pos_spans[0].offset == -2 && h->pos_spans[0].length == 2 && h->pos_spans[1].offset == 3);
        for (uint32_t k = 0; k < 4; k++)
            ck_assert_double_eq(h->pos[k], pos[k] + more);
        for (uint32_t k = 0; k < 2; k++)
            ck_assert_double_eq(h->neg[k], neg[k] + more);
    }
}
END_TEST

START_TEST(meta_and_tombstones_are_read)
{
    struct bytes           meta = load("meta.json"), stones = load("tombstones");
    struct tsp_tsdb_meta   m;
    struct tsp_tsdb_stone *s;
    size_t                 n;

    ck_assert_int_eq(tsp_tsdb_meta_read(kl_span(meta.at, meta.size), &m, &err), KL_OK);
    ck_assert_str_eq(m.ulid, "01M8MPTGSVYP199VG40S9YYNV3");
    ck_assert(m.min_ms == t0 && m.max_ms == t0 + 735002 && m.samples == 430 && m.series == 4 && m.chunks == 6);
    ck_assert(m.outer_count == 0 && m.resolution_ms == 0);
    tsp_tsdb_meta_deinit(&m);
    ck_assert_int_eq(tsp_tsdb_stones_read(kl_span(stones.at, stones.size), &s, &n, &err), KL_OK);
    ck_assert_uint_eq(n, 1);
    ck_assert(s[0].series == tsp_tsdb_posting(w.postings, 1) && s[0].from_ms == t0 + 10000 && s[0].to_ms == t0 + 19999);
    free(s);
    free(meta.at);
    free(stones.at);
}
END_TEST

static enum kl_code meta_of(const char *json, struct tsp_tsdb_meta *m)
{
    return tsp_tsdb_meta_read(kl_span_str(json), m, &err);
}

START_TEST(labels_and_resolution_of_thanos_are_found_among_all_that_is_passed_over)
{
    struct tsp_tsdb_meta m;

    ck_assert_int_eq(meta_of("{\"x\":[1,{\"ulid\":\"no\"},[[]],null,true,-1.5e3],\"ulid\":\"01ARZ3NDEKTSV4RRFFQ69G5FAV\","
                             "\"minTime\":-5,\"maxTime\":7,\"version\":1,\"stats\":{},\"thanos\":{\"version\":9,\"labels\":"
                             "{\"a\":\"\\u00e4\\n\\ud83d\\ude00\",\"b\":\"\"},\"downsample\":{\"resolution\":300000}}}", &m), KL_OK);
    ck_assert(m.outer_count == 2 && m.resolution_ms == 300000 && m.min_ms == -5 && m.max_ms == 7);
    ck_assert_str_eq(m.outer[0].name, "a");
    ck_assert_str_eq(m.outer[0].value, "\u00e4\n\U0001f600");
    tsp_tsdb_meta_deinit(&m);
}
END_TEST

START_TEST(a_meta_that_is_none_is_refused_with_words)
{
#define ULID "\"ulid\":\"01ARZ3NDEKTSV4RRFFQ69G5FAV\""
    static const char *const bad[] = {
        "", "[]", "{", "{}", "{\"version\":1}", "{" ULID "}", "{" ULID ",\"version\":2}", "{" ULID ",\"version\":1,}",
        "{" ULID ",\"version\":1}x", "{\"ulid\":\"../../../../../etc/passwd\",\"version\":1}", "{" ULID ",\"version\":1,\"a\":\"\\q\"}",
        "{" ULID ",\"version\":1,\"a\":\"\\u00\"}", "{" ULID ",\"version\":1,\"a\":\"\\u0000\"}", "{" ULID ",\"version\":1,\"a\":\"b}",
        "{" ULID ",\"minTime\":9,\"maxTime\":3,\"version\":1}", "{" ULID ",\"version\":1,\"a\":[1}", "{" ULID ",\"version\":1 \"a\":1}",
        "{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}",
    };
    struct tsp_tsdb_meta m;

    err.text[0] = '\0';
    ck_assert_int_eq(meta_of(bad[_i], &m), KL_ECORRUPT);
    ck_assert_uint_gt(strlen(err.text), 10);
}
END_TEST

START_TEST(a_flipped_bit_of_a_chunk_is_found_by_its_checksum)
{
    uint8_t        encoding;
    struct kl_span data, whole;

    for (uint32_t s = 0; s < w.count; s++) {
        open_series(s);
        for (size_t k = 0; k < w.series.count; k++) {
            uint32_t at = (uint32_t)w.series.chunks[k].ref;

            whole = kl_span(w.chunks.at + at, w.chunks.size - at);
            whole.size = tsp_tsdb_chunk_size(whole);
            for (size_t bit = 0; bit < whole.size * 8; bit += 13) {
                w.chunks.at[at + bit / 8] ^= (uint8_t)(1 << bit % 8);
                ck_assert_int_eq(tsp_tsdb_chunk_content(whole, &encoding, &data, &err), KL_ECORRUPT);
                w.chunks.at[at + bit / 8] ^= (uint8_t)(1 << bit % 8);
            }
        }
    }
}
END_TEST

START_TEST(a_chunk_that_is_cut_short_is_corrupt)
{
    uint8_t        encoding;
    struct kl_span data, whole;
    uint32_t       n;

    for (uint32_t s = 0; s < w.count; s++) {
        open_series(s);
        whole = kl_span(w.chunks.at + (uint32_t)w.series.chunks[0].ref, 0);
        whole.size = tsp_tsdb_chunk_size(kl_span(whole.at, 10));
        ck_assert_int_eq(tsp_tsdb_chunk_content(whole, &encoding, &data, &err), KL_OK);
        for (size_t size = 0; size + 1 < data.size; size++) {
            struct kl_span cut = kl_span(data.at, size);

            ck_assert_int_eq(encoding == TSP_TSDB_XOR ? tsp_tsdb_floats(cut, times, values, &n, &err)
                             : tsp_tsdb_hists(cut, encoding == TSP_TSDB_FLOAT_HISTOGRAM, &w.arena, times, hists, &n, &err),
                             KL_ECORRUPT);
            kl_arena_deinit(&w.arena);
        }
    }
}
END_TEST

START_TEST(an_index_of_other_bytes_is_refused)
{
    struct tsp_tsdb_toc toc;
    uint8_t             tail[TSP_TSDB_TOC] = { 0 }, head[TSP_TSDB_INDEX_HEAD];

    memcpy(head, w.index.at, sizeof head);
    ck_assert_int_eq(tsp_tsdb_toc_read(head, tail, 1000, &toc, &err), KL_ECORRUPT);
    head[4] = 3;
    ck_assert_int_eq(tsp_tsdb_toc_read(head, w.index.at + w.index.size - TSP_TSDB_TOC, w.index.size, &toc, &err), KL_ECORRUPT);
    head[4] = 2;
    ck_assert_int_eq(tsp_tsdb_toc_read(head, w.index.at + w.index.size - TSP_TSDB_TOC, 100, &toc, &err), KL_ECORRUPT);
    head[0] = 0;
    ck_assert_int_eq(tsp_tsdb_toc_read(head, w.index.at + w.index.size - TSP_TSDB_TOC, w.index.size, &toc, &err), KL_ECORRUPT);
}
END_TEST

START_TEST(symbols_out_of_order_or_cut_short_are_refused)
{
    static const uint8_t good[] = { 0, 0, 0, 3, 0, 1, 'a', 2, 'a', 'b' }, swapped[] = { 0, 0, 0, 2, 1, 'b', 1, 'a' };
    struct tsp_tsdb_symbols *s;
    struct kl_span           text;

    ck_assert_int_eq(tsp_tsdb_symbols_new(kl_span(good, sizeof good), 2, 9, &s, &err), KL_OK);
    ck_assert(tsp_tsdb_symbol(s, 2, &text) && kl_span_eq(text, kl_span_str("ab")) && !tsp_tsdb_symbol(s, 3, &text));
    tsp_tsdb_symbols_free(s);
    /* Version 1: by where they stand in the file. */
    ck_assert_int_eq(tsp_tsdb_symbols_new(kl_span(good, sizeof good), 1, 9, &s, &err), KL_OK);
    ck_assert(tsp_tsdb_symbol(s, 9 + 7, &text) && kl_span_eq(text, kl_span_str("ab")));
    ck_assert(!tsp_tsdb_symbol(s, 9 + 10, &text) && !tsp_tsdb_symbol(s, 0, &text) && !tsp_tsdb_symbol(s, 9 + 8, &text));
    tsp_tsdb_symbols_free(s);
    ck_assert_int_eq(tsp_tsdb_symbols_new(kl_span(swapped, sizeof swapped), 2, 9, &s, &err), KL_ECORRUPT);
    ck_assert_int_eq(tsp_tsdb_symbols_new(kl_span(good, sizeof good - 1), 2, 9, &s, &err), KL_ECORRUPT);
    ck_assert_int_eq(tsp_tsdb_symbols_new(kl_span(good, 3), 2, 9, &s, &err), KL_ECORRUPT);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tsdb");
    TCase *t = tcase_create("tsdb");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, every_float_of_a_block_comes_back_bit_for_bit);
    tcase_add_loop_test(t, every_histogram_of_a_block_comes_back, 0, 2);
    tcase_add_test(t, meta_and_tombstones_are_read);
    tcase_add_test(t, labels_and_resolution_of_thanos_are_found_among_all_that_is_passed_over);
    tcase_add_loop_test(t, a_meta_that_is_none_is_refused_with_words, 0, 18);
    tcase_add_test(t, a_flipped_bit_of_a_chunk_is_found_by_its_checksum);
    tcase_add_test(t, a_chunk_that_is_cut_short_is_corrupt);
    tcase_add_test(t, an_index_of_other_bytes_is_refused);
    tcase_add_test(t, symbols_out_of_order_or_cut_short_are_refused);
    suite_add_tcase(s, t);
    return run_suite(s);
}
