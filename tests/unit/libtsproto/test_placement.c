/*
 * libtsproto/placement: a reader asks wherever a writer may have written, through every spread and P.
 */
#include "libtsproto/placement.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>

static struct tsp_placement *p, *q;
static struct kl_buf         out;
static struct kl_err         err;

static void setup(void)
{
    p = tsp_placement_new(16);
    q = NULL;
    kl_buf_init(&out, 0);
}

static void teardown(void)
{
    tsp_placement_free(p);
    tsp_placement_free(q);
    kl_buf_deinit(&out);
}

static struct kl_span text(const char *s) { return kl_span_str(s); }

static enum kl_code spread(const char *metric, uint8_t n, int64_t from_ms)
{
    return tsp_placement_spread(p, &(struct tsp_spread){ .tenant = text("t"), .metric = text(metric), .spread = n,
                                                         .valid_from_ms = from_ms }, &err);
}

static struct kl_fp fp(uint64_t n) { return kl_hash128(&n, sizeof n); }

static uint32_t of(const struct tsp_placement *table, const char *metric, uint64_t n, int64_t now_ms)
{
    return tsp_placement_of(table, text("t"), text(metric), fp(n), now_ms);
}

START_TEST(a_metric_without_a_spread_lies_in_one_partition)
{
    uint32_t first, count;

    tsp_placement_range(p, text("t"), text("up"), &first, &count);
    ck_assert_uint_eq(count, 1);
    for (uint64_t n = 0; n < 1000; n++)
        ck_assert_uint_eq(of(p, "up", n, 5), first);
}
END_TEST

/* The formula of the header, by hand: it is in stored data and may never change. */
START_TEST(the_partition_is_as_the_header_says)
{
    uint64_t base = kl_hash64("t\0up", 4);

    ck_assert_int_eq(spread("up", 3, 0), KL_OK);
    for (uint64_t n = 0; n < 100; n++)
        ck_assert_uint_eq(of(p, "up", n, 5), (base + fp(n).lo % 8) % 16);
}
END_TEST

START_TEST(a_spread_begins_at_its_time_for_writers_and_at_once_for_readers)
{
    uint32_t first, count, seen = 0;

    ck_assert_int_eq(spread("up", 2, 1000), KL_OK);
    tsp_placement_range(p, text("t"), text("up"), &first, &count);
    ck_assert_uint_eq(count, 4);
    for (uint64_t n = 0; n < 1000; n++) {
        ck_assert_uint_eq(of(p, "up", n, 999), first);
        seen |= 1u << of(p, "up", n, 1000);
    }
    ck_assert_int_eq(__builtin_popcount(seen), 4);
}
END_TEST

START_TEST(a_reader_covers_every_writer_of_any_table_before)
{
    uint32_t first, count;

    for (uint8_t s = 1; s <= 4; s++) {
        ck_assert_int_eq(spread("up", s, s * 1000), KL_OK);
        tsp_placement_range(p, text("t"), text("up"), &first, &count);
        ck_assert_uint_eq(count, 1u << s);
        for (uint64_t n = 0; n < 200; n++)
            for (int64_t now = 0; now <= s * 1000; now += 500)
                ck_assert_uint_lt((of(p, "up", n, now) - first) & 15, count);
    }
}
END_TEST

START_TEST(twice_the_partitions_nest)
{
    struct tsp_placement *twice = tsp_placement_new(32);
    char                  metric[16];

    for (uint64_t n = 0; n < 1000; n++) {
        snprintf(metric, sizeof metric, "m%d", (int)(n % 50));
        ck_assert_uint_eq(of(twice, metric, n, 0) % 16, of(p, metric, n, 0));
    }
    tsp_placement_free(twice);
}
END_TEST

static bool asked(const struct tsp_placement *t, const char *metric, uint32_t partition, int64_t from_ms)
{
    uint32_t layouts[TSP_LAYOUTS_MAX], first, count;
    unsigned n = tsp_placement_layouts(t, from_ms, layouts);

    for (unsigned k = 0; k < n; k++) {
        tsp_placement_range_of(t, layouts[k], text("t"), text(metric), &first, &count);
        for (uint32_t i = 0; i < count; i++)
            if ((first + i) % layouts[k] == partition)
                return true;
    }
    return false;
}

