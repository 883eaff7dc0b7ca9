/* Aggregates asked of ingestors: in place of the series where they can be, and as if nothing had been where not. */
#include "tests/unit/querier/cluster.h"

static struct cluster c;

struct run { struct qr_query x; unsigned answers; bool released; };

static void setup(void)
{
    cluster_init(&c, NULL);
    c.options.pushes = true;
}
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

static void begin(struct run *r, const char *text, int64_t time_ms)
{
    qr_query_init(&r->x);
    r->x.answer = answer;
    r->x.job.release = release;
    r->x.job.partial = true;
    snprintf(r->x.job.tenant, sizeof r->x.job.tenant, "t1");
    r->x.params = (struct pql_params){ .text = kl_span_str(text), .instant = true, .start_ms = time_ms,
                                       .end_ms = time_ms, .lookback_ms = 300000 };
}

static struct run *at(const char *text, int64_t time_ms)
{
    struct run *r = kl_new(sizeof *r);

    begin(r, text, time_ms);
    qr_submit(c.q, &r->x.job);
    kl_env_sim_run(c.sim, 12000);
    ck_assert_uint_eq(r->answers, 1);
    ck_assert_msg(r->x.job.failure.kind == PQL_OK, "%s", r->x.job.failure.text);
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

/* What an ingestor would answer that has these series. */
static void partial(struct owner *o, const char *text, int64_t time_ms, const struct series *s, size_t count,
                    struct tsp_page head)
{
    struct pql_params  p = { .text = kl_span_str(text), .instant = true, .start_ms = time_ms, .partial = true };
    struct pql_failure failure;
    struct pql_query  *q = pql_new(&p, &failure);
    struct pql_series  fed[4];
    struct kl_buf      labels[4] = { 0 };
    struct kl_buf     *out = &o->by_what[TSP_SEL_PARTIAL];
    struct kl_err      err;

    ck_assert(q != NULL && pql_step(q) == PQL_NEED);
    for (size_t i = 0; i < count; i++) {
        fed[i] = (struct pql_series){ .labels = labels_of(s[i].labels, &labels[i]), .count = s[i].count,
                                      .times_ms = s[i].times, .values = s[i].values };
        pql_charge(q, s[i].count, 1);
    }
    pql_feed(q, 0, fed, count);
    while (pql_step(q) != PQL_DONE)
        for (size_t i = 0; i < pql_work_count(q); i++)
            pql_work(q, i, 0);
    tsp_page_begin(out);
    ck_assert_msg(pql_partial(q, out, &err) == KL_OK, "%s", err.text);
    tsp_page_end(out, &head);
    pql_free(q);
    for (size_t i = 0; i < count; i++)
        kl_buf_deinit(&labels[i]);
}

static struct owner *stock(struct series s[2])
{
    struct owner *o = &c.owners[home("up")];

