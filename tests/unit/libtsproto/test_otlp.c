/*
 * libtsproto/otlp*: OTLP's tree read where it lies, its names as Prometheus', its histograms as native
 * ones. Messages are written as JSON here, which test_otlp_json.c has under its own eye.
 */
#include "libtsproto/otlp.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libtsproto/otlp_answer.h"
#include "libtsproto/otlp_json.h"
#include "libtsproto/otlp_labels.h"
#include "tests/suite.h"

static struct kl_buf            message, text;
static struct kl_labels_builder builder;
static struct kl_arena          arena;
static struct kl_err            err;
static struct tsp_otlp_settings settings;
static struct tsp_otlp_resource resource;
static struct tsp_otlp_scope    scope;
static struct tsp_otlp_metric   metric;
static struct tsp_otlp_point    point;

static void setup(void)
{
    kl_buf_init(&message, 0);
    kl_buf_init(&text, 0);
    kl_arena_init(&arena, 1 << 20);
    kl_labels_start(&builder);
    settings = (struct tsp_otlp_settings){ 0 };
    err = (struct kl_err){ 0 };
}

static void teardown(void)
{
    kl_buf_deinit(&message);
    kl_buf_deinit(&text);
    kl_arena_deinit(&arena);
}

/* Reads the message down to its first data point. */
static void read_first(const char *json)
{
    struct kl_cur  c;
    struct kl_span child;
    bool           delta;

    kl_buf_reset(&message);
    ck_assert_msg(tsp_otlp_json(kl_span_str(json), &message, &err) == KL_OK, "%s", err.text);
    ck_assert_int_eq(tsp_otlp_check(kl_buf_span(&message), &delta, &err), KL_OK);
    c = tsp_otlp_in(kl_buf_span(&message));
    ck_assert(tsp_otlp_next(&c, TSP_OTLP_RESOURCES, &child) && tsp_otlp_resource_read(child, &resource));
    c = tsp_otlp_in(child);
    ck_assert(tsp_otlp_next(&c, TSP_OTLP_SCOPES, &child) && tsp_otlp_scope_read(child, &scope));
    c = tsp_otlp_in(child);
    ck_assert(tsp_otlp_next(&c, TSP_OTLP_METRICS, &child) && tsp_otlp_metric_read(child, &metric));
    c = tsp_otlp_in(metric.data);
    ck_assert(tsp_otlp_next(&c, TSP_OTLP_POINTS, &child));
    ck_assert_msg(tsp_otlp_point_read(metric.kind, child, &point, &err) == KL_OK, "%s", err.text);
}

/* A message of one point, with these attributes of its resource, and the rest of the metric. */
static void read_one(const char *attributes, const char *rest)
{
    kl_buf_reset(&text);
    kl_buf_addf(&text, "{\"resourceMetrics\":[{\"resource\":{\"attributes\":[%s]},\"scopeMetrics\":[{"
                "\"scope\":{\"name\":\"lib\",\"version\":\"2\",\"attributes\":[%s]},\"schemaUrl\":\"u\","
                "\"metrics\":[{\"name\":\"m\",%s}]}]}]}", attributes, "{\"key\":\"k\",\"value\":{\"intValue\":1}}", rest);
    kl_buf_add8(&text, 0);
    read_first(text.at);
}

static enum kl_code point_labels(void)
{
    static struct tsp_otlp_shared shared;

    tsp_otlp_shared(&settings, &resource, &scope, &arena, &shared);
    return tsp_otlp_labels(&settings, &shared, &point, &builder, &arena, &err);
}

#define KV(k, v) "{\"key\":\"" k "\",\"value\":" v "}"
#define STR(k, v) KV(k, "{\"stringValue\":\"" v "\"}")

static bool is(struct kl_span s, const char *t) { return kl_span_eq(s, kl_span_str(t)); }

static const char *label(const char *name)
{
    static char value[1000];

    for (size_t i = 0; i < builder.count; i++)
        if (is(builder.pairs[i].name, name)) {
            snprintf(value, sizeof value, "%.*s", (int)builder.pairs[i].value.size,
                     (const char *)builder.pairs[i].value.at);
            return value;
        }
    return "(none)";
}

/* ---- names ---- */

