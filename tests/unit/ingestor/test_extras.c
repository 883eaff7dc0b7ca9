/* Metadata and exemplars of a tenant: what is held follows from what was told and cut, and the digests say so. */
#include "ingestor/head_priv.h"

#include "libkoal/base/mem.h"
#include "tests/suite.h"

#include <check.h>
#include <string.h>

static struct ing_head *h;

static void setup(void) { h = ing_head_new(kl_span_str("t"), 60000, NULL); }
static void teardown(void) { ing_head_free(h); }

static bool exemplar(uint64_t series, int64_t time_ms, double value, const char *trace)
{
    return ing_extras_exemplar(h, &(struct ing_exemplar){ .fp = { series, 1 }, .time_ms = time_ms, .value = value,
                                                          .labels = kl_span_str(trace) });
}

static bool meta(const char *metric, const char *help, int64_t told_ms, bool old)
{
    return ing_extras_meta(h, &(struct ing_meta){ .type = 1, .metric = kl_span_str(metric), .unit = kl_span_str("s"),
                                                  .help = kl_span_str(help), .told_ms = told_ms, .old = old });
}

struct sums { struct tsp_digest_sum of[TSP_DIGEST_KINDS]; };
static struct sums sums(void)
{
    struct sums s = { 0 };

    ing_extras_digest(h, s.of);
    return s;
}

static bool alike(struct sums a, struct sums b) { return memcmp(&a, &b, sizeof a) == 0; }

static enum ing_fate below(void *ctx, const struct ing_exemplar *e)
{
    return e->time_ms < *(int64_t *)ctx ? ING_GONE : ING_KEPT;
}

static enum ing_fate aged(void *ctx, const struct ing_exemplar *e)
{
    return e->time_ms < *(int64_t *)ctx ? ING_OLD : ING_KEPT;
}

START_TEST(an_exemplar_is_held_once_however_often_and_in_whatever_order_it_was_sent)
{
    struct sums once;

    for (int i = 0; i < 1000; i++)
        ck_assert(exemplar((uint64_t)i % 7, i, i, "a"));
    once = sums();
    ck_assert_uint_eq(h->extras->exemplar_count, 1000);
    ck_assert_uint_eq(once.of[TSP_DIGEST_EXEMPLARS].count, 1000);
    for (int i = 1000; i-- > 0;)
        ck_assert(exemplar((uint64_t)i % 7, i, i, "a"));
    ck_assert_uint_eq(h->extras->exemplar_count, 1000);
    ck_assert(alike(once, sums()));
    teardown();
    setup();
    for (int i = 1000; i-- > 0;)
        exemplar((uint64_t)i % 7, i, i, "a");
    ck_assert(alike(once, sums()));
}
END_TEST

START_TEST(each_thing_that_an_exemplar_is_makes_it_another)
{
    struct sums was[6];

    exemplar(1, 1000, 2, "a");
    was[0] = sums();
    for (int i = 0; i < 5; i++) {
        teardown();
        setup();
        exemplar(i == 0 ? 2 : 1, i == 1 ? 1001 : 1000, i == 2 ? 2.5 : 2, i == 3 ? "b" : i == 4 ? "" : "a");
        was[i + 1] = sums();
        for (int k = 0; k <= i; k++)
            ck_assert(!alike(was[k], was[i + 1]));
    }
    exemplar(1, 1000, 2, "a");
    ck_assert_uint_eq(h->extras->exemplar_count, 2);
}
END_TEST

START_TEST(what_a_cut_took_may_come_again)
{
    int64_t end = 500;

    for (int i = 0; i < 1000; i++)
        exemplar(1, i, i, "a");
    ing_extras_sift(h, below, &end);
    ck_assert_uint_eq(h->extras->exemplar_count, 500);
    for (int i = 0; i < 1000; i++)
        exemplar(1, i, i, "a");
    ck_assert_uint_eq(h->extras->exemplar_count, 1000);
    end = INT64_MAX;
    ing_extras_sift(h, below, &end);
    ck_assert_uint_eq(h->extras->exemplar_count, 0);
    ck_assert(alike((struct sums){ 0 }, sums()));
}
END_TEST

