/* doorman: a push sent again writes only what the log lacks; what is in flight is bounded, by tenant too. */
#include "doorman/doorman.h"

#include "tests/suite.h"
#include "tests/unit/doorman/fake_bus.h"

#include <stdio.h>

enum { PARTITIONS = 4, PUSHES = 240, SERIES = 30 };

static struct kl_env_sim  *sim;
static struct kl_env      *env;
static struct fake_bus     bus;
static struct dm_doorman  *doorman;
static struct dm_push      pushes[PUSHES];
static unsigned            answered, samples;
static uint64_t            seq;
static struct kl_err       err;
static struct dm_options   options;

static void open_doorman(void)
{
    doorman = dm_new(env, &bus.bus, &options);
    kl_env_sim_run(sim, 1);
}

static void setup(void)
{
    sim = kl_env_sim_new(7);
    env = kl_env_sim_env(sim);
    fake_open(&bus, env, PARTITIONS);
    options = (struct dm_options){ .inflight_bytes_max = 1 << 20, .append_timeout_ms = 3000,
                                   .limits = { .label_count_max = 10 } };
    answered = samples = 0;
    seq = 0;
}

static void teardown(void)
{
    fake_close(&bus);
    dm_free(doorman);
    kl_buf_deinit(&bus.placement);
    kl_env_sim_free(sim);
}

static void done(struct dm_push *p) { (void)p; answered++; }

static void push_to(unsigned i, const char *tenant, enum dm_format format, const void *at, size_t size)
{
    struct dm_push *p = &pushes[i];

    *p = (struct dm_push){ .format = format, .body_size = size, .done = done, .sent = kl_hash128(at, size),
                           .now_ms = kl_env_now_ms(env), .body = malloc(size + 1) };
    snprintf(p->tenant, sizeof p->tenant, "%s", tenant);
    memcpy(p->body, at, size);
    dm_push(doorman, 0, p);
    kl_env_sim_run(sim, 1);
}

/* One sample each of thirty metrics: they fall to all partitions. */
static void message(struct kl_buf *m, double value, int64_t time_ms)
{
    struct kl_buf s = { 0 };
    char          name[16];

    for (int i = 0; i < SERIES; i++) {
        snprintf(name, sizeof name, "m%d", i);
        rw1_label(&s, "__name__", name);
        rw1_sample(&s, time_ms, value);
        rw1_end(m, &s);
    }
    kl_buf_deinit(&s);
}

static void floats(void *ctx, struct kl_span tenant, uint64_t ref, const int64_t *times,
                   const double *values, size_t n)
{
    (void)ctx, (void)ref, (void)tenant, (void)times, (void)values;
    samples += (unsigned)n;
}

/* How many samples the ith waiting record holds. */
static unsigned held(size_t i)
{
    static const struct tsp_record_sink sink = { .floats = floats };
    struct tsp_record_reader *r = tsp_record_reader_new();

    samples = 0;
    ck_assert_int_eq(tsp_record_read(r, bus.waiting[i]->record, &sink, NULL, &err), KL_OK);
    tsp_record_reader_free(r);
    return samples;
}

static size_t record_of(uint32_t partition)
{
    for (size_t i = 0; i < bus.count; i++)
        if (bus.waiting[i]->partition == partition)
            return i;
    ck_abort_msg("no record for partition %u", partition);
    return 0;
}

static void complete(size_t i, enum kl_code code)
{
    fake_complete(&bus, i, code, ++seq, 77, false);
    kl_env_sim_run(sim, 1);
}

/* Pushes `m` and lets all partitions ack but the last of those waiting, which fails for good. */
static uint32_t fail_one(unsigned i, const struct kl_buf *m, unsigned *lost)
{
    uint32_t partition;

    push_to(i, "t", DM_RW1, m->at, m->size);
    ck_assert_uint_eq(bus.count, PARTITIONS);
    partition = bus.waiting[PARTITIONS - 1]->partition;
    *lost = held(PARTITIONS - 1);
    while (bus.count > 1)
        complete(0, KL_OK);
    complete(0, KL_EIO);
    ck_assert_uint_eq(pushes[i].status, 503);
    return partition;
}

START_TEST(a_retry_sends_only_what_was_not_acked)
{
    struct kl_buf m = { 0 };
    unsigned      lost;
    uint32_t      partition;

    open_doorman();
    message(&m, 1, kl_env_now_ms(env));
    partition = fail_one(0, &m, &lost);
    ck_assert(lost > 0 && lost < SERIES);
    push_to(1, "t", DM_RW1, m.at, m.size);
    ck_assert_uint_eq(bus.count, 1);
    ck_assert_uint_eq(bus.waiting[0]->partition, partition);
    ck_assert_uint_eq(held(0), lost);
    complete(0, KL_OK);
    ck_assert_uint_eq(pushes[1].status, 204);
    ck_assert_uint_eq(pushes[1].samples_stored, SERIES);       /* the answer tells of all */
    push_to(2, "t", DM_RW1, m.at, m.size);                     /* once more: nothing is known of it now */
    ck_assert_uint_eq(bus.count, PARTITIONS);
    kl_buf_deinit(&m);
}
END_TEST

