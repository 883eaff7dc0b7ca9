/* doorman: which acks it believes, what it sends again, and what a definition owes to its ack. */
#include "doorman/doorman.h"

#include "tests/suite.h"
#include "tests/unit/doorman/fake_bus.h"

#include <stdio.h>

enum { PUSHES = 40 };

static struct kl_env_sim  *sim;
static struct kl_env      *env;
static struct fake_bus     bus;
static struct dm_doorman  *doorman;
static struct dm_push      pushes[PUSHES];
static unsigned            answered, definitions, samples, metadata, exemplars, starts;
static struct kl_err       err;

static void start(int64_t linger_ms, uint64_t partition_bytes)
{
    struct dm_options o = {
        .linger_ms = linger_ms, .inflight_bytes_max = 1 << 20,
        .partition_inflight_bytes_max = partition_bytes, .append_timeout_ms = 3000,
        .limits = { .label_count_max = 10, .name_bytes_max = 50, .value_bytes_max = 50 },
    };

    doorman = dm_new(env, &bus.bus, &o);
    kl_env_sim_run(sim, 1);
}

static void setup(void)
{
    sim = kl_env_sim_new(7);
    env = kl_env_sim_env(sim);
    fake_open(&bus, env, 1);
    answered = definitions = samples = metadata = exemplars = 0;
}

static void teardown(void)
{
    fake_close(&bus);
    dm_free(doorman);
    kl_buf_deinit(&bus.placement);
    kl_env_sim_free(sim);
}

static void done(struct dm_push *p) { (void)p; answered++; }

static void push_bytes(unsigned i, enum dm_format format, const void *at, size_t size)
{
    struct dm_push *p = &pushes[i];

    *p = (struct dm_push){ .format = format, .tenant = "t", .body_size = size, .done = done,
                           .now_ms = kl_env_now_ms(env), .body = malloc(size + 1) };
    memcpy(p->body, at, size);
    dm_push(doorman, 0, p);
    kl_env_sim_run(sim, 1);
}

static void push(unsigned i, const char *text) { push_bytes(i, DM_TEXT, text, strlen(text)); }

static void define(void *ctx, struct kl_span tenant, uint64_t ref, struct kl_fp fp, struct kl_labels l)
{
    (void)ctx, (void)ref, (void)tenant, (void)fp, (void)l;
    definitions++;
}
static void floats(void *ctx, struct kl_span tenant, uint64_t ref, const int64_t *times,
                   const double *values, size_t n)
{
    (void)ctx, (void)ref, (void)tenant, (void)times, (void)values;
    samples += (unsigned)n;
}
static void meta(void *ctx, struct kl_span tenant, struct kl_span metric, uint8_t type,
                 struct kl_span unit, struct kl_span help)
{
    (void)ctx, (void)tenant, (void)unit;
    metadata++;
    if (!kl_span_eq(metric, kl_span_str("m")))
        return;
    ck_assert_int_eq(type, 1);
    ck_assert(kl_span_eq(help, kl_span_str("What it is.")));
}
static void start_time(void *ctx, struct kl_span tenant, uint64_t ref, int64_t time_ms, int64_t start_ms)
{
    (void)ctx, (void)tenant, (void)ref;
    ck_assert_int_eq(time_ms - start_ms, 5000);
    starts++;
}
static void exemplar(void *ctx, struct kl_span tenant, uint64_t ref, int64_t time_ms, double value,
                     struct kl_labels labels)
{
    (void)ctx, (void)tenant, (void)ref, (void)time_ms, (void)value, (void)labels;
    exemplars++;
}

/* Counts what the ith waiting record holds. */
static void look(size_t i)
{
    static const struct tsp_record_sink sink = { .define = define, .floats = floats,
                                                 .metadata = meta, .exemplar = exemplar,
                                                 .start_time = start_time };
    struct tsp_record_reader *r = tsp_record_reader_new();

    ck_assert_uint_lt(i, bus.count);
    definitions = samples = metadata = exemplars = starts = 0;
    ck_assert_int_eq(tsp_record_read(r, bus.waiting[i]->record, &sink, NULL, &err), KL_OK);
    tsp_record_reader_free(r);
}

