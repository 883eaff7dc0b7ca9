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

/* ---- what of an answer was there already ---- */

static uint64_t cached, warned;
static uint32_t pieces;

static void answer_and_tell(struct qr_query *x)
{
    uint64_t steps;

    answer(x);
    qr_reuse_tell(x, &steps, &cached, &pieces);
    warned = x->result->warning_count;
}

/* The steps that were not evaluated. */
static uint64_t ask_steps(int64_t start_ms, int64_t step_ms, int64_t count)
{
    struct query q = { 0 };

    qr_query_init(&q.x);
    q.x.answer = answer_and_tell;
    q.x.job.release = release;
    q.x.job.partial = true;
    strcpy(q.x.job.tenant, "t1");
    q.x.params = (struct pql_params){ .text = kl_span_str("up"), .start_ms = start_ms,
                                      .end_ms = start_ms + (count - 1) * step_ms, .step_ms = step_ms,
                                      .now_ms = kl_env_now_ms(c.env) };
    qr_submit(c.q, &q.x.job);
    kl_env_sim_run(c.sim, 5000);
    ck_assert(q.released);
    qr_query_deinit(&q.x);
    return cached;
}

static uint64_t ask_cached(int64_t later_ms) { return ask_steps(later_ms, STEP_MS, COUNT); }

static uint64_t catalogue;                             /* the owners' revision */

static void marks(uint64_t applied, int64_t hour, uint64_t seq)
{
    for (uint32_t p = 0; p < PARTS; p++) {
        struct kl_buf *b = &c.owners[p].by_what[TSP_SEL_MARKS];

        kl_buf_reset(b);
        tsp_page_begin(b);
        tsp_marks_begin(b, 5);
        if (seq > 0)
            tsp_marks_add(b, hour, seq);
        tsp_page_end(b, &(struct tsp_page){ .applied_seq = applied, .incarnation = 7, .catalogue_revision = catalogue });
    }
}

START_TEST(finished_parts_stay_and_only_the_tail_is_evaluated)
{
    cluster_start(&c);
    ck_assert_uint_eq(ask_cached(0), 0);
    ck_assert_uint_eq(ask_cached(0), COUNT);
    ck_assert_uint_eq(ask_cached(10 * STEP_MS), COUNT - 10);
    ck_assert_uint_eq(ask_cached(15 * STEP_MS), COUNT - 5);
}
END_TEST

START_TEST(what_looks_at_the_youngest_is_never_kept)
{
    c.options.results_cache_fresh_ms = kl_env_now_ms(c.env) - 150 * STEP_MS;
    cluster_start(&c);
    ask_cached(0);
    ck_assert_uint_ge(ask_cached(0), 150);
    ck_assert_uint_le(cached, 151);                    /* a few seconds have passed */
}
END_TEST

START_TEST(a_late_sample_voids_what_looks_at_its_hour_and_no_more)
{
    cluster_start(&c);
    ask_cached(0);
    marks(6, 0, 6);                                    /* an hour of the first stretch of two */
    ck_assert_uint_eq(ask_cached(0), COUNT - 120);
    ck_assert_uint_eq(ask_cached(0), COUNT - 120);     /* what was read had not seen it yet: position 5 */
}
END_TEST

START_TEST(a_deletion_voids_what_looks_at_its_time_and_no_more)
{
    struct series        s = line("__name__=up", 0, STEP_MS, 10, 1);
    struct kl_matcher    m = { KL_MATCH_EQ, kl_span_str("job"), kl_span_str("x"), NULL };
    struct blk_deletion  like = { .number = 1, .seq = 4, .incarnation = 7, .to_ms = STEP_MS, .tenant = "t1",
                                  .matcher_count = 1, .matchers = &m }, *d;
    struct blk_info      infos[PARTS];
    struct kl_err        err;

    for (uint32_t p = 0; p < PARTS; p++) {
        infos[p] = cluster_fileset(&c, "t1", p, 3, &s);
        cluster_catalogue(&c, p, 1, &infos[p], 1);
    }
    cluster_start(&c);
    ask_cached(0);
    ck_assert_uint_eq(ask_cached(0), COUNT);
    for (uint32_t p = 0; p < PARTS; p++) {
        ck_assert_int_eq(blk_deletion_new(&like, &d, &err), KL_OK);
        cluster_deleted(&c, p, 2, &infos[p], 1, &d, 1);
        /* The owner says so, and the querier reads the catalogue anew. */
        kl_buf_reset(&c.owners[p].by_what[TSP_SEL_MARKS]);
        tsp_page_begin(&c.owners[p].by_what[TSP_SEL_MARKS]);
        tsp_marks_begin(&c.owners[p].by_what[TSP_SEL_MARKS], 5);
        tsp_page_end(&c.owners[p].by_what[TSP_SEL_MARKS],
                     &(struct tsp_page){ .applied_seq = 5, .incarnation = 7, .catalogue_revision = 2 });
    }
    ck_assert_uint_eq(ask_cached(0), COUNT - 120);
}
END_TEST

