/* An ingestor in a simulated world: what it reads from the log, it answers, flushes, and keeps. */
#include "fixture.h"

START_TEST(an_acked_sample_is_in_a_strong_answer)
{
    struct w_answer a;

    w_write(&w, 0, T, 1, w_now(&w), 42.5);
    a = read_all(0);
    ck_assert_uint_eq(a.count, 1);
    ck_assert_uint_eq(a.series[0].count, 1);
    ck_assert(a.series[0].at[0].value == 42.5);
    w_answer_free(&a);
    a = read_all(1);
    ck_assert_uint_eq(a.count, 0);
    w_answer_free(&a);
}
END_TEST

START_TEST(a_flush_moves_samples_to_the_store_and_out_of_memory)
{
    struct w_answer a = { 0 };
    struct kl_err   err;
    uint32_t        filesets = 0;
    int64_t         t = w_now(&w);

    for (int i = 0; i < 300; i++)
        w_write(&w, i % 2, T, (unsigned)i % 10, t + i * 1000, i * 1.5);
    flush_ok(&filesets);
    ck_assert_uint_eq(filesets, 2);
    ck_assert_int_eq(w_live(&w, w_all(0, T), &a, &err), KL_OK);
    ck_assert_uint_eq(a.count, 0);
    ck_assert_uint_eq(a.page.catalogue_revision, 1);
    w_answer_free(&a);
    for (uint32_t p = 0; p < 2; p++) {
        a = read_all(p);
        for (int i = 0; i < 300; i++)
            if (i % 2 == (int)p) {
                const struct w_sample *s = w_sample_at(w_find(&a, (unsigned)i % 10), t + i * 1000);

                ck_assert_ptr_nonnull(s);
                ck_assert(s->value == i * 1.5);
            }
        w_answer_free(&a);
    }
    flush_ok(&filesets);
    ck_assert_uint_eq(filesets, 0);
}
END_TEST

START_TEST(of_two_values_for_one_time_the_later_in_the_log_wins)
{
    int64_t         t = w_now(&w) - 30000;
    struct w_answer a;

    for (int i = 0; i < 10; i++)
        w_write(&w, 0, T, 1, t + i * 1000, i);
    w_write(&w, 0, T, 1, t + 9000, 100);               /* the last one anew */
    w_write(&w, 0, T, 1, t + 3000, 103);               /* an old one */
    for (int round = 0; round < 3; round++) {
        if (round == 1)
            flush_ok(NULL);
        if (round == 2)                                /* over a fileset, too */
            w_write(&w, 0, T, 1, t + 3000, 203);
        a = read_all(0);
        ck_assert_uint_eq(a.series[0].count, 10);
        ck_assert(a.series[0].at[9].value == 100);
        ck_assert(a.series[0].at[3].value == (round == 2 ? 203 : 103));
        ck_assert(a.series[0].at[4].value == 4);
        w_answer_free(&a);
    }
    flush_ok(NULL);
    a = read_all(0);
    ck_assert(a.series[0].at[3].value == 203);
    w_answer_free(&a);
}
END_TEST

START_TEST(a_window_is_cut_by_the_clock_and_the_log_is_purged)
{
    int64_t             t = w_now(&w);
    struct blk_manifest m;
    struct w_answer     a;

    for (int i = 0; i < 100; i++) {
        w_write(&w, 0, T, (unsigned)i % 5, w_now(&w), i);
        kl_env_sim_run(w.sim, 1000);
    }
    kl_env_sim_run(w.sim, 2 * WORLD_WINDOW_MS);
    w_catalogue(&w, 0, &m);
    ck_assert_uint_ge(m.fileset_count, 2);
    for (uint32_t i = 0; i < m.fileset_count; i++) {
        ck_assert_int_eq(m.filesets[i].window_ms, WORLD_WINDOW_MS);
        ck_assert_int_ge(m.filesets[i].min_ms, m.filesets[i].window_start_ms);
        ck_assert_int_lt(m.filesets[i].max_ms, m.filesets[i].window_start_ms + WORLD_WINDOW_MS);
    }
    blk_manifest_deinit(&m);
    a = read_all(0);
    size_t n = 0;
    for (size_t i = 0; i < a.count; i++)
        n += a.series[i].count;
    ck_assert_uint_eq(n, 100);
    ck_assert_int_ge(a.series[0].at[0].time_ms, t);
    w_answer_free(&a);
}
END_TEST

