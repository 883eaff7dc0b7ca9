/* An ingestor in a simulated world: what it reads from the log, it answers, flushes, and keeps. */
#include "world.h"

static struct world w;
static const char   T[] = "anonymous";

static void setup(void)
{
    w_init(&w, 7, 2);
    w_start(&w);
    w_ready(&w);
}

static void teardown(void)
{
    w_stop(&w);
    w_deinit(&w);
}

static struct w_answer read_all(uint32_t partition)
{
    struct w_answer a;
    struct kl_err   err = { 0 };

    ck_assert_msg(w_read_all(&w, w_all(partition, T), &a, &err) == KL_OK, "%s", err.text);
    return a;
}

static void flush_ok(uint32_t *filesets)
{
    struct kl_err err = { 0 };

    ck_assert_msg(w_flush(&w, filesets, &err) == KL_OK, "%s", err.text);
}

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

/* ---- questions of other kinds ---- */

static void texts(struct tsp_select s, uint32_t page_limit, char *out, size_t size)
{
    struct kl_err err = { 0 };
    bool          more = true;
    char          last[256] = "";

    *out = '\0';
    s.limit = page_limit;
    while (more) {
        struct tsp_page page;
        struct kl_cur   c;
        void           *answer;
        size_t          n;

        ck_assert_msg(w_ask(&w, &s, &answer, &n, &err) == KL_OK, "%s", err.text);
        ck_assert_int_eq(tsp_page_open(kl_span(answer, n), &page, &c, &err), KL_OK);
        while (kl_cur_left(&c) > 0) {
            struct kl_span t = kl_cur_span(&c);

            snprintf(last, sizeof last, "%.*s", (int)t.size, (const char *)t.at);
            snprintf(out + strlen(out), size - strlen(out), "%s ", last);
        }
        ck_assert(!c.bad);
        free(answer);
        more = page.more;
        s.has_cursor = true;
        s.cursor_text = kl_span(last, strlen(last));
    }
}

START_TEST(names_and_values_are_those_of_the_series_that_match)
{
    struct tsp_select s = w_all(0, T);
    char              out[1000];
    int64_t           t = w_now(&w);

    for (unsigned n = 0; n < 12; n++)
        w_write(&w, 0, T, n, t + n * 1000, n);
    for (uint32_t limit = 0; limit < 4; limit++) {     /* in one page, or in many */
        s = w_all(0, T);
        s.what = TSP_SEL_NAMES;
        texts(s, limit, out, sizeof out);
        ck_assert_str_eq(out, "__name__ code host ");
        s.what = TSP_SEL_VALUES;
        s.label = kl_span_str("code");
        texts(s, limit, out, sizeof out);
        ck_assert_str_eq(out, "0 1 2 3 ");
        s.matcher_count = 1;
        s.matchers[0] = (struct kl_matcher){ KL_MATCH_EQ, kl_span_str("__name__"),
                                             kl_span_str("temperature"), NULL };
        texts(s, limit, out, sizeof out);
        ck_assert_str_eq(out, "0 2 ");
        s.label = kl_span_str("host");
        s.from_ms = t + 3000;
        s.to_ms = t + 6000;
        texts(s, limit, out, sizeof out);
        ck_assert_str_eq(out, "h4 h6 ");
        s.label = kl_span_str("nowhere");
        texts(s, limit, out, sizeof out);
        ck_assert_str_eq(out, "");
    }
}
END_TEST

