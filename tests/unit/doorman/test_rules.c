/* doorman: series as a tenant's relabelling rules leave them. */
#include "world.h"
#include "tests/suite.h"

static void teardown(void) { world_stop(); }

START_TEST(a_series_is_stored_as_its_tenants_rules_leave_it)
{
    world_start("tenants: {t: {write_relabel: [{source_labels: [pod], regex: '(.*)-[0-9]+', target_label: app}, "
                "{action: labeldrop, regex: pod}]}}", 1, 1);
    ck_assert_uint_eq(world_push(0, "t", "m{pod=\"web-1\"} 1\n").status, 204);
    ck_assert_uint_eq(world_push(0, "other", "m{pod=\"web-1\"} 1\n").status, 204);
    ck_assert(world_has("m{app=web}"));
    ck_assert(world_has("m{pod=web-1}"));
}
END_TEST

START_TEST(rules_of_all_hold_for_a_tenant_that_has_none_of_its_own)
{
    world_start("write_relabel: [{target_label: site, replacement: x}]\n"
                "tenants: {own: {write_relabel: []}, more: {limits: {past: 2h}}}", 1, 1);
    ck_assert_uint_eq(world_push(0, "more", "a 1\n").status, 204);
    ck_assert_uint_eq(world_push(0, "any", "b 1\n").status, 204);
    ck_assert_uint_eq(world_push(0, "own", "c 1\n").status, 204);
    ck_assert(world_has("a{site=x}"));
    ck_assert(world_has("b{site=x}"));
    ck_assert(world_has("c{}"));
}
END_TEST

START_TEST(what_a_rule_drops_is_neither_stored_nor_refused_and_is_remembered)
{
    struct dm_push p;

    world_start("write_relabel: [{source_labels: [__name__], regex: go_.*, action: drop}]", 1, 1);
    for (int i = 0; i < 3; i++) {
        p = world_push(0, "t", "go_gc 1\nup 1\ngo_threads 2\n");
        ck_assert_uint_eq(p.status, 204);
        ck_assert_uint_eq(p.samples_stored, 1);
        ck_assert_uint_eq(p.refused, 0);
    }
    ck_assert(world_metric("koalemos_doorman_dropped_total ") == 6);
    ck_assert(world_metric("koalemos_doorman_remembered_misses_total ") == 3);
    ck_assert(world_metric("koalemos_doorman_active_series{gate=\"0\"} ") == 1);
    ck_assert(!world_has("go_gc{}"));
}
END_TEST

START_TEST(limits_are_judged_after_the_rules_and_form_before_them)
{
    world_start("limits: {label_count_max: 2}\n"
                "write_relabel: [{action: labeldrop, regex: 'x.*'}, {source_labels: [kill], regex: y, target_label: __name__, "
                "replacement: ''}]", 1, 1);
    ck_assert_uint_eq(world_push(0, "t", "m{x1=\"1\",x2=\"2\",x3=\"3\",a=\"1\"} 1\n").status, 204);
    ck_assert_uint_eq(world_push(0, "t", "m{a=\"1\",b=\"2\",x=\"3\"} 1\n").status, 400);
    ck_assert_uint_eq(world_push(0, "t", "m{kill=\"y\"} 1\n").status, 400);
    ck_assert(world_metric("koalemos_doorman_refused_total{reason=\"no_name\"} ") == 1);
    ck_assert(world_metric("koalemos_doorman_refused_total{reason=\"too_many_labels\"} ") == 1);
}
END_TEST

START_TEST(a_definition_that_is_repeated_is_relabelled_again)
{
    world_start("write_relabel: [{target_label: site, replacement: x}]", 1, 1);
    ck_assert_uint_eq(world_push(0, "t", "m 1\n").status, 204);
    kl_env_sim_run(w.sim, 3700 * 1000);
    ck_assert_uint_eq(world_push(0, "t", "m 2\n").status, 204);
    kl_env_sim_run(w.sim, 100);
    ck_assert_uint_eq(w.defined, 2);
    ck_assert_str_eq(w.series[0], "m{site=x}");
    ck_assert_str_eq(w.series[1], "m{site=x}");
    ck_assert_uint_eq(w.samples, 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("doorman/rules");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_series_is_stored_as_its_tenants_rules_leave_it);
    tcase_add_test(t, rules_of_all_hold_for_a_tenant_that_has_none_of_its_own);
    tcase_add_test(t, what_a_rule_drops_is_neither_stored_nor_refused_and_is_remembered);
    tcase_add_test(t, limits_are_judged_after_the_rules_and_form_before_them);
    tcase_add_test(t, a_definition_that_is_repeated_is_relabelled_again);
    suite_add_tcase(s, t);
    return run_suite(s);
}
