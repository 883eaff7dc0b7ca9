/* doorman/spreader: what a census makes of the placement table. Simulated time, the local bus's KV. */
#include "doorman/bootstrap.h"
#include "doorman/spreader.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "libtsproto/census.h"
#include "libtsproto/layout.h"
#include "tests/suite.h"

enum { PARTITIONS = 16, BOUND = 1000, DELAY_MS = 60000 };

static struct kl_env_sim      *sim;
static struct kl_env          *env;
static struct kl_env_disk_sim *disk;
static struct kl_env_dir      *root;
static struct kl_bus          *bus;
static struct dm_bootstrap    *bootstrap;
static struct dm_spreader     *spreaders[2];
static _Atomic int64_t         off_ms;                 /* their clocks */
static struct kl_env_loop     *loop;
static struct kl_bus_watch     watch;
static struct tsp_layout      *layout;
static unsigned                changes;
static struct kl_err           err;

static void change(struct kl_bus_watch *w, const char *key, struct kl_span value, uint64_t revision)
{
    (void)w;
    changes += tsp_layout_see(layout, key, value, revision, &err) && strcmp(key, TSP_PLACEMENT_KEY) != 0;
}

static void current(struct kl_bus_watch *w) { (void)w; }

static struct kl_env_task watching;
static void begin(struct kl_env_task *t) { (void)t; bus->watch(bus, &watch); }

static void setup(void)
{
    struct kl_bus_local_options bo = { .partitions = PARTITIONS };
    struct dm_spreader_options  so = { .series_max = BOUND, .delay_ms = DELAY_MS, .clock_off_ms = &off_ms };
    struct tsp_placement *p;

    sim = kl_env_sim_new(1);
    env = kl_env_sim_env(sim);
    disk = kl_env_disk_sim_new();
    root = kl_env_disk_sim_root(disk);
    ck_assert_int_eq(kl_bus_local_open(env, root, &bo, &bus, &err), KL_OK);
    ck_assert_int_eq(dm_placement_parse(NULL, PARTITIONS, &p, &err), KL_OK);
    bootstrap = dm_bootstrap_new(env, bus, p, NULL);
    for (int i = 0; i < 2; i++)
        spreaders[i] = dm_spreader_new(env, bus, &so);
    layout = tsp_layout_new();
    changes = 0;
    loop = env->sched->loop_new(env->sched, "test", 100);
    watch = (struct kl_bus_watch){ .prefix = TSP_PLACEMENT_KEY, .loop = loop, .change = change,
                                   .current = current };
    watching.run = begin;
    env->sched->post(loop, &watching);
    kl_env_sim_run(sim, 1000);
}

static void teardown(void)
{
    bus->close(bus);
    for (int i = 0; i < 2; i++)
        dm_spreader_free(spreaders[i]);
    dm_bootstrap_free(bootstrap);
    env->sched->loop_free(loop);
    bus->free(bus);
    tsp_layout_free(layout);
    root->leave(root);
    kl_env_disk_sim_free(disk);
    kl_env_sim_free(sim);
}

static void put_done(struct kl_bus_kv *kv) { ck_assert_msg(kv->code == KL_OK, "%s", kv->err.text); }

static struct kl_bus_kv   kv;
static struct kl_env_task putting;
static void put(struct kl_env_task *t) { (void)t; bus->kv(bus, &kv); }

/* An owner tells: `series` of each metric, counted since so long ago. */
static void tell(uint32_t partition, const char *const *metrics, const uint64_t *series, uint32_t count,
                 int64_t ago_ms)
{
    struct tsp_census c = { .partition = partition, .since_ms = kl_env_now_ms(env) - ago_ms, .count = count };
    struct kl_buf     b = { 0 };

    for (uint32_t i = 0; i < count; i++)
        c.metrics[i] = (struct tsp_census_metric){ kl_span_str("t"), kl_span_str(metrics[i]), series[i] };
    ck_assert_int_eq(tsp_census_encode(&c, &b, &err), KL_OK);
    kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_PUT, .value = kl_buf_span(&b), .expect = UINT64_MAX,
                             .loop = loop, .done = put_done };
    tsp_census_key(partition, kv.key, sizeof kv.key);
    putting.run = put;
    env->sched->post(loop, &putting);
    kl_env_sim_run(sim, 1000);
    kl_buf_deinit(&b);
}