/* What matches is kept from question to question: until it changes. */
START_TEST(a_question_asked_again_sees_series_that_came_and_not_those_that_went)
{
    struct tsp_select s = w_all(0, T);
    struct w_answer   a = { 0 };
    struct kl_err     err = { 0 };
    int64_t           t = w_now(&w);

    s.matcher_count = 1;
    s.matchers[0] = (struct kl_matcher){ KL_MATCH_RE, kl_span_str("host"), kl_span_str("h[0-9]"),
                                         NULL };
    for (unsigned n = 0; n < 8; n++) {
        w_write(&w, 0, T, n, t + n * 1000, n);
        for (int again = 0; again < 2; again++) {
            ck_assert_int_eq(w_live(&w, s, &a, &err), KL_OK);
            ck_assert_uint_eq(a.count, n + 1);
            w_answer_free(&a);
        }
    }
    s.from_ms = t + 2000;                              /* the same matchers, another range */
    s.to_ms = t + 4000;
    ck_assert_int_eq(w_live(&w, s, &a, &err), KL_OK);
    ck_assert_uint_eq(a.count, 3);
    w_answer_free(&a);
    s.what = TSP_SEL_LABELS;
    ck_assert_int_eq(w_live(&w, s, &a, &err), KL_OK);
    ck_assert_uint_eq(a.count, 3);
    w_answer_free(&a);
    ck_assert_int_eq(w_flush(&w, NULL, &err), KL_OK);
    ck_assert_int_eq(w_live(&w, s, &a, &err), KL_OK);
    ck_assert_uint_eq(a.count, 0);
    w_answer_free(&a);
    s.matchers[0].value = kl_span_str("h[");
    ck_assert_int_eq(w_live(&w, s, &a, &err), KL_EINVAL);
}
END_TEST

/* Of each that the same loop owns: partitions 0 and 2 of four on two loops. */
START_TEST(one_question_to_several_partitions_gets_the_page_of_each)
{
    struct tsp_select s = w_all(0, T);
    struct kl_err     err = { 0 };
    struct kl_cur     pages, c;
    struct kl_span    bytes;
    struct tsp_page   page;
    uint32_t          partition, seen = 0;
    void             *answer;
    size_t            n;

    teardown();
    w_init(&w, 7, 4);
    w_start(&w);
    w_ready(&w);
    for (uint32_t p = 0; p < 4; p++)
        w_write(&w, p, T, p, w_now(&w), p);
    s.also_count = 5;                                  /* itself and one there is not: no harm */
    s.also[0] = 1, s.also[1] = 0, s.also[2] = 2, s.also[3] = 4000, s.also[4] = 3;
    ck_assert_msg(w_ask(&w, &s, &answer, &n, &err) == KL_OK, "%s", err.text);
    ck_assert_int_eq(tsp_bundle_open(kl_span(answer, n), &pages, &err), KL_OK);
    while (tsp_bundle_next(&pages, &partition, &bytes)) {
        ck_assert_int_eq(tsp_page_open(bytes, &page, &c, &err), KL_OK);
        ck_assert_uint_gt(kl_cur_left(&c), 40);
        ck_assert_uint_ge(page.applied_seq, 1);
        seen += 1 + partition * 10;
    }
    ck_assert_uint_eq(seen, 22);
    free(answer);
}
END_TEST

static double noise(int i)
{
    return kl_bits_f64((uint64_t)(i + 1) * 0x9e3779b97f4a7c15 >> 12 | 0x4080000000000000);
}

START_TEST(of_an_open_tail_only_what_the_range_has_is_sent)
{
    struct tsp_select s = w_all(0, T);
    struct w_answer   a = { 0 };
    struct kl_err     err = { 0 };
    struct tsp_page   page;
    struct kl_cur     c;
    void             *answer;
    size_t            whole, part;
    int64_t           t = w_now(&w);

    for (int i = 0; i < 25; i++)                       /* noise: eight bytes each, however encoded */
        w_write(&w, 0, T, 1, t + i * 100, noise(i));
    ck_assert_int_eq(w_ask(&w, &s, &answer, &whole, &err), KL_OK);
    free(answer);
    s.from_ms = t + 1000;
    s.to_ms = t + 1200;
    ck_assert_int_eq(w_ask(&w, &s, &answer, &part, &err), KL_OK);
    ck_assert_uint_lt(part + 18 * 6, whole);
    free(answer);
    ck_assert_int_eq(w_live(&w, s, &a, &err), KL_OK);
    ck_assert(a.count == 1 && a.series[0].count == 3 && a.series[0].at[0].value == noise(10));
    w_answer_free(&a);
    s.from_ms = t + 1001;                              /* between two samples */
    s.to_ms = t + 1099;
    ck_assert_int_eq(w_ask(&w, &s, &answer, &part, &err), KL_OK);
    ck_assert_int_eq(tsp_page_open(kl_span(answer, part), &page, &c, &err), KL_OK);
    ck_assert_uint_lt(kl_cur_left(&c), 200);
    free(answer);
}
END_TEST

