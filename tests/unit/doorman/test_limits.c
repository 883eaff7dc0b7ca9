/* doorman: what a tenant may send, how fast, and how many series of it. Virtual time. */
#include "world.h"

#include "doorman/share.h"
#include "tests/suite.h"

static void teardown(void) { world_stop(); }

static const char *lines(unsigned count, const char *prefix)
{
    static struct kl_buf b;

    kl_buf_reset(&b);
    for (unsigned i = 0; i < count; i++)
        kl_buf_addf(&b, "m{n=\"%s%u\"} 1\n", prefix, i);
    kl_buf_add8(&b, 0);
    return b.at;
}

START_TEST(a_tenants_limits_are_its_own)
{
    world_start("limits: {label_count_max: 2}\ntenants: {wide: {limits: {label_count_max: 4}}}", 1, 1);
    ck_assert_uint_eq(world_push(0, "t", "m{a=\"1\",b=\"2\"} 1\n").status, 400);
    ck_assert_uint_eq(world_push(0, "wide", "m{a=\"1\",b=\"2\"} 1\n").status, 204);
    ck_assert_uint_eq(world_push(0, "t", "m{a=\"1\"} 1\n").status, 204);
}
END_TEST

START_TEST(a_rate_holds_over_time_and_a_burst_passes)
{
    unsigned passed = 0;
    struct dm_push p;

    world_start("tenants: {slow: {limits: {samples_per_s: 10, burst_samples: 50}}}", 1, 1);
    ck_assert_uint_eq(world_push(0, "slow", lines(50, "")).status, 204);
    p = world_push(0, "slow", lines(10, ""));           /* empty, give or take what came meanwhile */
    if (p.status == 204)
        p = world_push(0, "slow", lines(10, ""));
    ck_assert_uint_eq(p.status, 429);
    ck_assert_uint_ge(p.retry_after_s, 1);
    ck_assert_ptr_nonnull(strstr(p.text, "limits.samples_per_s"));
    for (int s = 0; s < 200; s++) {                    /* asks for 20 a second, 200 s long */
        passed += world_push(0, "slow", lines(20, "")).status == 204 ? 20 : 0;
        kl_env_sim_run(w.sim, 980);
    }
    ck_assert_uint_ge(passed, 10 * 190);
    ck_assert_uint_le(passed, 10 * 210);
    ck_assert_uint_eq(world_push(0, "other", lines(1000, "")).status, 204);
    ck_assert(world_metric("koalemos_doorman_pushes_limited_total ") > 50);
}
END_TEST

START_TEST(a_push_larger_than_the_burst_passes_and_is_waited_for)
{
    struct dm_push p;

    world_start("limits: {samples_per_s: 10, burst_samples: 10}", 1, 1);
    ck_assert_uint_eq(world_push(0, "t", lines(110, "")).status, 204);
    p = world_push(0, "t", lines(1, ""));
    ck_assert_uint_eq(p.status, 429);
    ck_assert_uint_ge(p.retry_after_s, 9);
    ck_assert_uint_le(p.retry_after_s, 11);
    kl_env_sim_run(w.sim, (int64_t)p.retry_after_s * 1000);
    ck_assert_uint_eq(world_push(0, "t", lines(1, "")).status, 204);
}
END_TEST

START_TEST(samples_past_those_of_one_push_are_refused_and_the_others_stored)
{
    struct dm_push p;

    world_start("limits: {samples_per_push_max: 7}", 1, 1);
    p = world_push(0, "t", lines(10, ""));
    ck_assert_uint_eq(p.status, 400);
    ck_assert_uint_eq(p.samples_stored, 7);
    ck_assert_uint_eq(p.refused, 3);
    ck_assert_ptr_nonnull(strstr(p.text, "limits.samples_per_push_max, the first: m{n=\"7\"}"));
    ck_assert(world_metric("koalemos_doorman_refused_total{reason=\"too_many_samples\"} ") == 3);
}
END_TEST

START_TEST(series_past_the_bound_are_refused_and_those_known_go_on)
{
    struct dm_push p;

    world_start("limits: {series_max: 5}", 1, 1);
    ck_assert_uint_eq(world_push(0, "t", lines(5, "")).status, 204);
    p = world_push(0, "t", lines(8, ""));
    ck_assert_uint_eq(p.status, 400);
    ck_assert_uint_eq(p.samples_stored, 5);
    ck_assert_uint_eq(p.refused, 3);
    ck_assert_ptr_nonnull(strstr(p.text, "limits.series_max, the first: m{n=\"5\"}"));
    ck_assert_uint_eq(world_push(0, "u", lines(5, "")).status, 204);       /* another's are another's */
    ck_assert(world_metric("koalemos_doorman_refused_total{reason=\"too_many_series\"} ") == 3);
}
END_TEST

