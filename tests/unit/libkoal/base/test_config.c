/* libkoal/base/config: where an option comes from, and what is said of a wrong one. */
#include "libkoal/base/config.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const struct kl_option table[] = {
    { "listen", KL_OPT_TEXT, "127.0.0.1:1", 0, 0, NULL, "Where." },
    { "log.replicas", KL_OPT_INT, "3", 1, 5, NULL, "How many." },
    { "log.ack", KL_OPT_CHOICE, "quorum", 0, 0, "quorum|all|one", "When." },
    { "log.segment-bytes", KL_OPT_BYTES, "64MiB", 1, INT64_MAX, NULL, "How large." },
    { "log.linger", KL_OPT_MS, "20", 0, 600000, NULL, "How long." },
    { "debug", KL_OPT_BOOL, "false", 0, 0, NULL, "More words." },
    { "urls", KL_OPT_TEXT, NULL, 0, 0, NULL, "A list." },
    { 0 },
};
static struct kl_config *c;
static struct kl_err     err;

static enum kl_code load(const char *yaml, const char *const *env, const char *const *args)
{
    c = NULL;
    return kl_config_load(table, "koa.yml", kl_span_str(yaml), env, args, &c, &err);
}

static void teardown(void)
{
    kl_config_free(c);
    c = NULL;
}

START_TEST(an_option_has_its_default)
{
    ck_assert_int_eq(load("", NULL, NULL), KL_OK);
    ck_assert_str_eq(kl_config_text(c, "listen"), "127.0.0.1:1");
    ck_assert_int_eq(kl_config_int(c, "log.replicas"), 3);
    ck_assert_int_eq(kl_config_int(c, "log.segment-bytes"), 64 << 20);
    ck_assert_int_eq(kl_config_int(c, "log.linger"), 20);
    ck_assert(!kl_config_bool(c, "debug"));
    ck_assert_ptr_null(kl_config_text(c, "urls"));
}
END_TEST

START_TEST(the_later_source_wins_file_environment_flag)
{
    static const char *const env[] = { "HOME=/", "KOALEMOS_LOG_REPLICAS=4", "KOALEMOS_LOG_SEGMENT_BYTES=1KiB",
                                       "KOALEMOS_SERVICE_HOST=10.0.0.1", NULL };
    static const char *const args[] = { "--log.replicas=5", "--debug", NULL };

    ck_assert_int_eq(load("log: {replicas: 2, ack: all, linger: 1m30s}\nurls: [a, b]\n", env, args), KL_OK);
    ck_assert_int_eq(kl_config_int(c, "log.replicas"), 5);
    ck_assert_int_eq(kl_config_int(c, "log.segment-bytes"), 1024);
    ck_assert_int_eq(kl_config_int(c, "log.linger"), 90000);
    ck_assert_str_eq(kl_config_text(c, "log.ack"), "all");
    ck_assert_str_eq(kl_config_text(c, "urls"), "a,b");
    ck_assert(kl_config_bool(c, "debug"));
}
END_TEST

static const struct { const char *yaml, *words; } wrong[] = {
    { "log: {replicas: 9}", "should lie from 1 to 5" }, { "log: {replicas: x}", "whole number" },
    { "log: {replicas: 3x}", "whole number" }, { "log: {replicas: ''}", "whole number" },
    { "log: {ack: most}", "quorum|all|one" }, { "log: {ack: ''}", "quorum|all|one" },
    { "log: {ack: quorum|all}", "quorum|all|one" },
    { "log: {linger: 3 parsecs}", "duration" }, { "log: {segment-bytes: 1 MiB}", "size" },
    { "log: {segment-bytes: 99999999TiB}", "size" },
    { "debug: perhaps", "true or false" }, { "nosuch: 1", "no option" }, { "log: 3", "map" },
    { "log: {nosuch: 1}", "log.nosuch" }, { "listen: {a: 1}", "section" }, { "- a\n- b", "map" },
    { "a: [", "line" }, { "log: {replicas: 1, replicas: 2}", "twice" }, { "? [a]\n: b", "key" },
    { "a:\n\t- b", "line" },
};

START_TEST(a_wrong_value_is_refused_and_the_words_say_where_and_what)
{
    ck_assert_int_eq(load(wrong[_i].yaml, NULL, NULL), KL_EINVAL);
    ck_assert_msg(strstr(err.text, wrong[_i].words) != NULL, "%s", err.text);
    ck_assert_msg(strstr(err.text, "koa.yml") != NULL, "%s", err.text);
}
END_TEST

