/* The life of a query: needs, budgets, failures, hostile texts, many threads. */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpromql/pql.h"
#include "tests/suite.h"

enum { SERIES = 3000, SAMPLES = 200 };

static struct kl_buf     labels[SERIES];
static int64_t           times[SAMPLES];
static double            values[SERIES][SAMPLES];
static struct pql_series stock[SERIES];

static void setup(void)
{
    static struct kl_labels_builder b;
    struct kl_err                   err;

    for (int i = 0; i < SAMPLES; i++)
        times[i] = (int64_t)i * 15000;
    for (int k = 0; k < SERIES; k++) {
        char n[16], g[16];
        snprintf(n, sizeof n, "%d", k);
        snprintf(g, sizeof g, "%d", k % 7);
        kl_buf_init(&labels[k], 4096);
        kl_labels_start(&b);
        kl_labels_add(&b, kl_span_str("__name__"), kl_span_str("m_total"), &err);
        kl_labels_add(&b, kl_span_str("n"), kl_span_str(n), &err);
        kl_labels_add(&b, kl_span_str("g"), kl_span_str(g), &err);
        ck_assert_int_eq(kl_labels_finish(&b, &labels[k], &err), KL_OK);
        for (int i = 0; i < SAMPLES; i++)
            values[k][i] = (double)(k % 13) * i + 0.1 * k;
        stock[k] = (struct pql_series){ { (const uint8_t *)labels[k].at, labels[k].size }, SAMPLES, times,
                                        values[k], NULL, NULL };
    }
}

static void teardown(void)
{
    for (int k = 0; k < SERIES; k++)
        kl_buf_deinit(&labels[k]);
}

/* Samples that are only there until the worker's next load. */
enum { NONE_LATER, ALL_LATER, ONE_FAILS };
static int           later;
static unsigned      once_seen;
static atomic_size_t loads;

static bool load(void *ctx, const struct pql_series *s, unsigned worker, struct pql_series *loaded)
{
    static int64_t           at[PQL_WORKERS_MAX][SAMPLES];
    static double            is[PQL_WORKERS_MAX][SAMPLES];
    const struct pql_series *from = s->later;

    if (atomic_fetch_add(&loads, 1) == 100 && later == ONE_FAILS) {
        pql_fail(*(struct pql_query **)ctx, PQL_INTERNAL, "a chunk is damaged");
        return false;
    }
    memcpy(at[worker], from->times_ms, sizeof at[worker]);
    memcpy(is[worker], from->values, sizeof is[worker]);
    loaded->count = from == &stock[7] ? 0 : from->count;   /* none of it was in the range */
    loaded->times_ms = at[worker];
    loaded->values = is[worker];
    return true;
}

static void feed(struct pql_query *q)
{
    static struct pql_series found[SERIES];
    const struct pql_need   *needs;
    size_t                   count = pql_needs(q, &needs);

    for (size_t i = 0; i < count; i++) {
        size_t n = 0;
        for (int k = SERIES; k-- > 0;)
            if (kl_matchers_test(needs[i].matchers, needs[i].matcher_count, stock[k].labels)) {
                found[n++] = stock[k];
                if (later != NONE_LATER && k == 7 && !needs[i].once)
                    n--;
                if (later != NONE_LATER && needs[i].once)
                    found[n - 1] = (struct pql_series){ .labels = stock[k].labels,
                                                        .count = SAMPLES, .later = &stock[k] };
            }
        once_seen += needs[i].once;
        pql_feed(q, needs[i].id, found, n);
    }
}

/* Items of one step, taken by threads as they come. */
struct crew { struct pql_query *q; atomic_size_t next; size_t count; };
struct hand { struct crew *crew; unsigned worker; pthread_t thread; };

static void *work(void *arg)
{
    struct hand *h = arg;

    for (size_t i; (i = atomic_fetch_add(&h->crew->next, 1)) < h->crew->count;)
        pql_work(h->crew->q, i, h->worker);
    return NULL;
}

static void run_work(struct pql_query *q, unsigned threads)
{
    struct crew crew = { .q = q, .count = pql_work_count(q) };
    struct hand hands[8];

    for (unsigned i = 0; i < threads; i++) {
        hands[i] = (struct hand){ .crew = &crew, .worker = i };
        ck_assert_int_eq(pthread_create(&hands[i].thread, NULL, work, &hands[i]), 0);
    }
    for (unsigned i = 0; i < threads; i++)
        pthread_join(hands[i].thread, NULL);
}