START_TEST(series_that_stop_make_room_within_twenty_minutes)
{
    world_start("limits: {series_max: 5}", 1, 1);
    ck_assert_uint_eq(world_push(0, "t", lines(5, "old")).status, 204);
    ck_assert_uint_eq(world_push(0, "t", lines(1, "new")).status, 400);
    kl_env_sim_run(w.sim, 11 * 60000);
    ck_assert_uint_eq(world_push(0, "t", lines(3, "old")).status, 204);    /* three go on */
    kl_env_sim_run(w.sim, 10 * 60000);
    ck_assert_uint_eq(world_push(0, "t", lines(2, "new")).status, 204);
    ck_assert_uint_eq(world_push(0, "t", lines(3, "new")).status, 400);
    ck_assert_uint_eq(world_push(0, "t", lines(3, "old")).status, 204);
}
END_TEST

START_TEST(what_a_table_forgets_is_counted_no_more)
{
    world_remembered = 10;
    world_start("limits: {series_max: 20}", 1, 1);
    world_remembered = 0;
    for (unsigned i = 0; i < 5; i++)
        ck_assert_uint_eq(world_push(0, "t", lines(15, i % 2 == 0 ? "a" : "b")).status, 204);
    ck_assert(world_metric("koalemos_doorman_active_series{gate=\"0\"} ") == 10);
}
END_TEST

START_TEST(active_series_are_shown_and_those_that_stop_are_not)
{
    world_start("", 1, 1);
    ck_assert_uint_eq(world_push(0, "t", lines(100, "")).status, 204);
    ck_assert(world_metric("koalemos_doorman_active_series{gate=\"0\"} ") == 100);
    kl_env_sim_run(w.sim, 25 * 60000);
    ck_assert(world_metric("koalemos_doorman_active_series{gate=\"0\"} ") == 0);
}
END_TEST

START_TEST(two_gates_share_one_bound)
{
    unsigned passed = 0;

    world_start("doorman: {gates: 2}\nlimits: {series_max: 6, samples_per_s: 1000}", 1, 1);
    for (unsigned c = 0; c < 2; c++) {
        struct dm_push p = { .format = DM_TEXT, .tenant = "t", .now_ms = kl_env_now_ms(w.env), .done = world_done };
        const char    *text = lines(5, c == 0 ? "a" : "b");
        p.body_size = strlen(text);
        p.body = malloc(p.body_size);
        memcpy(p.body, text, p.body_size);
        dm_push(w.doormen[0], c, &p);
        kl_env_sim_run(w.sim, 200);
        passed += (unsigned)p.samples_stored;
    }
    ck_assert_uint_eq(passed, 6);
}
END_TEST

static void let_them_hear(void) { kl_env_sim_run(w.sim, 12000); }

START_TEST(doormen_divide_a_rate_and_one_that_ends_leaves_its_part)
{
    unsigned passed[2] = { 0 }, alone = 0;

    world_start("limits: {samples_per_s: 100, burst_samples: 1}", 2, 1);
    let_them_hear();
    ck_assert(world_metric("koalemos_doorman_doormen ") == 2);
    for (int s = 0; s < 400; s++)
        for (unsigned i = 0; i < 2; i++) {
            passed[i] += world_push(i, "t", lines(20, "")).status == 204 ? 20 : 0;
            kl_env_sim_run(w.sim, 90);
        }
    /* some 80 s */
    ck_assert_uint_ge(passed[0] + passed[1], 100 * 70);
    ck_assert_uint_le(passed[0] + passed[1], 100 * 90);
    ck_assert_uint_le(passed[0] > passed[1] ? passed[0] - passed[1] : passed[1] - passed[0], 200);
    dm_free(w.doormen[1]);
    w.doorman_count = 1;
    kl_env_sim_run(w.sim, 30000);
    ck_assert(world_metric("koalemos_doorman_doormen ") == 1);
    for (int s = 0; s < 400; s++) {
        alone += world_push(0, "t", lines(20, "")).status == 204 ? 20 : 0;
        kl_env_sim_run(w.sim, 90);
    }
    ck_assert_uint_ge(alone, 100 * 36);
}
END_TEST