START_TEST(the_metadata_told_last_counts_and_goes_with_the_cut_behind_it)
{
    struct sums one, other;

    ck_assert(meta("a", "first", 100, false));
    one = sums();
    ck_assert(meta("a", "second", 200, false));
    other = sums();
    ck_assert(!alike(one, other));
    ck_assert(meta("b", "of b", 150, false));
    ing_extras_told(h, 150, true);                     /* both were told since */
    ck_assert_uint_eq(h->extras->meta_count, 2);
    ing_extras_told(h, 200, true);
    ck_assert_uint_eq(h->extras->meta_count, 1);
    ck_assert(alike(other, sums()));
    ck_assert(meta("a", "second", 300, false));        /* the same again: told later */
    ing_extras_told(h, 300, true);
    ck_assert(alike(other, sums()));
    ing_extras_told(h, 301, true);
    ck_assert_uint_eq(h->extras->meta_count, 0);
    ck_assert_uint_eq(h->extras->meta_fresh, 0);
}
END_TEST

START_TEST(what_no_fileset_took_is_held_and_not_compared_until_it_is_told_again)
{
    int64_t     end = 500;
    struct sums all;

    meta("a", "of a", 100, false);
    exemplar(1, 100, 1, "a");
    all = sums();
    ing_extras_told(h, 500, false);
    ing_extras_sift(h, aged, &end);
    ck_assert_uint_eq(h->extras->meta_count, 1);
    ck_assert_uint_eq(h->extras->exemplar_count, 1);
    ck_assert(alike((struct sums){ 0 }, sums()));
    ck_assert(meta("a", "not this", 50, true));        /* what the catalogue's cuts had, read again */
    meta("a", "of a", 600, false);
    exemplar(1, 100, 1, "a");
    ck_assert(alike(all, sums()));
    ck_assert(meta("a", "not this", 50, true));
    ck_assert(alike(all, sums()));
    ing_extras_told(h, 700, true);
    ck_assert_uint_eq(h->extras->meta_count, 0);
}
END_TEST

START_TEST(a_head_that_is_full_says_so_and_what_is_old_takes_no_room)
{
    int64_t end = 1000;

    for (int i = 0; i < 1000; i++)
        exemplar(1, i, 1, "a");
    ing_extras_sift(h, aged, &end);
    for (int i = 0; i < ING_EXEMPLARS_MAX; i++)
        ck_assert(exemplar(2, i, 1, "a"));
    ck_assert(!exemplar(2, -1, 1, "a"));
    ck_assert(!exemplar(1, 5, 1, "a"));                /* an old one, told again: there is no room for it */
    ck_assert(exemplar(2, 5, 1, "a"));
    ck_assert_uint_eq(h->extras->exemplar_fresh, ING_EXEMPLARS_MAX);
    ck_assert_uint_eq(h->extras->exemplar_count, ING_EXEMPLARS_MAX + 1000);
    end = INT64_MAX;
    ing_extras_sift(h, aged, &end);                    /* and of what is old there is as much at most */
    ck_assert_uint_eq(h->extras->exemplar_count, ING_EXEMPLARS_MAX);
    ck_assert_uint_eq(h->extras->exemplar_fresh, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ingestor/extras");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, an_exemplar_is_held_once_however_often_and_in_whatever_order_it_was_sent);
    tcase_add_test(t, each_thing_that_an_exemplar_is_makes_it_another);
    tcase_add_test(t, what_a_cut_took_may_come_again);
    tcase_add_test(t, the_metadata_told_last_counts_and_goes_with_the_cut_behind_it);
    tcase_add_test(t, what_no_fileset_took_is_held_and_not_compared_until_it_is_told_again);
    tcase_add_test(t, a_head_that_is_full_says_so_and_what_is_old_takes_no_room);
    suite_add_tcase(s, t);
    return run_suite(s);
}
