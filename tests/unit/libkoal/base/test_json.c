/* libkoal/base: numbers and texts as Prometheus' API prints them; metrics as it scrapes them. */
#include "libkoal/base/json.h"
#include "libkoal/base/log.h"
#include "libkoal/base/metrics.h"
#include "tests/suite.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What Go's strconv.FormatFloat(v, 'f', -1, 64) prints. */
static const struct { double v; const char *text; } numbers[] = {
    { 0, "0" }, { -0.0, "-0" }, { 1, "1" }, { -1, "-1" }, { 42, "42" }, { 0.1, "0.1" }, { 0.5, "0.5" },
    { 1.0 / 3, "0.3333333333333333" }, { 2.0 / 3, "0.6666666666666666" }, { 100, "100" },
    { 1e15, "1000000000000000" }, { 1e21, "1000000000000000000000" },
    { 9007199254740993, "9007199254740992" }, { 1152921504606846976, "1152921504606847000" },
    { 123456789.123, "123456789.123" }, { 1e-7, "0.0000001" }, { 1.5e-10, "0.00000000015" },
    { 1435781430.781, "1435781430.781" }, { 0.30000000000000004, "0.30000000000000004" },
    { 299792458.5, "299792458.5" }, { -2.5, "-2.5" }, { NAN, "NaN" }, { INFINITY, "+Inf" },
    { -INFINITY, "-Inf" }, { 999999999999999.9, "999999999999999.9" },
};

START_TEST(a_value_is_printed_as_go_prints_it)
{
    char   text[KL_F64_TEXT_MAX];
    size_t n = kl_f64_text(numbers[_i].v, text);

    ck_assert_msg(n == strlen(numbers[_i].text) && memcmp(text, numbers[_i].text, n) == 0, "%.*s, not %s",
                  (int)n, text, numbers[_i].text);
}
END_TEST

START_TEST(the_smallest_value_takes_323_zeros)
{
    char text[KL_F64_TEXT_MAX];

    ck_assert_uint_eq(kl_f64_text(5e-324, text), 326);
    ck_assert_mem_eq(text, "0.00", 4);
    ck_assert_mem_eq(text + 324, "05", 2);
}
END_TEST