START_TEST(a_cut_that_lies_years_ahead_of_the_log_closes_nothing_and_those_in_time_go_on)
{
    struct tsp_cut      cut = { .epoch = 1, .format = 1, .window_ms = WORLD_WINDOW_MS };
    struct blk_manifest m;

    w_write(&w, 0, T, 1, w_now(&w), 1);
    cut.window_start_ms = w_now(&w) / WORLD_WINDOW_MS * WORLD_WINDOW_MS + 5000000 * (int64_t)WORLD_WINDOW_MS;
    tsp_record_cut(w.writer, &cut);
    w_send_wait(&w, 0);
    kl_env_sim_run(w.sim, 1000);
    w_catalogue(&w, 0, &m);
    ck_assert_uint_eq(m.fileset_count, 0);
    blk_manifest_deinit(&m);
    for (int i = 0; i < 100; i++) {
        w_write(&w, 0, T, (unsigned)i % 5, w_now(&w), i);
        kl_env_sim_run(w.sim, 1000);
    }
    kl_env_sim_run(w.sim, 2 * WORLD_WINDOW_MS);
    w_catalogue(&w, 0, &m);
    ck_assert_uint_ge(m.fileset_count, 2);
    blk_manifest_deinit(&m);
}
END_TEST

START_TEST(a_restart_answers_as_before)
{
    struct w_answer before, after;
    int64_t         t = w_now(&w);

    for (int i = 0; i < 400; i++) {
        w_write(&w, 0, T, (unsigned)i % 7, t + i * 500 - (i % 11 == 0 ? 70000 : 0), i / 3.0);
        if (i == 150)
            flush_ok(NULL);
    }
    before = read_all(0);
    w_stop(&w);
    w_start(&w);
    w_ready(&w);
    after = read_all(0);
    ck_assert_uint_eq(before.count, after.count);
    for (unsigned n = 0; n < 7; n++) {
        const struct w_series *x = w_find(&before, n), *y = w_find(&after, n);

        ck_assert_uint_eq(x->count, y->count);
        for (size_t i = 0; i < x->count; i++) {
            ck_assert_int_eq(x->at[i].time_ms, y->at[i].time_ms);
            ck_assert(kl_f64_bits(x->at[i].value) == kl_f64_bits(y->at[i].value));
        }
    }
    w_answer_free(&before);
    w_answer_free(&after);
}
END_TEST

START_TEST(refs_still_stand_for_their_series_after_a_flush_and_a_restart)
{
    int64_t         t = w_now(&w);
    double          v = 5;
    struct w_answer a;
    struct tsp_incarnation who = w.who;

    w_write(&w, 0, T, 3, t, 4);
    flush_ok(NULL);
    w_stop(&w);
    w_start(&w);
    w_ready(&w);
    w.who = who;                                       /* the writer lives on, and defines nothing */
    w.counter = 100;
    t += 1000;
    tsp_record_floats(w.writer, kl_span_str(T), 3, &t, &v, 1);
    w_send_wait(&w, 0);
    a = read_all(0);
    ck_assert_ptr_nonnull(w_sample_at(w_find(&a, 3), t));
    ck_assert_ptr_nonnull(w_sample_at(w_find(&a, 3), t - 1000));
    w_answer_free(&a);
}
END_TEST

START_TEST(samples_of_an_unknown_ref_join_when_their_definition_comes)
{
    int64_t         t = w_now(&w);
    double          v = 5;
    struct w_answer a;

    tsp_record_floats(w.writer, kl_span_str(T), 9, &t, &v, 1);
    w_send_wait(&w, 0);
    a = read_all(0);
    ck_assert_uint_eq(a.count, 0);
    w_answer_free(&a);
    if (_i == 1)
        flush_ok(NULL);                                /* a cut between sample and definition */
    w_write(&w, 0, T, 9, t + 1000, 6);
    if (_i == 1) {
        flush_ok(NULL);
        w_stop(&w);
        w_start(&w);
        w_ready(&w);
    }
    a = read_all(0);
    ck_assert_uint_eq(a.count, 1);
    ck_assert_uint_eq(a.series[0].count, 2);
    ck_assert(a.series[0].at[0].value == 5);
    w_answer_free(&a);
}
END_TEST

/* So many windows that not each can be remembered by itself: the oldest record stands for the others, and it is
 * that of a sample which waited for its definition. */
