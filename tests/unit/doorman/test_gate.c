/*
 * doorman: what a push becomes in the log, and what it is answered. Simulated time and disk, the local
 * log on them; a reader of the log says what really arrived.
 */
#include "doorman/bootstrap.h"
#include "doorman/doorman.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libtsproto/layout.h"
#include "libtsproto/record.h"
#include "tests/suite.h"

enum { PARTITIONS = 4 };

static struct kl_env_sim      *sim;
static struct kl_env          *env;
static struct kl_env_disk_sim *disk;
static struct kl_env_dir      *root;
static struct kl_bus          *bus;
static struct kl_metrics      *metrics;
static struct dm_doorman      *doorman;
static struct dm_bootstrap    *bootstrap;
static struct kl_env_loop     *loop;
static struct kl_bus_reader    readers[PARTITIONS];
static struct tsp_record_reader *decoder;
static struct kl_err           err;
static unsigned                definitions, samples, records;
static unsigned                defined_in[PARTITIONS], partition;     /* of the record being read */
static struct kl_buf           defined;                /* each definition's labels, as text */
static double                  last_value;
static int64_t                 last_time;

static void show(struct kl_labels l)
{
    struct kl_cur   c = kl_labels_cur(l);
    struct kl_label x;

    while (kl_labels_next(&c, &x))
        kl_buf_addf(&defined, "%.*s=%.*s|", (int)x.name.size, (const char *)x.name.at, (int)x.value.size,
                    (const char *)x.value.at);
    kl_buf_adds(&defined, "\n");
}

static bool was_defined(const char *labels)
{
    kl_buf_add8(&defined, 0);
    defined.size--;
    return strstr(defined.at, labels) != NULL;
}

static void define(void *ctx, struct kl_span tenant, uint64_t ref, struct kl_fp fp, struct kl_labels l)
{
    (void)ctx, (void)ref;
    ck_assert(kl_span_eq(tenant, kl_span_str("t")));
    ck_assert_int_eq(kl_fp_cmp(fp, kl_labels_fp(l)), 0);
    definitions++;
    defined_in[partition]++;
    show(l);
}

static void floats(void *ctx, struct kl_span tenant, uint64_t ref, const int64_t *times,
                   const double *values, size_t n)
{
    (void)ctx, (void)ref, (void)tenant;
    samples += (unsigned)n;
    last_value = values[n - 1];
    last_time = times[n - 1];
}

static void record(struct kl_bus_reader *r, const struct kl_bus_record *rec)
{
    static const struct tsp_record_sink sink = { .define = define, .floats = floats };

    partition = r->partition;
    records++;
    ck_assert_int_eq(tsp_record_read(decoder, rec->bytes, &sink, NULL, &err), KL_OK);
}

static void caught_up(struct kl_bus_reader *r, uint64_t seq) { (void)r, (void)seq; }
static void broken(struct kl_bus_reader *r, enum kl_code code, uint64_t i, uint64_t f,
                   const struct kl_err *e)
{
    (void)r, (void)code, (void)i, (void)f;
    ck_abort_msg("the log broke: %s", e->text);
}

static uint32_t room;                                  /* for partitions; 0: any */

static void start(int64_t linger_ms)
{
    struct kl_bus_local_options bo = { .partitions = PARTITIONS, .metrics = metrics };
    struct dm_options o = {
        .gates = 1, .linger_ms = linger_ms, .inflight_bytes_max = 1 << 20,
        .partition_inflight_bytes_max = 1 << 20, .append_timeout_ms = 1000, .metrics = metrics,
        .influx_db_label = "db", .partitions = room,
        .limits = { .label_count_max = 10, .name_bytes_max = 50, .value_bytes_max = 50,
                    .future_ms = 600000, .past_ms = 3600000 },
    };
    struct tsp_placement *p;

    ck_assert_int_eq(kl_bus_local_open(env, root, &bo, &bus, &err), KL_OK);
    ck_assert_int_eq(dm_placement_parse(NULL, PARTITIONS, &p, &err), KL_OK);
    bootstrap = dm_bootstrap_new(env, bus, p, NULL);
    doorman = dm_new(env, bus, &o);
    loop = env->sched->loop_new(env->sched, "test", 100);
    kl_env_sim_run(sim, 100);
    for (unsigned i = 0; i < PARTITIONS; i++) {
        readers[i] = (struct kl_bus_reader){ .partition = i, .from_seq = 1, .loop = loop,
            .record = record, .caught_up = caught_up, .broken = broken };
        bus->read_open(bus, &readers[i]);
    }
    ck_assert(dm_ready(doorman, &err));
}

