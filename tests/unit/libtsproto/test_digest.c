/* libtsproto/digest: what members tell of their cuts, and when two of them differ. */
#include "libtsproto/digest.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct kl_err err;

static struct tsp_digest_cut cut(uint64_t seq)
{
    return (struct tsp_digest_cut){ .seq = seq, .end_ms = (int64_t)seq * 1000, .log_from = seq - 5,
                                    .log_hash = seq * 31, .after = 7, .sure = true, .all = true,
                                    .of = { { seq * 10, seq * 3, seq * 5 }, { 1, 2, seq }, { 3, seq, 4 }, { seq, 5, 6 } } };
}

static struct tsp_digest some(uint32_t count)
{
    struct tsp_digest d = { .incarnation = 9 };

    for (uint32_t i = 0; i < count; i++) {
        struct tsp_digest_cut c = cut(100 + 10 * i);

        tsp_digest_tell(&d, &c);
    }
    return d;
}

START_TEST(digests_are_read_as_they_were_written)
{
    for (uint32_t n = 0; n <= TSP_DIGEST_CUTS; n++) {
        struct tsp_digest d = some(n), got;
        struct kl_buf     b = { 0 };

        d.cuts[0].sure = false;
        d.cuts[1].all = false;
        tsp_digest_encode(&d, &b);
        ck_assert_int_eq(tsp_digest_decode(kl_buf_span(&b), &got, &err), KL_OK);
        ck_assert_uint_eq(got.incarnation, 9);
        ck_assert_uint_eq(got.count, n);
        for (uint32_t i = 0; i < n; i++) {
            ck_assert_uint_eq(got.cuts[i].seq, d.cuts[i].seq);
            ck_assert_int_eq(got.cuts[i].end_ms, d.cuts[i].end_ms);
            ck_assert_uint_eq(got.cuts[i].log_from, d.cuts[i].log_from);
            ck_assert_uint_eq(got.cuts[i].log_hash, d.cuts[i].log_hash);
            ck_assert_uint_eq(got.cuts[i].after, d.cuts[i].after);
            ck_assert_int_eq(got.cuts[i].sure, i > 0);
            ck_assert_int_eq(got.cuts[i].all, i != 1);
            ck_assert_mem_eq(&got.cuts[i].of, &d.cuts[i].of, sizeof d.cuts[i].of);
        }
        kl_buf_deinit(&b);
    }
}
END_TEST

