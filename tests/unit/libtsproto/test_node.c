/*
 * libtsproto/node: what goes in comes out; what does not fit is refused with words.
 */
#include "libtsproto/node.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

static struct kl_buf   out;
static struct kl_err   err;
static struct tsp_node n, got;

static void setup(void)
{
    kl_buf_init(&out, 64 * 1024);
    got = (struct tsp_node){ 0 };
    n = (struct tsp_node){ .name = "ingestor-0", .zone = "a", .address = "10.0.0.1:4481",
                           .version = "1", .capacity = 100, .instance = { { 1, 2, 3, 0, 5 } }, .disk = { { 6 } },
                           .state = TSP_NODE_DRAINING, .beat = 7, .started_ms = -5 };
}

static void teardown(void)
{
    kl_buf_deinit(&out);
    tsp_node_deinit(&got);
}

START_TEST(a_node_comes_back_as_it_went)
{
    struct tsp_holding holdings[300];

    for (uint32_t i = 0; i < 300; i++)
        holdings[i] = (struct tsp_holding){ i * 3, (enum tsp_holding_state)(i % 3), i * 1000000007ull,
                                            i };
    n.holdings = holdings;
    n.holding_count = 300;
    ck_assert_int_eq(tsp_node_encode(&n, &out, &err), KL_OK);
    ck_assert_int_eq(tsp_node_decode(kl_buf_span(&out), &got, &err), KL_OK);
    ck_assert_str_eq(got.name, n.name);
    ck_assert_str_eq(got.zone, n.zone);
    ck_assert_str_eq(got.address, n.address);
    ck_assert_str_eq(got.version, n.version);
    ck_assert_int_eq(memcmp(&got.instance, &n.instance, sizeof n.instance), 0);
    ck_assert_int_eq(memcmp(&got.disk, &n.disk, sizeof n.disk), 0);
    ck_assert_uint_eq(got.beat, 7);
    ck_assert_int_eq(got.started_ms, -5);
    ck_assert_int_eq(got.state, TSP_NODE_DRAINING);
    ck_assert_uint_eq(got.holding_count, 300);
    ck_assert_int_eq(memcmp(got.holdings, holdings, sizeof holdings), 0);
    ck_assert_ptr_eq(tsp_node_holding(&got, 3), &got.holdings[1]);
    ck_assert_ptr_null(tsp_node_holding(&got, 4));
}
END_TEST

START_TEST(names_that_would_be_wildcards_or_paths_are_refused)
{
    static const char *const bad[] = { "", "a.b", "*", ">", "a b", "..", "a/b", "\xc3\xa4" };

    snprintf(n.name, sizeof n.name, "%s", bad[_i]);
    ck_assert_int_eq(tsp_node_encode(&n, &out, &err), KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "is no name for a node"));
}
END_TEST

START_TEST(every_cut_of_the_bytes_is_refused_or_a_fit_node)
{
    struct tsp_holding h = { 3, TSP_HOLDING_READY, 9, 0 };

    n.holdings = &h;
    n.holding_count = 1;
    ck_assert_int_eq(tsp_node_encode(&n, &out, &err), KL_OK);
    for (size_t size = 0; size < out.size; size++) {
        if (tsp_node_decode(kl_span(out.at, size), &got, &err) == KL_OK)
            ck_assert_int_eq(tsp_node_check(&got, &err), KL_OK);
        tsp_node_deinit(&got);
    }
}
END_TEST

START_TEST(a_lease_comes_back_as_it_went)
{
    struct tsp_lease l = { .owner = "i1", .instance = { { 9 } }, .epoch = UINT64_MAX, .beat = 3 }, m;

    ck_assert_int_eq(tsp_lease_encode(&l, &out, &err), KL_OK);
    ck_assert_int_eq(tsp_lease_decode(kl_buf_span(&out), &m, &err), KL_OK);
    ck_assert_str_eq(m.owner, "i1");
    ck_assert_uint_eq(m.epoch, UINT64_MAX);
    ck_assert_uint_eq(m.beat, 3);
    ck_assert_int_eq(memcmp(&l.instance, &m.instance, sizeof m.instance), 0);
    ck_assert_int_ne(tsp_lease_decode(kl_span("\x0a", 1), &m, &err), KL_OK);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libtsproto/node");
    TCase *t = tcase_create("node");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_node_comes_back_as_it_went);
    tcase_add_loop_test(t, names_that_would_be_wildcards_or_paths_are_refused, 0, 8);
    tcase_add_test(t, every_cut_of_the_bytes_is_refused_or_a_fit_node);
    tcase_add_test(t, a_lease_comes_back_as_it_went);
    suite_add_tcase(s, t);
    return run_suite(s);
}
