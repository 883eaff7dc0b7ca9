/* Aggregates folded part by part, elsewhere: equal in every bit to those of all series together. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libkoal/base/hash.h"
#include "libpromql/pql.h"
#include "tests/suite.h"

enum { SERIES = 240, SAMPLES = 200, PARTS = 5, STEP_MS = 15000 };

static struct kl_buf     labels[SERIES];
static int64_t           times[SERIES][SAMPLES];
static double            values[SERIES][SAMPLES];
static struct pql_series stock[SERIES];
static struct kl_hist    hist = { .schema = 0, .count = 3, .sum = 5 };
static const struct kl_hist *hists[SAMPLES];
static uint64_t          seed = 1;

static uint64_t draw(uint64_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 33) % below;
}

static double odd(int k, int i)
{
    static const double strange[] = { -0.0, 0.0, INFINITY, -INFINITY, 1e308, -1e308, 1e-300, 3.5 };

    if (k % 4 == 2 && draw(20) == 0)
        return draw(3) == 0 ? NAN : strange[draw(8)];
    return k % 4 == 3 ? (double)draw(7) - 3 : (double)(k % 13) * i + 0.1 * k;
}

/* Of metrics a_total (counters), b (gauges), c (with all that is odd), d (small whole numbers): with gaps,
 * resets and stale markers, and some that begin late. */
static void setup(void)
{
    static const char *const names[] = { "a_total", "b", "c", "d" };
    static struct kl_labels_builder b;
    struct kl_err                   err;

    for (int k = 0; k < SERIES; k++) {
        char n[16], g[16];
        int  count = 0, begin = k % 11 == 0 ? 120 : 0;

        snprintf(n, sizeof n, "%d", (k * 7919) % 1000);
        snprintf(g, sizeof g, "%d", k / 4 % 7);
        kl_buf_init(&labels[k], 4096);
        kl_labels_start(&b);
        kl_labels_add(&b, kl_span_str("__name__"), kl_span_str(names[k % 4]), &err);
        kl_labels_add(&b, kl_span_str("n"), kl_span_str(n), &err);
        kl_labels_add(&b, kl_span_str("g"), kl_span_str(g), &err);
        ck_assert_int_eq(kl_labels_finish(&b, &labels[k], &err), KL_OK);
        for (int i = begin; i < SAMPLES; i++) {
            if (draw(25) == 0)
                continue;
            times[k][count] = (int64_t)i * STEP_MS + k % 3 * 1000;
            values[k][count] = odd(k, k % 5 == 0 ? i % 50 : i);
            if (draw(60) == 0)
                values[k][count] = kl_bits_f64(KL_STALE_BITS);
            count++;
        }
        stock[k] = (struct pql_series){ .labels = { (const uint8_t *)labels[k].at, labels[k].size },
                                        .count = (uint32_t)count, .times_ms = times[k], .values = values[k],
                                        .part = (uint32_t)draw(PARTS) * 3 };
    }
    for (int i = 0; i < SAMPLES; i++)
        hists[i] = &hist;
}

static void teardown(void)
{
    for (int k = 0; k < SERIES; k++)
        kl_buf_deinit(&labels[k]);
}

/* All series that match, or those of one part; what is fed is what the need's times have. */
static void feed(struct pql_query *q, const struct pql_need *need, int part)
{
    static struct pql_series found[SERIES];
    size_t                   n = 0;

    for (int k = 0; k < SERIES; k++) {
        struct pql_series s = stock[k];

        if ((part >= 0 && s.part != (uint32_t)part) ||
            !kl_matchers_test(need->matchers, need->matcher_count, s.labels))
            continue;
        while (s.count > 0 && s.times_ms[0] < need->from_ms) {
            s.times_ms++;
            s.values++;
            s.hists = s.hists != NULL ? s.hists + 1 : NULL;
            s.count--;
        }
        while (s.count > 0 && s.times_ms[s.count - 1] > need->to_ms)
            s.count--;
        if (s.count > 0 && pql_charge(q, s.count, 1))
            found[n++] = s;
    }
    pql_feed(q, need->id, found, n);
}

static void work(struct pql_query *q)
{
    for (size_t i = 0; i < pql_work_count(q); i++)
        pql_work(q, i, (unsigned)i % 3);
}

