/* rate and increase of rows (their first and last sample, how many lie between, what was lost in them) are held
 * against rate and increase of all samples. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libpromql/pql.h"
#include "tests/suite.h"

enum { SAMPLES = 2000, ROW = 300000, STEPS = 100 };
enum kind { EVEN, UNEVEN, RESETS, SPARSE, LINE, STARTS, KINDS };

static struct kl_buf     labels;
static int64_t           times[SAMPLES], ends[2 * SAMPLES], starts[SAMPLES], at_starts[2 * SAMPLES];
static double            values[SAMPLES], at_ends[2 * SAMPLES], rows_rise[2 * SAMPLES];
static struct pql_unseen unseen[2 * SAMPLES];
static struct pql_series raw, rows;

static uint64_t below(uint64_t *state, uint64_t n)      /* xorshift64* */
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (*state * 2685821657736338717u >> 20) % n;
}

/* Eighths below 2^40: every sum is exact. */
static void draw(uint64_t seed, enum kind kind)
{
    uint64_t r = seed * 0x9e3779b97f4a7c15u + 1;
    int64_t  at = -(int64_t)below(&r, 1000000);
    double   v = kind == RESETS || kind == SPARSE ? 0 : 1000000;
    uint32_t n = 0;
    int64_t  start = 0;

    for (int i = 0; i < SAMPLES; i++, at += 15000) {
        v += kind == LINE ? 10 : (double)below(&r, 100) / 8;
        if (kind == RESETS && below(&r, 25) == 0)
            v = (double)below(&r, 80) / 8;
        if (kind == SPARSE && below(&r, 40) != 0)
            continue;
        if (kind == STARTS && below(&r, 25) == 0) {    /* begun anew: often it has risen past what it was */
            start = below(&r, 5) == 0 ? 0 : below(&r, 3) == 0 && n > 0 ? times[n - 1] : at - 1 - (int64_t)below(&r, 14998);
            v = (double)below(&r, 20000000) / 8;
        }
        starts[n] = start;
        times[n] = at + (kind == UNEVEN ? (int64_t)below(&r, 14999) : 0);
        values[n++] = v;
    }
    raw = (struct pql_series){ .labels = { (const uint8_t *)labels.at, labels.size }, .count = n, .times_ms = times, .values = values,
                               .starts_ms = kind == STARTS ? starts : NULL };
}

/* pql_start_is_reset, told once more. */
static bool began(uint32_t k)
{
    int64_t b = starts[k - 1], s = starts[k];

    return raw.starts_ms != NULL && s != 0 && s < times[k] && (s > times[k - 1] || (s == times[k - 1] && b != 0 && b < s));
}

static int64_t bucket(int64_t ms) { return ms > 0 ? (ms + ROW - 1) / ROW : -(-ms / ROW); }

/* Samples from `first` to `last` as they are, the others as rows. */
static void roll(uint32_t first, uint32_t last)
{
    uint32_t n = 0;

    for (uint32_t i = 0, k; i < raw.count; i = k) {
        double lost = 0;

        for (k = i + 1; k < raw.count && bucket(times[k]) == bucket(times[i]) && (i < first || i >= last); k++)
            lost += values[k] < values[k - 1] || began(k) ? values[k - 1] : 0;
        for (uint32_t end = 0; end < (k - i > 1 ? 2 : 1); end++, n++) {
            uint32_t which = end == 0 ? i : k - 1;

            ends[n] = times[which];
            at_starts[n] = starts[which];
            at_ends[n] = values[which];
            unseen[n] = (struct pql_unseen){ 0, 0 };
            if (end == 1 && k - i > 2)
                unseen[n] = (struct pql_unseen){ k - i - 2, lost };
            rows_rise[n] = end == 1 ? values[k - 1] - values[i] + lost : 0;
        }
    }
    rows = (struct pql_series){ .labels = raw.labels, .count = n, .times_ms = ends, .values = at_ends, .unseen = unseen,
                                .starts_ms = raw.starts_ms != NULL ? at_starts : NULL };
}

static struct pql_query *ask(const struct pql_series *s, const char *text, int64_t start_ms, int64_t step_ms)
{
    struct pql_params      p = { .text = kl_span_str(text), .start_ms = start_ms, .end_ms = start_ms + STEPS * step_ms,
                                 .step_ms = step_ms };
    struct pql_failure     failure = { .text = "" };
    struct pql_query      *q = pql_new(&p, &failure);
    const struct pql_need *needs;

    ck_assert_msg(q != NULL, "%s", failure.text);
    for (enum pql_state st; (st = pql_step(q)) != PQL_DONE;)
        if (st == PQL_NEED)
            for (size_t n = pql_needs(q, &needs); n-- > 0;) {
                ck_assert_int_eq(needs[n].fold, PQL_FOLD_RATE);
                pql_feed(q, needs[n].id, s, 1);
            }
        else
            for (size_t i = 0, n = pql_work_count(q); i < n; i++)
                pql_work(q, i, 0);
    ck_assert_int_eq(pql_result(q)->failure.kind, PQL_OK);
    return q;
}

static const struct { const char *rate; int64_t range_ms; } texts[] = {
    { "increase(m_total[10m])", 600000 }, { "rate(m_total[15m])", 900000 }, { "increase(m_total[1h])", 3600000 },
    { "rate(m_total[20m] offset 5m)", 1200000 },
};

