/* libtsproto/csv: formats, rows, times, and where a bad row is bad. */
#include "libtsproto/csv.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct tsp_csv *csv;
static struct kl_buf   shown;
static struct kl_err   err;

static void setup(void)
{
    csv = tsp_csv_new();
    kl_buf_init(&shown, 0);
}

static void teardown(void)
{
    tsp_csv_free(csv);
    kl_buf_deinit(&shown);
}

static void put(struct kl_span x) { kl_buf_addf(&shown, "%.*s", (int)x.size, (const char *)x.at); }

static void show_row(const struct tsp_csv_row *row)
{
    struct tsp_csv_cell cell;
    enum tsp_csv_value  what;

    for (size_t i = 1; i < row->labels->count; i++) {
        kl_buf_adds(&shown, i > 1 ? "|" : "");
        put(row->labels->pairs[i].name);
        kl_buf_adds(&shown, "=");
        put(row->labels->pairs[i].value);
    }
    while ((what = tsp_csv_metric(csv, &cell, &err)) != TSP_CSV_NO_MORE) {
        kl_buf_adds(&shown, " ");
        put(cell.metric);
        if (what == TSP_CSV_NUMBER)
            kl_buf_addf(&shown, "=%.17g", cell.value);
        else
            kl_buf_addf(&shown, "=(%s)", err.text);
    }
    if (row->has_time)
        kl_buf_addf(&shown, " @%lld", (long long)row->time_ms);
}

static const char *read_all(const char *format, const char *body)
{
    struct tsp_csv_format *f;
    struct tsp_csv_row     row;
    enum tsp_csv_item      item;

    kl_buf_reset(&shown);
    ck_assert_msg(tsp_csv_format_parse(format, &f, &err) == KL_OK, "%s", err.text);
    tsp_csv_open(csv, kl_span_str(body), f);
    while ((item = tsp_csv_next(csv, &row, &err)) != TSP_CSV_END) {
        if (item == TSP_CSV_ROW)
            show_row(&row);
        else
            kl_buf_adds(&shown, err.text);
        kl_buf_adds(&shown, ";");
    }
    tsp_csv_format_free(f);
    kl_buf_add8(&shown, 0);
    return shown.at;
}

static const struct { const char *format, *body, *says; } good[] = {
    { "2:metric:ask,3:metric:bid,1:label:ticker,4:time:unix_s", "GOOG,1.25,4.5,1560904000\nMSFT,1,2,3\n",
      "ticker=GOOG ask=1.25 bid=4.5 @1560904000000;ticker=MSFT ask=1 bid=2 @3000;" },
    { "1:metric:m", "1\r\n\r\n2\n\n3", " m=1; m=2; m=3;" },
    { "1:metric:m", "", "" },
    { "1:metric:m,3:label:l", "1,ignored,x,more", "l=x m=1;" },
    { "1:label:a,2:label:b,3:metric:m", "\"x,\"\"y\"\"\nz\",,7\n\"\",\"\",8", "a=x,\"y\"\nz|b= m=7;a=|b= m=8;" },
    { "1:metric:a,2:metric:b,3:metric:c", "1,,x\n,\"5\",NaN", " a=1 c=(line 1, column 4: this is not a number); b=5 c=nan;" },
    { "1:metric:a:b,2:time:unix_ms", "1,-7", " a:b=1 @-7;" },
    { "1:metric:a,2:time:unix_s", "1,1.0005", " a=1 @1001;" },
    { "1:metric:a,2:time:unix_ns", "1,1500000\n1,-1", " a=1 @1; a=1 @-1;" },
    { "1:metric:a,2:time:rfc3339", "1,2024-02-29T23:59:59Z\n1,1970-01-01T00:00:00.123456+01:30\n1,1969-12-31T23:59:59.9-00:00",
      " a=1 @1709251199000; a=1 @-5399877; a=1 @-100;" },
    { "1:metric:a,2:time:custom:2006-01-02 15:04:05", "1,2001-09-09 01:46:40", " a=1 @1000000000000;" },
    { "1:metric:a,2:time:custom:Mon Jan _2 3:04:05PM MST 2006", "1,Sun Sep  9 1:46:40AM UTC 2001", " a=1 @1000000000000;" },
    { "1:metric:a,2:time:custom:02/January/06 15h4m5s -0700", "1,09/september/01 03h46m40s +0200", " a=1 @1000000000000;" },
    { "1:metric:a,2:time:custom:20060102150405.000", "1,20010909014640.250", " a=1 @1000000000250;" },
};

