/* libpromql/annos_steps: at which steps something was said, cut with the range and said again. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "libpromql/pql.h"
#include "tests/suite.h"

enum { STEPS = 101, STEP_MS = 1000 };

static int64_t           times[STEPS];
static double            values[STEPS];
static const struct kl_hist *hists[STEPS];
static struct kl_hist    h = { .count = 1, .sum = 2 };
static struct kl_buf     labels;
static struct kl_arena   arena;

/* One series, `m`: a sample a step; histograms at steps that are multiples of ten. */
static void setup(void)
{
    static struct kl_labels_builder b;
    struct kl_err                   err;

    kl_labels_start(&b);
    kl_labels_add(&b, kl_span_str("__name__"), kl_span_str("m"), &err);
    kl_buf_init(&labels, 4096);
    ck_assert_int_eq(kl_labels_finish(&b, &labels, &err), KL_OK);
    for (int i = 0; i < STEPS; i++) {
        times[i] = (int64_t)i * STEP_MS;
        values[i] = i;
        hists[i] = i % 10 == 0 ? &h : NULL;
    }
    kl_arena_init(&arena, 1 << 20);
}

static void teardown(void)
{
    kl_buf_deinit(&labels);
    kl_arena_deinit(&arena);
}

static struct pql_query *run(const char *text, uint32_t from, uint32_t to)
{
    struct pql_params  p = { .text = kl_span_str(text), .start_ms = (int64_t)from * STEP_MS,
                             .end_ms = (int64_t)to * STEP_MS, .step_ms = STEP_MS, .lookback_ms = STEP_MS,
                             .notes_by_steps = true };
    struct pql_series  s = { { (const uint8_t *)labels.at, labels.size }, STEPS, times, values, hists, NULL };
    struct pql_failure failure;
    struct pql_query  *q = pql_new(&p, &failure);
    enum pql_state     state;

    ck_assert_msg(q != NULL, "%s", failure.text);
    while ((state = pql_step(q)) != PQL_DONE) {
        const struct pql_need *needs;
        size_t                 count = state == PQL_NEED ? pql_needs(q, &needs) : 0;

        for (size_t i = 0; i < count; i++)
            pql_feed(q, needs[i].id, &s, 1);
        for (size_t i = 0; state == PQL_WORK && i < pql_work_count(q); i++)
            pql_work(q, i, 0);
    }
    ck_assert_int_eq(pql_result(q)->failure.kind, PQL_OK);
    return q;
}

static size_t said(const struct pql_query *q, uint32_t from, uint32_t to)
{
    const struct pql_said *list;
    uint32_t               count;

    ck_assert(pql_said_cut(q, from, to - from + 1, &arena, &list, &count));
    return count;
}

START_TEST(what_is_said_is_cut_with_the_steps_it_was_said_at)
{
    struct pql_query *q = run("max(m)", 0, STEPS - 1);         /* "ignored histogram in max" */

    ck_assert_uint_eq(pql_result(q)->info_count, 1);
    ck_assert(pql_said_by_steps(q));
    ck_assert_uint_eq(said(q, 0, STEPS - 1), 1);
    ck_assert_uint_eq(said(q, 11, 19), 0);
    ck_assert_uint_eq(said(q, 11, 20), 1);
    ck_assert_uint_eq(said(q, 100, 100), 1);
    pql_free(q);
}
END_TEST

START_TEST(what_was_said_elsewhere_is_told_as_if_it_was_noted_here)
{
    struct pql_query      *whole = run("max(m) + max(-m)", 0, STEPS - 1), *other = run("max(m) + max(-m)", 5, 30);
    struct pql_query      *quiet = run("max(m) + max(-m)", 1, 9);
    const struct pql_said *list;
    uint32_t               count;

    ck_assert_uint_eq(pql_result(quiet)->info_count, 0);
    ck_assert(pql_said_cut(other, 0, 26, &arena, &list, &count));
    pql_said_again(quiet, list, count, 6, 14, 0);              /* steps 11 to 19: nothing */
    ck_assert(pql_said_tell(quiet));
    ck_assert_uint_eq(pql_result(quiet)->info_count, 0);
    pql_said_again(quiet, list, count, 5, 7, 3);
    ck_assert(pql_said_tell(quiet));
    ck_assert_uint_eq(pql_result(quiet)->info_count, pql_result(whole)->info_count);
    for (size_t i = 0; i < pql_result(whole)->info_count; i++)
        ck_assert_str_eq(pql_result(quiet)->infos[i], pql_result(whole)->infos[i]);
    ck_assert_uint_eq(said(quiet, 3, 3), count);               /* step 10 of `other` */
    ck_assert_uint_eq(said(quiet, 4, 8), 0);
    pql_free(whole);
    pql_free(other);
    pql_free(quiet);
}
END_TEST

START_TEST(of_what_takes_several_steps_no_step_is_known)
{
    static const char *const texts[] = {
        "quantile(scalar(max(m)), m)",                         /* the largest of its parameters */
        "max_over_time(rate(m[5s])[20s:3s])",                  /* steps of a subquery */
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct pql_query *q = run(texts[i], 0, STEPS - 1);

        ck_assert_uint_gt(pql_result(q)->info_count + pql_result(q)->warning_count, 0);
        ck_assert_msg(!pql_said_by_steps(q), "%s", texts[i]);
        pql_free(q);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("libpromql/annos");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_is_said_is_cut_with_the_steps_it_was_said_at);
    tcase_add_test(t, what_was_said_elsewhere_is_told_as_if_it_was_noted_here);
    tcase_add_test(t, of_what_takes_several_steps_no_step_is_known);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