/* What one part answers; NULL where it refuses. */
static bool part_of(const struct pql_params *p, const struct pql_push *push, int part, struct kl_buf *out,
                    struct kl_err *err)
{
    struct pql_params  own = { .text = push->text, .instant = push->steps == 1, .start_ms = push->start_ms,
                               .step_ms = push->steps == 1 ? 0 : push->step_ms, .partial = true,
                               .end_ms = push->start_ms + (int64_t)(push->steps - 1) * push->step_ms,
                               .lookback_ms = p->lookback_ms, .notes_by_steps = true, .tally = p->tally || p->samples_per_step,
                               .samples_per_step = p->tally || p->samples_per_step };
    struct pql_failure failure;
    struct pql_query  *q = pql_new(&own, &failure);
    const struct pql_need *needs;
    bool               fine;

    ck_assert_msg(q != NULL, "%s: %s", (const char *)push->text.at, failure.text);
    kl_buf_init(out, 1 << 20);
    for (enum pql_state st; (st = pql_step(q)) != PQL_DONE;) {
        if (st == PQL_WORK) {
            work(q);
            continue;
        }
        ck_assert_uint_eq(pql_needs(q, &needs), 1);
        feed(q, &needs[0], part);
    }
    fine = pql_partial(q, out, err) == KL_OK;
    pql_free(q);
    return fine;
}

static unsigned pushed, refused;

/* Where it can be: part by part. */
static void feed_parts(struct pql_query *q, const struct pql_params *p, const struct pql_need *need)
{
    struct pql_need         keep = *need;
    struct pql_push         push;
    struct kl_buf           bufs[PARTS];
    struct kl_span          parts[PARTS];
    struct pql_fed_partials fed;
    struct kl_err           err = { 0 };
    size_t                  n = 0;
    bool                    fine = keep.push != NULL;

    if (keep.push != NULL)
        push = *keep.push;
    while (fine && n < PARTS) {
        fine = part_of(p, &push, (int)n * 3, &bufs[n], &err);
        parts[n] = kl_buf_span(&bufs[n]);
        n++;
    }
    fine = fine && pql_feed_partials(q, keep.id, parts, n, &fed, &err) == KL_OK;
    pushed += fine;
    refused += !fine && keep.push != NULL;
    while (n > 0)
        kl_buf_deinit(&bufs[--n]);
    if (!fine)
        feed(q, &keep, -1);
}

static struct pql_query *ask(struct pql_params p, bool push)
{
    struct pql_failure failure = { .text = "" };
    struct pql_query  *q = pql_new(&p, &failure);

    ck_assert_msg(q != NULL, "%s", failure.text);
    for (enum pql_state st; (st = pql_step(q)) != PQL_DONE;) {
        const struct pql_need *needs;
        struct pql_need        list[8];
        size_t                 count;

        if (st == PQL_WORK) {
            work(q);
            continue;
        }
        count = pql_needs(q, &needs);
        ck_assert_uint_le(count, 8);
        memcpy(list, needs, count * sizeof *list);
        for (size_t i = 0; i < count; i++)
            if (push)
                feed_parts(q, &p, &list[i]);
            else
                feed(q, &list[i], -1);
    }
    return q;
}

/* At which steps what was said. */
static void tell_steps(struct pql_query *q, struct kl_buf *out)
{
    const struct pql_said *said;
    struct kl_arena        arena;
    uint32_t               count = 0;

    kl_arena_init(&arena, 1 << 20);
    kl_buf_adds(out, pql_said_by_steps(q) ? "\nof all it is known when" : "\nnot of all it is known when");
    if (pql_said_by_steps(q))
        ck_assert(pql_said_cut(q, 0, pql_result(q)->step_count, &arena, &said, &count));
    for (uint32_t i = 0; i < count; i++) {
        kl_buf_addf(out, "\n%u %d %s %s", said[i].what, said[i].at, said[i].name, said[i].more);
        for (uint32_t k = 0; k < (pql_result(q)->step_count + 63) / 64; k++)
            kl_buf_addf(out, " %llx", (unsigned long long)said[i].steps[k]);
    }
    kl_arena_deinit(&arena);
}