static struct pql_params params(const char *text, bool instant)
{
    return (struct pql_params){ .text = kl_span_str(text), .instant = instant,
                                .start_ms = instant ? 2000000 : 600000, .end_ms = 2400000,
                                .step_ms = 15000 };
}

static struct pql_query *ask(struct pql_params p, unsigned threads)
{
    struct pql_failure failure = { .text = "" };
    struct pql_query  *q;

    p.load = load;
    p.load_ctx = &q;
    q = pql_new(&p, &failure);

    ck_assert_msg(q != NULL, "%s", failure.text);
    for (enum pql_state st; (st = pql_step(q)) != PQL_DONE;) {
        if (st == PQL_NEED)
            feed(q);
        else
            run_work(q, threads);
    }
    return q;
}

static void json(struct pql_query *q, struct kl_buf *out)
{
    const struct pql_result *r = pql_result(q);

    kl_buf_init(out, 64 << 20);
    pql_result_json(r, 0, r->series_count / 2, out);
    if (r->series_count / 2 < r->series_count)
        pql_result_json(r, r->series_count / 2, r->series_count, out);
}

static const char *const answers[] = {
    "rate(m_total[5m])", "sum by (g) (rate(m_total[5m]))", "topk(5, m_total)", "m_total / on (n) m_total",
    "max_over_time(m_total[1m]) > 100 or m_total", "m_total * on (g) group_left sum by (g) (m_total)",
    "avg(m_total)", "quantile(0.3, m_total)", "sum_over_time(rate(m_total[1m])[5m:30s])",
    "count_values(\"v\", floor(m_total / 1000))", "stddev by (g) (m_total)", "limit_ratio(0.5, m_total)",
};

START_TEST(an_answer_does_not_depend_on_threads)
{
    struct kl_buf     one, four;
    struct pql_query *a = ask(params(answers[_i], false), 1), *b = ask(params(answers[_i], false), 4);

    ck_assert_msg(pql_result(a)->failure.kind == PQL_OK, "%s", pql_result(a)->failure.text);
    json(a, &one);
    json(b, &four);
    ck_assert(kl_buf_ok(&one));
    ck_assert_uint_eq(one.size, four.size);
    ck_assert(memcmp(one.at, four.at, one.size) == 0);
    kl_buf_deinit(&one);
    kl_buf_deinit(&four);
    pql_free(a);
    pql_free(b);
}
END_TEST

START_TEST(samples_that_come_later_give_the_same_answer)
{
    struct kl_buf     fed, loaded;
    struct pql_query *a, *b;
    uint32_t          kept = stock[7].count;

    stock[7].count = 0;
    later = NONE_LATER;
    a = ask(params(answers[_i], _i % 2), 3);
    stock[7].count = kept;
    later = ALL_LATER;
    once_seen = 0;
    b = ask(params(answers[_i], _i % 2), 3);
    ck_assert_msg(pql_result(b)->failure.kind == PQL_OK, "%s", pql_result(b)->failure.text);
    if (_i == 0 || _i == 1 || _i == 2 || _i == 6)      /* one reader: the sum of a rate, an average */
        ck_assert_uint_eq(once_seen, 1);
    json(a, &fed);
    json(b, &loaded);
    ck_assert_uint_eq(fed.size, loaded.size);
    ck_assert(memcmp(fed.at, loaded.at, fed.size) == 0);
    kl_buf_deinit(&fed);
    kl_buf_deinit(&loaded);
    pql_free(a);
    pql_free(b);
    later = NONE_LATER;
}
END_TEST

START_TEST(samples_that_cannot_be_loaded_end_the_query_with_words)
{
    struct pql_query *q;

    later = ONE_FAILS;
    atomic_store(&loads, 0);
    q = ask(params("sum(rate(m_total[5m]))", false), 3);
    ck_assert_int_eq(pql_result(q)->failure.kind, PQL_INTERNAL);
    ck_assert_str_eq(pql_result(q)->failure.text, "a chunk is damaged");
    pql_free(q);
    later = NONE_LATER;
}
END_TEST

/* What a part's own sum is, as Prometheus compensates it. */
static void add(double v, double *sum, double *c)
{
    double t = *sum + v;

    *c += fabs(*sum) >= fabs(v) ? (*sum - t) + v : (v - t) + *sum;
    *sum = t;
}