START_TEST(labels_come_without_samples_and_metadata_with_every_metric)
{
    struct tsp_select s = w_all(0, T);
    struct w_answer   a = { 0 };
    struct kl_err     err = { 0 };
    struct tsp_page   page;
    struct kl_cur     c;
    void             *answer;
    size_t            n;

    for (unsigned k = 0; k < 8; k++)
        w_write(&w, 0, T, k, w_now(&w), k);
    s.what = TSP_SEL_LABELS;
    ck_assert_int_eq(w_live(&w, s, &a, &err), KL_OK);
    ck_assert_uint_eq(a.count, 8);
    w_answer_free(&a);
    tsp_record_metadata(w.writer, kl_span_str(T), kl_span_str("up"), 2, kl_span_str(""),
                        kl_span_str("old"));
    w_send_wait(&w, 0);
    tsp_record_metadata(w.writer, kl_span_str(T), kl_span_str("up"), 2, kl_span_str("s"),
                        kl_span_str("is it"));
    w_send_wait(&w, 0);
    s.what = TSP_SEL_METADATA;
    ck_assert_int_eq(w_ask(&w, &s, &answer, &n, &err), KL_OK);
    ck_assert_int_eq(tsp_page_open(kl_span(answer, n), &page, &c, &err), KL_OK);
    ck_assert(kl_span_eq(kl_cur_span(&c), kl_span_str("up")));
    ck_assert_int_eq(kl_cur_8(&c), 2);
    ck_assert(kl_span_eq(kl_cur_span(&c), kl_span_str("s")));
    ck_assert(kl_span_eq(kl_cur_span(&c), kl_span_str("is it")));
    ck_assert_uint_eq(kl_cur_left(&c), 0);
    free(answer);
}
END_TEST

START_TEST(histograms_and_start_times_come_back_from_memory_and_from_filesets)
{
    static const struct kl_hist_span span = { 0, 2 };
    double          counts[2] = { 1, 2 };
    int64_t         t = w_now(&w);
    struct w_answer a;

    w_define(&w, T, 1);
    w_define(&w, T, 2);
    for (int i = 0; i < 200; i++) {
        struct kl_hist h = { .schema = 2, .count = 3, .sum = i, .pos_span_count = 1, .pos_count = 2,
                             .pos_spans = &span, .pos = counts };
        int64_t        at = t + i * 1000;
        double         v = i;

        tsp_record_hist(w.writer, kl_span_str(T), 1, at, &h);
        tsp_record_floats(w.writer, kl_span_str(T), 2, &at, &v, 1);
        tsp_record_start_time(w.writer, kl_span_str(T), 2, at, t - 5000);
        if (i % 50 == 49)
            w_send_wait(&w, 0);
    }
    for (int round = 0; round < 2; round++) {
        a = read_all(0);
        ck_assert_uint_eq(a.count, 2);
        ck_assert_uint_eq(w_find(&a, 1)->count, 200);
        ck_assert_uint_eq(w_find(&a, 2)->count, 200);
        for (int i = 0; i < 200; i++) {
            const struct w_sample *x = &w_find(&a, 1)->at[i], *y = &w_find(&a, 2)->at[i];

            ck_assert(x->hist && x->value == i && x->start_ms == 0);
            ck_assert(!y->hist && y->value == i);
            ck_assert_int_eq(y->start_ms, t - 5000);
        }
        w_answer_free(&a);
        flush_ok(NULL);
    }
}
END_TEST

START_TEST(a_causal_read_waits_for_its_record_and_not_for_ever)
{
    struct tsp_select s = w_all(0, T);
    struct w_answer   a = { 0 };
    struct kl_err     err = { 0 };

    s.consistency = TSP_READ_CAUSAL;
    s.min_seq = w_write(&w, 0, T, 1, w_now(&w), 1);
    ck_assert_int_eq(w_live(&w, s, &a, &err), KL_OK);
    ck_assert_uint_eq(a.count, 1);
    w_answer_free(&a);
    s.min_seq += 5;
    s.timeout_ms = 500;
    ck_assert_int_eq(w_live(&w, s, &a, &err), KL_ETIMEOUT);
    w_answer_free(&a);
}
END_TEST

/* ---- what stops a partition ---- */

