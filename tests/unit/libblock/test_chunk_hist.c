/*
 * libblock/chunk_hist: histograms of every shape come back field by field, bit for bit; bytes that
 * nobody wrote are refused or stay within their bounds.
 */
#include "libblock/blk_priv.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>

static uint64_t seed;
static uint64_t draw(void)
{
    uint64_t z = seed += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}
static uint64_t below(uint64_t n) { return draw() % n; }

static struct kl_arena made, read_back;
static struct kl_hist  hists[BLK_CHUNK_MAX], back[BLK_CHUNK_MAX];
static int64_t         times[BLK_CHUNK_MAX], times_back[BLK_CHUNK_MAX];
static int64_t         starts[BLK_CHUNK_MAX], starts_back[BLK_CHUNK_MAX];
static struct kl_err   err;

static void setup(void)
{
    kl_arena_init(&made, 256 << 20);
    kl_arena_init(&read_back, 256 << 20);
}
static void teardown(void)
{
    kl_arena_deinit(&made);
    kl_arena_deinit(&read_back);
}

static const struct kl_hist_span *make_spans(uint32_t count, uint32_t *buckets)
{
    struct kl_hist_span *s = kl_arena_alloc(&made, (count + 1) * sizeof *s);

    *buckets = 0;
    for (uint32_t i = 0; i < count; i++) {
        s[i] = (struct kl_hist_span){ (int32_t)below(20) - (i == 0 ? 10 : 0), (uint32_t)below(5) };
        *buckets += s[i].length;
    }
    return count > 0 ? s : NULL;
}

static const double *make_numbers(uint32_t count, const double *before, bool grow, bool whole)
{
    double *n = kl_arena_alloc(&made, (count + 1) * sizeof *n);

    for (uint32_t i = 0; i < count; i++)
        n[i] = (grow && before ? before[i] : 0) + (whole ? (double)below(30) : (double)below(1000) / 7);
    return count > 0 ? n : NULL;
}

/* What a class does from sample to sample; everything may also jump. */
enum class { COUNTER, FLOATS, GAUGE, GROWING, CUSTOM, STALE, EVERYTHING, EMPTY, CLASSES };

static struct kl_hist fresh(enum class class)
{
    struct kl_hist h = { .schema = (int32_t)below(13) - 4, .was_int = class != FLOATS,
                         .reset = (uint8_t)(class == GAUGE ? KL_HIST_GAUGE : below(4)),
                         .zero_threshold = class == FLOATS ? 1e-128 : 0.001 };

    if (class == EMPTY)
        return h;
    h.pos_span_count = 1 + (uint32_t)below(4);
    h.pos_spans = make_spans(h.pos_span_count, &h.pos_count);
    if (class == CUSTOM) {
        h.schema = KL_HIST_CUSTOM;
        h.bound_count = (uint32_t)below(20);
        h.bounds = make_numbers(h.bound_count + 1, NULL, false, false);
    } else {
        h.neg_span_count = (uint32_t)below(3);
        h.neg_spans = make_spans(h.neg_span_count, &h.neg_count);
    }
    h.pos = make_numbers(h.pos_count, NULL, false, h.was_int);
    h.neg = make_numbers(h.neg_count, NULL, false, h.was_int);
    return h;
}

static void make(enum class class, uint32_t n)
{
    struct kl_hist h = fresh(class);

    for (uint32_t i = 0; i < n; i++) {
        if (i > 0 && (class == GROWING ? below(10) == 0 : class == EVERYTHING ? below(3) == 0
                                                                               : below(100) == 0))
            h = fresh(class == EVERYTHING ? (enum class)below(EVERYTHING) : class);
        h.pos = make_numbers(h.pos_count, h.pos, class != GAUGE, h.was_int);
        h.neg = make_numbers(h.neg_count, h.neg, class != GAUGE, h.was_int);
        h.count += (double)below(100);
        h.zero_count += (double)below(3);
        h.sum += (double)below(100000) / 1e3;
        hists[i] = h;
        if (class == STALE && below(9) == 0)
            hists[i] = (struct kl_hist){ .sum = kl_bits_f64(KL_STALE_BITS) };
        times[i] = 1700000000000 + (int64_t)i * 15000 + (int64_t)below(9);
        starts[i] = below(2) ? 0 : 1690000000000;
    }
}

static void same_numbers(const double *a, const double *b, uint32_t n)
{
    ck_assert(n == 0 || memcmp(a, b, n * sizeof *a) == 0);
}

static void same(const struct kl_hist *a, const struct kl_hist *b)
{
    ck_assert(a->schema == b->schema && a->reset == b->reset && a->was_int == b->was_int);
    ck_assert_uint_eq(kl_f64_bits(a->zero_threshold), kl_f64_bits(b->zero_threshold));
    ck_assert_uint_eq(kl_f64_bits(a->zero_count), kl_f64_bits(b->zero_count));
    ck_assert_uint_eq(kl_f64_bits(a->count), kl_f64_bits(b->count));
    ck_assert_uint_eq(kl_f64_bits(a->sum), kl_f64_bits(b->sum));
    ck_assert(a->pos_count == b->pos_count && a->neg_count == b->neg_count &&
              a->pos_span_count == b->pos_span_count && a->neg_span_count == b->neg_span_count &&
              a->bound_count == b->bound_count && (a->bounds == NULL) == (b->bounds == NULL));
    for (uint32_t i = 0; i < a->pos_span_count; i++)
        ck_assert(a->pos_spans[i].offset == b->pos_spans[i].offset &&
                  a->pos_spans[i].length == b->pos_spans[i].length);
    for (uint32_t i = 0; i < a->neg_span_count; i++)
        ck_assert(a->neg_spans[i].offset == b->neg_spans[i].offset &&
                  a->neg_spans[i].length == b->neg_spans[i].length);
    same_numbers(a->pos, b->pos, a->pos_count);
    same_numbers(a->neg, b->neg, a->neg_count);
    same_numbers(a->bounds, b->bounds, a->bound_count);
}

