/*
 * doorman/take_otlp: what an OTLP push becomes in the log, read back with a reader of the log. The
 * clock and the threads are simulated; the bus is a fake one that acks at once.
 */
#include "doorman/doorman.h"
#include "doorman/otlp_in.h"

#include "tests/suite.h"
#include "tests/unit/doorman/fake_bus.h"

#include <inttypes.h>
#include <stdio.h>

static struct kl_env_sim *sim;
static struct kl_env     *env;
static struct fake_bus    bus;
static struct dm_doorman *doorman;
static struct kl_err      err;
static struct kl_buf      story;                       /* what the log was told, line by line */
static struct tsp_record_reader *decoder;
static struct dm_options  options;
static unsigned           definitions;

/* A series by its ref: labels as text. */
static char names[200][300];

static void define(void *ctx, struct kl_span tenant, uint64_t ref, struct kl_fp fp, struct kl_labels l)
{
    struct kl_cur   c = kl_labels_cur(l);
    struct kl_label x;
    size_t          n = 0;

    (void)ctx, (void)tenant, (void)fp;
    ck_assert_uint_lt(ref, 200);
    names[ref][0] = '\0';
    while (kl_labels_next(&c, &x))
        n += (size_t)snprintf(names[ref] + n, 300 - n, "%s%.*s=%.*s", n > 0 ? "," : "", (int)x.name.size,
                              (const char *)x.name.at, (int)x.value.size, (const char *)x.value.at);
    definitions++;
}

static void floats(void *ctx, struct kl_span tenant, uint64_t ref, const int64_t *times, const double *values, size_t n)
{
    (void)ctx, (void)tenant;
    for (size_t i = 0; i < n; i++)
        kl_buf_addf(&story, "%s @%" PRId64 " %g\n", names[ref], times[i] - kl_env_now_ms(env), values[i]);
}

static void hist(void *ctx, struct kl_span tenant, uint64_t ref, int64_t time, const struct kl_hist *h)
{
    (void)ctx, (void)tenant, (void)time;
    if (kl_is_stale(h->sum))
        kl_buf_addf(&story, "%s hist stale\n", names[ref]);
    else
        kl_buf_addf(&story, "%s hist %d count %g sum %g\n", names[ref], h->schema, h->count, h->sum);
}

static void started(void *ctx, struct kl_span tenant, uint64_t ref, int64_t time, int64_t start)
{
    (void)ctx, (void)tenant, (void)time;
    kl_buf_addf(&story, "%s start %" PRId64 "\n", names[ref], start - kl_env_now_ms(env));
}

static void exemplar(void *ctx, struct kl_span tenant, uint64_t ref, int64_t time, double value, struct kl_labels l)
{
    (void)ctx, (void)tenant, (void)time;
    kl_buf_addf(&story, "%s exemplar %g of %zu labels\n", names[ref], value, kl_labels_count(l));
}

static void metadata(void *ctx, struct kl_span tenant, struct kl_span metric, uint8_t type, struct kl_span unit,
                     struct kl_span help)
{
    (void)ctx, (void)tenant;
    kl_buf_addf(&story, "meta %.*s %u %.*s %.*s\n", (int)metric.size, (const char *)metric.at, type, (int)unit.size,
                (const char *)unit.at, (int)help.size, (const char *)help.at);
}

static enum kl_code log_code;                          /* what the log answers */
static uint64_t     log_seq;

static void append(struct kl_bus *b, struct kl_bus_append *op)
{
    static const struct tsp_record_sink sink = { .define = define, .floats = floats, .hist = hist, .start_time = started,
                                                 .exemplar = exemplar, .metadata = metadata };

    (void)b;
    ck_assert_int_eq(tsp_record_read(decoder, op->record, &sink, NULL, &err), KL_OK);
    bus.waiting[bus.count++] = op;
    fake_complete(&bus, bus.count - 1, log_code, ++log_seq, 7, false);
}

static void begin(void)
{
    doorman = dm_new(env, &bus.bus, &options);
    kl_env_sim_run(sim, 10);
    ck_assert_msg(dm_ready(doorman, &err), "%s", err.text);
}