START_TEST(a_sample_that_waited_among_more_windows_than_have_names_is_there_after_a_restart)
{
    enum { WINDOWS = 5000 };
    static int64_t  times[WINDOWS];
    static double   values[WINDOWS];
    int64_t         now = w_now(&w), t = now + 600000;
    double          v = 5;
    struct w_answer a;

    tsp_record_floats(w.writer, kl_span_str(T), 9, &t, &v, 1);
    w_send_wait(&w, 0);
    for (int i = 0; i < 40; i++) {                     /* the definitions that follow stand well behind it */
        int64_t at = t + 1000 + i;

        tsp_record_floats(w.writer, kl_span_str(T), 9, &at, &v, 1);
        w_send_wait(&w, 0);
    }
    for (int i = 0; i < WINDOWS; i++)
        times[i] = now - (int64_t)(WINDOWS - i) * WORLD_WINDOW_MS;
    w_define(&w, T, 1);
    tsp_record_floats(w.writer, kl_span_str(T), 1, times, values, WINDOWS);
    w_send_wait(&w, 0);
    w_define(&w, T, 9);
    w_send_wait(&w, 0);
    kl_env_sim_run(w.sim, 3 * WORLD_WINDOW_MS);        /* a window ends; that of the sample does not */
    w_stop(&w);
    w_start(&w);
    w_ready(&w);
    a = read_all(0);
    ck_assert_ptr_nonnull(w_find(&a, 9));
    ck_assert_ptr_nonnull(w_sample_at(w_find(&a, 9), t));
    w_answer_free(&a);
}
END_TEST

START_TEST(samples_at_the_ends_of_time_are_there_after_a_flush_and_a_restart)
{
    static const int64_t times[] = { INT64_MIN, INT64_MIN + 1, -1, 0, INT64_MAX - 1, INT64_MAX };
    enum { TIMES = sizeof times / sizeof times[0] };
    struct w_answer a;

    for (int i = 0; i < TIMES; i++)
        w_write(&w, 0, T, 1, times[i], i);
    for (int round = 0; round < 4; round++) {
        struct tsp_select q = w_all(0, T);
        struct kl_err     err = { 0 };

        q.from_ms = INT64_MIN;
        q.to_ms = INT64_MAX;
        ck_assert_msg(w_read_all(&w, q, &a, &err) == KL_OK, "%s", err.text);
        ck_assert_uint_eq(a.count, 1);
        ck_assert_msg(a.series[0].count == TIMES, "round %d: %zu", round, a.series[0].count);
        for (int i = 0; i < TIMES; i++)
            ck_assert(a.series[0].at[i].time_ms == times[i] && a.series[0].at[i].value == i);
        w_answer_free(&a);
        if (round == 0) {
            flush_ok(NULL);
        } else if (round == 1) {
            kl_env_sim_run(w.sim, 3 * WORLD_WINDOW_MS);
        } else {
            w_stop(&w);
            w_start(&w);
            w_ready(&w);
        }
    }
}
END_TEST

START_TEST(tenants_do_not_see_each_other)
{
    struct w_answer a;
    struct kl_err   err;

    w_write(&w, 0, "one", 1, w_now(&w), 1);
    w_write(&w, 0, "two", 1, w_now(&w), 2);
    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq(w_read_all(&w, w_all(0, "two"), &a, &err), KL_OK);
        ck_assert_uint_eq(a.count, 1);
        ck_assert_uint_eq(a.series[0].count, 1);
        ck_assert(a.series[0].at[0].value == 2);
        w_answer_free(&a);
        flush_ok(NULL);
    }
}
END_TEST

START_TEST(a_large_answer_comes_in_pages_without_gap_or_repeat)
{
    struct w_answer a = { 0 };
    struct kl_err   err;
    int64_t         t = w_now(&w);
    uint64_t        random = 1;

    for (unsigned n = 0; n < 600; n++) {
        int64_t times[120];
        double  values[120];

        for (int i = 0; i < 120; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            times[i] = t + i * 100;
            values[i] = (double)(random >> 11) / 3;
        }
        w_define(&w, T, n);
        tsp_record_floats(w.writer, kl_span_str(T), n, times, values, 120);
        w_send_wait(&w, 0);
    }
    ck_assert_int_eq(w_live(&w, w_all(0, T), &a, &err), KL_OK);
    ck_assert_uint_gt(a.pages, 1);
    ck_assert_uint_eq(a.count, 600);
    for (size_t i = 0; i < a.count; i++) {
        ck_assert_uint_eq(a.series[i].count, 120);
        ck_assert(i == 0 || kl_fp_cmp(a.series[i - 1].fp, a.series[i].fp) < 0);
    }
    w_answer_free(&a);
}
END_TEST

START_TEST(a_store_that_fails_delays_a_flush_but_loses_nothing)
{
    struct kl_err   err = { 0 };
    struct w_answer a;
    int64_t         t = w_now(&w);

    for (int i = 0; i < 50; i++)
        w_write(&w, 0, T, 1, t + i * 1000, i);
    kl_env_disk_sim_fail(w.disk, (uint64_t)_i + 4, KL_EIO);
    if (w_flush(&w, NULL, &err) != KL_OK)
        ck_assert_uint_gt(strlen(err.text), 10);
    kl_env_disk_sim_fail(w.disk, 0, KL_EIO);
    kl_env_sim_run(w.sim, 200000);
    if (_i % 2 == 1) {                                 /* and a restart: nothing is left half done */
        w_stop(&w);
        w_start(&w);
        w_ready(&w);
    }
    kl_env_sim_run(w.sim, 200000);
    a = read_all(0);
    ck_assert_uint_eq(a.count, 1);
    ck_assert_uint_eq(a.series[0].count, 50);
    for (int i = 0; i < 50; i++)
        ck_assert(a.series[0].at[i].value == i);
    w_answer_free(&a);
}
END_TEST

