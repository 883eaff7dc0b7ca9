/* libtsproto/layout, census: the placement table out of its keys, and the reasons to change it. */
#include "libtsproto/layout.h"

#include "libtsproto/census.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static struct tsp_layout *l;
static struct kl_buf      out;
static struct kl_err      err;

static void setup(void)
{
    l = tsp_layout_new();
    kl_buf_init(&out, 0);
}

static void teardown(void)
{
    tsp_layout_free(l);
    kl_buf_deinit(&out);
}

static struct kl_span text(const char *s) { return kl_span_str(s); }

static bool see_main(uint32_t partitions, uint64_t revision)
{
    struct tsp_placement *p = tsp_placement_new(partitions);
    bool                  changed;

    kl_buf_reset(&out);
    ck_assert_int_eq(tsp_placement_encode(p, &out, &err), KL_OK);
    changed = tsp_layout_see(l, TSP_PLACEMENT_KEY, kl_buf_span(&out), revision, &err);
    tsp_placement_free(p);
    return changed;
}

static enum kl_code add(const char *metric, uint8_t spread, int64_t from_ms, uint64_t revision, size_t *added)
{
    struct tsp_spread s = { text("t"), text(metric), spread, from_ms };
    uint32_t          number = tsp_spread_number(s.tenant, s.metric);
    char              key[64];
    uint64_t          expect;
    enum kl_code      code;

    kl_buf_reset(&out);
    code = tsp_layout_add(l, number, &s, 1, &out, added, &expect, &err);
    if (code != KL_OK || *added == 0)
        return code;
    tsp_spread_key(number, key, sizeof key);
    ck_assert(tsp_layout_see(l, key, kl_buf_span(&out), revision, &err));
    return KL_OK;
}

static uint32_t range(const char *metric)
{
    struct tsp_placement *p = tsp_layout_table(l);
    uint32_t              first, count;

    tsp_placement_range(p, text("t"), text(metric), &first, &count);
    tsp_placement_free(p);
    return count;
}

START_TEST(there_is_no_table_before_its_main_key)
{
    size_t added;

    ck_assert_ptr_null(tsp_layout_table(l));
    ck_assert_int_eq(add("up", 1, 0, 5, &added), KL_OK);
    ck_assert_ptr_null(tsp_layout_table(l));
    ck_assert(see_main(16, 3));
    ck_assert_uint_eq(range("up"), 2);
}
END_TEST

START_TEST(the_revision_is_the_newest_keys)
{
    struct tsp_placement *p;
    size_t                added;

    see_main(16, 3);
    ck_assert_int_eq(add("up", 1, 0, 9, &added), KL_OK);
    ck_assert(see_main(16, 7));
    p = tsp_layout_table(l);
    ck_assert_uint_eq(tsp_placement_revision(p), 9);
    tsp_placement_free(p);
    ck_assert(!see_main(8, 6));                        /* older: passed over */
    ck_assert(!tsp_layout_see(l, "placement.other", kl_buf_span(&out), 10, &err));
    ck_assert_int_eq(err.code, KL_OK);
}
END_TEST

START_TEST(a_spread_is_never_taken_back)
{
    size_t added;
    char   key[64];

    see_main(16, 1);
    ck_assert_int_eq(add("up", 2, 0, 2, &added), KL_OK);
    ck_assert_int_eq(add("up", 1, 0, 3, &added), KL_OK);
    ck_assert_uint_eq(added, 0);
    ck_assert_int_eq(add("up", 2, 0, 3, &added), KL_OK);
    ck_assert_uint_eq(added, 0);
    ck_assert_int_eq(add("up", 3, 50, 4, &added), KL_OK);
    ck_assert_uint_eq(added, 1);
    ck_assert_uint_eq(range("up"), 8);
    tsp_spread_key(tsp_spread_number(text("t"), text("up")), key, sizeof key);
    ck_assert(!tsp_layout_see(l, key, kl_span(NULL, 0), 5, &err));
    ck_assert_uint_eq(range("up"), 8);
    ck_assert(!tsp_layout_see(l, key, text("\xff\xff"), 6, &err));
    ck_assert_int_eq(err.code, KL_EINVAL);
    ck_assert_uint_eq(range("up"), 8);
}
END_TEST