START_TEST(each_part_is_summed_by_itself_and_then_they_are_in_the_order_of_their_numbers)
{
    static const char *const texts[] = { "sum(m_total)", "sum(last_over_time(m_total[1m]))",
                                         "avg(m_total)", "sum(m_total + 0)" };
    double            sum = 0, c = 0, got;
    struct pql_query *q;

    for (int k = 0; k < SERIES; k++)                   /* by their labels they are in another order */
        stock[k].part = (uint32_t)(k % 5 == 0 ? 9 : k % 3);
    q = ask(params(texts[_i], true), 2);
    ck_assert(pql_result(q)->series_count == 1);
    got = pql_result(q)->series[0].points[0].value;
    for (uint32_t part = 0; part < (_i == 3 ? 1 : 10); part++) {
        struct kl_labels at[SERIES];
        double           v[SERIES], own = 0, own_c = 0;
        uint32_t         n = 0;

        for (int k = 0; k < SERIES; k++)
            if (_i == 3 || stock[k].part == part) {    /* not right over the selector: all as one */
                uint32_t i = n++;

                for (; i > 0 && kl_labels_cmp(at[i - 1], stock[k].labels) > 0; i--) {
                    at[i] = at[i - 1];
                    v[i] = v[i - 1];
                }
                at[i] = stock[k].labels;
                v[i] = values[k][133];
            }
        for (uint32_t i = 0; i < n; i++)
            add(v[i], &own, &own_c);
        if (n == 0)
            continue;
        if (part == 0) {
            sum = own;
            c = own_c;
        } else {
            add(own, &sum, &c);
            c += own_c;
        }
    }
    ck_assert_msg(got == (_i == 2 ? sum / SERIES + c / SERIES : sum + c), "%.17g, not %.17g", got, sum + c);
    pql_free(q);
    for (int k = 0; k < SERIES; k++)
        stock[k].part = 0;
}
END_TEST

static void needs_of(const char *text, bool instant, struct pql_need *out, size_t *count)
{
    struct pql_params  p = params(text, instant);
    struct pql_failure failure;
    struct pql_query  *q = pql_new(&p, &failure);
    const struct pql_need *needs;

    ck_assert(q != NULL);
    ck_assert_int_eq(pql_step(q), PQL_NEED);
    *count = pql_needs(q, &needs);
    memcpy(out, needs, (*count < 4 ? *count : 4) * sizeof *out);
    pql_free(q);
}

START_TEST(a_need_spans_exactly_the_times_its_operators_can_see)
{
    struct pql_need n[4];
    size_t          count;

    needs_of("m_total", true, n, &count);
    ck_assert_uint_eq(count, 1);
    ck_assert_int_eq(n[0].from_ms, 2000000 - 300000 + 1);
    ck_assert_int_eq(n[0].to_ms, 2000000);
    needs_of("rate(m_total[1m] offset 2m)", false, n, &count);
    ck_assert_int_eq(n[0].from_ms, 600000 - 120000 - 60000 + 1);
    ck_assert_int_eq(n[0].to_ms, 2400000 - 120000);
    ck_assert_str_eq(n[0].func, "rate");
    ck_assert_int_eq(n[0].range_ms, 60000);
    ck_assert(n[0].once);
    needs_of("rate(m_total[1m]) + m_total", false, n, &count);
    ck_assert(count == 1 && !n[0].once);               /* two readers */
    needs_of("absent_over_time(m_total[1m])", false, n, &count);
    ck_assert(!n[0].once);
    needs_of("sum_over_time(m_total[10m:1m] @ 1000)", false, n, &count);
    ck_assert_int_eq(n[0].from_ms, 420000 - 300000 + 1);
    ck_assert_int_eq(n[0].to_ms, 960000);
    needs_of("increase(m_total[1m] smoothed)", true, n, &count);
    ck_assert_int_eq(n[0].from_ms, 2000000 - 60000 - 300000 + 1);
    ck_assert_int_eq(n[0].to_ms, 2000000 + 300000);
}
END_TEST

