/* How well a text fits what is searched for. Scores are those that Prometheus' formulas give by hand. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "querier/score.h"
#include "tests/suite.h"

static struct qr_score_room room;
static struct kl_err        err;

static double score(enum qr_fuzz alg, double threshold, bool fold, const char *term, const char *text)
{
    struct qr_search s = { .alg = alg, .threshold = threshold, .fold = fold };
    double           v;

    ck_assert_int_eq(qr_search_term(&s, kl_span_str(term), &err), KL_OK);
    v = qr_score(&s, kl_span_str(text), &room);
    qr_search_deinit(&s);
    return v;
}

static void is(double got, double wanted)
{
    ck_assert_msg(fabs(got - wanted) < 1e-12, "%.15g instead of %.15g", got, wanted);
}

START_TEST(a_subsequence_counts_its_runs_against_its_gaps)
{
    is(score(QR_FUZZ_SUBSEQUENCE, 0, false, "up", "up"), 1);
    is(score(QR_FUZZ_SUBSEQUENCE, 0, false, "node", "node_load1"), 1);
    /* One run of 4 behind a gap of 5 of 9, nothing behind it. */
    is(score(QR_FUZZ_SUBSEQUENCE, 0, false, "load", "node_load"), (16 - 5.0 / 9) / 16 * 0.999);
    /* Runs of 1 and 1, gaps of 1 and 1, one rune behind. */
    is(score(QR_FUZZ_SUBSEQUENCE, 0, false, "bd", "abcde"), (2 - 0.2 - 0.2 - 0.1) / 4 * 0.999);
    is(score(QR_FUZZ_SUBSEQUENCE, 0, false, "db", "abcde"), -1);
    is(score(QR_FUZZ_SUBSEQUENCE, 0, false, "abcdef", "abcde"), -1);
    is(score(QR_FUZZ_SUBSEQUENCE, 0, false, "a", ""), -1);
    /* The later start is the better one. */
    is(score(QR_FUZZ_SUBSEQUENCE, 0, false, "ab", "xa_ab"), (4 - 3 * 0.2) / 4 * 0.999);
}
END_TEST

START_TEST(a_threshold_leaves_out_what_is_below)
{
    ck_assert(score(QR_FUZZ_SUBSEQUENCE, 0.42, false, "bd", "abcde") < 0);
    ck_assert(score(QR_FUZZ_SUBSEQUENCE, 0.37, false, "bd", "abcde") > 0);
}
END_TEST

START_TEST(a_substring_counts_by_its_place)
{
    is(score(QR_FUZZ_JAROWINKLER, 0, false, "node", "node_load1"), 1);
    is(score(QR_FUZZ_JAROWINKLER, 0, false, "load", "node_load"), 0.1);
    is(score(QR_FUZZ_JAROWINKLER, 0, false, "load", "a_load_b"), 1 - 0.9 * 2 / 4);
    is(score(QR_FUZZ_JAROWINKLER, 0, false, "lod", "a_load_b"), -1);
    is(score(QR_FUZZ_JAROWINKLER, 0, false, "é", "aé"), 0.1);
}
END_TEST

START_TEST(jaro_winkler_is_what_the_literature_says)
{
    is(score(QR_FUZZ_JAROWINKLER, 0.5, false, "MARTHA", "MARHTA"), 0.961111111111111);
    is(score(QR_FUZZ_JAROWINKLER, 0.5, false, "DWAYNE", "DUANE"), 0.84);
    is(score(QR_FUZZ_JAROWINKLER, 0.5, false, "DIXON", "DICKSONX"), 0.813333333333333);
    is(score(QR_FUZZ_JAROWINKLER, 0.9, false, "DIXON", "DICKSONX"), -1);
    is(score(QR_FUZZ_JAROWINKLER, 0.1, false, "abc", "xyz"), -1);
}
END_TEST

