/* doorman: limits and rules that change while it runs. */
#include "world.h"

#include "doorman/tenants.h"
#include "tests/suite.h"

static void setup(void) { world_lives = true; }
static void teardown(void) { world_stop(); }

static const char one[] = "m{a=\"1\",b=\"2\"} 1\n";

START_TEST(a_changed_limit_holds_from_the_next_push_on_also_for_series_that_are_remembered)
{
    struct dm_push p;

    world_start("limits: {label_count_max: 3}", 1, 1);
    ck_assert_uint_eq(world_push(0, "t", one).status, 204);
    world_reload("limits: {label_count_max: 2}\ntenants: {more: {limits: {label_count_max: 3}}}");
    p = world_push(0, "t", one);
    ck_assert_uint_eq(p.status, 400);
    ck_assert_uint_eq(p.refused, 1);
    ck_assert_uint_eq(world_push(0, "more", one).status, 204);
    world_reload("limits: {label_count_max: 3}");
    ck_assert_uint_eq(world_push(0, "t", one).status, 204);
}
END_TEST

START_TEST(changed_rules_make_other_series_of_those_that_are_remembered)
{
    world_start("", 1, 1);
    ck_assert_uint_eq(world_push(0, "t", "m{pod=\"x\"} 1\n").status, 204);
    world_reload("write_relabel: [{target_label: site, replacement: y}]");
    ck_assert_uint_eq(world_push(0, "t", "m{pod=\"x\"} 1\n").status, 204);
    ck_assert(world_has("m{pod=x}"));
    ck_assert(world_has("m{pod=x,site=y}"));
    world_reload("write_relabel: [{source_labels: [__name__], regex: m, action: drop}]");
    ck_assert_uint_eq(world_push(0, "t", "m{pod=\"x\"} 1\n").samples_stored, 0);
}
END_TEST

START_TEST(what_changes_for_one_tenant_costs_the_others_nothing)
{
    world_start("", 1, 1);
    ck_assert_uint_eq(world_push(0, "a", one).status, 204);
    ck_assert_uint_eq(world_push(0, "b", one).status, 204);
    world_reload("tenants: {a: {write_relabel: [{target_label: site, replacement: y}]}, b: {limits: {past: 2h}}}");
    ck_assert_uint_eq(world_push(0, "a", one).status, 204);
    ck_assert_uint_eq(world_push(0, "b", one).status, 204);
    ck_assert(world_metric("koalemos_doorman_remembered_misses_total ") == 3);
    ck_assert(world_metric("koalemos_doorman_remembered_hits_total ") == 1);
}
END_TEST

START_TEST(series_are_not_counted_twice_because_rules_changed)
{
    world_start("limits: {series_max: 3}", 1, 1);
    ck_assert_uint_eq(world_push(0, "t", "a 1\nb 1\nc 1\n").status, 204);
    for (int i = 0; i < 5; i++) {
        char yaml[200];
        snprintf(yaml, sizeof yaml, "limits: {series_max: 3}\nwrite_relabel: [{target_label: turn, replacement: '%d'}]", i);
        world_reload(yaml);
        ck_assert_uint_eq(world_push(0, "t", "a 1\nb 1\nc 1\n").status, 204);
    }
    ck_assert_uint_eq(world_push(0, "t", "d 1\n").status, 400);
    world_reload("limits: {series_max: 4}\nwrite_relabel: [{target_label: turn, replacement: '4'}]");
    ck_assert_uint_eq(world_push(0, "t", "d 1\n").status, 204);
    ck_assert(world_metric("koalemos_doorman_active_series{gate=\"0\"} ") == 4);
    kl_env_sim_run(w.sim, 21 * 60 * 1000);             /* what was given back is not given back again */
    ck_assert(world_metric("koalemos_doorman_active_series{gate=\"0\"} ") == 0);
}
END_TEST

START_TEST(a_renewed_tenant_has_one_number_at_a_time_until_there_are_none_left)
{
    struct dm_tenants *t = dm_tenants_new();
    struct dm_tenant  *a = dm_tenants_of(t, kl_span_str("a")), *b = dm_tenants_of(t, kl_span_str("b"));

    for (uint32_t i = 2; i < DM_TENANTS_MAX; i++) {
        uint32_t last = a->number;
        ck_assert(dm_tenants_renew(t, a));
        ck_assert(dm_tenants_at(t, last)->retired);
        a = dm_tenants_of(t, kl_span_str("a"));
        ck_assert_uint_eq(a->number, i);
        ck_assert(!a->retired);
    }
    ck_assert(!dm_tenants_renew(t, a));
    ck_assert_ptr_eq(dm_tenants_of(t, kl_span_str("b")), b);
    dm_tenants_free(t);
    world_start("", 1, 1);                             /* for the teardown */
}
END_TEST

START_TEST(pairs_may_come_to_be_while_it_runs)
{
    static const char a[] = "m{cluster=\"c\",__replica__=\"a\"} 1\n", b[] = "m{cluster=\"c\",__replica__=\"b\"} 1\n";

    world_start("", 1, 1);
    ck_assert_uint_eq(world_push(0, "t", a).samples_stored, 1);
    world_reload("ha: {enabled: true}");
    ck_assert_uint_eq(world_push(0, "t", a).samples_stored, 1);
    ck_assert_uint_eq(world_push(0, "t", b).samples_stored, 0);
    ck_assert(world_has("m{cluster=c}"));
    world_reload("");
    ck_assert_uint_eq(world_push(0, "t", b).samples_stored, 1);
}
END_TEST

START_TEST(the_bound_of_bodies_follows)
{
    world_start("limits: {body_bytes_max: 2000}", 1, 1);
    ck_assert_uint_eq(atomic_load(dm_body_max(w.doormen[0])), 2000);
    world_reload("limits: {body_bytes_max: 3000}\ntenants: {t: {limits: {body_bytes_max: 5000}}}");
    ck_assert_uint_eq(atomic_load(dm_body_max(w.doormen[0])), 5000);
    ck_assert_uint_eq(dm_limits_of(w.doormen[0], kl_span_str("t")).body_bytes_max, 5000);
    ck_assert_uint_eq(dm_limits_of(w.doormen[0], kl_span_str("u")).body_bytes_max, 3000);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("doorman/reload");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_changed_limit_holds_from_the_next_push_on_also_for_series_that_are_remembered);
    tcase_add_test(t, changed_rules_make_other_series_of_those_that_are_remembered);
    tcase_add_test(t, what_changes_for_one_tenant_costs_the_others_nothing);
    tcase_add_test(t, series_are_not_counted_twice_because_rules_changed);
    tcase_add_test(t, a_renewed_tenant_has_one_number_at_a_time_until_there_are_none_left);
    tcase_add_test(t, pairs_may_come_to_be_while_it_runs);
    tcase_add_test(t, the_bound_of_bodies_follows);
    suite_add_tcase(s, t);
    return run_suite(s);
}
