/* libkoal/base/relabel: what each action makes of a label set, as Prometheus does. */
#include "libkoal/base/relabel.h"

#include "libkoal/base/config.h"
#include "libkoal/base/md5.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct kl_option table[] = {
    { "rules", KL_OPT_LIST, NULL, 0, 0, NULL, "", false, kl_relabel_check }, { 0 },
};
static struct kl_config  *config;
static struct kl_relabel *relabel;
static struct kl_arena    arena;
static struct kl_err      err;

static void setup(void) { kl_arena_init(&arena, 1 << 20); }
static void teardown(void)
{
    kl_relabel_free(relabel);
    relabel = NULL;
    kl_config_free(config);
    config = NULL;
    kl_arena_deinit(&arena);
}

static enum kl_code load(const char *rules)
{
    struct kl_buf yaml = { 0 };
    enum kl_code  code;

    kl_buf_addf(&yaml, "rules: %s", rules);
    code = kl_config_load(table, "test.yml", kl_buf_span(&yaml), NULL, NULL, &config, &err);
    kl_buf_deinit(&yaml);
    return code == KL_OK ? kl_relabel_new(kl_config_text(config, "rules"), &relabel, &err) : code;
}

/* "a=1,b=2" into a builder; what becomes of it, sorted, or "dropped". */
static const char *apply(const char *labels)
{
    static char in[4096], out[8192];
    struct kl_labels_builder b;
    struct kl_buf   canonical = { 0 };
    struct kl_cur   c;
    struct kl_label x;
    size_t          n = 0;

    kl_labels_start(&b);
    snprintf(in, sizeof in, "%s", labels);
    for (char *at = strtok(in, ","); at != NULL; at = strtok(NULL, ",")) {
        char *eq = strchr(at, '=');
        kl_labels_add(&b, kl_span(at, (size_t)(eq - at)), kl_span_str(eq + 1), &err);
    }
    switch (kl_relabel_apply(relabel, &b, &arena)) {
    case KL_RELABEL_DROPPED: return "dropped";
    case KL_RELABEL_FULL:    return "full";
    case KL_RELABEL_KEPT:    break;
    }
    ck_assert_int_eq(kl_labels_finish(&b, &canonical, &err), KL_OK);
    c = kl_labels_cur((struct kl_labels){ (const uint8_t *)canonical.at, canonical.size });
    out[0] = '\0';
    while (kl_labels_next(&c, &x))
        n += (size_t)snprintf(out + n, sizeof out - n, "%s%.*s=%.*s", n > 0 ? "," : "", (int)x.name.size,
                              (const char *)x.name.at, (int)x.value.size, (const char *)x.value.at);
    kl_buf_deinit(&canonical);
    return out;
}