enum { ES = TSP_OTLP_ESCAPED_SUFFIXED, E = TSP_OTLP_ESCAPED, US = TSP_OTLP_UTF8_SUFFIXED, AS = TSP_OTLP_AS_SENT };
enum { GAUGE = TSP_OTLP_GAUGE, SUM = TSP_OTLP_SUM, COUNTER = 100, HIST = TSP_OTLP_HIST };
static const struct { int naming, kind; const char *name, *unit, *is; } names[] = {
    { ES, COUNTER, "system.io", "By", "system_io_bytes_total" },
    { ES, SUM, "system.io", "By", "system_io_bytes" },
    { ES, GAUGE, "system.filesystem.utilization", "1", "system_filesystem_utilization_ratio" },
    { ES, COUNTER, "orders", "1", "orders_total" },
    { ES, GAUGE, "speed.ratio.of", "1", "speed_of_ratio" },
    { ES, COUNTER, "http_requests_total", "", "http_requests_total" },
    { ES, COUNTER, "total.requests", "", "requests_total" },
    { ES, GAUGE, "network.speed", "MBy/s", "network_speed_megabytes_per_second" },
    { ES, GAUGE, "redis.commands", "{commands}/s", "redis_commands_per_second" },
    { ES, COUNTER, "dropped", "{packets}", "dropped_total" },
    { ES, GAUGE, "used.bytes", "By", "used_bytes" },
    { ES, GAUGE, "with.dots..and--dashes_", "", "with_dots_and_dashes" },
    { ES, GAUGE, "a:b", "", "a:b" },
    { ES, GAUGE, "1xx", "", "_1xx" },
    { ES, GAUGE, "temperature", "\xc2\xb0""F", "temperature_F" },
    { ES, HIST, "lat", "ms", "lat_milliseconds" },
    { ES, GAUGE, "x", "foo/bar", "x_foo_per_bar" },
    { ES, GAUGE, "x", " s ", "x_seconds" },
    { E, COUNTER, "a.b", "By", "a_b" },
    { E, GAUGE, "foo__bar", "s", "foo__bar" },
    { E, GAUGE, "9a", "", "_9a" },
    { US, COUNTER, "a.b", "By", "a.b_bytes_total" },
    { US, COUNTER, "req.total", "", "req_total" },
    { US, GAUGE, "used.bytes", "By", "used.bytes" },
    { US, GAUGE, "gr\xc3\xb6\xc3\x9f""e", "m/s", "gr\xc3\xb6\xc3\x9f""e_meters_per_second" },
    { US, GAUGE, "x.ratio", "1", "x_ratio" },
    { AS, COUNTER, "a.b/c", "By", "a.b/c" },
    { ES, GAUGE, "...", "", NULL }, { E, GAUGE, "\xc3\xb6", "", NULL }, { AS, GAUGE, "", "", NULL },
};

START_TEST(a_metrics_name_is_what_the_strategy_makes_of_it)
{
    struct tsp_otlp_metric m = {
        .name = kl_span_str(names[_i].name), .unit = kl_span_str(names[_i].unit),
        .kind = names[_i].kind == COUNTER ? TSP_OTLP_SUM : (enum tsp_otlp_kind)names[_i].kind,
        .monotonic = names[_i].kind == COUNTER };
    struct kl_span name;
    enum kl_code   code;

    settings.naming = (enum tsp_otlp_naming)names[_i].naming;
    code = tsp_otlp_metric_name(&settings, &m, &arena, &name, &err);
    if (names[_i].is == NULL)
        ck_assert_int_eq(code, KL_EINVAL);
    else
        ck_assert_msg(code == KL_OK && is(name, names[_i].is), "%s became %.*s", names[_i].name,
                      (int)name.size, (const char *)name.at);
}
END_TEST

static const struct { int naming; const char *key, *is; } keys[] = {
    { ES, "http.method", "http_method" }, { ES, "plain_one", "plain_one" }, { ES, "0a", "key_0a" },
    { ES, "_x", "key_x" }, { ES, "__x", "__x" }, { ES, "\xc3\xa9.b", "__b" }, { E, "a-b", "a_b" },
    { US, "http.method", "http.method" }, { AS, "0a", "0a" }, { ES, "", NULL }, { ES, "..", NULL },
};

