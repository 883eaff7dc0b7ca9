/* A PromQL query from text to result, over live pages and filesets, in virtual time. */
#include <math.h>

#include "tests/unit/querier/cluster.h"
#include "tests/suite.h"

static struct cluster c;

struct run { struct qr_query x; unsigned answers; bool released, client_gone; };

static void setup(void)    { cluster_init(&c, NULL); }
static void teardown(void) { cluster_deinit(&c); }

static void answer(struct qr_query *x)
{
    kl_container_of(x, struct run, x)->answers++;
    qr_hold(&x->job);
}

static void release(struct qr_job *j)
{
    kl_container_of(kl_container_of(j, struct qr_query, job), struct run, x)->released = true;
}

static bool gone(struct qr_job *j)
{
    return kl_container_of(kl_container_of(j, struct qr_query, job), struct run, x)->client_gone;
}

static struct run *run_new(const char *text, int64_t from_ms, int64_t to_ms, int64_t step_ms)
{
    struct run *r = kl_new(sizeof *r);

    qr_query_init(&r->x);
    r->x.answer = answer;
    r->x.job.release = release;
    r->x.job.gone = gone;
    r->x.job.partial = true;
    snprintf(r->x.job.tenant, sizeof r->x.job.tenant, "t1");
    r->x.params = (struct pql_params){ .text = kl_span_str(text), .instant = step_ms == 0,
                                       .start_ms = from_ms, .end_ms = to_ms, .step_ms = step_ms };
    return r;
}

static void go(struct run *r)
{
    qr_submit(c.q, &r->x.job);
    cluster_run(&c);
    ck_assert_uint_eq(r->answers, 1);
}

static struct run *at(const char *text, int64_t time_ms)
{
    struct run *r = run_new(text, time_ms, time_ms, 0);

    go(r);
    return r;
}

static void run_free(struct run *r)
{
    qr_drop(&r->x.job);
    ck_assert(r->released);
    qr_query_deinit(&r->x);
    free(r);
}

static uint32_t home(const char *metric)
{
    uint32_t first, count;

    tsp_placement_range(c.placement, kl_span_str("t1"), kl_span_str(metric), &first, &count);
    return first;
}

static const struct pql_result *result(const struct run *r)
{
    ck_assert_msg(r->x.job.failure.kind == PQL_OK, "%s", r->x.job.failure.text);
    ck_assert_ptr_nonnull(r->x.result);
    return r->x.result;
}

static void put(const char *metric, const struct series *s, size_t count)
{
    cluster_live(&c, home(metric), s, count, (struct tsp_page){ 0 });
}

START_TEST(an_instant_vector_is_the_newest_sample_within_the_lookback)
{
    struct series s[2] = { line("__name__=up,job=a", 1000000, 15000, 10, 1),
                           line("__name__=up,job=b", 100000, 15000, 10, 1) };
    struct run   *r;

    put("up", s, 2);
    cluster_start(&c);
    r = at("up", 1040000);
    ck_assert_int_eq(result(r)->type, PQL_VECTOR);
    ck_assert_uint_eq(r->x.result->series_count, 1);
    ck_assert_double_eq(r->x.result->series[0].points[0].value, 3);
    ck_assert_int_eq(r->x.result->series[0].points[0].time_ms, 1040000);
    run_free(r);
}
END_TEST

START_TEST(a_range_over_stored_and_live_data_has_no_seam)
{
    struct series   old = line("__name__=c,job=a", 0, 10000, 300, 0);
    struct series   new = line("__name__=c,job=a", 3000000, 10000, 300, 300);
    uint32_t        p = home("c");
    struct blk_info info = cluster_fileset(&c, "t1", p, 9, &old);
    struct run     *r;

    cluster_catalogue(&c, p, 1, &info, 1);
    put("c", &new, 1);
    cluster_start(&c);
    r = run_new("rate(c[5m])", 600000, 5400000, 60000);
    go(r);
    ck_assert_int_eq(result(r)->type, PQL_MATRIX);
    ck_assert_uint_eq(r->x.result->series_count, 1);
    ck_assert_uint_eq(r->x.result->series[0].count, 81);
    for (unsigned i = 0; i < 81; i++)
        ck_assert_double_eq_tol(r->x.result->series[0].points[i].value, 0.1, 1e-9);
    run_free(r);
}
END_TEST

