/* ingestor/marks: an hour is never said to be untouched since a position after which it was written. */
#include "ingestor/ing_priv.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>

enum { HOUR_MS = 3600 * 1000 };

static struct ing_marks m;

/* What is told of the hour of that time, as a reader takes it. */
static uint64_t told(int64_t time_ms)
{
    struct kl_buf b = { 0 };
    struct kl_cur c;
    int64_t       hour;
    uint64_t      seq, rest, found = 0;

    ing_marks_tell(&m, time_ms, time_ms, &b);
    c = kl_cur(b.at, b.size);
    rest = tsp_marks_rest(&c);
    while (tsp_marks_next(&c, &hour, &seq)) {
        ck_assert_int_eq(hour, time_ms / HOUR_MS - (time_ms % HOUR_MS < 0));
        found = seq;
    }
    ck_assert(!c.bad);
    kl_buf_deinit(&b);
    return found > 0 ? found : rest;
}

static void note(int64_t time_ms, uint64_t seq)
{
    static uint64_t last;

    if (seq != last)
        m.from_ms = m.to_ms = 0;                       /* as when a record begins */
    last = seq;
    ing_marks_note(&m, time_ms, seq);
}

START_TEST(an_hour_was_written_by_its_last_record)
{
    ing_marks_reset(&m, 7);
    ck_assert_uint_eq(told(1700000000000), 7);
    note(1700000000000, 9);
    note(1700000000001, 9);
    note(1700000000000 - 5 * HOUR_MS, 9);
    note(1700000000000 + HOUR_MS, 12);
    note(-1, 13);
    note(0, 14);
    ck_assert_uint_eq(told(1700000000000), 9);
    ck_assert_uint_eq(told(1700000000000 - 5 * HOUR_MS), 9);
    ck_assert_uint_eq(told(1700000000000 - 4 * HOUR_MS), 7);
    ck_assert_uint_eq(told(1700000000000 + HOUR_MS), 12);
    ck_assert_uint_eq(told(-HOUR_MS), 13);
    ck_assert_uint_eq(told(1), 14);
}
END_TEST

START_TEST(what_is_driven_out_is_never_told_too_low)
{
    enum { HOURS = 6000 };
    uint64_t *last = calloc(HOURS, sizeof *last), seed = 5;

    ing_marks_reset(&m, 1);
    for (uint64_t seq = 2; seq < 20000; seq++)
        for (unsigned i = 0; i < 3; i++) {
            int64_t hour = (int64_t)((seed = seed * 6364136223846793005u + 1442695040888963407u) >> 33) % HOURS;

            if (seq % 2)
                hour %= 200;
            note(hour * HOUR_MS + (int64_t)(seed % HOUR_MS), seq);
            last[hour] = seq;
        }
    for (int64_t hour = 0; hour < HOURS; hour++)
        ck_assert_uint_ge(told(hour * HOUR_MS), last[hour]);
    note(INT64_MAX, 30000);
    note(INT64_MIN, 30001);
    note(INT64_MAX - 1, 30002);
    ck_assert_uint_ge(told(INT64_MAX), 30002);
    ck_assert_uint_ge(told(INT64_MIN), 30001);
    free(last);
}
END_TEST

START_TEST(what_was_done_to_a_span_is_told_of_all_its_hours)
{
    ing_marks_reset(&m, 1);
    note(10 * HOUR_MS, 2);
    note(20 * HOUR_MS, 3);
    ing_marks_span(&m, 0, 15 * HOUR_MS, 4);
    ck_assert_uint_eq(told(10 * HOUR_MS), 4);
    ck_assert_uint_eq(told(20 * HOUR_MS), 3);
    ck_assert_uint_eq(told(12 * HOUR_MS), 4);
}
END_TEST

START_TEST(a_short_span_leaves_other_hours_as_they_were_and_a_long_one_has_no_hour_too_low)
{
    ing_marks_reset(&m, 1);
    ing_marks_span(&m, 3 * HOUR_MS + 5, 4 * HOUR_MS, 4);
    ck_assert_uint_eq(told(2 * HOUR_MS), 1);
    ck_assert_uint_eq(told(3 * HOUR_MS), 4);
    ck_assert_uint_eq(told(4 * HOUR_MS), 4);
    ck_assert_uint_eq(told(5 * HOUR_MS), 1);
    ing_marks_span(&m, INT64_MAX - 1, INT64_MAX, 5);
    ing_marks_span(&m, INT64_MIN, INT64_MIN + 1, 6);
    ck_assert_uint_ge(told(INT64_MAX), 5);
    ck_assert_uint_ge(told(INT64_MIN), 6);
    ing_marks_span(&m, INT64_MIN, INT64_MAX, 7);
    ck_assert_uint_eq(told(3 * HOUR_MS), 7);
    ck_assert_uint_eq(told(500 * HOUR_MS), 7);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ingestor/marks");
    TCase *t = tcase_create("all");

    tcase_add_test(t, an_hour_was_written_by_its_last_record);
    tcase_add_test(t, what_is_driven_out_is_never_told_too_low);
    tcase_add_test(t, what_was_done_to_a_span_is_told_of_all_its_hours);
    tcase_add_test(t, a_short_span_leaves_other_hours_as_they_were_and_a_long_one_has_no_hour_too_low);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