struct w_purge { struct kl_bus_purge op; bool done; };
static void purge_done(struct kl_bus_purge *op) { kl_container_of(op, struct w_purge, op)->done = true; }

static void expect_stopped(uint32_t partition, const char *words)
{
    struct w_answer a = { 0 };
    struct kl_err   err = { 0 };

    ck_assert(!ing_ready(w.ing, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "alarm"));
    ck_assert_int_eq(w_live(&w, w_all(partition, T), &a, &err), KL_EAGAIN);
    ck_assert_msg(strstr(err.text, words) != NULL, "%s", err.text);
    w_answer_free(&a);
    ck_assert_int_eq(w_flush(&w, NULL, &err), KL_EAGAIN);
    ck_assert_msg(strstr(err.text, words) != NULL, "%s", err.text);
    ck_assert_int_eq(w_live(&w, w_all(1 - partition, T), &a, &err), KL_OK);    /* the other goes on */
    w_answer_free(&a);
}

START_TEST(records_purged_before_they_were_applied_stop_the_partition_with_words)
{
    struct w_purge p = { .op = { .partition = 0, .up_to = 4, .loop = w.loop, .done = purge_done } };

    w_place(&w, "b");
    kl_env_sim_run(w.sim, 1000);
    for (int i = 0; i < 8; i++)
        w_write(&w, 0, T, 1, w_now(&w) + i, i);
    w.bus->purge(w.bus, &p.op);
    ck_assert(w_until(&w, &p.done));
    ck_assert_int_eq(p.op.code, KL_OK);
    w_place(&w, "a");
    kl_env_sim_run(w.sim, 3000);
    expect_stopped(0, "purged");
}
END_TEST

START_TEST(a_record_that_cannot_be_read_stops_its_partition_alone)
{
    struct w_append a = { 0 };

    w_write(&w, 0, T, 1, w_now(&w), 1);
    w_write(&w, 1, T, 1, w_now(&w), 1);
    a.op = (struct kl_bus_append){ .partition = 0, .record = kl_span_str("no record at all"),
                                   .loop = w.loop, .done = w_append_done };
    w.bus->append(w.bus, &a.op);
    ck_assert(w_until(&w, &a.done));
    kl_env_sim_run(w.sim, 1000);
    expect_stopped(0, "record 2");
}
END_TEST

static void collect(void *ctx, const char *name, bool is_dir, uint64_t size)
{
    struct { char at[64][128]; int count; } *l = ctx;

    (void)is_dir;
    (void)size;
    snprintf(l->at[l->count++], 128, "%s", name);
}

/* While nobody runs, the log goes; keys and store stay. */
static void lose_the_log(void)
{
    struct { char at[64][128]; int count; } names = { .count = 0 };
    struct kl_env_dir *log;
    struct kl_err      err = { 0 };

    w_stop(&w);
    w.root = kl_env_disk_sim_root(w.disk);
    w.bus_dir = w_enter(&w, "bus");
    ck_assert_int_eq(w.bus_dir->enter(w.bus_dir, "log", false, &log, &err), KL_OK);
    ck_assert_int_eq(log->list(log, collect, &names, &err), KL_OK);
    for (int i = 0; i < names.count; i++)
        ck_assert_int_eq(log->remove(log, names.at[i], &err), KL_OK);
    log->leave(log);
    w.bus_dir->leave(w.bus_dir);
    w.root->leave(w.root);
    w_start(&w);
    w_ready(&w);
}

static struct tsp_logmark mark_of(uint32_t partition)
{
    struct w_kv        kv = { .op = { .kind = KL_BUS_KV_GET, .loop = w.loop, .done = w_kv_done } };
    struct tsp_logmark m;
    struct kl_err      err = { 0 };

    tsp_logmark_key(kv.op.key, sizeof kv.op.key, partition);
    w.bus->kv(w.bus, &kv.op);
    ck_assert(w_until(&w, &kv.done));
    ck_assert_int_eq(kv.op.code, KL_OK);
    ck_assert_msg(tsp_logmark_decode(kl_span(kv.op.got, kv.op.got_size), &m, &err) == KL_OK, "%s", err.text);
    free(kv.op.got);
    return m;
}