static const struct { const char *rules, *in, *out; } cases[] = {
    /* replace */
    { "[{source_labels: [a], regex: f(.*), target_label: d, replacement: 'ch${1}-ch${1}'}]",
      "a=foo,b=bar,c=baz", "a=foo,b=bar,c=baz,d=choo-choo" },
    { "[{source_labels: [a, b], regex: f(.*);(.*)r, target_label: a, replacement: 'b${1}${2}m'}, "
      "{source_labels: [c, a], regex: '(b).*b(.*)ba(.*)', target_label: d, replacement: $1$2$2$3}]",
      "a=foo,b=bar,c=baz", "a=boobam,b=bar,c=baz,d=boooom" },
    { "[{source_labels: [a], regex: .*(b).*, target_label: d, replacement: $1}]", "a=foo", "a=foo" },
    { "[{source_labels: [a], target_label: d}]", "a=foo", "a=foo,d=foo" },
    { "[{target_label: d, replacement: fixed}]", "a=foo", "a=foo,d=fixed" },
    { "[{target_label: a, replacement: ''}]", "a=foo,b=1", "b=1" },
    { "[{source_labels: [nosuch], target_label: a}]", "a=foo,b=1", "b=1" },
    { "[{source_labels: [a], regex: fo(o), target_label: d, replacement: ''}]", "a=foo,d=old", "a=foo" },
    { "[{source_labels: [a], regex: fo, target_label: d, replacement: x}]", "a=foo", "a=foo" },  /* anchored */
    { "[{source_labels: [a, b], separator: '', regex: foobar, target_label: d, replacement: x}]",
      "a=foo,b=bar", "a=foo,b=bar,d=x" },
    { "[{source_labels: [a], regex: 'some-([^-]+)-([^,]+)', target_label: '${1}', replacement: '${2}'}]",
      "a=some-name-value", "a=some-name-value,name=value" },
    { "[{source_labels: [a], regex: 'some-([^-]+)-([^,]+)', target_label: '${3}', replacement: '${2}'}]",
      "a=some-name-value", "a=some-name-value" },
    { "[{source_labels: [a], regex: 'some-([^-]+)(-[^-]+)', target_label: '${1}$2', replacement: x$$}]",
      "a=some-name-value", "a=some-name-value,name-value=x$" },
    { "[{source_labels: [a], regex: '(?P<first>.)(?P<rest>.*)', target_label: d, replacement: '$rest-${first}_'}]",
      "a=foo", "a=foo,d=oo-f_" },
    { "[{source_labels: [a], regex: '(.)(.*)', target_label: d, replacement: '$1x|${2}x|$|$9|${|'}]",
      "a=foo", "a=foo,d=|oox|$||${|" },
    { "[{source_labels: [a], target_label: 'städte.größe'}]", "a=foo", "a=foo,städte.größe=foo" },
    { "[{source_labels: [__name__], regex: (.*)_total, target_label: __name__, replacement: $1}]",
      "__name__=x_total,a=1", "__name__=x,a=1" },
    { "[{source_labels: [a], target_label: __tmp_x}, {source_labels: [__tmp_x], target_label: b}]",
      "a=foo", "a=foo,b=foo" },
    { "[{action: REPLACE, source_labels: a, target_label: b}]", "a=1", "a=1,b=1" },
    /* keep, drop */
    { "[{source_labels: [a], regex: .*o.*, action: drop}, {target_label: x, replacement: y}]", "a=foo", "dropped" },
    { "[{source_labels: [a], regex: .*o.*, action: drop}]", "a=bar", "a=bar" },
    { "[{source_labels: [a], regex: no-match, action: keep}]", "a=foo", "dropped" },
    { "[{source_labels: [a], regex: f.*|y, action: keep}]", "a=foo", "a=foo" },
    { "[{source_labels: [a], regex: 'f|o', action: drop}]", "a=fo", "a=fo" },
    { "[{source_labels: [nosuch], regex: '', action: drop}]", "a=foo", "dropped" },
    { "[{source_labels: [a], action: keep}]", "b=1", "b=1" },
    { "[{source_labels: [__name__], regex: go_.*, action: drop}]", "__name__=go_gc", "dropped" },
    /* keepequal, dropequal */
    { "[{source_labels: [a], target_label: b, action: keepequal}]", "a=1,b=1", "a=1,b=1" },
    { "[{source_labels: [a], target_label: b, action: keepequal}]", "a=1,b=2", "dropped" },
    { "[{source_labels: [a], target_label: b, action: dropequal}]", "a=1,b=1", "dropped" },
    { "[{source_labels: [a], target_label: b, action: dropequal}]", "a=1,b=2", "a=1,b=2" },
    { "[{source_labels: [x], target_label: y, action: dropequal}]", "a=1", "dropped" },   /* both absent */
    /* hashmod: Prometheus' own figures */
    { "[{source_labels: [c], target_label: d, action: hashmod, modulus: 1000}]",
      "a=foo,b=bar,c=baz", "a=foo,b=bar,c=baz,d=976" },
    { "[{source_labels: [a], target_label: d, action: hashmod, modulus: 1000}]",
      "a=foo\nbar", "a=foo\nbar,d=734" },
    /* labelmap, labeldrop, labelkeep */
    { "[{regex: '(b.*)', replacement: 'bar_${1}', action: labelmap}]",
      "a=foo,b1=bar,b2=baz", "a=foo,b1=bar,b2=baz,bar_b1=bar,bar_b2=baz" },
    { "[{regex: __meta_(my.*), action: labelmap}]",
      "a=foo,__meta_my_bar=aaa,__meta_my_baz=bbb,__meta_other=ccc",
      "__meta_my_bar=aaa,__meta_my_baz=bbb,__meta_other=ccc,a=foo,my_bar=aaa,my_baz=bbb" },
    { "[{regex: 'a(.*)', action: labelmap, replacement: 'b$1'}]", "a=1,b=2,ab=3", "a=1,ab=3,b=1,bb=3" },
    { "[{regex: (b.*), action: labeldrop}]", "a=foo,b1=bar,b2=baz", "a=foo" },
    { "[{regex: a, action: labelkeep}]", "a=foo,b1=bar,b2=baz", "a=foo" },
    { "[{regex: 'x', action: labelkeep}]", "a=foo", "" },
    /* lowercase, uppercase */
    { "[{source_labels: [foo], action: uppercase, target_label: foo_u}, "
      "{source_labels: [foo], action: lowercase, target_label: foo_l}]",
      "foo=bAr123Foo", "foo=bAr123Foo,foo_l=bar123foo,foo_u=BAR123FOO" },
    { "[{source_labels: [a], action: uppercase, target_label: a}]", "a=größe ñ дом", "a=GRÖßE Ñ ДОМ" },
    { "[]", "a=1", "a=1" },
};