START_TEST(a_retry_that_fails_again_is_remembered_on)
{
    struct kl_buf m = { 0 };
    unsigned      lost;

    open_doorman();
    message(&m, 1, kl_env_now_ms(env));
    fail_one(0, &m, &lost);
    for (unsigned i = 1; i < 4; i++) {
        push_to(i, "t", DM_RW1, m.at, m.size);
        ck_assert_uint_eq(bus.count, 1);
        complete(0, KL_EIO);
        ck_assert_uint_eq(pushes[i].status, 503);
    }
    kl_buf_deinit(&m);
}
END_TEST

/* A partition that acked what it got had not got what was refused. */
START_TEST(what_was_refused_the_first_time_is_written_when_the_retry_may_bring_it)
{
    struct kl_buf m = { 0 }, s = { 0 };
    unsigned      lost, written = 0;
    char          name[24];

    options.limits.future_ms = 1000;
    open_doorman();
    message(&m, 1, kl_env_now_ms(env));
    for (int i = 0; i < SERIES; i++) {
        snprintf(name, sizeof name, "ahead%d", i);
        rw1_label(&s, "__name__", name);
        rw1_sample(&s, kl_env_now_ms(env) + 3000, 1);
        rw1_end(&m, &s);
    }
    fail_one(0, &m, &lost);
    ck_assert_uint_eq(pushes[0].refused, SERIES);
    kl_env_sim_run(sim, 2500);
    push_to(1, "t", DM_RW1, m.at, m.size);
    for (size_t i = 0; i < bus.count; i++)
        written += held(i);
    while (bus.count > 0)
        complete(0, KL_OK);
    ck_assert_uint_eq(pushes[1].status, 204);
    ck_assert_uint_eq(pushes[1].samples_stored, 2 * SERIES);
    ck_assert_uint_eq(written, 2 * SERIES);
    kl_buf_deinit(&m);
    kl_buf_deinit(&s);
}
END_TEST

/* What had acked is not what is there now. */
START_TEST(a_log_that_is_made_anew_while_a_push_is_under_way_has_nothing_of_it)
{
    struct kl_buf m = { 0 };
    uint32_t      partition;

    open_doorman();
    message(&m, 1, kl_env_now_ms(env));
    push_to(0, "t", DM_RW1, m.at, m.size);
    ck_assert_uint_eq(bus.count, PARTITIONS);
    partition = bus.waiting[0]->partition;
    complete(0, KL_OK);
    push_to(1, "u", DM_RW1, m.at, m.size);             /* it finds the log another */
    fake_complete(&bus, record_of(partition), KL_OK, ++seq, 78, false);
    kl_env_sim_run(sim, 1);
    for (int i = 1; i < PARTITIONS; i++)
        complete(0, KL_EIO);
    ck_assert_uint_eq(pushes[0].status, 503);
    while (bus.count > 0)
        complete(0, KL_OK);
    push_to(2, "t", DM_RW1, m.at, m.size);
    ck_assert_uint_eq(bus.count, PARTITIONS);
    kl_buf_deinit(&m);
}
END_TEST

START_TEST(another_tenant_another_body_and_another_format_are_no_retry)
{
    struct kl_buf m = { 0 }, other = { 0 };
    unsigned      lost;

    open_doorman();
    message(&m, 1, kl_env_now_ms(env));
    message(&other, 2, kl_env_now_ms(env));
    fail_one(0, &m, &lost);
    push_to(1, "u", DM_RW1, m.at, m.size);
    ck_assert_uint_eq(bus.count, PARTITIONS);
    while (bus.count > 0)
        complete(0, KL_OK);
    push_to(2, "t", DM_RW1, other.at, other.size);
    ck_assert_uint_eq(bus.count, PARTITIONS);
    kl_buf_deinit(&m);
    kl_buf_deinit(&other);
}
END_TEST

