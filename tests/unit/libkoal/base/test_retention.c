/* Which samples are kept how long: the first rule that fits decides, and what is no rule is refused. */
#include "libkoal/base/retention.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct kl_err err;
enum { DAY = 86400000 };

static int64_t keep_what(const struct kl_retention *r, const char *metric, const char *job, enum kl_retention_what what)
{
    static struct kl_labels_builder b;
    struct kl_buf                   out = { 0 };
    int64_t                         ms;

    kl_labels_start(&b);
    kl_labels_add(&b, kl_span_str("__name__"), kl_span_str(metric), &err);
    kl_labels_add(&b, kl_span_str("job"), kl_span_str(job), &err);
    ck_assert_int_eq(kl_labels_finish(&b, &out, &err), KL_OK);
    ms = kl_retention_of(r, (struct kl_labels){ (const uint8_t *)out.at, out.size }, what, 30 * (int64_t)DAY);
    kl_buf_deinit(&out);
    return ms;
}

static int64_t keep(const struct kl_retention *r, const char *metric, const char *job)
{
    return keep_what(r, metric, job, KL_RETENTION_SAMPLES);
}

START_TEST(the_first_rule_that_fits_decides)
{
    struct kl_retention *r;

    ck_assert_msg(kl_retention_new("[{\"match\":\"debug{job=\\\"a\\\"}\",\"keep\":\"7d\"},"
                                   "{\"match\":\"{__name__=~'debug|trace', job!='b'}\",\"keep\":\"36h\"},"
                                   "{\"keep\":\"0\",\"match\":\"slo\"}]", &r, &err) == KL_OK, "%s", err.text);
    ck_assert_uint_eq(kl_retention_count(r), 3);
    ck_assert_int_eq(keep(r, "debug", "a"), 7 * (int64_t)DAY);
    ck_assert_int_eq(keep(r, "debug", "c"), DAY + DAY / 2);
    ck_assert_int_eq(keep(r, "trace", "b"), 30 * (int64_t)DAY);
    ck_assert_int_eq(keep(r, "slo", "b"), 0);
    kl_retention_free(r);
}
END_TEST

START_TEST(rows_go_with_their_samples_or_are_kept_for_a_time_of_their_own)
{
    struct kl_retention *r;

    ck_assert_msg(kl_retention_new("[{\"match\":\"cpu\",\"keep\":\"7d\",\"keep_5m\":\"90d\",\"keep_1h\":\"0\"},"
                                   "{\"match\":\"debug\",\"keep\":\"2d\"},{\"match\":\"slo\",\"keep\":\"0\"},"
                                   "{\"match\":\"long\",\"keep\":\"90d\",\"keep_1h\":\"1d\"}]", &r, &err) == KL_OK, "%s", err.text);
    ck_assert_int_eq(keep(r, "cpu", "a"), 7 * (int64_t)DAY);
    ck_assert_int_eq(keep_what(r, "cpu", "a", KL_RETENTION_5M), 90 * (int64_t)DAY);
    ck_assert_int_eq(keep_what(r, "cpu", "a", KL_RETENTION_1H), 0);
    ck_assert_int_eq(keep_what(r, "debug", "a", KL_RETENTION_5M), 2 * (int64_t)DAY);
    ck_assert_int_eq(keep_what(r, "slo", "a", KL_RETENTION_5M), 30 * (int64_t)DAY);        /* as the tenant's option says */
    ck_assert_int_eq(keep_what(r, "long", "a", KL_RETENTION_5M), 30 * (int64_t)DAY);
    ck_assert_int_eq(keep_what(r, "long", "a", KL_RETENTION_1H), DAY);
    ck_assert_int_eq(keep_what(r, "up", "a", KL_RETENTION_1H), 30 * (int64_t)DAY);
    ck_assert_int_eq(keep_what(NULL, "up", "a", KL_RETENTION_1H), 30 * (int64_t)DAY);
    ck_assert(kl_retention_says(r, 0, KL_RETENTION_5M) && kl_retention_says(r, 0, KL_RETENTION_1H));
    ck_assert(!kl_retention_says(r, 1, KL_RETENTION_5M) && kl_retention_says(r, 1, KL_RETENTION_SAMPLES));
    ck_assert(!kl_retention_says(r, 3, KL_RETENTION_5M) && kl_retention_says(r, 3, KL_RETENTION_1H));
    kl_retention_free(r);
}
END_TEST

