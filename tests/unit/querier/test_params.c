/* Parameters are read as Prometheus reads them. */
#include <check.h>
#include <stdlib.h>

#include "querier/api_priv.h"
#include "tests/suite.h"

static const struct { const char *text; int64_t ms; } times[] = {
    { "0", 0 },
    { "1.5", 1500 },
    { "-1.5", -1500 },
    { "1435781451.781", 1435781451781 },
    { "1.0006", 1001 },
    { "1e3", 1000000 },
    { "2015-07-01T20:10:51.781Z", 1435781451781 },
    { "2015-07-01T22:10:51.781999+02:00", 1435781451781 },
    { "1970-01-01T00:00:00Z", 0 },
    { "1969-12-31T23:59:59.5Z", -500 },
    { "2024-02-29T00:00:00Z", 1709164800000 },
};

START_TEST(times_are_unix_seconds_or_rfc3339)
{
    int64_t ms;

    ck_assert_msg(qr_parse_time(times[_i].text, &ms), "%s", times[_i].text);
    ck_assert_int_eq(ms, times[_i].ms);
}
END_TEST

static const char *const no_times[] = {
    "", "x", "NaN", "nan", "Inf", "-inf", "infinity", "1e300", "9223372036854775807", " 1", "1 ",
    "0x10", "2015-07-01", "2015-07-01T20:10:51", "2015-13-01T20:10:51Z", "2015-02-29T20:10:51Z",
    "2015-07-01T20:10:51.Z", "2015-07-01T20:10:51Zx", "2015-07-01T25:10:51Z", "--1", "+", ".",
};

START_TEST(what_is_no_time_is_refused)
{
    int64_t ms = 77;

    ck_assert_msg(!qr_parse_time(no_times[_i], &ms), "\"%s\" was taken", no_times[_i]);
}
END_TEST

START_TEST(the_ends_of_time_are_taken_and_leave_room_for_a_lookback)
{
    int64_t ms;

    ck_assert(qr_parse_time("-292273086-05-16T16:47:06Z", &ms));
    ck_assert_int_lt(ms, -1000000000000000);
    ck_assert_int_gt(ms, INT64_MIN / 2);
    ck_assert(qr_parse_time("292277025-08-18T07:12:54.999999999Z", &ms));
    ck_assert_int_gt(ms, 1000000000000000);
}
END_TEST

static const struct { const char *text; int64_t ms; } durations[] = {
    { "15", 15000 }, { "0.25", 250 }, { "1m", 60000 }, { "1h30m", 5400000 }, { "5ms", 5 },
    { "-1", -1000 }, { "1d", 86400000 },
};

START_TEST(durations_are_seconds_or_prometheus_own)
{
    char    err[300];
    int64_t ms;

    ck_assert_msg(qr_parse_duration(durations[_i].text, &ms, err, sizeof err), "%s", err);
    ck_assert_int_eq(ms, durations[_i].ms);
}
END_TEST

static const struct { const char *text, *error; } no_durations[] = {
    { "x", "cannot parse \"x\" to a valid duration" },
    { "", "cannot parse \"\" to a valid duration" },
    { "NaN", "cannot parse \"NaN\" to a valid duration" },
    { "1e300", "cannot parse \"1e300\" to a valid duration. It overflows int64" },
    { "5m5", "cannot parse \"5m5\" to a valid duration" },
};

START_TEST(what_is_no_duration_is_refused_in_prometheus_words)
{
    char    err[300];
    int64_t ms;

    ck_assert(!qr_parse_duration(no_durations[_i].text, &ms, err, sizeof err));
    ck_assert_str_eq(err, no_durations[_i].error);
}
END_TEST

START_TEST(limits_are_whole_and_not_negative)
{
    char     err[300];
    uint32_t limit;

    ck_assert(qr_parse_limit("17", &limit, err, sizeof err));
    ck_assert_uint_eq(limit, 17);
    ck_assert(!qr_parse_limit("-1", &limit, err, sizeof err));
    ck_assert_str_eq(err, "limit must be non-negative");
    ck_assert(!qr_parse_limit("1.5", &limit, err, sizeof err));
    ck_assert_str_eq(err, "strconv.Atoi: parsing \"1.5\": invalid syntax");
    ck_assert(!qr_parse_limit("99999999999999999999", &limit, err, sizeof err));
    ck_assert(qr_parse_limit("9999999999", &limit, err, sizeof err));
}
END_TEST

static const struct { const char *escaped, *name; } names[] = {
    { "up", "up" }, { "U__", "" }, { "U__http_2e_status", "http.status" },
    { "U__a__b", "a_b" }, { "U___1f600_", "\xf0\x9f\x98\x80" }, { "U__a_2f", "U__a_2f" },
    { "U___zz_", "U___zz_" }, { "U___d800_", "U___d800_" }, { "U___1234567_", "U___1234567_" },
    { "U__x_", "U__x_" }, { "__name__", "__name__" }, { "U__caf_e9_", "caf\xc3\xa9" },
};

START_TEST(escaped_label_names_are_unescaped_and_others_kept)
{
    char   out[64];
    size_t size = qr_unescape_name(names[_i].escaped, out);

    ck_assert_uint_eq(size, strlen(names[_i].name));
    ck_assert_mem_eq(out, names[_i].name, size);
}
END_TEST

