/*
 * libtsproto/rw2: what a remote write 2.0 message says, and that no index leads out of its symbols.
 */
#include "libtsproto/rw2.h"

#include <check.h>
#include <stdlib.h>

#include "rw_fixture.h"

static struct tsp_rw2           r;
static struct tsp_rw2_series    got;

/* "", __name__, up, job, node, trace_id, abc, Help., seconds */
static void add_symbols(void)
{
    static const char *const symbols[] = { "", "__name__", "up", "job", "node", "trace_id", "abc", "Help.", "seconds" };

    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++)
        w_text(&message, 4, symbols[i]);
}

static void add_refs(struct kl_buf *to, const uint64_t *refs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        kl_buf_addv(&inner, refs[i]);
    w_message(to, 1, &inner);
}

static void add_sample(int64_t time_ms, double value, int64_t start_ms)
{
    w_double(&part, 1, value);
    w_varint(&part, 2, (uint64_t)time_ms);
    if (start_ms != 0)
        w_varint(&part, 3, (uint64_t)start_ms);
    w_message(&series, 2, &part);
}

static enum tsp_rw2_item first(void)
{
    if (tsp_rw2_open(&r, kl_buf_span(&message), &arena, &err) != KL_OK)
        return TSP_RW2_BROKEN;
    return tsp_rw2_next(&r, &got, &err);
}

static bool is(struct kl_span s, const char *text) { return kl_span_eq(s, kl_span_str(text)); }

static const uint64_t up_node[] = { 1, 2, 3, 4 };

START_TEST(a_series_is_read_as_sent)                   /* symbols before the series, or behind */
{
    struct tsp_rw2_walk walk;
    int64_t             times[3], starts[3];
    double              values[3];

    if (_i == 0)
        add_symbols();
    add_refs(&series, up_node, 4);
    add_sample(1000, 1.5, 0);
    add_sample(-2000, kl_bits_f64(KL_STALE_BITS), 500);
    w_varint(&series, 6, 77);
    w_message(&message, 5, &series);
    if (_i == 1)
        add_symbols();

    ck_assert_int_eq(first(), TSP_RW2_SERIES);
    ck_assert(got.ref_count == 4 && got.sample_count == 2 && got.created_ms == 77);
    ck_assert_int_eq(tsp_rw2_labels(&r, &got, &builder, &err), KL_OK);
    ck_assert_uint_eq(builder.count, 2);
    ck_assert(is(builder.pairs[0].name, "__name__") && is(builder.pairs[0].value, "up"));
    ck_assert(is(builder.pairs[1].name, "job") && is(builder.pairs[1].value, "node"));
    walk = tsp_rw2_walk(&r, &got);
    ck_assert_uint_eq(tsp_rw2_walk_samples(&walk, times, values, starts, 3), 2);
    ck_assert(times[0] == 1000 && values[0] == 1.5 && starts[0] == 77);
    ck_assert(times[1] == -2000 && kl_is_stale(values[1]) && starts[1] == 500);
    ck_assert_uint_eq(tsp_rw2_walk_samples(&walk, times, values, NULL, 3), 0);
    ck_assert_int_eq(tsp_rw2_next(&r, &got, &err), TSP_RW2_END);
}
END_TEST

START_TEST(references_come_packed_or_one_by_one)
{
    add_symbols();
    if (_i == 0)
        add_refs(&series, up_node, 4);
    else
        for (int i = 0; i < 4; i++)
            w_varint(&series, 1, up_node[i]);
    w_message(&message, 5, &series);
    ck_assert_int_eq(first(), TSP_RW2_SERIES);
    ck_assert_uint_eq(got.ref_count, 4);
    ck_assert_int_eq(tsp_rw2_labels(&r, &got, &builder, &err), KL_OK);
    ck_assert_uint_eq(builder.count, 2);
}
END_TEST

START_TEST(a_series_has_one_key_whatever_the_table)
{
    struct kl_fp key, other;

    add_symbols();
    add_refs(&series, up_node, 4);
    w_message(&message, 5, &series);
    ck_assert_int_eq(first(), TSP_RW2_SERIES);
    ck_assert_int_eq(tsp_rw2_key(&r, &got, &key, &err), KL_OK);

    kl_buf_reset(&message);
    w_text(&message, 4, "");
    w_text(&message, 4, "node");
    w_text(&message, 4, "up");
    w_text(&message, 4, "job");
    w_text(&message, 4, "__name__");
    add_refs(&series, (uint64_t[]){ 4, 2, 3, 1 }, 4);
    w_message(&message, 5, &series);
    ck_assert_int_eq(first(), TSP_RW2_SERIES);
    ck_assert_int_eq(tsp_rw2_key(&r, &got, &other, &err), KL_OK);
    ck_assert_int_eq(kl_fp_cmp(key, other), 0);

    kl_buf_reset(&message);
    add_symbols();
    add_refs(&series, (uint64_t[]){ 1, 4, 3, 2 }, 4);
    w_message(&message, 5, &series);
    ck_assert_int_eq(first(), TSP_RW2_SERIES);
    ck_assert_int_eq(tsp_rw2_key(&r, &got, &other, &err), KL_OK);
    ck_assert_int_ne(kl_fp_cmp(key, other), 0);
}
END_TEST