START_TEST(only_a_query_with_a_subquery_nests)
{
    static const struct { const char *text; bool nests; } of[] = {
        { "m{instance=\"host:9100\"}", false }, { "job:m:rate5m", false }, { "rate(m[5m])", false },
        { "max_over_time(rate(m[5m])[10m:1m])", true }, { "1 + sum(max_over_time(m[1h:]))", true },
        { "m[10m:1m]", true },
    };
    struct pql_failure failure;

    for (size_t i = 0; i < sizeof of / sizeof of[0]; i++) {
        struct pql_params p = { .text = kl_span_str(of[i].text), .instant = true, .start_ms = 1000000 };
        struct pql_query *q = pql_new(&p, &failure);

        ck_assert_msg(q != NULL, "%s: %s", of[i].text, failure.text);
        ck_assert_msg(pql_nests(q) == of[i].nests, "%s", of[i].text);
        pql_free(q);
    }
}
END_TEST

START_TEST(a_need_says_which_fold_of_buckets_would_do)
{
    struct pql_need n[4];
    size_t          count;

    needs_of("max_over_time(m_total[5m])", true, n, &count);
    ck_assert(n[0].fold == PQL_FOLD_MAX && n[0].fold_ms == 100000);        /* of 2,000,000 and 300,000 */
    needs_of("count_over_time(m_total[10m] offset 5m)", false, n, &count);
    ck_assert(n[0].fold == PQL_FOLD_COUNT && n[0].fold_ms > 0 && 300000 % n[0].fold_ms == 0);
    needs_of("sum(min_over_time(m_total[10m] @ 1200))", false, n, &count);
    ck_assert(n[0].fold == PQL_FOLD_MIN && n[0].fold_ms == 600000);        /* the steps do not matter */
    needs_of("last_over_time(m_total[5m]) + present_over_time(m_total[10m])", true, n, &count);
    ck_assert(count == 1 && n[0].fold == PQL_FOLD_LAST && n[0].fold_ms == 100000);
    needs_of("rate(m_total[10m]) + increase(m_total[5m])", true, n, &count);
    ck_assert(count == 1 && n[0].fold == PQL_FOLD_RATE && n[0].range_ms == 600000 && n[0].fold_range_ms == 300000);
    needs_of("rate(m_total[10m] anchored)", true, n, &count);
    ck_assert_int_eq(n[0].fold, PQL_FOLD_NONE);
    needs_of("max_over_time(m_total[5m]) - min_over_time(m_total[5m])", true, n, &count);
    ck_assert(count == 1 && n[0].fold == PQL_FOLD_NONE);                   /* no one fold does */
    needs_of("max_over_time(m_total[5m]) - m_total", true, n, &count);
    ck_assert(n[0].fold == PQL_FOLD_NONE);
    needs_of("m_total - max_over_time(m_total[5m])", true, n, &count);
    ck_assert(n[0].fold == PQL_FOLD_NONE);
    for (int i = 0; i < 6; i++) {
        static const char *const others[] = { "irate(m_total[5m])", "m_total", "absent_over_time(m_total[5m])",
                                              "stddev_over_time(m_total[5m])", "m_total[5m]",
                                              "max_over_time(delta(m_total[5m])[10m:5m])" };

        needs_of(others[i], true, n, &count);
        ck_assert_int_eq(n[0].fold, PQL_FOLD_NONE);
    }
}
END_TEST

START_TEST(equal_selectors_of_overlapping_times_are_fetched_once)
{
    struct pql_need n[4];
    size_t          count;

    needs_of("m_total / (m_total offset 1m) + rate(m_total[5m])", false, n, &count);
    ck_assert_uint_eq(count, 1);
    ck_assert_int_eq(n[0].from_ms, 600000 - 60000 - 300000 + 1);
    needs_of("m_total / (m_total offset 1w)", false, n, &count);
    ck_assert_uint_eq(count, 2);
}
END_TEST

static void fails_with(struct pql_params p, enum pql_error kind, const char *words)
{
    struct pql_failure failure = { .kind = PQL_OK, .text = "" };
    struct pql_query  *q = pql_new(&p, &failure);

    if (q != NULL) {
        for (enum pql_state st; (st = pql_step(q)) != PQL_DONE;) {
            if (st == PQL_NEED)
                feed(q);
            else
                run_work(q, 2);
        }
        failure = pql_result(q)->failure;
        ck_assert_uint_eq(pql_result(q)->series_count, 0);
    }
    pql_free(q);
    ck_assert_msg(failure.kind == kind && strstr(failure.text, words) != NULL, "%d %s", failure.kind,
                  failure.text);
}

