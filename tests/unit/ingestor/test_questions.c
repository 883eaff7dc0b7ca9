/* An ingestor in a simulated world: what may be asked of it besides samples, and in which pages it comes. */
#include "fixture.h"

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

/* As who keeps answers reads it: the last record that may have written to that hour. */
static uint64_t written(int64_t time_ms)
{
    struct tsp_select s = w_all(0, T);
    struct tsp_page   page;
    struct kl_cur     c;
    struct kl_err     err = { 0 };
    void             *answer;
    size_t            n;
    int64_t           hour;
    uint64_t          seq, rest, told = 0;

    s.what = TSP_SEL_MARKS;
    s.from_ms = s.to_ms = time_ms;
    ck_assert_msg(w_ask(&w, &s, &answer, &n, &err) == KL_OK, "%s", err.text);
    ck_assert_int_eq(tsp_page_open(kl_span(answer, n), &page, &c, &err), KL_OK);
    rest = tsp_marks_rest(&c);
    while (tsp_marks_next(&c, &hour, &seq))
        told = seq;
    free(answer);
    return told > 0 ? told : rest;
}

/* A start reads their records again, and passes their samples over. */
START_TEST(when_an_hour_was_written_to_is_known_after_a_start_also_of_samples_that_filesets_have)
{
    int64_t  t = w_now(&w), hour = 3600 * 1000;
    uint64_t late, last;

    w_write(&w, 0, T, 1, t, 1);
    late = w_write(&w, 0, T, 1, t - 5 * hour, 2);
    last = w_write(&w, 0, T, 1, t + 1000, 3);
    flush_ok(NULL);
    for (int i = 0; i < 2; i++) {
        ck_assert_uint_eq(written(t - 5 * hour), late);
        ck_assert_uint_eq(written(t), last);
        ck_assert_uint_lt(written(t - 9 * hour), late);
        w_stop(&w);
        w_start(&w);
        w_ready(&w);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ingestor: questions");
    TCase *t = tcase_create("world");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, names_and_values_are_those_of_the_series_that_match);
    tcase_add_test(t, a_question_asked_again_sees_series_that_came_and_not_those_that_went);
    tcase_add_test(t, one_question_to_several_partitions_gets_the_page_of_each);
    tcase_add_test(t, of_an_open_tail_only_what_the_range_has_is_sent);
    tcase_add_test(t, labels_come_without_samples_and_metadata_with_every_metric);
    tcase_add_test(t, histograms_and_start_times_come_back_from_memory_and_from_filesets);
    tcase_add_test(t, a_causal_read_waits_for_its_record_and_not_for_ever);
    tcase_add_test(t, when_an_hour_was_written_to_is_known_after_a_start_also_of_samples_that_filesets_have);
    suite_add_tcase(s, t);

    return run_suite(s);
}