START_TEST(digests_of_the_version_before_are_read_and_compared_by_their_samples)
{
    static const uint64_t one[] = { 100, 100000, 95, 3100, 7 }, sum[] = { 1000, 300, 500 };
    struct kl_buf         b = { 0 };
    struct tsp_digest     got;
    struct tsp_digest_cut now = cut(100);
    uint32_t              crc;

    kl_buf_add(&b, "KD\1\1", 4);
    kl_buf_add64(&b, 9);
    for (int i = 0; i < 5; i++)
        kl_buf_add64(&b, one[i]);
    kl_buf_add8(&b, 1);
    for (int i = 0; i < 3; i++)
        kl_buf_add64(&b, sum[i]);
    crc = kl_crc32c(0, b.at, b.size);
    kl_buf_add32(&b, crc);
    ck_assert_int_eq(tsp_digest_decode(kl_buf_span(&b), &got, &err), KL_OK);
    ck_assert_uint_eq(got.count, 1);
    ck_assert(got.cuts[0].sure && !got.cuts[0].all);
    ck_assert_int_eq(tsp_digest_compare(&got.cuts[0], &now), TSP_DIGEST_SAME);
    now.of[TSP_DIGEST_SAMPLES].lo++;
    ck_assert_int_eq(tsp_digest_compare(&got.cuts[0], &now), TSP_DIGEST_OTHER_CONTENT);
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(digests_that_are_cut_short_or_changed_anywhere_are_corrupt)
{
    struct tsp_digest d = some(3), got = { .incarnation = 4711 };
    struct kl_buf     b = { 0 };

    tsp_digest_encode(&d, &b);
    for (size_t i = 0; i < b.size; i++) {
        ck_assert_int_eq(tsp_digest_decode(kl_span(b.at, i), &got, &err), KL_ECORRUPT);
        b.at[i] ^= 0x40;
        ck_assert_int_eq(tsp_digest_decode(kl_buf_span(&b), &got, &err), KL_ECORRUPT);
        b.at[i] ^= 0x40;
    }
    ck_assert_uint_eq(got.incarnation, 4711);
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(a_key_names_its_partition_and_its_member)
{
    char     key[200], member[TSP_NAME_MAX + 1];
    uint32_t partition;

    tsp_digest_key(key, sizeof key, 17, "ingestor-3.zone-b");
    ck_assert_str_eq(key, "digest.0017.ingestor-3.zone-b");
    ck_assert(tsp_digest_of(key, &partition, member));
    ck_assert_uint_eq(partition, 17);
    ck_assert_str_eq(member, "ingestor-3.zone-b");
    ck_assert(!tsp_digest_of("digest.0017", &partition, member));
    ck_assert(!tsp_digest_of("digest.0017.", &partition, member));
    ck_assert(!tsp_digest_of("digest.17.a", &partition, member));
    ck_assert(!tsp_digest_of("digest.00017.a", &partition, member));
    ck_assert(!tsp_digest_of("log.0017", &partition, member));
    tsp_repair_key(key, sizeof key, 9, "ia");
    ck_assert_str_eq(key, "repair.0009.ia");
    ck_assert(tsp_repair_of(key, &partition, member));
    ck_assert_uint_eq(partition, 9);
    ck_assert_str_eq(member, "ia");
    ck_assert(!tsp_digest_of(key, &partition, member));
    ck_assert(!tsp_repair_of("repair.0009.", &partition, member));
}
END_TEST

START_TEST(only_the_last_cuts_are_told)
{
    struct tsp_digest d = some(TSP_DIGEST_CUTS + 3);

    ck_assert_uint_eq(d.count, TSP_DIGEST_CUTS);
    ck_assert_uint_eq(d.cuts[0].seq, 130);
    ck_assert_uint_eq(d.cuts[TSP_DIGEST_CUTS - 1].seq, 100 + 10 * (TSP_DIGEST_CUTS + 2));
}
END_TEST

static struct tsp_digest_sum sum_of(const int64_t (*samples)[2], unsigned count, uint64_t series)
{
    struct tsp_digest_sum s = { 0 };
    struct kl_fp          key = kl_hash128(&series, sizeof series);

    for (unsigned i = 0; i < count; i++)
        tsp_digest_add(&s, key, samples[i][0], (uint64_t)samples[i][1]);
    return s;
}

START_TEST(a_sum_minds_every_bit_and_no_order)
{
    static const int64_t in_order[3][2] = { { 1000, 5 }, { 2000, 6 }, { 3000, 5 } },
                         otherwise[3][2] = { { 3000, 5 }, { 1000, 5 }, { 2000, 6 } },
                         swapped[3][2] = { { 1000, 6 }, { 2000, 5 }, { 3000, 5 } };
    struct tsp_digest_sum a = sum_of(in_order, 3, 1), b = sum_of(otherwise, 3, 1), c = sum_of(swapped, 3, 1);

    ck_assert_mem_eq(&a, &b, sizeof a);
    ck_assert(a.lo != c.lo || a.hi != c.hi);
    b = sum_of(in_order, 3, 2);
    ck_assert(a.lo != b.lo || a.hi != b.hi);
    for (unsigned field = 0; field < 2; field++)
        for (unsigned bit = 0; bit < 64; bit++) {
            int64_t other[3][2];

            memcpy(other, in_order, sizeof other);
            other[1][field] ^= (int64_t)(UINT64_C(1) << bit);
            b = sum_of((const int64_t (*)[2])other, 3, 1);
            ck_assert(a.lo != b.lo || a.hi != b.hi);
        }
}
END_TEST

START_TEST(cuts_are_compared_as_far_as_both_members_know_the_same)
{
    struct tsp_digest_cut a = cut(100), b = a;

    ck_assert_int_eq(tsp_digest_compare(&a, &b), TSP_DIGEST_SAME);
    for (int k = 0; k < TSP_DIGEST_KINDS; k++) {
        b.of[k].hi ^= 1;
        ck_assert_int_eq(tsp_digest_compare(&a, &b), TSP_DIGEST_OTHER_CONTENT);
        b = a;
    }
    b.of[TSP_DIGEST_SAMPLES].count++;
    ck_assert_int_eq(tsp_digest_compare(&a, &b), TSP_DIGEST_OTHER_CONTENT);
    b = a;
    b.of[TSP_DIGEST_STARTS].lo++;
    ck_assert_int_eq(tsp_digest_compare(&a, &b), TSP_DIGEST_OTHER_CONTENT);
    b.sure = false;
    ck_assert_int_eq(tsp_digest_compare(&a, &b), TSP_DIGEST_OPEN);
    ck_assert_int_eq(tsp_digest_compare(&b, &a), TSP_DIGEST_OPEN);
    b.sure = true;
    b.after++;
    ck_assert_int_eq(tsp_digest_compare(&a, &b), TSP_DIGEST_OPEN);
    b.log_hash++;                                      /* the log is compared all the same */
    ck_assert_int_eq(tsp_digest_compare(&a, &b), TSP_DIGEST_OTHER_LOG);
    b.log_from++;
    ck_assert_int_eq(tsp_digest_compare(&a, &b), TSP_DIGEST_OPEN);
    b = a;
    b.log_from = 0;
    b.log_hash++;
    ck_assert_int_eq(tsp_digest_compare(&a, &b), TSP_DIGEST_SAME);
    b = cut(110);
    ck_assert_int_eq(tsp_digest_compare(&a, &b), TSP_DIGEST_OPEN);
}
END_TEST

static char said[20][TSP_DIGEST_WORDS_MAX];
static unsigned said_count;
static void each(void *ctx, const struct tsp_difference *x)
{
    (void)ctx;
    tsp_difference_words(x, said[said_count++], sizeof said[0]);
}

static void put(struct tsp_digests *all, const char *key, const struct tsp_digest *d)
{
    struct kl_buf b = { 0 };
    uint32_t      partition = UINT32_MAX;

    if (d != NULL)
        tsp_digest_encode(d, &b);
    ck_assert(tsp_digests_put(all, key, kl_buf_span(&b), &partition, &err));
    ck_assert_uint_eq(partition, (uint32_t)strtoul(key + sizeof TSP_DIGEST_PREFIX - 1, NULL, 10));
    kl_buf_deinit(&b);
}

START_TEST(every_two_members_of_a_partition_are_compared_and_differences_named)
{
    struct tsp_digests *all = tsp_digests_new();
    struct tsp_digest   a = some(4), b = some(3), c = some(2);
    struct tsp_alike    same;
    uint32_t            partition;

    put(all, "digest.0003.b", &b);
    put(all, "digest.0003.a", &a);
    put(all, "digest.0004.c", &c);                     /* of another partition */
    ck_assert_uint_eq(tsp_digests_differ(all, UINT32_MAX, each, NULL, &same), 0);
    ck_assert_uint_eq(same.count, 3);
    ck_assert_uint_eq(same.last_seq, 120);

    b.cuts[1].of[TSP_DIGEST_SAMPLES].count = 1;
    b.cuts[2].log_hash = 1;
    c.cuts[0].of[TSP_DIGEST_METADATA].lo = 0;
    put(all, "digest.0003.b", &b);
    put(all, "digest.0003.c", &c);
    said_count = 0;
    ck_assert_uint_eq(tsp_digests_differ(all, 3, each, NULL, &same), 5);
    ck_assert_uint_eq(said_count, 5);
    ck_assert_uint_eq(same.count, 2);                        /* a and b: 100; a and c: 110 */
    ck_assert_str_eq(said[0], "partition 3, cut 110: members a and b hold different samples: a has 1100, digest "
                     "000000000000014a0000000000000226, b has 1, digest 000000000000014a0000000000000226");
    ck_assert_str_eq(said[1], "partition 3, cut 120: the log gave members a and b different records from 115 to "
                     "119 (hash 0000000000000e88 and 0000000000000001)");
    ck_assert_str_eq(said[2], "partition 3, cut 100: members a and c hold different metadata: a has 100, digest "
                     "00000000000000050000000000000006, c has 100, digest 00000000000000050000000000000000");
    ck_assert_uint_eq(tsp_digests_differ(all, 4, NULL, NULL, NULL), 0);
    ck_assert_uint_eq(tsp_digests_differ(all, 5, NULL, NULL, NULL), 0);

    put(all, "digest.0003.b", NULL);                   /* it left */
    ck_assert_uint_eq(tsp_digests_differ(all, UINT32_MAX, NULL, NULL, NULL), 1);
    c.incarnation++;                                   /* of another log: other cuts */
    put(all, "digest.0003.c", &c);
    ck_assert_uint_eq(tsp_digests_differ(all, UINT32_MAX, NULL, NULL, NULL), 0);
    ck_assert(!tsp_digests_put(all, "digest.0003.a", kl_span_str("from a later version"), &partition, &err));
    ck_assert(!tsp_digests_put(all, "digest.x", kl_span_str(""), &partition, &err));
    tsp_digests_free(all);
    tsp_digests_free(NULL);
}
END_TEST

static uint32_t votes[2];
static void vote(void *ctx, const struct tsp_difference *x)
{
    if (strcmp(x->a, "a") == 0 && strcmp(x->b, "b") == 0)
        tsp_digests_votes(ctx, x, &votes[0], &votes[1]);
}

START_TEST(members_that_have_the_same_as_one_of_two_are_counted)
{
    struct tsp_digests *all = tsp_digests_new();
    struct tsp_digest   a = some(2), b = some(2), other = some(2);

    b.cuts[1].of[TSP_DIGEST_STARTS].hi++;
    other.cuts[1].of[TSP_DIGEST_STARTS].hi += 2;
    put(all, "digest.0003.a", &a);
    put(all, "digest.0003.b", &b);
    put(all, "digest.0004.c", &b);                     /* of another partition */
    ck_assert_uint_eq(tsp_digests_differ(all, 3, vote, all, NULL), 1);
    ck_assert_uint_eq(votes[0] + votes[1], 0);
    put(all, "digest.0003.c", &b);
    put(all, "digest.0003.d", &a);
    put(all, "digest.0003.e", &b);
    put(all, "digest.0003.f", &other);                 /* of neither */
    tsp_digests_differ(all, 3, vote, all, NULL);
    ck_assert_uint_eq(votes[0], 1);
    ck_assert_uint_eq(votes[1], 2);
    tsp_digests_free(all);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libtsproto/digest");
    TCase *t = tcase_create("all");

    tcase_add_test(t, digests_are_read_as_they_were_written);
    tcase_add_test(t, digests_of_the_version_before_are_read_and_compared_by_their_samples);
    tcase_add_test(t, digests_that_are_cut_short_or_changed_anywhere_are_corrupt);
    tcase_add_test(t, a_key_names_its_partition_and_its_member);
    tcase_add_test(t, only_the_last_cuts_are_told);
    tcase_add_test(t, a_sum_minds_every_bit_and_no_order);
    tcase_add_test(t, cuts_are_compared_as_far_as_both_members_know_the_same);
    tcase_add_test(t, every_two_members_of_a_partition_are_compared_and_differences_named);
    tcase_add_test(t, members_that_have_the_same_as_one_of_two_are_counted);
    suite_add_tcase(s, t);
    return run_suite(s);
}
