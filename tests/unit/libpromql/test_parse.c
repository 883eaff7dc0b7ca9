/* Texts to trees and back: what is read as what, how it is printed, and what is refused. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "libpromql/pql.h"
#include "tests/suite.h"

static const struct { const char *text, *printed; } forms[] = {
    { "a+b*c^d", "a + b * c ^ d" },
    { "-a^2", "-a ^ 2" },
    { "2-1-1", "2 - 1 - 1" },
    { "a and b or c unless d", "a and b or c unless d" },
    { "SUM BY(b,a)(x)", "sum by (b, a) (x)" },
    { "sum(x)without()", "sum without () (x)" },
    { "topk by (a) (3, x)", "topk by (a) (3, x)" },
    { "a==bool on(x)group_left(y)b", "a == bool on (x) group_left (y) b" },
    { "a/ignoring(x)b", "a / ignoring (x) b" },
    { "a + fill_left(-1) fill_right(2) b", "a + fill_left (-1) fill_right (2) b" },
    { "a + fill(5m) b", "a + fill (300) b" },
    { "x{b=\"2\",a!~'1'}", "x{a!~\"1\",b=\"2\"}" },
    { "{\"http.requests\",\"a b\"=\"c\"}", "{\"a b\"=\"c\",__name__=\"http.requests\"}" },
    { "{__name__=\"x\"}", "{__name__=\"x\"}" },
    { "x[300]", "x[5m]" },
    { "x[1.5]", "x[1s500ms]" },
    { "x[5m]offset-1h", "x[5m] offset -1h" },
    { "x offset 1w @ 5.1234", "x @ 5.123 offset 1w" },
    { "x @ start()", "x @ start()" },
    { "x[5m] anchored", "x[5m] anchored" },
    { "x smoothed", "x smoothed" },
    { "x[1h:]", "x[1h:]" },
    { "rate(x[5m])[1h:5m] @ end() offset 1d", "rate(x[5m])[1h:5m] @ end() offset 1d" },
    { "x[5m+step()*2]", "x[5m + step() * 2]" },
    { "x offset -(1m+max_of(step(),5s))", "x offset -(1m + max_of(step(), 5s))" },
    { "x offset 5m + 3", "x offset 5m + 3" },
    { "0x1F + 1e3 + .5 + 1_000", "31 + 1000 + 0.5 + 1000" },
    { "1h30m + 10", "1h30m + 10" },
    { "Inf - NaN", "+Inf - NaN" },
    { "\"a\\n\\u00e9\" ", "\"a\\né\"" },
    { "`raw\\n`", "\"raw\\\\n\"" },
    { "a </ 1 >/ b", "a </ 1 >/ b" },
    { "sum", "sum" },
    { "start + offset + by", "start + offset + by" },
    { "fill + fill_left", "fill + fill_left" },
    { "sum by (\"a b\", sum) (x)", "sum by (\"a b\", sum) (x)" },
    { "# comment\na # another", "a" },
    { "start() + step()", "start() + step()" },
};

START_TEST(a_form_is_printed_in_the_one_way)
{
    struct kl_buf  out, again;
    struct kl_err  err = { .text = "" };
    const char    *want = forms[_i].printed;

    kl_buf_init(&out, 4096);
    kl_buf_init(&again, 4096);
    ck_assert_msg(pql_format(kl_span_str(forms[_i].text), &out, &err) == KL_OK, "%s", err.text);
    ck_assert_msg(kl_span_eq(kl_buf_span(&out), kl_span_str(want)), "%s: %.*s", forms[_i].text,
                  (int)out.size, out.at);
    ck_assert_int_eq(pql_format(kl_buf_span(&out), &again, &err), KL_OK);
    ck_assert(kl_span_eq(kl_buf_span(&out), kl_buf_span(&again)));
    kl_buf_deinit(&out);
    kl_buf_deinit(&again);
}
END_TEST

START_TEST(what_is_longer_than_a_line_is_spread)
{
    static const char text[] = "sum by (instance, job) (rate(http_requests_received_total{job=\"api\"}[5m]) / "
                               "ignoring (code) group_left rate(http_requests_total[5m])) > 0.5";
    static const char want[] =
        "  sum by (instance, job) (\n"
        "      rate(http_requests_received_total{job=\"api\"}[5m])\n"
        "    / ignoring (code) group_left ()\n"
        "      rate(http_requests_total[5m])\n"
        "  )\n"
        ">\n"
        "  0.5";
    struct kl_buf out;
    struct kl_err err;

    kl_buf_init(&out, 4096);
    ck_assert_int_eq(pql_format(kl_span_str(text), &out, &err), KL_OK);
    ck_assert_msg(kl_span_eq(kl_buf_span(&out), kl_span_str(want)), "%.*s", (int)out.size, out.at);
    kl_buf_deinit(&out);
}
END_TEST

START_TEST(a_tree_has_the_fields_of_the_api)
{
    static const char want[] =
        "{\"type\":\"binaryExpr\",\"op\":\"+\",\"lhs\":{\"type\":\"call\",\"func\":{\"name\":\"rate\","
        "\"argTypes\":[\"matrix\"],\"variadic\":0,\"returnType\":\"vector\"},\"args\":[{"
        "\"type\":\"matrixSelector\",\"range\":300000,\"rangeExpr\":null,\"name\":\"x\",\"matchers\":[{"
        "\"name\":\"a\",\"value\":\"b\",\"type\":\"=~\"},{\"name\":\"__name__\",\"value\":\"x\",\"type\":\"=\"}],"
        "\"anchored\":false,\"smoothed\":false,\"offset\":60000,\"offsetExpr\":null,\"timestamp\":1500,"
        "\"startOrEnd\":null}]},\"rhs\":{\"type\":\"numberLiteral\",\"val\":\"1\"},\"matching\":null,"
        "\"bool\":false}";
    struct kl_buf out;
    struct kl_err err;

    kl_buf_init(&out, 4096);
    ck_assert_int_eq(pql_tree_json(kl_span_str("rate(x{a=~\"b\"}[5m] offset 1m @ 1.5) + 1"), &out, &err),
                     KL_OK);
    ck_assert_msg(kl_span_eq(kl_buf_span(&out), kl_span_str(want)), "%.*s", (int)out.size, out.at);
    kl_buf_deinit(&out);
}
END_TEST

static const struct { const char *text, *error; } refused[] = {
    { "", "unknown position: parse error: no expression found in input" },
    { "1 +", "1:4: parse error: unexpected end of input" },
    { "a\n+ )", "2:4: parse error: unexpected right parenthesis ')'" },
    { "a{b}", "1:4: parse error: unexpected \"}\" in label matching, expected label matching operator" },
    { "a{b=1}", "1:5: parse error: unexpected character inside braces: '1'" },
    { "a[x]", "1:3: parse error: unexpected character in duration expression: 'x'" },
    { "a[5m", "1:5: parse error: unclosed left bracket" },
    { "a[-5m]", "1:3: parse error: duration must be greater than 0" },
    { "a[5m:1m:]", "1:8: parse error: unexpected colon ':'" },
    { "a[1m / 0]", "1:6: parse error: division by zero" },
    { "sum by x (a)", "1:8: parse error: unexpected identifier \"x\" in grouping opts, expected \"(\"" },
    { "sum(a, b)", "1:1: parse error: wrong number of arguments for aggregate expression provided, expected "
                   "1, got 2" },
    { "rate(a[5m],)", "1:11: parse error: trailing commas not allowed in function call args" },
    { "a and on (x) fill (1) b", "1:1: parse error: filling in missing series not allowed for set operators" },
    { "a @ b", "1:5: parse error: unexpected identifier \"b\" in @, expected timestamp" },
    { "a + on (x) group_left (x) b", "1:3: parse error: label \"x\" must not occur in ON and GROUP clause at "
                                     "once" },
    { "\"\\q\"", "1:1: parse error: unknown escape sequence U+0071 'q'" },
    { "1..2", "1:1: parse error: bad number or duration syntax: \"1..\"" },
    { "a{__name__=\"b\"}", "1:1: parse error: metric name must not be set twice: \"a\" or \"b\"" },
    { "a and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression" },
};

START_TEST(what_is_wrong_is_said_with_its_place)
{
    struct kl_buf out;
    struct kl_err err = { .text = "" };

    kl_buf_init(&out, 4096);
    ck_assert_int_eq(pql_format(kl_span_str(refused[_i].text), &out, &err), KL_EINVAL);
    ck_assert_str_eq(err.text, refused[_i].error);
    kl_buf_deinit(&out);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("promql text");
    TCase *t = tcase_create("text");

    tcase_add_loop_test(t, a_form_is_printed_in_the_one_way, 0, sizeof forms / sizeof *forms);
    tcase_add_test(t, what_is_longer_than_a_line_is_spread);
    tcase_add_test(t, a_tree_has_the_fields_of_the_api);
    tcase_add_loop_test(t, what_is_wrong_is_said_with_its_place, 0, sizeof refused / sizeof *refused);
    suite_add_tcase(s, t);
    return run_suite(s);
}