START_TEST(an_attributes_name_is_what_the_strategy_makes_of_it)
{
    struct kl_span name;
    enum kl_code   code;

    settings.naming = (enum tsp_otlp_naming)keys[_i].naming;
    code = tsp_otlp_label_name(&settings, kl_span_str(keys[_i].key), &arena, &name, &err);
    if (keys[_i].is == NULL)
        ck_assert_int_eq(code, KL_EINVAL);
    else
        ck_assert_msg(code == KL_OK && is(name, keys[_i].is), "%s became %.*s", keys[_i].key, (int)name.size,
                      (const char *)name.at);
}
END_TEST

START_TEST(a_unit_is_told_in_words)
{
    static const struct { const char *unit, *is; } units[] = {
        { "By/s", "bytes_per_second" }, { "1", "" }, { "{x}", "" }, { "{x}/min", "per_min" }, { "Cel", "celsius" },
        { "", "" }, { "KiBy", "kibibytes" },
    };
    struct kl_span name;

    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        ck_assert_int_eq(tsp_otlp_unit_name(kl_span_str(units[i].unit), &arena, &name, &err), KL_OK);
        ck_assert_msg(is(name, units[i].is), "%s became %.*s", units[i].unit, (int)name.size,
                      (const char *)name.at);
    }
}
END_TEST

/* ---- labels ---- */

#define POINT(attributes) "\"gauge\":{\"dataPoints\":[{\"attributes\":[" attributes "],\"asInt\":1}]}"
#define SHOP STR("service.name", "cart") "," STR("service.namespace", "shop") "," STR("service.instance.id", "7") "," \
             STR("host.name", "box")

START_TEST(a_point_has_its_attributes_and_its_resources_identity)
{
    read_one(SHOP, POINT(STR("b.c", "x") "," KV("n", "{\"intValue\":\"-5\"}")));
    ck_assert_int_eq(point_labels(), KL_OK);
    ck_assert_uint_eq(builder.count, 4);
    ck_assert_str_eq(label("b_c"), "x");
    ck_assert_str_eq(label("n"), "-5");
    ck_assert_str_eq(label("job"), "shop/cart");
    ck_assert_str_eq(label("instance"), "7");
}
END_TEST

START_TEST(attributes_that_become_one_label_are_joined_in_the_order_of_their_keys)
{
    read_one("", POINT(STR("a_b", "2") "," STR("a.b", "1") "," STR("a-b", "0")));
    ck_assert_int_eq(point_labels(), KL_OK);
    ck_assert_str_eq(label("a_b"), "0;1;2");
    ck_assert_uint_eq(builder.count, 1);
}
END_TEST

START_TEST(resource_attributes_are_promoted_as_the_options_say)
{
    static const struct { bool all; const char *promoted, *ignored, *host, *zone; } cases[] = {
        { false, "", "", "(none)", "(none)" }, { false, "zone, host.name", "", "mine", "z" },
        { true, "", "", "mine", "z" }, { true, "", "zone", "mine", "(none)" },
    };

    settings.promote_all = cases[_i].all;
    settings.promoted = cases[_i].promoted;
    settings.ignored = cases[_i].ignored;
    read_one(STR("host.name", "box") "," STR("zone", "z"), POINT(STR("q", "1")));
    ck_assert_int_eq(point_labels(), KL_OK);
    ck_assert_str_eq(label("host_name"), strcmp(cases[_i].host, "mine") == 0 ? "box" : "(none)");
    ck_assert_str_eq(label("zone"), cases[_i].zone);
    /* A point's own attribute stays. */
    kl_labels_start(&builder);
    read_one(STR("host.name", "box"), POINT(STR("host_name", "mine")));
    ck_assert_int_eq(point_labels(), KL_OK);
    ck_assert_str_eq(label("host_name"), "mine");
}
END_TEST

START_TEST(a_scope_is_in_the_labels_when_it_is_wanted)
{
    settings.scope_labels = true;
    read_one("", POINT(""));
    ck_assert_int_eq(point_labels(), KL_OK);
    ck_assert_str_eq(label("otel_scope_name"), "lib");
    ck_assert_str_eq(label("otel_scope_version"), "2");
    ck_assert_str_eq(label("otel_scope_schema_url"), "u");
    ck_assert_str_eq(label("otel_scope_k"), "1");
}
END_TEST

