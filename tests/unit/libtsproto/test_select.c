/*
 * libtsproto/select: a question arrives as it was asked, a page's head as it was written.
 */
#include "libtsproto/select.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>

static struct kl_buf     out;
static struct kl_arena   arena;
static struct kl_err     err;
static struct tsp_select asked, got;

static struct kl_span text(const char *s) { return kl_span_str(s); }

static void setup(void)
{
    kl_buf_init(&out, 0);
    kl_arena_init(&arena, 1 << 20);
    asked = (struct tsp_select){
        .what = TSP_SEL_SERIES, .partition = 4095, .tenant = text("t"), .matcher_count = 3,
        .matchers = { { .op = KL_MATCH_EQ, .name = text("__name__"), .value = text("up") },
                      { .op = KL_MATCH_NE, .name = text("job"), .value = text("") },
                      { .op = KL_MATCH_RE, .name = text("instance"), .value = text("a.*|b") } },
        .from_ms = -1, .to_ms = INT64_MAX, .limit = 7, .consistency = TSP_READ_CAUSAL, .min_seq = UINT64_MAX,
        .timeout_ms = 30000,
    };
}

static void teardown(void)
{
    kl_buf_deinit(&out);
    kl_arena_deinit(&arena);
}

static enum kl_code decode(void)
{
    return tsp_select_decode(kl_buf_span(&out), &arena, &got, &err);
}

