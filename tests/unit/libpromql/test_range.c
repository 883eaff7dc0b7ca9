/* Range functions and sums have quick ways for regular data: a graph must still be what asking for each of its
 * steps alone gives, bit for bit. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "libpromql/pql.h"
#include "tests/suite.h"

enum { SERIES = 5, SAMPLES = 90, STEPS = 120 };

static struct kl_buf     labels[SERIES];
static int64_t           times[SERIES][SAMPLES];
static double            values[SERIES][SAMPLES];
static struct pql_series stock[SERIES];

static uint64_t below(uint64_t *state, uint64_t n)      /* xorshift64* */
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (*state * 2685821657736338717u >> 20) % n;
}

/* Counters and others, mostly equally far apart; some begin late, miss samples, jitter, are reset, begin at zero. */
static void draw(uint64_t seed)
{
    static struct kl_labels_builder b;
    uint64_t                        r = seed * 0x9e3779b97f4a7c15u + 1;
    struct kl_err                   err;

    for (int k = 0; k < SERIES; k++) {
        char     n[2] = { (char)('a' + k), 0 };
        uint64_t kind = below(&r, 8);
        int64_t  at = (int64_t)below(&r, 40) * 5000 + (int64_t)below(&r, 3);
        double   v = below(&r, 2) == 0 ? 0 : (double)below(&r, 1000000) / 7;
        uint32_t count = 0;

        for (int i = 0; i < SAMPLES; i++, at += 15000) {
            v += kind == 0 ? (double)below(&r, 7) - 3 : (double)below(&r, 100) / 8;
            if (kind == 1 && below(&r, 50) == 0)
                v = 0;
            if (kind == 2 && below(&r, 20) == 0)
                continue;
            values[k][count] = kind == 4 && below(&r, 100) == 0 ? 1e308 * 10 : v;
            times[k][count++] = at + (kind == 3 ? (int64_t)below(&r, 5) : 0);
        }
        kl_labels_start(&b);
        kl_buf_init(&labels[k], 4096);
        kl_labels_add(&b, kl_span_str("__name__"), kl_span_str("m_total"), &err);
        kl_labels_add(&b, kl_span_str("n"), kl_span_str(n), &err);
        ck_assert_int_eq(kl_labels_finish(&b, &labels[k], &err), KL_OK);
        stock[k] = (struct pql_series){ { (const uint8_t *)labels[k].at, labels[k].size }, count, times[k],
                                        values[k], NULL, NULL };
    }
}

static struct pql_query *ask(const char *text, int64_t start_ms, int64_t end_ms, int64_t step_ms)
{
    struct pql_params      p = { .text = kl_span_str(text), .instant = step_ms == 0, .start_ms = start_ms,
                                 .end_ms = end_ms, .step_ms = step_ms };
    struct pql_failure     failure = { .text = "" };
    struct pql_query      *q = pql_new(&p, &failure);
    const struct pql_need *needs;

    ck_assert_msg(q != NULL, "%s", failure.text);
    for (enum pql_state st; (st = pql_step(q)) != PQL_DONE;)
        if (st == PQL_NEED)
            for (size_t n = pql_needs(q, &needs); n-- > 0;)
                pql_feed(q, needs[n].id, stock, SERIES);
        else
            for (size_t i = 0, n = pql_work_count(q); i < n; i++)
                pql_work(q, i, 0);
    ck_assert_int_eq(pql_result(q)->failure.kind, PQL_OK);
    return q;
}

static const struct pql_point *point_of(const struct pql_result *r, struct kl_labels l, int64_t ms)
{
    for (size_t i = 0; i < r->series_count; i++)
        if (kl_labels_cmp(r->series[i].labels, l) == 0)
            for (uint32_t k = 0; k < r->series[i].count; k++)
                if (r->series[i].points[k].time_ms == ms)
                    return &r->series[i].points[k];
    return NULL;
}

static const char *texts[] = { "rate(m_total[5m])", "increase(m_total[47s])", "delta(m_total[2m])",
                               "sum(rate(m_total[1m]))", "avg(m_total)", "sum(m_total) by (x)",
                               "rate(m_total[5m] offset 7s)" };

START_TEST(a_graph_is_its_steps_asked_one_by_one)
{
    static const int64_t steps[] = { 15000, 30000, 60000, 5000, 17000, 15007 };
    size_t               points = 0;

    for (uint64_t seed = 0; seed < 20; seed++) {
        draw(seed);
        for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
            int64_t           start = (int64_t)(seed % 9) * 20000 - 60000, step = steps[s];
            const char       *text = texts[_i];
            struct pql_query *graph = ask(text, start, start + STEPS * step, step);
            size_t            seen = 0, all = 0;

            for (size_t i = 0; i < pql_result(graph)->series_count; i++)
                all += pql_result(graph)->series[i].count;
            for (int64_t at = start; at <= start + STEPS * step; at += step) {
                struct pql_query        *one = ask(text, at, at, 0);
                const struct pql_result *r = pql_result(one);

                for (size_t i = 0; i < r->series_count; i++, seen++) {
                    const struct pql_point *want = &r->series[i].points[0],
                                           *got = point_of(pql_result(graph), r->series[i].labels, at);
                    uint64_t a, b;

                    ck_assert_msg(got != NULL, "%s: nothing at %lld", text, (long long)at);
                    memcpy(&a, &want->value, sizeof a);
                    memcpy(&b, &got->value, sizeof b);
                    ck_assert_msg(a == b || (want->value != want->value && got->value != got->value),
                                  "%s: seed %d, step %d, at %lld: %.17g, not %.17g", text, (int)seed, (int)step,
                                  (long long)at, got->value, want->value);
                }
                pql_free(one);
            }
            ck_assert_uint_eq(seen, all);
            points += seen;
            pql_free(graph);
        }
        for (int k = 0; k < SERIES; k++)
            kl_buf_deinit(&labels[k]);
    }
    ck_assert_uint_gt(points, 2000);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("promql range");
    TCase *t = tcase_create("range");

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, a_graph_is_its_steps_asked_one_by_one, 0, sizeof texts / sizeof *texts);
    suite_add_tcase(s, t);
    return run_suite(s);
}