START_TEST(target_info_tells_what_else_is_known_of_a_resource)
{
    read_one(SHOP, POINT(""));
    ck_assert_int_eq(tsp_otlp_target_info(&settings, &resource, &builder, &arena, &err), KL_OK);
    ck_assert_uint_eq(builder.count, 4);
    ck_assert_str_eq(label("__name__"), "target_info");
    ck_assert_str_eq(label("host_name"), "box");
    ck_assert_str_eq(label("job"), "shop/cart");
    settings.keep_identifying = true;
    kl_labels_start(&builder);
    ck_assert_int_eq(tsp_otlp_target_info(&settings, &resource, &builder, &arena, &err), KL_OK);
    ck_assert_str_eq(label("service_name"), "cart");
    ck_assert_uint_eq(builder.count, 7);
    kl_labels_start(&builder);
    read_one(STR("service.name", "x"), POINT(""));     /* nothing else */
    ck_assert_int_eq(tsp_otlp_target_info(&settings, &resource, &builder, &arena, &err), KL_ENOENT);
    kl_labels_start(&builder);
    read_one(STR("host.name", "x"), POINT(""));        /* nothing to join by */
    ck_assert_int_eq(tsp_otlp_target_info(&settings, &resource, &builder, &arena, &err), KL_ENOENT);
}
END_TEST

static const struct { const char *value, *is; } values[] = {
    { "{\"stringValue\":\"a\"}", "a" }, { "{\"boolValue\":true}", "true" }, { "{\"boolValue\":false}", "false" },
    { "{\"intValue\":\"9223372036854775807\"}", "9223372036854775807" }, { "{\"doubleValue\":1.5}", "1.5" },
    { "{\"doubleValue\":1e300}", "1e+300" }, { "{\"doubleValue\":1e-9}", "1e-9" }, { "{\"doubleValue\":0}", "0" },
    { "{\"bytesValue\":\"AQID/w==\"}", "AQID/w==" }, { "{\"bytesValue\":\"AQ==\"}", "AQ==" }, { "{}", "" },
    { "{\"arrayValue\":{\"values\":[{\"intValue\":1},{\"stringValue\":\"q\\\"\"},{}]}}", "[1,\"q\\\"\",null]" },
    { "{\"kvlistValue\":{\"values\":[{\"key\":\"b\",\"value\":{\"boolValue\":true}},{\"key\":\"a\",\"value\":"
      "{\"doubleValue\":\"NaN\"}}]}}", "{\"a\":\"NaN\",\"b\":true}" },
};

START_TEST(a_value_is_told_as_text)
{
    kl_buf_reset(&text);
    kl_buf_addf(&text, "\"gauge\":{\"dataPoints\":[{\"attributes\":[{\"key\":\"v\",\"value\":%s}]}]}", values[_i].value);
    kl_buf_add8(&text, 0);
    {
        char *rest = strdup(text.at);
        read_one("", rest);
        free(rest);
    }
    ck_assert_int_eq(point_labels(), KL_OK);
    ck_assert_str_eq(label("v"), values[_i].is);
}
END_TEST

/* An AnyValue: {v} nested so often in lists. Lengths fit a byte. */
static struct kl_span nested(uint8_t *at, size_t room, unsigned depth)
{
    size_t n = 0;

    for (unsigned i = 0; i < depth; i++) {             /* from the innermost out: shift, then wrap twice */
        memmove(at + 4, at, n);
        at[2] = 1 << 3 | 2;                            /* ArrayValue.values */
        at[3] = (uint8_t)n;
        at[0] = 5 << 3 | 2;                            /* AnyValue.array_value */
        at[1] = (uint8_t)(n + 2);
        n += 4;
        ck_assert_uint_lt(n, room);
    }
    return kl_span(at, n);
}

