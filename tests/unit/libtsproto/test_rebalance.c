/*
 * libtsproto/rebalance: a made-up cluster is driven step by step until it rests; at every step nothing
 * that is needed may have been taken away.
 */
#include "libtsproto/rebalance.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { P = 64, NODES = 12 };

static struct tsp_placement *table;
static struct tsp_node       nodes[NODES];
static enum tsp_presence     presence[NODES];
static bool                  there[NODES];
static struct tsp_rebalance  want;
static struct tsp_rebalanced done;
static struct kl_err         err;
static unsigned              moves;

static void node(int n, const char *zone, uint32_t capacity)
{
    tsp_node_deinit(&nodes[n]);
    nodes[n] = (struct tsp_node){ .capacity = capacity };
    snprintf(nodes[n].name, sizeof nodes[n].name, "i%d", n);
    snprintf(nodes[n].zone, sizeof nodes[n].zone, "%s", zone);
    presence[n] = TSP_ALIVE;
    there[n] = true;
}

static void setup(void)
{
    table = tsp_placement_new(P);
    memset(there, 0, sizeof there);
    want = (struct tsp_rebalance){ .replicas = 2, .joins_at_once = 4 };
    moves = 0;
}

static void teardown(void)
{
    tsp_placement_free(table);
    for (int n = 0; n < NODES; n++)
        tsp_node_deinit(&nodes[n]);
}

static bool ready(int n, uint32_t partition)
{
    const struct tsp_holding *h = tsp_node_holding(&nodes[n], partition);

    return there[n] && presence[n] == TSP_ALIVE && h != NULL && h->state == TSP_HOLDING_READY;
}

static int number(const char *name) { return atoi(name + 1); }

static unsigned members(uint32_t partition, int *out)
{
    const char *names[TSP_REPLICAS_MAX];
    unsigned    count = tsp_placement_members(table, partition, names, TSP_REPLICAS_MAX);

    for (unsigned k = 0; k < count; k++)
        out[k] = number(names[k]);
    return count;
}

static bool is_member(int n, uint32_t partition)
{
    int      all[TSP_REPLICAS_MAX];
    unsigned count = members(partition, all);

    for (unsigned k = 0; k < count; k++)
        if (all[k] == n)
            return true;
    return false;
}

/* Live nodes hold what the table gives them: what is new is JOINING, what was JOINING is READY. */
static void live(void)
{
    for (int n = 0; n < NODES; n++) {
        struct tsp_holding *holdings = kl_new(P * sizeof *holdings);
        uint32_t            count = 0;

        for (uint32_t p = 0; p < P; p++)
            if (is_member(n, p))
                holdings[count++] = (struct tsp_holding){
                    p, tsp_node_holding(&nodes[n], p) != NULL ? TSP_HOLDING_READY
                                                              : TSP_HOLDING_JOINING, 1, 0 };
        if (!there[n] || presence[n] != TSP_ALIVE) {
            free(holdings);
            continue;
        }
        tsp_node_deinit(&nodes[n]);
        nodes[n].holdings = holdings;
        nodes[n].holding_count = count;
    }
}

static enum kl_code step(void)
{
    struct tsp_present present[NODES];
    unsigned           count = 0;

    for (int n = NODES; n-- > 0;)
        if (there[n])
            present[count++] = (struct tsp_present){ &nodes[n], presence[n] };
    return tsp_rebalance_step(table, present, count, &want, &done, &err);
}

static unsigned ready_members(uint32_t partition)
{
    int      all[TSP_REPLICAS_MAX];
    unsigned count = members(partition, all), n = 0;

    for (unsigned k = 0; k < count; k++)
        n += ready(all[k], partition);
    return n;
}

/* Steps until nothing changes; fails when it does not come to rest. */
static void rest(void)
{
    for (int n = 0; n < 1000; n++) {
        unsigned before[P];

        for (uint32_t p = 0; p < P; p++)
            before[p] = ready_members(p);
        ck_assert_msg(step() == KL_OK, "%s", err.text);
        for (uint32_t p = 0; p < P; p++)
            ck_assert_msg(before[p] == 0 || ready_members(p) > 0, "partition %u lost its last", p);
        moves += done.joins;
        live();
        if (done.joins + done.leaves + done.owners + done.joining == 0)
            return;
    }
    ck_abort_msg("it never rests");
}

