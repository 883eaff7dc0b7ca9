/*
 * doorman/coordinator_keys: what nodes leave in the KV goes when they are no more, and not before.
 */
#include "tests/unit/doorman/cell.h"
#include "libtsproto/disk.h"
#include "tests/suite.h"

static struct kl_bus_kv get;
static bool             got;

static void get_done(struct kl_bus_kv *op)
{
    free(op->got);
    got = true;
}

static bool is_there(const char *key)
{
    got = false;
    get = (struct kl_bus_kv){ .kind = KL_BUS_KV_GET, .loop = loop, .done = get_done };
    snprintf(get.key, sizeof get.key, "%s", key);
    bus->kv(bus, &get);
    for (int n = 0; n < 100 && !got; n++)
        kl_env_sim_run(sim, 1);
    ck_assert(got);
    ck_assert(get.code == KL_OK || get.code == KL_ENOENT);
    return get.code == KL_OK;
}

/* Three that live, each with a key of each kind. */
static void three_with_keys(void)
{
    char key[120];

    for (int i = 0; i < 3; i++) {
        nodes[i].lives = true;
        snprintf(key, sizeof key, TSP_DISK_PREFIX "i%d", i);
        wish_for(KL_BUS_KV_PUT, key, "full");
        for (uint32_t p = 0; p < 2; p++) {
            tsp_digest_key(key, sizeof key, p, nodes[i].node.name);
            wish_for(KL_BUS_KV_PUT, key, "cannot be read");
            tsp_repair_key(key, sizeof key, p, nodes[i].node.name);
            wish_for(KL_BUS_KV_PUT, key, "1");
        }
    }
    run_s(120);
}

static unsigned keys_of(const char *name)
{
    unsigned n = 0;
    char     key[120];

    tsp_node_key(name, key, sizeof key);
    n += is_there(key);
    snprintf(key, sizeof key, TSP_DISK_PREFIX "%s", name);
    n += is_there(key);
    for (uint32_t p = 0; p < 2; p++) {
        tsp_digest_key(key, sizeof key, p, name);
        n += is_there(key);
        tsp_repair_key(key, sizeof key, p, name);
        n += is_there(key);
    }
    return n;
}

START_TEST(a_removed_node_leaves_nothing_but_its_mark_once_it_is_quiet)
{
    unsigned owns;

    three_with_keys();
    ck_assert_uint_ge(keys_of("i0"), 2);
    wish_for(KL_BUS_KV_PUT, "mark.i0", "removed");
    run_s(60);
    ck_assert_uint_eq(has("i0", &owns), 0);
    ck_assert(is_there("node.i0"));                    /* it still runs */
    ck_assert(tsp_roster_runs(c[0]->roster, "i0", kl_env_mono_ns(env)));
    nodes[0].lives = false;
    run_s(60);
    ck_assert_uint_eq(keys_of("i0"), 0);
    ck_assert_ptr_null(tsp_roster_node(c[0]->roster, "i0", NULL));
    ck_assert(is_there("mark.i0"));
    /* It was cut off, and is back: its heartbeat makes the key anew, and no member of it. */
    nodes[0].lives = true;
    run_s(60);
    ck_assert_uint_eq(has("i0", &owns), 0);
    nodes[0].lives = false;
    run_s(60);
    ck_assert(!is_there("node.i0"));
    run_s(FORGET_MS / 1000 - 100);
    ck_assert(is_there("mark.i0"));
    run_s(120);
    ck_assert(!is_there("mark.i0"));
    ck_assert_uint_ge(keys_of("i1"), 2);
    ck_assert_uint_ge(keys_of("i2"), 2);
    nodes[0].lives = true;                             /* and one of that name may come */
    run_s(240);
    ck_assert_uint_ge(has("i0", &owns), 9);
}
END_TEST

START_TEST(a_name_that_is_registered_again_is_taken_by_who_comes)
{
    unsigned owns;

    three_with_keys();
    nodes[0].lives = false;
    wish_for(KL_BUS_KV_PUT, "mark.i0", "removed");
    run_s(60);
    ck_assert_uint_eq(keys_of("i0"), 0);
    nodes[0].node.instance.bytes[0] = 77;              /* another machine */
    nodes[0].node.beat = 0;
    nodes[0].lives = true;
    run_s(60);
    ck_assert_uint_eq(has("i0", &owns), 0);
    wish_for(KL_BUS_KV_DELETE, "mark.i0", "");
    run_s(240);
    ck_assert_uint_ge(has("i0", &owns), 9);
}
END_TEST