START_TEST(values_nested_past_the_bound_are_refused)
{
    uint8_t        bytes[128];
    struct kl_span out;

    ck_assert_int_eq(tsp_otlp_value_text(nested(bytes, sizeof bytes, TSP_OTLP_DEPTH_MAX), &arena, &out, &err), KL_OK);
    ck_assert(is(out, "[[[[[[[[null]]]]]]]]"));
    ck_assert_int_eq(tsp_otlp_value_text(nested(bytes, sizeof bytes, TSP_OTLP_DEPTH_MAX + 1), &arena, &out, &err),
                     KL_ELIMIT);
}
END_TEST

/* ---- the tree ---- */

START_TEST(equal_attributes_hash_alike_wherever_they_stand_in_the_message)
{
    struct kl_fp first;

    read_one("", "\"gauge\":{\"dataPoints\":[{\"attributes\":[" STR("a", "1") "],\"asInt\":1,\"timeUnixNano\":5}]}");
    first = point.attributes;
    read_one("", "\"gauge\":{\"dataPoints\":[{\"timeUnixNano\":9,\"asDouble\":2,\"attributes\":[" STR("a", "1") "]}]}");
    ck_assert_int_eq(kl_fp_cmp(first, point.attributes), 0);
    read_one("", POINT(STR("a", "2")));
    ck_assert_int_ne(kl_fp_cmp(first, point.attributes), 0);
}
END_TEST

START_TEST(delta_temporality_is_found_wherever_it_stands)
{
    bool delta;

    kl_buf_reset(&message);
    ck_assert_int_eq(tsp_otlp_json(kl_span_str(
        "{\"resourceMetrics\":[{},{\"scopeMetrics\":[{\"metrics\":[{\"name\":\"a\",\"gauge\":{}},"
        "{\"name\":\"b\",\"sum\":{\"dataPoints\":[{}],\"aggregationTemporality\":1}}]}]}]}"), &message, &err), KL_OK);
    ck_assert_int_eq(tsp_otlp_check(kl_buf_span(&message), &delta, &err), KL_OK);
    ck_assert(delta);
}
END_TEST

static const char whole[] =
    "{\"resourceMetrics\":[{\"resource\":{\"attributes\":[" SHOP "]},\"scopeMetrics\":[{\"scope\":{\"name\":\"l\"},"
    "\"metrics\":[{\"name\":\"a\",\"exponentialHistogram\":{\"aggregationTemporality\":2,\"dataPoints\":[{"
    "\"count\":3,\"sum\":1,\"scale\":9,\"positive\":{\"offset\":3,\"bucketCounts\":[1,0,2]},\"exemplars\":[{"
    "\"asDouble\":2,\"traceId\":\"0102\"}]}]}},{\"name\":\"h\",\"histogram\":{\"dataPoints\":[{\"count\":1,"
    "\"bucketCounts\":[1,0],\"explicitBounds\":[5]}]}},{\"name\":\"s\",\"summary\":{\"dataPoints\":[{"
    "\"quantileValues\":[{\"quantile\":1,\"value\":2}]}]}}]}]}]}";

/* Everything that may be asked of a message, whatever it holds. */
static void walk_all(struct kl_span bytes)
{
    struct kl_cur  rs = tsp_otlp_in(bytes), ss, ms, ps, es;
    struct kl_span child;
    struct kl_hist h;
    uint64_t       ns;
    double         v, q;

    while (tsp_otlp_next(&rs, TSP_OTLP_RESOURCES, &child))
        for (ss = tsp_otlp_in(child); tsp_otlp_resource_read(child, &resource) && tsp_otlp_next(&ss, TSP_OTLP_SCOPES, &child); )
            for (ms = tsp_otlp_in(child); tsp_otlp_next(&ms, TSP_OTLP_METRICS, &child); ) {
                if (!tsp_otlp_metric_read(child, &metric) || metric.kind == TSP_OTLP_NONE)
                    continue;
                for (ps = tsp_otlp_in(metric.data); tsp_otlp_next(&ps, TSP_OTLP_POINTS, &child); ) {
                    struct tsp_otlp_exp e;
                    if (tsp_otlp_point_read(metric.kind, child, &point, &err) != KL_OK)
                        continue;
                    (void)tsp_otlp_hist_check(&point, &err);
                    if (tsp_otlp_exp_read(&point, &arena, &e, &err) == KL_OK)
                        (void)tsp_otlp_exp_hist(&e, &arena, &h, &err);
                    for (es = tsp_otlp_in(child); tsp_otlp_exemplar_next(&es, &point, &arena, &builder, &ns, &v, &err); ) { }
                    for (es = tsp_otlp_in(child); tsp_otlp_quantile_next(&es, &q, &v); ) { }
                    kl_labels_start(&builder);
                    (void)point_labels();
                }
            }
}