static void setup(void)
{
    sim = kl_env_sim_new(1);
    env = kl_env_sim_env(sim);
    decoder = tsp_record_reader_new();
    kl_buf_init(&story, 0);
    fake_open(&bus, env, 1);                           /* one partition: refs are the series' numbers */
    bus.bus.append = append;
    log_code = KL_OK;
    log_seq = 0;
    definitions = 0;
    options = (struct dm_options){ .gates = 1, .append_timeout_ms = 10, .otlp = { .target_info = true },
                                   .limits = { .label_count_max = 10, .name_bytes_max = 50, .value_bytes_max = 50,
                                               .past_ms = 3600000, .future_ms = 600000 } };
}

static void teardown(void)
{
    fake_close(&bus);
    dm_free(doorman);
    tsp_record_reader_free(decoder);
    kl_buf_deinit(&story);
    kl_buf_deinit(&bus.placement);
    kl_env_sim_free(sim);
}

static bool answered;
static void done(struct dm_push *p) { (void)p; answered = true; }

/* Pushes JSON in which $N is N seconds ago, in nanoseconds. */
static struct dm_push push(const char *json)
{
    struct dm_push p = { .format = DM_OTLP, .tenant = "t", .now_ms = kl_env_now_ms(env), .done = done };
    struct kl_buf  text = { 0 };
    unsigned       gate;

    for (; *json != '\0'; json++)
        if (*json == '$')
            kl_buf_addf(&text, "%" PRId64, (p.now_ms - (*++json - '0') * 1000) * 1000000);
        else
            kl_buf_add8(&text, (uint8_t)*json);
    p.body = text.at;
    p.body_size = text.size;
    ck_assert_msg(dm_otlp_body(&p, true, 1 << 20, 0, &gate, &err) == KL_OK, "%s", err.text);
    kl_buf_reset(&story);
    answered = false;
    dm_push(doorman, gate, &p);
    kl_env_sim_run(sim, 1);
    for (int i = 0; i < 100 && !answered; i++)
        kl_env_sim_run(sim, 100);
    ck_assert(answered);
    kl_buf_add8(&story, 0);
    return p;
}

#define MESSAGE(metrics) "{\"resourceMetrics\":[{\"scopeMetrics\":[{\"metrics\":[" metrics "]}]}]}"
#define METRIC(name, kind, rest, points) "{\"name\":\"" name "\",\"" kind "\":{" rest "\"dataPoints\":[" points "]}}"
#define GAUGE(name, points) MESSAGE(METRIC(name, "gauge", "", points))
#define COUNTER(n, points) MESSAGE(METRIC("c", "sum", "\"isMonotonic\":true,\"aggregationTemporality\":" n ",", points))

static void told(const char *lines) { ck_assert_str_eq(story.at, lines); }

START_TEST(a_gauge_is_a_sample_and_its_metadata_comes_once)
{
    begin();
    ck_assert_uint_eq(push(GAUGE("g", "{\"timeUnixNano\":$5,\"asDouble\":1.5},{\"timeUnixNano\":$3,\"asInt\":2}")).status, 204);
    ck_assert_ptr_nonnull(strstr(story.at, "__name__=g @-5000 1.5\n"));
    ck_assert_ptr_nonnull(strstr(story.at, "__name__=g @-3000 2\n"));
    ck_assert_ptr_nonnull(strstr(story.at, "meta g 2  \n"));
    ck_assert_uint_eq(push(GAUGE("g", "{\"timeUnixNano\":$1,\"asInt\":3}")).status, 204);
    told("__name__=g @-1000 3\n");                     /* remembered: no definition, no metadata */
    ck_assert_uint_eq(definitions, 1);
}
END_TEST

