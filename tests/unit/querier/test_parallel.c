/* Many requests at once on real threads: every answer is whole, and each its own. */
#include <unistd.h>

#include "tests/unit/querier/cluster.h"
#include "tests/suite.h"

enum { SERIES = 700, ASKERS = 40 };

static struct cluster c;
static struct kl_env *env;
static char           names[SERIES][64];
static _Atomic unsigned answered, released;

static int by_fp(const void *a, const void *b)
{
    return kl_fp_cmp(fp_of(a), fp_of(b));
}

static void setup(void)
{
    uint32_t       p, count;
    struct kl_buf *page;
    struct kl_err  err;

    env = kl_env_real_new(4);
    cluster_init(&c, env);
    tsp_placement_range(c.placement, kl_span_str("t1"), kl_span_str("up"), &p, &count);
    for (unsigned i = 0; i < SERIES; i++)
        snprintf(names[i], sizeof names[i], "__name__=up,job=%04u", i);
    qsort(names, SERIES, sizeof names[0], by_fp);
    page = &c.owners[p].pages[0];
    c.owners[p].page_count = 1;
    tsp_page_begin(page);
    for (unsigned i = 0; i < SERIES; i++) {
        struct series s = line(names[i], 1000, 10, 240, atoi(names[i] + strlen(names[i]) - 4));

        page_series(page, &s);
    }
    tsp_page_end(page, &(struct tsp_page){ .cursor = fp_of(names[SERIES - 1]) });
    ck_assert_uint_gt(SERIES * 240, QR_INLINE_SAMPLES);    /* so that workers have a part in it */
    cluster_start(&c);
    for (unsigned i = 0; i < 5000 && !qr_ready(c.q, &err); i++)
        usleep(1000);
}

static void teardown(void)
{
    cluster_deinit(&c);
    kl_env_real_free(env);
}

static void check(struct qr_names *n)
{
    ck_assert_msg(n->job.failure.kind == PQL_OK, "%s", n->job.failure.text);
    ck_assert_uint_eq(n->count, SERIES);
    for (unsigned i = 0; i < SERIES; i++) {
        ck_assert_uint_eq(n->series[i].count, 240);
        ck_assert_int_eq(n->series[i].times_ms[239], 1000 + 2390);
        ck_assert_double_eq(n->series[i].values[17], i + 17);
    }
    atomic_fetch_add(&answered, 1);
}

static void free_it(struct qr_job *j)
{
    struct qr_names *n = kl_container_of(j, struct qr_names, job);

    qr_names_deinit(n);
    free(kl_container_of(n, struct asked, n));
    atomic_fetch_add(&released, 1);
}

START_TEST(forty_requests_at_once_each_get_their_whole_answer)
{
    for (unsigned i = 0; i < ASKERS; i++) {
        struct asked *a = asked_new(&c, TSP_SEL_SERIES, "up", 0, 100000);

        a->n.answer = check;
        a->n.job.release = free_it;
        qr_submit(c.q, &a->n.job);
    }
    for (unsigned i = 0; i < 20000 && atomic_load(&released) < ASKERS; i++)
        usleep(1000);
    ck_assert_uint_eq(atomic_load(&answered), ASKERS);
    ck_assert_uint_eq(atomic_load(&released), ASKERS);
}
END_TEST

static void check_query(struct qr_query *x)
{
    ck_assert_msg(x->result != NULL, "%s", x->job.failure.text);
    ck_assert_uint_eq(x->result->series_count, 1);
    ck_assert_uint_eq(x->result->series[0].count, 24);
    for (unsigned i = 0; i < 24; i++)                  /* each rises by one in 10 ms */
        ck_assert_double_eq_tol(x->result->series[0].points[i].value, 100.0 * SERIES, 1e-6);
    atomic_fetch_add(&answered, 1);
}

static void free_query(struct qr_job *j)
{
    struct qr_query *x = kl_container_of(j, struct qr_query, job);

    qr_query_deinit(x);
    free(x);
    atomic_fetch_add(&released, 1);
}

START_TEST(forty_queries_at_once_each_get_the_same_sum)
{
    for (unsigned i = 0; i < ASKERS; i++) {
        struct qr_query *x = kl_new(sizeof *x);

        qr_query_init(x);
        x->answer = check_query;
        x->job.release = free_query;
        snprintf(x->job.tenant, sizeof x->job.tenant, "t1");
        x->params = (struct pql_params){ .text = kl_span_str("sum(rate(up[100ms]))"),
                                         .start_ms = 1100, .end_ms = 3400, .step_ms = 100 };
        qr_submit(c.q, &x->job);
    }
    for (unsigned i = 0; i < 20000 && atomic_load(&released) < ASKERS; i++)
        usleep(1000);
    ck_assert_uint_eq(atomic_load(&answered), ASKERS);
    ck_assert_uint_eq(atomic_load(&released), ASKERS);
}
END_TEST

static void count_it(struct qr_names *n)
{
    (void)n;
    atomic_fetch_add(&answered, 1);
}

START_TEST(stopping_amid_requests_answers_and_frees_all_of_them)
{
    for (unsigned i = 0; i < ASKERS; i++) {
        struct asked *a = asked_new(&c, TSP_SEL_SERIES, "up", 0, 100000);

        a->n.answer = count_it;
        a->n.job.release = free_it;
        qr_submit(c.q, &a->n.job);
    }
    qr_free(c.q);
    c.q = NULL;
    ck_assert_uint_eq(atomic_load(&answered), ASKERS);
    ck_assert_uint_eq(atomic_load(&released), ASKERS);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("parallel");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, forty_requests_at_once_each_get_their_whole_answer);
    tcase_add_test(t, forty_queries_at_once_each_get_the_same_sum);
    tcase_add_test(t, stopping_amid_requests_answers_and_frees_all_of_them);
    suite_add_tcase(s, t);
    return run_suite(s);
}