START_TEST(rows_are_read_by_their_format)
{
    ck_assert_str_eq(read_all(good[_i].format, good[_i].body), good[_i].says);
}
END_TEST

#define TIMED "1:metric:a,2:time:rfc3339"
static const struct { const char *format, *body, *says; } wrong[] = {
    { "3:metric:m", "1,2\n1,2,3", "line 1, column 4: fewer columns than the format names; m=3;" },
    { "1:metric:m", "\"1\n2\n", "line 3, column 6: a quote is not closed;" },
    { "1:metric:m", "\"1\"x\n2", "line 1, column 4: a comma should follow a quote; m=2;" },
    { "1:time:unix_s,2:metric:m", "soon,1\n5,2", "line 1, column 1: this is not a time of the format; m=2 @5000;" },
    { "1:time:unix_s,2:metric:m", "9223372036854775807,1", "line 1, column 1: this is not a time of the format;" },
    { TIMED, "1,2023-02-29T00:00:00Z", "line 1, column 3: this is not a time of the format;" },
    { TIMED, "1,2023-13-01T00:00:00Z", "line 1, column 3: this is not a time of the format;" },
    { TIMED, "1,2023-01-01T24:00:00Z", "line 1, column 3: this is not a time of the format;" },
    { TIMED, "1,2023-01-01T00:00:00", "line 1, column 3: this is not a time of the format;" },
    { TIMED, "1,2023-01-01T00:00:00Zx", "line 1, column 3: this is not a time of the format;" },
    { TIMED, "1,2023-1-01T00:00:00Z", "line 1, column 3: this is not a time of the format;" },
    { TIMED, "1,", "line 1, column 3: this is not a time of the format;" },
    { "1:metric:a,2:time:custom:15:04 MST", "1,12:00 PST", "line 1, column 3: this is not a time of the format;" },
};

START_TEST(a_bad_row_says_where_and_the_next_is_read)
{
    ck_assert_str_eq(read_all(wrong[_i].format, wrong[_i].body), wrong[_i].says);
}
END_TEST

static const char *const unfit[] = {
    "", ",", "1", "1:metric", "1:metric:", "0:metric:a", "-1:metric:a", "x:metric:a", "1025:metric:a",
    "1:label:a", "1:time:unix_s", "1:metric:a,1:label:b", "1:metric:a,2:time:unix_s,3:time:unix_s",
    "1:metric:a,2:time:unix", "1:metric:a,2:time:custom:", "1:metric:a,2:time:custom:002", "1:gauge:a",
    "1:metric:a,", "99999999999999999999:metric:a",
};

START_TEST(an_unfit_format_is_refused_in_words)
{
    struct tsp_csv_format *f;

    err.text[0] = '\0';
    ck_assert_int_ne(tsp_csv_format_parse(unfit[_i], &f, &err), KL_OK);
    ck_assert_uint_gt(strlen(err.text), 10);
}
END_TEST

START_TEST(a_row_past_the_bound_is_refused_and_the_next_is_read)
{
    size_t size = TSP_CSV_ROW_MAX + 100;
    char  *body = malloc(size + 10);

    memset(body, 'x', size);
    memcpy(body + size, "\n7", 3);
    ck_assert_str_eq(read_all("1:metric:m", body), "line 1: longer than 524288 bytes; m=7;");
    body[0] = '"';
    memcpy(body + size, "\n7", 3);
    ck_assert_str_eq(read_all("1:metric:m", body), "line 1: longer than 524288 bytes; m=7;");
    free(body);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("libtsproto/csv");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, rows_are_read_by_their_format, 0, sizeof good / sizeof good[0]);
    tcase_add_loop_test(t, a_bad_row_says_where_and_the_next_is_read, 0, sizeof wrong / sizeof wrong[0]);
    tcase_add_loop_test(t, an_unfit_format_is_refused_in_words, 0, sizeof unfit / sizeof unfit[0]);
    tcase_add_test(t, a_row_past_the_bound_is_refused_and_the_next_is_read);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
