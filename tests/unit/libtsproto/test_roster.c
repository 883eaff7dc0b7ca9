/*
 * libtsproto/roster: who counts as alive is decided by the observer's clock and what it saw move.
 */
#include "libtsproto/roster.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>

enum { SILENT_MS = 10000, GONE_MS = 60000 };
#define MS(x) ((int64_t)(x) * 1000000)

static struct tsp_roster *r;
static struct kl_buf      bytes;
static struct kl_err      err;
static uint64_t           revision;
static int64_t            told_ms;                     /* by the next beat, of its clock */

static void setup(void)
{
    r = tsp_roster_new(SILENT_MS, GONE_MS);
    kl_buf_init(&bytes, 64 * 1024);
    revision = 0;
}

static void teardown(void)
{
    tsp_roster_free(r);
    kl_buf_deinit(&bytes);
}

static enum kl_code beat(const char *name, uint8_t instance, uint64_t beat, int64_t now_ms)
{
    struct tsp_node n = { .capacity = 1, .instance = { { instance } }, .beat = beat, .now_ms = told_ms };
    char            key[100];

    snprintf(n.name, sizeof n.name, "%s", name);
    kl_buf_reset(&bytes);
    ck_assert_int_eq(tsp_node_encode(&n, &bytes, &err), KL_OK);
    tsp_node_key(name, key, sizeof key);
    return tsp_roster_see(r, key, kl_buf_span(&bytes), ++revision, MS(now_ms), &err);
}

static void put(const char *key, const char *value, int64_t now_ms)
{
    ck_assert_int_eq(tsp_roster_see(r, key, value == NULL ? kl_span(NULL, 0) : kl_span_str(value),
                                    ++revision, MS(now_ms), &err), KL_OK);
}

static enum tsp_presence at(const char *name, int64_t now_ms)
{
    return tsp_roster_presence(r, name, MS(now_ms));
}

START_TEST(an_old_key_is_not_a_live_node)
{
    ck_assert_int_eq(beat("a", 1, 5, 0), KL_OK);
    ck_assert_int_eq(at("a", 1), TSP_SILENT);
    ck_assert(!tsp_roster_settled(r, MS(1)));
    ck_assert(tsp_roster_settled(r, MS(SILENT_MS)));
    ck_assert_int_eq(at("a", GONE_MS), TSP_GONE);
}
END_TEST

START_TEST(a_beat_that_moves_is_life_for_as_long_as_the_bound_says)
{
    beat("a", 1, 5, 0);
    beat("a", 1, 6, 2000);
    ck_assert_int_eq(at("a", 2001), TSP_ALIVE);
    ck_assert(tsp_roster_settled(r, MS(2001)));
    ck_assert_int_eq(at("a", 2000 + SILENT_MS - 1), TSP_ALIVE);
    ck_assert_int_eq(at("a", 2000 + SILENT_MS), TSP_SILENT);
    ck_assert_int_eq(at("a", 2000 + GONE_MS), TSP_GONE);
    beat("a", 1, 6, 30000);                            /* the same words again are no sign of life */
    ck_assert_int_eq(at("a", 30001), TSP_SILENT);
    beat("a", 2, 1, 31000);                            /* another start is */
    ck_assert_int_eq(at("a", 31001), TSP_ALIVE);
}
END_TEST

static void beat_at(const char *name, uint8_t instance, uint64_t number, int64_t clock_ms, int64_t now_ms)
{
    told_ms = clock_ms;
    ck_assert_int_eq(beat(name, instance, number, now_ms), KL_OK);
    told_ms = 0;
}

/* What a node's clock says at our time, or 0. */
static int64_t clock_of(const char *name, int64_t now_ms)
{
    int64_t ms = 0;

    return tsp_roster_clock(r, name, MS(now_ms), &ms) ? ms : 0;
}