START_TEST(a_reference_that_leads_nowhere_is_refused)
{
    static const char *const words[] = { "a label of symbol 9: there are 9", "a label name without a value",
                                         "labels that are cut short",
                                         "a label of symbol 18446744073709551615: there are 9" };
    struct kl_fp key;

    add_symbols();
    switch (_i) {
    case 0: add_refs(&series, (uint64_t[]){ 1, 9 }, 2); break;
    case 1: add_refs(&series, up_node, 3); break;
    case 2: kl_buf_add(&inner, "\x01\x82", 2); w_message(&series, 1, &inner); break;
    case 3: add_refs(&series, (uint64_t[]){ 1, UINT64_MAX }, 2); break;
    }
    w_message(&message, 5, &series);
    ck_assert_int_eq(first(), TSP_RW2_SERIES);
    ck_assert_int_eq(tsp_rw2_labels(&r, &got, &builder, &err), KL_EINVAL);
    ck_assert_str_eq(err.text, words[_i]);
    ck_assert_int_eq(tsp_rw2_key(&r, &got, &key, &err), KL_EINVAL);
}
END_TEST

START_TEST(more_labels_than_the_bound_are_refused)
{
    struct kl_fp key;

    add_symbols();
    for (int i = 0; i <= 2 * KL_LABELS_MAX; i++)
        kl_buf_addv(&inner, 1);
    w_message(&series, 1, &inner);
    w_message(&message, 5, &series);
    ck_assert_int_eq(first(), TSP_RW2_SERIES);
    ck_assert_int_eq(tsp_rw2_key(&r, &got, &key, &err), KL_ELIMIT);
    ck_assert_int_eq(tsp_rw2_labels(&r, &got, &builder, &err), KL_ELIMIT);
}
END_TEST

START_TEST(a_symbol_table_past_its_room_is_refused_before_it_is_read)
{
    for (int i = 0; i < 40000; i++)
        w_text(&message, 4, "");
    ck_assert_int_eq(tsp_rw2_open(&r, kl_buf_span(&message), &arena, &err), KL_ELIMIT);
    ck_assert_str_eq(err.text, "no room for 40000 symbols");
    ck_assert_uint_eq(arena.used_bytes, 0);
    for (int i = 40000; i <= TSP_RW2_SYMBOLS_MAX; i++)
        w_text(&message, 4, "");
    ck_assert_int_eq(tsp_rw2_open(&r, kl_buf_span(&message), &arena, &err), KL_ELIMIT);
    ck_assert_str_eq(err.text, "more than 1048576 symbols");
}
END_TEST

START_TEST(a_table_that_does_not_begin_with_nothing_is_refused)
{
    w_text(&message, 4, "__name__");
    ck_assert_int_eq(tsp_rw2_open(&r, kl_buf_span(&message), &arena, &err), KL_EINVAL);
    ck_assert_str_eq(err.text, "the first symbol is not the empty string");
}
END_TEST

START_TEST(metadata_comes_with_its_series)
{
    struct tsp_rw2_metadata meta;

    add_symbols();
    add_refs(&series, up_node, 4);
    w_varint(&part, 1, 2);
    w_varint(&part, 3, 7);
    w_varint(&part, 4, 8);
    w_message(&series, 5, &part);
    w_message(&message, 5, &series);
    w_message(&message, 5, &series);                   /* an empty one: no metadata */
    w_varint(&part, 3, 9);
    w_message(&series, 5, &part);
    w_message(&message, 5, &series);
    ck_assert_int_eq(first(), TSP_RW2_SERIES);
    ck_assert_int_eq(tsp_rw2_metadata(&r, &got, &meta, &err), KL_OK);
    ck_assert(meta.type == 2 && is(meta.help, "Help.") && is(meta.unit, "seconds"));
    ck_assert_int_eq(tsp_rw2_next(&r, &got, &err), TSP_RW2_SERIES);
    ck_assert_int_eq(tsp_rw2_metadata(&r, &got, &meta, &err), KL_ENOENT);
    ck_assert_int_eq(tsp_rw2_next(&r, &got, &err), TSP_RW2_SERIES);
    ck_assert_int_eq(tsp_rw2_metadata(&r, &got, &meta, &err), KL_EINVAL);
    ck_assert_str_eq(err.text, "metadata of symbol 9: there are 9");
}
END_TEST

