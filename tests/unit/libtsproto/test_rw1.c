/*
 * libtsproto/rw1: what a remote write 1.0 message says, and that a hostile one is refused with words.
 */
#include "libtsproto/rw1.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "rw_fixture.h"

static struct tsp_rw1           r;
static struct tsp_rw1_series    got;
static struct tsp_rw1_metadata  meta;

static void add_label(struct kl_buf *to, const char *name, const char *value)
{
    w_text(&inner, 1, name);
    w_text(&inner, 2, value);
    w_message(to, 1, &inner);
}

static void add_sample(int64_t time_ms, double value)
{
    w_double(&part, 1, value);
    w_varint(&part, 2, (uint64_t)time_ms);
    w_message(&series, 2, &part);
}

static enum tsp_rw1_item next(void) { return tsp_rw1_next(&r, &got, &meta, &err); }

static enum tsp_rw1_item first(void)
{
    tsp_rw1_open(&r, kl_buf_span(&message));
    return next();
}

static bool is(struct kl_span s, const char *text) { return kl_span_eq(s, kl_span_str(text)); }

START_TEST(a_series_is_read_as_sent)
{
    int64_t times[3];
    double  values[3];

    add_label(&series, "__name__", "up");
    add_label(&series, "job", "");
    add_sample(1000, 1.5);
    add_sample(-2000, kl_bits_f64(KL_STALE_BITS));
    add_sample(0, -0.0);
    w_message(&message, 1, &series);

    ck_assert_int_eq(first(), TSP_RW1_SERIES);
    ck_assert_uint_eq(got.label_count, 2);
    ck_assert_uint_eq(got.sample_count, 3);
    ck_assert_int_eq(tsp_rw1_labels(&got, &builder, &err), KL_OK);
    ck_assert_uint_eq(builder.count, 2);
    ck_assert(is(builder.pairs[0].name, "__name__") && is(builder.pairs[0].value, "up"));
    ck_assert(is(builder.pairs[1].name, "job") && is(builder.pairs[1].value, ""));
    ck_assert_uint_eq(tsp_rw1_samples(&got, 0, times, values, 3), 3);
    ck_assert_int_eq(times[1], -2000);
    ck_assert_double_eq(values[0], 1.5);
    ck_assert(kl_is_stale(values[1]));
    ck_assert(values[2] == 0 && signbit(values[2]));
    ck_assert_uint_eq(tsp_rw1_samples(&got, 2, times, values, 3), 1);
    ck_assert_int_eq(next(), TSP_RW1_END);
}
END_TEST

START_TEST(labels_raw_is_the_bytes_of_the_labels_when_they_lie_in_front)
{
    size_t size;

    add_label(&series, "__name__", "up");
    add_label(&series, "job", "node");
    size = series.size;
    add_sample(1, 1);
    w_message(&message, 1, &series);
    ck_assert_int_eq(first(), TSP_RW1_SERIES);
    ck_assert_uint_eq(got.labels_raw.size, size);
    ck_assert_ptr_eq(got.labels_raw.at, got.body.at);
}
END_TEST

START_TEST(labels_behind_samples_have_no_raw_bytes_and_are_still_read)
{
    add_label(&series, "__name__", "up");
    add_sample(1, 1);
    add_label(&series, "job", "node");
    w_message(&message, 1, &series);
    ck_assert_int_eq(first(), TSP_RW1_SERIES);
    ck_assert_ptr_null(got.labels_raw.at);
    ck_assert_int_eq(tsp_rw1_labels(&got, &builder, &err), KL_OK);
    ck_assert_uint_eq(builder.count, 2);
}
END_TEST

START_TEST(a_walk_of_samples_gives_each_once_whatever_the_page)
{
    int64_t       times[8];
    double        values[8];
    struct kl_cur walk;
    size_t        n, seen = 0;

    for (int i = 0; i < 20; i++)
        add_sample(i, i * 0.5);
    w_message(&message, 1, &series);
    ck_assert_int_eq(first(), TSP_RW1_SERIES);
    walk = tsp_rw1_walk(&got);
    while ((n = tsp_rw1_walk_samples(&walk, times, values, (size_t)_i)) > 0)
        for (size_t i = 0; i < n; i++, seen++) {
            ck_assert_int_eq(times[i], (int64_t)seen);
            ck_assert_double_eq(values[i], (double)seen * 0.5);
        }
    ck_assert_uint_eq(seen, 20);
}
END_TEST

