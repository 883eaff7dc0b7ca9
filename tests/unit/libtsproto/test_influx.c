/* libtsproto/influx: what a line says, field by field, and where a bad one is bad. */
#include "libtsproto/influx.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct tsp_influx *influx;
static struct kl_buf      shown;
static struct kl_err      err;

static void setup(void)
{
    influx = tsp_influx_new();
    kl_buf_init(&shown, 0);
}

static void teardown(void)
{
    tsp_influx_free(influx);
    kl_buf_deinit(&shown);
}

static void put(struct kl_span x) { kl_buf_addf(&shown, "%.*s", (int)x.size, (const char *)x.at); }

static void show_line(const struct tsp_influx_line *line)
{
    struct tsp_influx_field field;
    enum tsp_influx_value   what;

    put(line->measurement);
    ck_assert_uint_ge(line->labels->count, 1);
    for (size_t i = 1; i < line->labels->count; i++) {
        kl_buf_adds(&shown, "|");
        put(line->labels->pairs[i].name);
        kl_buf_adds(&shown, "=");
        put(line->labels->pairs[i].value);
    }
    while ((what = tsp_influx_field(influx, &field, &err)) != TSP_INFLUX_NO_MORE) {
        kl_buf_adds(&shown, " ");
        put(field.name);
        if (what == TSP_INFLUX_NUMBER)
            kl_buf_addf(&shown, "=%.17g", field.value);
        else
            kl_buf_adds(&shown, what == TSP_INFLUX_TEXT ? "=text" : "=bad");
    }
    if (line->has_time)
        kl_buf_addf(&shown, " @%lld", (long long)line->time);
}

/* All of a body as one text; a bad line as its words. */
static const char *read_all(const char *body)
{
    struct tsp_influx_line line;
    enum tsp_influx_item   item;

    kl_buf_reset(&shown);
    tsp_influx_open(influx, kl_span_str(body));
    while ((item = tsp_influx_next(influx, &line, &err)) != TSP_INFLUX_END) {
        if (item == TSP_INFLUX_LINE)
            show_line(&line);
        else
            kl_buf_adds(&shown, err.text);
        kl_buf_adds(&shown, ";");
    }
    kl_buf_add8(&shown, 0);
    return shown.at;
}

static const struct { const char *body, *says; } good[] = {
    { "", "" },
    { "cpu load=1.5", "cpu load=1.5;" },
    { "cpu load=1.5\n", "cpu load=1.5;" },
    { "cpu load=1.5 1465839830100400200\r\n", "cpu load=1.5 @1465839830100400200;" },
    { "cpu,host=a,dc=b load=-1e3,n=3i,u=18446744073709551615u 7\nmem free=2\n",
      "cpu|host=a|dc=b load=-1000 n=3 u=1.8446744073709552e+19 @7;mem free=2;" },
    { "c t=t,T=T,a=true,b=True,c=TRUE,f=f,F=F,d=false,e=False,g=FALSE",
      "c t=1 T=1 a=1 b=1 c=1 f=0 F=0 d=0 e=0 g=0;" },
    { "c i=-9223372036854775808i", "c i=-9.2233720368547758e+18;" },
    { "# a comment\n\n  \t\n cpu v=1\n#", "cpu v=1;" },
    { "a\\ b\\,c,t\\ 1=x\\=y\\,z f\\=1\\,2=3", "a b,c|t 1=x=y,z f=1,2=3;" },
    { "a\\b,c\\d=e\\\\ f\\g=1", "a\\b|c\\d=e\\ f\\g=1;" },
    { "a,t=x=y f=1", "a|t=x=y f=1;" },
    { "a,empty= f=1", "a|empty= f=1;" },
    { "a s=\"x, y=1 \\\" z\\\\\",f=2 5", "a s=text f=2 @5;" },
    { "a s=\"two\nlines\",f=2 5\nb f=1", "a s=text f=2 @5;b f=1;" },
    { "a s=\"\"\r\nb f=1\r\n", "a s=text;b f=1;" },
    { "a  f=1   7  \n", "a f=1 @7;" },
    { "a f=1 -7", "a f=1 @-7;" },
    { "caf\xc3\xa9,\xe2\x82\xac=\xc3\xbc f=1", "caf\xc3\xa9|\xe2\x82\xac=\xc3\xbc f=1;" },
    /* a value that is none spoils no other */
    { "a x=oops,y=1,z=,w=1.2.3,v=3ii,u=-1u,h=0x10 9", "a x=bad y=1 z=bad w=bad v=bad u=bad h=bad @9;" },
};

