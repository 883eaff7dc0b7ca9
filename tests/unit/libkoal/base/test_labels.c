/* libkoal/base/labels: one canonical form, and nothing else passes for it. */
#include "libkoal/base/labels.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct kl_labels_builder builder;
static struct kl_buf            out;
static struct kl_err            err;

static void setup(void)
{
    out = (struct kl_buf){ 0 };
    kl_labels_start(&builder);
}

static void teardown(void) { kl_buf_deinit(&out); }

static void add(const char *name, const char *value)
{
    ck_assert_int_eq(kl_labels_add(&builder, kl_span_str(name), kl_span_str(value), &err), KL_OK);
}

static struct kl_labels finish(void)
{
    ck_assert_int_eq(kl_labels_finish(&builder, &out, &err), KL_OK);
    return (struct kl_labels){ (const uint8_t *)out.at, out.size };
}

START_TEST(pairs_in_any_order_give_the_same_bytes)
{
    static const char *const orders[] = { "abc", "acb", "bac", "bca", "cab", "cba" };
    struct kl_labels l;

    for (const char *c = orders[_i]; *c != '\0'; c++)
        add(*c == 'a' ? "a" : *c == 'b' ? "b" : "c", "v");      /* borrowed until finish */
    l = finish();
    ck_assert_uint_eq(l.size, 12);
    ck_assert_mem_eq(l.at, "\1a\1v\1b\1v\1c\1v", 12);
    ck_assert_int_eq(kl_labels_check(l, &err), KL_OK);
    ck_assert_uint_eq(kl_labels_count(l), 3);
}
END_TEST

START_TEST(an_empty_value_is_no_label)
{
    struct kl_labels l;

    add("b", "");
    add("a", "1");
    l = finish();
    ck_assert_uint_eq(kl_labels_count(l), 1);
    ck_assert_uint_eq(kl_labels_get(l, kl_span_str("b")).size, 0);
    ck_assert(kl_span_eq(kl_labels_get(l, kl_span_str("a")), kl_span_str("1")));
}
END_TEST

START_TEST(a_name_twice_or_empty_is_refused_and_leaves_the_output_alone)
{
    kl_buf_adds(&out, "before");
    add("a", "1");
    add(_i == 0 ? "a" : "", _i == 0 ? "2" : "x");
    ck_assert_int_eq(kl_labels_finish(&builder, &out, &err), KL_EINVAL);
    ck_assert_uint_eq(out.size, 6);
}
END_TEST

START_TEST(too_many_labels_or_bytes_are_refused)
{
    static char names[KL_LABELS_MAX][16];
    char       *large = malloc(KL_LABELS_BYTES_MAX);

    for (int i = 0; i < KL_LABELS_MAX; i++) {
        snprintf(names[i], sizeof names[i], "n%d", i);
        add(names[i], "v");
    }
    ck_assert_int_eq(kl_labels_add(&builder, kl_span_str("z"), kl_span_str("v"), &err), KL_ELIMIT);
    finish();
    kl_labels_start(&builder);
    memset(large, 'x', KL_LABELS_BYTES_MAX);
    ck_assert_int_eq(kl_labels_add(&builder, kl_span_str("a"), kl_span(large, KL_LABELS_BYTES_MAX),
                                   &err), KL_OK);
    ck_assert_int_eq(kl_labels_finish(&builder, &out, &err), KL_ELIMIT);
    free(large);
}
END_TEST

static const struct { const char *bytes; size_t size; bool good; } sets[] = {
    { "", 0, true }, { "\1a\1v", 4, true }, { "\1a\1v\1b\1v", 8, true },
    { "\1b\1v\1a\1v", 8, false },                      /* out of order */
    { "\1a\1v\1a\1w", 8, false },                      /* twice */
    { "\0\1v", 3, false }, { "\1a\0", 3, false },      /* empty */
    { "\1a\2v", 4, false }, { "\1a", 2, false }, { "\x80", 1, false },        /* cut short */
    { "\1\xff\1v", 4, false }, { "\1a\1\xc3", 4, false },                     /* not UTF-8 */
};

START_TEST(unknown_bytes_are_a_label_set_only_in_the_canonical_form)
{
    struct kl_labels l = { (const uint8_t *)sets[_i].bytes, sets[_i].size };

    ck_assert_int_eq(kl_labels_check(l, &err) == KL_OK, sets[_i].good);
}
END_TEST

