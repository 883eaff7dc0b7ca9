/* Aggregates made by an ingestor, asked for as a querier does: of many pages, of overlapping chunks; what it refuses;
 * and that it stops. */
#include "world.h"

#include "libpromql/pql.h"
#include "tests/suite.h"

static struct world w;
static const char   T[] = "anonymous";
static const char   TEXT[] = "sum by (code) (count_over_time(requests_total[10m]))";
static uint32_t     home;
static int64_t      now;

static void begin_world(uint64_t seed)
{
    w_init(&w, seed, 2);
    w_start(&w);
    w_ready(&w);
    now = w_now(&w);
    home = tsp_placement_place(kl_span_str(T), kl_span_str("requests_total"), (struct kl_fp){ 0 }, 0, 2);
}

static void setup(void) { begin_world(7); }

static void teardown(void)
{
    w_stop(&w);
    w_deinit(&w);
}

static struct pql_query *query(const char *text, bool partial, struct pql_need *need)
{
    struct pql_params  p = { .text = kl_span_str(text), .instant = true, .start_ms = now, .partial = partial,
                             .lookback_ms = 300000 };
    struct pql_failure failure;
    struct pql_query  *q = pql_new(&p, &failure);
    const struct pql_need *needs;

    ck_assert_msg(q != NULL, "%s", failure.text);
    ck_assert_int_eq(pql_step(q), PQL_NEED);
    ck_assert_uint_eq(pql_needs(q, &needs), 1);
    *need = *needs;
    return q;
}

static struct tsp_select question(const struct pql_need *need)
{
    struct tsp_select s = w_all(home, T);

    s.what = TSP_SEL_PARTIAL;
    s.from_ms = need->from_ms;
    s.to_ms = need->to_ms;
    s.matcher_count = need->matcher_count;
    memcpy(s.matchers, need->matchers, need->matcher_count * sizeof *need->matchers);
    ck_assert(need->push != NULL);
    s.push = (struct tsp_push){ .version = TSP_PUSH_VERSION, .text = need->push->text,
                                .start_ms = need->push->start_ms, .step_ms = need->push->step_ms,
                                .steps = need->push->steps, .lookback_ms = 300000, .samples_max = 1000000,
                                .partitions = 2 };
    return s;
}

/* `count` series of requests_total, some samples each. */
static void write_many(unsigned count)
{
    for (unsigned n = 1; n < 2 * count; n += 2)
        w_define(&w, T, n);
    for (int k = 0; k < 8; k++) {
        for (unsigned n = 1; n < 2 * count; n += 2) {
            int64_t at = now - 80000 + k * 10000;
            double  v = k;

            tsp_record_floats(w.writer, kl_span_str(T), n, &at, &v, 1);
            if (n % 400 == 399)
                w_send_wait(&w, home);
        }
        w_send_wait(&w, home);
    }
}

START_TEST(the_aggregate_of_all_series_is_answered_however_many_pages_they_would_be)
{
    unsigned          count = _i == 0 ? 20 : 6000;
    struct pql_need   need;
    struct pql_query *q = query(TEXT, false, &need);
    struct tsp_select s = question(&need);
    struct pql_fed_partials fed;
    struct tsp_page   page;
    struct kl_cur     c;
    struct kl_span    bytes;
    struct kl_err     err = { 0 };
    void             *answer;
    size_t            size;

    write_many(count);
    w_write(&w, home, T, 1, now - 75000, 5);           /* a late one, and one for a time that has a sample */
    w_write(&w, home, T, 3, now - 70000, 5);
    ck_assert_msg(w_ask(&w, &s, &answer, &size, &err) == KL_OK, "%s", err.text);
    ck_assert_int_eq(tsp_page_open(kl_span(answer, size), &page, &c, &err), KL_OK);
    ck_assert(!page.more && page.applied_seq > 0);
    bytes = kl_span(c.at, kl_cur_left(&c));
    ck_assert_uint_lt(bytes.size, 400);
    ck_assert_msg(pql_feed_partials(q, 0, &bytes, 1, &fed, &err) == KL_OK, "%s", err.text);
    ck_assert_uint_eq(fed.series, count);
    ck_assert_uint_eq(fed.groups, 2);
    while (pql_step(q) != PQL_DONE)
        ;
    ck_assert_uint_eq(pql_result(q)->series_count, 2);
    ck_assert_double_eq(pql_result(q)->series[0].points[0].value + pql_result(q)->series[1].points[0].value,
                        8.0 * count + 1);
    free(answer);
    pql_free(q);
}
END_TEST