/* One of six bytes is read in another way than the others, and may stand between them. */
START_TEST(times_of_every_length_are_read_in_any_order)
{
    static const int64_t fixed[] = { 0, 1, -1, 127, 128, INT64_MAX, INT64_MIN, 1700000000000,
                                     (INT64_C(1) << 35) - 1, INT64_C(1) << 35, (INT64_C(1) << 42) - 1,
                                     INT64_C(1) << 42 };
    enum { MANY = 3000 };
    static int64_t sent[MANY], times[MANY];
    static double  values[MANY];
    struct kl_cur  walk;
    uint64_t       x = 88172645463325252u;

    for (int i = 0; i < MANY; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        sent[i] = i % 7 == 0 ? fixed[(size_t)i / 7 % (sizeof fixed / sizeof fixed[0])]
                             : (int64_t)(x >> x % 64);
        add_sample(sent[i], i * 0.25);
    }
    w_message(&message, 1, &series);
    ck_assert_int_eq(first(), TSP_RW1_SERIES);
    ck_assert_uint_eq(got.sample_count, MANY);
    walk = tsp_rw1_walk(&got);
    ck_assert_uint_eq(tsp_rw1_walk_samples(&walk, times, values, MANY), MANY);
    for (int i = 0; i < MANY; i++) {
        ck_assert_int_eq(times[i], sent[i]);
        ck_assert_double_eq(values[i], i * 0.25);
    }
}
END_TEST

START_TEST(metadata_is_read_and_an_unknown_type_is_unknown)
{
    w_varint(&part, 1, 1);
    w_text(&part, 2, "http_requests_total");
    w_text(&part, 4, "Requests.");
    w_text(&part, 5, "requests");
    w_message(&message, 3, &part);
    w_varint(&part, 1, 77);
    w_message(&message, 3, &part);
    ck_assert_int_eq(first(), TSP_RW1_META);
    ck_assert_uint_eq(meta.type, 1);
    ck_assert(is(meta.metric, "http_requests_total") && is(meta.help, "Requests.") &&
              is(meta.unit, "requests"));
    ck_assert_int_eq(next(), TSP_RW1_META);
    ck_assert_uint_eq(meta.type, 0);
    ck_assert(is(meta.metric, ""));
}
END_TEST

START_TEST(unknown_fields_are_passed_over)
{
    w_varint(&message, 99, 5);
    w_text(&message, 2, "reserved");
    w_double(&series, 50, 1);
    add_sample(7, 7);
    w_message(&message, 1, &series);
    ck_assert_int_eq(first(), TSP_RW1_SERIES);
    ck_assert_uint_eq(got.sample_count, 1);
    ck_assert_int_eq(next(), TSP_RW1_END);
}
END_TEST

START_TEST(a_message_cut_anywhere_is_broken_or_a_whole_shorter_one)
{
    size_t whole;

    add_label(&series, "__name__", "up");
    add_sample(1000, 1);
    w_message(&message, 1, &series);
    whole = message.size;
    for (size_t n = 1; n < whole; n++) {
        /* On the heap, exactly: a read past the end shows under ASan. */
        char *cut = malloc(n);
        memcpy(cut, message.at, n);
        tsp_rw1_open(&r, kl_span(cut, n));
        ck_assert_int_eq(next(), TSP_RW1_BROKEN);
        ck_assert_int_eq(err.code, KL_EINVAL);
        ck_assert_int_eq(next(), TSP_RW1_END);         /* and then it is over */
        free(cut);
    }
}
END_TEST

START_TEST(fields_of_a_foreign_type_are_refused)
{
    switch (_i) {
    case 0: w_varint(&message, 1, 1); break;           /* a series that is a number */
    case 1: w_varint(&message, 3, 1); break;
    case 2: w_varint(&series, 1, 1); w_message(&message, 1, &series); break;
    case 3: w_varint(&series, 2, 1); w_message(&message, 1, &series); break;
    case 4:                                            /* a sample's value as varint */
        w_varint(&part, 1, 1);
        w_message(&series, 2, &part);
        w_message(&message, 1, &series);
        break;
    case 5: kl_buf_add8(&message, 0x0b); break;        /* a group */
    case 6: kl_buf_add8(&message, 0x02); kl_buf_add8(&message, 0); break;      /* field 0 */
    case 7: kl_buf_add(&message, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11); break;
    }
    ck_assert_int_eq(first(), TSP_RW1_BROKEN);
    ck_assert_str_eq(err.text, "no remote write message from byte 0 on");
}
END_TEST