START_TEST(who_is_not_heard_of_for_long_is_forgotten_with_its_mark_and_who_is_gone_for_a_while_is_not)
{
    three_with_keys();
    wish_for(KL_BUS_KV_PUT, "mark.i0", "drain");
    run_s(120);
    nodes[0].lives = false;
    run_s(GONE_MS / 1000 + 60);
    ck_assert(is_there("node.i0"));
    run_s(FORGET_MS / 1000);
    ck_assert_uint_eq(keys_of("i0"), 0);
    ck_assert(is_there("mark.i0"));
    run_s(FORGET_MS / 1000 + 10);
    ck_assert(!is_there("mark.i0"));
}
END_TEST

START_TEST(who_is_named_by_the_table_keeps_its_keys_however_long_it_is_away)
{
    nodes[0].lives = true;                             /* nobody can take what it has */
    run_s(60);
    nodes[0].lives = false;
    run_s(FORGET_MS / 1000 + 120);
    ck_assert(is_there("node.i0"));
    wish_for(KL_BUS_KV_PUT, "mark.i0", "removed");
    run_s(60);
    ck_assert(is_there("node.i0"));
}
END_TEST

START_TEST(a_coordinator_that_follows_another_waits_anew)
{
    int first;

    three_with_keys();
    nodes[0].lives = false;
    run_s(FORGET_MS / 1000 - 30);
    first = dm_coordinator_acts(c[0]) ? 0 : 1;
    dm_coordinator_free(c[0]);
    dm_coordinator_free(c[1]);
    c[first] = coordinator("d2");
    c[1 - first] = coordinator("d3");
    run_s(GONE_MS / 1000 + 60);
    ck_assert(is_there("node.i0"));
    run_s(FORGET_MS / 1000);
    ck_assert(!is_there("node.i0"));
}
END_TEST

/* A process of before wrote it, and was killed; since then others have that partition. */
START_TEST(what_is_of_a_partition_that_a_node_does_not_have_goes_though_the_node_lives)
{
    unsigned owns;

    nodes[0].lives = nodes[1].lives = true;
    run_s(120);
    nodes[2].lives = true;
    wish_for(KL_BUS_KV_PUT, "mark.i2", "drain");       /* it is there, and has nothing */
    wish_for(KL_BUS_KV_PUT, "digest.0001.i2", "cannot be read");
    wish_for(KL_BUS_KV_PUT, "digest.0001.i1", "cannot be read");
    wish_for(KL_BUS_KV_PUT, "disk.i2", "full");
    wish_for(KL_BUS_KV_PUT, "disk.i5", "nobody knows it");
    wish_for(KL_BUS_KV_PUT, "digest.0001.i5", "cannot be read");
    wish_for(KL_BUS_KV_PUT, "digest.no", "not of ours");
    run_s(GONE_MS / 1000 - 20);
    ck_assert(is_there("digest.0001.i2") && is_there("disk.i5") && is_there("digest.0001.i5"));
    run_s(40);
    ck_assert_uint_eq(has("i2", &owns), 0);
    ck_assert(!is_there("digest.0001.i2"));
    ck_assert(!is_there("disk.i5"));
    ck_assert(!is_there("digest.0001.i5"));
    ck_assert(is_there("digest.0001.i1"));
    ck_assert(is_there("disk.i2"));                    /* its disk is full, whatever it holds */
    ck_assert(is_there("digest.no"));
}
END_TEST

/* Everything but the table and who lives was deleted: nobody is taken for gone by that. */
START_TEST(a_wiped_kv_makes_nobody_over)
{
    three_with_keys();
    for (int i = 0; i < 3; i++) {
        char key[40];

        snprintf(key, sizeof key, "node.i%d", i);
        wish_for(KL_BUS_KV_DELETE, key, "");
    }
    run_s(FORGET_MS / 1000 + GONE_MS / 1000);
    for (int i = 0; i < 3; i++) {
        unsigned owns;

        ck_assert_uint_ge(has(nodes[i].node.name, &owns), 9);
        ck_assert_uint_ge(keys_of(nodes[i].node.name), 2);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("doorman/coordinator_keys");
    TCase *t = tcase_create("keys");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_removed_node_leaves_nothing_but_its_mark_once_it_is_quiet);
    tcase_add_test(t, a_name_that_is_registered_again_is_taken_by_who_comes);
    tcase_add_test(t, who_is_not_heard_of_for_long_is_forgotten_with_its_mark_and_who_is_gone_for_a_while_is_not);
    tcase_add_test(t, who_is_named_by_the_table_keeps_its_keys_however_long_it_is_away);
    tcase_add_test(t, a_coordinator_that_follows_another_waits_anew);
    tcase_add_test(t, what_is_of_a_partition_that_a_node_does_not_have_goes_though_the_node_lives);
    tcase_add_test(t, a_wiped_kv_makes_nobody_over);
    suite_add_tcase(s, t);
    return run_suite(s);
}