START_TEST(where_ranges_end_with_rows_the_answer_is_that_of_the_samples_bit_for_bit)
{
    size_t points = 0;

    for (uint64_t seed = 0; seed < 60; seed++) {
        struct pql_query *a, *b;
        int64_t           start = ((int64_t)(seed % 7) - 3) * ROW, step = (1 + (int64_t)(seed % 3)) * ROW;

        draw(seed, (enum kind)(seed % KINDS));
        roll(seed % 3 * 300, seed % 3 * 500);          /* sometimes not all of it is rows */
        a = ask(&raw, texts[_i].rate, start, step);
        b = ask(&rows, texts[_i].rate, start, step);
        ck_assert_uint_eq(pql_result(a)->series_count, pql_result(b)->series_count);
        for (size_t i = 0; i < pql_result(a)->series_count; i++) {
            const struct pql_out_series *x = &pql_result(a)->series[i], *y = &pql_result(b)->series[i];

            ck_assert_uint_eq(x->count, y->count);
            for (uint32_t k = 0; k < x->count; k++, points++) {
                ck_assert_int_eq(x->points[k].time_ms, y->points[k].time_ms);
                ck_assert_msg(memcmp(&x->points[k].value, &y->points[k].value, 8) == 0, "%s: seed %d at %lld: %.17g, not %.17g",
                              texts[_i].rate, (int)seed, (long long)x->points[k].time_ms, y->points[k].value, x->points[k].value);
            }
        }
        pql_free(a);
        pql_free(b);
    }
    ck_assert_uint_gt(points, 1000);
}
END_TEST

/* What the counter rose in the row that has `ms` inside; 0 where none has. */
static double rise_at(int64_t ms)
{
    for (uint32_t i = 1; i < rows.count; i++)
        if (unseen[i].count > 0 && ends[i - 1] <= ms && ms < ends[i])
            return rows_rise[i];
    return 0;
}

START_TEST(where_ranges_cut_rows_it_is_off_by_at_most_what_these_rose)
{
    size_t points = 0;
    double worst = 0;

    for (uint64_t seed = 0; seed < 40; seed++) {
        enum kind         kind = seed % 4 == 3 ? LINE : (enum kind)(seed % 4);
        int64_t           range = texts[_i].range_ms, step = 17000 + (int64_t)seed * 1001;
        bool              rate = strncmp(texts[_i].rate, "rate", 4) == 0;
        int64_t           offset = strstr(texts[_i].rate, "offset") != NULL ? 300000 : 0;
        struct pql_query *a, *b;

        draw(seed, kind);
        roll(0, 0);
        a = ask(&raw, texts[_i].rate, 12345, step);
        b = ask(&rows, texts[_i].rate, 12345, step);
        ck_assert_uint_eq(pql_result(a)->series_count, 1);
        ck_assert_uint_eq(pql_result(b)->series_count, 1);
        for (uint32_t k = 0; k < pql_result(a)->series[0].count; k++, points++) {
            const struct pql_point *x = &pql_result(a)->series[0].points[k], *y = &pql_result(b)->series[0].points[k];
            int64_t                 end = x->time_ms - offset;
            double                  per = rate ? (double)range / 1000 : 1, want = x->value * per, got = y->value * per;
            /* Extrapolation adds at most 1.1 distances at either end; near zero, and where distances are uneven, it may
             * add the one and not the other. */
            double                  more = 2.2 * 15000 / (double)(range - 30000);
            double                  bound = (rise_at(end) + rise_at(end - range)) * (1 + more);

            if (kind == UNEVEN || kind == RESETS)
                bound += 2 * more * (want > got ? want : got);
            if (kind == LINE)
                bound = 1e-9 * want;
            ck_assert_int_eq(x->time_ms, y->time_ms);
            ck_assert_msg(fabs(got - want) <= bound + 1e-9, "%s: seed %d at %lld: %.17g, not %.17g: more than %.17g", texts[_i].rate,
                          (int)seed, (long long)x->time_ms, got, want, bound);
            if (kind == EVEN && end - range > times[0] && end < times[raw.count - 1] && fabs(got - want) / want > worst)
                worst = fabs(got - want) / want;
        }
        pql_free(a);
        pql_free(b);
    }
    ck_assert_uint_gt(points, 1000);
    ck_assert_double_lt(worst, 100000.0 / (double)texts[_i].range_ms);          /* noise that is scraped regularly */
}
END_TEST

static void begin(void)
{
    static struct kl_labels_builder b;
    struct kl_err                   err;

    kl_labels_start(&b);
    kl_buf_init(&labels, 4096);
    kl_labels_add(&b, kl_span_str("__name__"), kl_span_str("m_total"), &err);
    ck_assert_int_eq(kl_labels_finish(&b, &labels, &err), KL_OK);
}

static void end(void) { kl_buf_deinit(&labels); }

int main(void)
{
    Suite *s = suite_create("promql rows");
    TCase *t = tcase_create("rows");

    tcase_add_checked_fixture(t, begin, end);
    tcase_add_loop_test(t, where_ranges_end_with_rows_the_answer_is_that_of_the_samples_bit_for_bit, 0, sizeof texts / sizeof *texts);
    tcase_add_loop_test(t, where_ranges_cut_rows_it_is_off_by_at_most_what_these_rose, 0, sizeof texts / sizeof *texts);
    suite_add_tcase(s, t);
    return run_suite(s);
}