START_TEST(histograms_and_exemplars_are_read)
{
    struct tsp_rw2_walk walk;
    struct kl_hist      h;
    int64_t             time_ms, start_ms;
    double              value;

    add_symbols();
    w_varint(&part, 1, 0);
    w_varint(&part, 15, 5000);
    w_varint(&part, 17, 4000);
    w_message(&series, 3, &part);
    w_zigzag(&part, 4, 9);                             /* no such schema */
    w_message(&series, 3, &part);
    w_varint(&part, 15, 6000);
    w_message(&series, 3, &part);
    add_refs(&part, (uint64_t[]){ 5, 6 }, 2);
    w_double(&part, 2, 0.5);
    w_varint(&part, 3, 1234);
    w_message(&series, 4, &part);
    add_refs(&part, (uint64_t[]){ 5, 66 }, 2);
    w_message(&series, 4, &part);
    w_varint(&series, 6, 3000);
    w_message(&message, 5, &series);

    ck_assert_int_eq(first(), TSP_RW2_SERIES);
    ck_assert(got.hist_count == 3 && got.exemplar_count == 2);
    walk = tsp_rw2_walk(&r, &got);
    ck_assert(tsp_rw2_walk_hist(&walk, &arena, &time_ms, &start_ms, &h, &err));
    ck_assert(time_ms == 5000 && start_ms == 4000);
    ck_assert(!tsp_rw2_walk_hist(&walk, &arena, &time_ms, &start_ms, &h, &err));
    ck_assert_int_eq(err.code, KL_EINVAL);
    ck_assert(tsp_rw2_walk_hist(&walk, &arena, &time_ms, &start_ms, &h, &err));
    ck_assert(time_ms == 6000 && start_ms == 3000);
    ck_assert(!tsp_rw2_walk_hist(&walk, &arena, &time_ms, &start_ms, &h, &err));
    ck_assert_int_eq(err.code, KL_OK);

    walk = tsp_rw2_walk(&r, &got);
    ck_assert(tsp_rw2_walk_exemplar(&walk, &builder, &time_ms, &value, &err));
    ck_assert(time_ms == 1234 && value == 0.5 && is(builder.pairs[0].value, "abc"));
    ck_assert(!tsp_rw2_walk_exemplar(&walk, &builder, &time_ms, &value, &err));
    ck_assert_str_eq(err.text, "an exemplar: a label of symbol 66: there are 9");
    ck_assert(!tsp_rw2_walk_exemplar(&walk, &builder, &time_ms, &value, &err));
    ck_assert_int_eq(err.code, KL_OK);
}
END_TEST

START_TEST(a_message_cut_anywhere_is_refused)
{
    add_symbols();
    add_refs(&series, up_node, 4);
    add_sample(1000, 1, 0);
    w_message(&message, 5, &series);
    for (size_t n = message.size - 20; n < message.size; n++) {
        char *cut = malloc(n);
        memcpy(cut, message.at, n);
        ck_assert_int_eq(tsp_rw2_open(&r, kl_span(cut, n), &arena, &err), KL_EINVAL);
        free(cut);
    }
}
END_TEST

START_TEST(a_message_of_version_1_holds_nothing)
{
    w_text(&inner, 1, "__name__");
    w_text(&inner, 2, "up");
    w_message(&series, 1, &inner);
    w_message(&message, 1, &series);
    ck_assert_int_eq(first(), TSP_RW2_END);
}
END_TEST

START_TEST(fields_of_a_foreign_type_are_refused)
{
    switch (_i) {
    case 0: w_varint(&message, 4, 1); break;
    case 1: w_varint(&message, 5, 1); break;
    case 2: w_double(&series, 1, 1); w_message(&message, 5, &series); break;
    case 3: w_text(&series, 6, ""); w_message(&message, 5, &series); break;
    case 4: w_varint(&part, 1, 1); w_message(&series, 2, &part); w_message(&message, 5, &series); break;
    }
    ck_assert_int_eq(first(), TSP_RW2_BROKEN);
    ck_assert_str_eq(err.text, "no remote write 2.0 message from byte 0 on");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libtsproto/rw2");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, a_series_is_read_as_sent, 0, 2);
    tcase_add_loop_test(t, references_come_packed_or_one_by_one, 0, 2);
    tcase_add_test(t, a_series_has_one_key_whatever_the_table);
    tcase_add_loop_test(t, a_reference_that_leads_nowhere_is_refused, 0, 4);
    tcase_add_test(t, more_labels_than_the_bound_are_refused);
    tcase_add_test(t, a_symbol_table_past_its_room_is_refused_before_it_is_read);
    tcase_add_test(t, a_table_that_does_not_begin_with_nothing_is_refused);
    tcase_add_test(t, metadata_comes_with_its_series);
    tcase_add_test(t, histograms_and_exemplars_are_read);
    tcase_add_test(t, a_message_cut_anywhere_is_refused);
    tcase_add_test(t, a_message_of_version_1_holds_nothing);
    tcase_add_loop_test(t, fields_of_a_foreign_type_are_refused, 0, 5);
    suite_add_tcase(s, t);
    return run_suite(s);
}
