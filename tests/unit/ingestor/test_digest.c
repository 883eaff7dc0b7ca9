/* What a member knows of its log and its cuts, to be compared with others: a partition by itself. */
#include "snap_kit.h"
#include "tests/suite.h"

#include <check.h>

static struct snap_kit *k;
static struct ing_partition *p;

static void setup(void)
{
    k = snap_kit_new(NULL, 7200000);
    p = &k->p;
    ing_digest_reset(p);
}

static void teardown(void) { snap_kit_free(k); }

/* A record of so much content, applied. */
static void record(uint64_t seq, uint64_t content)
{
    p->record_time_ms = (int64_t)seq * 1000;
    ing_digest_begin_record(p);
    p->record_seq = p->applied = seq;
    p->applied_hash = content;
    ing_digest_record(p, seq);
}

/* One that is a cut, which seals something. */
static struct tsp_digest_cut cut(uint64_t seq, int64_t end_ms)
{
    struct tsp_digest_cut c;

    p->record_time_ms = (int64_t)seq * 1000;
    ing_digest_begin_record(p);
    ing_digest_cut_read(p, seq);
    ing_digest_cut(p, end_ms, &c);
    ing_digest_obeyed(p, seq, end_ms);
    p->applied = seq;
    p->applied_hash = 1;
    ing_digest_record(p, seq);
    return c;
}

static void begin(uint64_t applied)
{
    ing_digest_reset(p);
    p->restored = (struct ing_restored){ 0 };
    p->manifest.cut_count = 0;
    p->applied = applied;
    ing_digest_loaded(p);
}

START_TEST(the_log_s_hash_is_of_the_records_between_two_cuts_in_their_order)
{
    struct tsp_digest_cut a, b, c;

    begin(0);
    record(1, 11);
    record(2, 12);
    a = cut(3, 1000);
    record(4, 14);
    b = cut(5, 2000);
    ck_assert_uint_eq(a.log_from, 1);
    ck_assert_uint_eq(b.log_from, 3);

    begin(0);                                          /* the same once more, but for the order of two */
    record(1, 12);
    record(2, 11);
    c = cut(3, 1000);
    ck_assert_uint_eq(c.log_from, 1);
    ck_assert_uint_ne(c.log_hash, a.log_hash);
    record(4, 14);
    c = cut(5, 2000);
    ck_assert_uint_eq(c.log_hash, b.log_hash);

    begin(1);                                          /* it has not read them all, up to the first cut */
    record(2, 12);
    c = cut(3, 1000);
    ck_assert_uint_eq(c.log_from, 0);
    record(4, 14);
    c = cut(5, 2000);
    ck_assert_uint_eq(c.log_from, 3);
    ck_assert_uint_eq(c.log_hash, b.log_hash);
}
END_TEST

START_TEST(a_snapshot_of_other_records_than_the_log_has_is_doubted_though_the_last_is_the_same)
{
    for (int other = 0; other < 2; other++) {
        begin(0);
        record(1, 11);
        record(2, 12);
        p->restored = (struct ing_restored){ .is = true, .seq = 2, .seq_end = 4 };
        for (int replay = 0; replay < 2; replay++) {
            struct ing_digest at = p->digest;

            record(3, replay == 1 && other == 1 ? 99 : 13);
            ck_assert(!ing_digest_is_other(p));
            record(4, 14);
            if (replay == 1)
                break;
            p->restored.log_from = p->digest.log_from;
            p->restored.log_hash = p->digest.log_hash;
            p->digest = at;
            p->digest.check_seq = 4;
        }
        ck_assert_int_eq(ing_digest_is_other(p), other == 1);
        ck_assert(!ing_digest_is_other(p));            /* once is enough */
        ck_assert_int_eq(p->damaged, other == 1);
    }
}
END_TEST

START_TEST(cuts_after_other_cuts_are_not_compared_until_one_covers_them_all)
{
    struct tsp_digest_cut a, b;

    begin(0);
    cut(1, 1000);
    cut(2, INT64_MAX);
    a = cut(3, 2000);
    begin(0);                                          /* the second was passed over */
    cut(1, 1000);
    b = cut(3, 2000);
    ck_assert_uint_ne(a.after, b.after);
    a = cut(4, INT64_MAX);
    b = cut(5, 3000);
    begin(3);                                          /* begins with the catalogue, as that stands after 4 */
    p->manifest.cut_count = 1;
    p->manifest.cuts[0] = (struct blk_cut){ 4, INT64_MAX };
    ing_digest_catalogued(p);
    a = cut(5, 3000);
    ck_assert_uint_eq(a.after, b.after);
    ck_assert(a.sure);
}
END_TEST

START_TEST(what_may_have_been_taken_before_is_doubtful_until_a_cut_takes_it)
{
    begin(0);
    record(1, 11);
    ing_digest_doubt(p, 2500);                         /* as of a sample that waited for its definition */
    ck_assert(!cut(2, 1000).sure);
    ck_assert(!cut(3, 3000).sure);                     /* this one takes it */
    ck_assert(cut(4, 4000).sure);

    begin(4);                                          /* a cut that was passed over here, and not elsewhere */
    record(5, 11);
    p->manifest.cut_count = 1;
    p->manifest.cuts[0] = (struct blk_cut){ 5, 5000 };
    ing_digest_catalogued(p);
    ck_assert(!cut(6, 6000).sure);
    ck_assert(cut(7, 7000).sure);
    p->manifest.cuts[0] = (struct blk_cut){ 9, 9000 }; /* one that comes yet: what it covers is passed over */
    ing_digest_catalogued(p);
    ck_assert(!cut(8, INT64_MAX).sure);
}
END_TEST

START_TEST(a_reader_that_just_began_knows_no_repeats)
{
    begin(10);
    cut(11, 5000);
    record(12, 1);
    ck_assert_int_eq(p->digest.taken_ms, 5000);        /* a sample before it may be one */
    record(100, 1);
    ck_assert_int_eq(p->digest.taken_ms, 5000);
    record(11 + 181, 1);
    ck_assert_int_eq(p->digest.taken_ms, INT64_MIN);
    begin(0);                                          /* from the log's begin there is nothing it missed */
    cut(1, 5000);
    record(2, 1);
    ck_assert_int_eq(p->digest.taken_ms, INT64_MIN);
    p->i->o.no_repeats = true;
    begin(10);
    cut(11, 5000);
    record(12, 1);
    ck_assert_int_eq(p->digest.taken_ms, INT64_MIN);
}
END_TEST

START_TEST(more_cuts_than_there_is_room_for_make_nothing_comparable_and_nothing_worse)
{
    begin(0);
    for (unsigned n = 0; n < 3 * BLK_CUTS_MAX; n++)    /* none covers another */
        cut(n + 1, 1000000 - (int64_t)n);
    ck_assert_uint_le(p->digest.cuts.cut_count, BLK_CUTS_MAX);
    ck_assert(!cut(1000, 1).sure);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ingestor/digest");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, the_log_s_hash_is_of_the_records_between_two_cuts_in_their_order);
    tcase_add_test(t, a_snapshot_of_other_records_than_the_log_has_is_doubted_though_the_last_is_the_same);
    tcase_add_test(t, cuts_after_other_cuts_are_not_compared_until_one_covers_them_all);
    tcase_add_test(t, what_may_have_been_taken_before_is_doubtful_until_a_cut_takes_it);
    tcase_add_test(t, a_reader_that_just_began_knows_no_repeats);
    tcase_add_test(t, more_cuts_than_there_is_room_for_make_nothing_comparable_and_nothing_worse);
    suite_add_tcase(s, t);
    return run_suite(s);
}