START_TEST(past_its_budget_a_query_ends_with_words)
{
    struct pql_params p = params("rate(m_total[5m])", false);

    p.samples_max = 1000;
    fails_with(p, PQL_EXECUTION, "too many samples into memory");
    p.samples_max = 0;
    p.memory_max_bytes = 300000;
    fails_with(p, PQL_EXECUTION, "needs more memory than its budget of 300000 bytes");
    p = params("m_total * on (g) group_left m_total", false);
    fails_with(p, PQL_EXECUTION, "found duplicate series");
    p = params("count_over_time(vector(1)[100y:1ms])", true);
    fails_with(p, PQL_EXECUTION, "too many samples");
    p = params("m_total + ignoring (n) group_right m_total", false);
    p.series_max = 100;
    fails_with(p, PQL_EXECUTION, "more than 100 series");
}
END_TEST

START_TEST(what_a_subquery_needs_to_be_read_is_within_the_budget)
{
    struct pql_params p = params("count_over_time(m_total{n=\"1\"}[1000000s:1s])", true);
    struct pql_query *q;

    p.memory_max_bytes = 48 << 20;                     /* a row takes 9 MB, and 16 MB as arrays */
    p.tally = true;
    q = ask(p, 1);
    ck_assert_int_eq(pql_result(q)->failure.kind, PQL_OK);
    ck_assert_double_gt(pql_result(q)->series[0].points[0].value, 1000);
    pql_free(q);
    p.memory_max_bytes = 20 << 20;
    q = ask(p, 1);
    ck_assert_int_eq(pql_result(q)->failure.kind, PQL_EXECUTION);
    ck_assert_str_eq(pql_result(q)->failure.text, "query needs more memory than its budget of 20971520 bytes");
    pql_free(q);
}
END_TEST

START_TEST(times_out_of_bounds_are_refused)
{
    struct pql_params p = params("m_total", false);

    p.end_ms = p.start_ms - 1;
    fails_with(p, PQL_BAD_DATA, "end timestamp must not be before start time");
    p.end_ms = p.start_ms + 11001 * p.step_ms;
    fails_with(p, PQL_BAD_DATA, "exceeded maximum resolution of 11,000 points per timeseries");
    p.step_ms = 0;
    fails_with(p, PQL_BAD_DATA, "zero or negative query resolution step widths are not accepted");
    p = params("m_total", false);
    p.start_ms = INT64_MIN;
    p.end_ms = INT64_MAX;
    fails_with(p, PQL_BAD_DATA, "time is out of bounds");
}
END_TEST

START_TEST(a_failure_from_outside_ends_the_query)
{
    struct pql_params  p = params("sum(m_total)", false);
    struct pql_failure failure;
    struct pql_query  *q = pql_new(&p, &failure);

    ck_assert_int_eq(pql_step(q), PQL_NEED);
    pql_fail(q, PQL_CANCELED, "the client left after %d ms", 5);
    pql_fail(q, PQL_TIMEOUT, "second");
    ck_assert_int_eq(pql_step(q), PQL_DONE);
    ck_assert_int_eq(pql_result(q)->failure.kind, PQL_CANCELED);
    ck_assert_str_eq(pql_result(q)->failure.text, "the client left after 5 ms");
    pql_free(q);
}
END_TEST

START_TEST(warnings_of_the_caller_reach_the_answer)
{
    struct pql_params  p = params("1", true);
    struct pql_failure failure;
    struct pql_query  *q = pql_new(&p, &failure);

    pql_warn(q, "partition %d did not answer", 3);
    ck_assert_int_eq(pql_step(q), PQL_DONE);
    ck_assert_uint_eq(pql_result(q)->warning_count, 1);
    ck_assert_str_eq(pql_result(q)->warnings[0], "partition 3 did not answer");
    pql_free(q);
}
END_TEST

static char *repeated(const char *before, const char *unit, size_t times_, const char *after)
{
    size_t n = strlen(unit), from = strlen(before);
    char  *text = malloc(from + n * times_ + strlen(after) + 1);

    memcpy(text, before, from);
    for (size_t i = 0; i < times_; i++)
        memcpy(text + from + i * n, unit, n);
    strcpy(text + from + n * times_, after);
    return text;
}

