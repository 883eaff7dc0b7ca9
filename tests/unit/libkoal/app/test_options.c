/* libkoal/app/options: the one table, and the page that is made of it. */
#include "libkoal/app/app.h"
#include "tests/suite.h"

#include <check.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct kl_err err;

START_TEST(what_is_said_nowhere_is_a_configuration)
{
    struct kl_config *c;

    ck_assert_msg(kl_config_load(kl_app_options, "f", kl_span("", 0), NULL, NULL, &c, &err) == KL_OK, "%s", err.text);
    ck_assert_msg(kl_app_check(c, &err) == KL_OK, "%s", err.text);
    kl_config_free(c);
}
END_TEST

static const struct { const char *yaml, *words; } wrong[] = {
    { "partitions: 12", "line 1, column 13: partitions: 12 is no power of two" },
    { "cell: a.b", "line 1, column 7: cell: a cell's name is 1 to 32 of a-z and 0-9" }, { "cell: ''", "1 to 32 of a-z" },
    { "cell: a234567890123456789012345678901234", "1 to 32 of a-z" },
    { "log: {replicas: 2}", "line 1, column 17: log.replicas: 2 is none of 1, 3 and 5" },
    { "disk:\n  low_water: 96", "line 2, column 14: disk.low_water should not be above" },
    { "cluster:\n  silent: 5s", "line 2, column 11: cluster.silent should be at least three" },
    { "retention_rules: [{match: up, keep: 7d, keep_5m: 30d}]",
      "f, line 1, column 18: retention_rules: rule 1 has keep_5m, but no such rows are made: set rollup.5m, how long" },
    { "rollup: {5m: 90d}\nretention_rules: [{match: up, keep: 7d, keep_5m: 30d, keep_1h: 30d}]", "set rollup.1h, how long" },
    { "retention_rules: [{match: up, keep: 7d}, {match: up, keep: 8d}]", "rule 2 never decides" },
    /* Of tenants: what they say, and what is said of all. */
    { "rollup: {5m: 90d}\ntenants:\n  a: {rollup: {5m: 0}, retention_rules: [{match: up, keep: 7d, keep_5m: 30d}]}",
      "f, line 3, column 41: retention_rules of tenant a: rule 1 has keep_5m, but no such rows are made: set rollup.5m of tenant a" },
    { "tenants: {b: {rollup: {5m: 0}}, a: {retention_rules: [{match: up, keep: 7d, keep_5m: 30d}]}}", "set rollup.5m of tenant a" },
    { "retention_rules: [{match: up, keep: 7d, keep_5m: 30d}]\n"
      "tenants: {a: {rollup: {5m: 90d}, retention_rules: [{match: up, keep: 7d}]}}", "set rollup.5m, how long" },
};

START_TEST(what_options_must_keep_together_is_pointed_at)
{
    struct kl_config *c = NULL;
    enum kl_code      code = kl_config_load(kl_app_options, "f", kl_span_str(wrong[_i].yaml), NULL, NULL, &c, &err);

    if (code == KL_OK)
        code = kl_app_check(c, &err);
    ck_assert_int_eq(code, KL_EINVAL);
    ck_assert_msg(strstr(err.text, wrong[_i].words) != NULL, "%s", err.text);
    kl_config_free(c);
}
END_TEST

static const char *const right[] = {
    "rollup: {1h: 90d}\nretention_rules: [{match: up, keep: 7d, keep_1h: 0}]",
    "retention_rules: [{match: up, keep: 7d, keep_1h: 0}]\ntenants: {a: {rollup: {1h: 90d}}}",
    "rollup: {1h: 90d}\ntenants: {a: {retention_rules: [{match: up, keep: 7d, keep_1h: 0}]}}",
    "rollup: {1h: 90d}\nretention_rules: [{match: up, keep: 7d, keep_1h: 0}]\ntenants: {a: {rollup: {1h: 0}}}",
};

START_TEST(rules_that_have_an_effect_for_some_tenant_are_taken)
{
    struct kl_config *c;

    ck_assert_msg(kl_config_load(kl_app_options, "f", kl_span_str(right[_i]), NULL, NULL, &c, &err) == KL_OK, "%s", err.text);
    ck_assert_msg(kl_app_check(c, &err) == KL_OK, "%s", err.text);
    kl_config_free(c);
}
END_TEST

static const struct { const char *yaml; bool open; } listens[] = {
    { "listen: 0.0.0.0:4480", true }, { "listen: ':4480'", true }, { "listen: 10.0.0.1:4480", true },
    { "listen: 127.0.0.1:4480", false }, { "listen: '[::1]:4480'", false },
    { "listen: localhost:0", false }, { "otlp: {grpc_listen: ''}", false },
};