static void tell(struct pql_query *q, struct kl_buf *out)
{
    const struct pql_result *r = pql_result(q);

    kl_buf_init(out, 64 << 20);
    kl_buf_addf(out, "%d %s\n", r->failure.kind, r->failure.text);
    if (r->failure.kind != PQL_OK)
        return;
    pql_result_json(r, 0, r->series_count, out);
    for (size_t i = 0; i < r->series_count; i++)       /* JSON has one NaN, and no bits */
        for (uint32_t k = 0; k < r->series[i].count; k++)
            kl_buf_addf(out, "%016llx", (unsigned long long)kl_f64_bits(r->series[i].points[k].value));
    for (size_t i = 0; i < r->warning_count; i++)
        kl_buf_addf(out, "\nwarning %s", r->warnings[i]);
    for (size_t i = 0; i < r->info_count; i++)
        kl_buf_addf(out, "\ninfo %s", r->infos[i]);
    kl_buf_addf(out, "\npeak %llu total %llu read %llu", (unsigned long long)r->samples_peak,
                (unsigned long long)r->samples_total, (unsigned long long)r->samples_read);
    tell_steps(q, out);
    for (uint32_t i = 0; i < r->step_count; i++)
        kl_buf_addf(out, " %llu:%llu", (unsigned long long)r->samples_per_step[i],
                    (unsigned long long)r->reads_per_step[i]);
}

static void compare(struct pql_params p)
{
    struct pql_query *a = ask(p, false), *b = ask(p, true);
    struct kl_buf     whole, parts;

    tell(a, &whole);
    tell(b, &parts);
    ck_assert(kl_buf_ok(&whole));
    if (whole.size != parts.size || memcmp(whole.at, parts.at, whole.size) != 0) {
        kl_buf_add8(&whole, 0);
        kl_buf_add8(&parts, 0);
        ck_abort_msg("%.*s: %.600s\nin parts: %.600s", (int)p.text.size, (const char *)p.text.at, whole.at, parts.at);
    }
    kl_buf_deinit(&whole);
    kl_buf_deinit(&parts);
    pql_free(a);
    pql_free(b);
}

static struct pql_params params(const char *text, bool instant)
{
    return (struct pql_params){ .text = kl_span_str(text), .instant = instant,
                                .start_ms = instant ? 2000000 : 600000, .end_ms = 2400000,
                                .step_ms = 17000, .samples_per_step = true, .tally = true,
                                .notes_by_steps = true };
}

static const char *const texts[] = {
    "sum(a_total)", "sum by (g) (rate(a_total[5m]))", "avg by (g, n) (b)", "min without (n) (c)",
    "max by (g) (c)", "count by (__name__) (d)", "group by (g) (b)", "sum by (g) (increase(b[2m]))",
    "avg(avg_over_time(b[1m]))", "sum(last_over_time(c[3m]))", "count(count_over_time(c[1m]))",
    "max(max_over_time(c[1m]))", "sum by (g) (delta(b[5m] offset 3m))", "sum(irate(a_total[5m]) )",
    "avg by (g) (a_total @ 1500)", "sum by (g) (rate(a_total[5m])) / sum by (g) (rate(b[5m]))",
    "max_over_time(sum by (g) (rate(a_total[1m]))[5m:30s])", "sum(rate(a_total[5m])) + sum(rate(a_total[5m]))",
    "topk(2, sum by (g) (a_total))", "sum without () (b)", "sum(nothing)", "min(min_over_time(c[2m]))", "topk(3, a_total)",
    "bottomk by (g) (2, b)", "sum(topk(4, b)) + sum(a_total)", "topk without (n) (1, b offset 1m)", "topk(100, b)",
    "sum by (g) (stddev_over_time(d[4m]))", "avg by (nothing) (changes(d[4m]))",
};
enum { TEXTS = sizeof texts / sizeof *texts };

START_TEST(an_aggregate_of_parts_is_that_of_all_their_series)
{
    pushed = refused = 0;
    compare(params(texts[_i], false));
    compare(params(texts[_i], true));
    ck_assert(pushed > 0);
}
END_TEST

