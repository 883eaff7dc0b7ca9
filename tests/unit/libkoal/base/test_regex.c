/* libkoal/base/match: Go's syntax, anchored; what is reduced matches as RE2 would. */
#include "libkoal/base/match.h"
#include "libkoal/base/regex_size.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct kl_err err;

static struct kl_regex *make(const char *pattern)
{
    struct kl_regex *re = NULL;

    ck_assert_msg(kl_regex_new(kl_span_str(pattern), &re, &err) == KL_OK, "%s: %s", pattern, err.text);
    return re;
}

static const struct { const char *pattern, *yes[5], *no[6]; } cases[] = {
    { "", { "" }, { "a" } },
    { "abc", { "abc" }, { "ab", "abcd", "xabc", "ABC", "" } },
    { "a|b|", { "a", "b", "" }, { "ab", "c" } },
    { "a(b|c)d|e", { "abd", "acd", "e" }, { "ad", "abcd", "a", "be" } },
    { "(?:foo|bar)(?:1|2)", { "foo1", "bar2" }, { "foo", "foo12" } },
    { "a\\.b", { "a.b" }, { "axb" } },
    { "a\\|b", { "a|b" }, { "a", "b" } },
    { "\\(\\)\\[\\]\\{\\}\\^\\$\\*\\+\\?\\\\", { "()[]{}^$*+?\\" }, { "" } },
    { ".*", { "", "x", "a\nb" }, { NULL } },
    { ".+", { "x", "\n", "\xc3\xa9" }, { "" } },
    { ".+.+", { "ab", "\xc3\xa9z" }, { "a", "", "\xc3\xa9" } },
    { "foo.*", { "foo", "foobar", "foo\n" }, { "fo", "xfoo" } },
    { "foo.+", { "foobar", "foo\xc3\xa9" }, { "foo", "xfoo1" } },
    { ".*foo", { "foo", "barfoo" }, { "foox" } },
    { ".+foo", { "xfoo", "foofoo" }, { "foo" } },
    { ".*foo.*", { "foo", "xfoo", "foox", "xfoox" }, { "fo", "" } },
    { ".+foo.+", { "xfooy", "foofoofoo", "foofoox" }, { "foo", "xfoo", "foox" } },
    { ".*a\\.b.*", { "a.b", "xa.bx" }, { "axb" } },
    { "ab*", { "a", "ab", "abbb" }, { "b", "abab" } },
    { "ab*.*", { "a", "ab", "ac" }, { "b" } },
    { "\xc3\xa9*", { "", "\xc3\xa9", "\xc3\xa9\xc3\xa9" }, { "\xc3", "e" } },
    { "\xc3\xa9?x", { "x", "\xc3\xa9x" }, { "\xc3x" } },
    { "a{2}", { "aa" }, { "a", "a{2}", "aaa" } },
    { "a{,2}", { "a{,2}" }, { "a", "aa" } },           /* no repetition: a literal */
    { "(?i)abc", { "abc", "ABC" }, { "abcd" } },
    { "a(?i)bc", { "abc", "aBC" }, { "Abc" } },
    { "(?i:a)|b", { "a", "A", "b" }, { "B" } },
    { "^abc$", { "abc" }, { "xabc", "abc\n" } },
    { "a.c", { "abc", "a\nc", "a\xc3\xa9" "c" }, { "ac", "abbc" } },
    { "[a-c]x|y", { "ax", "cx", "y" }, { "dx", "xy" } },
    { "\\d+", { "1", "42" }, { "", "x", "1x" } },
    { "\\Qa.b\\E", { "a.b" }, { "axb" } },
    { "a\\Q|\\Eb", { "a|b" }, { "a", "b" } },
    { "x\\.y.*", { "x.y", "x.yz" }, { "xay" } },
    { "a|ab", { "a", "ab" }, { "abb" } },
    { "(a|ab)(c|bcd)", { "ac", "abcd", "abc", "abbcd" }, { "ab" } },
    { ".*?foo", { "foo", "xfoo" }, { "foox" } },
    { "foo.*bar", { "foobar", "fooxbar" }, { "foo", "bar", "foobarx" } },
    { "()", { "" }, { "x" } },
    { "a||b", { "a", "", "b" }, { "ab" } },
    { "f(?)*", { "", "f", "ff" }, { "g" } },
    { "\\n", { "\n" }, { "n", "\\n" } },
    { "[|]a", { "|a" }, { "a", "[" } },
};
enum { CASES = sizeof cases / sizeof cases[0] };