START_TEST(after_two_minutes_or_when_the_log_was_made_anew_all_is_sent_again)
{
    struct kl_buf m = { 0 };
    unsigned      lost;

    open_doorman();
    message(&m, 1, kl_env_now_ms(env));
    fail_one(0, &m, &lost);
    kl_env_sim_run(sim, 122000);
    push_to(1, "t", DM_RW1, m.at, m.size);
    ck_assert_uint_eq(bus.count, PARTITIONS);
    while (bus.count > 0)
        complete(0, KL_OK);
    fail_one(2, &m, &lost);
    push_to(3, "u", DM_TEXT, "x 1\n", 4);
    fake_complete(&bus, 0, KL_OK, 1, 78, false);               /* another incarnation */
    kl_env_sim_run(sim, 1);
    ck_assert_uint_eq(pushes[3].status, 503);
    push_to(4, "t", DM_RW1, m.at, m.size);
    ck_assert_uint_eq(bus.count, PARTITIONS);
    kl_buf_deinit(&m);
}
END_TEST

START_TEST(samples_that_got_our_time_are_sent_again_whole)
{
    char   text[800];
    size_t n = 0;

    open_doorman();
    for (int i = 0; i < SERIES; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "m%d 1\n", i);
    push_to(0, "t", DM_TEXT, text, n);
    while (bus.count > 1)
        complete(0, KL_OK);
    complete(0, KL_EIO);
    ck_assert_uint_eq(pushes[0].status, 503);
    push_to(1, "t", DM_TEXT, text, n);                 /* perhaps a retry, perhaps the next scrape */
    ck_assert_uint_eq(bus.count, PARTITIONS);
}
END_TEST

START_TEST(a_slow_partition_delays_only_the_pushes_that_touch_it)
{
    struct kl_buf m = { 0 };
    uint32_t      slow;
    unsigned      held_up = 0, passed = 0;

    options.partition_inflight_bytes_max = 600;
    options.linger_ms = 1;
    open_doorman();
    message(&m, 1, kl_env_now_ms(env));
    push_to(0, "t", DM_RW1, m.at, m.size);
    kl_env_sim_run(sim, 5);
    slow = bus.waiting[0]->partition;
    while (bus.count > 1)
        complete(bus.waiting[0]->partition == slow, KL_OK);
    ck_assert_uint_eq(answered, 0);
    for (unsigned i = 1; i < 40; i++) {                /* one metric each, round and round */
        char text[40];
        int  n = snprintf(text, sizeof text, "m%u 1 %lld\n", i % SERIES, (long long)kl_env_now_ms(env));
        push_to(i, "t", DM_TEXT, text, (size_t)n);
        kl_env_sim_run(sim, 5);
        for (size_t k = 0; k < bus.count; )
            if (bus.waiting[k]->partition != slow)
                complete(k, KL_OK);
            else
                k++;
        passed += pushes[i].status == 204;
        held_up += pushes[i].status != 204;
        ck_assert(pushes[i].status == 204 || pushes[i].status == 503 || pushes[i].status == 0);
    }
    ck_assert_uint_gt(passed, 20);
    ck_assert_uint_gt(held_up, 3);
    ck_assert_uint_eq(record_of(slow), 0);
    kl_buf_deinit(&m);
}
END_TEST

/* 300 series of 60 labels that they share, each with 900 bytes that no record packs well. */
START_TEST(a_push_that_becomes_more_than_may_be_in_flight_is_413_before_it_does)
{
    enum { LABELS = 60, VALUE = 900, MANY = 300 };
    struct kl_buf m = { 0 }, s = { 0 }, refs = { 0 };
    char          text[VALUE + 1];

    options.limits = (struct dm_limits){ .label_count_max = 64, .value_bytes_max = 1000 };
    open_doorman();
    rw1_bytes(&m, 4, "", 0);
    for (int i = 0; i < LABELS; i++) {
        snprintf(text, sizeof text, i == 0 ? "__name__" : "l%02d", i);
        rw1_bytes(&m, 4, text, strlen(text));
        for (int k = 0; k < VALUE; k++)
            text[k] = (char)('0' + kl_env_sim_draw(sim) % 64);
        rw1_bytes(&m, 4, text, VALUE);
    }
    for (int i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "%d", i);
        rw1_bytes(&m, 4, text, strlen(text));
    }
    for (unsigned i = 0; i < MANY; i++) {
        for (unsigned k = 1; k <= 2 * LABELS; k++)
            kl_buf_addv(&refs, k == 2 * LABELS ? 2 * LABELS + 1 + i : k);
        rw1_bytes(&s, 1, refs.at, refs.size);
        rw1_sample(&s, kl_env_now_ms(env), 1);
        rw1_end_as(&m, 5, &s);
        kl_buf_reset(&refs);
    }
    push_to(0, "t", DM_RW2, m.at, m.size);
    ck_assert_uint_lt(bus.count, 40);
    while (bus.count > 0)
        complete(0, KL_OK);
    ck_assert_msg(pushes[0].status == 413, "%u %s", pushes[0].status, pushes[0].text);
    kl_buf_deinit(&m);
    kl_buf_deinit(&s);
    kl_buf_deinit(&refs);
}
END_TEST