START_TEST(a_clock_is_known_when_two_beats_tell_that_it_runs_as_ours)
{
    const int64_t noon_ms = INT64_C(1700000000000), hour_ms = 3600000;

    beat_at("a", 1, 5, noon_ms, 0);                    /* it may have been told long ago */
    ck_assert_int_eq(clock_of("a", 1), 0);
    beat_at("a", 1, 6, noon_ms + 2000, 2500);
    ck_assert_int_eq(clock_of("a", 2500), noon_ms + 2000);
    ck_assert_int_eq(clock_of("a", 5500), noon_ms + 5000);
    /* We were cut off for an hour, and see what it told before it died; then that it lives. */
    beat_at("a", 1, 8, noon_ms + 6000, hour_ms);
    ck_assert_int_eq(at("a", hour_ms), TSP_ALIVE);
    ck_assert_int_eq(clock_of("a", hour_ms), 0);
    beat_at("a", 1, 9, noon_ms + hour_ms + 2000, hour_ms + 2000);
    ck_assert_int_eq(clock_of("a", hour_ms + 2000), 0);
    beat_at("a", 1, 10, noon_ms + hour_ms + 4000, hour_ms + 4000);
    ck_assert_int_eq(clock_of("a", hour_ms + 4000), noon_ms + hour_ms + 4000);
    beat_at("a", 2, 1, noon_ms + hour_ms + 6000, hour_ms + 6000);      /* another start */
    ck_assert_int_eq(clock_of("a", hour_ms + 6000), 0);
    beat("a", 2, 2, hour_ms + 8000);                   /* it does not tell */
    ck_assert_int_eq(clock_of("a", hour_ms + 8000), 0);
    beat_at("a", 2, 3, INT64_MAX - 1, hour_ms + 9000);
    beat_at("a", 2, 4, INT64_MAX, hour_ms + 9001);
    ck_assert_int_eq(clock_of("a", hour_ms + 9001), INT64_MAX);
    ck_assert_int_eq(clock_of("a", hour_ms + 9002), 0);
    ck_assert_int_eq(clock_of("b", 1), 0);
}
END_TEST

START_TEST(states_repeated_after_a_reconnection_take_nothing_back)
{
    beat("a", 1, 5, 0);
    beat("a", 1, 6, 1000);
    revision = 0;
    beat("a", 1, 5, 20000);
    ck_assert_uint_eq(tsp_roster_node(r, "a", NULL)->beat, 6);
    ck_assert_int_eq(at("a", 20001), TSP_SILENT);
}
END_TEST

START_TEST(marks_hold_for_nodes_that_come_later_too)
{
    put("mark.a", "drain", 0);
    beat("a", 1, 1, 0);
    beat("a", 1, 2, 1);
    ck_assert_int_eq(tsp_roster_node(r, "a", NULL)->state, TSP_NODE_DRAINING);
    put("mark.a", "removed", 2);
    ck_assert_int_eq(at("a", 3), TSP_GONE);
    put("mark.a", NULL, 4);
    ck_assert_int_eq(at("a", 5), TSP_ALIVE);
    beat("a", 1, 3, 6);
    ck_assert_int_eq(tsp_roster_node(r, "a", NULL)->state, TSP_NODE_UP);
    put("mark.a", "removed", 6);
    put("node.a", NULL, 7);
    ck_assert_int_eq(at("a", 8), TSP_GONE);
    ck_assert_ptr_null(tsp_roster_node(r, "a", NULL));
    put("mark.a", NULL, 9);
    ck_assert_int_eq(at("a", 10), TSP_GONE);
}
END_TEST