/* ---- days: at this step they are kept in three stretches each, until they are whole ---- */

enum { WIDE_MS = 600000, DAY = 24 * 3600 * 1000 / WIDE_MS, STRETCH = DAY / 3 };

START_TEST(a_whole_day_is_one_piece)
{
    cluster_start(&c);
    ck_assert_uint_eq(ask_steps(0, WIDE_MS, 3 * DAY), 0);
    ck_assert_uint_eq(ask_steps(0, WIDE_MS, 3 * DAY), 3 * DAY);
    ck_assert_uint_eq(pieces, 3);
    ck_assert_uint_eq(ask_steps(7 * WIDE_MS, WIDE_MS, 2 * DAY), 2 * DAY);
    ck_assert_uint_eq(pieces, 3);
}
END_TEST

START_TEST(stretches_join_to_a_day_when_it_is_whole)
{
    cluster_start(&c);
    ask_steps(0, WIDE_MS, STRETCH);
    ck_assert_uint_eq(ask_steps(0, WIDE_MS, 2 * STRETCH), STRETCH);
    ck_assert_uint_eq(ask_steps(0, WIDE_MS, 2 * STRETCH), 2 * STRETCH);
    ck_assert_uint_eq(pieces, 2);
    ck_assert_uint_eq(ask_steps(0, WIDE_MS, DAY + 1), 2 * STRETCH);
    ck_assert_uint_eq(ask_steps(0, WIDE_MS, DAY + 1), DAY + 1);
    ck_assert_uint_eq(pieces, 2);                      /* the day, and a step of the next */
}
END_TEST

START_TEST(of_a_day_only_the_stretch_that_was_written_to_is_evaluated_again)
{
    cluster_start(&c);
    ask_steps(0, WIDE_MS, 3 * DAY);
    marks(6, 28, 6);
    ck_assert_uint_eq(ask_steps(0, WIDE_MS, 3 * DAY), 3 * DAY - STRETCH);
    marks(5, 0, 0);
    ck_assert_uint_eq(ask_steps(0, WIDE_MS, 3 * DAY), 3 * DAY);
    ck_assert_uint_eq(pieces, 3);
}
END_TEST

START_TEST(steps_that_do_not_divide_a_day_are_cut_at_midnight_too)
{
    enum { ODD_MS = 7 * 60000, ODD_DAYS = 3 * 24 * 60 / 7 };

    cluster_start(&c);
    ask_steps(60000, ODD_MS, ODD_DAYS);
    ck_assert_uint_eq(ask_steps(60000, ODD_MS, ODD_DAYS), ODD_DAYS);
    ck_assert_uint_ge(pieces, 3);
    /* 24:04 is the first of the second day. */
    ck_assert_uint_eq(ask_steps(60000 + 206 * ODD_MS, ODD_MS, ODD_DAYS), ODD_DAYS - 206);
    ck_assert_uint_eq(ask_steps(60000 + 60000, ODD_MS, ODD_DAYS), 0);  /* none of these steps is one of those */
}
END_TEST

START_TEST(days_of_few_steps_are_kept_together_and_stand_each_by_itself)
{
    enum { LONG_MS = 6 * 3600 * 1000, OF_BLOCK = 8 * 4 };      /* blocks of eight days */

    cluster_start(&c);
    ask_steps(0, LONG_MS, 2 * OF_BLOCK);
    ck_assert_uint_eq(ask_steps(0, LONG_MS, 2 * OF_BLOCK), 2 * OF_BLOCK);
    ck_assert_uint_eq(pieces, 2);
    marks(6, 24 * 3 + 12, 6);
    ck_assert_uint_eq(ask_steps(0, LONG_MS, 2 * OF_BLOCK), 2 * OF_BLOCK - 4);
}
END_TEST