START_TEST(histograms_of_every_class_come_back)
{
    for (unsigned round = 0; round < 30; round++) {
        struct kl_buf         b = { 0 };
        struct blk_chunk_head head;
        uint32_t              n, got;

        seed = (uint64_t)_i * 100 + round;
        n = round < 5 ? round + 1 : round == 5 ? BLK_CHUNK_MAX : 1 + (uint32_t)below(200);
        make((enum class)_i, n);
        blk_chunk_encode_hists(times, hists, round % 2 ? starts : NULL, n, &b);
        ck_assert_int_eq(blk_chunk_peek(kl_buf_span(&b), &head, &err), KL_OK);
        ck_assert(head.kind == BLK_HISTS && head.count == n);
        ck_assert_msg(blk_chunk_decode_hists(kl_buf_span(&b), &read_back, times_back, back,
                                             starts_back, &got, &err) == KL_OK, "%s", err.text);
        ck_assert_uint_eq(got, n);
        ck_assert_int_eq(memcmp(times, times_back, n * 8), 0);
        for (uint32_t i = 0; i < n; i++) {
            same(&hists[i], &back[i]);
            ck_assert_int_eq(starts_back[i], round % 2 ? starts[i] : 0);
        }
        ck_assert_str_eq(blk_chunk_codec(kl_buf_span(&b)), "histogram");
        kl_buf_deinit(&b);
        kl_arena_deinit(&made);
        kl_arena_deinit(&read_back);
    }
}
END_TEST

START_TEST(steady_histogram_costs_little)              /* twenty buckets, hardly any moves */
{
    static double       rows[240][20];
    struct kl_hist_span span = { 0, 20 };
    struct kl_buf       b = { 0 };

    for (uint32_t i = 0; i < 240; i++) {
        for (uint32_t k = 0; k < 20; k++)
            rows[i][k] = (i > 0 ? rows[i - 1][k] : 1000) + (k == 7);
        hists[i] = (struct kl_hist){ .schema = 3, .was_int = true, .count = 20000 + i, .sum = i,
                                     .pos_span_count = 1, .pos_spans = &span, .pos_count = 20,
                                     .pos = rows[i] };
        times[i] = (int64_t)i * 15000;
    }
    blk_chunk_encode_hists(times, hists, NULL, 240, &b);
    ck_assert_uint_le(b.size, 160);                    /* of 240 * 23 * 8 = 44,160 */
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(decode_stops_at_the_arena)                  /* few bytes must not ask for much memory */
{
    struct kl_buf   b = { 0 };
    struct kl_arena small;
    uint32_t        got;

    make(COUNTER, 200);
    blk_chunk_encode_hists(times, hists, NULL, 200, &b);
    kl_arena_init(&small, 1000);
    ck_assert_int_eq(blk_chunk_decode_hists(kl_buf_span(&b), &small, times_back, back, NULL, &got, &err),
                     KL_ELIMIT);
    kl_arena_deinit(&small);
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(flipped_and_cut_histograms_never_lead_outside)
{
    struct kl_buf b = { 0 };
    uint32_t      got;

    seed = (uint64_t)_i;
    make((enum class)_i, 12);
    blk_chunk_encode_hists(times, hists, starts, 12, &b);
    for (size_t at = 0; at < b.size; at++) {
        uint8_t *copy = malloc(b.size);

        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(copy, b.at, b.size);
            copy[at] ^= (uint8_t)(1u << bit);
            enum kl_code code = blk_chunk_decode_hists(kl_span(copy, b.size), &read_back, times_back,
                                                       back, starts_back, &got, &err);
            ck_assert(code == KL_ECORRUPT || code == KL_ELIMIT ||
                      (code == KL_OK && got >= 1 && got <= BLK_CHUNK_MAX));
            kl_arena_deinit(&read_back);
        }
        free(copy);
        copy = malloc(at + 1);
        memcpy(copy, b.at, at + 1);
        if (at + 1 < b.size)
            ck_assert_int_eq(blk_chunk_decode_hists(kl_span(copy, at + 1), &read_back, times_back,
                                                    back, starts_back, &got, &err), KL_ECORRUPT);
        kl_arena_deinit(&read_back);
        free(copy);
    }
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(floats_are_no_histograms)
{
    struct kl_buf b = { 0 };
    double        value = 1;
    uint32_t      got;

    times[0] = 5;
    blk_chunk_encode(times, &value, NULL, 1, &b);
    ck_assert_int_eq(blk_chunk_decode_hists(kl_buf_span(&b), &read_back, times_back, back, NULL, &got,
                                            &err), KL_ECORRUPT);
    kl_buf_deinit(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libblock/chunk_hist");
    TCase *t = tcase_create("all");

    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, histograms_of_every_class_come_back, 0, CLASSES);
    tcase_add_test(t, steady_histogram_costs_little);
    tcase_add_test(t, decode_stops_at_the_arena);
    tcase_add_loop_test(t, flipped_and_cut_histograms_never_lead_outside, 0, CLASSES);
    tcase_add_test(t, floats_are_no_histograms);
    suite_add_tcase(s, t);
    return run_suite(s);
}
