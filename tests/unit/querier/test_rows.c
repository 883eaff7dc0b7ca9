/* Rows of series whose samples are past their retention: whatever comes late over them, they are what is told. */
#include "tests/unit/querier/cluster.h"

#include <math.h>

#include "libblock/compact.h"

enum { MIN = 60000, STEP = 15000, OLD = 480, ROW = 5 * MIN, NONE = -1 };

static struct cluster  c;
static struct kl_err   err;
static uint32_t        home;
/* Of the series a and b two hours; then the same without samples of a, whose rows are carried. */
static struct blk_info whole, rows, thin, carried;

static struct blk_fileset *opened(const struct blk_info *info)
{
    struct blk_fileset *f;
    char                path[BLK_PATH_MAX + 1];

    blk_fileset_path(info, path);
    ck_assert_msg(blk_fileset_open_local(c.files, path, &f, &err) == KL_OK, "%s", err.text);
    return f;
}

static bool no_rows_of_b(void *ctx, int64_t resolution_ms, struct kl_labels labels)
{
    (void)ctx, (void)resolution_ms;
    return !kl_span_eq(kl_labels_get(labels, kl_span_str("job")), kl_span_str("b"));
}

static uint32_t hide_a(void *ctx, const struct blk_info *input, struct kl_labels labels, struct blk_hidden *ranges)
{
    ranges[0] = (struct blk_hidden){ INT64_MIN, INT64_MAX };
    return ctx != NULL && input->resolution_ms == 0 && kl_span_eq(kl_labels_get(labels, kl_span_str("job")), kl_span_str("a"));
}

/* Into one of that generation, and its rows of five minutes. */
static void compact(const struct blk_info *from, uint32_t count, const struct blk_info *carry, uint64_t generation,
                    bool of_b, struct blk_info *samples, struct blk_info *roll)
{
    struct blk_fileset *in[2], *rolled = carry != NULL ? opened(carry) : NULL;
    struct blk_carried  carries = { rolled, 0 };
    struct blk_info     to = from[count - 1], of, done[2];
    struct blk_compact  x = { .inputs = in, .count = count, .root = c.files, .info = &to, .hide = hide_a,
                              .ctx = rolled, .rolls = &of, .roll_count = 1, .rows = of_b ? NULL : no_rows_of_b };
    char                path[BLK_PATH_MAX + 1];

    to.generation = generation;
    of = to;
    of.resolution_ms = ROW;
    if (carry != NULL) {
        x.carried[0] = &carries;
        x.carried_count[0] = 1;
    }
    for (uint32_t i = 0; i < count; i++)
        in[i] = opened(&from[i]);
    ck_assert_msg(blk_compact(&x, done, &err) == KL_OK, "%s", err.text);
    for (uint32_t i = 0; i < count; i++)
        blk_fileset_unref(in[i]);
    if (rolled != NULL)
        blk_fileset_unref(rolled);
    for (int i = 0; i < 2; i++) {
        blk_fileset_path(&done[i], path);
        ck_assert_msg(blk_fileset_upload(c.files, path, c.store, &err) == KL_OK, "%s", err.text);
    }
    done[0].rolled = 1;
    *samples = done[0];
    *roll = done[1];
}

static void setup(void)
{
    struct series   a = line("__name__=m,job=a", STEP, STEP, OLD, 0), b = line("__name__=m,job=b", STEP, STEP, OLD, 0);
    struct blk_info apart[2];
    uint32_t        count;

    cluster_init(&c, NULL);
    tsp_placement_range(c.placement, kl_span_str("t1"), kl_span_str("m"), &home, &count);
    apart[0] = cluster_fileset(&c, "t1", home, 5, &a);
    apart[1] = cluster_fileset(&c, "t1", home, 6, &b);
    compact(apart, 2, NULL, 1, true, &whole, &rows);
    compact(&whole, 1, &rows, 2, true, &thin, &carried);
    ck_assert(carried.carried);
    ck_assert_uint_eq(thin.series_count, 1);
    ck_assert_uint_eq(carried.series_count, 2);
}

static void teardown(void) { cluster_deinit(&c); }

/* ---- asking ---- */

enum { STEPS = 26 };
static double told[2][STEPS];                          /* of a and b at 5m, 10m, ...; NONE: nothing */
static bool   of_rows;

static void keep(struct qr_query *x)
{
    ck_assert_msg(x->job.failure.kind == PQL_OK, "%s", x->job.failure.text);
    ck_assert_ptr_nonnull(x->result);
    of_rows = x->round->list[0]->rows_ms > 0;
    for (int i = 0; i < 2 * STEPS; i++)
        told[i / STEPS][i % STEPS] = NONE;
    for (uint32_t i = 0; i < x->result->series_count; i++) {
        const struct pql_out_series *s = &x->result->series[i];
        bool b = kl_span_eq(kl_labels_get(s->labels, kl_span_str("job")), kl_span_str("b"));

        for (uint32_t k = 0; k < s->count; k++)
            told[b][s->points[k].time_ms / ROW - 1] = s->points[k].value;
    }
}

static void release(struct qr_job *j) { (void)j; }