/* splitmix64 */
static uint64_t draw(uint64_t *s)
{
    uint64_t z = *s += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

START_TEST(every_value_reads_back_and_fits_the_buffer)
{
    uint64_t seed = (uint64_t)_i;

    for (int i = 0; i < 20000; i++) {
        uint64_t bits = draw(&seed);
        char     text[KL_F64_TEXT_MAX + 1], shorter[40];
        double   v, back;
        size_t   n;

        if (i % 3 == 0)                                /* decimal fractions, as metrics have */
            v = (double)(int64_t)(bits % 2000000000) / pow(10, (double)(bits >> 60));
        else if (i % 100 == 1)                         /* subnormals */
            bits &= 0x800fffffffffffff, memcpy(&v, &bits, 8);
        else
            memcpy(&v, &bits, 8);
        n = kl_f64_text(v, text);
        ck_assert_uint_le(n, KL_F64_TEXT_MAX);
        text[n] = '\0';
        back = strtod(text, NULL);
        ck_assert_msg(isnan(v) ? isnan(back) : memcmp(&v, &back, 8) == 0, "%s for %a", text, v);
        /* And no shorter one would do. */
        if (isfinite(v) && v != 0) {
            size_t digits = 0, zeros = 0;
            const char *c = text;
            while (*c == '-' || *c == '0' || *c == '.')
                c++;
            for (; *c != '\0'; c++) {
                zeros = *c == '0' ? zeros + 1 : *c == '.' ? zeros : 0;
                digits += *c != '.';
            }
            digits -= zeros;
            if (digits > 1) {
                snprintf(shorter, sizeof shorter, "%.*e", (int)digits - 2, v);
                ck_assert_msg(strtod(shorter, NULL) != v, "%s, but %s does", text, shorter);
            }
        }
    }
}
END_TEST

static const struct { int64_t ms; const char *text; } times[] = {
    { 0, "0" }, { 1435781430781, "1435781430.781" }, { 1500, "1.5" }, { 1000, "1" }, { 10, "0.01" },
    { -1500, "-1.5" }, { -1, "-0.001" }, { INT64_MIN, "-9223372036854775.808" },
};

START_TEST(a_time_is_printed_in_seconds)
{
    struct kl_buf b = { 0 };

    kl_json_ms(&b, times[_i].ms);
    ck_assert(kl_span_eq(kl_buf_span(&b), kl_span_str(times[_i].text)));
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(a_text_is_escaped_and_always_utf8)
{
    struct kl_buf b = { 0 };

    kl_json_str(&b, kl_span("a\"\\\n\r\t\x01\x7f\xc3\xa9\xff\xe2\x82z\0", 15));
    ck_assert(kl_span_eq(kl_buf_span(&b),
        kl_span_str("\"a\\\"\\\\\\n\\r\\t\\u0001\\u007f\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\\u0000\"")));
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(metrics_are_written_by_family_sorted_with_help_and_type)
{
    struct kl_metrics *m = kl_metrics_new();
    struct kl_metric  *c = kl_metrics_add(m, KL_COUNTER, "z_total", "code=\"200\"", "Z.");
    struct kl_metric_hist *h = kl_metrics_hist(m, "m_seconds", "", "M.", (double[]){ 0.5, 1 }, 2);
    struct kl_buf b = { 0 };

    ck_assert_ptr_eq(c, kl_metrics_add(m, KL_COUNTER, "z_total", "code=\"200\"", "Z."));
    kl_metrics_add(m, KL_COUNTER, "z_total", "code=\"500\"", "Z.");
    kl_gauge_set(kl_metrics_add(m, KL_GAUGE, "a", "", "A."), 1.5);
    kl_count(c, 3);
    kl_metric_observe(h, 0.25);
    kl_metric_observe(h, 1);
    kl_metric_observe(h, 9);
    kl_metrics_write(m, &b);
    ck_assert(kl_span_eq(kl_buf_span(&b), kl_span_str(
        "# HELP a A.\n# TYPE a gauge\na 1.5\n"
        "# HELP m_seconds M.\n# TYPE m_seconds histogram\n"
        "m_seconds_bucket{le=\"0.5\"} 1\nm_seconds_bucket{le=\"1\"} 2\nm_seconds_bucket{le=\"+Inf\"} 3\n"
        "m_seconds_sum 10.25\nm_seconds_count 3\n"
        "# HELP z_total Z.\n# TYPE z_total counter\nz_total{code=\"200\"} 3\nz_total{code=\"500\"} 0\n")));
    kl_buf_deinit(&b);
    kl_metrics_free(m);
}
END_TEST

static char     logged[3000];
static unsigned lines;
static void keep(struct kl_log *log, enum kl_level level, const char *line,
                 const struct kl_log_field *fields, size_t field_count)
{
    (void)log, (void)level;
    snprintf(logged, sizeof logged, "%s", line);
    for (size_t i = 0; i < field_count; i++)
        snprintf(logged + strlen(logged), sizeof logged - strlen(logged), " %s=%.*s%d",
                 fields[i].name, (int)fields[i].text.size,
                 fields[i].text.size > 0 ? (const char *)fields[i].text.at : "",
                 (int)fields[i].number);
    lines++;
}

START_TEST(a_log_says_what_is_loud_enough_and_no_log_says_nothing)
{
    struct kl_log log = { .write = keep, .least = KL_WARN };

    lines = 0;
    kl_logf(NULL, KL_ERROR, "nobody hears");
    kl_logf(&log, KL_INFO, "too low");
    ck_assert_uint_eq(lines, 0);
    kl_logf(&log, KL_WARN, "%d apples", 3);
    ck_assert_str_eq(logged, "3 apples");
    kl_log_event(&log, KL_INFO, NULL, 0, "too low");
    kl_log_event(&log, KL_WARN, (struct kl_log_field[]){ kl_log_text("sort", kl_span_str("boskoop")),
                                                         kl_log_number("grams", 200) }, 2, "an apple");
    ck_assert_str_eq(logged, "an apple sort=boskoop0 grams=200");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/base/json");
    TCase *t = tcase_create("all");

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, a_value_is_printed_as_go_prints_it, 0,
                        (int)(sizeof numbers / sizeof numbers[0]));
    tcase_add_test(t, the_smallest_value_takes_323_zeros);
    tcase_add_loop_test(t, every_value_reads_back_and_fits_the_buffer, 0, 3);
    tcase_add_loop_test(t, a_time_is_printed_in_seconds, 0, (int)(sizeof times / sizeof times[0]));
    tcase_add_test(t, a_text_is_escaped_and_always_utf8);
    tcase_add_test(t, metrics_are_written_by_family_sorted_with_help_and_type);
    tcase_add_test(t, a_log_says_what_is_loud_enough_and_no_log_says_nothing);
    suite_add_tcase(s, t);
    return run_suite(s);
}