START_TEST(a_question_arrives_as_it_was_asked)         /* without a cursor, and with one */
{
    if (_i == 1) {
        asked.what = TSP_SEL_VALUES;
        asked.label = text("job");
        asked.has_cursor = true;
        asked.cursor_fp = (struct kl_fp){ 0, UINT64_MAX };
        asked.cursor_text = text("node");
        asked.request_id = text("build-17");
        ck_assert(kl_trace_parse(text("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), &asked.trace));
    }
    ck_assert_int_eq(tsp_select_encode(&asked, &out, &err), KL_OK);
    ck_assert_msg(decode() == KL_OK, "%s", err.text);
    ck_assert(got.trace.on == asked.trace.on && kl_span_eq(got.request_id, asked.request_id));
    ck_assert(!got.trace.on || (memcmp(got.trace.trace, asked.trace.trace, sizeof got.trace.trace) == 0 &&
                                memcmp(got.trace.span, asked.trace.span, sizeof got.trace.span) == 0));
    ck_assert(got.what == asked.what && got.partition == 4095 && kl_span_eq(got.tenant, asked.tenant));
    ck_assert_uint_eq(got.matcher_count, 3);
    for (int i = 0; i < 3; i++)
        ck_assert(got.matchers[i].op == asked.matchers[i].op && got.matchers[i].re == NULL &&
                  kl_span_eq(got.matchers[i].name, asked.matchers[i].name) &&
                  kl_span_eq(got.matchers[i].value, asked.matchers[i].value));
    ck_assert(got.from_ms == -1 && got.to_ms == INT64_MAX && got.limit == 7 && got.timeout_ms == 30000);
    ck_assert(got.consistency == TSP_READ_CAUSAL && got.min_seq == UINT64_MAX);
    ck_assert(got.has_cursor == asked.has_cursor && kl_fp_cmp(got.cursor_fp, asked.cursor_fp) == 0);
    ck_assert(kl_span_eq(got.label, asked.label) && kl_span_eq(got.cursor_text, asked.cursor_text));
}
END_TEST

START_TEST(an_aggregate_is_asked_for_as_it_was_meant_and_only_of_who_knows_its_version)
{
    static const struct tsp_push fit = { .version = TSP_PUSH_VERSION, .start_ms = -5, .step_ms = 15000,
                                         .lookback_ms = 300000, .steps = 11001, .samples_max = UINT64_MAX,
                                         .tally = true, .partitions = 64, .spread = 3,
                                         .asker = UINT64_MAX, .number = 7 };

    asked.what = TSP_SEL_PARTIAL;
    asked.push = fit;
    asked.push.text = text("sum by (job) (rate(up[5m]))");
    for (int i = 0; i < 8; i++) {
        kl_buf_reset(&out);
        if (i == 1)
            asked.push.version++;
        if (i == 2)
            asked.push.steps = 0;
        if (i == 3)
            asked.push.partitions = 63;
        if (i == 4)
            asked.push.spread = 32;
        if (i == 5)
            asked.push.lookback_ms = 0;
        if (i == 6)
            asked.push.text = text("");
        if (i == 7)
            asked.push.step_ms = -1;
        ck_assert_int_eq(tsp_select_encode(&asked, &out, &err), KL_OK);
        if (i > 0) {
            ck_assert_int_eq(decode(), KL_EINVAL);
            asked.push = fit;
            asked.push.text = text("sum(up)");
            continue;
        }
        ck_assert_msg(decode() == KL_OK, "%s", err.text);
        ck_assert(got.what == TSP_SEL_PARTIAL && kl_span_eq(got.push.text, asked.push.text));
        ck_assert(got.push.version == 1 && got.push.start_ms == -5 && got.push.step_ms == 15000 &&
                  got.push.lookback_ms == 300000 && got.push.steps == 11001 && got.push.samples_max == UINT64_MAX &&
                  got.push.tally && got.push.partitions == 64 && got.push.spread == 3 &&
                  got.push.asker == UINT64_MAX && got.push.number == 7);
    }
}
END_TEST

START_TEST(an_aggregate_is_stopped_by_its_name_alone)
{
    asked.what = TSP_SEL_STOP;
    asked.push = (struct tsp_push){ .asker = 5, .number = UINT64_MAX };
    ck_assert_int_eq(tsp_select_encode(&asked, &out, &err), KL_OK);
    ck_assert_msg(decode() == KL_OK, "%s", err.text);
    ck_assert(got.what == TSP_SEL_STOP && got.push.asker == 5 && got.push.number == UINT64_MAX);
    kl_buf_reset(&out);
    asked.push.asker = 0;
    ck_assert_int_eq(tsp_select_encode(&asked, &out, &err), KL_OK);
    ck_assert_int_eq(decode(), KL_EINVAL);
}
END_TEST

START_TEST(a_bundle_has_the_page_of_each_partition)
{
    struct kl_cur  pages;
    struct kl_span page;
    uint32_t       partition;

    asked.also_count = TSP_ALSO_MAX;
    for (uint32_t i = 0; i < TSP_ALSO_MAX; i++)
        asked.also[i] = 4095 - 7 * i;
    ck_assert_int_eq(tsp_select_encode(&asked, &out, &err), KL_OK);
    ck_assert_msg(decode() == KL_OK, "%s", err.text);
    ck_assert_uint_eq(got.also_count, TSP_ALSO_MAX);
    ck_assert_mem_eq(got.also, asked.also, sizeof got.also);
    asked.also_count++;
    ck_assert_int_eq(tsp_select_encode(&asked, &out, &err), KL_ELIMIT);

    kl_buf_reset(&out);
    tsp_bundle_begin(&out);
    for (uint32_t i = 0; i < 3; i++)
        tsp_bundle_add(&out, i * 1000, kl_span("KAKAKA", 2 * i));
    ck_assert_int_eq(tsp_bundle_open(kl_buf_span(&out), &pages, &err), KL_OK);
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert(tsp_bundle_next(&pages, &partition, &page));
        ck_assert(partition == i * 1000 && page.size == 2 * i);
    }
    ck_assert(!tsp_bundle_next(&pages, &partition, &page));
    out.at[8] = 100;                                   /* a page longer than there is */
    ck_assert_int_eq(tsp_bundle_open(kl_buf_span(&out), &pages, &err), KL_OK);
    ck_assert(!tsp_bundle_next(&pages, &partition, &page));
    out.at[2] = 9;
    ck_assert_int_eq(tsp_bundle_open(kl_buf_span(&out), &pages, &err), KL_ECORRUPT);
    out.at[1] = 'A';
    ck_assert_int_eq(tsp_bundle_open(kl_buf_span(&out), &pages, &err), KL_EINVAL);
    ck_assert_int_eq(tsp_bundle_open(kl_span("KB", 2), &pages, &err), KL_EINVAL);
}
END_TEST

START_TEST(a_long_value_arrives_whole)
{
    char *value = malloc(200000);

    memset(value, 'x', 200000);
    asked.matchers[2].value = kl_span(value, 200000);
    ck_assert_int_eq(tsp_select_encode(&asked, &out, &err), KL_OK);
    ck_assert_msg(decode() == KL_OK, "%s", err.text);
    ck_assert(kl_span_eq(got.matchers[2].value, asked.matchers[2].value));
    free(value);
}
END_TEST

START_TEST(the_most_matchers_arrive_and_one_more_is_refused)
{
    for (int i = 0; i < TSP_MATCHERS_MAX; i++)
        asked.matchers[i] = asked.matchers[0];
    asked.matcher_count = TSP_MATCHERS_MAX;
    ck_assert_int_eq(tsp_select_encode(&asked, &out, &err), KL_OK);
    ck_assert_int_eq(decode(), KL_OK);
    ck_assert_uint_eq(got.matcher_count, TSP_MATCHERS_MAX);
    kl_buf_add(&out, "\x22\x00", 2);                   /* one more, of nothing */
    ck_assert_int_eq(decode(), KL_EINVAL);
    asked.matcher_count++;
    ck_assert_int_eq(tsp_select_encode(&asked, &out, &err), KL_ELIMIT);
}
END_TEST

START_TEST(a_question_that_cannot_be_is_refused)
{
    switch (_i) {
    case 0: asked.what = (enum tsp_select_what)0; break;
    case 1: asked.what = (enum tsp_select_what)8; break;
    case 2: asked.tenant = text(""); break;
    case 3: asked.consistency = (enum tsp_consistency)4; break;
    case 4: asked.matchers[0].op = (enum kl_match_op)4; break;
    }
    ck_assert_int_eq(tsp_select_encode(&asked, &out, &err), KL_OK);
    ck_assert_int_eq(decode(), KL_EINVAL);
}
END_TEST

START_TEST(a_question_past_its_memory_is_refused)
{
    ck_assert_int_eq(tsp_select_encode(&asked, &out, &err), KL_OK);
    arena.cap_bytes = 8;
    ck_assert_int_eq(decode(), KL_EINVAL);
}
END_TEST

START_TEST(expressions_are_compiled_and_a_bad_one_leaves_none)
{
    ck_assert_int_eq(tsp_select_compile(&asked, &err), KL_OK);
    ck_assert(kl_matcher_test(&asked.matchers[2], text("abc")));
    ck_assert(!kl_matcher_test(&asked.matchers[2], text("cab")));
    ck_assert_ptr_null(asked.matchers[0].re);
    tsp_select_release(&asked);
    ck_assert_ptr_null(asked.matchers[2].re);
    asked.matchers[3] = (struct kl_matcher){ .op = KL_MATCH_NRE, .name = text("x"), .value = text("(") };
    asked.matcher_count = 4;
    ck_assert_int_eq(tsp_select_compile(&asked, &err), KL_EINVAL);
    ck_assert_ptr_null(asked.matchers[2].re);
}
END_TEST

START_TEST(a_subject_names_its_partition)
{
    char subject[32];

    tsp_select_subject(subject, sizeof subject, 7);
    ck_assert_str_eq(subject, "select.0007");
    tsp_select_subject(subject, sizeof subject, 4095);
    ck_assert_str_eq(subject, "select.4095");
}
END_TEST

static const struct tsp_page page = { .more = true, .stale = true, .applied_seq = 1, .incarnation = UINT64_MAX,
                                      .placement_revision = 3, .catalogue_revision = 4, .late_writes = 5,
                                      .cursor = { 6, 7 } };

START_TEST(a_page_has_its_head_and_its_items)
{
    struct tsp_page opened;
    struct kl_cur   items;

    tsp_page_begin(&out);
    kl_buf_adds(&out, "items");
    tsp_page_end(&out, &page);
    ck_assert_uint_eq(out.size, TSP_PAGE_HEAD_SIZE + 5);
    ck_assert_int_eq(tsp_page_open(kl_buf_span(&out), &opened, &items, &err), KL_OK);
    ck_assert(opened.more && opened.stale && opened.applied_seq == 1 && opened.incarnation == UINT64_MAX &&
              opened.placement_revision == 3 && opened.catalogue_revision == 4 && opened.late_writes == 5 &&
              opened.cursor.hi == 6 && opened.cursor.lo == 7);
    ck_assert_uint_eq(kl_cur_left(&items), 5);
    ck_assert_mem_eq(items.at, "items", 5);
}
END_TEST

START_TEST(an_answer_that_is_no_page_is_corrupt)
{
    struct tsp_page opened;
    struct kl_cur   items;

    tsp_page_begin(&out);
    tsp_page_end(&out, &page);
    ck_assert_int_eq(tsp_page_open(kl_span(out.at, TSP_PAGE_HEAD_SIZE - 1), &opened, &items, &err), KL_ECORRUPT);
    out.at[_i] ^= 4;                                   /* magic, version, flags */
    ck_assert_int_eq(tsp_page_open(kl_buf_span(&out), &opened, &items, &err), KL_ECORRUPT);
}
END_TEST

START_TEST(a_run_of_exemplars_reads_back_and_a_cut_one_is_bad)
{
    static const char labels[] = "\001a\001b";
    struct kl_labels  l;
    struct kl_cur     c;
    int64_t           ms;
    double            v;

    tsp_exemplar_put(&out, -5, 0.5, kl_span(labels, 4));
    tsp_exemplar_put(&out, 7, 2, kl_span("", 0));
    c = kl_cur(out.at, out.size);
    ck_assert(tsp_exemplar_next(&c, &ms, &v, &l));
    ck_assert(ms == -5 && v == 0.5 && l.size == 4);
    ck_assert(tsp_exemplar_next(&c, &ms, &v, &l));
    ck_assert(ms == 7 && v == 2 && l.size == 0);
    ck_assert(!tsp_exemplar_next(&c, &ms, &v, &l) && !c.bad);
    for (size_t size = 1; size < out.size; size++) {
        unsigned whole = 0;

        for (c = kl_cur(out.at, size); tsp_exemplar_next(&c, &ms, &v, &l);)
            whole++;
        ck_assert(whole < 2 && (c.bad || whole == 1));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libtsproto/select");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, an_aggregate_is_asked_for_as_it_was_meant_and_only_of_who_knows_its_version);
    tcase_add_loop_test(t, a_question_arrives_as_it_was_asked, 0, 2);
    tcase_add_test(t, an_aggregate_is_stopped_by_its_name_alone);
    tcase_add_test(t, a_bundle_has_the_page_of_each_partition);
    tcase_add_test(t, a_long_value_arrives_whole);
    tcase_add_test(t, the_most_matchers_arrive_and_one_more_is_refused);
    tcase_add_loop_test(t, a_question_that_cannot_be_is_refused, 0, 5);
    tcase_add_test(t, a_question_past_its_memory_is_refused);
    tcase_add_test(t, expressions_are_compiled_and_a_bad_one_leaves_none);
    tcase_add_test(t, a_subject_names_its_partition);
    tcase_add_test(t, a_page_has_its_head_and_its_items);
    tcase_add_loop_test(t, an_answer_that_is_no_page_is_corrupt, 0, 4);
    tcase_add_test(t, a_run_of_exemplars_reads_back_and_a_cut_one_is_bad);
    suite_add_tcase(s, t);
    return run_suite(s);
}
