/* libkoal/app/trace_export, trace_otlp: spans that wait, leave, or are dropped; as a collector gets them. */
#include "libkoal/app/trace_priv.h"
#include "tests/suite.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static struct kl_metrics *metrics;
static atomic_uint   sends, fails;                     /* fails: so many of the next are refused */
static atomic_int    refusal;
static _Atomic bool  hangs;
static struct kl_buf got;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static enum kl_code take(void *ctx, struct kl_span body, int64_t timeout_ms, struct kl_err *err)
{
    (void)ctx;
    for (int64_t i = 0; atomic_load(&hangs) && i < timeout_ms; i++)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    atomic_fetch_add(&sends, 1);
    if (atomic_load(&fails) > 0) {
        atomic_fetch_sub(&fails, 1);
        return kl_fail(err, (enum kl_code)atomic_load(&refusal), "no");
    }
    pthread_mutex_lock(&lock);
    kl_buf_add(&got, body.at, body.size);
    pthread_mutex_unlock(&lock);
    return KL_OK;
}

static struct kl_tracer *open_tracer(unsigned queue)
{
    return kl_app_tracer_new(&(struct kl_app_trace_options){
        .from = { .service = "tester", .version = "1", .host = "here", .instance = "here:1" },
        .queue = queue, .send = take, .metrics = metrics });
}

static void setup(void)
{
    metrics = kl_metrics_new();
    atomic_store(&sends, 0);
    atomic_store(&fails, 0);
    atomic_store(&hangs, false);
    kl_buf_reset(&got);
}

static void teardown(void)
{
    kl_metrics_free(metrics);
    kl_buf_deinit(&got);
}

static bool tells(const char *line)
{
    struct kl_buf b = { 0 };
    bool          has;

    kl_metrics_write(metrics, &b);
    kl_buf_add8(&b, 0);
    has = strstr(b.at, line) != NULL;
    kl_buf_deinit(&b);
    return has;
}

static void span(struct kl_tracer *t, const char *text)
{
    struct kl_trace      is = { .on = true };
    struct kl_trace_span s;
    uint8_t              parent[8] = { 1 };

    memset(is.trace, 7, sizeof is.trace);
    memset(is.span, 8, sizeof is.span);
    kl_trace_span_begin(&s, &is, parent, "work", KL_TRACE_INTERNAL, 1000);
    kl_trace_span_text(&s, "query", kl_span_str(text));
    kl_trace_span_number(&s, "samples", -1);
    s.failed = true;
    s.link = is;
    kl_trace_span_end(t, &s, 2000);
}

START_TEST(spans_that_wait_leave_at_the_end)
{
    struct kl_tracer *t = open_tracer(100);

    for (int i = 0; i < 10; i++)
        span(t, "up");
    kl_app_tracer_free(t, 5000);
    ck_assert(tells("koalemos_trace_spans_total 10\n"));
    ck_assert(tells("koalemos_trace_spans_dropped_total{reason=\"full\"} 0\n"));
}
END_TEST

START_TEST(a_full_queue_drops_and_counts_and_nobody_waits_for_a_collector_that_hangs)
{
    struct kl_tracer *t;

    atomic_store(&hangs, true);
    t = open_tracer(16);
    for (int i = 0; i < 10000; i++)
        span(t, "up");
    ck_assert(!tells("koalemos_trace_spans_dropped_total{reason=\"full\"} 0\n"));
    kl_app_tracer_free(t, 50);                         /* nor at the end */
    ck_assert(!tells("koalemos_trace_spans_total 10000\n"));
}
END_TEST

START_TEST(a_batch_is_tried_again_where_that_may_help)
{
    struct kl_tracer *t = open_tracer(16);

    atomic_store(&refusal, KL_EAGAIN);
    atomic_store(&fails, 1);
    span(t, "up");
    while (!tells("koalemos_trace_spans_total 1\n"))
        nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
    ck_assert(tells("koalemos_trace_exports_failed_total 1\n"));
    kl_app_tracer_free(t, 5000);
    ck_assert_uint_eq(atomic_load(&sends), 2);
}
END_TEST