START_TEST(a_malformed_label_is_refused_by_labels)
{
    kl_buf_add(&inner, "\x0a\x05" "ab", 4);            /* a name of five bytes, two there */
    w_message(&series, 1, &inner);
    w_message(&message, 1, &series);
    ck_assert_int_eq(first(), TSP_RW1_SERIES);
    ck_assert_int_eq(tsp_rw1_labels(&got, &builder, &err), KL_EINVAL);
}
END_TEST

START_TEST(more_labels_than_the_bound_are_refused)
{
    for (int i = 0; i <= KL_LABELS_MAX; i++)
        add_label(&series, "a", "b");
    w_message(&message, 1, &series);
    ck_assert_int_eq(first(), TSP_RW1_SERIES);
    ck_assert_int_eq(tsp_rw1_labels(&got, &builder, &err), KL_ELIMIT);
}
END_TEST

START_TEST(exemplars_are_read_with_their_labels)
{
    double  value;
    int64_t time_ms;

    add_label(&part, "trace_id", "abc");
    w_double(&part, 2, 0.25);
    w_varint(&part, 3, 1234);
    w_message(&series, 3, &part);
    w_message(&message, 1, &series);
    ck_assert_int_eq(first(), TSP_RW1_SERIES);
    ck_assert_uint_eq(got.exemplar_count, 1);
    ck_assert(tsp_rw1_exemplar(&got, 0, &builder, &time_ms, &value, &err));
    ck_assert(is(builder.pairs[0].name, "trace_id") && is(builder.pairs[0].value, "abc"));
    ck_assert_double_eq(value, 0.25);
    ck_assert_int_eq(time_ms, 1234);
    ck_assert(!tsp_rw1_exemplar(&got, 1, &builder, &time_ms, &value, &err));
    ck_assert_int_eq(err.code, KL_OK);
}
END_TEST

/* ---- native histograms ---- */

static void add_span(uint32_t number, int32_t offset, uint32_t length)
{
    w_zigzag(&inner, 1, offset);
    w_varint(&inner, 2, length);
    w_message(&part, number, &inner);
}

static bool read_hist(struct kl_hist *h, int64_t *time_ms)
{
    w_message(&series, 4, &part);
    w_message(&message, 1, &series);
    ck_assert_int_eq(first(), TSP_RW1_SERIES);
    ck_assert_uint_eq(got.hist_count, 1);
    return tsp_rw1_hist(&got, 0, &arena, time_ms, h, &err);
}

START_TEST(an_integer_histogram_becomes_absolute_counts)       /* packed, and one by one */
{
    const int64_t  deltas[] = { 1, 2, -1 };            /* 1 3 2 */
    struct kl_hist h;
    int64_t        time_ms;

    w_varint(&part, 1, 11);
    w_double(&part, 3, 12.5);
    w_zigzag(&part, 4, -2);
    w_double(&part, 5, 0.001);
    w_varint(&part, 6, 4);
    add_span(8, 1, 1);
    w_zigzag(&part, 9, 1);
    add_span(11, -3, 2);
    add_span(11, 5, 1);
    if (_i == 0) {
        for (int i = 0; i < 3; i++)
            kl_buf_addz(&inner, deltas[i]);
        w_message(&part, 12, &inner);
    } else {
        for (int i = 0; i < 3; i++)
            w_zigzag(&part, 12, deltas[i]);
    }
    w_varint(&part, 14, 2);
    w_varint(&part, 15, 5000);
    ck_assert_msg(read_hist(&h, &time_ms), "%s", err.text);
    ck_assert_int_eq(time_ms, 5000);
    ck_assert(h.was_int && h.schema == -2 && h.reset == KL_HIST_NO_RESET);
    ck_assert_double_eq(h.count, 11);
    ck_assert_double_eq(h.sum, 12.5);
    ck_assert_double_eq(h.zero_threshold, 0.001);
    ck_assert_double_eq(h.zero_count, 4);
    ck_assert_uint_eq(h.pos_count, 3);
    ck_assert(h.pos[0] == 1 && h.pos[1] == 3 && h.pos[2] == 2);
    ck_assert(h.pos_span_count == 2 && h.pos_spans[0].offset == -3 && h.pos_spans[0].length == 2 &&
              h.pos_spans[1].offset == 5 && h.pos_spans[1].length == 1);
    ck_assert(h.neg_count == 1 && h.neg[0] == 1 && h.neg_spans[0].offset == 1);
    ck_assert_ptr_null(h.bounds);
}
END_TEST

