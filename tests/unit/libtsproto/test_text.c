/*
 * libtsproto/text: what an exposition says, line by line, and where a bad line is bad.
 */
#include "libtsproto/text.h"

#include "libkoal/base/hist.h"
#include "tests/suite.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tsp_text       *text;
static struct tsp_text_sample s;
static struct tsp_text_meta   meta;
static struct kl_buf          labels, shown;
static struct kl_err          err;

static void setup(void)
{
    text = tsp_text_new();
    kl_buf_init(&labels, 0);
    kl_buf_init(&shown, 0);
}

static void teardown(void)
{
    tsp_text_free(text);
    kl_buf_deinit(&labels);
    kl_buf_deinit(&shown);
}

static enum tsp_text_item next(void) { return tsp_text_next(text, &s, &meta, &err); }

static enum tsp_text_item first(const char *body, bool openmetrics)
{
    tsp_text_open(text, kl_span_str(body), openmetrics);
    return next();
}

static void put(struct kl_span x) { kl_buf_addf(&shown, "%.*s", (int)x.size, (const char *)x.at); }

/* A builder's labels, canonical, as name=value|name=value. */
static const char *show(struct kl_labels_builder *b)
{
    struct kl_cur   c;
    struct kl_label x;

    kl_buf_reset(&labels);
    kl_buf_reset(&shown);
    ck_assert_msg(kl_labels_finish(b, &labels, &err) == KL_OK, "%s", err.text);
    c = kl_labels_cur((struct kl_labels){ .at = (const uint8_t *)labels.at, .size = labels.size });
    while (kl_labels_next(&c, &x)) {
        if (shown.size > 0)
            kl_buf_adds(&shown, "|");
        put(x.name);
        kl_buf_adds(&shown, "=");
        put(x.value);
    }
    kl_buf_add8(&shown, 0);
    return shown.at;
}

static bool is(struct kl_span x, const char *what) { return kl_span_eq(x, kl_span_str(what)); }

START_TEST(a_sample_is_read_in_every_spelling)
{
    static const struct { const char *line, *labels, *raw; double value; bool has_time; int64_t ms; } lines[] = {
        { "up 1\n", "__name__=up", "up", 1, false, 0 },
        { "up 1", "__name__=up", "up", 1, false, 0 },
        { "up 1\r\n", "__name__=up", "up", 1, false, 0 },
        { "\n\n \t\nup\t1 \t\n", "__name__=up", "up", 1, false, 0 },
        { "up{} 1.5 1395066363000\n", "__name__=up", "up{}", 1.5, true, 1395066363000 },
        { "up 1 -62135596800000\n", "__name__=up", "up", 1, true, -62135596800000 },
        { "a:b_c{x=\"1\",y=\"2\"} -1e-3\n", "__name__=a:b_c|x=1|y=2", "a:b_c{x=\"1\",y=\"2\"}", -1e-3, false, 0 },
        { "m {y=\"2\" , x = \"1\",} +Inf\n", "__name__=m|x=1|y=2", "m {y=\"2\" , x = \"1\",}", INFINITY, false, 0 },
        { "m{a=\"C:\\\\D\\\"q\\\"\\n\\t\"}-Inf 3\n", "__name__=m|a=C:\\D\"q\"\n\\t",
          "m{a=\"C:\\\\D\\\"q\\\"\\n\\t\"}", -INFINITY, true, 3 },
        { "{\"my.metric\",\"a.b\"=\"c\"} 7\n", "__name__=my.metric|a.b=c", "{\"my.metric\",\"a.b\"=\"c\"}", 7,
          false, 0 },
        { "{x=\"y\",\"my.metric\"} 7\n", "__name__=my.metric|x=y", "{x=\"y\",\"my.metric\"}", 7, false, 0 },
        { "m{a=\"}# {\"} 7\n", "__name__=m|a=}# {", "m{a=\"}# {\"}", 7, false, 0 },
        { "m{a=\"\xc3\xa9\"} 7\n", "__name__=m|a=\xc3\xa9", "m{a=\"\xc3\xa9\"}", 7, false, 0 },
    };

    ck_assert_msg(first(lines[_i].line, false) == TSP_TEXT_SAMPLE, "%s: %s", lines[_i].line, err.text);
    ck_assert_str_eq(show(s.labels), lines[_i].labels);
    ck_assert(is(s.series_raw, lines[_i].raw));
    ck_assert(s.value == lines[_i].value);
    ck_assert_int_eq(s.has_time, lines[_i].has_time);
    ck_assert_int_eq(s.time_ms, lines[_i].ms);
    ck_assert(!s.has_exemplar && !s.created);
    ck_assert_int_eq(next(), TSP_TEXT_END);
}
END_TEST

