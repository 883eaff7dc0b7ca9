/*
 * libblock/rollup: over aligned times the folds that are promised to be exact take from rows what they
 * take from samples, bit for bit; the folds here are written down a second time, as Prometheus has them.
 */
#include "libblock/rollup.h"

#include <check.h>
#include <math.h>

#include "tests/suite.h"
#include "tests/unit/libblock/fileset_kit.h"

enum { SAMPLES = 4000, EACH = 250 };
static struct kl_err err;
static int64_t times[SAMPLES];
static double  values[SAMPLES];

struct fold { double min, max, first, last, count, sum; };

/* [from, to) of (time, value) pairs. */
static struct fold fold(const double *min, const double *max, const double *first, const double *last,
                        const double *count, const int64_t *at, size_t n, int64_t after, int64_t up_to)
{
    struct fold f = { 0 };

    for (size_t i = 0; i < n; i++) {
        if (at[i] <= after || at[i] > up_to || kl_is_stale(last[i]))
            continue;
        if (f.count == 0) {
            f.min = min[i];
            f.max = max[i];
            f.first = first[i];
        }
        if (f.min > min[i] || isnan(f.min))
            f.min = min[i];
        if (f.max < max[i] || isnan(f.max))
            f.max = max[i];
        f.last = last[i];
        f.count += count == NULL ? 1 : count[i];
    }
    return f;
}

static void make(int kind)
{
    static const double odd[] = { NAN, -0.0, 0.0, INFINITY, -INFINITY, 1e300, -1e300 };
    int64_t             t = -7000000;

    kit_seed = 9 + (uint64_t)kind;
    for (int i = 0; i < SAMPLES; i++) {
        t += kind % 3 == 0 ? 15000 : 1 + (int64_t)(kit_draw() % 40000);
        if (kit_draw() % 50 == 0)
            t = blk_bucket_end(t, 300000);             /* at bounds, too */
        times[i] = t;
        values[i] = kit_draw() % 4 == 0 && kind % 2 ? odd[kit_draw() % 7] : (double)(kit_draw() % 1000) / 8;
        if (kit_draw() % 30 == 0)
            values[i] = kl_bits_f64(KL_STALE_BITS);
        if (i > 0 && times[i] <= times[i - 1])
            times[i] = t = times[i - 1] + 1;
    }
}

START_TEST(rows_give_what_samples_give_over_aligned_ranges)
{
    int64_t                     resolution = blk_rollup_ms[_i % 2];
    struct blk_roll            *r = blk_roll_new(resolution);
    struct blk_chunk_ref        refs[SAMPLES / EACH];
    struct kl_buf               b = { 0 };
    size_t                      ends[SAMPLES / EACH + 1] = { 0 }, n = 0;
    const struct blk_chunk_ref *rows;
    static int64_t              at[SAMPLES];
    static double               min[SAMPLES], max[SAMPLES], first[SAMPLES], last[SAMPLES], count[SAMPLES];
    uint32_t                    row_chunks;

    make(_i / 2);
    for (int i = 0; i < SAMPLES / EACH; i++) {
        blk_chunk_encode(times + i * EACH, values + i * EACH, NULL, EACH, &b);
        ends[i + 1] = b.size;
        refs[i] = (struct blk_chunk_ref){ .first_ms = times[i * EACH], .last_ms = times[i * EACH + EACH - 1],
                                          .count = EACH, .kind = BLK_FLOATS };
    }
    for (int i = 0; i < SAMPLES / EACH; i++)
        refs[i].bytes = kl_span(b.at + ends[i], ends[i + 1] - ends[i]);
    ck_assert_int_eq(blk_roll_series(r, refs, SAMPLES / EACH, &rows, &row_chunks, &err), KL_OK);
    for (uint32_t c = 0; c < row_chunks; c++) {
        static struct kl_hist h[BLK_CHUNK_MAX];
        struct kl_arena       arena;
        uint32_t              k;

        kl_arena_init(&arena, 1 << 24);
        ck_assert_int_eq(blk_chunk_decode_hists(rows[c].bytes, &arena, at + n, h, NULL, &k, &err), KL_OK);
        for (uint32_t i = 0; i < k; i++, n++) {
            struct blk_row row;

            ck_assert(blk_row_get(&h[i], &row));
            min[n] = row.min, max[n] = row.max, first[n] = row.first, last[n] = row.last, count[n] = row.count;
            ck_assert(row.count >= 1 && row.since_ms >= 0 && row.since_ms < (double)resolution);
            ck_assert(n == 0 || blk_bucket_end(at[n], resolution) > blk_bucket_end(at[n - 1], resolution));
        }
        kl_arena_deinit(&arena);
    }
    ck_assert_uint_lt(n, SAMPLES);
    for (int64_t to = blk_bucket_end(times[0], resolution); to < times[SAMPLES - 1] + resolution; to += resolution)
        for (int64_t range = resolution; range <= 4 * resolution; range += resolution) {
            struct fold x = fold(values, values, values, values, NULL, times, SAMPLES, to - range, to);
            struct fold y = fold(min, max, first, last, count, at, n, to - range, to);

            ck_assert(x.count == y.count && kl_f64_bits(x.min) == kl_f64_bits(y.min) &&
                      kl_f64_bits(x.max) == kl_f64_bits(y.max) && kl_f64_bits(x.last) == kl_f64_bits(y.last) &&
                      kl_f64_bits(x.first) == kl_f64_bits(y.first));
        }
    kl_buf_deinit(&b);
    blk_roll_free(r);
}
END_TEST