static unsigned spread_of(const char *metric, int64_t *from_ms)
{
    struct tsp_placement *p = tsp_layout_table(layout);
    unsigned spread = tsp_placement_spread_of(p, kl_span_str("t"), kl_span_str(metric), from_ms);

    tsp_placement_free(p);
    return spread;
}

START_TEST(a_metric_past_the_bound_is_spread_from_a_while_later_on)
{
    static const char *const metrics[] = { "large", "fits" };
    static const uint64_t    series[] = { BOUND + 1, BOUND };
    int64_t from;

    tell(3, metrics, series, 2, 10000);
    ck_assert_uint_eq(spread_of("large", &from), 1);
    ck_assert_int_ge(from, kl_env_now_ms(env) - 1000 + DELAY_MS);
    ck_assert_int_le(from, kl_env_now_ms(env) + DELAY_MS);
    ck_assert_uint_eq(spread_of("fits", &from), 0);
    ck_assert_uint_eq(changes, 1);                     /* two doormen have seen it */
}
END_TEST

START_TEST(a_much_larger_one_gets_as_much_as_it_needs_and_never_more_than_there_is)
{
    static const char *const metrics[] = { "three", "five", "all" };
    static const uint64_t    series[] = { 3 * BOUND, 5 * BOUND, 1000 * BOUND };
    int64_t from;

    for (int i = 0; i < 3; i++)                        /* perhaps under several keys */
        tell(3, metrics, series, 3, 10000);
    ck_assert_uint_eq(spread_of("three", &from), 2);
    ck_assert_uint_eq(spread_of("five", &from), 3);
    ck_assert_uint_eq(spread_of("all", &from), 4);
}
END_TEST

START_TEST(what_was_counted_before_a_spread_began_is_no_reason_for_another)
{
    static const char *const metrics[] = { "m" };
    static const uint64_t    series[] = { 2 * BOUND };
    int64_t from;

    tell(3, metrics, series, 1, 10000);
    ck_assert_uint_eq(spread_of("m", &from), 1);
    tell(3, metrics, series, 1, 10000);                /* not yet begun */
    kl_env_sim_run(sim, DELAY_MS);
    tell(3, metrics, series, 1, 10000);                /* counted in part before it began */
    ck_assert_uint_eq(spread_of("m", &from), 1);
    ck_assert_uint_eq(changes, 1);
    kl_env_sim_run(sim, 20000);
    tell(4, metrics, series, 1, 10000);                /* still, or again */
    ck_assert_uint_eq(spread_of("m", &from), 2);
    ck_assert_uint_eq(changes, 2);
}
END_TEST

START_TEST(whose_clock_is_wrong_records_nothing_until_it_is_right)
{
    static const char *const metrics[] = { "m" };
    static const uint64_t    series[] = { 2 * BOUND };
    int64_t from;

    off_ms = INT64_C(315576000000);
    tell(3, metrics, series, 1, 10000);
    ck_assert_uint_eq(spread_of("m", &from), 0);
    off_ms = 0;
    tell(3, metrics, series, 1, 10000);                /* the next census */
    ck_assert_uint_eq(spread_of("m", &from), 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("doorman/spreader");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_metric_past_the_bound_is_spread_from_a_while_later_on);
    tcase_add_test(t, a_much_larger_one_gets_as_much_as_it_needs_and_never_more_than_there_is);
    tcase_add_test(t, what_was_counted_before_a_spread_began_is_no_reason_for_another);
    tcase_add_test(t, whose_clock_is_wrong_records_nothing_until_it_is_right);
    suite_add_tcase(s, t);
    return run_suite(s);
}