/* What strtod says of the same text, to the bit: the fast way and the slow one. */
START_TEST(numbers_are_read_to_the_bit)
{
    static const char *const numbers[] = {
        "0", "-0", "1", "0.1", "-0.3", "123456789.125", "9007199254740993", "9007199254740992", "1e22", "1e23",
        "123e-22", "1.7976931348623157e308", "5e-324", "4.9e-324", "2.2250738585072011e-308", "1e-400",
        "0.000000000000000000000000000001", "00012.50", ".5", "5.", "+7", "1E5", "1e+5",
        "3.14159265358979323846264338327950288", "12345678901234567890123", "1.00000000000000000000000000000",
        "0e99999999999", "8.41e-21", "6.02214076e23", "0.30000000000000004", "179769313486231580e291",
    };
    char line[200];

    snprintf(line, sizeof line, "m %s\n", numbers[_i]);
    ck_assert_msg(first(line, false) == TSP_TEXT_SAMPLE, "%s: %s", numbers[_i], err.text);
    ck_assert_msg(kl_f64_bits(s.value) == kl_f64_bits(strtod(numbers[_i], NULL)), "%s is not %.17g",
                  numbers[_i], s.value);
}
END_TEST

START_TEST(many_numbers_are_read_to_the_bit)
{
    uint64_t seed = 88172645463325252u;
    char     line[64];

    for (int i = 0; i < 20000; i++) {
        double v;
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        v = i % 2 == 0 ? kl_bits_f64(seed) : (double)(int64_t)(seed >> 40) / 1000;
        if (!isfinite(v))
            continue;
        snprintf(line, sizeof line, i % 3 == 0 ? "m %.17g\n" : i % 3 == 1 ? "m %.6e\n" : "m %.3f", v);
        if (strlen(line) > 60)
            continue;
        ck_assert_int_eq(first(line, false), TSP_TEXT_SAMPLE);
        ck_assert_msg(kl_f64_bits(s.value) == kl_f64_bits(strtod(line + 2, NULL)), "%s", line);
    }
}
END_TEST

START_TEST(nan_is_the_ordinary_nan_and_not_the_stale_marker)
{
    ck_assert_int_eq(first("m NaN\n", false), TSP_TEXT_SAMPLE);
    ck_assert_uint_eq(kl_f64_bits(s.value), 0x7ff8000000000001ull);
}
END_TEST

START_TEST(what_is_no_number_is_refused)
{
    static const char *const numbers[] = { "", "x", "1x", "0x10", "0x1p3", "1_000", "1e", "1e+", "--1", "+-1", "e5",
                                           ".", "-", "1e400", "-1e400", "+NaN", "nan(1)", "infinit", "1.2.3", "1,5",
                                           "\xff" };
    char line[64];

    snprintf(line, sizeof line, "m %s\n", numbers[_i]);
    ck_assert_msg(first(line, false) == TSP_TEXT_BAD_LINE, "%s is %g", numbers[_i], s.value);
}
END_TEST