START_TEST(hostile_texts_are_refused_quickly)
{
    static const struct { const char *before, *unit; size_t times; const char *after; } texts[] = {
        { "", "(", 100000, "" }, { "", "(", 100000, "1" }, { "", "-", 100000, "1" },
        { "1", "+1", 100000, "" }, { "", "sum(", 100000, "a" }, { "a offset ", "-", 100000, "1m" },
        { "a[", "(", 100000, "1m" }, { "a", "[1m:1m]", 100000, "" }, { "1", "^1", 100000, "" },
        { "", "a or ", 200000, "a" }, { "a[1m", "^2", 100000, "]" }, { "a{", "a=\"b\",", 100000, "" },
        { "", "x", 2000000, "" }, { "\"", "\\x41", 200000, "" }, { "sum by (", "a,", 100000, "b" },
        { "", "a{b=~\"[^x]{1000}\"} or ", 100, "a" },
    };
    struct pql_params  p = params("", true);
    struct pql_failure failure = { .text = "" };
    char              *text = repeated(texts[_i].before, texts[_i].unit, texts[_i].times, texts[_i].after);

    p.text = kl_span_str(text);
    ck_assert_ptr_null(pql_new(&p, &failure));
    ck_assert_int_eq(failure.kind, PQL_BAD_DATA);
    ck_assert(strstr(failure.text, "parse error") != NULL);
    free(text);
}
END_TEST

/* (a0 + (a1 + a1)) + ...: as flat as can be, and what is written twice is written far apart. */
static void put_sum(struct kl_buf *text, unsigned from, unsigned to)
{
    if (to - from == 1) {
        kl_buf_addf(text, "(a + a%u)", from);
        return;
    }
    kl_buf_add8(text, '(');
    put_sum(text, from, from + (to - from) / 2);
    kl_buf_add8(text, '+');
    put_sum(text, from + (to - from) / 2, to);
    kl_buf_add8(text, ')');
}

START_TEST(many_operators_are_planned_and_fed_and_too_many_are_refused)
{
    for (unsigned count = 1000; count <= 20000; count *= 20) {
        struct kl_buf          text = { 0 };
        struct pql_params      p = params("", true);
        struct pql_failure     failure = { .text = "" };
        struct pql_query      *q;
        const struct pql_need *needs;
        size_t                 n;

        put_sum(&text, 0, count);
        p.text = kl_buf_span(&text);
        q = pql_new(&p, &failure);
        if (count > PQL_OPERATORS_MAX) {
            ck_assert_ptr_null(q);
            ck_assert_int_eq(failure.kind, PQL_BAD_DATA);
            ck_assert_str_eq(failure.text, "query has more than 10000 operators");
        } else {
            ck_assert_msg(q != NULL, "%s", failure.text);
            ck_assert_int_eq(pql_step(q), PQL_NEED);
            n = pql_needs(q, &needs);
            ck_assert_uint_eq(n, count + 1);           /* `a` is wanted once */
            for (size_t i = 0; i < n; i++)
                pql_feed(q, needs[i].id, NULL, 0);
            ck_assert_int_eq(pql_step(q), PQL_DONE);
            ck_assert_int_eq(pql_result(q)->failure.kind, PQL_OK);
        }
        pql_free(q);
        kl_buf_deinit(&text);
    }
}
END_TEST

START_TEST(a_query_as_deep_as_allowed_is_answered)
{
    char             *text = repeated("", "(1+", 400, "1");
    char             *closed = repeated(text, ")", 400, "");
    struct pql_query *q = ask(params(closed, true), 1);

    ck_assert_double_eq(pql_result(q)->series[0].points[0].value, 401);
    pql_free(q);
    free(text);
    free(closed);
}
END_TEST