START_TEST(a_batch_that_is_refused_for_good_is_dropped_and_counted)
{
    struct kl_tracer *t = open_tracer(16);

    atomic_store(&refusal, KL_EIO);
    atomic_store(&fails, 1);
    span(t, "up");
    kl_app_tracer_free(t, 5000);
    ck_assert_uint_eq(atomic_load(&sends), 1);
    ck_assert(tells("koalemos_trace_spans_dropped_total{reason=\"refused\"} 1\n"));
}
END_TEST

/* ---- the bytes ---- */

static struct kl_span field(struct kl_span message, uint64_t number, size_t turn)
{
    struct kl_cur c = kl_cur(message.at, message.size);

    while (kl_cur_left(&c) > 0) {
        uint64_t       tag = kl_cur_v(&c);
        struct kl_span value = { c.at, 0 };

        switch (tag & 7) {
        case 0: kl_cur_v(&c); break;
        case 1: value = kl_cur_bytes(&c, 8); break;
        case 2: value = kl_cur_span(&c); break;
        case 5: value = kl_cur_bytes(&c, 4); break;
        default: ck_abort_msg("wire type %u", (unsigned)(tag & 7));
        }
        ck_assert(!c.bad);
        if (tag >> 3 == number && turn-- == 0)
            return value;
    }
    return kl_span(NULL, 0);
}

START_TEST(a_collector_reads_what_was_emitted)
{
    struct kl_tracer *t = open_tracer(16);
    struct kl_span    all, attr, s;
    struct kl_cur     c;

    span(t, "up{a=\"\xc3\xa4\xff\"}");
    kl_app_tracer_free(t, 5000);
    all = field(kl_buf_span(&got), 1, 0);              /* ResourceSpans */
    attr = field(field(all, 1, 0), 1, 0);
    ck_assert(kl_span_eq(field(attr, 1, 0), kl_span_str("service.name")));
    ck_assert(kl_span_eq(field(field(attr, 2, 0), 1, 0), kl_span_str("tester")));
    s = field(field(all, 2, 0), 2, 0);                 /* ScopeSpans, Span */
    ck_assert(kl_span_eq(field(s, 1, 0), kl_span_str("\7\7\7\7\7\7\7\7\7\7\7\7\7\7\7\7")));
    ck_assert(kl_span_eq(field(s, 2, 0), kl_span_str("\10\10\10\10\10\10\10\10")));
    ck_assert_uint_eq(field(s, 4, 0).size, 8);
    ck_assert(kl_span_eq(field(s, 5, 0), kl_span_str("work")));
    c = kl_cur(field(s, 8, 0).at, 8);
    int64_t end_ns = (int64_t)kl_cur_64(&c);
    c = kl_cur(field(s, 7, 0).at, 8);
    ck_assert_int_eq(end_ns - (int64_t)kl_cur_64(&c), 1000);
    ck_assert_int_gt(end_ns, 1600000000ll * 1000000000 - 1000000000000000ll);
    attr = field(s, 9, 0);
    ck_assert(kl_span_eq(field(field(attr, 2, 0), 1, 0), kl_span_str("up{a=\"\xc3\xa4?\"}")));
    c = kl_cur(field(field(field(s, 9, 1), 2, 0), 3, 0).at, 10);
    ck_assert_int_eq((int64_t)kl_cur_v(&c), -1);
    ck_assert_uint_eq(field(field(s, 13, 0), 2, 0).size, 8);
    c = kl_cur(field(field(s, 15, 0), 3, 0).at, 1);
    ck_assert_uint_eq(kl_cur_8(&c), 2);                /* STATUS_CODE_ERROR */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/app/trace");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 20);
    tcase_add_test(t, spans_that_wait_leave_at_the_end);
    tcase_add_test(t, a_full_queue_drops_and_counts_and_nobody_waits_for_a_collector_that_hangs);
    tcase_add_test(t, a_batch_is_tried_again_where_that_may_help);
    tcase_add_test(t, a_batch_that_is_refused_for_good_is_dropped_and_counted);
    tcase_add_test(t, a_collector_reads_what_was_emitted);
    suite_add_tcase(s, t);
    return run_suite(s);
}