START_TEST(a_record_that_an_operator_skips_stops_nobody_now_or_after_a_restart)
{
    struct w_append    a = { 0 };
    struct w_kv        kv = { 0 };
    struct w_answer    got;
    struct tsp_logskip skips = { 0 };
    struct kl_buf      b = { 0 };
    struct kl_err      err = { 0 };
    int64_t            t = w_now(&w);

    w_write(&w, 0, T, 1, t, 1);
    kl_env_sim_run(w.sim, 1000);                       /* the log has its mark */
    a.op = (struct kl_bus_append){ .partition = 0, .record = kl_span_str("no record at all"),
                                   .loop = w.loop, .done = w_append_done };
    w.bus->append(w.bus, &a.op);
    ck_assert(w_until(&w, &a.done));
    w_write(&w, 0, T, 1, t + 1, 2);
    kl_env_sim_run(w.sim, 1000);
    expect_stopped(0, "record 2");
    ck_assert_int_eq(tsp_logskip_add(&skips, mark_of(0).incarnation, 1, &err), KL_OK);  /* not that one */
    for (int round = 0; round < 2; round++) {
        kl_buf_reset(&b);
        tsp_logskip_encode(&skips, &b);
        kv = (struct w_kv){ .op = { .kind = KL_BUS_KV_PUT, .value = kl_buf_span(&b), .expect = UINT64_MAX,
                                    .loop = w.loop, .done = w_kv_done } };
        tsp_logskip_key(kv.op.key, sizeof kv.op.key, 0);
        w.bus->kv(w.bus, &kv.op);
        ck_assert(w_until(&w, &kv.done));
        kl_env_sim_run(w.sim, 5000);
        if (round == 0) {
            expect_stopped(0, "record 2");
            ck_assert_int_eq(tsp_logskip_add(&skips, mark_of(0).incarnation, 2, &err), KL_OK);
        }
    }
    skips = (struct tsp_logskip){ 0 };
    kl_buf_deinit(&b);
    for (int round = 0; round < 2; round++) {
        w_ready(&w);
        got = read_all(0);
        ck_assert_uint_eq(got.series[0].count, 1);     /* record 1 was listed, too: it was read before */
        ck_assert(got.series[0].at[0].value == 2);
        w_answer_free(&got);
        w_stop(&w);
        w_start(&w);
    }
}
END_TEST

START_TEST(what_a_snapshot_has_of_a_log_that_is_gone_is_sealed_and_what_follows_is_named)
{
    struct w_answer    a;
    struct tsp_logmark m;
    int64_t            t = w_now(&w);
    uint64_t           before;

    w_stop(&w);
    w.snapshot_ms = 2000;
    w_start(&w);
    w_ready(&w);
    for (int i = 0; i < 20; i++)
        w_write(&w, 0, T, 1, t + i, i);
    kl_env_sim_run(w.sim, 10000);                      /* no cut, but a snapshot */
    before = mark_of(0).incarnation;
    ck_assert_uint_ne(before, 0);
    lose_the_log();
    w_write(&w, 0, T, 1, t + 21, 21);
    for (int round = 0; round < 2; round++) {
        m = mark_of(0);
        ck_assert_uint_ne(m.incarnation, before);
        ck_assert_uint_eq(m.lost_count, 1);
        ck_assert_uint_eq(m.lost[0].incarnation, before);
        ck_assert_uint_eq(m.lost[0].first_seq, 21);
        ck_assert_int_le(m.lost[0].from_ms, m.lost[0].to_ms);
        a = read_all(0);
        ck_assert_uint_eq(a.count, 1);
        ck_assert_uint_eq(a.series[0].count, 21);
        ck_assert(a.series[0].at[20].value == 21);
        w_answer_free(&a);
        w_stop(&w);
        w_start(&w);
        w_ready(&w);
    }
}
END_TEST