static void refused(const struct tsp_select *s, enum kl_code code, const char *words)
{
    struct kl_err err = { 0 };
    void         *answer;
    size_t        size;

    ck_assert_int_eq(w_ask(&w, s, &answer, &size, &err), code);
    ck_assert_msg(strstr(err.text, words) != NULL, "%s", err.text);
}

START_TEST(what_it_cannot_answer_alone_is_refused_with_words)
{
    static const struct kl_hist_span span = { 0, 2 };
    struct pql_need   need;
    struct pql_query *q = query(TEXT, false, &need);
    struct tsp_select s, fit = question(&need);
    double            counts[2] = { 1, 2 };
    struct kl_hist    h = { .schema = 2, .count = 3, .sum = 1, .pos_span_count = 1, .pos_count = 2,
                            .pos_spans = &span, .pos = counts };

    write_many(20);
    s = fit;
    s.push.text = kl_span_str("sum(");
    refused(&s, KL_EINVAL, "an aggregate that is none");
    s.push.text = kl_span_str("requests_total");
    refused(&s, KL_EINVAL, "folded by itself");
    s.push.text = kl_span_str("sum(temperature)");
    refused(&s, KL_EINVAL, "of other series");
    s.push.text = kl_span_str("sum(count_over_time(requests_total[11m]))");
    refused(&s, KL_EINVAL, "of other series");
    s = fit;
    s.push.start_ms = INT64_MAX - 5;
    refused(&s, KL_EINVAL, "out of bounds");
    s = fit;
    s.push.samples_max = 10;
    refused(&s, KL_ELIMIT, "more samples than");
    s = fit;
    s.push.spread = 1;                                 /* half of them should be in the other partition */
    refused(&s, KL_EINVAL, "spread otherwise");
    tsp_record_hist(w.writer, kl_span_str(T), 1, now - 1000, &h);
    w_send_wait(&w, home);
    refused(&fit, KL_EINVAL, "histograms");
    pql_free(q);
}
END_TEST

/* Processes have as many workers as their seed says. */
START_TEST(the_answer_is_the_same_in_every_byte_however_many_workers_make_it)
{
    struct kl_buf answers[5] = { { 0 } };              /* by workers */
    unsigned      unequal = 0, seen = 0;

    teardown();
    for (uint64_t seed = 0; seed < 12 && seen < 4; seed++) {
        struct pql_need   need;
        struct pql_query *q;
        struct tsp_select s;
        struct kl_err     err = { 0 };
        unsigned          workers;
        void             *answer;
        size_t            size;

        begin_world(seed);
        workers = w.env->sched->workers(w.env->sched);
        ck_assert(workers > 0 && workers < 5);
        if (answers[workers].size == 0) {
            q = query("avg by (code) (rate(requests_total[10m]))", false, &need);
            s = question(&need);
            write_many(5000);
            ck_assert_msg(w_ask(&w, &s, &answer, &size, &err) == KL_OK, "%s", err.text);
            kl_buf_add(&answers[workers], (char *)answer + TSP_PAGE_HEAD_SIZE, size - TSP_PAGE_HEAD_SIZE);
            free(answer);
            pql_free(q);
            seen++;
        }
        if (seen < 4)
            teardown();
    }
    ck_assert_uint_eq(seen, 4);
    for (unsigned k = 2; k < 5; k++)
        unequal += !kl_span_eq(kl_buf_span(&answers[k]), kl_buf_span(&answers[1]));
    ck_assert_uint_eq(unequal, 0);
    for (unsigned k = 1; k < 5; k++)
        kl_buf_deinit(&answers[k]);
}
END_TEST

/* ---- stopped ---- */

static void begin(struct w_ask *a, const struct tsp_select *s, struct kl_buf *bytes)
{
    struct kl_err err;

    *a = (struct w_ask){ 0 };
    ck_assert_int_eq(tsp_select_encode(s, bytes, &err), KL_OK);
    a->op = (struct kl_bus_ask){ .question = kl_buf_span(bytes), .timeout_ms = 60000, .loop = w.loop,
                                 .done = w_ask_done };
    tsp_select_subject(a->op.subject, sizeof a->op.subject, s->partition);
    w.bus->ask(w.bus, &a->op);
}