START_TEST(a_pattern_matches_whole_texts_as_in_go)
{
    struct kl_regex *re = make(cases[_i].pattern);

    for (int k = 0; k < 5 && cases[_i].yes[k] != NULL; k++) {
        struct kl_span text = kl_span_str(cases[_i].yes[k]), group;
        ck_assert_msg(kl_regex_match(re, text), "%s should match \"%s\"", cases[_i].pattern,
                      cases[_i].yes[k]);
        ck_assert_msg(kl_regex_groups(re, text, &group, 1) == 1, "%s, by groups, should match \"%s\"",
                      cases[_i].pattern, cases[_i].yes[k]);
    }
    for (int k = 0; k < 6 && cases[_i].no[k] != NULL; k++) {
        struct kl_span text = kl_span_str(cases[_i].no[k]), group;
        ck_assert_msg(!kl_regex_match(re, text), "%s should not match \"%s\"", cases[_i].pattern,
                      cases[_i].no[k]);
        ck_assert_msg(kl_regex_groups(re, text, &group, 1) == 0, "%s, by groups, should not match",
                      cases[_i].pattern);
    }
    kl_regex_free(re);
}
END_TEST

static const struct { const char *pattern, *set, *prefix; } shapes[] = {
    { "abc", "abc", NULL }, { "b|a|b", "a,b", NULL }, { "a(b|c)", "ab,ac", NULL },
    { "foo.*", "", "foo" }, { "foo\\.x+", "", "foo." }, { "foo|bar.*", "", "" }, { "ab*", "", "a" },
    { "(?i)abc", "", "" }, { "a[bc]", "", "a" }, { ".*x", "", "" }, { "a\xc3\xa9*", "", "a" },
    { "^abc.*", "", "" }, { "x?y", "", "" }, { "f(?)*", "", "" }, { "fo\\Q\\E*", "", "f" },
    { "fo(?i)x", "", "f" },
};

START_TEST(sets_and_prefixes_are_found)
{
    struct kl_regex      *re = make(shapes[_i].pattern);
    const struct kl_span *set;
    size_t                n = kl_regex_set(re, &set);
    struct kl_buf         text = { 0 };

    for (size_t i = 0; i < n; i++) {
        kl_buf_adds(&text, i > 0 ? "," : "");
        kl_buf_add(&text, set[i].at, set[i].size);
    }
    ck_assert(kl_span_eq(kl_buf_span(&text), kl_span_str(shapes[_i].set)));
    if (shapes[_i].prefix != NULL)
        ck_assert(kl_span_eq(kl_regex_prefix(re), kl_span_str(shapes[_i].prefix)));
    kl_buf_deinit(&text);
    kl_regex_free(re);
}
END_TEST

START_TEST(a_bad_pattern_is_refused_with_words)
{
    static const char *const bad[] = { "(", ")", "a)", "(a", "[a", "*", "a**", "\\", "(?<x", "\\8", "(?=a)",
                                       "a{2000}", "\xff", "x|*", "(?z)a" };
    struct kl_regex *re = NULL;

    ck_assert_int_eq(kl_regex_new(kl_span_str(bad[_i]), &re, &err), KL_EINVAL);
    ck_assert_uint_gt(strlen(err.text), 10);
}
END_TEST