START_TEST(a_message_cut_anywhere_is_refused_or_shorter)
{
    bool   delta;
    size_t good = 0;

    ck_assert_int_eq(tsp_otlp_json(kl_span_str(whole), &message, &err), KL_OK);
    for (size_t n = 0; n <= message.size; n++) {
        char *cut = malloc(n + 1);                     /* its own memory, so that a reader past its end is seen */
        memcpy(cut, message.at, n);
        good += tsp_otlp_check(kl_span(cut, n), &delta, &err) == KL_OK;
        walk_all(kl_span(cut, n));
        free(cut);
        kl_arena_deinit(&arena);
    }
    ck_assert_uint_eq(good, 2);                        /* nothing, and all */
}
END_TEST

/* ---- histograms ---- */

START_TEST(an_exponential_histogram_is_the_native_one_of_the_same_buckets)
{
    struct tsp_otlp_exp e;
    struct kl_hist      h;

    read_one("", "\"exponentialHistogram\":{\"dataPoints\":[{\"count\":\"9\",\"sum\":20.5,\"scale\":0,\"zeroCount\":2,"
             "\"positive\":{\"offset\":-1,\"bucketCounts\":[0,1,2,0,0,0,0,3]},\"negative\":{\"offset\":2,\"bucketCounts\":[1]}}]}");
    ck_assert_int_eq(tsp_otlp_exp_read(&point, &arena, &e, &err), KL_OK);
    ck_assert_int_eq(tsp_otlp_exp_hist(&e, &arena, &h, &err), KL_OK);
    ck_assert(h.schema == 0 && h.count == 9 && h.sum == 20.5 && h.zero_count == 2 && h.was_int);
    /* OTLP's bucket 0 is (1, 2], the native one's index names the upper bound: 1. */
    ck_assert_uint_eq(h.pos_span_count, 2);
    ck_assert(h.pos_spans[0].offset == 1 && h.pos_spans[0].length == 2);
    ck_assert(h.pos_spans[1].offset == 4 && h.pos_spans[1].length == 1);
    ck_assert(h.pos_count == 3 && h.pos[0] == 1 && h.pos[1] == 2 && h.pos[2] == 3);
    ck_assert(h.neg_span_count == 1 && h.neg_spans[0].offset == 3 && h.neg[0] == 1);
    ck_assert(h.zero_threshold == 1e-128);
}
END_TEST

START_TEST(short_gaps_are_buckets_and_long_ones_are_spans)
{
    struct tsp_otlp_exp e;
    struct kl_hist      h;

    read_one("", "\"exponentialHistogram\":{\"dataPoints\":[{\"count\":3,\"positive\":{\"bucketCounts\":[1,0,0,1,0,0,0,1]}}]}");
    ck_assert_int_eq(tsp_otlp_exp_read(&point, &arena, &e, &err), KL_OK);
    ck_assert_int_eq(tsp_otlp_exp_hist(&e, &arena, &h, &err), KL_OK);
    ck_assert_uint_eq(h.pos_span_count, 2);
    ck_assert(h.pos_spans[0].length == 4 && h.pos_spans[1].offset == 3 && h.pos_spans[1].length == 1);
    ck_assert(h.pos_count == 5 && h.pos[0] == 1 && h.pos[1] == 0 && h.pos[2] == 0 && h.pos[3] == 1 && h.pos[4] == 1);
}
END_TEST