START_TEST(a_split_begins_at_its_time_for_writers_and_readers_ask_wherever_any_table_put_it)
{
    struct tsp_placement *before = tsp_placement_copy(p);
    uint32_t              layouts[TSP_LAYOUTS_MAX];
    int64_t               next;

    ck_assert_int_eq(spread("wide", 3, 500), KL_OK);
    ck_assert_int_eq(tsp_placement_split(p, 1000, &err), KL_OK);
    ck_assert_int_eq(tsp_placement_split(p, 1000, &err), KL_EINVAL);
    ck_assert_int_eq(tsp_placement_split(p, 3000, &err), KL_OK);
    ck_assert_int_eq(spread("wide", 6, 2000), KL_OK);
    ck_assert_uint_eq(tsp_placement_partitions(p), 64);
    ck_assert_uint_eq(tsp_placement_partitions_at(p, 999), 16);
    ck_assert_uint_eq(tsp_placement_partitions_at(p, 2999), 32);
    ck_assert_uint_eq(tsp_placement_partitions_at(p, 3000), 64);
    ck_assert_uint_eq(tsp_placement_steps(p, 999, &next), 1);
    ck_assert_int_eq(next, 1000);
    ck_assert_uint_eq(tsp_placement_steps(p, 3000, &next), 4);
    for (uint64_t n = 0; n < 500; n++)
        for (int64_t now = 0; now <= 4000; now += 250) {
            const char *metric = n % 2 ? "wide" : "narrow";

            ck_assert(asked(p, metric, of(p, metric, n, now), now));
            ck_assert(asked(p, metric, of(before, metric, n, now), 0));
        }
    ck_assert_uint_eq(tsp_placement_layouts(p, 0, layouts), 3);
    ck_assert_uint_eq(tsp_placement_layouts(p, 1001 + TSP_LAYOUT_KEPT_MS, layouts), 2);
    ck_assert_uint_eq(layouts[0], 64);
    ck_assert_uint_eq(layouts[1], 32);
    ck_assert_uint_eq(tsp_placement_layouts(p, 3001 + TSP_LAYOUT_KEPT_MS, layouts), 1);
    tsp_placement_free(before);
}
END_TEST

START_TEST(the_later_a_series_was_placed_somewhere_the_newer_that_place)
{
    ck_assert_int_eq(spread("wide", 3, 500), KL_OK);
    ck_assert_int_eq(tsp_placement_split(p, 1000, &err), KL_OK);
    ck_assert_int_eq(spread("wide", 4, 2000), KL_OK);
    for (uint64_t n = 0; n < 200; n++) {
        int64_t last = INT64_MIN;

        for (int64_t now = 0; now <= 2000; now += 500) {
            int64_t since = tsp_placement_since(p, text("t"), text("wide"), fp(n), of(p, "wide", n, now));

            ck_assert_int_ge(since, last);
            ck_assert(now == 0 || since >= (now == 1500 ? 1000 : now));
            last = since;
        }
    }
}
END_TEST

START_TEST(a_split_gives_each_new_partition_the_members_of_its_origin_and_is_kept)
{
    const char             *members[] = { "a", "b" }, *got[TSP_REPLICAS_MAX];
    const struct tsp_split *splits;

    ck_assert_int_eq(tsp_placement_assign(p, 5, members, 2, &err), KL_OK);
    ck_assert_int_eq(tsp_placement_split(p, 1000, &err), KL_OK);
    ck_assert_uint_eq(tsp_placement_members(p, 21, got, TSP_REPLICAS_MAX), 2);
    ck_assert_str_eq(got[1], "b");
    ck_assert_int_eq(tsp_placement_encode(p, &out, &err), KL_OK);
    ck_assert_int_eq(tsp_placement_decode(kl_buf_span(&out), &q, &err), KL_OK);
    ck_assert_uint_eq(tsp_placement_splits(q, &splits), 1);
    ck_assert(splits[0].partitions == 32 && splits[0].valid_from_ms == 1000);
    tsp_placement_free(q);
    q = tsp_placement_copy(p);
    ck_assert_uint_eq(tsp_placement_partitions_at(q, 0), 16);
    while (tsp_placement_partitions(p) < TSP_PARTITIONS_MAX)
        ck_assert_int_eq(tsp_placement_split(p, 1000 + tsp_placement_partitions(p), &err), KL_OK);
    ck_assert_int_eq(tsp_placement_split(p, 99999, &err), KL_ELIMIT);
    /* a split to 3, to other than there are, two of one time */
    tsp_placement_free(q);
    q = NULL;
    ck_assert_int_eq(tsp_placement_decode(kl_span("\x08\x04\x2a\x02\x08\x03", 6), &q, &err), KL_EINVAL);
    ck_assert_int_eq(tsp_placement_decode(kl_span("\x08\x04\x2a\x02\x08\x02", 6), &q, &err), KL_EINVAL);
    ck_assert_int_eq(tsp_placement_decode(kl_span("\x08\x04\x2a\x02\x08\x02\x2a\x02\x08\x04", 10), &q, &err),
                     KL_EINVAL);
    ck_assert_int_eq(tsp_placement_decode(kl_span("\x08\x04\x2a\x02\x08\x04", 6), &q, &err), KL_OK);
}
END_TEST

