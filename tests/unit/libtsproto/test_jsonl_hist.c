/* libtsproto/jsonl_hist and jsonl_put: native histograms as JSON lines, and back bit for bit. */
#include "libtsproto/jsonl.h"
#include "libtsproto/record.h"
#include "tests/suite.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct tsp_jsonl *jsonl;
static struct kl_arena   arena;
static struct kl_buf     text;
static struct kl_err     err;
static struct kl_hist    got;
static int64_t           got_time, got_start;

static void setup(void)
{
    jsonl = tsp_jsonl_new();
    kl_arena_init(&arena, 16 << 20);
    kl_buf_init(&text, 0);
}

static void teardown(void)
{
    tsp_jsonl_free(jsonl);
    kl_arena_deinit(&arena);
    kl_buf_deinit(&text);
}

static struct tsp_jsonl_series series_of(const char *hists)
{
    struct tsp_jsonl_series s;

    kl_buf_reset(&text);
    kl_buf_addf(&text, "{\"metric\":{\"a\":\"b\"},\"histograms\":[%s]}", hists);
    tsp_jsonl_open(jsonl, kl_buf_span(&text));
    ck_assert_int_eq(tsp_jsonl_next(jsonl, &s, &err), TSP_JSONL_SERIES);
    return s;
}

/* "" or why it was refused */
static const char *read_one(const char *hist)
{
    struct tsp_jsonl_series s = series_of(hist);

    ck_assert_uint_eq(s.hist_count, 1);
    return tsp_jsonl_walk_hist(&s, &arena, &got_time, &got_start, &got, &err) ? "" : err.text;
}

static void same(const struct kl_hist *a, const struct kl_hist *b)
{
    struct kl_buf x = { 0 }, y = { 0 };

    tsp_hist_put(&x, a);
    tsp_hist_put(&y, b);
    ck_assert_uint_eq(x.size, y.size);
    ck_assert_mem_eq(x.at, y.at, x.size);
    kl_buf_deinit(&x);
    kl_buf_deinit(&y);
}

static const struct kl_hist_span two[] = { { -3, 2 }, { 5, 1 } }, one[] = { { 0, 3 } };
static const double ints[] = { 7, 2, 9007199254740000 }, floats[] = { 0.1, 1e300, 5e-324 }, bounds[] = { -1.5, 0, 1e-7 };
static const double few[] = { 11 };
static const double strange[] = { 0, -0.0, INFINITY };

static const struct { struct kl_hist h; const char *json; } both_ways[] = {
    { { .was_int = true }, "{\"timestamp\":\"5\",\"countInt\":\"0\"}" },
    { { .schema = 3, .was_int = true, .reset = KL_HIST_RESET, .zero_threshold = 1e-9, .zero_count = 1,
        .count = 9007199254740021, .sum = -12.5, .pos_spans = two, .pos_span_count = 2, .pos = ints, .pos_count = 3,
        .neg_spans = two + 1, .neg_span_count = 1, .neg = few, .neg_count = 1 }, NULL },
    { { .schema = -4, .reset = KL_HIST_GAUGE, .zero_threshold = 0x1p-128, .zero_count = 0.25, .count = 3.5, .sum = INFINITY,
        .pos_spans = two, .pos_span_count = 2, .pos = floats, .pos_count = 3 },
      "{\"timestamp\":\"5\",\"countFloat\":3.5,\"sum\":\"Infinity\",\"schema\":-4,"
      "\"zeroThreshold\":2.938735877055719e-39,\"zeroCountFloat\":0.25,"
      "\"positiveSpans\":[{\"offset\":-3,\"length\":2},{\"offset\":5,\"length\":1}],\"positiveCounts\":[0.1,1e+300,5e-324"
      "],\"resetHint\":\"GAUGE\"}" },
    { { .schema = KL_HIST_CUSTOM, .was_int = true, .reset = KL_HIST_NO_RESET, .count = 9, .sum = -0.0, .pos_spans = one,
        .pos_span_count = 1, .pos = (const double[]){ 4, 0, 5 }, .pos_count = 3, .bounds = bounds, .bound_count = 3 },
      "{\"timestamp\":\"5\",\"countInt\":\"9\",\"sum\":-0,\"schema\":-53,\"positiveSpans\":[{\"offset\":0,\"length\":3}],"
      "\"positiveDeltas\":[\"4\",\"-4\",\"5\"],\"resetHint\":\"NO\",\"customValues\":[-1.5,0,1e-7]}" },
    { { .schema = 8, .count = NAN, .sum = -INFINITY, .pos_spans = one, .pos_span_count = 1, .pos = strange,
        .pos_count = 3 }, NULL },
};