static void complete(size_t i, enum kl_code code, uint64_t seq, uint64_t incarnation, bool duplicate)
{
    fake_complete(&bus, i, code, seq, incarnation, duplicate);
    kl_env_sim_run(sim, 1);
}

static uint64_t refs[8];
static void keep_ref(void *ctx, struct kl_span tenant, uint64_t ref, struct kl_fp fp, struct kl_labels l)
{
    (void)ctx, (void)tenant, (void)fp, (void)l;
    ck_assert_uint_lt(definitions, 8);
    refs[definitions++] = ref;
}

START_TEST(refs_are_counted_up_without_gaps_and_never_given_twice)
{
    static const struct tsp_record_sink sink = { .define = keep_ref };
    struct tsp_record_reader *r = tsp_record_reader_new();
    struct dm_options         o = { .remembered_series_max = 2 };     /* so small that it forgets */

    doorman = dm_new(env, &bus.bus, &o);
    kl_env_sim_run(sim, 1);
    push(0, "a 1\nb 1\nc 1\na 2\n");
    ck_assert_int_eq(tsp_record_read(r, bus.waiting[0]->record, &sink, NULL, &err), KL_OK);
    ck_assert_uint_eq(definitions, 4);                 /* "a" is a new series again */
    for (uint64_t i = 0; i < 4; i++)
        ck_assert_uint_eq(refs[i], i + 1);
    tsp_record_reader_free(r);
}
END_TEST

START_TEST(no_answer_before_the_ack)
{
    start(0, 1 << 20);
    push(0, "a 1\n");
    kl_env_sim_run(sim, 60000);
    ck_assert_uint_eq(answered, 0);
    complete(0, KL_OK, 1, 77, false);
    ck_assert_uint_eq(pushes[0].status, 204);
}
END_TEST

START_TEST(a_record_is_sent_again_under_its_id_and_its_late_ack_counts)
{
    char id[KL_BUS_ID_MAX + 1];

    start(0, 1 << 20);
    push(0, "a 1\n");
    strcpy(id, bus.waiting[0]->id);
    ck_assert_uint_ge(strlen(id), 34);
    complete(0, _i == 0 ? KL_EAGAIN : KL_ETIMEOUT, 0, 0, false);
    kl_env_sim_run(sim, 500);
    ck_assert_uint_eq(bus.count, 1);
    ck_assert_str_eq(bus.waiting[0]->id, id);
    complete(0, KL_OK, 1, 77, true);                   /* the first try had landed after all */
    ck_assert_uint_eq(pushes[0].status, 204);
}
END_TEST

START_TEST(a_retry_whose_first_try_landed_counts_though_later_records_were_acked_meanwhile)
{
    start(1, 1 << 20);                                 /* with a linger, several are under way */
    push(0, "a 1\n");
    kl_env_sim_run(sim, 5);
    complete(0, KL_ETIMEOUT, 0, 0, false);
    push(1, "a 2\n");
    kl_env_sim_run(sim, 5);
    ck_assert_uint_eq(bus.count, 1);
    complete(0, KL_OK, 2, 77, false);
    ck_assert_uint_eq(pushes[1].status, 204);
    kl_env_sim_run(sim, 500);
    complete(0, KL_OK, 1, 77, true);
    ck_assert_uint_eq(pushes[0].status, 204);
}
END_TEST

START_TEST(a_log_out_of_reach_is_503_with_retry_after_once_the_timeout_is_over)
{
    start(0, 1 << 20);
    push(0, "a 1\n");
    for (int i = 0; i < 100 && answered == 0; i++) {
        if (bus.count > 0)
            complete(0, KL_EAGAIN, 0, 0, false);
        kl_env_sim_run(sim, 100);
    }
    ck_assert_uint_eq(pushes[0].status, 503);
    ck_assert_uint_gt(pushes[0].retry_after_s, 0);
    ck_assert_ptr_nonnull(strstr(pushes[0].text, "as the test says"));
}
END_TEST

START_TEST(a_failure_that_time_does_not_mend_is_503_at_once)
{
    static const enum kl_code codes[] = { KL_EIO, KL_ELIMIT, KL_EINVAL, KL_ECORRUPT, KL_ECANCELED };

    start(0, 1 << 20);
    push(0, "a 1\n");
    complete(0, codes[_i], 0, 0, false);
    ck_assert_uint_eq(answered, 1);
    ck_assert_uint_eq(pushes[0].status, 503);
}
END_TEST