START_TEST(a_float_histogram_keeps_its_counts)
{
    struct kl_hist h;
    int64_t        time_ms;

    w_double(&part, 2, 3.75);
    w_double(&part, 7, 0.25);
    add_span(11, 0, 2);
    if (_i == 0) {
        kl_buf_addf64(&inner, 1.5);
        kl_buf_addf64(&inner, 2);
        w_message(&part, 13, &inner);
    } else {
        w_double(&part, 13, 1.5);
        w_double(&part, 13, 2);
    }
    ck_assert_msg(read_hist(&h, &time_ms), "%s", err.text);
    ck_assert(!h.was_int && h.count == 3.75 && h.zero_count == 0.25 && h.pos_count == 2);
    ck_assert(h.pos[0] == 1.5 && h.pos[1] == 2);
}
END_TEST

START_TEST(a_histogram_of_custom_bounds_keeps_them)
{
    struct kl_hist h;
    int64_t        time_ms;

    w_varint(&part, 1, 3);
    w_zigzag(&part, 4, KL_HIST_CUSTOM);
    add_span(11, 0, 3);
    for (int i = 0; i < 3; i++)
        w_zigzag(&part, 12, i == 0);                   /* 1 1 1 */
    kl_buf_addf64(&inner, 0.5);
    kl_buf_addf64(&inner, 5);
    w_message(&part, 16, &inner);
    ck_assert_msg(read_hist(&h, &time_ms), "%s", err.text);
    ck_assert(h.schema == KL_HIST_CUSTOM && h.bound_count == 2 && h.bounds[0] == 0.5 &&
              h.bounds[1] == 5 && h.pos_count == 3 && h.pos[2] == 1);
}
END_TEST

START_TEST(a_stale_histogram_is_a_histogram)
{
    struct kl_hist h;
    int64_t        time_ms;

    w_double(&part, 3, kl_bits_f64(KL_STALE_BITS));
    w_varint(&part, 15, 9);
    ck_assert_msg(read_hist(&h, &time_ms), "%s", err.text);
    ck_assert(kl_is_stale(h.sum) && h.count == 0 && h.pos_count == 0);
}
END_TEST

START_TEST(an_unfit_histogram_is_refused_with_words)
{
    static const char *const words[] = {
        "a histogram with more or fewer buckets than its spans speak of",
        "a histogram whose count is not what its buckets add up to",
        "a histogram with a bucket below 0 or past 2^53",
        "a histogram of schema 9: -4 to 8 and -53 are known",
        "a histogram whose spans overlap",
        "a histogram of integers with float buckets",
        "a histogram of floats with integer buckets",
        "a histogram whose bounds do not rise, or reach +Inf",
        "a histogram of custom bounds with negative or zero buckets",
        "a histogram whose spans lead out of its bounds",
        "a histogram with a count past 2^53",
        "a histogram with a bucket that is cut short",
        "a histogram with a field of a foreign type",
        "a histogram of an exponential schema with custom bounds",
    };
    struct kl_hist h;
    int64_t        time_ms;

    switch (_i) {
    case 0: w_varint(&part, 1, 1); add_span(11, 0, 2); w_zigzag(&part, 12, 1); break;
    case 1: w_varint(&part, 1, 5); add_span(11, 0, 1); w_zigzag(&part, 12, 1); break;
    case 2: w_varint(&part, 1, 0); add_span(11, 0, 1); w_zigzag(&part, 12, -1); break;
    case 3: w_zigzag(&part, 4, 9); break;
    case 4:
        w_varint(&part, 1, 2);
        add_span(11, 0, 1);
        add_span(11, -1, 1);
        w_zigzag(&part, 12, 1);
        w_zigzag(&part, 12, 0);
        break;
    case 5: w_varint(&part, 1, 1); add_span(11, 0, 1); w_double(&part, 13, 1); break;
    case 6: w_double(&part, 2, 1); add_span(11, 0, 1); w_zigzag(&part, 12, 1); break;
    case 7: w_zigzag(&part, 4, -53); w_double(&part, 16, 2); w_double(&part, 16, 2); break;
    case 8: w_zigzag(&part, 4, -53); w_varint(&part, 1, 1); w_varint(&part, 6, 1); break;
    case 9: w_zigzag(&part, 4, -53); w_varint(&part, 1, 1); add_span(11, 1, 1); w_zigzag(&part, 12, 1); break;
    case 10: w_varint(&part, 1, (UINT64_C(1) << 53) + 1); break;
    case 11: kl_buf_adds(&inner, "1234567"); w_message(&part, 13, &inner); break;
    case 12: w_double(&part, 1, 1); break;
    case 13: w_double(&part, 16, 1); break;
    }
    ck_assert(!read_hist(&h, &time_ms));
    ck_assert_int_eq(err.code, KL_EINVAL);
    ck_assert_str_eq(err.text, words[_i]);
}
END_TEST