START_TEST(label_sets_sort_pair_by_pair_the_shorter_first)
{
    static const struct { const char *bytes; size_t size; } rising[] = {
        { "", 0 }, { "\1a\1v", 4 }, { "\1a\1v\1b\1a", 8 }, { "\1a\1w", 4 }, { "\1a\2wa", 5 },
        { "\2aa\1a", 5 }, { "\1b\1a", 4 },
    };

    for (size_t i = 0; i < sizeof rising / sizeof rising[0]; i++)
        for (size_t k = 0; k < sizeof rising / sizeof rising[0]; k++) {
            int order = kl_labels_cmp((struct kl_labels){ (const uint8_t *)rising[i].bytes, rising[i].size },
                                      (struct kl_labels){ (const uint8_t *)rising[k].bytes, rising[k].size });
            ck_assert_int_eq((order > 0) - (order < 0), (i > k) - (i < k));
        }
}
END_TEST

static const struct { const char *text; bool good; } texts[] = {
    { "", true }, { "plain text, longer than eight", true }, { "\xc3\xa9", true },
    { "\xe2\x82\xac", true }, { "\xf0\x9f\x98\x80", true }, { "\xf4\x8f\xbf\xbf", true },
    { "\xc0\x80", false }, { "\xc1\xbf", false }, { "\xe0\x9f\xbf", false },  /* overlong */
    { "\xf0\x8f\xbf\xbf", false }, { "\xed\xa0\x80", false },                 /* surrogate */
    { "\xf4\x90\x80\x80", false }, { "\xf5\x80\x80\x80", false },             /* past U+10FFFF */
    { "\x80", false }, { "abcdefgh\xff", false }, { "\xe2\x82", false }, { "\xc3(", false },
};

START_TEST(utf8_is_as_rfc_3629_says)
{
    ck_assert_int_eq(kl_utf8_ok(kl_span_str(texts[_i].text)), texts[_i].good);
}
END_TEST

/* Pair by pair, as the header says it. */
static int slow_cmp(struct kl_labels a, struct kl_labels b)
{
    struct kl_cur   ca = kl_labels_cur(a), cb = kl_labels_cur(b);
    struct kl_label x, y;

    for (;;) {
        bool more_a = kl_labels_next(&ca, &x), more_b = kl_labels_next(&cb, &y);
        int  order;

        if (!more_a || !more_b)
            return more_a - more_b;
        order = kl_span_cmp(x.name, y.name);
        if (order == 0)
            order = kl_span_cmp(x.value, y.value);
        if (order != 0)
            return order;
    }
}

START_TEST(any_two_sets_compare_as_pair_by_pair)
{
    enum { SETS = 60 };
    static struct kl_buf made[SETS];
    static char          values[SETS][4][400];
    unsigned             x = 1;

    for (unsigned i = 0; i < SETS; i++) {
        kl_labels_start(&builder);
        for (unsigned k = 0; k < 4; k++) {
            static const char *const names[] = { "a", "instance", "instances", "z" };

            x = x * 1103515245 + 12345;
            if (x >> 16 & 1)
                continue;
            /* Lengths around 127 bytes, where their varint grows, and values that share fronts. */
            memset(values[i][k], 'v', sizeof values[i][k]);
            values[i][k][(x >> 17) % 2 ? 120 + (x >> 20) % 20 : (x >> 20) % 12] = '\0';
            if (x >> 18 & 1)
                values[i][k][0] = (char)('u' + (x >> 21) % 3);
            add(names[k], values[i][k]);
        }
        ck_assert_int_eq(kl_labels_finish(&builder, &made[i], &err), KL_OK);
    }
    for (unsigned i = 0; i < SETS; i++)
        for (unsigned k = 0; k < SETS; k++) {
            struct kl_labels a = { (const uint8_t *)made[i].at, made[i].size };
            struct kl_labels b = { (const uint8_t *)made[k].at, made[k].size };
            int              fast = kl_labels_cmp(a, b), slow = slow_cmp(a, b);

            ck_assert_msg((fast > 0) - (fast < 0) == (slow > 0) - (slow < 0), "%u against %u", i, k);
        }
    for (unsigned i = 0; i < SETS; i++)
        kl_buf_deinit(&made[i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/base/labels");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, pairs_in_any_order_give_the_same_bytes, 0, 6);
    tcase_add_test(t, an_empty_value_is_no_label);
    tcase_add_loop_test(t, a_name_twice_or_empty_is_refused_and_leaves_the_output_alone, 0, 2);
    tcase_add_test(t, too_many_labels_or_bytes_are_refused);
    tcase_add_loop_test(t, unknown_bytes_are_a_label_set_only_in_the_canonical_form, 0,
                        (int)(sizeof sets / sizeof sets[0]));
    tcase_add_test(t, label_sets_sort_pair_by_pair_the_shorter_first);
    tcase_add_loop_test(t, utf8_is_as_rfc_3629_says, 0, (int)(sizeof texts / sizeof texts[0]));
    tcase_add_test(t, any_two_sets_compare_as_pair_by_pair);
    suite_add_tcase(s, t);
    return run_suite(s);
}