START_TEST(a_new_record_called_a_duplicate_is_no_ack)
{
    start(0, 1 << 20);
    push(0, "a 1\n");
    complete(0, KL_OK, 1, 77, true);
    ck_assert_uint_eq(pushes[0].status, 503);
}
END_TEST

START_TEST(a_sequence_that_does_not_rise_is_no_ack_and_definitions_are_sent_anew)
{
    start(0, 1 << 20);
    push(0, "a 1\n");
    complete(0, KL_OK, 10, 77, false);
    push(1, "a 2\n");
    look(0);
    ck_assert_uint_eq(definitions, 0);
    complete(0, KL_OK, 10 - (uint64_t)_i, 77, false);
    ck_assert_uint_eq(pushes[1].status, 503);
    push(2, "a 2\n");
    look(0);
    ck_assert_uint_eq(definitions, 1);
    complete(0, KL_OK, 11, 77, false);
    ck_assert_uint_eq(pushes[2].status, 204);
}
END_TEST

START_TEST(an_ack_from_another_incarnation_is_no_ack_and_definitions_are_sent_anew)
{
    start(0, 1 << 20);
    push(0, "a 1\n");
    complete(0, KL_OK, 10, 77, false);
    push(1, "a 2\n");
    complete(0, KL_OK, 1, 78, false);
    ck_assert_uint_eq(pushes[1].status, 503);
    push(2, "a 2\n");
    look(0);
    ck_assert_uint_eq(definitions, 1);
    complete(0, KL_OK, 2, 78, false);
    ck_assert_uint_eq(pushes[2].status, 204);
    push(3, "a 3\n");
    look(0);
    ck_assert_uint_eq(definitions, 0);
}
END_TEST

START_TEST(records_under_way_when_the_log_changes_are_503_too)
{
    start(1, 1 << 20);
    push(0, "a 1\n");
    kl_env_sim_run(sim, 5);
    complete(0, KL_OK, 10, 77, false);
    push(1, "a 2\n");
    kl_env_sim_run(sim, 5);
    push(2, "a 3\n");
    kl_env_sim_run(sim, 5);
    ck_assert_uint_eq(bus.count, 2);
    complete(0, KL_OK, 1, 78, false);
    complete(0, KL_OK, 2, 78, false);                  /* without a definition of "a" in this log */
    ck_assert_uint_eq(pushes[1].status, 503);
    ck_assert_uint_eq(pushes[2].status, 503);
}
END_TEST

START_TEST(a_definition_that_was_not_acked_is_in_the_next_record)
{
    start(0, 1 << 20);
    push(0, "a 1\n");
    complete(0, KL_EIO, 0, 0, false);
    push(1, "a 1\n");
    look(0);
    ck_assert_uint_eq(definitions, 1);
}
END_TEST

START_TEST(every_record_carries_the_definition_until_its_ack)
{
    start(1, 1 << 20);
    for (unsigned i = 0; i < 3; i++) {
        push(i, "a 1\na 2\n");
        kl_env_sim_run(sim, 5);
    }
    ck_assert_uint_eq(bus.count, 3);
    for (size_t i = 0; i < 3; i++) {
        look(i);
        ck_assert_uint_eq(definitions, 1);             /* once a record */
        ck_assert_uint_eq(samples, 2);
    }
}
END_TEST

START_TEST(what_comes_while_a_record_is_under_way_goes_together_when_it_is_acked)
{
    start(0, 1 << 20);
    push(0, "a 1\n");
    for (unsigned i = 1; i < 10; i++)
        push(i, "a 2\n");
    ck_assert_uint_eq(bus.count, 1);
    complete(0, KL_OK, 1, 77, false);
    ck_assert_uint_eq(bus.count, 1);
    look(0);
    ck_assert_uint_eq(samples, 9);
    ck_assert_uint_eq(definitions, 1);                 /* put in before the ack was there */
    complete(0, KL_OK, 2, 77, false);
    ck_assert_uint_eq(answered, 10);
}
END_TEST