START_TEST(a_join_fetches_both_sides)
{
    struct series a = line("__name__=left,job=a", 1000000, 15000, 10, 5);
    struct series b = line("__name__=right,job=a", 1000000, 15000, 10, 2);
    struct run   *r;

    ck_assert_uint_ne(home("left"), home("right"));
    put("left", &a, 1);
    put("right", &b, 1);
    cluster_start(&c);
    r = at("left - right", 1000000);
    ck_assert_uint_eq(result(r)->series_count, 1);
    ck_assert_double_eq(r->x.result->series[0].points[0].value, 3);
    run_free(r);
}
END_TEST

START_TEST(a_partition_that_is_silent_makes_a_warning_of_the_result)
{
    struct series s = line("__name__=up,job=a", 1000000, 15000, 10, 1);
    struct run   *r;

    put("up", &s, 1);
    c.owners[(home("up") + 1) % PARTS].fails = KL_EIO;
    c.owners[(home("up") + 1) % PARTS].fail_times = 9;
    cluster_start(&c);
    r = at("{job=\"a\"}", 1000000);
    ck_assert_uint_eq(result(r)->series_count, 1);
    ck_assert_uint_eq(r->x.result->warning_count, 1);
    ck_assert_ptr_nonnull(strstr(r->x.result->warnings[0], "partition"));
    run_free(r);
}
END_TEST

START_TEST(what_is_no_query_is_bad_data)
{
    struct run *r;

    cluster_start(&c);
    r = at("up{", 0);
    ck_assert_int_eq(r->x.job.failure.kind, PQL_BAD_DATA);
    ck_assert_ptr_nonnull(strstr(r->x.job.failure.text, "invalid parameter \"query\": 1:4: parse "
                                                         "error: "));
    run_free(r);
}
END_TEST

START_TEST(a_query_past_its_samples_ends_with_words)
{
    struct series s = line("__name__=up,job=a", 1000000, 10, 600, 1);
    struct run   *r;

    put("up", &s, 1);
    c.options.query_samples_max = 100;
    cluster_start(&c);
    r = at("sum_over_time(up[1h])", 1006000);
    ck_assert_int_eq(r->x.job.failure.kind, PQL_EXECUTION);
    ck_assert_ptr_nonnull(strstr(r->x.job.failure.text, "too many samples"));
    run_free(r);
}
END_TEST

START_TEST(a_scalar_needs_no_partition)
{
    struct run *r;

    cluster_start(&c);
    r = at("1 + 2", 5000);
    ck_assert_int_eq(result(r)->type, PQL_SCALAR);
    ck_assert_double_eq(r->x.result->series[0].points[0].value, 3);
    for (unsigned i = 0; i < PARTS; i++)
        ck_assert_uint_eq(c.owners[i].asked, 0);
    run_free(r);
}
END_TEST

START_TEST(a_query_whose_client_left_is_canceled)
{
    struct run *r;

    c.owners[home("up")].silent = true;
    cluster_start(&c);
    r = run_new("up", 0, 0, 0);
    r->client_gone = true;
    go(r);
    ck_assert_int_eq(r->x.job.failure.kind, PQL_CANCELED);
    run_free(r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("query");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, an_instant_vector_is_the_newest_sample_within_the_lookback);
    tcase_add_test(t, a_range_over_stored_and_live_data_has_no_seam);
    tcase_add_test(t, a_join_fetches_both_sides);
    tcase_add_test(t, a_partition_that_is_silent_makes_a_warning_of_the_result);
    tcase_add_test(t, what_is_no_query_is_bad_data);
    tcase_add_test(t, a_query_past_its_samples_ends_with_words);
    tcase_add_test(t, a_scalar_needs_no_partition);
    tcase_add_test(t, a_query_whose_client_left_is_canceled);
    suite_add_tcase(s, t);
    return run_suite(s);
}