/* As many buckets as fill the arena's block to its last byte. */
START_TEST(a_bucket_that_breaks_off_behind_the_last_whole_one_is_written_nowhere)
{
    struct kl_hist h;
    int64_t        time_ms;

    for (int i = 0; i < 8192; i++)
        kl_buf_addz(&inner, 0);
    kl_buf_add8(&inner, 0x80);
    w_message(&part, 12, &inner);
    ck_assert(!read_hist(&h, &time_ms));
    ck_assert_int_eq(err.code, KL_EINVAL);
    ck_assert_str_eq(err.text, "a histogram with a bucket that is cut short");
}
END_TEST

START_TEST(a_histogram_past_the_bounds_takes_no_memory)
{
    struct kl_hist h;
    int64_t        time_ms;

    for (int i = 0; i <= KL_HIST_BUCKETS_MAX; i++)
        kl_buf_addz(&inner, 0);
    w_message(&part, 12, &inner);
    ck_assert(!read_hist(&h, &time_ms));
    ck_assert_int_eq(err.code, KL_ELIMIT);
    ck_assert_uint_eq(arena.used_bytes, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libtsproto/rw1");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_series_is_read_as_sent);
    tcase_add_test(t, labels_raw_is_the_bytes_of_the_labels_when_they_lie_in_front);
    tcase_add_test(t, labels_behind_samples_have_no_raw_bytes_and_are_still_read);
    tcase_add_loop_test(t, a_walk_of_samples_gives_each_once_whatever_the_page, 1, 9);
    tcase_add_test(t, times_of_every_length_are_read_in_any_order);
    tcase_add_test(t, metadata_is_read_and_an_unknown_type_is_unknown);
    tcase_add_test(t, unknown_fields_are_passed_over);
    tcase_add_test(t, a_message_cut_anywhere_is_broken_or_a_whole_shorter_one);
    tcase_add_loop_test(t, fields_of_a_foreign_type_are_refused, 0, 8);
    tcase_add_test(t, a_malformed_label_is_refused_by_labels);
    tcase_add_test(t, more_labels_than_the_bound_are_refused);
    tcase_add_test(t, exemplars_are_read_with_their_labels);
    tcase_add_loop_test(t, an_integer_histogram_becomes_absolute_counts, 0, 2);
    tcase_add_loop_test(t, a_float_histogram_keeps_its_counts, 0, 2);
    tcase_add_test(t, a_histogram_of_custom_bounds_keeps_them);
    tcase_add_test(t, a_stale_histogram_is_a_histogram);
    tcase_add_loop_test(t, an_unfit_histogram_is_refused_with_words, 0, 14);
    tcase_add_test(t, a_bucket_that_breaks_off_behind_the_last_whole_one_is_written_nowhere);
    tcase_add_test(t, a_histogram_past_the_bounds_takes_no_memory);
    suite_add_tcase(s, t);
    return run_suite(s);
}
