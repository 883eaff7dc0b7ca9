/* libtsproto/jsonl: series and samples of JSON lines, and where a bad line is bad. */
#include "libtsproto/jsonl.h"

#include "libkoal/base/hist.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct tsp_jsonl *jsonl;
static struct kl_buf     shown;
static struct kl_err     err;
static size_t            cap;

static void setup(void)
{
    jsonl = tsp_jsonl_new();
    kl_buf_init(&shown, 0);
    cap = 64;
}

static void teardown(void)
{
    tsp_jsonl_free(jsonl);
    kl_buf_deinit(&shown);
}

static void put(struct kl_span x) { kl_buf_addf(&shown, "%.*s", (int)x.size, (const char *)x.at); }

static void show_series(struct tsp_jsonl_series *s)
{
    int64_t  times[64], starts[64];
    double   values[64];
    uint64_t bad = 0;
    size_t   n;

    for (size_t i = 0; i < s->labels->count; i++) {
        kl_buf_adds(&shown, i > 0 ? "|" : "");
        put(s->labels->pairs[i].name);
        kl_buf_adds(&shown, "=");
        put(s->labels->pairs[i].value);
    }
    while ((n = tsp_jsonl_walk(s, times, values, starts, cap, &bad)) > 0)
        for (size_t i = 0; i < n; i++) {
            kl_buf_addf(&shown, " %.17g@%lld", values[i], (long long)times[i]);
            if (starts[i] != 0)
                kl_buf_addf(&shown, "since%lld", (long long)starts[i]);
        }
    if (bad > 0)
        kl_buf_addf(&shown, " bad %llu", (unsigned long long)bad);
}

static const char *read_all(const char *body)
{
    struct tsp_jsonl_series s;
    enum tsp_jsonl_item     item;

    kl_buf_reset(&shown);
    tsp_jsonl_open(jsonl, kl_span_str(body));
    while ((item = tsp_jsonl_next(jsonl, &s, &err)) != TSP_JSONL_END) {
        if (item == TSP_JSONL_SERIES)
            show_series(&s);
        else
            kl_buf_adds(&shown, err.text);
        kl_buf_adds(&shown, ";");
    }
    kl_buf_add8(&shown, 0);
    return shown.at;
}

static const struct { const char *body, *says; } good[] = {
    { "", "" },
    { "\n \r\n", "" },
    { "{\"metric\":{\"__name__\":\"up\",\"job\":\"a\"},\"values\":[1,2.5],\"timestamps\":[1000,2000]}\n",
      "__name__=up|job=a 1@1000 2.5@2000;" },
    { "{\"timestamps\":[1],\"metric\":{},\"values\":[1e3]}{\"metric\":{\"a\":\"b\"},\"values\":[],\"timestamps\":[]}",
      " 1000@1;a=b;" },
    { " { \"metric\" : { \"a\" : \"b\" , \"c\" : \"d\" } , \"values\" : [ 1 , -2 ] ,\n \"timestamps\" : [ 1 , -2 ] }",
      "a=b|c=d 1@1 -2@-2;" },
    { "{\"metric\":{\"a\":\"b\"},\"values\":[null,\"NaN\",\"Infinity\",\"-Infinity\",\"+Inf\",\"-Inf\",\"7\"],"
      "\"timestamps\":[1,2,3,4,5,6,7]}", "a=b nan@1 nan@2 inf@3 -inf@4 inf@5 -inf@6 7@7;" },
    { "{\"metric\":{\"a\":\"b\"},\"values\":[1],\"timestamps\":[1.7e12]}", "a=b 1@1700000000000;" },
    { "{\"metric\":{\"a\":\"b\"},\"values\":[1,2,3],\"timestamps\":[5,6,7],\"starts\":[4,0,-3]}",
      "a=b 1@5since4 2@6 3@7since-3;" },
    { "{\"x\":[{\"y\":[1,\"]}\"]},true],\"metric\":{\"a\":\"b\"},\"z\":null,\"values\":[1],\"timestamps\":[2]}",
      "a=b 1@2;" },
    { "{\"metric\":{\"a\\u00e9\\n\":\"\\\"\\\\\\/\\b\\f\\r\\t\\u20ac\\ud83d\\ude00\\ud800x\"},\"values\":[1],\"timestamps\":[2]}",
      "a\xc3\xa9\n=\"\\/\b\f\r\t\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbdx 1@2;" },
    /* one that is no number spoils no other */
    { "{\"metric\":{\"a\":\"b\"},\"values\":[x,2,\"y\",true,5,inf,+7],\"timestamps\":[1,2,3,4,5,6,7]}",
      "a=b 2@2 5@5 bad 5;" },
    { "{\"metric\":{\"a\":\"b\"},\"values\":[1,2,3,4],\"timestamps\":[1.5,\"2\",3,9223372036854775808]}",
      "a=b 3@3 bad 3;" },
};

START_TEST(series_are_read_in_every_spelling)
{
    for (cap = 1; cap <= 64; cap *= 8)                 /* in runs of any length */
        ck_assert_str_eq(read_all(good[_i].body), good[_i].says);
}
END_TEST