START_TEST(a_tenant_is_a_name_that_can_be_a_folder)
{
    char longest[TSP_TENANT_MAX + 2];

    memset(longest, 'a', sizeof longest);
    longest[TSP_TENANT_MAX] = '\0';
    ck_assert(qr_tenant_ok("anonymous"));
    ck_assert(qr_tenant_ok("A-z_0.9"));
    ck_assert(qr_tenant_ok(longest));
    longest[TSP_TENANT_MAX] = 'a';
    longest[TSP_TENANT_MAX + 1] = '\0';
    ck_assert(!qr_tenant_ok(longest));
    ck_assert(!qr_tenant_ok(""));
    ck_assert(!qr_tenant_ok("."));
    ck_assert(!qr_tenant_ok(".."));
    ck_assert(!qr_tenant_ok("a/b"));
    ck_assert(!qr_tenant_ok("a|b"));
}
END_TEST

#define EACH(t, test, table) \
    tcase_add_loop_test(t, test, 0, (int)(sizeof(table) / sizeof((table)[0])))

START_TEST(what_takes_long_to_parse_is_not_parsed_on_the_loop)
{
    static const struct { const char *text; bool here; } texts[] = {
        { "sum by (job) (rate(a{code=~\"5..|429\", path!~'/x.*'}[5m]))", true },
        { "a{b=\"\\\\pL{60}\"}", true },            /* no regular expression */
        { "a{b=~\"[^x]{1000}\"}", false }, { "a{b=~'x{9}'}", false }, { "a{b=~`x{9}`}", false },
        { "a{b=~\"\\\\pL\"}", false }, { "a{b=~\"\\x7b\"}", false },
        { "# \"\na{b=~\"[^x]{1000}\"}", false },
        { "a{b='`', c=~\"[^x]{1000}\", d='`'}", false },
    };
    struct kl_buf text = { 0 };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        ck_assert_msg(qr_query_parses_here(kl_span_str(texts[i].text)) == texts[i].here, "%s", texts[i].text);
    ck_assert(qr_query_compiles_here(kl_span_str("label_replace(up, \"a\", \"$1\", \"b\", \"(.*)-x|y\")")));
    ck_assert(!qr_query_compiles_here(kl_span_str("label_replace(up, 'a', '$1', 'b', '[^x]{1000}')")));
    for (int i = 0; i < 400; i++)
        kl_buf_adds(&text, "a+a+");
    ck_assert(!qr_query_parses_here(kl_buf_span(&text)));
    kl_buf_deinit(&text);
}
END_TEST

START_TEST(what_takes_long_to_plan_is_not_planned_again_and_again)
{
    static const struct { const char *text; bool here; } texts[] = {
        { "sum by (job) (rate(a{code=~\"5..|429\", path!~'/x.*', host=~\"[a-z]+-\\\\d+\"}[5m]))", true },
        { "a{b=~\"[^x]{1000}\"}", false }, { "a{b=~\"\\\\pL{20}\"}", false },
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct pql_params  p = { .text = kl_span_str(texts[i].text), .instant = true };
        struct pql_failure failure = { .text = "" };
        struct pql_query  *q = pql_new(&p, &failure);

        ck_assert_msg(q != NULL, "%s", failure.text);
        ck_assert_msg(qr_query_plans_here(q) == texts[i].here, "%s", texts[i].text);
        pql_free(q);
    }
}
END_TEST

START_TEST(a_query_without_data_is_small_only_if_it_has_few_operators)
{
    ck_assert(qr_query_is_small(0, 0, 1, 4));
    ck_assert(qr_query_is_small(2000, 100, 120, 12));
    ck_assert(!qr_query_is_small(QR_INLINE_SAMPLES, 1, 1, 1));
    ck_assert(!qr_query_is_small(0, 0, 2000, 1));
    ck_assert(!qr_query_is_small(0, 0, 1, 1000));
    ck_assert(!qr_query_is_small(0, 0, 1999, 100));
}
END_TEST

START_TEST(selectors_of_one_request_are_bounded_by_what_they_are_compiled_to)
{
    struct qr_names n = { 0 };
    struct kl_buf   text = { 0 };
    struct kl_err   err = { 0 };
    enum kl_code    code = KL_OK;

    kl_buf_adds(&text, "a{b=~\"");
    for (int i = 0; i < 8; i++)
        kl_buf_adds(&text, "[^x]{1000}");              /* 250 KB each */
    kl_buf_adds(&text, "\"}");
    qr_names_init(&n);
    while (code == KL_OK && n.selector_count < QR_SELECTORS_MAX)
        code = qr_names_selector(&n, kl_buf_span(&text), &err);
    ck_assert_int_eq(code, KL_ELIMIT);
    ck_assert_str_eq(err.text, "regular expressions that take more than 16 MiB");
    ck_assert_uint_gt(n.selector_count, 1);
    ck_assert_uint_lt(n.selector_count, 16);
    qr_names_deinit(&n);
    kl_buf_deinit(&text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("params");
    TCase *t = tcase_create("all");

    EACH(t, times_are_unix_seconds_or_rfc3339, times);
    EACH(t, what_is_no_time_is_refused, no_times);
    tcase_add_test(t, the_ends_of_time_are_taken_and_leave_room_for_a_lookback);
    EACH(t, durations_are_seconds_or_prometheus_own, durations);
    EACH(t, what_is_no_duration_is_refused_in_prometheus_words, no_durations);
    tcase_add_test(t, limits_are_whole_and_not_negative);
    EACH(t, escaped_label_names_are_unescaped_and_others_kept, names);
    tcase_add_test(t, a_tenant_is_a_name_that_can_be_a_folder);
    tcase_add_test(t, what_takes_long_to_parse_is_not_parsed_on_the_loop);
    tcase_add_test(t, what_takes_long_to_plan_is_not_planned_again_and_again);
    tcase_add_test(t, a_query_without_data_is_small_only_if_it_has_few_operators);
    tcase_add_test(t, selectors_of_one_request_are_bounded_by_what_they_are_compiled_to);
    suite_add_tcase(s, t);
    return run_suite(s);
}