START_TEST(a_partition_that_is_full_refuses_and_takes_again_when_acks_come)
{
    start(0, 100);
    push(0, "a 1\nb 2\nc 3\nd 4\ne 5\n");             /* larger than the bound, but the first */
    push(1, "a 2\n");
    ck_assert_uint_eq(answered, 1);
    ck_assert_uint_eq(pushes[1].status, 503);
    ck_assert_uint_gt(pushes[1].retry_after_s, 0);
    complete(0, KL_OK, 1, 77, false);
    ck_assert_uint_eq(pushes[0].status, 204);
    push(2, "a 2\n");
    complete(0, KL_OK, 2, 77, false);
    ck_assert_uint_eq(pushes[2].status, 204);
}
END_TEST

START_TEST(a_large_push_is_split_into_records_that_all_must_be_acked)
{
    struct kl_buf text = { 0 };

    start(0, 1 << 30);
    for (int i = 0; i < 15000; i++)
        kl_buf_addf(&text, "a_metric_with_a_name{n=\"%d\"} %d\n", i, i);
    push_bytes(0, DM_TEXT, text.at, text.size);
    kl_buf_deinit(&text);
    ck_assert_uint_gt(bus.count, 2);
    for (uint64_t seq = 1; bus.count > 0; seq++) {
        ck_assert_uint_eq(answered, 0);
        ck_assert_uint_le(bus.waiting[0]->record.size, KL_BUS_MESSAGE_MAX);
        complete(0, KL_OK, seq, 77, false);
    }
    ck_assert_uint_eq(pushes[0].status, 204);
    ck_assert_uint_eq(pushes[0].samples_stored, 15000);
}
END_TEST

START_TEST(without_a_placement_table_a_push_is_503_and_the_doorman_not_ready)
{
    bus.partitions = 0;
    start(0, 1 << 20);
    ck_assert(!dm_ready(doorman, &err));
    push(0, "a 1\n");
    ck_assert_uint_eq(pushes[0].status, 503);
    fake_place(&bus, 4);
    kl_env_sim_run(sim, 1);
    ck_assert(dm_ready(doorman, &err));
    push(1, "a 1\n");
    ck_assert_uint_eq(bus.count, 1);
}
END_TEST

START_TEST(a_series_that_a_new_table_puts_elsewhere_is_defined_there)
{
    start(0, 1 << 20);
    for (int i = 0; i < 2; i++) {
        struct kl_buf text = { 0 };
        for (int k = 0; k < 64; k++)
            kl_buf_addf(&text, "m%d 1\n", k);
        push_bytes((unsigned)i, DM_TEXT, text.at, text.size);
        kl_buf_deinit(&text);
        for (uint64_t seq = 1; bus.count > 0; seq++) {
            look(0);
            ck_assert_uint_eq(definitions, bus.waiting[0]->partition == 0 && i == 1 ? 0 : samples);
            complete(0, KL_OK, (uint64_t)i * 10 + seq, 77, false);
        }
        ck_assert_uint_eq(pushes[i].status, 204);
        fake_place(&bus, 8);
        kl_env_sim_run(sim, 1);
    }
}
END_TEST

START_TEST(the_end_answers_every_push)
{
    start(_i == 0 ? 0 : 1000, 1 << 20);
    push(0, "a 1\n");                                  /* under way, or lingering */
    push(1, "b 1\n");                                  /* gathering, or lingering */
    fake_close(&bus);
    dm_free(doorman);
    doorman = NULL;
    ck_assert_uint_eq(answered, 2);
    ck_assert_uint_eq(pushes[0].status, 503);
    ck_assert_uint_eq(pushes[1].status, 503);
}
END_TEST

START_TEST(exemplars_and_metadata_travel_with_the_samples)
{
    struct kl_buf message = { 0 }, series = { 0 }, m = { 0 };
    int64_t       now = kl_env_now_ms(env);

    start(0, 1 << 20);
    rw1_label(&series, "__name__", "m");
    rw1_sample(&series, now, 1);
    rw1_exemplar(&series, "trace_id", "abc", 2, now);
    rw1_end(&message, &series);
    kl_buf_addv(&m, 1 << 3);
    kl_buf_addv(&m, 1);
    rw1_bytes(&m, 2, "m", 1);
    rw1_bytes(&m, 4, "What it is.", 11);
    rw1_bytes(&message, 3, m.at, m.size);
    push_bytes(0, DM_RW1, message.at, message.size);
    look(0);
    ck_assert_uint_eq(samples, 1);
    ck_assert_uint_eq(exemplars, 1);
    ck_assert_uint_eq(metadata, 1);
    complete(0, KL_OK, 1, 77, false);
    ck_assert_uint_eq(pushes[0].status, 204);
    push(1, "# TYPE m counter\n# HELP m What it is.\nm 3\n");
    look(0);
    ck_assert_uint_eq(metadata, 1);
    kl_buf_deinit(&message);
    kl_buf_deinit(&series);
    kl_buf_deinit(&m);
}
END_TEST

