/* libblock/fileset: what stays in memory of what was read, and what the store is asked for, and told of. */
#include "tests/unit/libblock/fileset_fixture.h"

/* Of what is kept alone: false where that does not do. */
static bool kept_sum(struct blk_fileset *f, const struct kl_matcher *m, size_t count, uint32_t most, uint64_t *sum)
{
    struct blk_select  *s;
    struct blk_selected one;
    enum kl_code        code = blk_select_open_kept(f, m, count, INT64_MIN, INT64_MAX, true, most, &s, &err);

    *sum = 0;
    if (code == KL_OK) {
        while ((code = blk_select_next(s, &one, &err)) == KL_OK) {
            *sum = kl_hash64_seed(one.labels.at, one.labels.size, *sum);
            for (uint32_t i = 0; i < one.chunk_count; i++)
                *sum = kl_hash64_seed(one.chunks[i].bytes.at, one.chunks[i].bytes.size, *sum);
        }
        blk_select_close(s);
    }
    ck_assert(code == KL_ENOENT || code == KL_EAGAIN);
    return code == KL_ENOENT;
}

static uint64_t select_sum(struct blk_fileset *f, const struct kl_matcher *m, size_t count)
{
    struct blk_select  *s;
    struct blk_selected one;
    uint64_t            sum = 0;

    ck_assert_int_eq(blk_select_open(f, m, count, INT64_MIN, INT64_MAX, true, &s, &err), KL_OK);
    while (blk_select_next(s, &one, &err) == KL_OK) {
        sum = kl_hash64_seed(one.labels.at, one.labels.size, sum);
        for (uint32_t i = 0; i < one.chunk_count; i++)
            sum = kl_hash64_seed(one.chunks[i].bytes.at, one.chunks[i].bytes.size, sum);
    }
    ck_assert_int_eq(err.code, KL_ENOENT);
    blk_select_close(s);
    return sum;
}