START_TEST(a_cumulative_counter_tells_its_start)
{
    begin();
    push(COUNTER("2", "{\"startTimeUnixNano\":$9,\"timeUnixNano\":$1,\"asInt\":4,\"exemplars\":[{\"asInt\":1,\"traceId\":\"01\"}]}"));
    ck_assert_ptr_nonnull(strstr(story.at, "__name__=c_total @-1000 4\n"));
    ck_assert_ptr_nonnull(strstr(story.at, "__name__=c_total start -9000\n"));
    ck_assert_ptr_nonnull(strstr(story.at, "__name__=c_total exemplar 1 of 1 labels\n"));
}
END_TEST

START_TEST(deltas_are_stored_as_their_sum_and_a_retry_adds_nothing)
{
    static const char first[] = COUNTER("1", "{\"startTimeUnixNano\":1700000000000000000,\"timeUnixNano\":1700000001000000000,\"asInt\":4}");
    begin();
    push(COUNTER("1", "{\"startTimeUnixNano\":$9,\"timeUnixNano\":$8,\"asInt\":4}"));
    ck_assert_ptr_nonnull(strstr(story.at, "@-8000 4\n"));
    push(COUNTER("1", "{\"startTimeUnixNano\":$8,\"timeUnixNano\":$7,\"asInt\":5}"));
    ck_assert_ptr_nonnull(strstr(story.at, "@-7000 9\n"));
    ck_assert_ptr_nonnull(strstr(story.at, "start -9"));
    /* The log fails; the sender comes again with the same bytes. */
    dm_free(doorman);
    begin();
    log_code = KL_EIO;
    ck_assert_uint_eq(push(first).status, 503);
    log_code = KL_OK;
    for (int i = 0; i < 2; i++) {
        ck_assert_uint_eq(push(first).status, 204);
        ck_assert_ptr_nonnull(strstr(story.at, " 4\n"));
    }
}
END_TEST

START_TEST(what_cannot_be_added_up_is_refused_and_named)
{
    struct dm_push p;

    options.otlp.refuse_delta = _i == 1;
    begin();
    if (_i == 0) {
        push(COUNTER("1", "{\"startTimeUnixNano\":$9,\"timeUnixNano\":$8,\"asInt\":4}"));
        p = push(COUNTER("1", "{\"startTimeUnixNano\":$9,\"timeUnixNano\":$9,\"asInt\":4}"));
        ck_assert_ptr_nonnull(strstr(p.text, "1 deltas not newer than the last, the first: c_total{}"));
    } else {
        p = push(COUNTER("1", "{\"timeUnixNano\":$8,\"asInt\":4}"));
        ck_assert_ptr_nonnull(strstr(p.text, "otlp.delta refuses"));
    }
    ck_assert(p.status == 400 && p.points_refused == 1);
    p = push(COUNTER("0", "{\"timeUnixNano\":$8,\"asInt\":4}"));
    ck_assert(p.status == 400 && p.points_refused == 1);
}
END_TEST

#define HIST "\"startTimeUnixNano\":$9,\"timeUnixNano\":$1,\"count\":6,\"sum\":9.5,\"bucketCounts\":[1,2,3],\"explicitBounds\":[0.5,10]"

START_TEST(a_histogram_is_classic_buckets_or_a_native_one)
{
    static const char *const lines[] = { "__name__=h_count @-1000 6\n", "__name__=h_sum @-1000 9.5\n",
        "__name__=h_bucket,le=0.5 @-1000 1\n", "__name__=h_bucket,le=10 @-1000 3\n", "__name__=h_bucket,le=+Inf @-1000 6\n",
        "__name__=h_bucket,le=10 exemplar 7 of 1 labels\n", "__name__=h_bucket,le=+Inf exemplar 11 of 1 labels\n",
        "__name__=h_bucket,le=10 start -9000\n", "meta h 3  \n" };

    options.otlp.custom_hists = _i == 1;
    begin();
    ck_assert_uint_eq(push(MESSAGE(METRIC("h", "histogram", "\"aggregationTemporality\":2,", "{" HIST ",\"exemplars\":["
        "{\"asInt\":7,\"spanId\":\"01\"},{\"asDouble\":11,\"spanId\":\"01\"}]}"))).status, 204);
    if (_i == 1) {
        ck_assert_ptr_nonnull(strstr(story.at, "__name__=h hist -53 count 6 sum 9.5\n"));
        ck_assert_ptr_nonnull(strstr(story.at, "__name__=h exemplar 7 of 1 labels\n"));
        return;
    }
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        ck_assert_msg(strstr(story.at, lines[i]) != NULL, "no line %s in\n%s", lines[i], story.at);
}
END_TEST