static void setup(void)
{
    sim = kl_env_sim_new(1);
    env = kl_env_sim_env(sim);
    disk = kl_env_disk_sim_new();
    root = kl_env_disk_sim_root(disk);
    metrics = kl_metrics_new();
    decoder = tsp_record_reader_new();
    definitions = samples = records = 0;
    memset(defined_in, 0, sizeof defined_in);
    kl_buf_reset(&defined);
}

static void teardown(void)
{
    bus->close(bus);
    dm_free(doorman);
    dm_bootstrap_free(bootstrap);
    env->sched->loop_free(loop);
    bus->free(bus);
    root->leave(root);
    kl_env_disk_sim_free(disk);
    kl_metrics_free(metrics);
    tsp_record_reader_free(decoder);
    kl_env_sim_free(sim);
    kl_buf_deinit(&defined);
}

static unsigned answered;
static void done(struct dm_push *p) { (void)p; answered++; }

/* Hands a text push over without waiting for it. */
static void begin(struct dm_push *p, const char *text)
{
    *p = (struct dm_push){ .format = DM_TEXT, .tenant = "t", .body_size = strlen(text),
                           .now_ms = kl_env_now_ms(env), .done = done };
    p->body = malloc(p->body_size + 1);
    memcpy(p->body, text, p->body_size);
    dm_push(doorman, 0, p);
}

static unsigned push(const char *text)
{
    struct dm_push p;

    answered = 0;
    begin(&p, text);
    kl_env_sim_run(sim, 5000);
    ck_assert_uint_eq(answered, 1);
    return p.status;
}

START_TEST(a_push_is_answered_204_when_the_log_has_its_samples)
{
    start(0);
    ck_assert_uint_eq(push("a{x=\"1\"} 1\nb 2\nc 3\n"), 204);
    ck_assert_uint_eq(samples, 3);
    ck_assert_uint_eq(definitions, 3);
}
END_TEST

START_TEST(a_definition_is_not_repeated_once_it_was_acked_until_an_hour_has_passed)
{
    start(0);
    ck_assert_uint_eq(push("a 1\n"), 204);
    ck_assert_uint_eq(push("a 2\n"), 204);
    ck_assert_uint_eq(samples, 2);
    ck_assert_uint_eq(definitions, 1);
    kl_env_sim_run(sim, 3700 * 1000);
    ck_assert_uint_eq(push("a 3\n"), 204);
    ck_assert_uint_eq(definitions, 2);
}
END_TEST

START_TEST(every_record_carries_a_definition_until_it_is_acked)
{
    struct dm_push p[2];

    start(0);
    answered = 0;
    begin(&p[0], "a 1\n");
    begin(&p[1], "a 2\n");
    kl_env_sim_run(sim, 1000);
    ck_assert_uint_eq(answered, 2);
    ck_assert_uint_eq(definitions, records);
}
END_TEST

START_TEST(pushes_within_a_linger_share_a_record)
{
    struct dm_push p[5];

    start(20);
    answered = 0;
    for (int i = 0; i < 5; i++)
        begin(&p[i], "a 1\n");
    kl_env_sim_run(sim, 1000);
    ck_assert_uint_eq(answered, 5);
    ck_assert_uint_eq(records, 1);
    ck_assert_uint_eq(definitions, 1);
    ck_assert_uint_eq(samples, 5);
}
END_TEST