START_TEST(openmetrics_exemplars_travel_with_their_samples)
{
    start(0, 1 << 20);
    push_bytes(0, DM_OPENMETRICS, "# TYPE m counter\n# HELP m What it is.\n"
               "m_total{a=\"1\"} 3 # {trace_id=\"x\"} 1\nm_total{a=\"2\"} 4\n# EOF\n", 97);
    look(0);
    ck_assert_uint_eq(samples, 2);
    ck_assert_uint_eq(exemplars, 1);
    ck_assert_uint_eq(metadata, 1);
    complete(0, KL_OK, 1, 77, false);
    ck_assert_msg(pushes[0].status == 204, "%s", pushes[0].text);
}
END_TEST

/* io.prometheus.write.v2.Request with one series of these label refs; times are `now`. */
static void rw2(struct kl_buf *message, const uint8_t *labels, size_t label_count, int64_t now)
{
    static const char *const symbols[] = { "", "__name__", "m", "a", "1", "What it is.", "trace_id", "t" };
    struct kl_buf series = { 0 }, x = { 0 };

    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++)
        rw1_bytes(message, 4, symbols[i], strlen(symbols[i]));
    rw1_bytes(&series, 1, labels, label_count);
    kl_buf_addv(&x, 1 << 3 | 1);
    kl_buf_addf64(&x, 1.5);
    kl_buf_addv(&x, 2 << 3);
    kl_buf_addv(&x, (uint64_t)now);
    kl_buf_addv(&x, 3 << 3);
    kl_buf_addv(&x, (uint64_t)now - 5000);
    rw1_bytes(&series, 2, x.at, x.size);
    kl_buf_reset(&x);
    rw1_bytes(&x, 1, "\6\7", 2);
    kl_buf_addv(&x, 2 << 3 | 1);
    kl_buf_addf64(&x, 2);
    kl_buf_addv(&x, 3 << 3);
    kl_buf_addv(&x, (uint64_t)now);
    rw1_bytes(&series, 4, x.at, x.size);
    rw1_bytes(&series, 5, "\x08\x01\x18\x05", 4);      /* a counter, help is symbol 5 */
    rw1_end_as(message, 5, &series);
    kl_buf_deinit(&series);
    kl_buf_deinit(&x);
}

START_TEST(openmetrics_created_lines_are_the_start_times_of_what_stands_before_them)
{
    static const char body[] =
        "# TYPE c counter\nc_total{a=\"1\"} 5 1700000010\nc_created{a=\"1\"} 1700000005\n"
        "c_total{a=\"2\"} 5 1700000010\n"
        "# TYPE h histogram\nh_bucket{a=\"1\",le=\"1\"} 1 1700000010\nh_bucket{a=\"1\",le=\"+Inf\"} 2 1700000010\n"
        "h_count{a=\"1\"} 2 1700000010\nh_sum{a=\"1\"} 3 1700000010\nh_created{a=\"1\"} 1700000005\n"
        "# TYPE s summary\ns{quantile=\"0.5\"} 1 1700000010\ns_count 2 1700000010\ns_created 1700000005\n"
        "# TYPE lone counter\nlone_created 1 1700000010\n"        /* of nothing: a series like any other */
        "# TYPE g gauge\ng 1 1700000010\ng_created 2 1700000010\n# EOF\n";

    start(0, 1 << 20);
    for (unsigned i = 0; i < 2; i++) {
        push_bytes(i, DM_OPENMETRICS, body, sizeof body - 1);
        look(0);
        ck_assert_uint_eq(samples, 8 + 3);
        ck_assert_uint_eq(starts, 1 + 4 + 2);
        complete(0, KL_OK, 1 + i, 7, false);
        ck_assert_uint_eq(pushes[i].status, 204);
    }
}
END_TEST