START_TEST(a_partition_given_away_and_back_answers_again)
{
    struct w_answer a;
    struct kl_err   err = { 0 };

    w_write(&w, 0, T, 1, w_now(&w), 7);
    w_place(&w, "b");
    kl_env_sim_run(w.sim, 1000);
    ck_assert_int_ne(w_live(&w, w_all(0, T), &a, &err), KL_OK);
    w_place(&w, "a");
    kl_env_sim_run(w.sim, 1000);
    w_ready(&w);
    a = read_all(0);
    ck_assert_uint_eq(a.count, 1);
    ck_assert(a.series[0].at[0].value == 7);
    w_answer_free(&a);
}
END_TEST

START_TEST(a_head_that_grows_too_large_is_flushed_early)
{
    struct blk_manifest m;
    int64_t             t = w_now(&w);
    uint64_t            random = 1;

    w_stop(&w);
    w.memory_max_bytes = 2 << 20;
    w_start(&w);
    w_ready(&w);
    for (unsigned n = 0; n < 40; n++) {
        int64_t times[500];
        double  values[500];

        for (int k = 0; k < 20; k++) {
            for (int i = 0; i < 500; i++) {
                random = random * 6364136223846793005u + 1442695040888963407u;
                times[i] = t + (k * 500 + i) * 10;
                values[i] = (double)(random >> 11) / 3;
            }
            if (k == 0)
                w_define(&w, T, n);
            tsp_record_floats(w.writer, kl_span_str(T), n, times, values, 500);
        }
        w_send_wait(&w, 0);
        kl_env_sim_run(w.sim, 50);
    }
    kl_env_sim_run(w.sim, 2000);
    w_catalogue(&w, 0, &m);
    ck_assert_uint_ge(m.fileset_count, 1);
    ck_assert_int_eq(m.filesets[0].window_ms, 0);
    blk_manifest_deinit(&m);
}
END_TEST

START_TEST(a_series_too_large_for_an_answer_is_flushed_by_itself)
{
    static int64_t    times[4000];
    static double     values[4000];
    struct w_answer   a;
    uint64_t          random = 1;
    int64_t           t = w_now(&w);
    size_t            n = 0;

    w_define(&w, T, 1);
    for (int k = 0; k < 40; k++) {
        for (int i = 0; i < 4000; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            times[i] = t + (k * 4000 + i) * 10;
            values[i] = (double)(random >> 11) / 3;
        }
        tsp_record_floats(w.writer, kl_span_str(T), 1, times, values, 4000);
        w_send_wait(&w, 0);
        n += 4000;
    }
    kl_env_sim_run(w.sim, 15000);
    a = read_all(0);
    ck_assert_uint_eq(a.count, 1);
    ck_assert_uint_eq(a.series[0].count, n);
    w_answer_free(&a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ingestor");
    TCase *t = tcase_create("world");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, an_acked_sample_is_in_a_strong_answer);
    tcase_add_test(t, a_flush_moves_samples_to_the_store_and_out_of_memory);
    tcase_add_test(t, of_two_values_for_one_time_the_later_in_the_log_wins);
    tcase_add_test(t,
                   a_cut_that_lies_years_ahead_of_the_log_closes_nothing_and_those_in_time_go_on);
    tcase_add_test(t, a_window_is_cut_by_the_clock_and_the_log_is_purged);
    tcase_add_test(t, a_restart_answers_as_before);
    tcase_add_test(t, refs_still_stand_for_their_series_after_a_flush_and_a_restart);
    tcase_add_loop_test(t, samples_of_an_unknown_ref_join_when_their_definition_comes, 0, 2);
    tcase_add_test(t, a_sample_that_waited_among_more_windows_than_have_names_is_there_after_a_restart);
    tcase_add_test(t, samples_at_the_ends_of_time_are_there_after_a_flush_and_a_restart);
    tcase_add_test(t, tenants_do_not_see_each_other);
    tcase_add_test(t, a_large_answer_comes_in_pages_without_gap_or_repeat);
    tcase_add_loop_test(t, a_store_that_fails_delays_a_flush_but_loses_nothing, 0, 40);
    tcase_add_test(t, a_partition_given_away_and_back_answers_again);
    tcase_add_test(t, a_head_that_grows_too_large_is_flushed_early);
    tcase_add_test(t, a_series_too_large_for_an_answer_is_flushed_by_itself);
    suite_add_tcase(s, t);

    return run_suite(s);
}