START_TEST(the_good_part_is_stored_and_the_bad_is_counted_and_named)
{
    struct dm_push p;

    start(0);
    answered = 0;
    begin(&p, "good 1\nold 1 1000\nlong{a=\"" "0123456789012345678901234567890123456789012345678901234567890"
              "\"} 1\nalso_good 2\n");
    kl_env_sim_run(sim, 1000);
    ck_assert_uint_eq(answered, 1);
    ck_assert_uint_eq(p.status, 400);
    ck_assert_uint_eq(samples, 2);
    ck_assert_uint_eq(p.refused, 2);
    ck_assert_ptr_nonnull(strstr(p.text, "2 refused"));
    ck_assert_ptr_nonnull(strstr(p.text, "old"));
    ck_assert_ptr_nonnull(strstr(p.text, "limits.value_bytes_max"));
}
END_TEST

START_TEST(a_disk_that_fails_gives_503_and_never_204)         /* each call of the disk in turn */
{
    unsigned status;

    start(0);
    ck_assert_uint_eq(push("a 1\n"), 204);
    kl_env_disk_sim_fail(disk, (uint64_t)_i, KL_EIO);
    status = push("a 2\n");
    kl_env_sim_run(sim, 1000);
    if (status == 204)
        ck_assert_double_eq(last_value, 2);
    else
        ck_assert_uint_eq(status, 503);
}
END_TEST

static char *comments(size_t size)
{
    char *text = malloc(size + 1);

    for (size_t i = 0; i < size; i++)
        text[i] = i % 100 == 99 ? '\n' : '#';
    text[size] = '\0';
    return text;
}

START_TEST(too_much_in_flight_is_refused_with_503_at_once)
{
    struct dm_push p[2];
    char          *text = comments(600 << 10);

    start(0);
    answered = 0;
    begin(&p[0], text);
    ck_assert_uint_eq(answered, 0);
    begin(&p[1], text);
    ck_assert_uint_eq(answered, 1);                    /* before any loop has run */
    ck_assert_uint_eq(p[1].status, 503);
    ck_assert_uint_gt(p[1].retry_after_s, 0);
    kl_env_sim_run(sim, 100);
    ck_assert_uint_eq(p[0].status, 204);
    free(text);
}
END_TEST

START_TEST(a_push_that_is_larger_than_all_that_may_be_in_flight_is_413_since_it_can_never_pass)
{
    struct dm_push p;
    char          *text = comments((1 << 20) + 1);

    start(0);
    answered = 0;
    begin(&p, text);
    ck_assert_uint_eq(answered, 1);
    ck_assert_uint_eq(p.status, 413);
    ck_assert_uint_eq(p.retry_after_s, 0);
    text[1 << 20] = '\0';
    ck_assert_uint_eq(push(text), 204);
    free(text);
}
END_TEST

static unsigned push_as(enum dm_format format, const struct dm_import *import, const char *text)
{
    struct dm_push p;

    answered = 0;
    p = (struct dm_push){ .format = format, .tenant = "t", .import = *import, .body_size = strlen(text),
                          .now_ms = kl_env_now_ms(env), .done = done };
    p.body = malloc(p.body_size + 1);
    memcpy(p.body, text, p.body_size);
    dm_push(doorman, 0, &p);
    kl_env_sim_run(sim, 100);
    ck_assert_uint_eq(answered, 1);
    return p.status;
}

