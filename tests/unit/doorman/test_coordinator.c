/*
 * doorman/coordinator: two of them over one KV, and nodes that the test makes up.
 */
#include "tests/unit/doorman/cell.h"

START_TEST(nobody_is_placed_before_somebody_lives)
{
    run_s(30);
    ck_assert_ptr_null(table());
    ck_assert_uint_eq(dm_coordinator_acts(c[0]) + dm_coordinator_acts(c[1]), 1);
}
END_TEST

START_TEST(nodes_that_come_are_given_partitions_and_exactly_one_coordinator_gives_them)
{
    unsigned owns;

    nodes[0].lives = nodes[1].lives = true;
    run_s(60);
    ck_assert_uint_eq(has("i0", &owns), P);
    ck_assert_uint_eq(owns, P / 2);
    ck_assert_uint_eq(has("i1", &owns), P);
    for (int s = 0; s < 60; s++) {
        run_s(1);
        ck_assert_uint_le(dm_coordinator_acts(c[0]) + dm_coordinator_acts(c[1]), 1);
    }
    ck_assert_uint_eq(tsp_placement_revision(c[0]->table), tsp_placement_revision(c[1]->table));
}
END_TEST

START_TEST(a_coordinator_that_goes_is_followed_by_the_other)
{
    int      first = 0;
    unsigned owns;

    nodes[0].lives = nodes[1].lives = true;
    run_s(60);
    first = dm_coordinator_acts(c[0]) ? 0 : 1;
    dm_coordinator_free(c[first]);
    c[first] = NULL;
    nodes[2].lives = nodes[3].lives = true;
    run_s(120);
    ck_assert(dm_coordinator_acts(c[1 - first]));
    ck_assert_uint_eq(c[1 - first]->lease.epoch, 2);
    ck_assert_uint_ge(has("i2", &owns), P * 2 / 4 - 1);
}
END_TEST

START_TEST(a_silent_node_owns_nothing_and_one_that_is_gone_has_nothing)
{
    unsigned owns;

    for (int i = 0; i < 3; i++)
        nodes[i].lives = true;
    run_s(120);
    nodes[1].lives = false;
    run_s(20);
    ck_assert_uint_ge(has("i1", &owns), 9);
    ck_assert_uint_eq(owns, 0);
    run_s(120);
    ck_assert_uint_eq(has("i1", &owns), 0);
    ck_assert_uint_eq(has("i0", &owns), P);
    nodes[1].lives = true;                             /* and back again */
    run_s(240);
    ck_assert_uint_ge(has("i1", &owns), 9);
}
END_TEST

START_TEST(a_drained_node_gives_all_away_and_takes_again_when_told)
{
    unsigned owns;

    for (int i = 0; i < 3; i++)
        nodes[i].lives = true;
    run_s(120);
    wish_for(KL_BUS_KV_PUT, "mark.i0", "drain");
    run_s(120);
    ck_assert_uint_eq(has("i0", &owns), 0);
    wish_for(KL_BUS_KV_DELETE, "mark.i0", "");
    run_s(240);
    ck_assert_uint_ge(has("i0", &owns), 9);
}
END_TEST

static struct dm_standings standings;
static bool                 looked;

static void look_done(struct dm_standings *s)
{
    ck_assert_ptr_eq(s, &standings);
    looked = true;
}

static const struct dm_standing *standing(const char *name)
{
    looked = false;
    standings.done = look_done;
    dm_coordinator_standings(c[1], &standings);
    run_s(1);
    ck_assert(looked && standings.complete);
    for (unsigned i = 0; i < standings.count; i++)
        if (strcmp(standings.all[i].name, name) == 0)
            return &standings.all[i];
    return NULL;
}

START_TEST(one_is_alone_with_partitions_of_which_no_other_is_ready_alive_and_staying)
{
    unsigned owns;

    nodes[0].lives = nodes[1].lives = true;
    run_s(120);
    ck_assert_uint_eq(standing("i0")->members, P);
    ck_assert_uint_eq(standing("i0")->alone, 0);
    ck_assert_ptr_null(standing("i5"));
    wish_for(KL_BUS_KV_PUT, "mark.i1", "leaving");     /* does not count, and loses nothing */
    run_s(60);
    ck_assert_uint_eq(has("i1", &owns), P);
    ck_assert_uint_eq(standing("i0")->alone, P);
    ck_assert_int_eq(standing("i1")->mark, TSP_MARK_LEAVING);
    ck_assert_uint_eq(standing("i1")->alone, 0);
    wish_for(KL_BUS_KV_DELETE, "mark.i1", "");
    nodes[1].lives = false;
    run_s(10);
    ck_assert_uint_eq(standing("i0")->alone, P);
    ck_assert_int_eq(standing("i1")->presence, TSP_SILENT);
}
END_TEST