static void count_loads(unsigned *load, unsigned *owns)
{
    memset(load, 0, NODES * sizeof *load);
    memset(owns, 0, NODES * sizeof *owns);
    for (uint32_t p = 0; p < P; p++) {
        int      all[TSP_REPLICAS_MAX];
        unsigned count = members(p, all);

        ck_assert_uint_eq(count, want.replicas);
        owns[all[0]]++;
        for (unsigned k = 0; k < count; k++)
            load[all[k]]++;
    }
}

static void balanced(unsigned count)
{
    unsigned load[NODES], owns[NODES], least = UINT32_MAX, most = 0, fewest = UINT32_MAX, top = 0;

    count_loads(load, owns);
    for (int n = 0; n < NODES; n++) {
        if (!there[n] || presence[n] == TSP_GONE || nodes[n].state != TSP_NODE_UP) {
            ck_assert_uint_eq(load[n], 0);
            continue;
        }
        least = load[n] < least ? load[n] : least;
        most = load[n] > most ? load[n] : most;
        fewest = owns[n] < fewest ? owns[n] : fewest;
        top = owns[n] > top ? owns[n] : top;
    }
    ck_assert_uint_le(most - least, 1);
    ck_assert_uint_le(top - fewest, 2);
    ck_assert_uint_ge(most * count, P * want.replicas);
}

START_TEST(a_new_cluster_is_filled_at_once_and_evenly)
{
    node(0, "a", 100);
    node(1, "b", 100);
    node(2, "c", 100);
    ck_assert_int_eq(step(), KL_OK);
    for (uint32_t p = 0; p < P; p++)
        ck_assert_uint_ge(tsp_placement_members(table, p, (const char *[5]){ 0 }, 5), 1);
    live();
    rest();
    balanced(3);
    ck_assert_uint_eq(done.same_zone, 0);
    ck_assert_uint_eq(done.short_of, 0);
}
END_TEST

START_TEST(two_to_four_moves_half_and_back_again_moves_half)
{
    node(0, "a", 100);
    node(1, "b", 100);
    rest();
    moves = 0;
    node(2, "a", 100);
    node(3, "b", 100);
    rest();
    balanced(4);
    ck_assert_uint_eq(moves, P);                       /* 2 P replicas, half of them move */
    moves = 0;
    nodes[2].state = nodes[3].state = TSP_NODE_DRAINING;
    rest();
    balanced(2);
    ck_assert_uint_eq(moves, P);
    ck_assert_uint_eq(done.same_zone, 0);
}
END_TEST

START_TEST(a_silent_node_keeps_its_places_and_owns_nothing)
{
    unsigned load[NODES], owns[NODES];

    for (int n = 0; n < 4; n++)
        node(n, n % 2 == 0 ? "a" : "b", 100);
    rest();
    moves = 0;
    presence[1] = TSP_SILENT;
    rest();
    count_loads(load, owns);
    ck_assert_uint_eq(moves, 0);
    ck_assert_uint_eq(owns[1], 0);
    ck_assert_uint_eq(load[1], P / 2);
    presence[1] = TSP_ALIVE;
    rest();
    ck_assert_uint_eq(moves, 0);
    balanced(4);
}
END_TEST

START_TEST(a_node_that_is_gone_is_replaced_in_its_zone_and_nobody_else_moves)
{
    for (int n = 0; n < 6; n++)
        node(n, n % 3 == 0 ? "a" : n % 3 == 1 ? "b" : "c", 100);
    rest();
    moves = 0;
    presence[2] = TSP_GONE;
    rest();
    balanced(5);
    ck_assert_uint_le(moves, P * 2 / 6 + 10);          /* it held 21 or 22; others even out */
    ck_assert_uint_eq(done.same_zone, 0);
}
END_TEST