START_TEST(a_finer_scale_than_eight_is_brought_down_to_it)
{
    struct tsp_otlp_exp e;

    /* Scale 10: four buckets are one of scale 8. -5 is in -2, 0..3 in 0, 4 in 1. */
    read_one("", "\"exponentialHistogram\":{\"dataPoints\":[{\"count\":7,\"scale\":10,\"positive\":{\"offset\":-5,"
             "\"bucketCounts\":[1,0,0,0,0,1,1,1,1,2]}}]}");
    ck_assert_int_eq(tsp_otlp_exp_read(&point, &arena, &e, &err), KL_OK);
    ck_assert_int_eq(e.scale, 8);
    ck_assert(e.pos.offset == -2 && e.pos.count == 4);
    ck_assert(e.pos.counts[0] == 1 && e.pos.counts[1] == 0 && e.pos.counts[2] == 4 && e.pos.counts[3] == 2);
}
END_TEST

static const char *const unfit[] = {
    "\"count\":1,\"scale\":-5", "\"count\":2,\"positive\":{\"bucketCounts\":[1]}", "\"count\":\"9007199254740993\"",
    "\"count\":1,\"zeroCount\":1,\"zeroThreshold\":-1", "\"count\":1,\"positive\":{\"offset\":2147483647,\"bucketCounts\":[1]}",
    "\"count\":1,\"zeroCount\":1,\"zeroThreshold\":\"NaN\"",
};

START_TEST(an_exponential_histogram_that_cannot_be_is_refused)
{
    struct tsp_otlp_exp e;
    char                rest[300];

    snprintf(rest, sizeof rest, "\"exponentialHistogram\":{\"dataPoints\":[{%s}]}", unfit[_i]);
    read_one("", rest);
    ck_assert_int_eq(tsp_otlp_exp_read(&point, &arena, &e, &err), KL_EINVAL);
}
END_TEST

static const struct { const char *body; bool good; } explicits[] = {
    { "\"count\":3", true }, { "\"bucketCounts\":[1]", true }, { "\"bucketCounts\":[1,2],\"explicitBounds\":[5]", true },
    { "\"bucketCounts\":[1,2],\"explicitBounds\":[5,6]", false }, { "\"explicitBounds\":[5]", false },
    { "\"bucketCounts\":[1,2,3],\"explicitBounds\":[5,5]", false },
    { "\"bucketCounts\":[1,2,3],\"explicitBounds\":[\"NaN\",5]", false },
    { "\"bucketCounts\":[1,2,3],\"explicitBounds\":[5,\"Infinity\"]", true },
};

START_TEST(explicit_bounds_rise_and_have_a_bucket_each_and_one_more)
{
    char rest[300];

    snprintf(rest, sizeof rest, "\"histogram\":{\"dataPoints\":[{%s}]}", explicits[_i].body);
    read_one("", rest);
    ck_assert_int_eq(tsp_otlp_hist_check(&point, &err), explicits[_i].good ? KL_OK : KL_EINVAL);
}
END_TEST

START_TEST(explicit_buckets_are_a_native_histogram_of_custom_bounds)
{
    static const double bounds[] = { 1, 2, 5 }, counts[] = { 0, 3, 0, 1 };
    struct kl_hist h;

    ck_assert_int_eq(tsp_otlp_custom_hist(bounds, counts, 3, 4, 9.5, &arena, &h, &err), KL_OK);
    ck_assert(h.schema == KL_HIST_CUSTOM && h.bound_count == 3 && h.count == 4 && h.sum == 9.5);
    ck_assert(h.pos_span_count == 1 && h.pos_spans[0].offset == 1 && h.pos_spans[0].length == 3);
    ck_assert(h.pos[0] == 3 && h.pos[1] == 0 && h.pos[2] == 1);
}
END_TEST

START_TEST(an_exemplar_names_its_trace_and_drops_attributes_that_are_too_long)
{
    struct kl_cur c;
    uint64_t      ns;
    double        v;
    char          rest[600], long_value[200];

    memset(long_value, 'x', sizeof long_value);
    long_value[_i == 0 ? 5 : 150] = '\0';
    snprintf(rest, sizeof rest, "\"sum\":{\"dataPoints\":[{\"timeUnixNano\":7,\"asInt\":1,\"exemplars\":[{\"asInt\":\"-3\","
             "\"traceId\":\"5B8EFFF798038103D269B633813FC60C\",\"spanId\":\"0000000000000000\",\"filteredAttributes\":["
             "{\"key\":\"u\",\"value\":{\"stringValue\":\"%s\"}}]}]}]}", long_value);
    read_one("", rest);
    ck_assert_uint_eq(point.exemplar_count, 1);
    c = tsp_otlp_in(point.body);
    ck_assert(tsp_otlp_exemplar_next(&c, &point, &arena, &builder, &ns, &v, &err));
    ck_assert(v == -3 && ns == 7);
    ck_assert_str_eq(label("trace_id"), "5b8efff798038103d269b633813fc60c");
    ck_assert_str_eq(label("span_id"), "(none)");      /* zeros are no id */
    ck_assert_str_eq(label("u"), _i == 0 ? "xxxxx" : "(none)");
    ck_assert(!tsp_otlp_exemplar_next(&c, &point, &arena, &builder, &ns, &v, &err) && err.code == KL_OK);
}
END_TEST