START_TEST(a_table_that_was_wiped_is_made_anew_with_a_higher_revision)
{
    uint64_t before;
    unsigned owns;

    nodes[0].lives = nodes[1].lives = true;
    run_s(60);
    before = tsp_placement_revision(table());
    wish_for(KL_BUS_KV_DELETE, "placement", "");
    run_s(30);
    ck_assert_uint_gt(tsp_placement_revision(table()), before);
    ck_assert_uint_gt(c[0]->table_revision, 0);
    ck_assert_uint_eq(has("i0", &owns), P);
}
END_TEST

static bool was_split;

static void split_done(struct dm_split *s)
{
    (void)s;
    was_split = true;
}

static struct dm_split split_into(int which, uint32_t partitions)
{
    struct dm_split s = { .partitions = partitions, .done = split_done };

    was_split = false;
    dm_coordinator_split(c[which], &s);
    run_s(2);
    ck_assert(was_split);
    return s;
}

START_TEST(a_split_waits_for_room_everywhere_and_gives_the_new_partitions_owners)
{
    struct dm_split s;
    unsigned        owns;

    s = split_into(0, 0);
    ck_assert_int_eq(s.code, KL_EAGAIN);
    ck_assert_str_eq(s.err.text, "the placement table and the ingestors have not been seen yet");
    nodes[0].lives = nodes[1].lives = true;
    run_s(60);
    s = split_into(0, 64);
    ck_assert_int_eq(s.code, KL_EINVAL);
    ck_assert_str_eq(s.err.text, "there are 16 partitions: a split makes 32 of them, not 64");
    s = split_into(0, 0);
    ck_assert_int_eq(s.code, KL_EAGAIN);
    ck_assert_str_eq(s.err.text, "partitions is 16 here: set it to 32 for every service, restart them one after "
                     "another, and ask again");
    c[0]->o.partitions = c[1]->o.partitions = 2 * P;
    nodes[0].node.partitions = 2 * P;
    nodes[1].node.partitions = P;
    run_s(5);
    s = split_into(0, 0);
    ck_assert_int_eq(s.code, KL_EAGAIN);
    ck_assert_str_eq(s.err.text, "ingestor i1 has room for 16 partitions: restart it with partitions: 32 first");
    nodes[1].node.partitions = 2 * P;
    run_s(5);
    s = split_into(0, 32);
    ck_assert_msg(s.code == KL_OK, "%s", s.err.text);
    ck_assert_int_ge(s.valid_from_ms, kl_env_now_ms(env) + 27000);
    run_s(3);
    ck_assert_uint_eq(tsp_placement_partitions(c[1]->table), 2 * P);
    s = split_into(1, 0);                              /* one at a time */
    ck_assert_int_eq(s.code, KL_EAGAIN);
    run_s(60);
    ck_assert_uint_eq(has("i0", &owns), 2 * P);
    ck_assert_uint_eq(owns, P);
}
END_TEST

START_TEST(a_clock_is_wrong_where_most_ingestors_agree_that_it_is)
{
    const _Atomic int64_t *off = dm_coordinator_clock_off(c[0]);
    const int64_t          years_ms = INT64_C(315576000000);

    ck_assert_int_eq(*off, DM_CLOCK_UNKNOWN);
    run_s(2);
    ck_assert_int_eq(*off, DM_CLOCK_UNKNOWN);          /* there is nobody to compare with */
    for (int i = 0; i < 3; i++)
        nodes[i].lives = true;
    nodes[1].ahead_ms = years_ms;
    run_s(10);
    ck_assert_int_eq(*off, 0);
    ck_assert_uint_eq(c[0]->clocks_apart, 1);
    nodes[0].ahead_ms = years_ms;
    run_s(10);
    ck_assert_int_ge(*off, years_ms - 10000);
    ck_assert_int_le(*off, years_ms);
    nodes[0].lives = nodes[2].lives = false;           /* who is left says nothing new */
    run_s(20);
    ck_assert_int_ne(*off, 0);
    nodes[0].lives = nodes[2].lives = true;
    nodes[0].ahead_ms = nodes[1].ahead_ms = -1000;
    run_s(20);
    ck_assert_int_eq(*off, 0);
    ck_assert_uint_eq(c[0]->clocks_apart, 0);
}
END_TEST