START_TEST(remote_write_2_brings_start_times_exemplars_and_metadata_once)
{
    struct kl_buf message = { 0 };
    int64_t       now = kl_env_now_ms(env);

    start(0, 1 << 20);
    rw2(&message, (const uint8_t *)"\1\2\3\4", 4, now);
    for (unsigned i = 0; i < 2; i++) {
        push_bytes(i, DM_RW2, message.at, message.size);
        look(0);
        ck_assert_uint_eq(definitions, i == 0);
        ck_assert_uint_eq(samples, 1);
        ck_assert_uint_eq(starts, 1);
        ck_assert_uint_eq(exemplars, 1);
        ck_assert_uint_eq(metadata, i == 0);           /* with the definition only */
        complete(0, KL_OK, i + 1, 77, false);
        ck_assert_uint_eq(pushes[i].status, 204);
        ck_assert_uint_eq(pushes[i].samples_stored, 1);
        ck_assert_uint_eq(pushes[i].exemplars_stored, 1);
    }
    kl_buf_deinit(&message);
}
END_TEST

START_TEST(a_bad_label_reference_of_remote_write_2_is_refused_and_counted)
{
    static const char *const wrong[] = { "\1\2\3", "\1\2\3\x63", "\3\4", "\1\2\3\4\3\4", "\3\4\1\2" };
    struct kl_buf message = { 0 };

    start(0, 1 << 20);
    rw2(&message, (const uint8_t *)wrong[_i], strlen(wrong[_i]), kl_env_now_ms(env));
    push_bytes(0, DM_RW2, message.at, message.size);
    ck_assert_uint_eq(answered, 1);
    ck_assert_uint_eq(pushes[0].status, 400);
    ck_assert_uint_eq(pushes[0].refused, 2);           /* the sample and its exemplar */
    ck_assert_uint_eq(bus.count, 0);
    kl_buf_deinit(&message);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("doorman/acks");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, refs_are_counted_up_without_gaps_and_never_given_twice);
    tcase_add_test(t, no_answer_before_the_ack);
    tcase_add_loop_test(t, a_record_is_sent_again_under_its_id_and_its_late_ack_counts, 0, 2);
    tcase_add_test(t, a_retry_whose_first_try_landed_counts_though_later_records_were_acked_meanwhile);
    tcase_add_test(t, a_log_out_of_reach_is_503_with_retry_after_once_the_timeout_is_over);
    tcase_add_loop_test(t, a_failure_that_time_does_not_mend_is_503_at_once, 0, 5);
    tcase_add_test(t, a_new_record_called_a_duplicate_is_no_ack);
    tcase_add_loop_test(t, a_sequence_that_does_not_rise_is_no_ack_and_definitions_are_sent_anew, 0, 9);
    tcase_add_test(t, an_ack_from_another_incarnation_is_no_ack_and_definitions_are_sent_anew);
    tcase_add_test(t, records_under_way_when_the_log_changes_are_503_too);
    tcase_add_test(t, a_definition_that_was_not_acked_is_in_the_next_record);
    tcase_add_test(t, every_record_carries_the_definition_until_its_ack);
    tcase_add_test(t, what_comes_while_a_record_is_under_way_goes_together_when_it_is_acked);
    tcase_add_test(t, a_partition_that_is_full_refuses_and_takes_again_when_acks_come);
    tcase_add_test(t, a_large_push_is_split_into_records_that_all_must_be_acked);
    tcase_add_test(t, without_a_placement_table_a_push_is_503_and_the_doorman_not_ready);
    tcase_add_test(t, a_series_that_a_new_table_puts_elsewhere_is_defined_there);
    tcase_add_loop_test(t, the_end_answers_every_push, 0, 2);
    tcase_add_test(t, exemplars_and_metadata_travel_with_the_samples);
    tcase_add_test(t, openmetrics_exemplars_travel_with_their_samples);
    tcase_add_test(t, openmetrics_created_lines_are_the_start_times_of_what_stands_before_them);
    tcase_add_test(t, remote_write_2_brings_start_times_exemplars_and_metadata_once);
    tcase_add_loop_test(t, a_bad_label_reference_of_remote_write_2_is_refused_and_counted, 0, 5);
    suite_add_tcase(s, t);
    return run_suite(s);
}