START_TEST(series_active_at_another_doorman_count_too)
{
    world_start("limits: {series_max: 10}", 2, 1);
    ck_assert_uint_eq(world_push(0, "t", lines(7, "a")).status, 204);
    let_them_hear();
    ck_assert_uint_eq(world_push(1, "t", lines(5, "b")).samples_stored, 3);
    let_them_hear();
    ck_assert_uint_eq(world_push(0, "t", lines(1, "c")).status, 400);
    ck_assert_uint_eq(world_push(0, "t", lines(7, "a")).status, 204);
    kl_env_sim_run(w.sim, 25 * 60000);                 /* all of them end */
    ck_assert_uint_eq(world_push(1, "t", lines(10, "d")).status, 204);
}
END_TEST

START_TEST(a_share_is_found_by_name_and_those_past_the_bound_have_one_in_common)
{
    struct dm_shares *s = dm_shares_new();
    struct dm_share  *first, *beyond = NULL;
    char              name[16];

    world_start("", 1, 1);
    first = dm_share_of(s, kl_span_str("t0"), 7);
    for (uint64_t i = 1; i < DM_SHARES_MAX; i++) {
        snprintf(name, sizeof name, "t%u", (unsigned)i);
        ck_assert_ptr_ne(dm_share_of(s, kl_span_str(name), i * 2654435761u), first);
    }
    ck_assert_ptr_eq(dm_share_of(s, kl_span_str("t0"), 7), first);
    beyond = dm_share_of(s, kl_span_str("x"), 8);
    ck_assert_ptr_eq(dm_share_of(s, kl_span_str("y"), 9), beyond);
    ck_assert_ptr_ne(beyond, first);
    dm_shares_free(s);
}
END_TEST

/* ---- the disks of ingestors ---- */

struct kv { struct kl_bus_kv op; bool done; };
static void kv_done(struct kl_bus_kv *op) { kl_container_of(op, struct kv, op)->done = true; }

static void tell(const char *key, const char *words)   /* NULL: takes it back */
{
    struct kv kv = { .op = { .kind = words != NULL ? KL_BUS_KV_PUT : KL_BUS_KV_DELETE, .loop = w.loop,
                             .expect = UINT64_MAX, .done = kv_done } };

    snprintf(kv.op.key, sizeof kv.op.key, "%s", key);
    if (words != NULL)
        kv.op.value = kl_span_str(words);
    w.bus->kv(w.bus, &kv.op);
    kl_env_sim_run(w.sim, 100);
    ck_assert(kv.done);
}

START_TEST(pushes_to_an_ingestor_whose_disk_is_full_get_503_until_there_is_room)
{
    struct dm_push p;

    world_start("", 1, 1);
    ck_assert_uint_eq(world_push(0, "t", lines(5, "")).status, 204);
    tell("disk.ingestor-7", "the disk of ingestor-7 is full");          /* has no partition */
    ck_assert_uint_eq(world_push(0, "t", lines(5, "")).status, 204);
    tell("disk.ingestor-0", "the disk of ingestor-0 is 96.0 % full");
    p = world_push(0, "t", lines(5, ""));
    ck_assert_uint_eq(p.status, 503);
    ck_assert_uint_ge(p.retry_after_s, 1);
    ck_assert_msg(strstr(p.text, "the disk of ingestor-0 is 96.0 % full") != NULL, "%s", p.text);
    tell("disk.ingestor-7", NULL);
    ck_assert_uint_eq(world_push(0, "t", lines(5, "")).status, 503);
    tell("disk.ingestor-0", NULL);
    ck_assert_uint_eq(world_push(0, "t", lines(5, "")).status, 204);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("doorman/limits");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, pushes_to_an_ingestor_whose_disk_is_full_get_503_until_there_is_room);
    tcase_add_test(t, a_tenants_limits_are_its_own);
    tcase_add_test(t, a_rate_holds_over_time_and_a_burst_passes);
    tcase_add_test(t, a_push_larger_than_the_burst_passes_and_is_waited_for);
    tcase_add_test(t, samples_past_those_of_one_push_are_refused_and_the_others_stored);
    tcase_add_test(t, series_past_the_bound_are_refused_and_those_known_go_on);
    tcase_add_test(t, series_that_stop_make_room_within_twenty_minutes);
    tcase_add_test(t, what_a_table_forgets_is_counted_no_more);
    tcase_add_test(t, active_series_are_shown_and_those_that_stop_are_not);
    tcase_add_test(t, two_gates_share_one_bound);
    tcase_add_test(t, doormen_divide_a_rate_and_one_that_ends_leaves_its_part);
    tcase_add_test(t, series_active_at_another_doorman_count_too);
    tcase_add_test(t, a_share_is_found_by_name_and_those_past_the_bound_have_one_in_common);
    suite_add_tcase(s, t);
    return run_suite(s);
}
