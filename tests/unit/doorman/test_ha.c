/* doorman: of a pair of senders one is taken, whichever doormen they talk to. Virtual time, the KV. */
#include "world.h"
#include "tests/suite.h"

#define A "m{cluster=\"c\",__replica__=\"a\"} 1\n"
#define B "m{cluster=\"c\",__replica__=\"b\"} 1\n"

static void teardown(void) { world_stop(); }

static bool taken(const struct dm_push *p)
{
    ck_assert_uint_eq(p->status, 204);
    ck_assert(p->deduplicated == (p->samples_stored == 0));
    return p->samples_stored > 0;
}

static bool push(unsigned doorman, const char *text)
{
    struct dm_push p = world_push(doorman, "t", text);

    return taken(&p);
}

START_TEST(the_first_of_a_pair_leads_and_its_replica_label_is_not_stored)
{
    world_start("tenants: {t: {ha: {enabled: true}}}", 1, 1);
    ck_assert(push(0, A));
    ck_assert(!push(0, B));
    ck_assert(push(0, A));
    ck_assert(world_has("m{cluster=c}"));
    ck_assert_uint_eq(w.samples, 2);
    ck_assert(world_metric("koalemos_doorman_deduplicated_total ") == 1);
}
END_TEST

START_TEST(without_the_option_or_the_labels_all_are_taken)
{
    world_start("tenants: {t: {ha: {enabled: true}}}", 1, 1);
    ck_assert_uint_eq(world_push(0, "other", A).samples_stored, 1);
    ck_assert_uint_eq(world_push(0, "other", B).samples_stored, 1);
    ck_assert(world_has("m{__replica__=b,cluster=c}"));
    ck_assert(push(0, "m{cluster=\"c\"} 1\n"));
    ck_assert(push(0, "m{__replica__=\"z\"} 1\n"));
    ck_assert(world_has("m{__replica__=z}"));
}
END_TEST

START_TEST(other_labels_may_name_the_pair)
{
    world_start("tenants: {t: {ha: {enabled: true, cluster_label: dc, replica_label: prom}}}", 1, 1);
    ck_assert(push(0, "m{dc=\"x\",prom=\"1\"} 1\n"));
    ck_assert(!push(0, "m{dc=\"x\",prom=\"2\"} 1\n"));
    ck_assert(push(0, "m{dc=\"y\",prom=\"2\"} 1\n"));
    ck_assert(world_has("m{dc=x}"));
}
END_TEST

START_TEST(the_other_takes_over_when_the_leader_is_silent_for_the_time_of_failover_not_before)
{
    int64_t begun, over;

    world_start("ha: {enabled: true, failover: 30s}", 1, 1);
    for (int i = 0; i < 20; i++) {                     /* both send, five minutes long */
        ck_assert(push(0, A));
        ck_assert(!push(0, B));
        kl_env_sim_run(w.sim, 15000);
    }
    ck_assert(push(0, A));
    begun = kl_env_mono_ns(w.env);
    while (!push(0, B))
        kl_env_sim_run(w.sim, 500);
    over = (kl_env_mono_ns(w.env) - begun) / 1000000;
    ck_assert_int_ge(over, 30000);
    ck_assert_int_le(over, 41000);
    ck_assert(!push(0, A));                            /* and it stays so */
}
END_TEST

START_TEST(two_doormen_agree_on_the_leader)            /* by seed */
{
    world_start("ha: {enabled: true, failover: 30s}", 2, (uint64_t)_i + 1);
    for (int round = 0; round < 10; round++) {
        struct dm_push p[2];
        unsigned       both;
        char           text[2][80];
        for (unsigned i = 0; i < 2; i++) {
            snprintf(text[i], sizeof text[i], "m{cluster=\"c%d\",__replica__=\"%c\"} 1\n", round, 'a' + (int)i);
            world_begin(&p[i], i, "t", text[i]);
        }
        kl_env_sim_run(w.sim, 3000);
        ck_assert(p[0].ctx != NULL && p[1].ctx != NULL);
        both = (unsigned)taken(&p[0]) + (unsigned)taken(&p[1]);
        ck_assert_uint_eq(both, 1);
        for (unsigned i = 0; i < 2; i++)               /* through either doorman, the same one leads */
            ck_assert(push(1 - i, text[i]) == (p[i].samples_stored > 0));
    }
}
END_TEST

START_TEST(a_leader_that_moves_to_another_doorman_goes_on_leading)
{
    world_start("ha: {enabled: true, failover: 30s}", 2, 1);
    ck_assert(push(0, A));
    for (int i = 0; i < 20; i++) {
        ck_assert(push(1, A));
        ck_assert(!push(0, B));
        kl_env_sim_run(w.sim, 10000);
    }
}
END_TEST

/* NATS knows no name with two dots in a row, or one at an end. */
static const char *const dotted[] = { "t.", ".t", "a..b", "a.b", "..." };

