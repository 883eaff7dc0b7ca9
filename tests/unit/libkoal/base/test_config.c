/* libkoal/base/config: where an option comes from, and what is said of a wrong one. */
#include "libkoal/base/config.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum kl_code no_mark(const char *text, struct kl_err *e)
{
    return strchr(text, '!') == NULL ? KL_OK : kl_fail(e, KL_EINVAL, "has a !");
}

static const struct kl_option table[] = {
    { "listen", KL_OPT_TEXT, "127.0.0.1:1", 0, 0, NULL, "Where." },
    { "log.replicas", KL_OPT_INT, "3", 1, 5, NULL, "How many." },
    { "log.ack", KL_OPT_CHOICE, "quorum", 0, 0, "quorum|all|one", "When." },
    { "log.segment-bytes", KL_OPT_BYTES, "64MiB", 1, INT64_MAX, NULL, "How large." },
    { "log.level", KL_OPT_TEXT, "info", 0, 0, NULL, "How | much.", .live = true },
    { "log.linger", KL_OPT_MS, "20", 0, 600000, NULL, "How long." },
    { "features.new", KL_OPT_INT, "0", 0, 100, NULL, "Who has it.", true, NULL, true },
    { "debug", KL_OPT_BOOL, "false", 0, 0, NULL, "More words." },
    { "urls", KL_OPT_TEXT, NULL, 0, 0, NULL, "A list." },
    { "limits.past", KL_OPT_MS, "1h", 0, 600000000, NULL, "How old.", true, NULL, true },
    { "limits.count", KL_OPT_INT, "7", 1, 100, NULL, "How many.", true, NULL, true },
    { "rules", KL_OPT_LIST, NULL, 0, 0, NULL, "What.", true, no_mark, true },
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
    { "a:\n\t- b", "line" }, { "---\nlisten: x\n---\nlisten: y\n", "line 3, column 1: a second document" },
    { "listen: x\n...\nlisten: y\n", "line 3, column 1: " }, { "listen: x\n...\n\xff", "line" },
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

    ck_assert_int_eq(load("urls: [nats://me:se@cret@a:1, nats://b:2, 'nats://tok@c', 'nats://d/x@y', 'nats://@e']\n", NULL, NULL), KL_OK);
    kl_config_print(c, &b);
    kl_buf_add8(&b, 0);
    ck_assert_ptr_nonnull(strstr(b.at, "\"nats://***@a:1,nats://b:2,nats://***@c,nats://d/x@y,nats://***@e\""));
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

/* ---- tenants ---- */

static const struct kl_config *of(const char *tenant) { return kl_config_tenant(c, kl_span_str(tenant)); }

START_TEST(what_is_said_of_a_tenant_is_its_alone)
{
    static const char *const args[] = { "--limits.past=3h", NULL };

    ck_assert_int_eq(load("limits: {past: 2h, count: 9}\n"
                          "tenants: {a: {limits: {past: 5m}}, a.b-C_1: {limits: {count: 3}}, plain: {}}\n",
                          NULL, args), KL_OK);
    ck_assert_int_eq(kl_config_int(of("a"), "limits.past"), 300000);
    ck_assert_int_eq(kl_config_int(of("a"), "limits.count"), 9);
    ck_assert_int_eq(kl_config_int(of("a.b-C_1"), "limits.count"), 3);
    ck_assert_int_eq(kl_config_int(of("a.b-C_1"), "limits.past"), 3 * 3600000);   /* the flag's */
    ck_assert_int_eq(kl_config_int(of("plain"), "limits.count"), 9);
    ck_assert_ptr_eq(of("other"), c);
    ck_assert_ptr_eq(of(""), c);
    ck_assert_str_eq(kl_config_text(of("a"), "listen"), "127.0.0.1:1");
}
END_TEST

START_TEST(without_tenants_everyone_sees_the_same)
{
    ck_assert_int_eq(load("", NULL, NULL), KL_OK);
    ck_assert_ptr_eq(of("a"), c);
}
END_TEST

static const struct { const char *yaml, *words; } wrong_tenants[] = {
    { "tenants: {a: {listen: x}}", "cannot be said of one tenant" },
    { "tenants: {a: {log: {replicas: 3}}}", "cannot be said of one tenant" },
    { "tenants: {a: {limits: {count: 1000}}}", "should lie from 1 to 100" },
    { "tenants: {a: {limits: {nosuch: 1}}}", "no option" }, { "tenants: {a: {limits: 3}}", "map" },
    { "tenants: {a: {limits: {count: 1, count: 2}}}", "twice" },
    { "tenants: {a: {}, b: {}, a: {}}", "twice" }, { "tenants: {a: 3}", "map" },
    { "tenants: {'..': {}}", "no tenant's name" }, { "tenants: {'a b': {}}", "no tenant's name" },
    { "tenants: {'a/b': {}}", "no tenant's name" }, { "tenants: {'': {}}", "no tenant's name" },
    { "tenants: {'>': {}}", "no tenant's name" }, { "tenants: {? [a] : {}}", "map of tenants" },
    { "tenants: {a: {tenants: {b: {}}}}", "section" }, { "tenants: [a]", "map of tenants" },
    { "tenants:", "tenants should be a map of tenants" },
    { "tenants: {a: {rules: [{x: '!'}]}}", "has a !" },
};

START_TEST(a_wrong_word_about_a_tenant_is_refused_and_the_words_say_where)
{
    ck_assert_int_eq(load(wrong_tenants[_i].yaml, NULL, NULL), KL_EINVAL);
    ck_assert_msg(strstr(err.text, wrong_tenants[_i].words) != NULL, "%s", err.text);
    ck_assert_msg(strstr(err.text, "koa.yml, line 1") != NULL, "%s", err.text);
}
END_TEST

START_TEST(a_tenants_name_is_no_path_and_no_wildcard)
{
    char long_one[152];

    memset(long_one, 'x', sizeof long_one);
    ck_assert(kl_tenant_ok(kl_span(long_one, 150)));
    ck_assert(!kl_tenant_ok(kl_span(long_one, 151)));
    ck_assert(kl_tenant_ok(kl_span_str("a")));
    ck_assert(kl_tenant_ok(kl_span_str("...")));
    ck_assert(kl_tenant_ok(kl_span_str(".a")));
    ck_assert(kl_tenant_ok(kl_span_str("Az09_.-")));
    ck_assert(kl_tenant_ok(kl_span_str("LOCK1")) && kl_tenant_ok(kl_span_str("LOC")) && kl_tenant_ok(kl_span_str(".put")));
    for (const char *const *bad = (const char *const[]){ "", ".", "..", "*", ">", "a b", "a/b", "a\tb",
                                                         "\xc3\xa4", "a\n", "LOCK", "ENCRYPTED", ".put-", ".put-1", NULL }; *bad != NULL; bad++)
        ck_assert_msg(!kl_tenant_ok(kl_span_str(*bad)), "%s", *bad);
    ck_assert(!kl_tenant_ok(kl_span("a\0b", 3)));
}
END_TEST

START_TEST(thousands_of_tenants_are_found_each)
{
    struct kl_buf b = { 0 };
    const char   *name;
    char          text[16];

    kl_buf_adds(&b, "tenants:\n");
    for (int i = 0; i < 5000; i++)
        kl_buf_addf(&b, "  t%d: {limits: {past: %ds}}\n", i, i);
    kl_buf_add8(&b, 0);
    ck_assert_msg(load(b.at, NULL, NULL) == KL_OK, "%s", err.text);
    for (int i = 0; i < 5000; i++) {
        snprintf(text, sizeof text, "t%d", i);
        ck_assert_int_eq(kl_config_int(of(text), "limits.past"), i * 1000);
        ck_assert_ptr_eq(kl_config_tenant_at(c, (size_t)i, &name), of(text));
        ck_assert_str_eq(name, text);
    }
    ck_assert_ptr_null(kl_config_tenant_at(c, 5000, &name));
    kl_buf_deinit(&b);
}
END_TEST

/* ---- lists of maps ---- */

static enum kl_code write_field(void *ctx, size_t item, const char *key, size_t nth, struct kl_span value,
                                struct kl_err *e)
{
    (void)e;
    kl_buf_addf(ctx, "%zu.%s.%zu=%.*s;", item, key, nth, (int)value.size, (const char *)value.at);
    return KL_OK;
}

static const char *fields_of(const struct kl_config *config)
{
    static struct kl_buf b;

    kl_buf_reset(&b);
    ck_assert_int_eq(kl_config_list(kl_config_text(config, "rules"), write_field, &b, &err), KL_OK);
    kl_buf_add8(&b, 0);
    return b.at;
}

START_TEST(a_list_of_maps_is_read_field_by_field)
{
    static const char *const env[] = { "KOALEMOS_RULES=[{from: env}]", NULL };

    ck_assert_int_eq(load("rules:\n- {action: keep, from: [a, 'b,c'], none: []}\n- to: \"x\\\"\\ny\"\n"
                          "tenants: {t: {rules: []}, u: {rules: }, v: {rules: [{k: v}]}}", NULL, NULL), KL_OK);
    ck_assert_str_eq(fields_of(c), "0.action.0=keep;0.from.0=a;0.from.1=b,c;1.to.0=x\"\ny;");
    ck_assert_str_eq(fields_of(of("t")), "");
    ck_assert_str_eq(fields_of(of("u")), "");
    ck_assert_str_eq(fields_of(of("v")), "0.k.0=v;");
    kl_config_free(c);
    ck_assert_int_eq(load("", env, NULL), KL_OK);
    ck_assert_str_eq(fields_of(c), "0.from.0=env;");
}
END_TEST

static const char *const no_lists[] = { "rules: {a: b}", "rules: x", "rules: [x]", "rules: [[a: b]]",
                                        "rules: [{}]", "rules: [{a: {b: c}}]", "rules: [{a: [[b]]}]",
                                        "rules: '[{a'", "rules: &x [{a: *x}]" };

START_TEST(what_is_no_list_of_maps_is_refused)
{
    ck_assert_int_eq(load(no_lists[_i], NULL, NULL), KL_EINVAL);
    ck_assert_msg(strstr(err.text, "rules") != NULL && strstr(err.text, "koa.yml") != NULL, "%s", err.text);
}
END_TEST

START_TEST(tenants_and_lists_are_printed_so_that_they_load_to_the_same)
{
    struct kl_buf first = { 0 }, second = { 0 };

    ck_assert_int_eq(load("rules: [{a: [x, 'y: {'], b: \"q\\\"\"}]\n"
                          "tenants: {'1': {limits: {past: 5m, count: 2}}, 'true': {}, z: {rules: [{k: v}]}}",
                          NULL, NULL), KL_OK);
    kl_config_print(c, &first);
    kl_config_free(c);
    kl_buf_add8(&first, 0);
    ck_assert_msg(load(first.at, NULL, NULL) == KL_OK, "%s: %s", err.text, first.at);
    ck_assert_str_eq(fields_of(c), "0.a.0=x;0.a.1=y: {;0.b.0=q\";");
    ck_assert_int_eq(kl_config_int(of("1"), "limits.past"), 300000);
    ck_assert_str_eq(fields_of(of("z")), "0.k.0=v;");
    kl_config_print(c, &second);
    kl_buf_add8(&second, 0);
    ck_assert_str_eq(first.at, second.at);
    kl_buf_deinit(&first);
    kl_buf_deinit(&second);
}
END_TEST

START_TEST(what_all_have_is_printed_without_a_word_about_a_tenant)
{
    struct kl_buf b = { 0 };

    ck_assert_int_eq(load("limits: {past: 7m}\ntenants: {zoe: {limits: {past: 5m}}}", NULL, NULL), KL_OK);
    kl_config_print_common(c, &b);
    kl_buf_add8(&b, 0);
    ck_assert_msg(strstr(b.at, "past: \"7m\"") != NULL, "%s", b.at);
    ck_assert_msg(strstr(b.at, "tenants") == NULL && strstr(b.at, "zoe") == NULL, "%s", b.at);
    kl_buf_deinit(&b);
}
END_TEST

/* ---- what was meant, where it stands ---- */

static const struct { const char *yaml, *words; } meant[] = {
    { "log: {replica: 3}", "did you mean \"log.replicas\"?" },
    { "log: {Linger: 3}", "did you mean \"log.linger\"?" },
    { "limit: {past: 1h}", "did you mean \"limits.past\"?" },
    { "past: 1h", "did you mean \"limits.past\"?" },
    { "lisetn: x", "did you mean \"listen\"?" },
    { "tenants: {a: {limits: {psat: 1h}}}", "did you mean \"limits.past\"?" },
    { "entirely: {other: 1}", "--help lists them" }, { "x: 1", "--help lists them" },
};

START_TEST(an_unknown_key_is_told_with_the_nearest_name)
{
    ck_assert_int_eq(load(meant[_i].yaml, NULL, NULL), KL_EINVAL);
    ck_assert_msg(strstr(err.text, meant[_i].words) != NULL, "%s", err.text);
}
END_TEST

START_TEST(of_several_names_that_end_alike_none_is_guessed)
{
    static const struct kl_option two[] = {
        { "nats.credentials.file", KL_OPT_TEXT, NULL, 0, 0, NULL, "One." },
        { "auth.keys.file", KL_OPT_TEXT, NULL, 0, 0, NULL, "Another." }, { 0 },
    };
    static const char *const args[] = { "--config.file=x", NULL };
    struct kl_config *none;

    ck_assert_int_eq(kl_config_load(two, "koa.yml", kl_span("", 0), NULL, args, &none, &err), KL_EINVAL);
    ck_assert_str_eq(err.text, "there is no flag --config.file; --help lists them");
}
END_TEST

START_TEST(a_key_at_fault_is_pointed_at_and_else_the_value)
{
    ck_assert_int_eq(load("log:\n  ack: all\n  replica: 3\n", NULL, NULL), KL_EINVAL);
    ck_assert_msg(strstr(err.text, "koa.yml, line 3, column 3:") != NULL, "%s", err.text);
    ck_assert_int_eq(load("log:\n  ack: all\n  replicas: 30\n", NULL, NULL), KL_EINVAL);
    ck_assert_msg(strstr(err.text, "koa.yml, line 3, column 13:") != NULL, "%s", err.text);
}
END_TEST

static char all_faults[4000];
static void add_fault(void *ctx, const struct kl_err *e)
{
    (void)ctx;
    snprintf(all_faults + strlen(all_faults), sizeof all_faults - strlen(all_faults), "%s\n", e->text);
}

START_TEST(all_that_is_wrong_with_a_file_is_told)
{
    static const char many[] = "listen: x\nlog:\n  replica: 3\n  ack: most\n  linger: {a: 1}\ndebug: perhaps\n"
                               "tenants:\n  a: {limits: {count: 1000, past: 1h}, listen: y}\n  b: {limits: {count: x}}\nlisten: z\n";
    static const char *const each[] = { "line 3, column 3", "line 4, column 8", "line 5, column 3", "line 6, column 8",
                                        "line 8, column 23", "line 8, column 48", "line 9, column 23", "line 10, column 1" };

    all_faults[0] = '\0';
    ck_assert_uint_eq(kl_config_faults(table, "koa.yml", kl_span_str(many), add_fault, NULL), 8);
    for (size_t i = 0; i < sizeof each / sizeof each[0]; i++)
        ck_assert_msg(strstr(all_faults, each[i]) != NULL, "%s: %s", each[i], all_faults);
    ck_assert_uint_eq(kl_config_faults(table, "koa.yml", kl_span_str("tenants:\n  a/b: {}\n  c: 3\n  d: {nosuch: 1}\n  d: {}\n"),
                                       add_fault, NULL), 4);
    ck_assert_uint_eq(kl_config_faults(table, "koa.yml", kl_span_str("a: ["), add_fault, NULL), 1);
    ck_assert_uint_eq(kl_config_faults(table, "koa.yml", kl_span_str("listen: x"), add_fault, NULL), 0);
}
END_TEST

START_TEST(a_value_knows_where_it_stands)
{
    static const char *const env[] = { "KOALEMOS_LOG_ACK=all", NULL }, *const args[] = { "--debug", NULL };
    char where[300];

    ck_assert_int_eq(load("log:\n  replicas: 2\ntenants:\n  a: {limits: {count: 3}}\n", env, args), KL_OK);
    kl_config_where(c, "log.replicas", where, sizeof where);
    ck_assert_str_eq(where, "koa.yml, line 2, column 13");
    kl_config_where(of("a"), "limits.count", where, sizeof where);
    ck_assert_str_eq(where, "koa.yml, line 4, column 23");
    kl_config_where(of("a"), "log.ack", where, sizeof where);
    ck_assert_str_eq(where, "KOALEMOS_LOG_ACK");
    kl_config_where(c, "debug", where, sizeof where);
    ck_assert_str_eq(where, "flag --debug");
    kl_config_where(c, "listen", where, sizeof where);
    ck_assert_str_eq(where, "default");
}
END_TEST

/* ---- changes, and what is said elsewhere ---- */

static const struct { const char *before, *after, *live, *other; } changes[] = {
    { "", "", "", "" },
    { "", "listen: y\nlog: {replicas: 2}", "", "listen, log.replicas" },
    { "", "log: {level: debug}\nlimits: {past: 2h}", "log.level, limits.past", "" },
    { "tenants: {a: {}}", "", "tenants", "" },
    { "", "tenants: {a: {limits: {count: 3}}}", "tenants", "" },
    { "tenants: {a: {limits: {count: 3}}, b: {}}", "tenants: {b: {}, a: {limits: {count: 3}}}", "", "" },
    { "tenants: {a: {limits: {count: 3}}}", "tenants: {b: {limits: {count: 3}}}", "tenants", "" },
    { "urls: x", "debug: yes", "", "debug, urls" },
    { "log: {linger: 20}", "log: {linger: 20ms}", "", "log.linger" },     /* as written, to be safe */
};

START_TEST(what_has_changed_is_named_by_whether_it_takes_a_restart)
{
    struct kl_config *before;
    struct kl_buf     names = { 0 };

    ck_assert_int_eq(load(changes[_i].before, NULL, NULL), KL_OK);
    before = c;
    ck_assert_int_eq(load(changes[_i].after, NULL, NULL), KL_OK);
    ck_assert_uint_eq(kl_config_changes(before, c, true, &names) > 0, changes[_i].live[0] != '\0');
    kl_buf_add8(&names, 0);
    ck_assert_str_eq(names.at, changes[_i].live);
    kl_buf_reset(&names);
    kl_config_changes(before, c, false, &names);
    kl_buf_add8(&names, 0);
    ck_assert_str_eq(names.at, changes[_i].other);
    kl_buf_deinit(&names);
    kl_config_free(before);
}
END_TEST

static const char *said(const char *yaml)
{
    static struct kl_buf b;

    kl_buf_reset(&b);
    b.cap = 1000;
    if (kl_config_said_read(table, "the body", kl_span_str(yaml), &b, &err) != KL_OK)
        return NULL;
    kl_buf_add8(&b, 0);
    return b.at;
}

START_TEST(what_is_said_of_a_tenant_elsewhere_has_one_form)
{
    static const char form[] = "{\"limits.past\": \"2h\", \"rules\": \"[{\\\"a\\\": \\\"b\\\"}]\"}";

    ck_assert_str_eq(said("limits: {past: 2h}\nrules: [{a: b}]"), form);
    ck_assert_str_eq(said("{\"rules\": [{\"a\": \"b\"}], \"limits.past\": \"2h\"}"), form);
    ck_assert_str_eq(said(form), form);
    ck_assert_str_eq(said("{}"), "{}");
    ck_assert_str_eq(said(""), "{}");
    for (const char *const *bad = (const char *const[]){ "[a]", "x", "listen: y", "limits: {past: soon}",
                                                         "tenants: {}", "rules: [{a: '!'}]", NULL }; *bad != NULL; bad++) {
        ck_assert_msg(said(*bad) == NULL, "%s", *bad);
        ck_assert_msg(strstr(err.text, "the body") != NULL, "%s", err.text);
    }
}
END_TEST

START_TEST(what_is_said_anew_goes_over_what_was_said_and_some_is_taken_back)
{
    static const char *const none[] = { NULL }, *const count[] = { "limits.count", NULL }, *const odd[] = { "limits.cuont", NULL };
    struct kl_span under = kl_span_str("{\"limits.past\": \"1h\", \"limits.count\": \"3\"}");
    struct kl_buf  all = { 0 };

    ck_assert_int_eq(kl_config_said_merge(table, under, "here", kl_span_str("limits: {past: 2h}"), none, &all, &err), KL_OK);
    kl_buf_add8(&all, 0);
    ck_assert_str_eq(all.at, "{\"limits.past\": \"2h\", \"limits.count\": \"3\"}");
    kl_buf_reset(&all);
    ck_assert_int_eq(kl_config_said_merge(table, under, "here", kl_span("", 0), count, &all, &err), KL_OK);
    kl_buf_add8(&all, 0);
    ck_assert_str_eq(all.at, "{\"limits.past\": \"1h\"}");
    kl_buf_reset(&all);
    ck_assert_int_eq(kl_config_said_merge(table, under, "here", kl_span("", 0), odd, &all, &err), KL_EINVAL);
    ck_assert_msg(strstr(err.text, "did you mean \"limits.count\"?") != NULL, "%s", err.text);
    ck_assert_int_eq(kl_config_said_merge(table, kl_span_str("{\"of.tomorrow\": \"1\"}"), "here", kl_span("", 0), none, &all, &err),
                     KL_EINVAL);
    ck_assert_msg(strstr(err.text, "what was said before") != NULL, "%s", err.text);
    kl_buf_deinit(&all);
}
END_TEST

static int refusals;
static void refused(void *ctx, const struct kl_err *e) { (void)ctx, (void)e; refusals++; }

START_TEST(what_is_said_elsewhere_wins_and_what_another_version_says_is_left_out)
{
    struct kl_config *base, *over;
    const struct kl_config_said all[] = {
        { kl_span_str("a"), kl_span_str("{\"limits.past\": \"9h\", \"of.tomorrow\": \"1\", \"limits.count\": \"5\"}") },
        { kl_span_str("new"), kl_span_str("{\"limits.count\": \"6\"}") },
    };

    ck_assert_int_eq(load("limits: {past: 2h}\ntenants: {a: {limits: {past: 5m}, rules: [{k: v}]}, b: {limits: {count: 9}}}",
                          NULL, NULL), KL_OK);
    base = c;
    refusals = 0;
    over = c = kl_config_over(base, all, 2, refused, NULL);
    kl_config_free(base);                              /* it lives on below the other */
    ck_assert_int_eq(refusals, 1);
    ck_assert_int_eq(kl_config_int(over, "limits.past"), 7200000);
    ck_assert_int_eq(kl_config_int(of("a"), "limits.past"), 9 * 3600000);
    ck_assert_int_eq(kl_config_int(of("a"), "limits.count"), 5);
    ck_assert_str_eq(fields_of(of("a")), "0.k.0=v;");
    ck_assert_int_eq(kl_config_int(of("b"), "limits.count"), 9);
    ck_assert_int_eq(kl_config_int(of("new"), "limits.count"), 6);
    ck_assert_int_eq(kl_config_int(of("new"), "limits.past"), 7200000);
}
END_TEST

/* ---- features ---- */

static unsigned having(const char *percent, bool *who, const bool *before)
{
    char     yaml[120], tenant[20];
    unsigned n = 0;

    snprintf(yaml, sizeof yaml, "features: {new: %s}\ntenants: {never: {features: {new: 0}}, always: {features: {new: 100}}}",
             percent);
    ck_assert_int_eq(load(yaml, NULL, NULL), KL_OK);
    for (unsigned i = 0; i < 4000; i++) {
        snprintf(tenant, sizeof tenant, "team-%u", i);
        who[i] = kl_config_feature(c, "features.new", kl_span_str(tenant));
        n += who[i];
        if (before != NULL && before[i])
            ck_assert_msg(who[i], "%s lost it", tenant);
    }
    ck_assert(!kl_config_feature(c, "features.new", kl_span_str("never")));
    ck_assert(kl_config_feature(c, "features.new", kl_span_str("always")));
    kl_config_free(c);
    c = NULL;
    return n;
}

START_TEST(a_feature_is_on_for_about_so_many_tenants_and_who_has_it_keeps_it)
{
    static bool ten[4000], half[4000], all[4000];

    ck_assert_uint_eq(having("0", ten, NULL), 0);
    ck_assert_uint_gt(having("10", ten, NULL), 300);
    ck_assert_uint_lt(having("10", ten, NULL), 500);
    ck_assert_uint_gt(having("50", half, ten), 1850);
    ck_assert_uint_lt(having("50", half, ten), 2150);
    ck_assert_uint_eq(having("100", all, half), 4000);
}
END_TEST

/* ---- pages ---- */

START_TEST(the_page_has_every_option_once)
{
    static const struct kl_config_section sections[] = {
        { "", "All." }, { "log", "The log." }, { "limits", "Limits." }, { "features", "Features." }, { 0 } };
    struct kl_buf b = { 0 };

    kl_config_markdown(table, sections, &b);
    kl_buf_add8(&b, 0);
    for (const struct kl_option *o = table; o->path != NULL; o++) {
        char        mark[80];
        const char *at;
        snprintf(mark, sizeof mark, "\n| `%s` |", o->path);
        at = strstr(b.at, mark);
        ck_assert_msg(at != NULL && strstr(at + 1, mark) == NULL, "%s", o->path);
    }
    ck_assert_ptr_nonnull(strstr(b.at, "| `log.segment-bytes` | size, 1B to 9223372036854775807B | `64MiB` | restart | How large. |"));
    ck_assert_ptr_nonnull(strstr(b.at, "| `limits.past` | duration, 0 to 10000m | `1h` | reload, tenant | How old. |"));
    ck_assert_ptr_nonnull(strstr(b.at, "| `log.level` | text | `info` | reload | How \\| much. |"));
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(the_schema_is_json_and_says_what_a_tenant_may_have)
{
    struct kl_buf b = { 0 };
    const char   *tenants;

    kl_config_schema(table, &b);
    kl_buf_add8(&b, 0);
    ck_assert_ptr_nonnull(strstr(b.at, "\"minimum\":1,\"maximum\":5"));
    ck_assert_ptr_nonnull(strstr(b.at, "\"enum\":[\"quorum\",\"all\",\"one\"]"));
    tenants = strstr(b.at, "\"tenants\":");
    ck_assert_ptr_nonnull(tenants);
    ck_assert_ptr_nonnull(strstr(tenants, "\"past\":"));
    ck_assert_ptr_null(strstr(tenants, "\"replicas\":"));
    ck_assert_ptr_eq(strstr(strstr(b.at, "\"log\":") + 1, "\"log\":"), NULL);
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(help_says_what_may_be_said_of_a_tenant)
{
    struct kl_buf b = { 0 };

    kl_config_help(table, &b);
    kl_buf_add8(&b, 0);
    ck_assert_ptr_nonnull(strstr(b.at, "--limits.past\n        How old. [1h] per tenant reloads\n"));
    ck_assert_ptr_null(strstr(b.at, "Where. [127.0.0.1:1] per tenant"));
    kl_buf_deinit(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/base/config");
    TCase *t = tcase_create("all");

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
    tcase_add_test(t, what_is_said_of_a_tenant_is_its_alone);
    tcase_add_test(t, without_tenants_everyone_sees_the_same);
    tcase_add_loop_test(t, a_wrong_word_about_a_tenant_is_refused_and_the_words_say_where, 0,
                        (int)(sizeof wrong_tenants / sizeof wrong_tenants[0]));
    tcase_add_test(t, a_tenants_name_is_no_path_and_no_wildcard);
    tcase_add_test(t, thousands_of_tenants_are_found_each);
    tcase_add_test(t, a_list_of_maps_is_read_field_by_field);
    tcase_add_loop_test(t, what_is_no_list_of_maps_is_refused, 0,
                        (int)(sizeof no_lists / sizeof no_lists[0]));
    tcase_add_test(t, tenants_and_lists_are_printed_so_that_they_load_to_the_same);
    tcase_add_test(t, what_all_have_is_printed_without_a_word_about_a_tenant);
    tcase_add_test(t, help_says_what_may_be_said_of_a_tenant);
    tcase_add_loop_test(t, an_unknown_key_is_told_with_the_nearest_name, 0, sizeof meant / sizeof meant[0]);
    tcase_add_test(t, of_several_names_that_end_alike_none_is_guessed);
    tcase_add_test(t, a_key_at_fault_is_pointed_at_and_else_the_value);
    tcase_add_test(t, all_that_is_wrong_with_a_file_is_told);
    tcase_add_test(t, a_value_knows_where_it_stands);
    tcase_add_loop_test(t, what_has_changed_is_named_by_whether_it_takes_a_restart, 0,
                        sizeof changes / sizeof changes[0]);
    tcase_add_test(t, what_is_said_of_a_tenant_elsewhere_has_one_form);
    tcase_add_test(t, what_is_said_anew_goes_over_what_was_said_and_some_is_taken_back);
    tcase_add_test(t, what_is_said_elsewhere_wins_and_what_another_version_says_is_left_out);
    tcase_add_test(t, a_feature_is_on_for_about_so_many_tenants_and_who_has_it_keeps_it);
    tcase_add_test(t, the_page_has_every_option_once);
    tcase_add_test(t, the_schema_is_json_and_says_what_a_tenant_may_have);
    suite_add_tcase(s, t);
    return run_suite(s);
}