START_TEST(a_histogram_comes_back_bit_for_bit)
{
    struct kl_buf written = { 0 };
    struct kl_hist h = both_ways[_i].h;

    if (isnan(h.count))
        h.count = kl_bits_f64(0x7ff8000000000001ull);  /* as it is read */
    tsp_jsonl_put_hist(&written, &h, 5, 0, true);
    kl_buf_add8(&written, 0);
    if (both_ways[_i].json != NULL)
        ck_assert_str_eq(written.at, both_ways[_i].json);
    ck_assert_str_eq(read_one(written.at), "");
    same(&h, &got);
    ck_assert_int_eq(got_time, 5);
    ck_assert_int_eq(got_start, 0);
    kl_buf_deinit(&written);
}
END_TEST

START_TEST(every_double_is_written_short_and_read_as_it_was)
{
    static const double some[] = { 0, 1, 999999999999999900000.0, 1e21, 1.2345e21, 1.7976931348623157e308, 1e-6, 9.99e-7, 1e-7,
                                   2.2250738585072014e-308, 4.9406564584124654e-324, 123456.789, 0x1p-128 };
    uint64_t x = 1;

    for (int i = 0; i < 3000; i++) {
        double         v = i < 26 ? some[i / 2] * (i % 2 ? -1 : 1) : kl_bits_f64(x = x * 6364136223846793005u + 1442695040888963407u);
        struct kl_hist h = { .was_int = true, .sum = v };
        struct kl_buf  written = { 0 };

        if (isnan(v))
            continue;
        tsp_jsonl_put_hist(&written, &h, 1, 0, true);
        ck_assert_uint_le(written.size, 70);
        kl_buf_add8(&written, 0);
        ck_assert_str_eq(read_one(written.at), "");
        ck_assert_uint_eq(kl_f64_bits(got.sum), kl_f64_bits(v));
        kl_buf_deinit(&written);
    }
}
END_TEST

START_TEST(nans_keep_their_bits_where_they_are_asked_for)
{
    static const uint64_t bits[] = { KL_STALE_BITS, 0x7ff8000000000001ull, 0x7ff8000000000000ull, 0xfff8000000000000ull,
                                     0x7ff0000000000001ull, 0x7fffffffffffffffull };

    for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++)
        for (int exact = 0; exact < 2; exact++) {
            struct kl_hist h = { .was_int = true, .sum = kl_bits_f64(bits[i]) };
            struct kl_buf  written = { 0 };

            tsp_jsonl_put_hist(&written, &h, -5, -1, exact);
            kl_buf_add8(&written, 0);
            ck_assert_str_eq(read_one(written.at), "");
            ck_assert_uint_eq(kl_f64_bits(got.sum), exact ? bits[i] : 0x7ff8000000000001ull);
            ck_assert_int_eq(got_time, -5);
            ck_assert_int_eq(got_start, -1);
            kl_buf_deinit(&written);
        }
}
END_TEST

/* All of these say the same. */
static const char *const spellings[] = {
    "{\"timestamp\":\"9\",\"countInt\":\"3\",\"sum\":1.5,\"schema\":1,\"positiveSpans\":[{\"offset\":2,\"length\":2}],"
    "\"positiveDeltas\":[\"1\",\"1\"],\"resetHint\":\"YES\"}",
    "{\"count_int\":3,\"sum\":\"1.5\",\"schema\":1,\"positive_spans\":[{\"length\":2,\"offset\":2,\"x\":[]}],"
    "\"positive_deltas\":[1,1],\"reset_hint\":1,\"timestamp\":9,\"negativeDeltas\":null,\"customValues\":[]}",
    " { \"resetHint\" : \"RESET_HINT_YES\" , \"unknown\" : { \"a\" : [ \"]\" ] } , \"countInt\" : 3 , \"sum\" : 15e-1 ,\n"
    "\"schema\" : \"1\" , \"zeroCountInt\":\"0\",\"timestamp\":9,\"positiveDeltas\" : [ 1 , 1 ] ,"
    "\"positiveSpans\" : [ { \"offset\" : \"2\" , \"length\" : 2 } ] } ",
};

START_TEST(every_spelling_of_protobufs_json_is_read)
{
    static const struct kl_hist_span span[] = { { 2, 2 } };
    static const double counts[] = { 1, 2 };
    struct kl_hist h = { .schema = 1, .was_int = true, .reset = KL_HIST_RESET, .count = 3, .sum = 1.5, .pos_spans = span,
                         .pos_span_count = 1, .pos = counts, .pos_count = 2 };

    ck_assert_str_eq(read_one(spellings[_i]), "");
    same(&h, &got);
    ck_assert_int_eq(got_time, 9);
}
END_TEST

