/* libpromql/steady: which texts mean the same at a step, whatever the range around it. */
#include "libpromql/pql.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>

static int64_t slack;

static bool is(const char *text)
{
    return pql_steady(kl_span_str(text), 30000, &slack);
}

START_TEST(what_looks_at_its_step_alone_is_steady)
{
    static const char *const texts[] = {
        "up", "sum by (job) (rate(http_requests_total{code=~\"5..\"}[5m]))", "a / on (x) group_left (y) b > bool 2",
        "{__name__=\"up\", job=\"x\"}", "{\"up\"}", "topk(3, a)", "quantile(0.9, a) or vector(0)", "a offset 1h", "a offset -5m",
        "count_values(\"v\", a)", "predict_linear(a[1h], 3600)", "timestamp(a)", "time() - a", "absent(a)", "-a + 5m",
        "histogram_quantile(0.99, sum by (le) (rate(x_bucket[5m])))", "hour(a) == bool 5", "(a)",
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        slack = -1;
        ck_assert_msg(is(texts[i]), "%s", texts[i]);
        ck_assert_int_eq(slack, 0);
    }
}
END_TEST

START_TEST(what_looks_at_the_range_is_not)
{
    static const char *const texts[] = {
        "a @ end()", "a @ start()", "a @ 1000", "rate(a[5m] @ end())", "sum(a) - sum(a @ start())",
        "max_over_time(a[1h:5m] @ end())", "a + start()", "end() - time()", "a * range()", "vector(step())",
        "avg_over_time(a[range()])", "a offset step()", "avg_over_time(a[1h:step()])", "rate(a[5m * 2])",
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        ck_assert_msg(!is(texts[i]), "%s", texts[i]);
}
END_TEST

START_TEST(what_looks_at_several_steps_or_series_of_any_name_is_not)
{
    static const char *const texts[] = {
        "info(a)", "label_replace(a, \"x\", \"$1\", \"y\", \"(.*)\")", "label_join(a, \"x\", \",\", \"y\")", "sort(a)",
        "sort_by_label(a, \"x\")", "limitk(3, a)", "limit_ratio(0.5, a)", "{job=\"x\"}", "rate({__name__=~\"a|b\"}[5m])",
        "{__name__!=\"a\"}", "a + {job=\"x\"}", "\"text\" +", "", "rate(a)",
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        ck_assert_msg(!is(texts[i]), "%s", texts[i]);
}
END_TEST

START_TEST(a_subquery_s_pieces_may_begin_at_another_place)
{
    ck_assert(is("max_over_time(rate(a[5m])[1h:2m])"));
    ck_assert_int_ge(slack, 120000);
    ck_assert(is("max_over_time(a[1h:])"));
    ck_assert_int_ge(slack, 60000);
    ck_assert(is("max_over_time(avg_over_time(a[10m:5s])[1h:5m])"));
    ck_assert_int_ge(slack, 305000);
}
END_TEST

START_TEST(a_subquery_that_leaves_a_gap_between_steps_is_steady_where_nothing_can_be_said_in_it)
{
    ck_assert(is("max_over_time(a[10s:1s])"));
    ck_assert(!is("max_over_time(rate(a[5m])[10s:1s])"));
    ck_assert(is("max_over_time(rate(a[5m])[30s:1s])"));
    ck_assert(!is("max_over_time(avg_over_time(rate(a[5m])[10s:5s])[1h:1m])"));
    ck_assert(is("max_over_time(avg_over_time(rate(a[5m])[61s:5s])[1h:1m])"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("libpromql/steady");
    TCase *t = tcase_create("all");

    tcase_add_test(t, what_looks_at_its_step_alone_is_steady);
    tcase_add_test(t, what_looks_at_the_range_is_not);
    tcase_add_test(t, what_looks_at_several_steps_or_series_of_any_name_is_not);
    tcase_add_test(t, a_subquery_s_pieces_may_begin_at_another_place);
    tcase_add_test(t, a_subquery_that_leaves_a_gap_between_steps_is_steady_where_nothing_can_be_said_in_it);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