START_TEST(keys_are_wanted_where_others_reach)
{
    struct kl_config *c = NULL;

    ck_assert_msg(kl_config_load(kl_app_options, "f", kl_span_str(listens[_i].yaml), NULL, NULL, &c, &err) == KL_OK,
                  "%s", err.text);
    ck_assert_int_eq(kl_app_check(c, &err), listens[_i].open ? KL_EINVAL : KL_OK);
    if (listens[_i].open)
        ck_assert_msg(strstr(err.text, "other machines reach") != NULL, "%s", err.text);
    kl_config_free(c);
}
END_TEST

static const char *const no_listens[] = { "listen: 127.0.0.1:99999", "listen: nonsense", "listen: '::1:80'",
                                          "otlp: {grpc_listen: '127.0.0.1:'}",
                                          "listen: nonsense\nauth: {anonymous: true}" };

/* Not with the advice to let everybody in, and also where everybody is. */
START_TEST(what_is_no_address_to_listen_on_is_pointed_at)
{
    struct kl_config *c = NULL;

    ck_assert_msg(kl_config_load(kl_app_options, "f", kl_span_str(no_listens[_i]), NULL, NULL, &c, &err) == KL_OK,
                  "%s", err.text);
    ck_assert_int_eq(kl_app_check(c, &err), KL_EINVAL);
    ck_assert_msg(strstr(err.text, "it should read host:port") != NULL, "%s", err.text);
    ck_assert_msg(strncmp(err.text, "f, line 1, column ", 18) == 0, "%s", err.text);
    kl_config_free(c);
}
END_TEST

static bool starts_section(const struct kl_option *o)
{
    size_t n = strcspn(o->path, ".");

    if (o->path[n] == '\0' || (o > kl_app_options && strncmp(o[-1].path, o->path, n + 1) == 0))
        return false;
    for (const struct kl_option *p = kl_app_options; p < o; p++)
        ck_assert_msg(strncmp(p->path, o->path, n + 1) != 0, "%s stands apart from its section", o->path);
    return true;
}

START_TEST(rows_of_a_section_stand_together_and_it_has_a_chapter)
{
    for (const struct kl_option *o = kl_app_options; o->path != NULL; o++) {
        bool found = !starts_section(o);
        for (const struct kl_config_section *s = kl_app_sections; s->name != NULL && !found; s++)
            found = strlen(s->name) == strcspn(o->path, ".") && strncmp(s->name, o->path, strlen(s->name)) == 0;
        ck_assert_msg(found, "the section of %s has no row in kl_app_sections", o->path);
        ck_assert_msg(o->help != NULL && o->help[0] != '\0', "%s has no help", o->path);
        for (const char *c = o->path; *c != '\0'; c++)
            ck_assert_msg(islower((unsigned char)*c) || isdigit((unsigned char)*c) || strchr("._-", *c), "%s", o->path);
    }
}
END_TEST

static void variable(const char *path, char *out)
{
    for (; *path != '\0'; path++)
        *out++ = *path == '.' || *path == '-' ? '_' : *path;
    *out = '\0';
}

START_TEST(no_two_options_are_one_variable_or_one_flag)
{
    char a[200], b[200];

    for (const struct kl_option *o = kl_app_options; o->path != NULL; o++)
        for (const struct kl_option *p = kl_app_options; p < o; p++) {
            variable(o->path, a);
            variable(p->path, b);
            ck_assert_msg(strcmp(a, b) != 0, "%s and %s", o->path, p->path);
        }
}
END_TEST

START_TEST(the_page_of_options_is_that_of_the_table)
{
    struct kl_buf page = { 0 };
    char         *bytes;
    size_t        size;

    ck_assert_msg(kl_app_read_file("deploy/CONFIG.md", &bytes, &size, &err) == KL_OK, "%s", err.text);
    kl_app_config_page(&page);
    ck_assert_msg(kl_span_eq(kl_buf_span(&page), kl_span(bytes, size)), "deploy/CONFIG.md is stale: make config-doc");
    free(bytes);
    kl_buf_deinit(&page);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/app/options");
    TCase *t = tcase_create("all");

    tcase_add_test(t, what_is_said_nowhere_is_a_configuration);
    tcase_add_loop_test(t, what_options_must_keep_together_is_pointed_at, 0, sizeof wrong / sizeof wrong[0]);
    tcase_add_loop_test(t, rules_that_have_an_effect_for_some_tenant_are_taken, 0, sizeof right / sizeof right[0]);
    tcase_add_loop_test(t, keys_are_wanted_where_others_reach, 0,
                        sizeof listens / sizeof listens[0]);
    tcase_add_loop_test(t, what_is_no_address_to_listen_on_is_pointed_at, 0, sizeof no_listens / sizeof no_listens[0]);
    tcase_add_test(t, rows_of_a_section_stand_together_and_it_has_a_chapter);
    tcase_add_test(t, no_two_options_are_one_variable_or_one_flag);
    tcase_add_test(t, the_page_of_options_is_that_of_the_table);
    suite_add_tcase(s, t);
    return run_suite(s);
}