    s[0] = line("__name__=up,job=a", 1000000, 15000, 10, 1);
    s[1] = line("__name__=up,job=b", 1000000, 15000, 10, 5);
    cluster_live(&c, home("up"), s, 2, (struct tsp_page){ 0 });
    partial(o, "sum(up)", 1040000, s, 2, (struct tsp_page){ 0 });
    return o;
}

START_TEST(where_the_heads_have_all_an_aggregate_is_asked_for_and_no_series)
{
    struct series s[2];
    struct owner *o = stock(s);
    struct run   *r;

    cluster_start(&c);
    r = at("sum(up) * 2", 1040000);
    ck_assert_uint_eq(o->asked, 1);
    ck_assert_uint_eq(o->last_what, TSP_SEL_PARTIAL);
    ck_assert_uint_eq(r->x.result->series_count, 1);
    ck_assert_double_eq(r->x.result->series[0].points[0].value, 20);
    ck_assert_uint_eq(r->x.job.cost.series, 2);
    ck_assert_uint_eq(r->x.job.cost.samples, 20);
    ck_assert(r->x.round->fetches[0].pushed && r->x.round->fetches[0].fed.groups == 1);
    run_free(r);
}
END_TEST

static const char *const reasons[] = {
    "does not know", "a damaged partial", "a damaged partial", "the owner says nothing", "placement table has changed",
    "filesets have samples", "filesets have samples", "does not name its metric", "the owner says no",
};
enum { REASONS = sizeof reasons / sizeof *reasons };

START_TEST(where_not_the_series_are_asked_for_and_the_reason_is_told)
{
    struct series   s[2], old = line("__name__=up,job=c", 900000, 15000, 5, 1);
    struct owner   *o = stock(s);
    struct kl_buf  *answer_ = &o->by_what[TSP_SEL_PARTIAL];
    struct blk_info info;
    struct run     *r;
    const char     *told = reasons[_i], *text = _i == 7 ? "sum({job=~\"a|b\"})" : "sum(up)";

    if (_i == 0 || _i == 8) {                          /* an old ingestor; one that is busy */
        o->fails = _i == 0 ? KL_EINVAL : KL_EAGAIN;
        o->fail_times = 1;
        told = "the owner says no";
    } else if (_i == 1) {
        kl_buf_reset(answer_);                         /* no aggregate at all */
    } else if (_i == 2) {
        answer_->size--;
    } else if (_i == 3) {
        o->silent_what = TSP_SEL_PARTIAL;
    } else if (_i == 4) {
        kl_buf_reset(answer_);
        partial(o, "sum(up)", 1040000, s, 2, (struct tsp_page){ .placement_revision = 99 });
    } else if (_i == 5 || _i == 6) {
        info = cluster_fileset(&c, "t1", home("up"), 9, &old);
        if (_i == 6)
            cluster_catalogue(&c, home("up"), 1, &info, 1);
    }
    cluster_start(&c);
    if (_i == 5) {                                     /* nobody has heard of it before the answer */
        kl_buf_reset(answer_);
        partial(o, "sum(up)", 1040000, s, 2, (struct tsp_page){ .catalogue_revision = 1 });
        cluster_catalogue(&c, home("up"), 1, &info, 1);
    }
    r = at(text, 1040000);
    ck_assert_uint_eq(o->last_what, TSP_SEL_SERIES);
    ck_assert_msg(strstr(r->x.round->fetches[0].unpushed, told) != NULL, "%s", r->x.round->fetches[0].unpushed);
    ck_assert_uint_eq(r->x.result->warning_count, 0);
    ck_assert_uint_eq(r->x.result->series_count, 1);
    ck_assert_double_eq(r->x.result->series[0].points[0].value, _i == 5 || _i == 6 ? 15 : 10);
    run_free(r);
}
END_TEST

START_TEST(what_was_refused_is_not_asked_for_again_at_once)
{
    struct series s[2];
    struct owner *o = stock(s);

    o->fails = KL_EINVAL;
    o->fail_times = 1;
    cluster_start(&c);
    run_free(at("sum(up)", 1040000));
    ck_assert_uint_eq(o->asked, 2);
    run_free(at("sum(up)", 1040000));
    ck_assert_uint_eq(o->asked, 3);
    kl_env_sim_run(c.sim, 30000);
    run_free(at("sum(up)", 1040000));
    ck_assert_uint_eq(o->asked, 4);
    ck_assert_uint_eq(o->last_what, TSP_SEL_PARTIAL);
}
END_TEST

/* Here none is put to two, and each of the two is silent in its turn. */
START_TEST(members_that_were_silent_are_not_waited_for_again)
{
    struct series s[2];
    struct owner *o = stock(s);
    struct run   *r;

    cluster_two_members(&c);
    o->silent_what = TSP_SEL_PARTIAL;
    o->member_fails = KL_ETIMEOUT;
    cluster_start(&c);
    for (unsigned n = 0; n < 2; n++) {
        r = at("sum(up)", 1040000);
        ck_assert(strstr(r->x.round->fetches[0].unpushed, "says nothing") != NULL);
        ck_assert_int_ge(r->x.fetch_ns, 1900000000);   /* as long as there is patience with a member */
        ck_assert_int_le(r->x.fetch_ns, 2500000000);
        run_free(r);
    }
    o->asked = 0;
    r = at("max(up)", 1040000);
    ck_assert(strstr(r->x.round->fetches[0].unpushed, "a moment ago") != NULL);
    ck_assert_int_le(r->x.fetch_ns, 1000000000);
    run_free(r);
}
END_TEST

/* _i 0: the owner answers later; 1: not at all, and is asked last of all after that. */
START_TEST(a_slow_owner_s_aggregate_is_asked_of_another_member_and_counts_once)
{
    struct series s[2];
    struct owner *o = stock(s);
    struct run   *r;

    cluster_two_members(&c);
    c.options.hedge_percent = 10;
    o->slow_ms = 1500;
    o->silent_what = _i == 1 ? TSP_SEL_PARTIAL : 0;
    cluster_start(&c);
    r = at("sum(up)", 1040000);
    ck_assert(r->x.round->fetches[0].pushed && r->x.round->fetches[0].fed.groups == 1);
    ck_assert_double_eq(r->x.result->series[0].points[0].value, 10);
    ck_assert_uint_eq(r->x.job.cost.series, 2);
    ck_assert_int_le(r->x.fetch_ns, (QR_HEDGE_FIRST_MS + 50) * INT64_C(1000000));
    ck_assert_uint_eq(o->asked, 2);
    ck_assert_uint_eq(o->members_asked, 1);
    ck_assert(o->stops == 1 && o->member_stops == 0);  /* who was too late, and by the name of his question */
    ck_assert(o->stopped_asker == o->last_asker && o->stopped_number == o->last_number && o->last_asker != 0);
    run_free(r);
    r = at("sum(up)", 1040000);                        /* by now it has been found silent, or not */
    ck_assert(r->x.round->fetches[0].pushed);
    ck_assert_uint_eq(o->asked, _i == 0 ? 4 : 3);
    ck_assert_uint_eq(o->members_asked, 2);
    run_free(r);
}
END_TEST

/* The other cannot answer: it is the owner's. It refuses what was asked: then no one waits for the owner. */
START_TEST(an_aggregate_that_another_member_cannot_make_is_the_owner_s_and_one_that_it_refuses_is_not_waited_for)
{
    struct series s[2];
    struct owner *o = stock(s);
    struct run   *r;

    cluster_two_members(&c);
    c.options.hedge_percent = 10;
    o->slow_ms = 1500;
    o->member_fails = _i == 0 ? KL_EAGAIN : KL_EINVAL;
    cluster_start(&c);
    r = at("sum(up)", 1040000);
    ck_assert_double_eq(r->x.result->series[0].points[0].value, 10);
    ck_assert(r->x.round->fetches[0].pushed == (_i == 0));
    if (_i == 1)
        ck_assert(strstr(r->x.round->fetches[0].unpushed, "a member says no") != NULL);
    ck_assert_uint_eq(o->stops, _i == 1);
    ck_assert_uint_eq(o->member_stops, 0);
    run_free(r);
}
END_TEST

static bool left(struct qr_job *j) { return kl_env_mono_ns(j->q->env) - j->submitted_ns > 300000000; }

/* _i 0: its client has gone; 1: its time is over. */
START_TEST(a_query_that_nobody_waits_for_stops_what_it_has_asked_for)
{
    struct series s[2];
    struct owner *o = stock(s);
    struct run   *r = kl_new(sizeof *r);

    o->slow_ms = 5000;
    cluster_start(&c);
    begin(r, "sum(up)", 1040000);
    r->x.job.gone = _i == 0 ? left : NULL;
    r->x.job.timeout_ms = _i == 0 ? 0 : 500;
    qr_submit(c.q, &r->x.job);
    kl_env_sim_run(c.sim, 700);
    ck_assert_uint_eq(r->answers, 1);
    ck_assert_int_eq(r->x.job.failure.kind, _i == 0 ? PQL_CANCELED : PQL_TIMEOUT);
    ck_assert_uint_eq(o->asked, 1);
    ck_assert_uint_eq(o->stops, 1);
    ck_assert(o->stopped_asker == o->last_asker && o->stopped_number == o->last_number);
    kl_env_sim_run(c.sim, 12000);
    run_free(r);
}
END_TEST

/* It is spread over two, of which one refuses. */
START_TEST(where_one_partition_refuses_the_others_are_stopped)
{
    struct tsp_spread spread = { kl_span_str("t1"), kl_span_str("up"), 1, 0 };
    struct series     s[2];
    struct owner     *refuses = stock(s), *other = &c.owners[(home("up") + 1) % PARTS];
    struct kl_err     err;
    struct run       *r;

    ck_assert_int_eq(tsp_placement_spread(c.placement, &spread, &err), KL_OK);
    cluster_put_placement(&c);
    refuses->fails = KL_EINVAL;
    refuses->fail_times = 1;
    other->slow_ms = 300;
    cluster_start(&c);
    r = at("sum(up)", 1040000);
    ck_assert_double_eq(r->x.result->series[0].points[0].value, 10);
    ck_assert(r->x.round->fetches[0].part_count == 2 && !r->x.round->fetches[0].pushed);
    ck_assert(refuses->stops == 0 && other->stops == 1);
    ck_assert(other->stopped_number != refuses->last_number);
    run_free(r);
}
END_TEST

START_TEST(it_is_not_asked_for_where_that_is_off)
{
    struct series s[2];
    struct owner *o = stock(s);

    c.options.pushes = false;
    cluster_start(&c);
    run_free(at("sum(up)", 1040000));
    ck_assert_uint_eq(o->asked, 1);
    ck_assert_uint_eq(o->last_what, TSP_SEL_SERIES);
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("querier push");
    TCase   *t = tcase_create("push");
    SRunner *r;
    int      failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, where_the_heads_have_all_an_aggregate_is_asked_for_and_no_series);
    tcase_add_loop_test(t, where_not_the_series_are_asked_for_and_the_reason_is_told, 0, REASONS);
    tcase_add_test(t, what_was_refused_is_not_asked_for_again_at_once);
    tcase_add_test(t, members_that_were_silent_are_not_waited_for_again);
    tcase_add_loop_test(t, a_slow_owner_s_aggregate_is_asked_of_another_member_and_counts_once, 0, 2);
    tcase_add_loop_test(t, an_aggregate_that_another_member_cannot_make_is_the_owner_s_and_one_that_it_refuses_is_not_waited_for,
                        0, 2);
    tcase_add_loop_test(t, a_query_that_nobody_waits_for_stops_what_it_has_asked_for, 0, 2);
    tcase_add_test(t, where_one_partition_refuses_the_others_are_stopped);
    tcase_add_test(t, it_is_not_asked_for_where_that_is_off);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