START_TEST(so_is_any_aggregate_over_any_selector_at_any_steps)
{
    static const char *const aggs[] = { "sum", "avg", "min", "max", "count", "group", "topk", "bottomk" };
    static const char *const by[] = { "", " by (g)", " without (n)", " by (g, n)", " by (__name__)", " without (g)" };
    static const char *const sels[] = { "a_total", "b", "c", "d", "c{g=~\"[0-3]\"}", "d{n!=\"5\"}" };
    static const char *const funcs[] = { "rate", "increase", "delta", "irate", "idelta", "sum_over_time",
                                         "avg_over_time", "min_over_time", "max_over_time", "count_over_time",
                                         "last_over_time", "first_over_time", "present_over_time", "resets", "changes",
                                         "deriv", "stdvar_over_time", "mad_over_time" };
    char text[256];

    seed = (uint64_t)_i + 99;
    pushed = refused = 0;
    for (int i = 0; i < 40; i++) {
        struct pql_params p = params(text, draw(2) == 0);
        const char       *sel = sels[draw(6)], *offset = draw(4) == 0 ? " offset 90s" : "";

        const char       *agg = aggs[draw(8)], *few = agg[0] == 't' || agg[0] == 'b' ? "2, " : "";

        if (draw(4) == 0)
            snprintf(text, sizeof text, "%s%s(%s%s%s)", agg, by[draw(6)], few, sel, offset);
        else
            snprintf(text, sizeof text, "%s%s(%s%s(%s[%dm]%s))", agg, by[draw(6)], few, funcs[draw(18)], sel,
                     1 + (int)draw(9), offset);
        p.text = kl_span_str(text);
        p.start_ms = (int64_t)draw(2500) * 1000;
        p.end_ms = p.start_ms + (int64_t)draw(1500) * 1000;
        p.step_ms = 1000 * (1 + (int64_t)draw(60));
        p.lookback_ms = draw(3) == 0 ? 60000 : 0;
        p.samples_per_step = p.tally = draw(2) == 0;
        compare(p);
    }
    ck_assert_uint_gt(pushed, 20);
}
END_TEST

START_TEST(what_is_past_a_budget_ends_alike)
{
    struct pql_params p = params("sum by (g) (rate(a_total[5m]))", false);

    pushed = 0;
    for (p.samples_max = 100; p.samples_max < 40000; p.samples_max += p.samples_max / 2)
        compare(p);
    p.samples_max = 0;
    p.series_max = 10;
    compare(p);
    ck_assert_uint_gt(pushed, 0);
}
END_TEST

static const struct pql_push *push_of(const char *text, struct pql_query **q)
{
    struct pql_params      p = params(text, false);
    struct pql_failure     failure;
    const struct pql_need *needs;

    *q = pql_new(&p, &failure);
    ck_assert_msg(*q != NULL, "%s", failure.text);
    ck_assert_int_eq(pql_step(*q), PQL_NEED);
    ck_assert_uint_ge(pql_needs(*q, &needs), 1);
    return needs[0].push;
}

START_TEST(what_needs_more_than_an_aggregates_state_is_not_pushed)
{
    static const char *const others[] = {
        "a_total", "rate(a_total[5m])", "quantile(0.9, a_total)", "stddev(a_total)", "topk(scalar(b), a_total)",
        "limitk(3, a_total)", "sum(a_total + 1)", "sum(abs(a_total))", "sum(a_total) + a_total", "sum(rate(a_total[5m] anchored))",
        "sum(quantile_over_time(0.5, b[5m]))", "sum(rate(a_total[5m])) + max(rate(a_total[5m]))",
        "count_values(\"x\", b)", "sum(sum by (g) (rate(a_total[1m])[5m:1m]))", "sum(a_total @ start())",
        "sum(timestamp(b))", "absent_over_time(b[5m])",
    };

    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct pql_query *q;
        struct pql_params p = params(others[i], true);

        if (strstr(others[i], "[5m:1m]") != NULL)
            continue;
        ck_assert_msg(push_of(others[i], &q) == NULL, "%s", others[i]);
        pql_free(q);
        p.partial = true;
        if (strchr(others[i], '@') == NULL) {
            struct pql_failure failure = { .text = "" };

            q = pql_new(&p, &failure);
            ck_assert_msg(q == NULL && strstr(failure.text, "folded by itself") != NULL, "%s", others[i]);
        }
    }
}
END_TEST