START_TEST(a_log_made_anew_is_read_from_its_start_and_the_filesets_stay)
{
    struct w_answer    a;
    int64_t            t = w_now(&w);

    for (int i = 0; i < 20; i++)
        w_write(&w, 0, T, 1, t + i, i);
    flush_ok(NULL);
    w_write(&w, 0, T, 1, t + 20, 20);                  /* this one will be lost, and an alarm says so */
    lose_the_log();
    w_write(&w, 0, T, 1, t + 21, 21);
    for (int round = 0; round < 3; round++) {
        a = read_all(0);
        ck_assert_uint_eq(a.count, 1);
        ck_assert_uint_eq(a.series[0].count, 21);
        ck_assert(a.series[0].at[19].value == 19);
        ck_assert(a.series[0].at[20].value == 21);
        w_answer_free(&a);
        if (round == 0) {
            flush_ok(NULL);
        } else {
            w_stop(&w);
            w_start(&w);
            w_ready(&w);
        }
    }
}
END_TEST

/*
 * A bus that says at some moment that the log was made anew: all incarnations are other ones from
 * then on, and numbers begin at 1 again. Only what an ingestor calls while reading is bent.
 */
static struct { struct kl_bus *in; struct kl_bus out; uint64_t shift, forget, ahead;
                struct kl_bus_reader *readers[8]; unsigned count;
                void (*record)(struct kl_bus_reader *, const struct kl_bus_record *);
                void (*caught_up)(struct kl_bus_reader *, uint64_t);
                void (*done)(struct kl_bus_info *); } bent;

static void bent_record(struct kl_bus_reader *r, const struct kl_bus_record *rec)
{
    struct kl_bus_record other = *rec;

    if (r->partition == 0) {
        other.incarnation += bent.shift;
        other.seq -= bent.forget;
    }
    bent.record(r, &other);
}

static void bent_caught_up(struct kl_bus_reader *r, uint64_t last_seq)
{
    bent.caught_up(r, last_seq - (r->partition == 0 ? bent.forget : 0));
}

static void bent_open(struct kl_bus *b, struct kl_bus_reader *r)
{
    (void)b;
    bent.record = r->record;
    bent.caught_up = r->caught_up;
    r->record = bent_record;
    r->caught_up = bent_caught_up;
    if (r->partition == 0) {
        r->from_seq += bent.forget;
        bent.readers[bent.count++ % 8] = r;
    }
    bent.in->read_open(bent.in, r);
}

static void bent_done(struct kl_bus_info *op)
{
    if (op->partition == 0) {
        op->incarnation += bent.shift;
        op->last_seq += bent.ahead - bent.forget;
        op->first_seq = bent.forget > 0 ? 1 : op->first_seq;
    }
    bent.done(op);
}

static void bent_info(struct kl_bus *b, struct kl_bus_info *op)
{
    (void)b;
    if (op->done != bent_done && op->loop != w.loop) {
        /* Loading and strong reads have handlers of their own; one at a time is enough here. */
        bent.done = op->done;
        op->done = bent_done;
    }
    bent.in->info(bent.in, op);
}

#define BENT(ret, name, type)                                                                  \
    static ret bent_##name(struct kl_bus *b, type *op) { (void)b; bent.in->name(bent.in, op); }
BENT(void, append, struct kl_bus_append)
BENT(void, read_close, struct kl_bus_reader)
BENT(void, purge, struct kl_bus_purge)
BENT(void, serve, struct kl_bus_service)
BENT(void, unserve, struct kl_bus_service)
BENT(void, kv, struct kl_bus_kv)
BENT(void, watch, struct kl_bus_watch)
BENT(void, unwatch, struct kl_bus_watch)
static void bent_answer(struct kl_bus *b, struct kl_bus_question *q, enum kl_code code,
                        struct kl_span bytes)
{
    (void)b;
    bent.in->answer(bent.in, q, code, bytes);
}

static struct { struct kl_env_task task; struct kl_err err; } breaks;

static void breaks_run(struct kl_env_task *task)       /* on the reader's loop, as the bus would */
{
    struct kl_bus_reader *r = bent.readers[bent.count - 1];

    (void)task;
    r->broken(r, KL_ECORRUPT, 4711, 1, &breaks.err);
}

static bool bent_end(struct kl_bus *b, uint32_t partition, uint64_t *last_seq)
{
    (void)b, (void)partition, (void)last_seq;
    return false;                                      /* to be asked for */
}

