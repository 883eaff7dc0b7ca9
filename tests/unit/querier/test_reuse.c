/* What asking for parts of answers costs: whom a range query asks, the first time and the next. */
#include "cluster.h"

enum { STEP_MS = 60000, COUNT = 180 };

static struct cluster c;
static uint32_t       home;

static void setup(void)
{
    static struct series s;

    cluster_init(&c, NULL);
    c.options.results_cache_bytes = 1 << 20;
    s = line("__name__=up", 0, STEP_MS, COUNT, 1);
    for (uint32_t p = 0; p < PARTS; p++) {
        struct tsp_page head = { .applied_seq = 5, .incarnation = 7 };

        cluster_live(&c, p, &s, 1, head);
        tsp_page_begin(&c.owners[p].by_what[TSP_SEL_MARKS]);
        tsp_marks_begin(&c.owners[p].by_what[TSP_SEL_MARKS], 5);
        tsp_page_end(&c.owners[p].by_what[TSP_SEL_MARKS], &head);
    }
}

static void teardown(void) { cluster_deinit(&c); }

struct query { struct qr_query x; bool released; size_t series; };

static void answer(struct qr_query *x)
{
    ck_assert_msg(x->result != NULL, "%s", x->job.failure.text);
    kl_container_of(x, struct query, x)->series = x->result->series_count;
}

static void release(struct qr_job *j)
{
    struct query *q = kl_container_of(kl_container_of(j, struct qr_query, job), struct query, x);

    q->released = true;
}

/* Asks; how many questions came, and what the last one was. */
static unsigned ask(uint8_t *last, const char **passed)
{
    struct query q = { 0 };
    unsigned     before = 0, after = 0;

    for (uint32_t p = 0; p < PARTS; p++)
        before += c.owners[p].asked;
    qr_query_init(&q.x);
    q.x.answer = answer;
    q.x.job.release = release;
    strcpy(q.x.job.tenant, "t1");
    q.x.params = (struct pql_params){ .text = kl_span_str("up"), .start_ms = 0, .end_ms = (COUNT - 1) * STEP_MS,
                                      .step_ms = STEP_MS, .now_ms = kl_env_now_ms(c.env) };
    qr_submit(c.q, &q.x.job);
    cluster_run(&c);
    ck_assert(q.released);
    ck_assert_uint_eq(q.series, 1);
    *passed = q.x.reuse_passed;
    qr_query_deinit(&q.x);
    for (uint32_t p = 0; p < PARTS; p++) {
        after += c.owners[p].asked;
        if (c.owners[p].asked > 0)
            home = p;
    }
    *last = c.owners[home].last_what;
    return after - before;
}

START_TEST(nobody_is_asked_how_things_stand_before_there_is_something_that_could_hold)
{
    const char *passed;
    uint8_t     what;

    cluster_start(&c);
    ck_assert_uint_eq(ask(&what, &passed), 1);
    ck_assert_uint_eq(what, TSP_SEL_SERIES);
    ck_assert_ptr_null(passed);
    ck_assert_uint_eq(ask(&what, &passed), 1);         /* all of it holds */
    ck_assert_uint_eq(what, TSP_SEL_MARKS);
    tsp_page_end(&c.owners[home].by_what[TSP_SEL_MARKS], &(struct tsp_page){ .applied_seq = 5, .incarnation = 8 });
    ck_assert_uint_eq(ask(&what, &passed), 2);         /* nothing of it does */
    ck_assert_uint_eq(what, TSP_SEL_SERIES);
}
END_TEST

START_TEST(what_is_evaluated_as_quickly_as_it_is_looked_for_is_not_kept)
{
    const char *passed;
    uint8_t     what;

    c.options.results_cache_least = COUNT * 2 + 1;     /* samples, and as many points */
    cluster_start(&c);
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(ask(&what, &passed), 1);
        ck_assert_uint_eq(what, TSP_SEL_SERIES);
        ck_assert_ptr_nonnull(passed);
    }
}
END_TEST

START_TEST(what_costs_as_much_as_the_bound_is_kept)
{
    const char *passed;
    uint8_t     what;

    c.options.results_cache_least = COUNT * 2;
    cluster_start(&c);
    ask(&what, &passed);
    ask(&what, &passed);
    ck_assert_uint_eq(what, TSP_SEL_MARKS);
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("reuse");
    TCase   *t = tcase_create("reuse");
    SRunner *r;
    int      failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, nobody_is_asked_how_things_stand_before_there_is_something_that_could_hold);
    tcase_add_test(t, what_is_evaluated_as_quickly_as_it_is_looked_for_is_not_kept);
    tcase_add_test(t, what_costs_as_much_as_the_bound_is_kept);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