START_TEST(thousands_of_spreads_fit_and_each_is_found)
{
    enum { MANY = 8000 };
    static char              metrics[MANY][64];
    static struct tsp_spread of_key[MANY];
    struct tsp_placement    *p;

    see_main(64, 1);
    for (int i = 0; i < MANY; i++)
        snprintf(metrics[i], sizeof metrics[i], "some_metric_of_a_usual_name_%d_total", i);
    for (uint32_t number = 0; number < TSP_SPREAD_KEYS; number++) {
        size_t   n = 0, added;
        uint64_t expect;
        char     key[64];
        for (int i = 0; i < MANY; i++)
            if (tsp_spread_number(text("t"), text(metrics[i])) == number)
                of_key[n++] = (struct tsp_spread){ text("t"), text(metrics[i]), (uint8_t)(1 + i % 6), i };
        kl_buf_reset(&out);
        ck_assert_msg(tsp_layout_add(l, number, of_key, n, &out, &added, &expect, &err) == KL_OK, "%s", err.text);
        ck_assert_uint_eq(added, n);
        tsp_spread_key(number, key, sizeof key);
        ck_assert(tsp_layout_see(l, key, kl_buf_span(&out), number + 2, &err));
    }
    p = tsp_layout_table(l);
    for (int i = 0; i < MANY; i++) {
        int64_t from;
        ck_assert_uint_eq(tsp_placement_spread_of(p, text("t"), text(metrics[i]), &from), (unsigned)(1 + i % 6));
        ck_assert_int_eq(from, i);
    }
    tsp_placement_free(p);
}
END_TEST

START_TEST(a_full_key_says_so)
{
    char         metric[2000];
    size_t       added;
    enum kl_code code = KL_OK;

    see_main(16, 1);
    for (int i = 0; i < 16 * 40 && code == KL_OK; i++) {
        int n = snprintf(metric, sizeof metric, "m%d_", i);
        memset(metric + n, 'x', sizeof metric - (size_t)n - 1);
        metric[sizeof metric - 1] = '\0';
        code = add(metric, 1, 0, (uint64_t)i + 2, &added);
    }
    ck_assert_int_eq(code, KL_ELIMIT);
}
END_TEST

START_TEST(places_change_only_when_a_spread_begins)
{
    struct tsp_placement *p;
    int64_t               next;
    size_t                added;

    see_main(16, 1);
    add("a", 1, 100, 2, &added);
    add("b", 1, 50, 3, &added);
    p = tsp_layout_table(l);
    ck_assert_uint_eq(tsp_placement_steps(p, 49, &next), 0);
    ck_assert_int_eq(next, 50);
    ck_assert_uint_eq(tsp_placement_steps(p, 50, &next), 1);
    ck_assert_int_eq(next, 100);
    ck_assert_uint_eq(tsp_placement_steps(p, 100, &next), 2);
    ck_assert_int_eq(next, INT64_MAX);
    tsp_placement_free(p);
}
END_TEST

START_TEST(a_census_is_read_as_it_was_written)
{
    struct tsp_census *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
    struct kl_arena    arena;
    static char        names[TSP_CENSUS_METRICS_MAX][400];

    kl_arena_init(&arena, 1 << 20);
    *a = (struct tsp_census){ .partition = 7, .since_ms = -5, .count = 2 };
    a->metrics[0] = (struct tsp_census_metric){ text("t"), text("up"), 1ull << 40 };
    a->metrics[1] = (struct tsp_census_metric){ text("u"), text("x"), 3 };
    ck_assert_int_eq(tsp_census_encode(a, &out, &err), KL_OK);
    ck_assert_int_eq(tsp_census_decode(kl_buf_span(&out), &arena, b, &err), KL_OK);
    ck_assert(b->partition == 7 && b->since_ms == -5 && b->count == 2);
    ck_assert(b->metrics[0].series == 1ull << 40 && kl_span_eq(b->metrics[1].tenant, text("u")));
    /* too much for a value: the first ones */
    a->count = TSP_CENSUS_METRICS_MAX;
    for (unsigned i = 0; i < a->count; i++) {
        memset(names[i], 'x', sizeof names[i]);
        a->metrics[i] = (struct tsp_census_metric){ text("t"), kl_span(names[i], sizeof names[i]), 1000 - i };
    }
    kl_buf_reset(&out);
    ck_assert_int_eq(tsp_census_encode(a, &out, &err), KL_OK);
    ck_assert_uint_le(out.size, TSP_CENSUS_VALUE_MAX);
    ck_assert_int_eq(tsp_census_decode(kl_buf_span(&out), &arena, b, &err), KL_OK);
    ck_assert(b->count > 100 && b->count < a->count && b->metrics[0].series == 1000);
    kl_arena_deinit(&arena);
    free(a);
    free(b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("libtsproto/layout");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, there_is_no_table_before_its_main_key);
    tcase_add_test(t, the_revision_is_the_newest_keys);
    tcase_add_test(t, a_spread_is_never_taken_back);
    tcase_add_test(t, thousands_of_spreads_fit_and_each_is_found);
    tcase_add_test(t, a_full_key_says_so);
    tcase_add_test(t, places_change_only_when_a_spread_begins);
    tcase_add_test(t, a_census_is_read_as_it_was_written);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