START_TEST(influx_fields_are_metrics_of_measurement_and_field_with_the_database_as_a_label)
{
    struct dm_import import = { .db = kl_span_str("d") }, other = { .db = kl_span_str("e") };

    start(0);
    for (int i = 0; i < 2; i++) {                      /* the second time they are remembered */
        ck_assert_uint_eq(push_as(DM_INFLUX, &import,
            "cpu,host=a\\ b load\\ 1=1,value=2i,s=\"x\"\nmem,db=own free=3\n"), 204);
        ck_assert_uint_eq(samples, 3 * ((unsigned)i + 1));
        ck_assert_uint_eq(definitions, 3);
    }
    ck_assert(was_defined("__name__=cpu_load 1|db=d|host=a b|\n"));
    ck_assert(was_defined("__name__=cpu_value|db=d|host=a b|\n"));
    ck_assert(was_defined("__name__=mem_free|db=own|\n"));
    ck_assert_uint_eq(push_as(DM_INFLUX, &other, "cpu,host=a\\ b value=5i\n"), 204);
    ck_assert(was_defined("__name__=cpu_value|db=e|host=a b|\n"));    /* the same bytes, another series */
    ck_assert_double_eq(last_value, 5);
}
END_TEST

/* Labels are put in order when a series is read: the metric's name need not be the first then. */
START_TEST(a_tag_that_sorts_before_the_name_stays_as_it_is_in_every_field_and_column)
{
    struct dm_import       import = { 0 };
    struct tsp_csv_format *csv;

    start(0);
    ck_assert_uint_eq(push_as(DM_INFLUX, &import, "cpu,Host=a,DC=x load=1,value=2,rate=3\n"), 204);
    ck_assert(was_defined("DC=x|Host=a|__name__=cpu_load|\n"));
    ck_assert(was_defined("DC=x|Host=a|__name__=cpu_value|\n"));
    ck_assert(was_defined("DC=x|Host=a|__name__=cpu_rate|\n"));
    ck_assert_int_eq(tsp_csv_format_parse("1:label:Host,2:metric:a,3:metric:b", &csv, &err), KL_OK);
    import.csv = csv;
    ck_assert_uint_eq(push_as(DM_CSV, &import, "x,1,2\n"), 204);
    tsp_csv_format_free(csv);
    ck_assert(was_defined("Host=x|__name__=a|\n"));
    ck_assert(was_defined("Host=x|__name__=b|\n"));
    ck_assert_uint_eq(definitions, 5);
}
END_TEST

START_TEST(influx_times_are_in_the_unit_that_the_sender_says)
{
    static const struct { int64_t unit_ns, unit_per_s; } units[] = {
        { 0, 1000000000 }, { 1, 1000000000 }, { 1000, 1000000 }, { 1000000, 1000 }, { 1000000000, 1 },
    };
    char text[100];

    start(0);
    for (unsigned i = 0; i < 5; i++) {
        struct dm_import import = { .unit_ns = units[i].unit_ns };
        snprintf(text, sizeof text, "m f=1 %lld\n",
                 (long long)(kl_env_now_ms(env) / 1000 * units[i].unit_per_s));
        ck_assert_uint_eq(push_as(DM_INFLUX, &import, text), 204);
        ck_assert_int_eq(last_time, kl_env_now_ms(env) / 1000 * 1000);
    }
    ck_assert_uint_eq(push_as(DM_INFLUX, &(struct dm_import){ .unit_ns = INT64_C(3600000000000) },
                              "m f=1 9223372036854775807\nm f=1 -9223372036854775808\n"), 400);
    ck_assert_uint_eq(samples, 5);
}
END_TEST

static struct kl_bus_kv   kv;
static struct kl_env_task putting;
static void put_done(struct kl_bus_kv *op) { ck_assert_int_eq(op->code, KL_OK); }
static void put(struct kl_env_task *t) { (void)t; bus->kv(bus, &kv); }

static unsigned partitions_used(void)
{
    unsigned used = 0;

    for (int i = 0; i < PARTITIONS; i++)
        used += defined_in[i] > 0;
    return used;
}