START_TEST(a_bad_line_says_where_and_the_next_is_read)
{
    static const struct { const char *line, *words; } lines[] = {
        { "1up 1", "line 1, column 1: a metric name should be here" },
        { "up-down 1", "line 1, column 3: this cannot be in a metric name" },
        { "up", "line 1, column 3: a number should be here" },
        { "up one", "line 1, column 4: this is not a number" },
        { "up 1 2.5", "line 1, column 6: this is not a timestamp in milliseconds" },
        { "up 1 99999999999999999999", "line 1, column 6: this is not a timestamp in milliseconds" },
        { "up 1 2 3", "line 1, column 8: this does not belong here" },
        { "up{a=\"b} 1", "line 1, column 11: a quote is not closed" },
        { "up{a=\"b\\", "line 1, column 9: a quote is not closed" },
        { "up{a=b} 1", "line 1, column 6: a value in quotes should be here" },
        { "up{a\"b\"} 1", "line 1, column 5: \"=\" should be here" },
        { "up{a=\"b\" c=\"d\"} 1", "line 1, column 10: \",\" or \"}\" should be here" },
        { "up{,} 1", "line 1, column 4: a label name should be here" },
        { "up{a=\"b\",,} 1", "line 1, column 10: a label name should be here" },
        { "up{", "line 1, column 4: a label name should be here" },
        { "up{a=\"\xff\"} 1", "line 1, column 7: text that is not UTF-8" },
        { "{a=\"b\"} 1", "line 1, column 8: a series without a metric name" },
        { "up{\"down\"} 1", "line 1, column 10: a second metric name" },
        { "up 1 # {} 2", "line 1, column 6: this is not a timestamp in milliseconds" },
        { "# TYPE up thing", "line 1, column 11: this is no type of a metric" },
        { "# HELP 1up x", "line 1, column 8: a metric name should be here" },
        { "# HELP up \xff", "line 1, column 12: text that is not UTF-8" },
    };
    char body[128];

    snprintf(body, sizeof body, "%s\nnext 2\n", lines[_i].line);
    ck_assert_int_eq(first(body, false), TSP_TEXT_BAD_LINE);
    ck_assert_int_eq(err.code, KL_EINVAL);
    ck_assert_str_eq(err.text, lines[_i].words);
    ck_assert_int_eq(next(), TSP_TEXT_SAMPLE);
    ck_assert_str_eq(show(s.labels), "__name__=next");
}
END_TEST

START_TEST(metadata_is_read_and_comments_are_passed_over)
{
    ck_assert_int_eq(first("# a comment\n#\n#TYPE up gauge\n# EOF\n#  HELP\tup  two\\nlines \\\\ \\\"q\n"
                           "# TYPE up  gauge \n# HELP \"a.b\" x\n# HELP up\n# UNIT up x\n", false), TSP_TEXT_META);
    ck_assert(meta.has_help && !meta.has_type && !meta.has_unit);
    ck_assert(is(meta.metric, "up") && is(meta.help, "two\nlines \\ \\\"q"));
    ck_assert_int_eq(next(), TSP_TEXT_META);
    ck_assert(meta.has_type && meta.type == TSP_META_GAUGE && !meta.has_help);
    ck_assert_int_eq(next(), TSP_TEXT_META);
    ck_assert(is(meta.metric, "a.b"));
    ck_assert_int_eq(next(), TSP_TEXT_META);
    ck_assert(meta.has_help && is(meta.help, ""));
    ck_assert_int_eq(next(), TSP_TEXT_END);            /* UNIT is OpenMetrics' alone */
}
END_TEST

START_TEST(openmetrics_has_seconds_exemplars_units_and_created)
{
    ck_assert_int_eq(first("# TYPE http_seconds histogram\n# UNIT http_seconds seconds\n"
                           "http_seconds_bucket{le=\"1\"} 17 1520879607.789 # {trace_id=\"abc\"} 0.67 1520879606.3\n"
                           "http_seconds_created 1520430000.123\n"
                           "http_seconds_sum 4 # {} 2\n# EOF\n", true), TSP_TEXT_META);
    ck_assert_uint_eq(meta.type, TSP_META_HISTOGRAM);
    ck_assert_int_eq(next(), TSP_TEXT_META);
    ck_assert(meta.has_unit && is(meta.unit, "seconds"));
    ck_assert_int_eq(next(), TSP_TEXT_SAMPLE);
    ck_assert_str_eq(show(s.labels), "__name__=http_seconds_bucket|le=1");
    ck_assert(s.has_time && s.time_ms == 1520879607789);
    ck_assert(s.has_exemplar && s.exemplar_has_time && s.exemplar_ms == 1520879606300 &&
              s.exemplar_value == 0.67 && !s.created);
    ck_assert_str_eq(show(s.exemplar_labels), "trace_id=abc");
    ck_assert_int_eq(next(), TSP_TEXT_SAMPLE);
    ck_assert(s.created && s.value == 1520430000.123);
    ck_assert_int_eq(next(), TSP_TEXT_SAMPLE);
    ck_assert(s.has_exemplar && !s.exemplar_has_time && s.exemplar_value == 2);
    ck_assert_int_eq(next(), TSP_TEXT_END);
}
END_TEST