START_TEST(capacity_is_a_weight)
{
    unsigned load[NODES], owns[NODES];

    want.replicas = 1;
    node(0, "a", 100);
    node(1, "b", 300);
    rest();
    count_loads(load, owns);
    ck_assert_uint_eq(load[0], P / 4);
    ck_assert_uint_eq(load[1], P * 3 / 4);
}
END_TEST

START_TEST(more_replicas_than_members_is_told_and_safe)
{
    want.replicas = 3;
    node(0, "a", 100);
    node(1, "b", 100);
    rest();
    ck_assert_uint_eq(done.short_of, P);
    for (uint32_t p = 0; p < P; p++)
        ck_assert_uint_eq(ready_members(p), 2);
}
END_TEST

START_TEST(one_zone_for_all_is_told_and_safe)
{
    node(0, "a", 100);
    node(1, "a", 100);
    node(2, "a", 100);
    rest();
    ck_assert_uint_eq(done.same_zone, P);
    balanced(3);
    node(3, "b", 100);                                 /* every partition now has one there */
    rest();
    ck_assert_uint_eq(done.same_zone, 0);
}
END_TEST

START_TEST(without_a_live_node_the_table_stays)
{
    node(0, "a", 100);
    rest();
    presence[0] = TSP_GONE;
    ck_assert_int_eq(step(), KL_EINVAL);
    ck_assert_uint_eq(tsp_placement_members(table, 0, (const char *[5]){ 0 }, 5), 1);
}
END_TEST

START_TEST(all_gone_and_others_come_then_those_take_over)
{
    node(0, "a", 100);
    node(1, "b", 100);
    rest();
    presence[0] = presence[1] = TSP_GONE;
    node(2, "a", 100);
    node(3, "b", 100);
    rest();
    balanced(2);
}
END_TEST

START_TEST(no_more_than_allowed_join_at_once)
{
    for (int n = 0; n < 3; n++)
        node(n, n == 0 ? "a" : n == 1 ? "b" : "c", 100);
    rest();
    node(3, "d", 100);
    for (int n = 0; n < 50; n++) {
        ck_assert_int_eq(step(), KL_OK);
        ck_assert_uint_le(done.joining, want.joins_at_once);
        live();
    }
    balanced(4);
}
END_TEST

/* Histories drawn by seed: nodes come, fall silent, drain and go; the invariant is in rest(). */
START_TEST(any_history_comes_to_rest)
{
    static const char *const zones[] = { "a", "b", "c" };

    srand((unsigned)_i + 1);
    want.replicas = 1 + (unsigned)rand() % 3;
    want.joins_at_once = (unsigned)rand() % 8;
    node(0, "a", 100);
    for (int n = 0; n < 30; n++) {
        int k = 1 + rand() % (NODES - 1);              /* node 0 stays, so that there is always one */

        if (!there[k] || presence[k] == TSP_GONE)
            node(k, zones[rand() % 3], 50 + (uint32_t)rand() % 200);
        else if (rand() % 3 == 0)
            nodes[k].state = TSP_NODE_DRAINING;
        else
            presence[k] = (enum tsp_presence)(rand() % 3);
        if (rand() % 2 == 0)
            rest();
        else if (step() == KL_OK)
            live();
    }
    rest();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libtsproto/rebalance");
    TCase *t = tcase_create("rebalance");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_new_cluster_is_filled_at_once_and_evenly);
    tcase_add_test(t, two_to_four_moves_half_and_back_again_moves_half);
    tcase_add_test(t, a_silent_node_keeps_its_places_and_owns_nothing);
    tcase_add_test(t, a_node_that_is_gone_is_replaced_in_its_zone_and_nobody_else_moves);
    tcase_add_test(t, capacity_is_a_weight);
    tcase_add_test(t, more_replicas_than_members_is_told_and_safe);
    tcase_add_test(t, one_zone_for_all_is_told_and_safe);
    tcase_add_test(t, without_a_live_node_the_table_stays);
    tcase_add_test(t, all_gone_and_others_come_then_those_take_over);
    tcase_add_test(t, no_more_than_allowed_join_at_once);
    tcase_add_loop_test(t, any_history_comes_to_rest, 0, 60);
    suite_add_tcase(s, t);
    return run_suite(s);
}
