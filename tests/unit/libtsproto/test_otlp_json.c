/* libtsproto/otlp_json: JSON becomes the message that it stands for, or is refused where it is wrong. */
#include "libtsproto/otlp_json.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libtsproto/otlp.h"
#include "tests/suite.h"
#include "wire.h"

static struct kl_buf out, want, inner, middle;
static struct kl_err err;

static void setup(void)
{
    kl_buf_init(&out, 0);
    kl_buf_init(&want, 0);
    kl_buf_init(&inner, 0);
    kl_buf_init(&middle, 0);
}

static void teardown(void)
{
    kl_buf_deinit(&out);
    kl_buf_deinit(&want);
    kl_buf_deinit(&inner);
    kl_buf_deinit(&middle);
}

static enum kl_code read_json(const char *json)
{
    kl_buf_reset(&out);
    return tsp_otlp_json(kl_span_str(json), &out, &err);
}

/* The fields of the one data point below a message of one metric; `kind` is the metric's field. */
static struct kl_span point_of(uint32_t kind)
{
    static const uint32_t path[] = { 1, 2, 2 };
    struct kl_span at = kl_buf_span(&out);

    for (size_t i = 0; i < 3; i++) {
        struct kl_cur c = tsp_otlp_in(at);
        ck_assert(tsp_otlp_next(&c, path[i], &at));
    }
    for (uint32_t number = kind; number != 0; number = number == kind ? 1 : 0) {
        struct kl_cur c = tsp_otlp_in(at);
        ck_assert(tsp_otlp_next(&c, number, &at));
    }
    return at;
}

#define METRIC(rest) "{\"resourceMetrics\":[{\"scopeMetrics\":[{\"metrics\":[{" rest "}]}]}]}"
#define NUMBER(rest) METRIC("\"gauge\":{\"dataPoints\":[{" rest "}]}")

/* As the point's bytes should be; lengths in them may be written in more bytes than they need. */
static void same(struct kl_span got, const struct kl_buf *wanted)
{
    ck_assert_uint_eq(got.size, wanted->size);
    ck_assert_int_eq(memcmp(got.at, wanted->at, wanted->size), 0);
}

static const char *const numbers[] = {
    NUMBER("\"timeUnixNano\":\"1544712660300000000\",\"asInt\":\"-5\",\"flags\":1"),
    NUMBER("\"timeUnixNano\":1544712660300000000,\"asInt\":-5,\"flags\":\"1\""),
    NUMBER("\"time_unix_nano\":\"1544712660300000000\" , \"as_int\": -5.0 ,\"flags\":1"),
    NUMBER("\"timeUnixNano\":1544712660300000000,\"unknown\":{\"a\":[1,{},null,\"x\"]},\"asInt\":-5,\"asDouble\":null,\"flags\":1"),
};

START_TEST(numbers_come_bare_or_in_quotes_and_names_in_either_case)
{
    ck_assert_msg(read_json(numbers[_i]) == KL_OK, "%s", err.text);
    kl_buf_addv(&want, 3 << 3 | 1);
    kl_buf_add64(&want, 1544712660300000000u);
    kl_buf_addv(&want, 6 << 3 | 1);
    kl_buf_add64(&want, (uint64_t)-5);
    w_varint(&want, 8, 1);
    same(point_of(5), &want);
}
END_TEST

static const struct { const char *text; double is; } doubles[] = {
    { "1.5", 1.5 }, { "-0.25e2", -25 }, { "\"7\"", 7 }, { "\"Infinity\"", (double)INFINITY }, { "\"-Infinity\"", (double)-INFINITY },
    { "1e308", 1e308 }, { "5e-324", 5e-324 },
};

START_TEST(a_double_is_read_exactly)
{
    char json[200];

    snprintf(json, sizeof json, NUMBER("\"asDouble\":%s"), doubles[_i].text);
    ck_assert_msg(read_json(json) == KL_OK, "%s", err.text);
    w_double(&want, 4, doubles[_i].is);
    same(point_of(5), &want);
}
END_TEST

START_TEST(lists_of_numbers_are_packed)
{
    ck_assert_int_eq(read_json(METRIC("\"exponentialHistogram\":{\"dataPoints\":[{\"scale\":-2,\"positive\":"
                                      "{\"offset\":-3,\"bucketCounts\":[\"1\",300]}}]}")), KL_OK);
    w_zigzag(&want, 6, -2);
    ck_assert_int_eq(memcmp(point_of(10).at, want.at, want.size), 0);
    {
        struct kl_cur  c = tsp_otlp_in(point_of(10));
        struct kl_span buckets, counts;
        ck_assert(tsp_otlp_next(&c, 8, &buckets));
        c = tsp_otlp_in(buckets);
        kl_buf_reset(&want);
        w_zigzag(&want, 1, -3);
        ck_assert_int_eq(memcmp(buckets.at, want.at, want.size), 0);
        c.at += want.size;
        ck_assert(tsp_otlp_next(&c, 2, &counts));
        ck_assert(counts.size == 3 && memcmp(counts.at, "\x01\xac\x02", 3) == 0);
    }
}
END_TEST