START_TEST(a_line_is_read_in_every_spelling)
{
    ck_assert_str_eq(read_all(good[_i].body), good[_i].says);
}
END_TEST

static const struct { const char *body, *says; } wrong[] = {
    { "cpu", "line 1, column 4: no field follows;" },
    { "cpu,host=a\nb f=1", "line 1, column 11: no field follows;b f=1;" },
    { ",host=a f=1", "line 1, column 1: a measurement should be here;" },
    { "cpu,host f=1", "line 1, column 9: a tag should read name=value;" },
    { "cpu,=a f=1", "line 1, column 5: a tag should read name=value;" },
    { "cpu, f=1", "line 1, column 5: a tag should read name=value;" },
    { "cpu f", "line 1, column 6: a field should read name=value;" },
    { "cpu =1", "line 1, column 5: a field should read name=value;" },
    { "cpu f=1,", "line 1, column 9: a field should read name=value;" },
    { "cpu f=1,,g=2", "line 1, column 9: a field should read name=value;" },
    { "cpu f=\"x\nb g=1", "line 1, column 7: a quote is not closed;b g=1;" },
    { "cpu f=\"x\"y", "line 1, column 10: \",\" or a blank should follow a text;" },
    { "cpu f=1 soon\nb g=1", "line 1, column 9: this is not a timestamp;b g=1;" },
    { "cpu f=1 1.5", "line 1, column 9: this is not a timestamp;" },
    { "cpu f=1 9223372036854775808", "line 1, column 9: this is not a timestamp;" },
    { "cpu f=1 5 6", "line 1, column 9: this is not a timestamp;" },
};

START_TEST(a_bad_line_says_where_and_the_next_is_read)
{
    ck_assert_str_eq(read_all(wrong[_i].body), wrong[_i].says);
}
END_TEST

START_TEST(a_line_past_the_bound_is_refused_and_the_next_is_read)
{
    static const char tail[] = "\nb g=1\n";
    size_t size = TSP_INFLUX_LINE_MAX + 100;
    char  *body = malloc(size + sizeof tail);

    memset(body, 'x', size);
    memcpy(body, "a f=\"", 5);
    body[size - 1] = '"';
    memcpy(body + size, tail, sizeof tail);
    ck_assert_ptr_nonnull(strstr(read_all(body), "b g=1;"));
    ck_assert_int_eq(err.code, KL_ELIMIT);
    free(body);
}
END_TEST

START_TEST(more_tags_than_the_bound_are_refused)
{
    struct kl_buf b = { 0 };

    kl_buf_adds(&b, "a");
    for (int i = 0; i < KL_LABELS_MAX; i++)
        kl_buf_addf(&b, ",t%d=x", i);
    kl_buf_adds(&b, " f=1\nb g=1");
    kl_buf_add8(&b, 0);
    ck_assert_str_eq(read_all(b.at), "line 1: more than 256 labels;b g=1;");
    kl_buf_deinit(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("libtsproto/influx");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, a_line_is_read_in_every_spelling, 0, sizeof good / sizeof good[0]);
    tcase_add_loop_test(t, a_bad_line_says_where_and_the_next_is_read, 0, sizeof wrong / sizeof wrong[0]);
    tcase_add_test(t, a_line_past_the_bound_is_refused_and_the_next_is_read);
    tcase_add_test(t, more_tags_than_the_bound_are_refused);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