static void stop(uint64_t asker, uint64_t number)
{
    struct tsp_select s = w_all(home, T);
    struct kl_err     err = { 0 };
    void             *answer;
    size_t            size;

    s.what = TSP_SEL_STOP;
    s.push = (struct tsp_push){ .asker = asker, .number = number };
    ck_assert_msg(w_ask(&w, &s, &answer, &size, &err) == KL_OK, "%s", err.text);
    ck_assert_uint_eq(size, 0);
    free(answer);
}

static uint64_t counted(const char *name) { return kl_metrics_add(w.metrics, KL_COUNTER, name, "", "")->bits; }

START_TEST(one_that_is_stopped_ends_wherever_it_is_and_no_other_does)
{
    struct pql_need   need;
    struct pql_query *q = query(TEXT, false, &need);
    struct tsp_select s = question(&need);
    unsigned          made = 0, stopped = 0;

    teardown();                                        /* with other numbers of workers */
    begin_world(7 + (uint64_t)_i);
    write_many(6000);
    for (unsigned steps = 0; steps < 400 && made < 3; steps++) {
        struct kl_buf bytes[2] = { { 0 } };
        struct w_ask  a, other;

        s.push.asker = 5;
        s.push.number = steps;
        begin(&a, &s, &bytes[0]);
        s.push.asker = 6;
        begin(&other, &s, &bytes[1]);
        for (unsigned k = 0; k < steps; k++)
            ck_assert(kl_env_sim_step(w.sim, INT64_MAX));
        stop(5, steps);
        ck_assert(w_until(&w, &a.done) && w_until(&w, &other.done));
        ck_assert_msg(other.op.code == KL_OK, "%s", other.op.err.text);
        ck_assert_msg(a.op.code == KL_OK || strstr(a.op.err.text, "does not want it") != NULL, "%s", a.op.err.text);
        made += a.op.code == KL_OK;
        stopped += a.op.code == KL_ECANCELED;
        free(a.op.answer);
        free(other.op.answer);
        kl_buf_deinit(&bytes[0]);
        kl_buf_deinit(&bytes[1]);
    }
    ck_assert_msg(made > 0 && stopped > 10, "%u, %u", made, stopped);
    ck_assert_uint_eq(counted("koalemos_ingestor_aggregates_stopped_total"), stopped);
    ck_assert_uint_eq(counted("koalemos_ingestor_aggregates_refused_total"), 0);
    pql_free(q);
}
END_TEST

START_TEST(one_that_waits_for_the_log_and_is_stopped_is_answered_at_once)
{
    struct pql_need   need;
    struct pql_query *q = query(TEXT, false, &need);
    struct tsp_select s = question(&need);
    struct kl_buf     bytes = { 0 };
    struct w_ask      a;
    int64_t           begun_ns;

    write_many(20);
    s.consistency = TSP_READ_CAUSAL;
    s.min_seq = 1000000;
    s.timeout_ms = 30000;
    s.push.asker = 5;
    begin(&a, &s, &bytes);
    kl_env_sim_run(w.sim, 100);
    begun_ns = kl_env_mono_ns(w.env);
    stop(5, 1);
    stop(4, 0);
    kl_env_sim_run(w.sim, 100);
    ck_assert(!a.done);
    stop(5, 0);
    ck_assert(w_until(&w, &a.done));
    ck_assert_int_eq(a.op.code, KL_ECANCELED);
    ck_assert_int_lt(kl_env_mono_ns(w.env) - begun_ns, 1000000000);
    stop(5, 0);                                        /* there is none any more */
    kl_buf_deinit(&bytes);
    pql_free(q);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ingestor/partial");
    TCase *t = tcase_create("partial");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, the_aggregate_of_all_series_is_answered_however_many_pages_they_would_be, 0, 2);
    tcase_add_test(t, what_it_cannot_answer_alone_is_refused_with_words);
    tcase_add_test(t, the_answer_is_the_same_in_every_byte_however_many_workers_make_it);
    tcase_add_loop_test(t, one_that_is_stopped_ends_wherever_it_is_and_no_other_does, 0, 4);
    tcase_add_test(t, one_that_waits_for_the_log_and_is_stopped_is_answered_at_once);
    suite_add_tcase(s, t);
    return run_suite(s);
}
