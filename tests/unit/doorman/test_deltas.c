/* doorman/deltas: deltas become sums; a retry adds nothing; memory is bounded. */
#include "doorman/deltas.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct dm_deltas *deltas;
static uint64_t          start;

static void setup(void) { deltas = dm_deltas_new(1 << 20); }
static void teardown(void) { dm_deltas_free(deltas); }

static struct dm_delta_of of(uint64_t key, uint64_t start_ns, uint64_t time_ns, uint32_t now_s)
{
    return (struct dm_delta_of){ .key = { key, key * 0x9e3779b97f4a7c15u }, .start_ns = start_ns,
                                 .time_ns = time_ns, .now_s = now_s };
}

static enum dm_delta number(uint64_t key, uint64_t start_ns, uint64_t time_ns, double *value)
{
    struct dm_delta_of o = of(key, start_ns, time_ns, 1);

    return dm_deltas_number(deltas, &o, value, &start);
}

START_TEST(deltas_are_added_from_the_firsts_start_on)
{
    double v = 3;

    ck_assert_int_eq(number(1, 10, 20, &v), DM_DELTA_ADDED);
    ck_assert(v == 3 && start == 10);
    v = 4;
    ck_assert_int_eq(number(1, 20, 30, &v), DM_DELTA_ADDED);
    ck_assert(v == 7 && start == 10);
    v = 5;                                             /* a gap is no reset */
    ck_assert_int_eq(number(1, 100, 130, &v), DM_DELTA_ADDED);
    ck_assert(v == 12 && start == 10);
    v = 1;                                             /* another series */
    ck_assert_int_eq(number(2, 0, 30, &v), DM_DELTA_ADDED);
    ck_assert(v == 1 && start == 30);
}
END_TEST

START_TEST(the_same_delta_again_tells_the_same_sum)
{
    double v = 3;

    number(1, 10, 20, &v);
    for (int i = 0; i < 3; i++) {
        v = 3;
        ck_assert_int_eq(number(1, 10, 20, &v), DM_DELTA_AGAIN);
        ck_assert(v == 3 && start == 10);
    }
    v = 9;
    ck_assert_int_eq(number(1, 5, 19, &v), DM_DELTA_OLD);
    ck_assert_int_eq(number(1, 5, 20, &v), DM_DELTA_OLD);
    ck_assert(v == 9);
}
END_TEST

START_TEST(a_histograms_buckets_are_added_each)
{
    static const double bounds[] = { 1, 5 }, others[] = { 1, 6 };
    struct dm_delta_of  o = of(1, 10, 20, 1);
    double counts[3] = { 1, 2, 0 }, more[3] = { 0, 1, 4 }, count = 3, sum = 7;

    ck_assert_int_eq(dm_deltas_hist(deltas, &o, bounds, 2, counts, &count, &sum, &start), DM_DELTA_ADDED);
    o = of(1, 20, 30, 1);
    count = 5;
    sum = 0.5;
    ck_assert_int_eq(dm_deltas_hist(deltas, &o, bounds, 2, more, &count, &sum, &start), DM_DELTA_ADDED);
    ck_assert(more[0] == 1 && more[1] == 3 && more[2] == 4 && count == 8 && sum == 7.5 && start == 10);
    o = of(1, 30, 40, 1);                              /* other bounds: anew */
    count = 3;
    sum = 2;
    ck_assert_int_eq(dm_deltas_hist(deltas, &o, others, 2, counts, &count, &sum, &start), DM_DELTA_ADDED);
    ck_assert(counts[0] == 1 && counts[1] == 2 && count == 3 && sum == 2 && start == 30);
}
END_TEST

static struct tsp_otlp_exp exp_of(int32_t scale, int32_t offset, double *counts, uint32_t n)
{
    struct tsp_otlp_exp e = { .scale = scale, .pos = { offset, n, counts } };

    for (uint32_t i = 0; i < n; i++)
        e.count += counts[i];
    e.sum = 10;
    return e;
}

START_TEST(exponential_histograms_meet_at_the_coarser_scale)
{
    double first[4] = { 1, 1, 1, 1 }, second[2] = { 5, 6 };
    struct tsp_otlp_exp e = exp_of(1, 0, first, 4);
    struct dm_delta_of  o = of(1, 10, 20, 1);

    ck_assert_int_eq(dm_deltas_exp(deltas, &o, &e, &start), DM_DELTA_ADDED);
    ck_assert(e.scale == 1 && e.pos.count == 4 && e.count == 4);
    e = exp_of(0, 1, second, 2);                       /* buckets 1 and 2 of scale 0 */
    o = of(1, 20, 30, 1);
    ck_assert_int_eq(dm_deltas_exp(deltas, &o, &e, &start), DM_DELTA_ADDED);
    ck_assert(e.scale == 0 && e.pos.offset == 0 && e.pos.count == 3 && e.count == 15 && e.sum == 20);
    ck_assert(e.pos.counts[0] == 2 && e.pos.counts[1] == 7 && e.pos.counts[2] == 6);
    e = exp_of(0, 1, second, 2);
    ck_assert_int_eq(dm_deltas_exp(deltas, &o, &e, &start), DM_DELTA_AGAIN);
    ck_assert(e.count == 15 && start == 10);
}
END_TEST