START_TEST(what_is_kept_gives_the_same_answers_within_its_bound)       /* a wide bound, a tight one */
{
    struct blk_keep     keep = { .cap_bytes = _i == 0 ? 64 << 20 : 20000 };
    struct blk_fileset *f;
    struct kl_matcher   m = { .op = KL_MATCH_NE, .name = kit_text("device"), .value = kit_text("sda") };
    uint64_t            all, some, kept;

    kit_make(9, 600, 40, start, 15000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    f = open_one(0);
    all = select_sum(f, NULL, 0);
    some = select_sum(f, &m, 1);
    ck_assert(!kept_sum(f, &m, 1, 1000, &kept));
    blk_fileset_keep(f, &keep);
    ck_assert(!kept_sum(f, &m, 1, 1000, &kept));
    for (unsigned round = 0; round < 4; round++) {
        ck_assert(select_sum(f, NULL, 0) == all);
        if (_i == 0)
            ck_assert_uint_gt(atomic_load(&keep.bytes), 0);
        ck_assert(select_sum(f, &m, 1) == some);
        ck_assert_uint_le(atomic_load(&keep.bytes), keep.cap_bytes);
        ck_assert(!kept_sum(f, &m, 1, 3, &kept));
        if (kept_sum(f, &m, 1, 1000, &kept))
            ck_assert(kept == some);
        else
            ck_assert_int_eq(_i, 1);
    }
    if (_i == 0)
        ck_assert_uint_gt(atomic_load(&keep.hits), 0);
    blk_fileset_trim(f);                               /* all was used since the last one */
    ck_assert(_i > 0 || atomic_load(&keep.bytes) > 0);
    ck_assert(select_sum(f, &m, 1) == some);
    blk_fileset_trim(f);
    blk_fileset_trim(f);
    ck_assert_uint_eq(atomic_load(&keep.bytes), 0);
    ck_assert(select_sum(f, &m, 1) == some);
    ck_assert(select_sum(f, NULL, 0) == all);
    blk_fileset_unref(f);
    ck_assert_uint_eq(atomic_load(&keep.bytes), 0);
}
END_TEST

/* All of it; how much of what was needed was in memory already, in a thousand. */
static uint64_t pass_over(struct blk_fileset *f, bool again)
{
    struct blk_select  *s;
    struct blk_selected one;
    struct blk_tally    t;

    if (again)
        ck_assert_int_eq(blk_select_open_ahead(f, NULL, 0, INT64_MIN, INT64_MAX, &s, &err), KL_OK);
    else
        ck_assert_int_eq(blk_select_open(f, NULL, 0, INT64_MIN, INT64_MAX, true, &s, &err), KL_OK);
    while (blk_select_next(s, &one, &err) == KL_OK)
        ;
    t = blk_select_tally(s);
    blk_select_close(s);
    return t.data.memory * 1000 / t.data.wanted;
}

/* A small fileset that is read again and again, and one of many times the room, trimmed as a querier does. */
START_TEST(one_pass_over_everything_drives_out_nothing_that_is_used)
{
    struct blk_keep     keep = { .cap_bytes = 64 << 20 };
    struct blk_fileset *used, *large;

    kit_make(9, 300, 200, start, 15000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    used = open_one(0);
    blk_fileset_keep(used, &keep);
    ck_assert_uint_eq(pass_over(used, false), 0);
    ck_assert_uint_eq(pass_over(used, false), 1000);
    keep.cap_bytes = atomic_load(&keep.bytes) * 3 / 2; /* more than half of it is taken */
    info.id++;
    blk_fileset_path(&info, path);
    kit_make(10, 3000, 400, start, 15000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    large = open_one(0);
    blk_fileset_keep(large, &keep);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_lt(pass_over(large, false), 500);
        ck_assert_uint_eq(pass_over(used, false), 1000);
        blk_fileset_trim(used);
        blk_fileset_trim(large);
        ck_assert_uint_le(atomic_load(&keep.bytes), keep.cap_bytes);
    }
    blk_fileset_unref(used);
    blk_fileset_unref(large);
}
END_TEST

START_TEST(what_is_read_ahead_is_there_where_there_is_room_for_what_is_read_twice)
{
    struct blk_keep     keep = { .cap_bytes = 64 << 20 };
    struct blk_fileset *used, *next;

    kit_make(9, 300, 200, start, 15000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    used = open_one(0);
    blk_fileset_keep(used, &keep);
    pass_over(used, false);
    keep.cap_bytes = atomic_load(&keep.bytes) * 7 / 4; /* so that one pass leaves nothing */
    info.id++;
    blk_fileset_path(&info, path);
    kit_make(10, 200, 200, start, 15000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    next = open_one(0);
    blk_fileset_keep(next, &keep);
    pass_over(next, true);
    blk_fileset_trim(next);                            /* before anybody asked for it */
    ck_assert_uint_eq(pass_over(next, false), 1000);
    blk_fileset_unref(used);
    blk_fileset_unref(next);
}
END_TEST

/* What a store is told to be asked for soon, and whether it is asked for just that. */
static struct { uint64_t at; size_t size; unsigned told, met; } ahead;

static void be_told(struct kl_store *s, const char *key, uint64_t offset, size_t size)
{
    (void)s;
    (void)key;
    ahead.told++;
    ahead.at = offset;
    ahead.size = size;
}

static enum kl_code be_asked(struct kl_store *s, const char *key, uint64_t at, void *b, size_t n, struct kl_err *e)
{
    if (ahead.size > 0 && strstr(key, "/data") != NULL) {
        ahead.met += at == ahead.at && n == ahead.size;
    }
    return kit_get(s, key, at, b, n, e);
}

START_TEST(what_comes_after_a_run_is_told_to_the_store_before_it_is_read)
{
    struct kl_matcher   m = { .op = KL_MATCH_RE, .name = kit_text("__name__"), .value = kit_text("metric_0[06]_total") };
    struct blk_fileset *f;
    struct blk_select  *s;
    struct blk_selected one;
    struct kl_regex    *re;

    memset(&ahead, 0, sizeof ahead);
    kit_make(9, 2000, 400, start, 15000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    store.store.ahead = be_told;
    store.store.get = be_asked;
    f = open_one(1);
    ck_assert_int_eq(kl_regex_new(m.value, &re, &err), KL_OK);
    m.re = re;
    ck_assert_int_eq(blk_select_open(f, &m, 1, INT64_MIN, INT64_MAX, true, &s, &err), KL_OK);
    while (blk_select_next(s, &one, &err) == KL_OK)
        ;
    blk_select_close(s);
    blk_fileset_unref(f);
    kl_regex_free(re);
    ck_assert_uint_ge(ahead.told, 1);
    ck_assert_uint_eq(ahead.met, ahead.told);
}
END_TEST

START_TEST(a_store_is_asked_for_little_more_than_the_frames_needed_and_it_is_told)
{
    static const char *const some[] = { "host-00.:9100", "host-0[0-9]*7:9100", "host-.2[02468].*", "host-03[0-9].*" };
    struct blk_fileset *f;
    struct blk_keep     keep = { .cap_bytes = 64 << 20 };

    kit_make(9, 600, 400, start, 15000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    f = open_one(1);
    ck_assert_uint_gt(blk_fileset_opening(f)->store, 0);
    ck_assert_uint_gt(blk_fileset_opening(f)->requests, 2);
    for (unsigned i = 0; i < 12; i++) {
        struct kl_matcher   m = { .op = KL_MATCH_RE, .name = kit_text("instance"), .value = kit_text(some[i % 4]) };
        struct kl_regex    *re;
        struct blk_select  *s;
        struct blk_selected one;
        struct blk_tally    t;
        unsigned            gets = store.gets;

        if (i == 4)
            blk_fileset_keep(f, &keep);
        ck_assert_int_eq(kl_regex_new(m.value, &re, &err), KL_OK);
        m.re = re;
        ck_assert_int_eq(blk_select_open(f, &m, 1, INT64_MIN, INT64_MAX, true, &s, &err), KL_OK);
        while (blk_select_next(s, &one, &err) == KL_OK)
            ;
        t = blk_select_tally(s);
        ck_assert_uint_gt(t.data.wanted, 0);
        ck_assert_uint_le(t.data.memory, t.data.wanted);
        ck_assert_uint_ge(t.data.store + t.data.memory, t.data.wanted);
        ck_assert_uint_le(t.data.store, (t.data.wanted - t.data.memory) * 3 / 2);
        ck_assert_uint_eq(t.data.requests + t.index.requests, store.gets - gets);
        ck_assert(i < 8 || t.data.memory == t.data.wanted);
        blk_select_close(s);
        kl_regex_free(re);
    }
    blk_fileset_unref(f);
}
END_TEST

START_TEST(stored_fileset_is_read_in_few_requests)
{
    struct blk_fileset *f;
    struct blk_select  *s;
    struct blk_selected one;
    struct kl_matcher   m = { .op = KL_MATCH_EQ, .name = kit_text("instance"),
                              .value = kit_text("host-003:9100") };
    uint32_t            n = 0;

    kit_make(13, 3000, 300, start, 15000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    f = open_one(1);
    ck_assert_uint_le(store.gets, 6);                  /* checkpoint, meta's end, what was not in it */
    ck_assert_uint_gt(f->summaries.data.count, 5);
    store.gets = 0;
    ck_assert_int_eq(blk_select_open(f, NULL, 0, INT64_MIN, INT64_MAX, true, &s, &err), KL_OK);
    for (; blk_select_next(s, &one, &err) == KL_OK; n++)
        check_series(&one, series_of(one.fp));
    ck_assert_uint_eq(n, 3000);
    blk_select_close(s);
    ck_assert_uint_le(store.gets, 2 + f->digests[BLK_DATA].size / (1 << 20) * 2);
    store.gets = 0;                                    /* scattered, but near enough */
    ck_assert_int_eq(blk_select_open(f, &m, 1, INT64_MIN, INT64_MAX, true, &s, &err), KL_OK);
    for (n = 0; blk_select_next(s, &one, &err) == KL_OK; n++)
        check_series(&one, series_of(one.fp));
    ck_assert_uint_gt(n, 20);
    blk_select_close(s);
    ck_assert_uint_le(store.gets, 4);
    blk_fileset_unref(f);
}
END_TEST

START_TEST(object_that_went_while_it_was_read_is_corruption_not_the_end)
{
    char                key[KL_STORE_KEY_MAX + 1];
    struct blk_fileset *f;
    struct blk_select  *s;
    struct blk_selected one;
    struct kit_object  *gone;
    enum kl_code        code;

    kit_make(13, 300, 300, start, 15000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    f = open_one(1);
    blk_fileset_path(&info, path);
    snprintf(key, sizeof key, "%s/data", path);
    gone = kit_find(&store.store, key);
    ck_assert_ptr_nonnull(gone);
    gone->key[0] = '!';
    ck_assert_int_eq(blk_select_open(f, NULL, 0, INT64_MIN, INT64_MAX, true, &s, &err), KL_OK);
    while ((code = blk_select_next(s, &one, &err)) == KL_OK)
        ;
    ck_assert_int_eq(code, KL_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(err.text, "missing"));
    blk_select_close(s);
    blk_fileset_unref(f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libblock/fileset: reads");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, what_is_kept_gives_the_same_answers_within_its_bound, 0, 2);
    tcase_add_test(t, one_pass_over_everything_drives_out_nothing_that_is_used);
    tcase_add_test(t, what_is_read_ahead_is_there_where_there_is_room_for_what_is_read_twice);
    tcase_add_test(t, stored_fileset_is_read_in_few_requests);
    tcase_add_test(t, object_that_went_while_it_was_read_is_corruption_not_the_end);
    tcase_add_test(t, what_comes_after_a_run_is_told_to_the_store_before_it_is_read);
    tcase_add_test(t, a_store_is_asked_for_little_more_than_the_frames_needed_and_it_is_told);
    suite_add_tcase(s, t);

    return run_suite(s);
}