START_TEST(a_label_that_would_grow_too_large_ends_the_query_instead_of_being_cut)
{
    static const struct { const char *before, *after, *error; } texts[] = {
        { "label_join(label_replace(vector(1), \"a\", \"", "\", \"\", \"\"), \"b\", \"-\", \"a\", \"a\", \"c\")",
          "label value of more than 65536 bytes in label_join()" },
        { "label_replace(label_replace(vector(1), \"a\", \"", "\", \"\", \"\"), \"b\", \"$1$1\", \"a\", \"(.*)\")",
          "label value of more than 65536 bytes in label_replace()" },
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (size_t size = 30000; size <= 40000; size += 10000) {
            char             *text = repeated(texts[i].before, "x", size, texts[i].after);
            struct pql_query *q = ask(params(text, true), 1);

            if (size == 30000) {
                ck_assert_int_eq(pql_result(q)->failure.kind, PQL_OK);
                ck_assert_uint_gt(pql_result(q)->series[0].labels.size, 3 * size);
            } else {
                ck_assert_int_eq(pql_result(q)->failure.kind, PQL_EXECUTION);
                ck_assert_str_eq(pql_result(q)->failure.text, texts[i].error);
            }
            pql_free(q);
            free(text);
        }
}
END_TEST

static void json_is(const char *text, const char *want)
{
    struct pql_params p = { .text = kl_span_str(text), .instant = true, .start_ms = 1500 };
    struct pql_query *q = ask(p, 1);
    struct kl_buf     out;

    kl_buf_init(&out, 65536);
    pql_result_json(pql_result(q), 0, pql_result(q)->series_count, &out);
    ck_assert_msg(out.size == strlen(want) && memcmp(out.at, want, out.size) == 0, "%.*s", (int)out.size,
                  out.at);
    kl_buf_deinit(&out);
    pql_free(q);
}

START_TEST(answers_look_as_prometheus_writes_them)
{
    json_is("1e22 + 0.5", "\"resultType\":\"scalar\",\"result\":[1.5,\"1e+22\"]");
    json_is("-1 / 0", "\"resultType\":\"scalar\",\"result\":[1.5,\"-Inf\"]");
    json_is("\"a\\\"b\"", "\"resultType\":\"string\",\"result\":[1.5,\"a\\\"b\"]");
    json_is("vector(1e-7)", "\"resultType\":\"vector\",\"result\":[{\"metric\":{},\"value\":[1.5,\"1e-07\"]}]");
    json_is("nothing", "\"resultType\":\"vector\",\"result\":[]");
    json_is("vector(1)[2s:1s]",
            "\"resultType\":\"matrix\",\"result\":[{\"metric\":{},\"values\":[[0,\"1\"],[1,\"1\"]]}]");
}
END_TEST

START_TEST(the_answer_stops_at_the_limit_and_says_so)
{
    struct pql_params p = params("m_total", true);
    struct pql_query *q;

    p.result_limit = 10;
    q = ask(p, 1);
    ck_assert_uint_eq(pql_result(q)->series_count, 10);
    ck_assert(pql_result(q)->limited);
    pql_free(q);
}
END_TEST

START_TEST(samples_are_counted_for_each_step)
{
    struct pql_params p = params("sum(rate(m_total[1m])) + sum(m_total) + sum(m_total @ 60)", false);
    struct pql_query *q;
    uint64_t          sum = 0;

    p.samples_per_step = true;
    q = ask(p, 2);
    ck_assert_uint_eq(pql_result(q)->step_count, 121);
    for (uint32_t i = 0; i < 121; i++) {
        /* Four in the minute, one now, and one at 60 s, of each series. */
        ck_assert_uint_eq(pql_result(q)->samples_per_step[i], 6 * SERIES);
        sum += pql_result(q)->samples_per_step[i];
    }
    ck_assert_uint_eq(sum, pql_result(q)->samples_total);
    /* What the step before has read is not read again, and what is pinned only once. */
    sum = 0;
    for (uint32_t i = 0; i < 121; i++) {
        ck_assert_uint_eq(pql_result(q)->reads_per_step[i], (i == 0 ? 6 : 2) * SERIES);
        sum += pql_result(q)->reads_per_step[i];
    }
    ck_assert_uint_eq(sum, pql_result(q)->samples_read);
    pql_free(q);
}
END_TEST

START_TEST(a_plan_is_told_as_json_and_as_text)
{
    struct pql_query *q = ask(params("sum by (g) (rate(m_total[1m]))", false), 2);
    struct kl_buf     b;
    int64_t           ns[3] = { 5, 7, 9 };

    ck_assert_uint_eq(pql_operator_count(q), 3);
    ck_assert_uint_eq(pql_operator(q), 3);
    kl_buf_init(&b, 65536);
    pql_explain_json(q, ns, &b);
    kl_buf_add8(&b, 0);
    ck_assert_msg(strstr(b.at, "{\"id\":1,\"operator\":\"aggregation\",\"expression\":\"sum by (g) "
                         "(rate(m_total[1m]))\",\"inputs\":[0],\"steps\":121,\"series\":7,"
                         "\"points\":847,") != NULL, "%s", b.at);
    ck_assert(strstr(b.at, "\"nanoseconds\":9}]") != NULL);
    kl_buf_reset(&b);
    pql_explain_text(q, NULL, &b);
    kl_buf_add8(&b, 0);
    ck_assert(strstr(b.at, "range function") != NULL && strstr(b.at, "3000 series") != NULL);
    kl_buf_deinit(&b);
    pql_free(q);
}
END_TEST

START_TEST(durations_are_read_as_the_api_takes_them)
{
    static const struct { const char *text; int64_t ms; } good[] = {
        { "5m", 300000 }, { "1h30m", 5400000 }, { "300", 300000 }, { "1.5", 1500 }, { "0", 0 }, { "20ms", 20 },
    };
    static const char *const bad[] = { "", "x", "5", "1m1h", "-5m", "1e400", "5 m", "NaN" };
    struct kl_err err;
    int64_t       ms;

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_assert_int_eq(pql_duration(good[i].text, &ms, &err), KL_OK);
        ck_assert_int_eq(ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (strcmp(bad[i], "5") != 0)
            ck_assert_msg(pql_duration(bad[i], &ms, &err) == KL_EINVAL, "%s", bad[i]);
}
END_TEST

START_TEST(a_selector_is_read_as_matchers_of_ones_own)
{
    struct kl_arena          arena;
    const struct kl_matcher *m;
    size_t                   count;
    struct kl_err            err;
    char                     text[] = "up{job=~\"a|b\", \"x y\"!=\"\\u00e9\"}";

    kl_arena_init(&arena, 65536);
    ck_assert_int_eq(pql_selector(kl_span_str(text), &arena, &m, &count, &err), KL_OK);
    memset(text, '#', sizeof text - 1);
    ck_assert_uint_eq(count, 3);
    ck_assert(kl_matcher_test(&m[0], kl_span_str("b")) && !kl_matcher_test(&m[0], kl_span_str("ab")));
    ck_assert(kl_span_eq(m[1].name, kl_span_str("x y")) && kl_span_eq(m[1].value, kl_span_str("é")));
    ck_assert(kl_span_eq(m[2].value, kl_span_str("up")));
    pql_selector_free(m, count);
    ck_assert_int_eq(pql_selector(kl_span_str("up + 1"), &arena, &m, &count, &err), KL_EINVAL);
    kl_arena_deinit(&arena);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("promql query");
    TCase *t = tcase_create("query");

    tcase_set_timeout(t, 120);
    tcase_add_unchecked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, an_answer_does_not_depend_on_threads, 0, sizeof answers / sizeof *answers);
    tcase_add_loop_test(t, samples_that_come_later_give_the_same_answer, 0, sizeof answers / sizeof *answers);
    tcase_add_test(t, samples_that_cannot_be_loaded_end_the_query_with_words);
    tcase_add_loop_test(t, each_part_is_summed_by_itself_and_then_they_are_in_the_order_of_their_numbers, 0, 4);
    tcase_add_test(t, a_need_spans_exactly_the_times_its_operators_can_see);
    tcase_add_test(t, only_a_query_with_a_subquery_nests);
    tcase_add_test(t, a_need_says_which_fold_of_buckets_would_do);
    tcase_add_test(t, equal_selectors_of_overlapping_times_are_fetched_once);
    tcase_add_test(t, past_its_budget_a_query_ends_with_words);
    tcase_add_test(t, what_a_subquery_needs_to_be_read_is_within_the_budget);
    tcase_add_test(t, times_out_of_bounds_are_refused);
    tcase_add_test(t, a_failure_from_outside_ends_the_query);
    tcase_add_test(t, warnings_of_the_caller_reach_the_answer);
    tcase_add_loop_test(t, hostile_texts_are_refused_quickly, 0, 16);
    tcase_add_test(t, many_operators_are_planned_and_fed_and_too_many_are_refused);
    tcase_add_test(t, a_query_as_deep_as_allowed_is_answered);
    tcase_add_test(t, a_label_that_would_grow_too_large_ends_the_query_instead_of_being_cut);
    tcase_add_test(t, answers_look_as_prometheus_writes_them);
    tcase_add_test(t, the_answer_stops_at_the_limit_and_says_so);
    tcase_add_test(t, samples_are_counted_for_each_step);
    tcase_add_test(t, a_plan_is_told_as_json_and_as_text);
    tcase_add_test(t, durations_are_read_as_the_api_takes_them);
    tcase_add_test(t, a_selector_is_read_as_matchers_of_ones_own);
    suite_add_tcase(s, t);
    return run_suite(s);
}