START_TEST(case_is_folded_where_it_does_not_count)
{
    is(score(QR_FUZZ_SUBSEQUENCE, 0, true, "NODE", "node_Load"), 1);
    is(score(QR_FUZZ_SUBSEQUENCE, 0, false, "NODE", "node_Load"), -1);
    is(score(QR_FUZZ_SUBSEQUENCE, 0, true, "ÄÖÜŁĀ", "äöüłā"), 1);
    is(score(QR_FUZZ_SUBSEQUENCE, 0, true, "ЖΩ", "жω"), 1);
}
END_TEST

START_TEST(of_several_terms_the_best_counts_and_without_one_everything_fits)
{
    struct qr_search s = { .alg = QR_FUZZ_SUBSEQUENCE };

    is(qr_score(&s, kl_span_str("anything"), &room), 1);
    ck_assert_int_eq(qr_search_term(&s, kl_span_str(""), &err), KL_OK);
    is(qr_score(&s, kl_span_str("anything"), &room), 1);
    ck_assert_int_eq(qr_search_term(&s, kl_span_str("bd"), &err), KL_OK);
    ck_assert_int_eq(qr_search_term(&s, kl_span_str("abc"), &err), KL_OK);
    is(qr_score(&s, kl_span_str("abcde"), &room), 1);
    is(qr_score(&s, kl_span_str("xyz"), &room), -1);
    qr_search_deinit(&s);
}
END_TEST

START_TEST(terms_past_their_bounds_are_refused)
{
    struct qr_search s = { .alg = QR_FUZZ_SUBSEQUENCE };
    static char      longest[QR_TERM_RUNES_MAX + 1];

    memset(longest, 'a', sizeof longest);
    ck_assert_int_eq(qr_search_term(&s, kl_span(longest, sizeof longest), &err), KL_ELIMIT);
    ck_assert_int_eq(qr_search_term(&s, kl_span(longest, sizeof longest - 1), &err), KL_OK);
    for (int i = 1; i < QR_TERMS_MAX; i++)
        ck_assert_int_eq(qr_search_term(&s, kl_span_str("\xff\xc3z"), &err), KL_OK);
    ck_assert_int_eq(qr_search_term(&s, kl_span_str("x"), &err), KL_ELIMIT);
    is(qr_score(&s, kl_span(longest, 100), &room), -1);
    qr_search_deinit(&s);
}
END_TEST

START_TEST(what_it_may_take_grows_with_the_square_of_the_text)
{
    struct qr_search s = { 0 };
    static char      text[4096];

    memset(text, 'a', sizeof text);
    ck_assert_uint_eq(qr_score_steps(&s, kl_span(text, sizeof text)), 1);
    ck_assert_int_eq(qr_search_term(&s, kl_span_str("ab"), &err), KL_OK);
    ck_assert_int_eq(qr_search_term(&s, kl_span_str("ac"), &err), KL_OK);
    ck_assert_uint_eq(qr_score_steps(&s, kl_span(text, 30)), 1 + 2 * 30 * 30);
    ck_assert_uint_eq(qr_score_steps(&s, kl_span(text, sizeof text)), 1 + 2 * 4096 * 4096);
    qr_search_deinit(&s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("score");
    TCase *t = tcase_create("score");
    int    failed;

    tcase_add_test(t, a_subsequence_counts_its_runs_against_its_gaps);
    tcase_add_test(t, a_threshold_leaves_out_what_is_below);
    tcase_add_test(t, a_substring_counts_by_its_place);
    tcase_add_test(t, jaro_winkler_is_what_the_literature_says);
    tcase_add_test(t, case_is_folded_where_it_does_not_count);
    tcase_add_test(t, of_several_terms_the_best_counts_and_without_one_everything_fits);
    tcase_add_test(t, terms_past_their_bounds_are_refused);
    tcase_add_test(t, what_it_may_take_grows_with_the_square_of_the_text);
    suite_add_tcase(s, t);
    failed = run_suite(s);
    qr_score_room_deinit(&room);
    return failed;
}