START_TEST(native_histograms_and_sums_without_end_are_refused_with_words)
{
    struct pql_params p = params("sum(d)", true);
    struct pql_query *q;
    struct kl_err     err = { 0 };
    struct kl_buf     out;

    stock[3].hists = hists;
    ck_assert(!part_of(&p, push_of("sum(d)", &q), (int)stock[3].part, &out, &err));
    ck_assert(err.code == KL_EINVAL && strstr(err.text, "histograms") != NULL);
    stock[3].hists = NULL;
    kl_buf_deinit(&out);
    pql_free(q);
    pushed = 0;
    compare(params("avg(d)", true));
    ck_assert_uint_eq(pushed, 1);
    for (int k = 3; k < SERIES; k += 4)                /* each part's sum is there, all parts' is not */
        for (uint32_t i = 0; i < stock[k].count; i++)
            values[k][i] = stock[k].part == 0 || stock[k].part == 3 ? 1.7e308 / 20 : 1;
    pushed = refused = 0;
    compare(params("avg(d)", true));
    ck_assert_uint_eq(refused, 1);
    compare(params("sum(d)", true));
    ck_assert_uint_eq(pushed, 1);
}
END_TEST

START_TEST(where_equal_values_are_among_the_first_the_series_are_asked_for)
{
    struct pql_params p = params("topk(2, d)", true);

    for (int k = 3; k < SERIES; k += 4)                /* of 0, 1 and so on; one part has the first three */
        for (uint32_t i = 0; i < stock[k].count; i++)
            values[k][i] = k;
    for (int round = 0; round < 4; round++) {
        stock[239].part = stock[235].part = 3;
        stock[231].part = round == 2 ? 6 : 3;
        for (uint32_t i = 0; i < SAMPLES; i++)
            if (round > 0)                             /* the second is as good as the third; then no number */
                values[231][i] = round == 3 ? NAN : 235;
        for (uint32_t i = 0; i < SAMPLES && round == 3; i++)
            values[239][i] = NAN;
        pushed = refused = 0;
        compare(p);
        if (round == 0)
            ck_assert_uint_eq(pushed, 1);
        if (round == 1 || round == 2)
            ck_assert_uint_eq(refused, 1);
    }
}
END_TEST

START_TEST(damaged_partials_are_refused_and_leave_the_need_open)
{
    struct pql_params       p = params("avg by (g) (rate(c[2m]))", false);
    struct pql_query       *q, *other = ask(p, false);
    const struct pql_push  *push = push_of("avg by (g) (rate(c[2m]))", &q);
    struct pql_fed_partials fed;
    struct kl_buf           part, whole, after;
    struct kl_err           err;
    struct kl_span          bytes;
    const struct pql_need  *needs;

    (void)part_of(&p, push, 0, &part, &err);
    for (size_t n = 0; n < part.size; n++) {
        bytes = kl_span(part.at, n);
        ck_assert_int_ne(pql_feed_partials(q, 0, &bytes, 1, &fed, &err), KL_OK);
    }
    for (size_t n = 0; n < 40 && n < part.size; n++) {
        part.at[n] ^= 0x41;
        bytes = kl_buf_span(&part);
        if (n < 3)
            ck_assert_int_eq(pql_feed_partials(q, 0, &bytes, 1, &fed, &err), KL_ECORRUPT);
        part.at[n] ^= 0x41;
    }
    ck_assert_uint_eq(pql_needs(q, &needs), 1);
    feed(q, needs, -1);
    while (pql_step(q) != PQL_DONE)
        work(q);
    kl_buf_deinit(&part);
    tell(q, &after);
    tell(other, &whole);
    ck_assert(after.size == whole.size && memcmp(after.at, whole.at, whole.size) == 0);
    kl_buf_deinit(&after);
    kl_buf_deinit(&whole);
    pql_free(q);
    pql_free(other);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("promql partials");
    TCase *t = tcase_create("partial");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, an_aggregate_of_parts_is_that_of_all_their_series, 0, TEXTS);
    tcase_add_loop_test(t, so_is_any_aggregate_over_any_selector_at_any_steps, 0, 8);
    tcase_add_test(t, what_is_past_a_budget_ends_alike);
    tcase_add_test(t, what_needs_more_than_an_aggregates_state_is_not_pushed);
    tcase_add_test(t, native_histograms_and_sums_without_end_are_refused_with_words);
    tcase_add_test(t, where_equal_values_are_among_the_first_the_series_are_asked_for);
    tcase_add_test(t, damaged_partials_are_refused_and_leave_the_need_open);
    suite_add_tcase(s, t);
    return run_suite(s);
}
