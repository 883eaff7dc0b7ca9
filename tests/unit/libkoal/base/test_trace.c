/* libkoal/base/trace: what stands in a traceparent, and where spans stand. */
#include "libkoal/base/trace.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN  "00f067aa0ba902b7"

static const struct { const char *text; bool is, on; } parents[] = {
    { "00-" TRACE "-" SPAN "-01", true, true },
    { "00-" TRACE "-" SPAN "-00", true, false },
    { "00-" TRACE "-" SPAN "-03", true, true },        /* flags that we do not know */
    { "01-" TRACE "-" SPAN "-01", true, true },        /* a later version, and what it may add */
    { "01-" TRACE "-" SPAN "-01-more", true, true },
    { "01-" TRACE "-" SPAN "-01more", false, false },
    { "00-" TRACE "-" SPAN "-01-more", false, false },
    { "ff-" TRACE "-" SPAN "-01", false, false },
    { "00-" TRACE "-" SPAN "-1", false, false },
    { "00-" TRACE "-" SPAN "-0g", false, false },
    { "00-00000000000000000000000000000000-" SPAN "-01", false, false },
    { "00-" TRACE "-0000000000000000-01", false, false },
    { "00-4BF92F3577b34da6a3ce929d0e0e4736-" SPAN "-01", false, false },
    { "00_" TRACE "-" SPAN "-01", false, false },
    { "00-" TRACE "x" SPAN "-01", false, false },
    { "", false, false },
};

START_TEST(a_traceparent_is_read_as_the_standard_says)
{
    struct kl_trace t = { .on = true };

    ck_assert_int_eq(kl_trace_parse(kl_span_str(parents[_i].text), &t), parents[_i].is);
    ck_assert_int_eq(t.on, parents[_i].on);
}
END_TEST

START_TEST(a_traceparent_is_written_as_it_was_read)
{
    struct kl_trace t;
    char            text[KL_TRACE_TEXT + 1], id[33];

    ck_assert(kl_trace_parse(kl_span_str(parents[0].text), &t));
    kl_trace_text(&t, text);
    ck_assert_str_eq(text, parents[0].text);
    kl_trace_id_text(&t, id);
    ck_assert_str_eq(id, TRACE);
    t.on = false;
    kl_trace_text(&t, text);
    ck_assert_str_eq(text, parents[1].text);
    kl_trace_id_text(&t, id);
    ck_assert_str_eq(id, "");
}
END_TEST

static struct kl_trace_span emitted;
static unsigned emits;
static void emit(struct kl_tracer *t, const struct kl_trace_span *s)
{
    (void)t;
    emitted = *s;
    emits++;
}

static uint8_t next;
static void draw(struct kl_tracer *t, void *bytes, size_t size)
{
    (void)t;
    memset(bytes, next, size);
    next++;
}

static struct kl_tracer tracer = { .emit = emit, .draw = draw, .one_in = 1 };

START_TEST(a_request_is_traced_where_its_sender_says_so_and_not_where_he_does_not)
{
    struct kl_trace sender, is;
    uint8_t         parent[8];

    kl_trace_parse(kl_span_str(parents[0].text), &sender);
    tracer.one_in = 0;
    kl_trace_enter(&tracer, parents[0].text, false, &is, parent);
    ck_assert(is.on);
    ck_assert_mem_eq(is.trace, sender.trace, 16);
    ck_assert_mem_eq(parent, sender.span, 8);
    ck_assert_mem_ne(is.span, sender.span, 8);
    tracer.one_in = 1;
    kl_trace_enter(&tracer, parents[1].text, true, &is, parent);
    ck_assert(!is.on);
    kl_trace_enter(NULL, parents[0].text, true, &is, parent);
    ck_assert(!is.on);
}
END_TEST