#define GOOD "{\"metric\":{\"a\":\"b\"},\"values\":[1],\"timestamps\":[2]}"
static const struct { const char *body, *says; } wrong[] = {
    { "x\n" GOOD, "line 1, column 1: an object should be here;a=b 1@2;" },
    { "[]", "line 1, column 1: an object should be here;" },
    { "{}\n" GOOD, "line 1, column 3: \"metric\", \"values\" and \"timestamps\" belong to a series;a=b 1@2;" },
    { "{\"metric\":{\"a\":\"b\"},\"values\":[1]}",
      "line 1, column 34: \"metric\", \"values\" and \"timestamps\" belong to a series;" },
    { "{\"metric\":{\"a\":\"b\"},\"values\":[1,2],\"timestamps\":[1]}",
      "line 1, column 53: there are as many timestamps as values;" },
    { "{\"metric\":[],\"values\":[1],\"timestamps\":[1]}", "line 1, column 11: \"metric\" should be an object;" },
    { "{\"metric\":{\"a\":1}", "line 1, column 16: a text in quotes should be here;" },
    { "{\"metric\":{\"a\"}", "line 1, column 15: \":\" should be here;" },
    { "{\"metric\":{\"a\":\"b\" \"c\"}", "line 1, column 20: \",\" or \"}\" should be here;" },
    { "{\"metric\":{\"a\":\"b", "line 1, column 18: a quote is not closed;" },
    { "{\"metric\":{\"a\":\"b\\", "line 1, column 19: a quote is not closed;" },
    { "{\"metric\":{\"a\":\"b\nc\"}}\n" GOOD, "line 1, column 18: a control character inside a text;"
      "line 2, column 1: an object should be here;a=b 1@2;" },
    { "{\"metric\":{\"a\":\"\\x\"},\"values\":[],\"timestamps\":[]}", "line 1, column 50: a label with an unknown escape;" },
    { "{\"metric\":{\"a\":\"\\u12g4\"},\"values\":[],\"timestamps\":[]}", "line 1, column 54: a label with an unknown escape;" },
    { "{\"values\":{}}", "line 1, column 11: an array should be here;" },
    { "{\"values\":[1,]}", "line 1, column 14: a value should be here;" },
    { "{\"values\":[,1]}", "line 1, column 12: a value should be here;" },
    { "{\"values\":[[1]]}", "line 1, column 12: a value should be here;" },
    { "{\"values\":[1 2]}", "line 1, column 14: \",\" or \"]\" should be here;" },
    { "{\"values\":[1", "line 1, column 13: \",\" or \"]\" should be here;" },
    { "{\"metric\":{},\"values\":[1],\"timestamps\":[1],\"starts\":[]}",
      "line 1, column 56: there are as many starts as values;" },
    { "{\"metric\":{},\"histograms\":[1]}", "line 1, column 28: an object should be here;" },
    { "{\"metric\":{},\"histograms\":[{\"a\":[1}", "line 1, column 36: the object is not closed;" },
    { "{\"metric\":{},\"histograms\":[{}]", "line 1, column 31: \",\" or \"}\" should be here;" },
    { "{\"x\":}", "line 1, column 6: a value should be here;" },
    { "{\"x\":[", "line 1, column 7: the object is not closed;" },
    { "{", "line 1, column 2: a text in quotes should be here;" },
};

START_TEST(a_bad_object_says_where_and_the_next_line_is_read)
{
    ck_assert_str_eq(read_all(wrong[_i].body), wrong[_i].says);
}
END_TEST

START_TEST(deep_nesting_and_many_labels_are_refused)
{
    struct kl_buf b = { 0 };

    kl_buf_adds(&b, "{\"x\":");
    for (int i = 0; i < 100000; i++)
        kl_buf_adds(&b, "[");
    kl_buf_adds(&b, "\n{\"metric\":{");
    for (int i = 0; i <= KL_LABELS_MAX; i++)
        kl_buf_addf(&b, "%s\"l%d\":\"x\"", i > 0 ? "," : "", i);
    kl_buf_adds(&b, "}}\n{\"metric\":{\"l\":\"");
    for (int i = 0; i < TSP_JSONL_LABELS_MAX; i++)
        kl_buf_adds(&b, "x");
    kl_buf_adds(&b, "\"}}\n" GOOD);
    kl_buf_add8(&b, 0);
    ck_assert_str_eq(read_all(b.at), "line 1, column 38: nested too deep;line 2: more than 256 labels;"
                                     "line 3, column 524306: too many bytes of labels;a=b 1@2;");
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(null_is_the_ordinary_nan_and_the_stale_marker_has_a_text_of_its_own)
{
    struct tsp_jsonl_series s;
    int64_t  time;
    double   value;
    uint64_t bad = 0;

    tsp_jsonl_open(jsonl, kl_span_str("{\"metric\":{},\"values\":[null],\"timestamps\":[1]}"));
    ck_assert_int_eq(tsp_jsonl_next(jsonl, &s, &err), TSP_JSONL_SERIES);
    ck_assert_uint_eq(tsp_jsonl_walk(&s, &time, &value, NULL, 1, &bad), 1);
    ck_assert_uint_eq(kl_f64_bits(value), 0x7ff8000000000001ull);
    tsp_jsonl_open(jsonl, kl_span_str("{\"metric\":{},\"values\":[\"StaleNaN\"],\"timestamps\":[1]}"));
    ck_assert_int_eq(tsp_jsonl_next(jsonl, &s, &err), TSP_JSONL_SERIES);
    ck_assert_uint_eq(tsp_jsonl_walk(&s, &time, &value, NULL, 1, &bad), 1);
    ck_assert(kl_is_stale(value));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("libtsproto/jsonl");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, series_are_read_in_every_spelling, 0, sizeof good / sizeof good[0]);
    tcase_add_loop_test(t, a_bad_object_says_where_and_the_next_line_is_read, 0,
                        sizeof wrong / sizeof wrong[0]);
    tcase_add_test(t, deep_nesting_and_many_labels_are_refused);
    tcase_add_test(t, null_is_the_ordinary_nan_and_the_stale_marker_has_a_text_of_its_own);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