START_TEST(who_loses_its_key_is_silent_and_in_time_gone)
{
    struct tsp_present all[TSP_NODES_MAX];

    beat("a", 1, 1, 0);
    beat("a", 1, 2, 1000);
    beat("b", 1, 1, 1000);
    put("node.a", NULL, 2000);
    ck_assert_int_eq(at("a", 2001), TSP_SILENT);
    ck_assert_ptr_null(tsp_roster_node(r, "a", NULL));
    ck_assert_uint_eq(tsp_roster_list(r, all, MS(2001)), 2);
    ck_assert_str_eq(all[0].node->name, "a");
    ck_assert_int_eq(all[0].presence, TSP_SILENT);
    put("node.a", NULL, 3000);                         /* told again */
    ck_assert_int_eq(at("a", 3001), TSP_SILENT);
    beat("a", 1, 3, 4000);
    ck_assert_int_eq(at("a", 4001), TSP_SILENT);       /* a key that is there anew may be an old one */
    beat("a", 1, 4, 5000);
    ck_assert_int_eq(at("a", 5001), TSP_ALIVE);
    put("node.a", NULL, 6000);
    ck_assert_int_eq(at("a", 5000 + GONE_MS), TSP_GONE);
    ck_assert_uint_eq(tsp_roster_list(r, all, MS(5000 + GONE_MS)), 1);
    put("node.a", NULL, 5001 + GONE_MS);
    put("node.b", NULL, 5001 + GONE_MS);
    ck_assert_uint_eq(tsp_roster_list(r, all, MS(5002 + GONE_MS)), 0);
}
END_TEST

START_TEST(a_key_may_go_when_its_node_was_removed_and_is_quiet_or_for_long_was_not_heard)
{
    const int64_t forget_ms = 3 * GONE_MS;
    uint64_t      mark_revision = 0;

    beat("a", 1, 1, 0);
    beat("a", 1, 2, 1000);
    beat("b", 1, 1, 1000);
    ck_assert(tsp_roster_runs(r, "a", MS(2000)));
    ck_assert(!tsp_roster_runs(r, "b", MS(2000)));
    ck_assert(!tsp_roster_over(r, "a", MS(1000 + forget_ms - 1), MS(forget_ms)));
    ck_assert(tsp_roster_over(r, "a", MS(1000 + forget_ms), MS(forget_ms)));
    ck_assert(!tsp_roster_over(r, "a", MS(1000 + GONE_MS - 1), 0));
    ck_assert(tsp_roster_over(r, "b", MS(1000 + GONE_MS), 0));
    put("mark.a", "removed", 3000);
    beat("a", 1, 3, 4000);                             /* it still runs */
    ck_assert(tsp_roster_runs(r, "a", MS(5000)));
    ck_assert(!tsp_roster_over(r, "a", MS(4000 + SILENT_MS - 1), MS(forget_ms)));
    ck_assert(tsp_roster_over(r, "a", MS(4000 + SILENT_MS), MS(forget_ms)));
    ck_assert_ptr_null(tsp_roster_stale_mark(r, MS(9 * forget_ms), MS(forget_ms), &mark_revision));
    put("node.a", NULL, 20000);
    ck_assert(!tsp_roster_over(r, "a", MS(9 * forget_ms), MS(forget_ms)));
    ck_assert_ptr_null(tsp_roster_stale_mark(r, MS(20000 + forget_ms - 1), MS(forget_ms), &mark_revision));
    ck_assert_str_eq(tsp_roster_stale_mark(r, MS(20000 + forget_ms), MS(forget_ms), &mark_revision), "a");
    ck_assert_uint_gt(mark_revision, 0);
    put("mark.a", "drain", 30000);                     /* somebody says something else */
    ck_assert_ptr_null(tsp_roster_stale_mark(r, MS(20000 + forget_ms), MS(forget_ms), &mark_revision));
    put("mark.a", NULL, 40000);
    ck_assert_ptr_null(tsp_roster_stale_mark(r, MS(9 * forget_ms), MS(forget_ms), &mark_revision));
}
END_TEST

START_TEST(who_lost_its_key_makes_room_for_who_is_there)
{
    char name[16], key[32];

    for (int i = 0; i < TSP_NODES_MAX; i++) {
        snprintf(name, sizeof name, "n%03d", i);
        ck_assert_int_eq(beat(name, 1, 1, 0), KL_OK);
    }
    ck_assert_int_eq(beat("z", 1, 1, 0), KL_ELIMIT);
    snprintf(key, sizeof key, "node.%s", "n100");
    put(key, NULL, 1);
    ck_assert_int_eq(beat("z", 1, 1, 2), KL_OK);
    ck_assert_int_eq(at("n100", 3), TSP_GONE);
    ck_assert_int_eq(at("z", 3), TSP_SILENT);
    ck_assert_int_eq(beat("n100", 1, 2, 4), KL_ELIMIT);
}
END_TEST