START_TEST(an_exponential_sum_keeps_few_buckets)
{
    double one[1] = { 1 };
    struct tsp_otlp_exp e;
    struct dm_delta_of  o;

    for (int i = 0; i < 40; i++) {
        one[0] = 1;
        e = exp_of(8, i * 250 - 5000, one, 1);         /* 40 values spread over 2^40 */
        o = of(1, 10, 20 + (uint64_t)i, 1);
        ck_assert_int_eq(dm_deltas_exp(deltas, &o, &e, &start), DM_DELTA_ADDED);
    }
    ck_assert(e.count == 40 && e.pos.count <= DM_DELTA_BUCKETS_MAX && e.scale < 8 && e.scale >= 2);
    one[0] = 1;
    e = exp_of(-4, 1 << 29, one, 1);                   /* an index of no double */
    o = of(1, 60, 70, 1);
    ck_assert_int_eq(dm_deltas_exp(deltas, &o, &e, &start), DM_DELTA_NO_ROOM);
}
END_TEST

START_TEST(another_zero_bucket_begins_anew)
{
    double one[1] = { 1 };
    struct tsp_otlp_exp e = exp_of(3, 0, one, 1);
    struct dm_delta_of  o = of(1, 10, 20, 1);

    dm_deltas_exp(deltas, &o, &e, &start);
    one[0] = 1;
    e = exp_of(3, 0, one, 1);
    e.zero_threshold = 0.5;
    o = of(1, 20, 30, 1);
    ck_assert_int_eq(dm_deltas_exp(deltas, &o, &e, &start), DM_DELTA_ADDED);
    ck_assert(e.count == 1 && start == 20 && e.zero_threshold == 0.5);
}
END_TEST

START_TEST(past_its_bytes_idle_series_give_way_and_busy_ones_do_not)
{
    struct dm_delta_of o;
    enum dm_delta      verdict;
    uint64_t           n = 0;
    double             v;

    do {
        o = of(++n, 10, 20, 1);
        v = 1;
        verdict = dm_deltas_number(deltas, &o, &v, &start);
    } while (verdict == DM_DELTA_ADDED && n < 100000);
    ck_assert_int_eq(verdict, DM_DELTA_NO_ROOM);
    ck_assert_uint_gt(n, 5000);
    ck_assert_uint_le(dm_deltas_bytes(deltas), 1 << 20);
    for (uint64_t i = 0; i < 100; i++) {               /* an hour later there is room */
        o = of(1000000 + i, 10, 20, 3600);
        v = 2;
        ck_assert_int_eq(dm_deltas_number(deltas, &o, &v, &start), DM_DELTA_ADDED);
        ck_assert(v == 2);
    }
    ck_assert_uint_le(dm_deltas_bytes(deltas), 1 << 20);
}
END_TEST

START_TEST(past_its_bytes_a_sum_that_grows_makes_idle_ones_give_way)
{
    static const uint32_t sizes[] = { 700, 50, 2 };    /* so that little is left between them */
    double              one[1] = { 1 }, bounds[700], counts[701] = { 0 }, count = 0, sum = 0;
    struct tsp_otlp_exp e = exp_of(3, 0, one, 1);
    struct dm_delta_of  o = of(1, 10, 20, 1);
    enum dm_delta       verdict = dm_deltas_exp(deltas, &o, &e, &start);
    uint64_t            n = 1;

    for (int i = 0; i < 700; i++)
        bounds[i] = i;
    for (int k = 0; k < 3; k++)
        do {
            o = of(++n, 10, 20, 1);
            verdict = dm_deltas_hist(deltas, &o, bounds, sizes[k], counts, &count, &sum, &start);
        } while (verdict == DM_DELTA_ADDED && n < 100000);
    ck_assert_int_eq(verdict, DM_DELTA_NO_ROOM);
    one[0] = 1;
    e = exp_of(3, 90, one, 1);
    o = of(1, 20, 30, 3600);
    ck_assert_int_eq(dm_deltas_exp(deltas, &o, &e, &start), DM_DELTA_ADDED);
    ck_assert(e.count == 2 && e.pos.count == 91 && start == 10);
    ck_assert_uint_le(dm_deltas_bytes(deltas), 1 << 20);
}
END_TEST

/* Against a plain array of sums, with entries coming and going. */
START_TEST(sums_are_right_whatever_comes_and_goes)
{
    enum { KEYS = 30000 };
    double  *sums = calloc(KEYS, sizeof *sums), v;
    uint64_t *told = calloc(KEYS, sizeof *told), x = 12345, wrong = 0;

    dm_deltas_free(deltas);
    deltas = dm_deltas_new(500000);
    for (uint32_t i = 1; i < 300000; i++) {
        struct dm_delta_of o;
        enum dm_delta      verdict;
        uint64_t           k;

        x = x * 6364136223846793005u + 1442695040888963407u;
        k = (x >> 33) % KEYS;
        o = of(k + 1, i, i + 1, i / 20);
        v = 1;
        verdict = dm_deltas_number(deltas, &o, &v, &start);
        if (verdict != DM_DELTA_ADDED)
            continue;
        wrong += v != sums[k] + 1 && v != 1;           /* went on, or was forgotten in between */
        sums[k] = v;
        told[k] = i;
    }
    ck_assert_uint_eq(wrong, 0);
    ck_assert_uint_le(dm_deltas_bytes(deltas), 500000);
    free(sums);
    free(told);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("doorman/deltas");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, deltas_are_added_from_the_firsts_start_on);
    tcase_add_test(t, the_same_delta_again_tells_the_same_sum);
    tcase_add_test(t, a_histograms_buckets_are_added_each);
    tcase_add_test(t, exponential_histograms_meet_at_the_coarser_scale);
    tcase_add_test(t, an_exponential_sum_keeps_few_buckets);
    tcase_add_test(t, another_zero_bucket_begins_anew);
    tcase_add_test(t, past_its_bytes_idle_series_give_way_and_busy_ones_do_not);
    tcase_add_test(t, past_its_bytes_a_sum_that_grows_makes_idle_ones_give_way);
    tcase_add_test(t, sums_are_right_whatever_comes_and_goes);
    suite_add_tcase(s, t);
    return run_suite(s);
}