/* ---- answers ---- */

START_TEST(answers_are_told_in_both_encodings)
{
    static const uint8_t partial[] = { 0x0a, 6, 0x08, 3, 0x12, 2, 'n', 'o' };

    tsp_otlp_response(&text, false, 0, kl_span("", 0));
    ck_assert_uint_eq(text.size, 0);
    tsp_otlp_response(&text, false, 3, kl_span_str("no"));
    ck_assert(text.size == sizeof partial && memcmp(text.at, partial, sizeof partial) == 0);
    kl_buf_reset(&text);
    tsp_otlp_response(&text, true, 3, kl_span_str("n\"o"));
    ck_assert(is(kl_buf_span(&text), "{\"partialSuccess\":{\"rejectedDataPoints\":\"3\",\"errorMessage\":\"n\\\"o\"}}"));
    kl_buf_reset(&text);
    tsp_otlp_status(&text, true, TSP_GRPC_UNAVAILABLE, kl_span_str("later"), 2);
    ck_assert(is(kl_buf_span(&text), "{\"code\":14,\"message\":\"later\",\"details\":[{\"@type\":"
                 "\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"2s\"}]}"));
}
END_TEST

#define EACH(list) (int)(sizeof list / sizeof *list)
int main(void)
{
    Suite *s = suite_create("libtsproto/otlp");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, a_metrics_name_is_what_the_strategy_makes_of_it, 0, EACH(names));
    tcase_add_loop_test(t, an_attributes_name_is_what_the_strategy_makes_of_it, 0, EACH(keys));
    tcase_add_test(t, a_unit_is_told_in_words);
    tcase_add_test(t, a_point_has_its_attributes_and_its_resources_identity);
    tcase_add_test(t, attributes_that_become_one_label_are_joined_in_the_order_of_their_keys);
    tcase_add_loop_test(t, resource_attributes_are_promoted_as_the_options_say, 0, 4);
    tcase_add_test(t, a_scope_is_in_the_labels_when_it_is_wanted);
    tcase_add_test(t, target_info_tells_what_else_is_known_of_a_resource);
    tcase_add_loop_test(t, a_value_is_told_as_text, 0, EACH(values));
    tcase_add_test(t, values_nested_past_the_bound_are_refused);
    tcase_add_test(t, equal_attributes_hash_alike_wherever_they_stand_in_the_message);
    tcase_add_test(t, delta_temporality_is_found_wherever_it_stands);
    tcase_add_test(t, a_message_cut_anywhere_is_refused_or_shorter);
    tcase_add_test(t, an_exponential_histogram_is_the_native_one_of_the_same_buckets);
    tcase_add_test(t, short_gaps_are_buckets_and_long_ones_are_spans);
    tcase_add_test(t, a_finer_scale_than_eight_is_brought_down_to_it);
    tcase_add_loop_test(t, an_exponential_histogram_that_cannot_be_is_refused, 0, EACH(unfit));
    tcase_add_loop_test(t, explicit_bounds_rise_and_have_a_bucket_each_and_one_more, 0, EACH(explicits));
    tcase_add_test(t, explicit_buckets_are_a_native_histogram_of_custom_bounds);
    tcase_add_loop_test(t, an_exemplar_names_its_trace_and_drops_attributes_that_are_too_long, 0, 2);
    tcase_add_test(t, answers_are_told_in_both_encodings);
    suite_add_tcase(s, t);
    return run_suite(s);
}