START_TEST(series_that_has_histograms_stays_as_it_is)
{
    struct blk_roll            *r = blk_roll_new(300000);
    struct blk_chunk_ref        refs[2] = { { .kind = BLK_FLOATS, .count = 5 }, { .kind = BLK_HISTS, .count = 3 } };
    const struct blk_chunk_ref *out;
    uint32_t                    n;

    ck_assert_int_eq(blk_roll_series(r, refs, 2, &out, &n, &err), KL_OK);
    ck_assert(out == refs && n == 2);
    blk_roll_free(r);
}
END_TEST

/* The rows of five minutes that one chunk of floats becomes. */
struct rolled {
    struct blk_roll            *r;
    struct kl_buf               b;
    struct kl_arena             arena;
    const struct blk_chunk_ref *out;
    int64_t                     at[8], starts[8];
    struct kl_hist              h[8];
    uint32_t                    n;
};

static void roll(struct rolled *x, const int64_t *t, const double *v, const int64_t *st, uint32_t count)
{
    struct blk_chunk_ref ref = { .count = count, .kind = BLK_FLOATS, .first_ms = t[0], .last_ms = t[count - 1] };

    *x = (struct rolled){ .r = blk_roll_new(300000) };
    blk_chunk_encode(t, v, st, count, &x->b);
    ref.bytes = kl_buf_span(&x->b);
    ck_assert_int_eq(blk_roll_series(x->r, &ref, 1, &x->out, &x->n, &err), KL_OK);
    ck_assert_uint_eq(x->n, 1);
    ck_assert_uint_le(x->out->count, 8);
    kl_arena_init(&x->arena, 1 << 20);
    ck_assert_int_eq(blk_chunk_decode_hists(x->out->bytes, &x->arena, x->at, x->h, x->starts, &x->n, &err), KL_OK);
}

static void rolled_end(struct rolled *x)
{
    kl_arena_deinit(&x->arena);
    kl_buf_deinit(&x->b);
    blk_roll_free(x->r);
}

START_TEST(counters_lose_nothing_at_resets)
{
    static const int64_t t[] = { 1000, 2000, 3000, 4000, 5000, 6000 };
    static const double  v[] = { 5, 9, 2, 7, 1, 3 };
    struct rolled        x;
    struct blk_row       row;

    roll(&x, t, v, NULL, 6);
    ck_assert(x.n == 1 && blk_row_get(&x.h[0], &row));
    ck_assert(row.last - row.first + row.resets == 4 + 2 + 5 + 1 + 2);     /* the increase */
    ck_assert(row.since_ms == 5000 && row.sum == 27);
    rolled_end(&x);
}
END_TEST