START_TEST(delta_histograms_add_up_in_either_form)
{
    options.otlp.custom_hists = _i == 1;
    begin();
    push(MESSAGE(METRIC("h", "histogram", "\"aggregationTemporality\":1,", "{" HIST "}")));
    push(MESSAGE(METRIC("h", "histogram", "\"aggregationTemporality\":1,", "{\"startTimeUnixNano\":$1,\"timeUnixNano\":$0,"
                        "\"count\":1,\"sum\":20,\"bucketCounts\":[0,0,1],\"explicitBounds\":[0.5,10]}")));
    ck_assert_ptr_nonnull(strstr(story.at, _i == 1 ? "__name__=h hist -53 count 7 sum 29.5\n"
                                                    : "__name__=h_bucket,le=+Inf @0 7\n"));
    push(MESSAGE(METRIC("e", "exponentialHistogram", "\"aggregationTemporality\":1,", "{\"startTimeUnixNano\":$9,"
         "\"timeUnixNano\":$2,\"count\":2,\"sum\":3,\"scale\":3,\"positive\":{\"bucketCounts\":[2]}}")));
    push(MESSAGE(METRIC("e", "exponentialHistogram", "\"aggregationTemporality\":1,", "{\"startTimeUnixNano\":$2,"
         "\"timeUnixNano\":$1,\"count\":1,\"sum\":1,\"scale\":3,\"positive\":{\"bucketCounts\":[1]}}")));
    ck_assert_ptr_nonnull(strstr(story.at, "__name__=e hist 3 count 3 sum 4\n"));
}
END_TEST

START_TEST(no_recorded_value_ends_the_series)
{
    begin();
    push(MESSAGE(METRIC("g", "gauge", "", "{\"timeUnixNano\":$1,\"flags\":1}") ","
                 METRIC("e", "exponentialHistogram", "\"aggregationTemporality\":2,", "{\"timeUnixNano\":$1,\"flags\":1}")));
    ck_assert_ptr_nonnull(strstr(story.at, "__name__=g @-1000 nan\n"));
    ck_assert_ptr_nonnull(strstr(story.at, "__name__=e hist stale\n"));
}
END_TEST