START_TEST(nothing_is_kept_of_an_answer_that_lacks_something)
{
    struct series   s = line("__name__=up", 0, STEP_MS, 10, 1);
    char            path[BLK_PATH_MAX + 1], key[KL_STORE_KEY_MAX + 1];
    struct kl_err   err;

    for (uint32_t p = 0; p < PARTS; p++) {
        struct blk_info info = cluster_fileset(&c, "t1", p, 3, &s);

        cluster_catalogue(&c, p, 1, &info, 1);
        blk_fileset_path(&info, path);
        snprintf(key, sizeof key, "%s/checkpoint", path);
        ck_assert_int_eq(c.store->remove(c.store, key, &err), KL_OK);
    }
    cluster_start(&c);
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(ask_cached(0), 0);
        ck_assert_uint_gt(warned, 0);
    }
}
END_TEST

/* 0: all of it; 1: a sample fewer; 2: what left is not known to be gone; 3: records of the flush may not have been read. */
START_TEST(a_flush_and_a_merge_void_nothing_that_had_all_of_it)
{
    struct series       s = line("__name__=up", 0, STEP_MS, 10, 1);
    struct blk_manifest m[PARTS] = { { 0 } };
    struct blk_info     cut, more[PARTS], both;

    marks(6, 0, 0);
    for (uint32_t p = 0; p < PARTS; p++) {
        m[p] = (struct blk_manifest){ .partition = p, .revision = 1, .epoch = 1, .incarnation = 7 };
        cut = cluster_fileset(&c, "t1", p, 3, &s);
        more[p] = cluster_fileset(&c, "t1", p, _i == 3 ? 9 : 8, &s);
        blk_manifest_add(&m[p], &cut);
        cluster_manifest(&c, &m[p]);
    }
    cluster_start(&c);
    ask_cached(0);
    ask_cached(0);
    ck_assert_uint_eq(ask_cached(0), COUNT);
    for (uint32_t p = 0; p < PARTS; p++) {             /* a cut: a record itself */
        m[p].revision++;
        blk_manifest_add(&m[p], &more[p]);
        cluster_manifest(&c, &m[p]);
    }
    catalogue = 2;
    marks(8, 0, 0);
    ck_assert_uint_eq(ask_cached(0), _i < 3 ? COUNT : COUNT - 120);
    for (uint32_t p = 0; p < PARTS; p++) {             /* and both of them as one: it is not even opened */
        both = more[p];
        both.generation = 3;
        both.sample_count = 20 - (_i == 1);
        both.content = 0;
        m[p].revision++;
        blk_manifest_drop(&m[p], 0, 0);
        blk_manifest_drop(&m[p], 0, 0);
        blk_manifest_add(&m[p], &both);
        if (_i == 2)
            m[p].gone_count--;
        cluster_manifest(&c, &m[p]);
    }
    catalogue = 3;
    marks(9, 0, 0);
    ck_assert_uint_eq(ask_cached(0), _i % 3 == 0 ? COUNT : COUNT - 120);      /* of the first two hours */
    catalogue = 0;
    for (uint32_t p = 0; p < PARTS; p++)
        blk_manifest_deinit(&m[p]);
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
    tcase_add_test(t, finished_parts_stay_and_only_the_tail_is_evaluated);
    tcase_add_test(t, what_looks_at_the_youngest_is_never_kept);
    tcase_add_test(t, a_late_sample_voids_what_looks_at_its_hour_and_no_more);
    tcase_add_test(t, a_deletion_voids_what_looks_at_its_time_and_no_more);
    tcase_add_test(t, a_whole_day_is_one_piece);
    tcase_add_test(t, stretches_join_to_a_day_when_it_is_whole);
    tcase_add_test(t, of_a_day_only_the_stretch_that_was_written_to_is_evaluated_again);
    tcase_add_test(t, steps_that_do_not_divide_a_day_are_cut_at_midnight_too);
    tcase_add_test(t, days_of_few_steps_are_kept_together_and_stand_each_by_itself);
    tcase_add_test(t, nothing_is_kept_of_an_answer_that_lacks_something);
    tcase_add_loop_test(t, a_flush_and_a_merge_void_nothing_that_had_all_of_it, 0, 4);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