/* A doorman that starts finds ingestors in the KV and hears none of them: it may be cut off, and wrong. */
START_TEST(a_clock_is_not_right_because_those_that_told_another_time_are_silent)
{
    const _Atomic int64_t *off;

    nodes[0].lives = nodes[1].lives = true;
    nodes[0].ahead_ms = nodes[1].ahead_ms = INT64_C(315576000000);
    run_s(10);
    nodes[0].lives = nodes[1].lives = false;
    run_s(30);
    dm_coordinator_free(c[1]);
    c[1] = coordinator("d1");
    off = dm_coordinator_clock_off(c[1]);
    run_s(60);
    ck_assert_int_eq(*off, DM_CLOCK_UNKNOWN);
    nodes[0].lives = nodes[1].lives = true;
    nodes[0].ahead_ms = nodes[1].ahead_ms = 0;
    run_s(10);
    ck_assert_int_eq(*off, 0);
}
END_TEST

static void wipe(void)
{
    for (int i = 0; i < NODES; i++) {
        char key[80];

        tsp_node_key(nodes[i].node.name, key, sizeof key);
        if (nodes[i].node.beat > 0)
            wish_for(KL_BUS_KV_DELETE, key, "");
    }
}

/* Five ingestors, of which the last is as wrong as the first doorman; all others are ten years ahead of them. */
static const _Atomic int64_t *four_of_five_say_that_it_is_wrong(void)
{
    for (int i = 0; i < 5; i++) {
        nodes[i].lives = true;
        nodes[i].ahead_ms = i < 4 ? INT64_C(315576000000) : 0;
    }
    run_s(60);
    ck_assert_int_gt(*dm_coordinator_clock_off(c[0]), 0);
    for (int i = 0; i < 5; i++)
        nodes[i].lives = false;
    wipe();
    run_s(3 * SILENT_MS / 1000);
    return dm_coordinator_clock_off(c[0]);
}

START_TEST(what_most_agreed_on_lasts_while_nobody_is_there_and_is_not_taken_back_by_one_of_them)
{
    const _Atomic int64_t *off = four_of_five_say_that_it_is_wrong();

    ck_assert_int_gt(*off, 0);
    nodes[4].lives = true;                             /* the first that is heard again */
    run_s(SILENT_MS / 1000);
    ck_assert_int_gt(*off, 0);
    for (int i = 0; i < 5; i++) {
        nodes[i].lives = true;
        nodes[i].ahead_ms = 0;
    }
    run_s(10);
    ck_assert_int_eq(*off, 0);
}
END_TEST

/* It was killed, and remembers nothing; nor does the KV. */
START_TEST(who_starts_and_finds_nobody_does_not_know_whether_its_clock_is_right)
{
    four_of_five_say_that_it_is_wrong();
    dm_coordinator_free(c[0]);
    c[0] = coordinator("d0");
    run_s(GONE_MS / 2000);
    ck_assert_int_eq(*dm_coordinator_clock_off(c[0]), DM_CLOCK_UNKNOWN);
    nodes[4].lives = true;                             /* the table names four others, of whom nothing is heard */
    run_s(2);
    ck_assert_int_eq(*dm_coordinator_clock_off(c[0]), DM_CLOCK_UNKNOWN);
    for (int i = 0; i < 4; i++)
        nodes[i].lives = true;
    run_s(10);
    ck_assert_int_gt(*dm_coordinator_clock_off(c[0]), 0);
}
END_TEST

START_TEST(one_of_two_that_stays_can_say_that_a_clock_is_right_again_once_the_other_is_gone)
{
    const _Atomic int64_t *off = dm_coordinator_clock_off(c[0]);

    for (int i = 0; i < 2; i++) {
        nodes[i].lives = true;
        nodes[i].ahead_ms = INT64_C(315576000000);
    }
    run_s(60);
    ck_assert_int_gt(*off, 0);
    nodes[1].lives = false;
    nodes[0].ahead_ms = 0;                             /* or this machine's clock was put right */
    run_s(20);
    ck_assert_int_gt(*off, 0);
    run_s(GONE_MS / 1000 + 20);
    ck_assert_int_eq(*off, 0);
}
END_TEST