START_TEST(who_says_that_it_leaves_is_drained_only_if_it_says_so)
{
    put("mark.a", "leaving", 0);
    beat("a", 1, 1, 0);
    ck_assert_int_eq(tsp_roster_node(r, "a", NULL)->state, TSP_NODE_UP);
    ck_assert_int_eq(tsp_roster_mark(r, "a"), TSP_MARK_LEAVING);
    put("mark.a", "leaving drain", 0);
    ck_assert_int_eq(tsp_roster_node(r, "a", NULL)->state, TSP_NODE_DRAINING);
    ck_assert_int_eq(tsp_roster_mark(r, "a"), TSP_MARK_DRAIN);
    ck_assert(tsp_mark_until_start(kl_span_str("leaving")));
    ck_assert(tsp_mark_until_start(kl_span_str("leaving drain")));
    ck_assert(!tsp_mark_until_start(kl_span_str("drain")));
    ck_assert(!tsp_mark_until_start(kl_span_str("removed")));
    ck_assert_int_eq(tsp_mark_of(kl_span_str("leaving soon")), TSP_MARK_NONE);
    ck_assert_str_eq(tsp_mark_text(TSP_MARK_LEAVING), "leaving");
}
END_TEST

START_TEST(another_nodes_words_under_a_key_are_refused)
{
    ck_assert_int_eq(beat("a", 1, 1, 0), KL_OK);
    ck_assert_int_eq(tsp_roster_see(r, "node.b", kl_buf_span(&bytes), 9, 0, &err), KL_EINVAL);
    ck_assert_int_eq(tsp_roster_see(r, "node.a", kl_span("\xff", 1), 9, 0, &err), KL_EINVAL);
    ck_assert_uint_eq(tsp_roster_node(r, "a", NULL)->beat, 1);
    put("placement", "x", 0);
}
END_TEST

START_TEST(a_list_is_by_name_and_bounded)
{
    struct tsp_present all[TSP_NODES_MAX];
    char               name[16];

    for (int i = TSP_NODES_MAX; i-- > 0;) {
        snprintf(name, sizeof name, "n%04d", i);
        ck_assert_int_eq(beat(name, 1, 1, 0), KL_OK);
    }
    ck_assert_int_eq(beat("one-more", 1, 1, 0), KL_ELIMIT);
    ck_assert_uint_eq(tsp_roster_list(r, all, 0), TSP_NODES_MAX);
    ck_assert_str_eq(all[7].node->name, "n0007");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libtsproto/roster");
    TCase *t = tcase_create("roster");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, an_old_key_is_not_a_live_node);
    tcase_add_test(t, a_beat_that_moves_is_life_for_as_long_as_the_bound_says);
    tcase_add_test(t, a_clock_is_known_when_two_beats_tell_that_it_runs_as_ours);
    tcase_add_test(t, states_repeated_after_a_reconnection_take_nothing_back);
    tcase_add_test(t, marks_hold_for_nodes_that_come_later_too);
    tcase_add_test(t, who_loses_its_key_is_silent_and_in_time_gone);
    tcase_add_test(t, a_key_may_go_when_its_node_was_removed_and_is_quiet_or_for_long_was_not_heard);
    tcase_add_test(t, who_lost_its_key_makes_room_for_who_is_there);
    tcase_add_test(t, who_says_that_it_leaves_is_drained_only_if_it_says_so);
    tcase_add_test(t, another_nodes_words_under_a_key_are_refused);
    tcase_add_test(t, a_list_is_by_name_and_bounded);
    suite_add_tcase(s, t);
    return run_suite(s);
}