static void ask(const char *text, int64_t rows_max_ms)
{
    struct qr_query x = { 0 };

    qr_query_init(&x);
    x.answer = keep;
    x.job.release = release;
    x.rows_max_ms = rows_max_ms;
    strcpy(x.job.tenant, "t1");
    x.params = (struct pql_params){ .text = kl_span_str(text), .start_ms = ROW, .end_ms = STEPS * ROW, .step_ms = ROW,
                                    .now_ms = kl_env_now_ms(c.env) };
    qr_submit(c.q, &x.job);
    cluster_run(&c);
    qr_query_deinit(&x);
}

static const char *const texts[] = { "count_over_time(m[5m])", "max_over_time(m[5m])", "min_over_time(m[5m])",
                                     "first_over_time(m[5m])", "sum_over_time(m[10m])", "increase(m[10m])" };
enum { TEXTS = sizeof texts / sizeof texts[0] };

/* What a is told by while all of its samples are there. */
static void by_samples(double expected[TEXTS][STEPS])
{
    cluster_catalogue(&c, home, 1, &whole, 1);
    cluster_start(&c);
    for (int t = 0; t < TEXTS; t++) {
        ask(texts[t], 0);
        memcpy(expected[t], told[0], sizeof told[0]);
    }
    ck_assert_double_eq(expected[0][3], 20);
    qr_free(c.q);
}

static void must_be(const char *text, const double expected[STEPS], int from, int to)
{
    for (int i = from; i < to; i++)
        ck_assert_msg(fabs(told[0][i] - expected[i]) < 1e-6, "%s: at step %d %g in place of %g", text, i, told[0][i], expected[i]);
}

/* 0: in a later fileset; 1: live; 2: live, in one chunk with what is young; 3: as 0, and the window's own fileset is gone. */

START_TEST(late_samples_hide_no_rows_of_their_series)
{
    double          expected[TEXTS][STEPS];
    struct series   a = line("__name__=m,job=a", 20 * MIN + 1000, 1, 1, 1e9), young = a;
    struct blk_info late = cluster_fileset(&c, "t1", home, 9, &a), all[3];

    by_samples(expected);
    young.count = 2;
    young.times[1] = 124 * MIN;
    young.values[1] = 7;
    if (_i == 3) {
        memcpy(all, (struct blk_info[]){ carried, late }, 2 * sizeof *all);
        cluster_catalogue(&c, home, 2, all, 2);
    } else {
        memcpy(all, (struct blk_info[]){ thin, carried, late }, sizeof all);
        cluster_catalogue(&c, home, 2, all, _i == 0 ? 3 : 2);
    }
    if (_i == 1 || _i == 2)
        cluster_live(&c, home, _i == 1 ? &a : &young, 1, (struct tsp_page){ 0 });
    cluster_start(&c);
    for (int t = 0; t < TEXTS; t++) {
        ask(texts[t], t == TEXTS - 1 || t == TEXTS - 2 ? ROW : -1);
        ck_assert(of_rows);
        must_be(texts[t], expected[t], 0, STEPS - 2);
    }
    ask("max_over_time(m[5m])", -1);
    ck_assert_double_eq(told[0][24], _i == 2 ? 7 : NONE);      /* what lies behind the rows is seen as it is */
    ask("max_over_time(m[5m])", 0);                    /* and so is all, where rows are not wanted */
    ck_assert_double_eq(told[0][4], 1e9);
    ck_assert_double_eq(told[0][5], NONE);
}
END_TEST

/* Of b the window's fileset has samples: they and what came late are all that there is of it. */
START_TEST(late_samples_of_a_series_that_has_its_samples_count)
{
    struct series   b = line("__name__=m,job=b", 20 * MIN + 1000, 1, 1, 1e9);
    struct blk_info all[3] = { thin, carried, cluster_fileset(&c, "t1", home, 9, &b) };

    cluster_catalogue(&c, home, 1, all, 3);
    cluster_start(&c);
    ask("max_over_time(m[5m])", -1);
    ck_assert_double_eq(told[1][4], 1e9);
    ask("count_over_time(m[5m])", -1);
    ck_assert_double_eq(told[1][4], 21);
    ck_assert_double_eq(told[1][5], 20);
    ck_assert_double_eq(told[0][4], 20);
}
END_TEST

/* A rule lets b's rows go before its samples. */
START_TEST(a_series_without_rows_is_told_by_its_samples)
{
    struct blk_info fewer, all[2];

    compact(&whole, 1, NULL, 3, false, &all[0], &fewer);
    ck_assert(fewer.lacks && !rows.lacks && !carried.lacks);
    ck_assert_uint_eq(fewer.series_count, 1);
    all[1] = fewer;
    cluster_catalogue(&c, home, 1, all, 2);
    cluster_start(&c);
    ask("count_over_time(m[5m])", -1);
    ck_assert_double_eq(told[0][0], 20);
    ck_assert_double_eq(told[1][0], 20);
    ck_assert_double_eq(told[1][STEPS - 3], 20);
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("querier/rows");
    TCase   *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int      failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, late_samples_hide_no_rows_of_their_series, 0, 4);
    tcase_add_test(t, late_samples_of_a_series_that_has_its_samples_count);
    tcase_add_test(t, a_series_without_rows_is_told_by_its_samples);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