static const struct { const char *text, *is; } strings[] = {
    { "plain", "plain" }, { "a\\\"\\\\\\/\\b\\f\\n\\r\\tz", "a\"\\/\b\f\n\r\tz" }, { "\\u00e9\\u20AC", "\xc3\xa9\xe2\x82\xac" },
    { "\\ud83d\\ude00", "\xf0\x9f\x98\x80" }, { "\xc3\xa9", "\xc3\xa9" }, { "", "" },
};

START_TEST(a_string_is_what_its_escapes_say)
{
    char                   json[200];
    struct tsp_otlp_metric m;
    struct kl_cur          c;
    struct kl_span         at;

    snprintf(json, sizeof json, METRIC("\"name\":\"%s\""), strings[_i].text);
    ck_assert_msg(read_json(json) == KL_OK, "%s", err.text);
    at = kl_buf_span(&out);
    for (uint32_t i = 0; i < 3; i++) {
        c = tsp_otlp_in(at);
        ck_assert(tsp_otlp_next(&c, i == 0 ? 1 : 2, &at));
    }
    ck_assert(tsp_otlp_metric_read(at, &m));
    ck_assert(kl_span_eq(m.name, kl_span_str(strings[_i].is)));
}
END_TEST

static const char *const wrong[] = {
    "", " ", "[]", "1", "{", "{\"resourceMetrics\":", "{\"resourceMetrics\":[}", "{\"resourceMetrics\":{}}", "{} {}", "{},",
    "{\"a\" 1}", "{\"a\":tru}", "{a:1}", "{\"a\":1,}", NUMBER("\"asInt\":\"x\""), NUMBER("\"asInt\":1.5"), NUMBER("\"asInt\":"),
    NUMBER("\"asInt\":99999999999999999999"), NUMBER("\"asDouble\":\"1x\""), NUMBER("\"asDouble\":0x10"), NUMBER("\"asDouble\":true"),
    METRIC("\"name\":\"\\x\""), METRIC("\"name\":\"\\ud800\""), METRIC("\"name\":\"\\udc00\""), METRIC("\"name\":\"\\u12\""),
    METRIC("\"name\":\"a\nb\""), METRIC("\"name\":\"abc"), METRIC("\"name\":5"), METRIC("\"sum\":{\"isMonotonic\":1}"),
    NUMBER("\"exemplars\":[{\"traceId\":\"0g\"}]"), NUMBER("\"exemplars\":[{\"traceId\":\"012\"}]"),
    NUMBER("\"attributes\":[{\"value\":{\"bytesValue\":\"!\"}}]"), "{\"\\", "{\"a\\u", "nul",
};

START_TEST(what_is_no_json_of_a_message_is_refused)
{
    ck_assert_int_eq(read_json(wrong[_i]), KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "JSON, byte "));
}
END_TEST

START_TEST(values_nested_past_the_bound_are_refused)
{
    char json[400] = "{\"x\":", *at;

    for (int i = 0; i < 2; i++) {
        int depth = TSP_OTLP_JSON_DEPTH_MAX - 1 + i;   /* below the message itself */
        at = json + 5;
        memset(at, '[', (size_t)depth);
        memset(at + depth, ']', (size_t)depth);
        strcpy(at + 2 * depth, "}");
        ck_assert_int_eq(read_json(json), i == 0 ? KL_OK : KL_ELIMIT);
    }
}
END_TEST

START_TEST(a_message_past_its_bound_is_refused)
{
    struct kl_buf small;

    kl_buf_init(&small, 30);
    ck_assert_int_eq(tsp_otlp_json(kl_span_str(numbers[0]), &small, &err), KL_ELIMIT);
    ck_assert_uint_le(small.room, 30);
    kl_buf_deinit(&small);
}
END_TEST

START_TEST(a_body_cut_anywhere_is_refused)
{
    static const char whole[] = METRIC("\"name\":\"\\u00e9\",\"histogram\":{\"dataPoints\":[{\"bucketCounts\":[\"1\",2],"
                                       "\"explicitBounds\":[0.5],\"exemplars\":[{\"spanId\":\"ab\"}]}]}");

    for (size_t n = 0; n < sizeof whole - 1; n++) {
        char *cut = malloc(n + 1);
        memcpy(cut, whole, n);
        kl_buf_reset(&out);
        ck_assert_int_eq(tsp_otlp_json(kl_span(cut, n), &out, &err), KL_EINVAL);
        free(cut);
    }
    ck_assert_int_eq(read_json(whole), KL_OK);
}
END_TEST

#define EACH(list) (int)(sizeof list / sizeof *list)
int main(void)
{
    Suite *s = suite_create("libtsproto/otlp_json");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, numbers_come_bare_or_in_quotes_and_names_in_either_case, 0, EACH(numbers));
    tcase_add_loop_test(t, a_double_is_read_exactly, 0, EACH(doubles));
    tcase_add_test(t, lists_of_numbers_are_packed);
    tcase_add_loop_test(t, a_string_is_what_its_escapes_say, 0, EACH(strings));
    tcase_add_loop_test(t, what_is_no_json_of_a_message_is_refused, 0, EACH(wrong));
    tcase_add_test(t, values_nested_past_the_bound_are_refused);
    tcase_add_test(t, a_message_past_its_bound_is_refused);
    tcase_add_test(t, a_body_cut_anywhere_is_refused);
    suite_add_tcase(s, t);
    return run_suite(s);
}