/* The ingestor anew, on the bent bus; all others stay on the real one. */
static void bent_begin(bool knows_end)
{
    struct kl_bus *real = w.bus;

    memset(&bent, 0, sizeof bent);
    bent.in = real;
    bent.out = (struct kl_bus){ .append = bent_append, .info = bent_info, .read_open = bent_open,
                                .read_close = bent_read_close, .purge = bent_purge,
                                .serve = bent_serve, .unserve = bent_unserve, .answer = bent_answer,
                                .kv = bent_kv, .watch = bent_watch, .unwatch = bent_unwatch,
                                .end = knows_end ? bent_end : NULL, .env = w.env };
    ing_free(w.ing);
    kl_env_sim_run(w.sim, 1000);
    w.bus = &bent.out;
    w_ingestor(&w);
    w.bus = real;
    w_ready(&w);
}

static struct { struct kl_env_task task; struct kl_bus_reader *reader; uint64_t last_seq; int64_t ago_ms; } told;

static void told_run(struct kl_env_task *task)         /* on the reader's loop, as the bus would */
{
    (void)task;
    told.reader->end(told.reader, told.last_seq, kl_env_mono_ns(w.env) - told.ago_ms * 1000000);
}

static void tell_end(uint64_t last_seq, int64_t ago_ms)
{
    for (unsigned n = 0; n < bent.count; n++)
        if (bent.readers[n]->partition == 0)
            told.reader = bent.readers[n];
    told.task.run = told_run;
    told.last_seq = last_seq;
    told.ago_ms = ago_ms;
    w.env->sched->post(told.reader->loop, &told.task);
    kl_env_sim_run(w.sim, 10);
}

static enum kl_code read_page(enum tsp_consistency consistency, bool *stale)
{
    struct w_answer   a = { 0 };
    struct kl_err     err = { 0 };
    struct tsp_select s = w_all(0, T);
    enum kl_code      code;

    s.consistency = consistency;
    code = w_live(&w, s, &a, &err);
    *stale = a.page.stale;
    w_answer_free(&a);
    return code;
}

START_TEST(who_does_not_hear_where_the_log_ends_asks_and_refuses_or_says_that_it_is_stale)
{
    uint64_t last;
    bool     stale;

    bent_begin(false);
    last = w_write(&w, 0, T, 1, w_now(&w), 1);
    kl_env_sim_run(w.sim, 100);
    ck_assert_int_eq(read_page(TSP_READ_DEFAULT, &stale), KL_OK);      /* the start knew the end */
    kl_env_sim_run(w.sim, 4000);
    ck_assert_int_eq(read_page(TSP_READ_ANY, &stale), KL_OK);
    ck_assert(stale);
    ck_assert_int_eq(read_page(TSP_READ_DEFAULT, &stale), KL_OK);      /* it asks */
    ck_assert_int_eq(read_page(TSP_READ_ANY, &stale), KL_OK);
    ck_assert(!stale);
    kl_env_sim_run(w.sim, 4000);
    bent.ahead = 1;                                    /* a record that does not come */
    ck_assert_int_eq(read_page(TSP_READ_DEFAULT, &stale), KL_EAGAIN);
    ck_assert_int_eq(read_page(TSP_READ_ANY, &stale), KL_OK);
    ck_assert(stale);
    tell_end(last, 500);
    ck_assert_int_eq(read_page(TSP_READ_DEFAULT, &stale), KL_OK);
    ck_assert_int_eq(read_page(TSP_READ_ANY, &stale), KL_OK);
    ck_assert(!stale);
    kl_env_sim_run(w.sim, 2700);                       /* that was asked 3.2 s ago */
    ck_assert_int_eq(read_page(TSP_READ_DEFAULT, &stale), KL_EAGAIN);
    tell_end(last + 1, 0);                             /* there is a record that it has not seen */
    ck_assert_int_eq(read_page(TSP_READ_DEFAULT, &stale), KL_EAGAIN);
    w_write(&w, 0, T, 1, w_now(&w), 2);
    kl_env_sim_run(w.sim, 100);
    ck_assert_int_eq(read_page(TSP_READ_DEFAULT, &stale), KL_OK);
}
END_TEST

