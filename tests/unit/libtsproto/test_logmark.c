/* libtsproto/logmark: which incarnation of a log is accepted, and what earlier ones lost. */
#include "libtsproto/logmark.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

static struct kl_err err;

static struct tsp_lost lost(uint64_t n)
{
    return (struct tsp_lost){ .incarnation = n, .first_seq = 10 * n, .from_ms = (int64_t)n * 1000,
                              .to_ms = (int64_t)n * 1000 + 500 };
}

START_TEST(a_mark_is_read_as_it_was_written)
{
    struct tsp_logmark m = { .incarnation = 1 }, got;
    struct kl_buf      b = { 0 };

    for (uint64_t n = 1; n <= 3; n++) {
        struct tsp_lost l = lost(n);

        tsp_logmark_turn(&m, n + 1, &l);
    }
    tsp_logmark_encode(&m, &b);
    ck_assert_int_eq(tsp_logmark_decode(kl_buf_span(&b), &got, &err), KL_OK);
    ck_assert_uint_eq(got.incarnation, 4);
    ck_assert_uint_eq(got.lost_count, 3);
    ck_assert_mem_eq(got.lost, m.lost, 3 * sizeof *m.lost);
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(a_mark_that_is_cut_short_or_changed_anywhere_is_corrupt)
{
    struct tsp_logmark m = { .incarnation = 7 }, got;
    struct tsp_lost    l = lost(7);
    struct kl_buf      b = { 0 };

    tsp_logmark_turn(&m, 8, &l);
    tsp_logmark_encode(&m, &b);
    for (size_t n = 0; n < b.size; n++) {
        ck_assert_int_eq(tsp_logmark_decode(kl_span(b.at, n), &got, &err), KL_ECORRUPT);
        b.at[n] ^= 1;
        ck_assert_int_eq(tsp_logmark_decode(kl_buf_span(&b), &got, &err), KL_ECORRUPT);
        b.at[n] ^= 1;
    }
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(of_more_losses_than_there_is_room_for_the_oldest_stand_for_each_other)
{
    struct tsp_logmark m = { .incarnation = 1 };

    for (uint64_t n = 1; n <= TSP_LOST_MAX + 5; n++) {
        struct tsp_lost l = lost(n);

        tsp_logmark_turn(&m, n + 1, &l);
    }
    ck_assert_uint_eq(m.lost_count, TSP_LOST_MAX);
    ck_assert_int_eq(m.lost[0].from_ms, 1000);
    ck_assert_uint_eq(m.lost[TSP_LOST_MAX - 1].incarnation, TSP_LOST_MAX + 5);
}
END_TEST

START_TEST(skips_are_read_as_they_were_written_and_damage_is_found)
{
    struct tsp_logskip s = { 0 }, got;
    struct kl_buf      b = { 0 };

    for (uint64_t n = 1; n <= 3; n++)
        ck_assert_int_eq(tsp_logskip_add(&s, 9, n, &err), KL_OK);
    ck_assert_int_eq(tsp_logskip_add(&s, 9, 2, &err), KL_OK);
    tsp_logskip_encode(&s, &b);
    ck_assert_int_eq(tsp_logskip_decode(kl_buf_span(&b), &got, &err), KL_OK);
    ck_assert_uint_eq(got.count, 3);
    ck_assert(tsp_logskip_has(&got, 9, 3) && !tsp_logskip_has(&got, 8, 3) && !tsp_logskip_has(&got, 9, 4));
    for (size_t n = 0; n < b.size; n++) {
        ck_assert_int_eq(tsp_logskip_decode(kl_span(b.at, n), &got, &err), KL_ECORRUPT);
        b.at[n] ^= 1;
        ck_assert_int_eq(tsp_logskip_decode(kl_buf_span(&b), &got, &err), KL_ECORRUPT);
        b.at[n] ^= 1;
    }
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(of_too_many_skips_those_of_other_logs_go_first)
{
    struct tsp_logskip s = { 0 };

    for (uint64_t n = 0; n < TSP_SKIPS_MAX; n++)
        ck_assert_int_eq(tsp_logskip_add(&s, n < 10 ? 1 : 2, n, &err), KL_OK);
    ck_assert_int_eq(tsp_logskip_add(&s, 2, 1000, &err), KL_OK);
    ck_assert_uint_eq(s.count, TSP_SKIPS_MAX - 10 + 1);
    while (s.count < TSP_SKIPS_MAX)
        ck_assert_int_eq(tsp_logskip_add(&s, 2, 2000 + s.count, &err), KL_OK);
    ck_assert_int_eq(tsp_logskip_add(&s, 2, 3000, &err), KL_ELIMIT);
}
END_TEST

START_TEST(a_key_tells_its_partition_and_no_other_key_does)
{
    char     key[64];
    uint32_t p = 0;

    tsp_logmark_key(key, sizeof key, 37);
    ck_assert_str_eq(key, "log.0037");
    ck_assert(tsp_logmark_of(key, &p));
    ck_assert_uint_eq(p, 37);
    ck_assert(!tsp_logmark_of("log.", &p));
    ck_assert(!tsp_logmark_of("log.00371", &p));
    ck_assert(!tsp_logmark_of("log.-037", &p));
    ck_assert(!tsp_logmark_of("lug.0037", &p));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libtsproto/logmark");
    TCase *t = tcase_create("all");

    tcase_add_test(t, a_mark_is_read_as_it_was_written);
    tcase_add_test(t, a_mark_that_is_cut_short_or_changed_anywhere_is_corrupt);
    tcase_add_test(t, of_more_losses_than_there_is_room_for_the_oldest_stand_for_each_other);
    tcase_add_test(t, skips_are_read_as_they_were_written_and_damage_is_found);
    tcase_add_test(t, of_too_many_skips_those_of_other_logs_go_first);
    tcase_add_test(t, a_key_tells_its_partition_and_no_other_key_does);
    suite_add_tcase(s, t);
    return run_suite(s);
}