static const struct { const char *json, *says; } refused[] = {
    { "{}", "a histogram without a timestamp" },
    { "{\"timestamp\":null}", "a histogram without a timestamp" },
    { "{\"timestamp\":1.5}", "a histogram whose timestamp is none" },
    { "{\"timestamp\":1,\"countInt\":\"-1\"}", "a histogram whose countInt is none" },
    { "{\"timestamp\":1,\"countInt\":9007199254740993}", "a histogram whose countInt is none" },
    { "{\"timestamp\":1,\"countInt\":1,\"countFloat\":1}", "a histogram with two counts" },
    { "{\"timestamp\":1,\"countInt\":1}", "a histogram whose count is not what its buckets add up to" },
    { "{\"timestamp\":1,\"sum\":nan}", "a histogram whose sum is none" },
    { "{\"timestamp\":1,\"sum\":-inf}", "a histogram whose sum is none" },
    { "{\"timestamp\":1,\"schema\":9}", "a histogram of schema 9: -4 to 8 and -53 are known" },
    { "{\"timestamp\":1,\"resetHint\":\"MAYBE\"}", "a histogram whose resetHint is none" },
    { "{\"timestamp\":1,\"positiveSpans\":{}}", "a histogram whose positiveSpans is none" },
    { "{\"timestamp\":1,\"positiveSpans\":[1]}", "a histogram with a span that is no span" },
    { "{\"timestamp\":1,\"positiveSpans\":[{\"offset\":2147483648}]}", "a histogram with a span that is no span" },
    { "{\"timestamp\":1,\"positiveSpans\":[{\"length\":-1}]}", "a histogram with a span that is no span" },
    { "{\"timestamp\":1,\"positiveSpans\":[{\"length\":2}],\"positiveDeltas\":[1]}",
      "a histogram with more or fewer buckets than its spans speak of" },
    { "{\"timestamp\":1,\"positiveSpans\":[{\"length\":1}],\"positiveDeltas\":[-1]}",
      "a histogram with a bucket below 0 or past 2^53" },
    { "{\"timestamp\":1,\"positiveDeltas\":[1,]}", "a histogram whose positiveDeltas is none" },
    { "{\"timestamp\":1,\"positiveDeltas\":[1 2]}", "a histogram whose positiveDeltas is none" },
    { "{\"timestamp\":1,\"positiveCounts\":[1]}", "a histogram of integers with float buckets" },
    { "{\"timestamp\":1,\"countFloat\":1,\"positiveDeltas\":[1]}", "a histogram of floats with integer buckets" },
    { "{\"timestamp\":1,\"countFloat\":1,\"customValues\":[1]}", "a histogram of an exponential schema with custom bounds" },
    { "{\"timestamp\" 1}", "a histogram that is no JSON" },
    { "{timestamp:1}", "a histogram that is no JSON" },
    { "{\"timestamp\":1,}", "a histogram that is no JSON" },
    { "{\"timestamp\":1]]}", "a histogram that is no JSON" },
};

START_TEST(what_is_none_is_refused_in_words)
{
    ck_assert_str_eq(read_one(refused[_i].json), refused[_i].says);
}
END_TEST

START_TEST(a_bad_one_costs_itself_alone)
{
    struct tsp_jsonl_series s = series_of("{\"timestamp\":1,\"countInt\":0} , {\"timestamp\":[\"}\"]},{\"timestamp\":3}");

    ck_assert_uint_eq(s.hist_count, 3);
    ck_assert(tsp_jsonl_walk_hist(&s, &arena, &got_time, &got_start, &got, &err) && got_time == 1);
    ck_assert(!tsp_jsonl_walk_hist(&s, &arena, &got_time, &got_start, &got, &err) && err.code == KL_EINVAL);
    ck_assert(tsp_jsonl_walk_hist(&s, &arena, &got_time, &got_start, &got, &err) && got_time == 3);
    ck_assert(!tsp_jsonl_walk_hist(&s, &arena, &got_time, &got_start, &got, &err) && err.code == KL_OK);
}
END_TEST

START_TEST(more_buckets_than_there_may_be_are_refused)
{
    struct kl_buf b = { 0 };

    kl_buf_adds(&b, "{\"timestamp\":1,\"positiveDeltas\":[0");
    for (int i = 0; i < KL_HIST_BUCKETS_MAX; i++)
        kl_buf_adds(&b, ",0");
    kl_buf_adds(&b, "]}");
    kl_buf_add8(&b, 0);
    ck_assert_str_eq(read_one(b.at), "a histogram of more than 65536 buckets or 16384 spans");
    ck_assert_int_eq(err.code, KL_ELIMIT);
    kl_buf_deinit(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("libtsproto/jsonl_hist");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, a_histogram_comes_back_bit_for_bit, 0, sizeof both_ways / sizeof both_ways[0]);
    tcase_add_test(t, every_double_is_written_short_and_read_as_it_was);
    tcase_add_test(t, nans_keep_their_bits_where_they_are_asked_for);
    tcase_add_loop_test(t, every_spelling_of_protobufs_json_is_read, 0, sizeof spellings / sizeof spellings[0]);
    tcase_add_loop_test(t, what_is_none_is_refused_in_words, 0, sizeof refused / sizeof refused[0]);
    tcase_add_test(t, a_bad_one_costs_itself_alone);
    tcase_add_test(t, more_buckets_than_there_may_be_are_refused);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