START_TEST(a_spread_moves_series_when_it_begins_and_not_before)
{
    struct tsp_layout *l = tsp_layout_new();
    struct tsp_spread  spread = { kl_span_str("t"), kl_span_str("m"), 2, 0 };
    struct kl_buf      value = { 0 };
    char               text[2000];
    size_t             n = 0, added;
    uint64_t           expect;

    start(0);
    for (int i = 0; i < 50; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "m{n=\"%d\"} 1\n", i);
    ck_assert_uint_eq(push(text), 204);
    ck_assert_uint_eq(partitions_used(), 1);
    spread.valid_from_ms = kl_env_now_ms(env) + 60000;
    ck_assert_int_eq(tsp_layout_add(l, tsp_spread_number(spread.tenant, spread.metric), &spread, 1, &value,
                                    &added, &expect, &err), KL_OK);
    kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_PUT, .value = kl_buf_span(&value), .expect = 0,
                             .loop = loop, .done = put_done };
    tsp_spread_key(tsp_spread_number(spread.tenant, spread.metric), kv.key, sizeof kv.key);
    putting.run = put;
    env->sched->post(loop, &putting);
    kl_env_sim_run(sim, 1000);
    ck_assert_uint_eq(push(text), 204);                /* known, but not yet in use */
    ck_assert_uint_eq(definitions, 50);
    ck_assert_uint_eq(partitions_used(), 1);
    kl_env_sim_run(sim, 60000);
    ck_assert_uint_eq(push(text), 204);
    ck_assert_uint_eq(partitions_used(), 4);
    ck_assert_uint_gt(definitions, 75);                /* those that moved, and only those */
    ck_assert_uint_lt(definitions, 100);
    ck_assert_uint_eq(samples, 150);
    n = definitions;
    ck_assert_uint_eq(push(text), 204);
    ck_assert_uint_eq(definitions, n);
    kl_buf_deinit(&value);
    tsp_layout_free(l);
}
END_TEST

static void put_table(const struct tsp_placement *t)
{
    static struct kl_buf value;

    kl_buf_reset(&value);
    ck_assert_int_eq(tsp_placement_encode(t, &value, &err), KL_OK);
    kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_PUT, .key = TSP_PLACEMENT_KEY, .value = kl_buf_span(&value),
                             .expect = UINT64_MAX, .loop = loop, .done = put_done };
    putting.run = put;
    env->sched->post(loop, &putting);
    kl_env_sim_run(sim, 1000);
}

/* The clock of this doorman is ten years behind that of whoever decided it. */
START_TEST(a_split_begins_in_its_time_or_an_hour_after_it_was_heard_of)
{
    struct tsp_placement *t = tsp_placement_new(PARTITIONS / 2);
    const char           *who = "ingestor-0";
    char                  text[4000];
    size_t                n = 0;

    start(0);
    for (uint32_t p = 0; p < PARTITIONS / 2; p++)
        ck_assert_int_eq(tsp_placement_assign(t, p, &who, 1, &err), KL_OK);
    tsp_placement_set_revision(t, 1000);
    ck_assert_int_eq(tsp_placement_split(t, kl_env_now_ms(env) + INT64_C(315576000000), &err), KL_OK);
    put_table(t);
    for (int i = 0; i < 50; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "m%d 1\n", i);
    ck_assert_uint_eq(push(text), 204);
    ck_assert_uint_eq(partitions_used(), PARTITIONS / 2);
    kl_env_sim_run(sim, 3500 * 1000);
    ck_assert_uint_eq(push(text), 204);
    ck_assert_uint_eq(partitions_used(), PARTITIONS / 2);
    kl_env_sim_run(sim, 200 * 1000);
    ck_assert_uint_eq(push(text), 204);
    ck_assert_uint_eq(partitions_used(), PARTITIONS);
    ck_assert_uint_eq(samples, 150);
    tsp_placement_free(t);
}
END_TEST