START_TEST(one_request_in_so_many_is_traced_where_nobody_says)
{
    static const uint8_t none[8];
    struct kl_trace is;
    uint8_t         parent[8];
    unsigned        on = 0;

    tracer.one_in = 2;
    next = 0;
    for (int i = 0; i < 64; i++) {
        uint8_t turn = next;

        kl_trace_enter(&tracer, i % 2 != 0 ? "nonsense" : NULL, true, &is, parent);
        ck_assert_int_eq(is.on, turn % 2 == 0);
        ck_assert_mem_eq(parent, none, 8);
        on += is.on;
    }
    ck_assert_uint_gt(on, 10);
    ck_assert_uint_lt(on, 60);
    tracer.one_in = 1;
    kl_trace_enter(&tracer, NULL, false, &is, parent);
    ck_assert(!is.on);
}
END_TEST

START_TEST(a_child_is_of_the_same_trace_and_has_a_place_of_its_own)
{
    struct kl_trace parent, child;

    kl_trace_parse(kl_span_str(parents[0].text), &parent);
    child = kl_trace_child(&tracer, &parent);
    ck_assert(child.on);
    ck_assert_mem_eq(child.trace, parent.trace, 16);
    ck_assert_mem_ne(child.span, parent.span, 8);
    ck_assert(!kl_trace_child(NULL, &parent).on);
    parent.on = false;
    ck_assert(!kl_trace_child(&tracer, &parent).on);
}
END_TEST

START_TEST(what_does_not_fit_a_span_is_cut_between_characters_or_left_out)
{
    static char          much[KL_TRACE_TEXTS_MAX + 10], name[KL_TRACE_NAME_MAX + 40];
    struct kl_trace      is;
    struct kl_trace_span s;

    kl_trace_parse(kl_span_str(parents[0].text), &is);
    memset(name, 'n', sizeof name - 1);
    kl_trace_span_begin(&s, &is, is.span, name, KL_TRACE_INTERNAL, 5);
    memset(name, 'x', sizeof name - 1);                /* it may go: the span has its own */
    ck_assert_uint_eq(strspn(s.name, "n"), KL_TRACE_NAME_MAX);
    ck_assert_uint_eq(strlen(s.name), KL_TRACE_NAME_MAX);
    memset(much, 'x', sizeof much);
    memcpy(much + KL_TRACE_TEXTS_MAX - 2, "\xe2\x82\xac", 3);          /* would be cut */
    kl_trace_span_text(&s, "query", kl_span(much, sizeof much));
    ck_assert_uint_eq(s.attr_count, 1);
    ck_assert_uint_eq(s.attrs[0].size, KL_TRACE_TEXTS_MAX - 2);
    for (int i = 0; i < 2 * KL_TRACE_ATTRS_MAX; i++)
        kl_trace_span_number(&s, "n", i);
    kl_trace_span_text(&s, "more", kl_span_str("text"));
    ck_assert_uint_eq(s.attr_count, KL_TRACE_ATTRS_MAX);
    emits = 0;
    kl_trace_span_end(&tracer, &s, 3);
    ck_assert_uint_eq(emits, 1);
    ck_assert_int_eq(emitted.begin_ns, 5);
    ck_assert_int_eq(emitted.end_ns, 5);               /* never before it began */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/base/trace");
    TCase *t = tcase_create("all");

    tcase_add_loop_test(t, a_traceparent_is_read_as_the_standard_says, 0,
                        (int)(sizeof parents / sizeof parents[0]));
    tcase_add_test(t, a_traceparent_is_written_as_it_was_read);
    tcase_add_test(t, a_request_is_traced_where_its_sender_says_so_and_not_where_he_does_not);
    tcase_add_test(t, one_request_in_so_many_is_traced_where_nobody_says);
    tcase_add_test(t, a_child_is_of_the_same_trace_and_has_a_place_of_its_own);
    tcase_add_test(t, what_does_not_fit_a_span_is_cut_between_characters_or_left_out);
    suite_add_tcase(s, t);
    return run_suite(s);
}