START_TEST(start_times_of_the_first_and_the_last_sample_are_kept_and_beginnings_counted)
{
    static const int64_t t[] = { 301000, 302000, 303000, 304000, 601000, 602000, 901000, 1201000, 1202000 };
    static const int64_t st[] = { 1000, 1000, 302500, 302500, 302500, 302500, 0, 0, 1201500 };
    static const double  v[] = { 5, 9, 20, 21, 30, 31, 40, 50, 60 };
    static const double  resets[] = { 9, 0, 0, 50 };
    static const int64_t first[] = { 1000, 302500, 0, 0 }, last[] = { 302500, 302500, 0, 1201500 };
    struct rolled        x;
    struct blk_row       row;

    roll(&x, t, v, st, 9);
    ck_assert_uint_eq(x.n, 4);
    for (uint32_t i = 0; i < x.n; i++) {
        ck_assert(blk_row_get(&x.h[i], &row));
        ck_assert_double_eq(row.resets, resets[i]);
        ck_assert_int_eq(x.starts[i], last[i]);
        ck_assert_int_eq(blk_row_begun(&row, x.starts[i]), first[i]);
    }
    rolled_end(&x);
}
END_TEST

/* FORMAT.md, "Rollups": whoever reads rows later goes by it. */
START_TEST(row_lies_as_the_format_says)
{
    static const int64_t  t[] = { 300001, 400000, 600000 };
    static const double   v[] = { 5, 9, 2 }, buckets[] = { 2, 9, 5, 2, 9 };
    struct rolled         x;
    const struct kl_hist *h = x.h;

    roll(&x, t, v, NULL, 3);
    ck_assert(x.n == 1 && x.out->count == 1 && x.out->kind == BLK_HISTS);
    ck_assert_int_eq(x.at[0], 600000);
    ck_assert(h->schema == 100 && h->reset == 3 && h->count == 3 && h->sum == 16 && h->zero_threshold == 0 &&
              h->zero_count == 299999 && h->neg_span_count == 0);
    ck_assert(h->pos_span_count == 1 && h->pos_spans->offset == 0 && h->pos_spans->length == 5 && h->pos_count == 5);
    ck_assert_int_eq(memcmp(h->pos, buckets, sizeof buckets), 0);
    rolled_end(&x);
}
END_TEST

START_TEST(rollups_have_names_of_their_own)
{
    struct blk_info info = { .tenant = "t", .partition = 3, .window_start_ms = -5, .id = 9, .generation = 7,
                             .resolution_ms = 300000 }, back;
    char            path[BLK_PATH_MAX + 1];

    blk_fileset_path(&info, path);
    ck_assert_str_eq(path, "t/0003/-5-00000000000000000009.7r300");
    ck_assert_int_eq(blk_fileset_path_parse(path, &back, &err), KL_OK);
    ck_assert(back.resolution_ms == 300000 && back.generation == 7 && back.id == 9);
    ck_assert_int_ne(blk_fileset_path_parse("t/0003/-5-00000000000000000009.7r0", &back, &err), KL_OK);
    ck_assert_int_ne(blk_fileset_path_parse("t/0003/-5-00000000000000000009.7r", &back, &err), KL_OK);
    ck_assert_int_ne(blk_fileset_path_parse("t/0003/-5-00000000000000000009.7r0300", &back, &err), KL_OK);
    ck_assert_int_ne(blk_fileset_path_parse("t/0003/-5-00000000000000000009.7r99999999999", &back, &err), KL_OK);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libblock/rollup");
    TCase *t = tcase_create("all");

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, rows_give_what_samples_give_over_aligned_ranges, 0, 12);
    tcase_add_test(t, series_that_has_histograms_stays_as_it_is);
    tcase_add_test(t, counters_lose_nothing_at_resets);
    tcase_add_test(t, start_times_of_the_first_and_the_last_sample_are_kept_and_beginnings_counted);
    tcase_add_test(t, row_lies_as_the_format_says);
    tcase_add_test(t, rollups_have_names_of_their_own);
    suite_add_tcase(s, t);
    return run_suite(s);
}