START_TEST(a_clock_that_is_set_is_another_clock)
{
    const _Atomic int64_t *off = dm_coordinator_clock_off(c[0]);

    nodes[0].lives = nodes[1].lives = true;
    run_s(60);
    ck_assert_int_eq(*off, 0);
    nodes[0].lives = nodes[1].lives = false;
    wipe();
    run_s(SILENT_MS / 1000);
    ck_assert_int_eq(*off, 0);
    kl_env_sim_ahead(sim, env, INT64_C(-315576000000));
    run_s(2);
    ck_assert_int_eq(*off, DM_CLOCK_UNKNOWN);
    nodes[0].ahead_ms = nodes[1].ahead_ms = INT64_C(315576000000);
    nodes[0].lives = nodes[1].lives = true;
    run_s(10);
    ck_assert_int_gt(*off, 0);
}
END_TEST

/* Ingestors of a static placement register nowhere: there never is anybody to compare with. */
START_TEST(where_nobody_registers_a_clock_is_taken_for_right)
{
    struct dm_coordinator_options o = { .name = "d2", .partitions = P, .replicas = 2, .heartbeat_ms = HEARTBEAT_MS,
                                        .silent_ms = SILENT_MS, .gone_ms = GONE_MS };

    run_s(1);
    dm_coordinator_free(c[0]);
    c[0] = dm_coordinator_new(env, bus, &o);
    run_s(3);
    ck_assert_int_eq(*dm_coordinator_clock_off(c[0]), 0);
}
END_TEST

START_TEST(who_has_a_wrong_clock_does_not_split)
{
    struct dm_split s;

    nodes[0].lives = nodes[1].lives = true;
    run_s(60);
    nodes[0].node.partitions = nodes[1].node.partitions = c[0]->o.partitions = c[1]->o.partitions = 2 * P;
    nodes[0].ahead_ms = nodes[1].ahead_ms = INT64_C(315576000000);
    run_s(10);
    s = split_into(0, 0);
    ck_assert_int_eq(s.code, KL_EAGAIN);
    ck_assert_msg(strstr(s.err.text, "s off those of most ingestors") != NULL, "%s", s.err.text);
    nodes[0].ahead_ms = nodes[1].ahead_ms = 0;
    run_s(10);
    s = split_into(0, 0);
    ck_assert_msg(s.code == KL_OK, "%s", s.err.text);
}
END_TEST

START_TEST(an_unreadable_table_is_left_as_it_is)
{
    wish_for(KL_BUS_KV_PUT, "placement", "\xff\xff not a table");
    nodes[0].lives = true;
    run_s(60);
    ck_assert_ptr_null(table());
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("doorman/coordinator");
    TCase   *t = tcase_create("coordinator");
    SRunner *r = srunner_create(s);
    int      failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, nobody_is_placed_before_somebody_lives);
    tcase_add_test(t, nodes_that_come_are_given_partitions_and_exactly_one_coordinator_gives_them);
    tcase_add_test(t, a_coordinator_that_goes_is_followed_by_the_other);
    tcase_add_test(t, a_silent_node_owns_nothing_and_one_that_is_gone_has_nothing);
    tcase_add_test(t, a_drained_node_gives_all_away_and_takes_again_when_told);
    tcase_add_test(t, one_is_alone_with_partitions_of_which_no_other_is_ready_alive_and_staying);
    tcase_add_test(t, a_table_that_was_wiped_is_made_anew_with_a_higher_revision);
    tcase_add_test(t, a_split_waits_for_room_everywhere_and_gives_the_new_partitions_owners);
    tcase_add_test(t, a_clock_is_wrong_where_most_ingestors_agree_that_it_is);
    tcase_add_test(t, a_clock_is_not_right_because_those_that_told_another_time_are_silent);
    tcase_add_test(t, what_most_agreed_on_lasts_while_nobody_is_there_and_is_not_taken_back_by_one_of_them);
    tcase_add_test(t, who_starts_and_finds_nobody_does_not_know_whether_its_clock_is_right);
    tcase_add_test(t, one_of_two_that_stays_can_say_that_a_clock_is_right_again_once_the_other_is_gone);
    tcase_add_test(t, a_clock_that_is_set_is_another_clock);
    tcase_add_test(t, where_nobody_registers_a_clock_is_taken_for_right);
    tcase_add_test(t, who_has_a_wrong_clock_does_not_split);
    tcase_add_test(t, an_unreadable_table_is_left_as_it_is);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
