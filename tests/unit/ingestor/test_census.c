/* ingestor/census: what an owner tells of metrics that outgrow its partition. */
#include "world.h"

#include "libtsproto/census.h"
#include "tests/suite.h"

enum { BOUND = 20, WINDOW_MS = 60000 };

static struct world w;
static const char   T[] = "anonymous";
static struct tsp_census census;
static struct kl_arena   arena;

static void setup(void)
{
    w_init(&w, 7, 2);
    w.spread_series = BOUND;
    w.spread_window_ms = WINDOW_MS;
    w_start(&w);
    w_ready(&w);
    kl_arena_init(&arena, 1 << 20);
}

static void teardown(void)
{
    kl_arena_deinit(&arena);
    w_stop(&w);
    w_deinit(&w);
}

/* What stands in the KV of a partition; false: nothing. */
static bool told(uint32_t partition)
{
    struct w_kv   kv = { .op = { .kind = KL_BUS_KV_GET, .loop = w.loop, .done = w_kv_done } };
    struct kl_err err;

    kl_env_sim_run(w.sim, 2500);                       /* a census comes each second here */
    tsp_census_key(partition, kv.op.key, sizeof kv.op.key);
    w.bus->kv(w.bus, &kv.op);
    ck_assert(w_until(&w, &kv.done));
    if (kv.op.code == KL_ENOENT)
        return false;
    ck_assert_msg(kv.op.code == KL_OK, "%s", kv.op.err.text);
    ck_assert_int_eq(tsp_census_decode(kl_span(kv.op.got, kv.op.got_size), &arena, &census, &err), KL_OK);
    free(kv.op.got);
    return true;
}

/* Odd series are of requests_total, even ones of temperature. */
static void write_series(unsigned from, unsigned count)
{
    for (unsigned n = from; n < from + 2 * count; n += 2)
        w_write(&w, 1, T, n, w_now(&w), n);
}

START_TEST(a_metric_past_the_bound_is_told_with_its_count_and_others_are_not)
{
    write_series(1, BOUND);
    write_series(2, BOUND + 5);
    ck_assert(told(1));
    ck_assert_uint_eq(census.partition, 1);
    ck_assert_uint_eq(census.count, 1);
    ck_assert(kl_span_eq(census.metrics[0].metric, kl_span_str("temperature")));
    ck_assert(kl_span_eq(census.metrics[0].tenant, kl_span_str(T)));
    ck_assert_uint_eq(census.metrics[0].series, BOUND + 5);
    ck_assert_int_le(census.since_ms, w_now(&w) - WINDOW_MS);
    ck_assert(!told(0));
    write_series(1, BOUND + 7);                        /* and now the other one: the larger is first */
    ck_assert(told(1));
    ck_assert_uint_eq(census.count, 2);
    ck_assert(kl_span_eq(census.metrics[0].metric, kl_span_str("requests_total")));
}
END_TEST

START_TEST(series_without_samples_of_late_do_not_count)
{
    write_series(1, BOUND + 5);
    ck_assert(told(1));
    kl_env_sim_run(w.sim, WINDOW_MS);
    ck_assert(!told(1));                               /* taken back, though they are still in memory */
    write_series(1, BOUND);
    ck_assert(!told(1));
    write_series(1 + 2 * BOUND, 1);
    ck_assert(told(1));
    ck_assert_uint_eq(census.metrics[0].series, BOUND + 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ingestor/census");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_metric_past_the_bound_is_told_with_its_count_and_others_are_not);
    tcase_add_test(t, series_without_samples_of_late_do_not_count);
    suite_add_tcase(s, t);
    return run_suite(s);
}