START_TEST(openmetrics_without_its_end_says_so_once)
{
    ck_assert_int_eq(first("up 1\n", true), TSP_TEXT_SAMPLE);
    ck_assert_int_eq(next(), TSP_TEXT_BAD_LINE);
    ck_assert_str_eq(err.text, "line 1: the body does not end with # EOF");
    ck_assert_int_eq(next(), TSP_TEXT_END);
    ck_assert_int_eq(first("# EOF\nup 1\n", true), TSP_TEXT_BAD_LINE);
    ck_assert_str_eq(err.text, "line 2, column 1: a line behind # EOF");
    ck_assert_int_eq(next(), TSP_TEXT_END);
}
END_TEST

START_TEST(a_line_past_the_bound_is_refused_and_the_next_is_read)
{
    size_t n = TSP_TEXT_LINE_MAX + 100;
    char  *body = malloc(n + 8);

    memset(body, 'a', n);
    memcpy(body + n, "\nup 1\n", 7);
    ck_assert_int_eq(first(body, false), TSP_TEXT_BAD_LINE);
    ck_assert_int_eq(err.code, KL_ELIMIT);
    ck_assert_int_eq(next(), TSP_TEXT_SAMPLE);
    free(body);
}
END_TEST

START_TEST(more_labels_than_the_bound_are_refused)
{
    struct kl_buf body = { 0 };

    kl_buf_adds(&body, "m{");
    for (int i = 0; i < KL_LABELS_MAX; i++)
        kl_buf_addf(&body, "l%d=\"x\",", i);
    kl_buf_adds(&body, "} 1\n");
    tsp_text_open(text, kl_buf_span(&body), false);
    ck_assert_int_eq(next(), TSP_TEXT_BAD_LINE);
    ck_assert_int_eq(err.code, KL_ELIMIT);
    kl_buf_deinit(&body);
}
END_TEST

START_TEST(a_name_given_twice_is_found_by_finish)
{
    ck_assert_int_eq(first("up{a=\"1\",a=\"2\"} 1\n", false), TSP_TEXT_SAMPLE);
    ck_assert_int_eq(kl_labels_finish(s.labels, &labels, &err), KL_EINVAL);
    ck_assert_int_eq(first("up{__name__=\"x\"} 1\n", false), TSP_TEXT_SAMPLE);
    ck_assert_int_eq(kl_labels_finish(s.labels, &labels, &err), KL_EINVAL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("libtsproto/text");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, a_sample_is_read_in_every_spelling, 0, 13);
    tcase_add_loop_test(t, numbers_are_read_to_the_bit, 0, 31);
    tcase_add_test(t, many_numbers_are_read_to_the_bit);
    tcase_add_test(t, nan_is_the_ordinary_nan_and_not_the_stale_marker);
    tcase_add_loop_test(t, what_is_no_number_is_refused, 0, 21);
    tcase_add_loop_test(t, a_bad_line_says_where_and_the_next_is_read, 0, 22);
    tcase_add_test(t, metadata_is_read_and_comments_are_passed_over);
    tcase_add_test(t, openmetrics_has_seconds_exemplars_units_and_created);
    tcase_add_test(t, openmetrics_without_its_end_says_so_once);
    tcase_add_test(t, a_line_past_the_bound_is_refused_and_the_next_is_read);
    tcase_add_test(t, more_labels_than_the_bound_are_refused);
    tcase_add_test(t, a_name_given_twice_is_found_by_finish);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