START_TEST(groups_are_given_by_number_and_name)
{
    struct kl_regex *re = make("(?P<host>[^:]+):(\\d+)(x)?");
    struct kl_span   g[4];

    ck_assert_uint_eq(kl_regex_groups(re, kl_span_str("a.b:80"), g, 4), 4);
    ck_assert(kl_span_eq(g[1], kl_span_str("a.b")));
    ck_assert(kl_span_eq(g[2], kl_span_str("80")));
    ck_assert_uint_eq(g[3].size, 0);
    ck_assert_int_eq(kl_regex_group_index(re, kl_span_str("host")), 1);
    ck_assert_int_eq(kl_regex_group_index(re, kl_span_str("port")), -1);
    kl_regex_free(re);
}
END_TEST

START_TEST(hostile_patterns_take_linear_time_and_bounded_memory)
{
    static const char *const hostile[] = { "(x+x+)+y", "(a|a)*b", "(a*)*b", "((a{0,30}){0,30})b",
                                           "(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)[0-9]" };
    struct kl_regex *re;
    char             text[20001];

    memset(text, _i == 0 ? 'x' : 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    if (kl_regex_new(kl_span_str(hostile[_i]), &re, &err) != KL_OK)
        return;
    ck_assert(!kl_regex_match(re, kl_span_str(text)));
    kl_regex_free(re);
}
END_TEST

START_TEST(a_product_of_many_alternatives_is_left_to_re2)
{
    struct kl_regex      *re = make("(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)");
    const struct kl_span *set;

    ck_assert_uint_eq(kl_regex_set(re, &set), 0);
    ck_assert(kl_regex_match(re, kl_span_str("abababbbaa")));
    ck_assert(!kl_regex_match(re, kl_span_str("abababbba")));
    kl_regex_free(re);
}
END_TEST

START_TEST(an_absent_label_is_the_empty_text)
{
    struct kl_labels  l = { (const uint8_t *)"\1a\1v", 4 };
    struct kl_regex  *re = make("x|");
    struct kl_matcher m[] = {
        { KL_MATCH_EQ, kl_span_str("b"), kl_span_str(""), NULL },
        { KL_MATCH_NE, kl_span_str("b"), kl_span_str("x"), NULL },
        { KL_MATCH_RE, kl_span_str("b"), kl_span_str("x|"), re },
        { KL_MATCH_EQ, kl_span_str("a"), kl_span_str("v"), NULL },
        { KL_MATCH_NRE, kl_span_str("b"), kl_span_str("x|"), re },
    };

    ck_assert(kl_matchers_test(m, 4, l));
    ck_assert(!kl_matchers_test(m, 5, l));
    kl_regex_free(re);
}
END_TEST

START_TEST(a_few_bytes_of_pattern_may_be_large_and_it_is_known)
{
    static const struct { const char *pattern; size_t least, most; } sizes[] = {
        { "a|b", 1, 2000 }, { "5..", 1, 10000 }, { "[^x]{1000}", 100000, 1000000 }, { "\\pL{20}", 100000, 2000000 },
    };

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct kl_regex *re = make(sizes[i].pattern);

        ck_assert_uint_ge(kl_regex_bytes(re), sizes[i].least);
        ck_assert_uint_le(kl_regex_bytes(re), sizes[i].most);
        kl_regex_free(re);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/base/match");
    TCase *t = tcase_create("all");

    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, a_pattern_matches_whole_texts_as_in_go, 0, CASES);
    tcase_add_loop_test(t, sets_and_prefixes_are_found, 0, (int)(sizeof shapes / sizeof shapes[0]));
    tcase_add_loop_test(t, a_bad_pattern_is_refused_with_words, 0, 15);
    tcase_add_test(t, groups_are_given_by_number_and_name);
    tcase_add_loop_test(t, hostile_patterns_take_linear_time_and_bounded_memory, 0, 5);
    tcase_add_test(t, a_product_of_many_alternatives_is_left_to_re2);
    tcase_add_test(t, an_absent_label_is_the_empty_text);
    tcase_add_test(t, a_few_bytes_of_pattern_may_be_large_and_it_is_known);
    suite_add_tcase(s, t);
    return run_suite(s);
}