START_TEST(what_is_no_rule_is_refused_with_its_number)
{
    static const char *const bad[] = {
        "[{\"match\":\"up\"}]", "[{\"keep\":\"7d\"}]", "[{\"match\":\"up\",\"keep_5m\":\"7d\"}]",
        "[{\"match\":\"up\",\"keep\":\"7d\",\"keep_5m\":\"7\"}]", "[{\"match\":\"up\",\"keep\":\"7d\",\"keep_2h\":\"7d\"}]", "[{\"match\":\"\",\"keep\":\"7d\"}]",
        "[{\"match\":\"{}\",\"keep\":\"7d\"}]", "[{\"match\":\"up{job}\",\"keep\":\"7d\"}]",
        "[{\"match\":\"up{job=a}\",\"keep\":\"7d\"}]", "[{\"match\":\"up{job='a'\",\"keep\":\"7d\"}]",
        "[{\"match\":\"up{job='a' b='c'}\",\"keep\":\"7d\"}]", "[{\"match\":\"up{job=~'('}\",\"keep\":\"7d\"}]",
        "[{\"match\":\"up\",\"keep\":\"7\"}]", "[{\"match\":\"up\",\"keep\":\"d\"}]", "[{\"match\":\"up\",\"keep\":\"-1d\"}]",
        "[{\"match\":\"up\",\"keep\":\"99999999999999999999d\"}]", "[{\"match\":\"up\",\"kept\":\"7d\"}]",
        "[{\"match\":\"up\",\"match\":\"up\",\"keep\":\"7d\"}]", "[{\"match\":\"up x\",\"keep\":\"7d\"}]",
        "[{\"match\":\"{a='\\\\q'}\",\"keep\":\"7d\"}]" };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        err.text[0] = '\0';
        ck_assert_msg(kl_retention_check(bad[i], &err) != KL_OK, "%s", bad[i]);
        ck_assert_msg(strstr(err.text, "rule 1") != NULL || strstr(err.text, "twice") != NULL, "%s: %s", bad[i], err.text);
    }
}
END_TEST

static const struct { const char *list; bool makes[KL_RETENTION_ROLLUPS]; const char *words; } effects[] = {
    { "[{\"match\":\"up\",\"keep\":\"7d\"}]", { false, false }, NULL },
    { "[{\"match\":\"up\",\"keep\":\"7d\",\"keep_5m\":\"0\",\"keep_1h\":\"90d\"}]", { true, true }, NULL },
    { "[{\"match\":\"up\",\"keep\":\"7d\"},{\"match\":\"x\",\"keep\":\"7d\",\"keep_5m\":\"9d\"}]", { false, true },
      "retention_rules of tenant a: rule 2 has keep_5m, but no such rows are made: set rollup.5m of tenant a" },
    { "[{\"match\":\"up\",\"keep\":\"7d\",\"keep_1h\":\"0\"}]", { true, false }, "set rollup.1h of tenant a" },
    /* Each matcher of the first is one of the second: not whatever fits less in fact. */
    { "[{\"match\":\"up\",\"keep\":\"7d\"},{\"match\":\"{job='x',__name__='up'}\",\"keep\":\"9d\"}]", { false, false },
      "rule 2 never decides, since rule 1 fits all that it fits and comes first: put it before rule 1, or take it out" },
    { "[{\"match\":\"{a=~'x'}\",\"keep\":\"7d\"},{\"match\":\"y\",\"keep\":\"1d\"},{\"match\":\"{a=~'x'}\",\"keep\":\"9d\"}]",
      { false, false }, "rule 3 never decides, since rule 1" },
    { "[{\"match\":\"{job='x',__name__='up'}\",\"keep\":\"9d\"},{\"match\":\"up\",\"keep\":\"7d\"}]", { false, false }, NULL },
    { "[{\"match\":\"{a=~'x'}\",\"keep\":\"9d\"},{\"match\":\"{a='x'}\",\"keep\":\"7d\"}]", { false, false }, NULL },
};

START_TEST(what_of_rules_has_certainly_no_effect_is_told_with_what_to_do)
{
    struct kl_retention *r;
    enum kl_code         code;

    ck_assert_msg(kl_retention_new(effects[_i].list, &r, &err) == KL_OK, "%s", err.text);
    code = kl_retention_effect(r, effects[_i].makes, "a", &err);
    ck_assert_int_eq(code, effects[_i].words == NULL ? KL_OK : KL_EINVAL);
    ck_assert_msg(code == KL_OK || strstr(err.text, effects[_i].words) != NULL, "%s", err.text);
    kl_retention_free(r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/base/retention");
    TCase *t = tcase_create("all");

    tcase_add_test(t, the_first_rule_that_fits_decides);
    tcase_add_test(t, rows_go_with_their_samples_or_are_kept_for_a_time_of_their_own);
    tcase_add_test(t, what_is_no_rule_is_refused_with_its_number);
    tcase_add_loop_test(t, what_of_rules_has_certainly_no_effect_is_told_with_what_to_do, 0, sizeof effects / sizeof effects[0]);
    suite_add_tcase(s, t);
    return run_suite(s);
}