START_TEST(target_info_lies_at_the_last_point_and_often_before)
{
    begin();
    push("{\"resourceMetrics\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":{\"stringValue\":\"s\"}},"
         "{\"key\":\"host.name\",\"value\":{\"stringValue\":\"h\"}}]},\"scopeMetrics\":[{\"metrics\":["
         METRIC("g", "gauge", "", "{\"timeUnixNano\":$1,\"asInt\":1},{\"timeUnixNano\":1699999700000000000,\"asInt\":1}") "]}]}]}");
    ck_assert_ptr_nonnull(strstr(story.at, "__name__=target_info,host_name=h,job=s @-1000 1\n"));
    ck_assert_ptr_nonnull(strstr(story.at, "__name__=target_info,host_name=h,job=s @-300010 1\n"));
    ck_assert_ptr_nonnull(strstr(story.at, "__name__=target_info,host_name=h,job=s @-150010 1\n"));
    ck_assert_ptr_nonnull(strstr(story.at, "meta target_info 6  Target metadata\n"));
}
END_TEST

START_TEST(bad_points_are_counted_and_good_ones_beside_them_are_stored)
{
    struct dm_push p;

    begin();
    p = push(MESSAGE(METRIC("g", "gauge", "", "{\"timeUnixNano\":$1,\"asInt\":1},{\"timeUnixNano\":1000000,\"asInt\":1},"
                            "{\"timeUnixNano\":$1}") ","
                     METRIC("h", "histogram", "\"aggregationTemporality\":2,", "{\"timeUnixNano\":$1,\"bucketCounts\":[1,2]}") ","
                     METRIC("l", "gauge", "", "{\"timeUnixNano\":$1,\"asInt\":1,\"attributes\":[{\"key\":\"k\",\"value\":{\"stringValue\":"
                            "\"123456789012345678901234567890123456789012345678901\"}}]}") ","
                     METRIC("...", "gauge", "", "{\"timeUnixNano\":$1,\"asInt\":1}")));
    ck_assert_uint_eq(p.status, 400);
    ck_assert_uint_eq(p.points_refused, 5);
    ck_assert_uint_eq(p.samples_stored, 1);
    ck_assert_ptr_nonnull(strstr(p.text, "1 without a value, the first: g{}"));
    ck_assert_ptr_nonnull(strstr(p.text, "1 with an invalid histogram, the first: h{}"));
}
END_TEST

/* The sender counts as lost what is called a refused point. */
START_TEST(a_point_whose_exemplar_alone_is_refused_is_no_refused_point)
{
    struct dm_push p;

    options.otlp.custom_hists = _i == 1;
    begin();
    p = push(MESSAGE(METRIC("g", "gauge", "", "{\"timeUnixNano\":$1,\"asInt\":1,\"exemplars\":[{\"timeUnixNano\":1000000,\"asInt\":1},"
                            "{\"timeUnixNano\":$2,\"asInt\":1,\"traceId\":\"01\"}]},{\"timeUnixNano\":$1}") ","
                     METRIC("h", "histogram", "\"aggregationTemporality\":2,", "{" HIST ",\"exemplars\":["
                            "{\"timeUnixNano\":1000000,\"asInt\":7}]}")));
    ck_assert_uint_eq(p.status, 400);
    ck_assert_uint_eq(p.refused, 3);
    ck_assert_uint_eq(p.points_refused, 1);            /* the one without a value */
    ck_assert_uint_eq(p.exemplars_stored, 1);
    ck_assert_ptr_nonnull(strstr(story.at, "__name__=g @-1000 1\n"));
}
END_TEST

START_TEST(all_deltas_of_a_tenant_go_to_one_gate)
{
    static const char delta[] = COUNTER("1", "{\"asInt\":1}"), cumulative[] = COUNTER("2", "{\"asInt\":1}");
    struct dm_push p = { .tenant = "t" };
    unsigned       first = 0, gate;

    begin();
    for (unsigned connection = 0; connection < 10; connection++) {
        p.body = strdup(delta);
        p.body_size = sizeof delta - 1;
        ck_assert_int_eq(dm_otlp_body(&p, true, 1000, connection, &gate, &err), KL_OK);
        free(p.body);
        first = connection == 0 ? gate : first;
        ck_assert_uint_eq(gate, first);
        p.body = strdup(cumulative);
        p.body_size = sizeof cumulative - 1;
        ck_assert_int_eq(dm_otlp_body(&p, true, 1000, connection, &gate, &err), KL_OK);
        free(p.body);
        ck_assert_uint_eq(gate, connection);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("doorman/otlp");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_gauge_is_a_sample_and_its_metadata_comes_once);
    tcase_add_test(t, a_cumulative_counter_tells_its_start);
    tcase_add_test(t, deltas_are_stored_as_their_sum_and_a_retry_adds_nothing);
    tcase_add_loop_test(t, what_cannot_be_added_up_is_refused_and_named, 0, 2);
    tcase_add_loop_test(t, a_histogram_is_classic_buckets_or_a_native_one, 0, 2);
    tcase_add_loop_test(t, delta_histograms_add_up_in_either_form, 0, 2);
    tcase_add_test(t, no_recorded_value_ends_the_series);
    tcase_add_test(t, target_info_lies_at_the_last_point_and_often_before);
    tcase_add_test(t, bad_points_are_counted_and_good_ones_beside_them_are_stored);
    tcase_add_loop_test(t, a_point_whose_exemplar_alone_is_refused_is_no_refused_point, 0, 2);
    tcase_add_test(t, all_deltas_of_a_tenant_go_to_one_gate);
    suite_add_tcase(s, t);
    return run_suite(s);
}