START_TEST(a_wrong_line_is_named)
{
    ck_assert_int_eq(load("listen: x\nlog:\n  ack: all\n  replicas: 7\n", NULL, NULL), KL_EINVAL);
    ck_assert_msg(strstr(err.text, "line 4") != NULL, "%s", err.text);
}
END_TEST

START_TEST(a_wrong_flag_or_variable_is_refused)
{
    static const char *const flags[][2] = { { "--nosuch=1", NULL }, { "log.replicas=1", NULL },
                                            { "--log.replicas", NULL }, { "--log.replicas=0", NULL },
                                            { "--", NULL } };
    static const char *const env[] = { "KOALEMOS_LOG_REPLICAS=many", NULL };

    if (_i < 5)
        ck_assert_int_eq(load("", NULL, flags[_i]), KL_EINVAL);
    else
        ck_assert_int_eq(load("", env, NULL), KL_EINVAL);
    ck_assert_uint_gt(strlen(err.text), 10);
}
END_TEST

START_TEST(what_is_printed_loads_to_the_same)
{
    struct kl_buf first = { 0 }, second = { 0 };

    ck_assert_int_eq(load("listen: 'a \"quoted\\ one'\nlog: {replicas: 2}\nurls: [x, y]\n", NULL, NULL), KL_OK);
    kl_config_print(c, &first);
    kl_config_free(c);
    kl_buf_add8(&first, 0);
    ck_assert_msg(load(first.at, NULL, NULL) == KL_OK, "%s: %s", err.text, first.at);
    ck_assert_str_eq(kl_config_text(c, "listen"), "a \"quoted\\ one");
    kl_config_print(c, &second);
    kl_buf_add8(&second, 0);
    ck_assert_str_eq(first.at, second.at);
    kl_buf_deinit(&first);
    kl_buf_deinit(&second);
}
END_TEST

START_TEST(a_section_is_printed_even_where_its_first_option_is_unset)
{
    static const struct kl_option two[] = {
        { "top", KL_OPT_TEXT, "x", 0, 0, NULL, "" }, { "nats.unset", KL_OPT_TEXT, NULL, 0, 0, NULL, "" },
        { "nats.set", KL_OPT_TEXT, "y", 0, 0, NULL, "" }, { 0 } };
    struct kl_buf b = { 0 };

    ck_assert_int_eq(kl_config_load(two, "f", kl_span("", 0), NULL, NULL, &c, &err), KL_OK);
    kl_config_print(c, &b);
    kl_buf_add8(&b, 0);
    ck_assert_str_eq(b.at, "top: \"x\"\nnats:\n  set: \"y\"\n");
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(what_stands_before_the_at_of_an_address_is_not_printed)
{
    struct kl_buf b = { 0 };

    ck_assert_int_eq(load("urls: [nats://me:secret@a:1, nats://b:2, 'nats://tok@c']\n", NULL, NULL), KL_OK);
    kl_config_print(c, &b);
    kl_buf_add8(&b, 0);
    ck_assert_ptr_nonnull(strstr(b.at, "\"nats://***@a:1,nats://b:2,nats://***@c\""));
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(help_names_every_option)
{
    struct kl_buf b = { 0 };

    kl_config_help(table, &b);
    kl_buf_add8(&b, 0);
    for (const struct kl_option *o = table; o->path != NULL; o++)
        ck_assert_ptr_nonnull(strstr(b.at, o->path));
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(aliases_that_multiply_are_refused_or_bounded)
{
    ck_assert_int_ne(load("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\n"
                          "urls: [*b,*b,*b,*b,*b]\n", NULL, NULL), KL_OK);
    ck_assert_int_ne(load("log: &x\n  log: *x\n", NULL, NULL), KL_OK);
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("libkoal/base/config");
    TCase   *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int      failed;

    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_test(t, an_option_has_its_default);
    tcase_add_test(t, the_later_source_wins_file_environment_flag);
    tcase_add_loop_test(t, a_wrong_value_is_refused_and_the_words_say_where_and_what, 0,
                        (int)(sizeof wrong / sizeof wrong[0]));
    tcase_add_test(t, a_wrong_line_is_named);
    tcase_add_loop_test(t, a_wrong_flag_or_variable_is_refused, 0, 6);
    tcase_add_test(t, what_is_printed_loads_to_the_same);
    tcase_add_test(t, a_section_is_printed_even_where_its_first_option_is_unset);
    tcase_add_test(t, what_stands_before_the_at_of_an_address_is_not_printed);
    tcase_add_test(t, help_names_every_option);
    tcase_add_test(t, aliases_that_multiply_are_refused_or_bounded);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