START_TEST(metrics_fill_the_partitions_evenly)
{
    unsigned filled[16] = { 0 };
    char     metric[32];

    for (int i = 0; i < 16000; i++) {
        snprintf(metric, sizeof metric, "metric_%d", i);
        filled[of(p, metric, 1, 0)]++;
    }
    for (int i = 0; i < 16; i++)
        ck_assert(filled[i] > 850 && filled[i] < 1150);
}
END_TEST

START_TEST(a_spread_that_cannot_be_is_refused)
{
    ck_assert_int_eq(spread("up", 2, 0), KL_OK);
    ck_assert_int_eq(spread("up", 2, 9), KL_EINVAL);
    ck_assert_str_eq(err.text, "spread 2 of \"up\" is no larger than the one recorded");
    ck_assert_int_eq(spread("up", 1, 9), KL_EINVAL);
    ck_assert_int_eq(spread("up", 5, 9), KL_EINVAL);
    ck_assert_str_eq(err.text, "spread 5: 16 partitions allow 1 to 4");
    ck_assert_int_eq(spread("up", 0, 9), KL_EINVAL);
    ck_assert_int_eq(spread("up", 3, 9), KL_OK);
    ck_assert_int_eq(spread("down", 1, 9), KL_OK);
}
END_TEST

START_TEST(members_are_kept_in_order_and_replaced_whole)
{
    const char *three[] = { "a", "b.c", "D-_9" }, *got[TSP_REPLICAS_MAX];

    ck_assert_uint_eq(tsp_placement_members(p, 3, got, 5), 0);
    ck_assert_int_eq(tsp_placement_assign(p, 3, three, 3, &err), KL_OK);
    ck_assert_uint_eq(tsp_placement_members(p, 3, got, 5), 3);
    ck_assert_str_eq(got[0], "a");
    ck_assert_str_eq(got[2], "D-_9");
    ck_assert_uint_eq(tsp_placement_members(p, 3, got, 1), 1);
    ck_assert_int_eq(tsp_placement_assign(p, 3, three + 1, 1, &err), KL_OK);
    ck_assert_uint_eq(tsp_placement_members(p, 3, got, 5), 1);
    ck_assert_str_eq(got[0], "b.c");
}
END_TEST

START_TEST(a_member_or_partition_that_cannot_be_is_refused)
{
    static const char *const bad[] = { "", "a b", "../x", "a*", "a>", "\xc3\xa9",
                                       "0123456789012345678901234567890123456789012345678901234567890123" };
    const char *six[] = { "a", "b", "c", "d", "e", "f" }, *got[1];

    ck_assert_int_eq(tsp_placement_assign(p, 0, &bad[_i], 1, &err), KL_EINVAL);
    ck_assert_int_eq(tsp_placement_assign(p, 16, six, 1, &err), KL_EINVAL);
    ck_assert_int_eq(tsp_placement_assign(p, 0, six, 6, &err), KL_EINVAL);
    ck_assert_uint_eq(tsp_placement_members(p, 0, got, 1), 0);
}
END_TEST

static void fill(void)
{
    const char *members[] = { "ingestor-1", "ingestor-2" };
    char        metric[32];

    for (uint32_t i = 0; i < 16; i += 3)
        ck_assert_int_eq(tsp_placement_assign(p, i, members, 1 + i % 2, &err), KL_OK);
    for (int i = 0; i < 100; i++) {
        snprintf(metric, sizeof metric, "metric_%d", i);
        for (uint8_t s = 1; s <= 1 + i % 4; s++)
            ck_assert_int_eq(spread(metric, s, 1700000000000 + s * 1000 - i), KL_OK);
    }
    tsp_placement_set_revision(p, 77);
}

static void check_same(const struct tsp_placement *a, const struct tsp_placement *b)
{
    const char *x[TSP_REPLICAS_MAX], *y[TSP_REPLICAS_MAX];
    char        metric[32];

    ck_assert_uint_eq(tsp_placement_partitions(a), tsp_placement_partitions(b));
    ck_assert_uint_eq(tsp_placement_revision(a), tsp_placement_revision(b));
    for (uint32_t i = 0; i < 16; i++) {
        unsigned n = tsp_placement_members(a, i, x, TSP_REPLICAS_MAX);
        ck_assert_uint_eq(n, tsp_placement_members(b, i, y, TSP_REPLICAS_MAX));
        for (unsigned k = 0; k < n; k++)
            ck_assert_str_eq(x[k], y[k]);
    }
    for (int i = 0; i < 101; i++) {
        snprintf(metric, sizeof metric, "metric_%d", i);
        for (int64_t now = 1699999999000; now < 1700000005000; now += 333)
            ck_assert_uint_eq(of(a, metric, 12345 + (uint64_t)i, now), of(b, metric, 12345 + (uint64_t)i, now));
    }
}