START_TEST(a_tenant_with_too_much_in_flight_is_429_and_others_are_not)
{
    char *large = malloc(40000);

    options.limits.inflight_bytes_max = 50000;
    open_doorman();
    memset(large, '#', 40000);
    memcpy(large, "m 1 1700000000000\n", 18);
    push_to(0, "t", DM_TEXT, large, 40000);            /* waits for its ack: little of it is left */
    push_to(1, "t", DM_TEXT, large, 40000);
    ck_assert_uint_eq(answered, 0);
    options.limits.inflight_bytes_max = 0;
    for (unsigned i = 2; i < 4; i++) {                 /* two at once, before the gate has run */
        struct dm_push *p = &pushes[i];
        *p = (struct dm_push){ .format = DM_TEXT, .tenant = "t", .body_size = 40000, .done = done,
                               .now_ms = kl_env_now_ms(env), .body = malloc(40000) };
        memcpy(p->body, large, 40000);
        dm_push(doorman, 0, p);
    }
    ck_assert_uint_eq(pushes[2].status, 0);
    ck_assert_uint_eq(pushes[3].status, 429);
    ck_assert_uint_gt(pushes[3].retry_after_s, 0);
    push_to(4, "u", DM_TEXT, large, 40000);
    ck_assert_uint_eq(pushes[4].status, 0);
    while (bus.count > 0)
        complete(0, KL_OK);
    ck_assert_uint_eq(answered, 5);
    push_to(5, "t", DM_TEXT, large, 40000);            /* and again, now that it was answered */
    ck_assert_uint_eq(pushes[5].status, 0);
    free(large);
}
END_TEST

START_TEST(a_push_larger_than_its_tenants_bound_passes_when_it_is_alone)
{
    char *large = malloc(40000);

    options.limits.inflight_bytes_max = 1000;
    open_doorman();
    memset(large, '#', 40000);
    memcpy(large, "m 1 1700000000000\n", 18);
    push_to(0, "t", DM_TEXT, large, 40000);
    complete(0, KL_OK);
    ck_assert_uint_eq(pushes[0].status, 204);
    free(large);
}
END_TEST

START_TEST(records_that_wait_for_the_log_count_against_the_bound_of_all)
{
    struct kl_buf m = { 0 };
    unsigned      refused = 0;

    options.inflight_bytes_max = 64 * 1024;
    options.partition_inflight_bytes_max = 16 << 20;
    options.linger_ms = 1;
    open_doorman();
    for (unsigned i = 0; i < PUSHES - 1; i++) {       /* values that do not pack */
        kl_buf_reset(&m);
        message(&m, (double)kl_env_draw(env) / 3, kl_env_now_ms(env) + i);
        push_to(i, "t", DM_RW1, m.at, m.size);
        kl_env_sim_run(sim, 3);
        refused += pushes[i].status == 503;
        if (refused > 0)
            break;
    }
    ck_assert_uint_eq(refused, 1);
    while (bus.count > 0)
        complete(0, KL_OK);
    push_to(PUSHES - 1, "t", DM_RW1, m.at, m.size);
    kl_env_sim_run(sim, 10);
    while (bus.count > 0)
        complete(0, KL_OK);
    ck_assert_uint_eq(pushes[PUSHES - 1].status, 204);
    kl_buf_deinit(&m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("doorman/retry");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_retry_sends_only_what_was_not_acked);
    tcase_add_test(t, a_retry_that_fails_again_is_remembered_on);
    tcase_add_test(t, what_was_refused_the_first_time_is_written_when_the_retry_may_bring_it);
    tcase_add_test(t, a_log_that_is_made_anew_while_a_push_is_under_way_has_nothing_of_it);
    tcase_add_test(t, another_tenant_another_body_and_another_format_are_no_retry);
    tcase_add_test(t, after_two_minutes_or_when_the_log_was_made_anew_all_is_sent_again);
    tcase_add_test(t, samples_that_got_our_time_are_sent_again_whole);
    tcase_add_test(t, a_slow_partition_delays_only_the_pushes_that_touch_it);
    tcase_add_test(t, a_push_that_becomes_more_than_may_be_in_flight_is_413_before_it_does);
    tcase_add_test(t, a_tenant_with_too_much_in_flight_is_429_and_others_are_not);
    tcase_add_test(t, a_push_larger_than_its_tenants_bound_passes_when_it_is_alone);
    tcase_add_test(t, records_that_wait_for_the_log_count_against_the_bound_of_all);
    suite_add_tcase(s, t);
    return run_suite(s);
}