START_TEST(a_tenant_may_have_dots_anywhere_in_its_name)
{
    const char    *tenant = dotted[_i];
    struct dm_push a, b, other;

    world_start("ha: {enabled: true, clusters_max: 1}", 2, 1);
    a = world_push(0, tenant, A);
    ck_assert_msg(taken(&a), "%s", a.text);
    kl_env_sim_run(w.sim, 1000);
    b = world_push(1, tenant, B);                      /* the other doorman knows whose it is */
    ck_assert(!taken(&b));
    other = world_push(1, tenant, "m{cluster=\"d\",__replica__=\"a\"} 1\n");
    ck_assert_ptr_nonnull(strstr(other.text, "ha.clusters_max"));
}
END_TEST

START_TEST(a_push_that_waits_for_the_election_is_stored_once_it_is_over)
{
    struct dm_push p;

    world_start("ha: {enabled: true}", 1, 1);
    world_begin(&p, 0, "t", "x{cluster=\"c\",__replica__=\"a\"} 1\ny{cluster=\"d\",__replica__=\"a\"} 1\nbad line\nz 1\n");
    kl_env_sim_run(w.sim, 2000);
    ck_assert_ptr_nonnull(p.ctx);
    ck_assert_uint_eq(p.status, 400);
    ck_assert_uint_eq(p.samples_stored, 3);
    ck_assert_uint_eq(p.refused, 1);
    ck_assert(world_metric("koalemos_doorman_refused_total{reason=\"bad_line\"} ") == 1);
    ck_assert(world_has("x{cluster=c}"));
    ck_assert(world_has("y{cluster=d}"));
    ck_assert(world_has("z{}"));
}
END_TEST

START_TEST(clusters_are_bounded_and_a_silent_one_makes_room)
{
    struct dm_push p;

    world_start("ha: {enabled: true, clusters_max: 2}", 1, 1);
    ck_assert(push(0, "m{cluster=\"1\",__replica__=\"a\"} 1\n"));
    ck_assert(push(0, "m{cluster=\"2\",__replica__=\"a\"} 1\n"));
    p = world_push(0, "t", "m{cluster=\"3\",__replica__=\"a\"} 1\n");
    ck_assert_uint_eq(p.status, 400);
    ck_assert_ptr_nonnull(strstr(p.text, "ha.clusters_max"));
    ck_assert_uint_eq(world_push(0, "u", "m{cluster=\"3\",__replica__=\"a\"} 1\n").status, 204);
    for (int i = 0; i < 40; i++) {                     /* the second goes on, the first does not */
        kl_env_sim_run(w.sim, 100000);
        ck_assert(push(0, "m{cluster=\"2\",__replica__=\"a\"} 1\n"));
    }
    ck_assert(push(0, "m{cluster=\"3\",__replica__=\"a\"} 1\n"));
    ck_assert(push(0, "m{cluster=\"2\",__replica__=\"a\"} 1\n"));
}
END_TEST

START_TEST(a_name_too_long_for_the_table_is_refused)
{
    struct kl_buf b = { 0 };

    world_start("ha: {enabled: true}\nlimits: {value_bytes_max: 4KiB}", 1, 1);
    kl_buf_adds(&b, "m{cluster=\"c\",__replica__=\"");
    for (int i = 0; i < 2000; i++)
        kl_buf_adds(&b, "x");
    kl_buf_adds(&b, "\"} 1\n");
    kl_buf_add8(&b, 0);
    ck_assert_uint_eq(world_push(0, "t", b.at).status, 400);
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(without_the_keys_in_reach_nothing_is_taken_and_the_sender_comes_again)
{
    struct dm_push p;

    world_start("ha: {enabled: true}", 1, 1);
    kl_env_disk_sim_fail(w.disk, 1, KL_EIO);
    p = world_push(0, "t", A);
    ck_assert_uint_eq(p.status, 503);
    ck_assert_uint_gt(p.retry_after_s, 0);
    ck_assert_uint_eq(w.samples, 0);
}
END_TEST

START_TEST(rules_and_pairs_go_together)
{
    world_start("ha: {enabled: true}\nwrite_relabel: [{target_label: site, replacement: s}]", 1, 1);
    ck_assert(push(0, A));
    ck_assert(push(0, A));
    ck_assert(!push(0, B));
    ck_assert(world_has("m{cluster=c,site=s}"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("doorman/ha");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, the_first_of_a_pair_leads_and_its_replica_label_is_not_stored);
    tcase_add_test(t, without_the_option_or_the_labels_all_are_taken);
    tcase_add_test(t, other_labels_may_name_the_pair);
    tcase_add_test(t, the_other_takes_over_when_the_leader_is_silent_for_the_time_of_failover_not_before);
    tcase_add_loop_test(t, two_doormen_agree_on_the_leader, 0, 20);
    tcase_add_test(t, a_leader_that_moves_to_another_doorman_goes_on_leading);
    tcase_add_loop_test(t, a_tenant_may_have_dots_anywhere_in_its_name, 0, sizeof dotted / sizeof dotted[0]);
    tcase_add_test(t, a_push_that_waits_for_the_election_is_stored_once_it_is_over);
    tcase_add_test(t, clusters_are_bounded_and_a_silent_one_makes_room);
    tcase_add_test(t, a_name_too_long_for_the_table_is_refused);
    tcase_add_test(t, without_the_keys_in_reach_nothing_is_taken_and_the_sender_comes_again);
    tcase_add_test(t, rules_and_pairs_go_together);
    suite_add_tcase(s, t);
    return run_suite(s);
}
