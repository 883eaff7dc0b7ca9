/* Which samples are kept how long: the first rule that fits decides, and what is no rule is refused. */
#include "libkoal/base/retention.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct kl_err err;
enum { DAY = 86400000 };

static int64_t keep(const struct kl_retention *r, const char *metric, const char *job)
{
    static struct kl_labels_builder b;
    struct kl_buf                   out = { 0 };
    int64_t                         ms;

    kl_labels_start(&b);
    kl_labels_add(&b, kl_span_str("__name__"), kl_span_str(metric), &err);
    kl_labels_add(&b, kl_span_str("job"), kl_span_str(job), &err);
    ck_assert_int_eq(kl_labels_finish(&b, &out, &err), KL_OK);
    ms = kl_retention_of(r, (struct kl_labels){ (const uint8_t *)out.at, out.size }, 30 * (int64_t)DAY);
    kl_buf_deinit(&out);
    return ms;
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

START_TEST(what_is_no_rule_is_refused_with_its_number)
{
    static const char *const bad[] = {
        "[{\"match\":\"up\"}]", "[{\"keep\":\"7d\"}]", "[{\"match\":\"\",\"keep\":\"7d\"}]",
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

int main(void)
{
    Suite   *s = suite_create("libkoal/base/retention");
    TCase   *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int      failed;

    tcase_add_test(t, the_first_rule_that_fits_decides);
    tcase_add_test(t, what_is_no_rule_is_refused_with_its_number);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