START_TEST(a_copy_and_what_was_encoded_are_the_same_table)
{
    fill();
    if (_i == 0) {
        q = tsp_placement_copy(p);
    } else {
        ck_assert_int_eq(tsp_placement_encode(p, &out, &err), KL_OK);
        ck_assert_msg(tsp_placement_decode(kl_buf_span(&out), &q, &err) == KL_OK, "%s", err.text);
    }
    check_same(p, q);
    tsp_placement_free(p);                             /* a copy owns what it holds */
    p = tsp_placement_new(16);
    ck_assert_uint_eq(tsp_placement_revision(q), 77);
}
END_TEST

START_TEST(a_full_table_is_read_in_a_moment)
{
    char metric[32];

    for (int i = 0; i < TSP_SPREADS_MAX; i++) {
        snprintf(metric, sizeof metric, "metric_%d", i);
        ck_assert_int_eq(spread(metric, 1, i), KL_OK);
    }
    ck_assert_int_eq(spread("one_more", 1, 0), KL_ELIMIT);
    ck_assert_int_eq(tsp_placement_encode(p, &out, &err), KL_OK);
    ck_assert_int_eq(tsp_placement_decode(kl_buf_span(&out), &q, &err), KL_OK);
    check_same(p, q);
}
END_TEST

START_TEST(bytes_that_are_no_table_are_refused)
{
    fill();
    ck_assert_int_eq(tsp_placement_encode(p, &out, &err), KL_OK);
    for (size_t n = 0; n < out.size; n += 1 + n / 20) {
        enum kl_code code = tsp_placement_decode(kl_span(out.at, n), &q, &err);
        /* Cut between two entries it is a smaller table: KV values come whole or not at all. */
        ck_assert(code == KL_OK || code == KL_EINVAL);
        if (code == KL_OK)
            tsp_placement_free(q);
        q = NULL;
    }
    ck_assert_int_eq(tsp_placement_decode(text(""), &q, &err), KL_EINVAL);
    ck_assert_str_eq(err.text, "placement table: 0 partitions");
    ck_assert_int_eq(tsp_placement_decode(kl_span("\x08\x07", 2), &q, &err), KL_EINVAL);
    ck_assert_int_eq(tsp_placement_decode(kl_span("\x08\x80\x80\x01", 4), &q, &err), KL_EINVAL);
    /* partition 9 of 4; "a b" of partition 0; spread 3 of 4 partitions; a spread without tenant */
    ck_assert_int_eq(tsp_placement_decode(kl_span("\x08\x04\x1a\x02\x08\x09", 6), &q, &err), KL_EINVAL);
    ck_assert_int_eq(tsp_placement_decode(kl_span("\x08\x04\x1a\x05\x12\x03" "a b", 9), &q, &err), KL_EINVAL);
    ck_assert_int_eq(tsp_placement_decode(kl_span("\x08\x04\x22\x05\x0a\x01t\x18\x03", 9), &q, &err), KL_EINVAL);
    ck_assert_int_eq(tsp_placement_decode(kl_span("\x08\x04\x22\x02\x18\x01", 6), &q, &err), KL_EINVAL);
    ck_assert_int_eq(tsp_placement_decode(kl_span("\x08\x04\x22\x05\x0a\x01t\x18\x02", 9), &q, &err), KL_OK);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libtsproto/placement");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 20);
    tcase_add_test(t, a_metric_without_a_spread_lies_in_one_partition);
    tcase_add_test(t, the_partition_is_as_the_header_says);
    tcase_add_test(t, a_spread_begins_at_its_time_for_writers_and_at_once_for_readers);
    tcase_add_test(t, a_reader_covers_every_writer_of_any_table_before);
    tcase_add_test(t, twice_the_partitions_nest);
    tcase_add_test(t, a_split_begins_at_its_time_for_writers_and_readers_ask_wherever_any_table_put_it);
    tcase_add_test(t, the_later_a_series_was_placed_somewhere_the_newer_that_place);
    tcase_add_test(t, a_split_gives_each_new_partition_the_members_of_its_origin_and_is_kept);
    tcase_add_test(t, metrics_fill_the_partitions_evenly);
    tcase_add_test(t, a_spread_that_cannot_be_is_refused);
    tcase_add_test(t, members_are_kept_in_order_and_replaced_whole);
    tcase_add_loop_test(t, a_member_or_partition_that_cannot_be_is_refused, 0, 7);
    tcase_add_loop_test(t, a_copy_and_what_was_encoded_are_the_same_table, 0, 2);
    tcase_add_test(t, a_full_table_is_read_in_a_moment);
    tcase_add_test(t, bytes_that_are_no_table_are_refused);
    suite_add_tcase(s, t);
    return run_suite(s);
}