START_TEST(a_table_of_more_partitions_than_there_is_room_for_refuses_all_until_one_comes_that_fits)
{
    struct tsp_placement *t = tsp_placement_new(2 * PARTITIONS), *fits = tsp_placement_new(PARTITIONS);
    const char           *who = "ingestor-0";

    room = PARTITIONS;
    start(0);
    room = 0;
    for (uint32_t p = 0; p < 2 * PARTITIONS; p++) {
        ck_assert_int_eq(tsp_placement_assign(t, p, &who, 1, &err), KL_OK);
        if (p < PARTITIONS)
            ck_assert_int_eq(tsp_placement_assign(fits, p, &who, 1, &err), KL_OK);
    }
    tsp_placement_set_revision(t, 1000);
    tsp_placement_set_revision(fits, 1001);
    ck_assert_uint_eq(push("m 1\n"), 204);
    put_table(t);
    ck_assert_uint_eq(push("m 2\n"), 503);
    ck_assert(!dm_ready(doorman, &err));
    ck_assert_str_eq(err.text, "doorman: there are 8 partitions and room for 4: restart it with partitions: 8");
    put_table(fits);
    ck_assert_uint_eq(push("m 3\n"), 204);
    tsp_placement_free(t);
    tsp_placement_free(fits);
}
END_TEST

START_TEST(rows_and_objects_of_one_series_share_its_definition)
{
    struct dm_import       import = { 0 };
    struct tsp_csv_format *csv;

    start(0);
    ck_assert_int_eq(tsp_csv_format_parse("1:label:l,2:metric:a,3:metric:b", &csv, &err), KL_OK);
    import.csv = csv;
    ck_assert_uint_eq(push_as(DM_CSV, &import, "x,1,2\nx,3,\ny,4,5\n"), 204);
    tsp_csv_format_free(csv);
    ck_assert_uint_eq(samples, 5);
    ck_assert_uint_eq(definitions, 4);
    ck_assert(was_defined("__name__=b|l=y|\n"));
    ck_assert_uint_eq(push_as(DM_JSONL, &import, "{\"metric\":{\"__name__\":\"j\"},\"values\":[1,2],"
        "\"timestamps\":[1700000000000,1700000001000]}{\"metric\":{\"__name__\":\"j\"},\"values\":[null],"
        "\"timestamps\":[1700000002000]}"), 204);
    ck_assert_uint_eq(samples, 8);
    ck_assert_uint_eq(definitions, 5);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("doorman/gate");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_push_is_answered_204_when_the_log_has_its_samples);
    tcase_add_test(t, a_definition_is_not_repeated_once_it_was_acked_until_an_hour_has_passed);
    tcase_add_test(t, every_record_carries_a_definition_until_it_is_acked);
    tcase_add_test(t, pushes_within_a_linger_share_a_record);
    tcase_add_test(t, the_good_part_is_stored_and_the_bad_is_counted_and_named);
    tcase_add_loop_test(t, a_disk_that_fails_gives_503_and_never_204, 1, 5);
    tcase_add_test(t, too_much_in_flight_is_refused_with_503_at_once);
    tcase_add_test(t, a_push_that_is_larger_than_all_that_may_be_in_flight_is_413_since_it_can_never_pass);
    tcase_add_test(t, influx_fields_are_metrics_of_measurement_and_field_with_the_database_as_a_label);
    tcase_add_test(t, a_tag_that_sorts_before_the_name_stays_as_it_is_in_every_field_and_column);
    tcase_add_test(t, influx_times_are_in_the_unit_that_the_sender_says);
    tcase_add_test(t, a_spread_moves_series_when_it_begins_and_not_before);
    tcase_add_test(t, a_split_begins_in_its_time_or_an_hour_after_it_was_heard_of);
    tcase_add_test(t, a_table_of_more_partitions_than_there_is_room_for_refuses_all_until_one_comes_that_fits);
    tcase_add_test(t, rows_and_objects_of_one_series_share_its_definition);
    suite_add_tcase(s, t);
    return run_suite(s);
}