START_TEST(a_log_made_anew_under_a_running_ingestor_loses_nothing_that_was_applied)
{
    struct w_answer a;
    struct kl_err   err = { 0 };
    uint64_t        last = 0;
    int64_t         t = w_now(&w);

    bent_begin(true);
    for (int i = 0; i < 30; i++)
        last = w_write(&w, 0, T, 1, t + i, i);
    kl_env_sim_run(w.sim, 1000);                       /* applied; none of it in any fileset */
    bent.shift = 77;
    bent.forget = last;
    kl_fail(&err, KL_ECORRUPT, "the stream was made anew");
    ck_assert_uint_ge(bent.count, 1);
    breaks.task.run = breaks_run;
    breaks.err = err;
    w.env->sched->post(bent.readers[bent.count - 1]->loop, &breaks.task);
    kl_env_sim_run(w.sim, 10000);
    w_ready(&w);
    for (int i = 30; i < 40; i++)
        w_write(&w, 0, T, 1, t + i, i);
    kl_env_sim_run(w.sim, 1000);
    {
        struct tsp_logmark m = mark_of(0);

        ck_assert_uint_eq(m.lost_count, 1);
        ck_assert_uint_eq(m.lost[0].first_seq, last + 1);
        ck_assert_uint_eq(m.incarnation, m.lost[0].incarnation + 77);
    }
    {
        struct tsp_select s = w_all(0, T);

        s.consistency = TSP_READ_DEFAULT;
        ck_assert_msg(w_read_all(&w, s, &a, &err) == KL_OK, "%s", err.text);
    }
    ck_assert_uint_eq(a.count, 1);
    ck_assert_uint_eq(a.series[0].count, 40);
    for (int i = 0; i < 40; i++)
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
    Suite   *s = suite_create("ingestor");
    TCase   *t = tcase_create("world");
    SRunner *r;
    int      failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, an_acked_sample_is_in_a_strong_answer);
    tcase_add_test(t, a_flush_moves_samples_to_the_store_and_out_of_memory);
    tcase_add_test(t, of_two_values_for_one_time_the_later_in_the_log_wins);
    tcase_add_test(t, a_cut_that_lies_years_ahead_of_the_log_closes_nothing_and_those_in_time_go_on);
    tcase_add_test(t, a_window_is_cut_by_the_clock_and_the_log_is_purged);
    tcase_add_test(t, a_restart_answers_as_before);
    tcase_add_test(t, refs_still_stand_for_their_series_after_a_flush_and_a_restart);
    tcase_add_loop_test(t, samples_of_an_unknown_ref_join_when_their_definition_comes, 0, 2);
    tcase_add_test(t, tenants_do_not_see_each_other);
    tcase_add_test(t, a_large_answer_comes_in_pages_without_gap_or_repeat);
    tcase_add_loop_test(t, a_store_that_fails_delays_a_flush_but_loses_nothing, 0, 40);
    tcase_add_test(t, names_and_values_are_those_of_the_series_that_match);
    tcase_add_test(t, a_question_asked_again_sees_series_that_came_and_not_those_that_went);
    tcase_add_test(t, one_question_to_several_partitions_gets_the_page_of_each);
    tcase_add_test(t, of_an_open_tail_only_what_the_range_has_is_sent);
    tcase_add_test(t, labels_come_without_samples_and_metadata_with_every_metric);
    tcase_add_test(t, histograms_and_start_times_come_back_from_memory_and_from_filesets);
    tcase_add_test(t, a_causal_read_waits_for_its_record_and_not_for_ever);
    tcase_add_test(t, records_purged_before_they_were_applied_stop_the_partition_with_words);
    tcase_add_test(t, a_record_that_cannot_be_read_stops_its_partition_alone);
    tcase_add_test(t, a_record_that_an_operator_skips_stops_nobody_now_or_after_a_restart);
    tcase_add_test(t, what_a_snapshot_has_of_a_log_that_is_gone_is_sealed_and_what_follows_is_named);
    tcase_add_test(t, a_log_made_anew_is_read_from_its_start_and_the_filesets_stay);
    tcase_add_test(t, who_does_not_hear_where_the_log_ends_asks_and_refuses_or_says_that_it_is_stale);
    tcase_add_test(t, a_log_made_anew_under_a_running_ingestor_loses_nothing_that_was_applied);
    tcase_add_test(t, a_partition_given_away_and_back_answers_again);
    tcase_add_test(t, a_head_that_grows_too_large_is_flushed_early);
    tcase_add_test(t, a_series_too_large_for_an_answer_is_flushed_by_itself);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