START_TEST(an_action_does_what_prometheus_does)
{
    ck_assert_msg(load(cases[_i].rules) == KL_OK, "%s: %s", cases[_i].rules, err.text);
    ck_assert_str_eq(apply(cases[_i].in), cases[_i].out);
}
END_TEST

static const struct { const char *rules, *words; } wrong[] = {
    { "[{action: nosuch}]", "no action" }, { "[{regex: '(', target_label: a}]", "regex" },
    { "[{nosuch: x}]", "no \"nosuch\"" }, { "[{action: replace}]", "target_label" },
    { "[{action: hashmod, target_label: a}]", "modulus" }, { "[{action: hashmod, modulus: 1}]", "target_label" },
    { "[{action: hashmod, modulus: -1, target_label: a}]", "whole number" },
    { "[{action: hashmod, modulus: 99999999999999999999, target_label: a}]", "whole number" },
    { "[{action: lowercase}]", "target_label" }, { "[{action: lowercase, target_label: a, replacement: x}]", "replacement" },
    { "[{action: labelmap, replacement: ''}]", "replacement" }, { "[{action: labeldrop, source_labels: [a]}]", "regex only" },
    { "[{action: labelkeep, target_label: x}]", "regex only" }, { "[{action: keepequal, source_labels: [a]}]", "target_label" },
    { "[{action: dropequal, target_label: a, regex: x}]", "only" }, { "[{regex: [a, b]}]", "no list" },
    { "[{source_labels: [''], target_label: a}]", "without a name" }, { "[{target_label: ok}, {action: x}]", "rule 2" },
};

START_TEST(a_wrong_rule_is_refused_and_named)
{
    ck_assert_int_eq(load(wrong[_i].rules), KL_EINVAL);
    ck_assert_msg(strstr(err.text, wrong[_i].words) != NULL && strstr(err.text, "rule") != NULL &&
                  strstr(err.text, "test.yml") != NULL, "%s", err.text);
}
END_TEST

START_TEST(rules_that_double_a_value_again_and_again_are_bounded)
{
    struct kl_buf rules = { 0 };

    kl_buf_adds(&rules, "[{target_label: a, replacement: xxxxxxxxxxxxxxxx}");
    for (int i = 0; i < 60; i++)
        kl_buf_adds(&rules, ", {source_labels: [a], target_label: a, replacement: $1$1}");
    kl_buf_adds(&rules, "]");
    kl_buf_add8(&rules, 0);
    ck_assert_int_eq(load(rules.at), KL_OK);
    ck_assert_str_eq(apply("b=1"), "full");
    kl_buf_deinit(&rules);
}
END_TEST

START_TEST(a_builder_that_is_full_takes_no_more_labels)
{
    struct kl_labels_builder b;
    char names[KL_LABELS_MAX][16];

    ck_assert_int_eq(load("[{regex: '(.*)', action: labelmap, replacement: new_$1}]"), KL_OK);
    kl_labels_start(&b);
    for (int i = 0; i < KL_LABELS_MAX; i++) {
        snprintf(names[i], sizeof names[i], "n%d", i);
        kl_labels_add(&b, kl_span_str(names[i]), kl_span_str("v"), &err);
    }
    ck_assert_int_eq(kl_relabel_apply(relabel, &b, &arena), KL_RELABEL_FULL);
}
END_TEST

static const struct { const char *text, *hex; } digests[] = {       /* RFC 1321, A.5 */
    { "", "d41d8cd98f00b204e9800998ecf8427e" }, { "a", "0cc175b9c0f1b6a831c399e269772661" },
    { "abc", "900150983cd24fb0d6963f7d28e17f72" }, { "message digest", "f96b697d7cb7938d525a2f31aaf161d0" },
    { "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "d174ab98d277d9f5a5611c2c9f419d9f" },
    { "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
      "57edf4a22be3c955ac49da2e2107b67a" },
};

START_TEST(md5_is_md5)
{
    uint8_t digest[16];
    char    hex[33];

    kl_md5(kl_span_str(digests[_i].text), digest);
    for (int i = 0; i < 16; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    ck_assert_str_eq(hex, digests[_i].hex);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/base/relabel");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, an_action_does_what_prometheus_does, 0, (int)(sizeof cases / sizeof cases[0]));
    tcase_add_loop_test(t, a_wrong_rule_is_refused_and_named, 0, (int)(sizeof wrong / sizeof wrong[0]));
    tcase_add_test(t, rules_that_double_a_value_again_and_again_are_bounded);
    tcase_add_test(t, a_builder_that_is_full_takes_no_more_labels);
    tcase_add_loop_test(t, md5_is_md5, 0, (int)(sizeof digests / sizeof digests[0]));
    suite_add_tcase(s, t);
    return run_suite(s);
}
