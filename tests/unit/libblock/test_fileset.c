/*
 * libblock/fileset: what is written is read, by any way of selecting; what is broken is named and
 * never served; a writer that fails leaves nothing that looks whole.
 */
#include "libblock/fileset_priv.h"

#include <pthread.h>
#include <unistd.h>

#include "tests/unit/libblock/fileset_kit.h"

static struct kl_env_disk_sim *disk;
static struct kl_env_dir      *root;
static struct kit_store        store;
static struct kl_err           err;
static const int64_t           start = 1700000000000 / 7200000 * 7200000;
static struct blk_info         info;
static char                    path[BLK_PATH_MAX + 1];

static void setup(void)
{
    disk = kl_env_disk_sim_new();
    root = kl_env_disk_sim_root(disk);
    kit_store_init(&store);
    info = (struct blk_info){ .tenant = "anonymous", .partition = 3, .window_start_ms = start,
                              .window_ms = 7200000, .id = 4711, .incarnation = 0xabcdef, .first_seq = 12 };
    blk_fileset_path(&info, path);
}

/* A folder that could not be synced is dead until it is opened anew (dir.h). */
static void reopen(void)
{
    root->leave(root);
    root = kl_env_disk_sim_root(disk);
}

static void teardown(void)
{
    root->leave(root);
    kl_env_disk_sim_free(disk);
    kit_store_deinit(&store);
}

/* Opens the local one, or, for odd, the uploaded one. */
static struct blk_fileset *open_one(int how)
{
    struct blk_fileset *f;

    if (how % 2) {
        ck_assert_msg(blk_fileset_upload(root, path, &store.store, &err) == KL_OK, "%s", err.text);
        ck_assert_msg(blk_fileset_open_store(&store.store, path, &f, &err) == KL_OK, "%s", err.text);
    } else {
        ck_assert_msg(blk_fileset_open_local(root, path, &f, &err) == KL_OK, "%s", err.text);
    }
    return f;
}

static struct kit_series *series_of(struct kl_fp fp)
{
    for (uint32_t i = 0; i < kit_count; i++)
        if (kl_fp_cmp(kit[i].fp, fp) == 0)
            return &kit[i];
    return NULL;
}

static void check_series(const struct blk_selected *s, const struct kit_series *want)
{
    static int64_t times[BLK_CHUNK_MAX];
    static double  values[BLK_CHUNK_MAX];
    static struct kl_hist hists[BLK_CHUNK_MAX];
    uint32_t at = 0, n;
    struct kl_arena arena;

    ck_assert_ptr_nonnull(want);
    ck_assert_uint_eq(s->labels.size, want->labels_size);
    ck_assert_int_eq(memcmp(s->labels.at, want->labels, want->labels_size), 0);
    kl_arena_init(&arena, 64 << 20);
    for (uint32_t c = 0; c < s->chunk_count; c++) {
        const struct blk_chunk_ref *ref = &s->chunks[c];
        double                      buckets[3];

        ck_assert_int_eq(ref->kind, want->hists ? BLK_HISTS : BLK_FLOATS);
        if (want->hists)
            ck_assert_int_eq(blk_chunk_decode_hists(ref->bytes, &arena, times, hists, NULL, &n, &err), KL_OK);
        else
            ck_assert_int_eq(blk_chunk_decode(ref->bytes, times, values, NULL, &n, &err), KL_OK);
        ck_assert_uint_eq(n, ref->count);
        ck_assert_int_eq(ref->first_ms, times[0]);
        ck_assert_int_eq(ref->last_ms, times[n - 1]);
        ck_assert_uint_le(at + n, want->count);
        ck_assert_int_eq(memcmp(times, want->times + at, n * 8), 0);
        for (uint32_t k = 0; k < n; k++)
            if (want->hists) {
                struct kl_hist h = kit_hist(want, at + k, buckets);
                ck_assert(hists[k].sum == h.sum && hists[k].count == h.count &&
                          hists[k].reset == h.reset && hists[k].was_int && hists[k].schema == 3 &&
                          hists[k].pos_count == 3 && hists[k].pos_spans[0].offset == -2 &&
                          memcmp(hists[k].pos, buckets, sizeof buckets) == 0);
            } else {
                ck_assert_uint_eq(kl_f64_bits(values[k]), kl_f64_bits(want->values[at + k]));
            }
        at += n;
    }
    ck_assert_uint_eq(at, want->count);
    kl_arena_deinit(&arena);
}

START_TEST(what_is_written_is_read)                    /* local and stored; chunks of many sizes */
{
    static const uint32_t each[] = { 512, 120, 37, 1, 240 };
    struct blk_info       done;
    struct blk_fileset   *f;
    struct blk_select    *s;
    struct blk_selected   one;
    struct kl_fp          last = { 0, 0 };
    struct blk_file_size  files[BLK_FILE_COUNT];
    uint32_t              n = 0;

    kit_make(1, 500, 700, start, 10000);
    ck_assert_msg(kit_write(root, &info, each[_i / 2], &done, &err) == KL_OK, "%s", err.text);
    ck_assert_uint_eq(done.series_count, 500);
    ck_assert_uint_eq(done.sample_count, 500 * 700);
    ck_assert_int_eq(done.min_ms, start);
    ck_assert_int_eq(done.max_ms, start + 699 * 10000 + 39);
    f = open_one(_i);
    ck_assert_msg(blk_fileset_verify(f, &err) == KL_OK, "%s", err.text);
    ck_assert_int_eq(blk_select_open(f, NULL, 0, INT64_MIN, INT64_MAX, true, &s, &err), KL_OK);
    while (blk_select_next(s, &one, &err) == KL_OK) {
        ck_assert(n == 0 || kl_fp_cmp(last, one.fp) < 0);
        last = one.fp;
        n++;
        check_series(&one, series_of(one.fp));
        ck_assert_uint_le(one.chunk_count, 2);         /* cut anew: 700 samples are two pieces */
    }
    ck_assert_int_eq(err.code, KL_ENOENT);
    ck_assert_uint_eq(n, 500);
    blk_select_close(s);
    ck_assert(blk_fileset_has_metric(f, kit_text("metric_03_total")));
    ck_assert(!blk_fileset_has_metric(f, kit_text("metric_03")));
    ck_assert_uint_gt(blk_fileset_memory(f), 1000);
    blk_fileset_files(f, files);
    for (unsigned i = 0; i < BLK_FILE_COUNT; i++)
        ck_assert_uint_gt(files[i].bytes, 0);
    blk_fileset_unref(f);
}
END_TEST

START_TEST(bytes_depend_on_the_samples_not_on_how_they_came)
{
    struct blk_info a, b;
    uint64_t        sizes[2];
    struct kl_err   e;

    kit_make(5, 60, 500, start, 14000);
    for (unsigned i = 0; i < 2; i++) {
        struct kl_env_dir *t, *p, *w;
        void   *bytes;
        size_t  size;

        ck_assert_int_eq(kit_write(root, &info, i ? 120 : 77, i ? &b : &a, &err), KL_OK);
        ck_assert_int_eq(root->enter(root, "anonymous", false, &t, &e), KL_OK);
        ck_assert_int_eq(t->enter(t, "0003", false, &p, &e), KL_OK);
        ck_assert_int_eq(p->enter(p, strrchr(path, '/') + 1, false, &w, &e), KL_OK);
        ck_assert_int_eq(w->read(w, "digests", 4096, &bytes, &size, &e), KL_OK);
        sizes[i] = kl_hash64(bytes, size);             /* of everything but itself */
        free(bytes);
        w->leave(w);
        p->leave(p);
        t->leave(t);
        ck_assert_int_eq(blk_fileset_remove(root, path, &err), KL_OK);
    }
    ck_assert_uint_eq(sizes[0], sizes[1]);
    ck_assert_uint_eq(a.content, b.content);
    kit[7].values[3] += 1;
    ck_assert_int_eq(kit_write(root, &info, 120, &b, &err), KL_OK);
    ck_assert_uint_ne(a.content, b.content);
}
END_TEST

START_TEST(select_gives_only_chunks_in_the_range)
{
    struct blk_fileset *f;
    struct blk_select  *s;
    struct blk_selected one;
    int64_t             from = start + 100 * 3000, to = start + 120 * 3000;
    uint32_t            n = 0;

    kit_make(2, 50, 2000, start, 3000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    f = open_one(0);
    ck_assert_int_eq(blk_select_open(f, NULL, 0, from, to, true, &s, &err), KL_OK);
    for (; blk_select_next(s, &one, &err) == KL_OK; n++) {
        ck_assert_uint_ge(one.chunk_count, 1);
        for (uint32_t i = 0; i < one.chunk_count; i++)
            ck_assert(one.chunks[i].last_ms >= from && one.chunks[i].first_ms <= to);
        ck_assert_uint_lt(one.chunk_count, 4);
    }
    ck_assert_uint_eq(n, 50);
    blk_select_close(s);
    ck_assert_int_eq(blk_select_open(f, NULL, 0, to + 100000000, INT64_MAX, true, &s, &err), KL_OK);
    ck_assert_int_eq(blk_select_next(s, &one, &err), KL_ENOENT);
    blk_select_close(s);
    ck_assert_int_eq(blk_select_open(f, NULL, 0, from, to, false, &s, &err), KL_OK);
    ck_assert_int_eq(blk_select_next(s, &one, &err), KL_OK);
    ck_assert_uint_eq(one.chunk_count, 0);
    blk_select_close(s);
    blk_fileset_unref(f);
}
END_TEST

struct texts { unsigned count; char last[64]; bool sorted; };
static void keep_text(void *ctx, struct kl_span t)
{
    struct texts *x = ctx;
    char          now[64] = "";

    memcpy(now, t.at, t.size);
    x->sorted &= x->count == 0 || strcmp(x->last, now) < 0;
    strcpy(x->last, now);
    x->count++;
}

static const struct { enum kl_match_op op; const char *name, *value; } cases[] = {
    { KL_MATCH_EQ, "__name__", "metric_02_total" },  { KL_MATCH_EQ, "__name__", "none" },
    { KL_MATCH_NE, "__name__", "metric_02_total" },  { KL_MATCH_EQ, "device", "" },
    { KL_MATCH_NE, "device", "" },                   { KL_MATCH_EQ, "absent", "" },
    { KL_MATCH_NE, "absent", "" },                   { KL_MATCH_NE, "absent", "x" },
    { KL_MATCH_RE, "instance", "host-0[01].*" },     { KL_MATCH_RE, "instance", "host-00.*" },
    { KL_MATCH_NRE, "instance", "host-00.*" },       { KL_MATCH_RE, "device", "sda|sdb|zz" },
    { KL_MATCH_RE, "device", "sda|" },               { KL_MATCH_NRE, "device", "|sda" },
    { KL_MATCH_RE, "device", ".*" },                 { KL_MATCH_RE, "device", ".+" },
    { KL_MATCH_NRE, "device", ".+" },                { KL_MATCH_RE, "instance", ".*9:9100" },
    { KL_MATCH_RE, "absent", "x|y" },                { KL_MATCH_NRE, "absent", "x" },
    { KL_MATCH_EQ, "env", "prod" },                  { KL_MATCH_EQ, "zone", "a\xc3\xa9" },
    { KL_MATCH_RE, "instance", "zz.*" },             { KL_MATCH_RE, "instance", "[a-h]o.t-0.*" },
};
enum { CASES = sizeof cases / sizeof *cases };

static struct kl_matcher matcher(unsigned i)
{
    struct kl_matcher m = { .op = cases[i].op, .name = kit_text(cases[i].name),
                            .value = kit_text(cases[i].value) };
    struct kl_regex  *re = NULL;

    if (m.op >= KL_MATCH_RE)
        ck_assert_int_eq(kl_regex_new(m.value, &re, &err), KL_OK);
    m.re = re;
    return m;
}

START_TEST(matchers_find_what_testing_every_series_finds)     /* every case alone and with another */
{
    struct blk_fileset *f;

    kit_make(3, 900, 3, start, 15000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    f = open_one(0);
    for (unsigned other = 0; other < CASES; other++) {
        struct kl_matcher   m[2] = { matcher((unsigned)_i), matcher(other) };
        struct blk_select  *s;
        struct blk_selected one;
        uint32_t            want = 0, got = 0;
        struct texts        names = { .sorted = true }, values = { .sorted = true };

        for (uint32_t i = 0; i < kit_count; i++)
            want += kl_matchers_test(m, 2, kit_labels(&kit[i]));
        ck_assert_int_eq(blk_select_open(f, m, 2, start, INT64_MAX, false, &s, &err), KL_OK);
        for (; blk_select_next(s, &one, &err) == KL_OK; got++)
            ck_assert(kl_matchers_test(m, 2, one.labels));
        ck_assert_uint_eq(got, want);
        blk_select_close(s);
        blk_fileset_names(f, m, 2, keep_text, &names, &err);
        blk_fileset_values(f, kit_text("instance"), m, 2, keep_text, &values, &err);
        ck_assert(names.sorted && values.sorted && (names.count > 0) == (want > 0));
        for (unsigned i = 0; i < 2; i++)
            kl_regex_free((struct kl_regex *)m[i].re);
    }
    blk_fileset_unref(f);
}
END_TEST

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

START_TEST(names_and_values_come_sorted_and_once)
{
    struct blk_fileset *f;
    struct texts        all = { .sorted = true }, values = { .sorted = true }, some = { .sorted = true };
    struct kl_matcher   m = { .op = KL_MATCH_EQ, .name = kit_text("__name__"),
                              .value = kit_text("metric_01_total") };

    kit_make(4, 700, 2, start, 15000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    f = open_one(1);
    blk_fileset_names(f, NULL, 0, keep_text, &all, &err);
    ck_assert(all.sorted && all.count == 5);
    blk_fileset_values(f, kit_text("instance"), NULL, 0, keep_text, &values, &err);
    ck_assert(values.sorted && values.count == 40);
    blk_fileset_values(f, kit_text("__name__"), &m, 1, keep_text, &some, &err);
    ck_assert(some.count == 1);
    blk_fileset_unref(f);
}
END_TEST

START_TEST(series_are_found_by_fingerprint)
{
    struct blk_fileset *f;
    struct kl_buf       b = { 0 };
    unsigned            wrong = 0;

    kit_make(6, 3000, 1, start, 15000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    f = open_one(0);
    for (uint32_t i = 0; i < kit_count; i += 17) {
        kl_buf_reset(&b);
        ck_assert(blk_fileset_may_have(f, kit[i].fp));
        ck_assert_int_eq(blk_fileset_find(f, kit[i].fp, &b, &err), KL_OK);
        ck_assert(b.size == kit[i].labels_size && memcmp(b.at, kit[i].labels, b.size) == 0);
    }
    for (unsigned i = 0; i < 10000; i++)
        wrong += blk_fileset_may_have(f, (struct kl_fp){ kit_draw(), kit_draw() });
    ck_assert_uint_lt(wrong, 200);                     /* of a bloom filter with ten bits a series */
    ck_assert_int_eq(blk_fileset_find(f, (struct kl_fp){ 1, 2 }, &b, &err), KL_ENOENT);
    kl_buf_deinit(&b);
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

struct extras { unsigned metas, exemplars; };
static void on_meta(void *ctx, struct kl_span metric, uint8_t type, struct kl_span unit,
                    struct kl_span help)
{
    ((struct extras *)ctx)->metas++;
    ck_assert(kl_span_eq(metric, kit_text("metric_01_total")) && type == 1 &&
              kl_span_eq(unit, kit_text("s")) && kl_span_eq(help, kit_text("help")));
}
static void on_exemplar(void *ctx, struct kl_fp fp, int64_t t, double v, struct kl_labels l)
{
    ((struct extras *)ctx)->exemplars++;
    ck_assert(kl_fp_cmp(fp, kit[0].fp) == 0 && t == kit[0].times[0] && v == 0.5 &&
              l.size == kit[0].labels_size);
}

START_TEST(extras_come_back)
{
    struct extras          x = { 0 };
    struct blk_extras_each each = { on_meta, on_exemplar, &x };
    struct blk_fileset    *f;

    kit_make(7, 20, 5, start, 15000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    f = open_one(_i);
    ck_assert_int_eq(blk_fileset_extras(f, &each, &err), KL_OK);
    ck_assert(x.metas == 1 && x.exemplars == 1);
    blk_fileset_unref(f);
}
END_TEST

START_TEST(empty_fileset_is_a_fileset)
{
    struct blk_fileset *f;
    struct blk_select  *s;
    struct blk_selected one;

    kit_count = 0;
    ck_assert_msg(kit_write(root, &info, 240, NULL, &err) == KL_OK, "%s", err.text);
    f = open_one(_i);
    ck_assert_msg(blk_fileset_verify(f, &err) == KL_OK, "%s", err.text);
    ck_assert_int_eq(blk_select_open(f, NULL, 0, 0, INT64_MAX, true, &s, &err), KL_OK);
    ck_assert_int_eq(blk_select_next(s, &one, &err), KL_ENOENT);
    blk_select_close(s);
    blk_fileset_unref(f);
}
END_TEST

START_TEST(late_samples_of_many_windows_are_one_fileset)
{
    struct blk_info     done, late = info;
    struct blk_fileset *f;

    late.window_ms = 0;
    kit_make(8, 30, 1500, start - 400LL * 86400000, 15000000);
    ck_assert_int_eq(kit_write(root, &late, 100, &done, &err), KL_OK);
    f = open_one(0);
    ck_assert_msg(blk_fileset_verify(f, &err) == KL_OK, "%s", err.text);
    blk_fileset_unref(f);
}
END_TEST

START_TEST(second_flush_of_the_same_is_told_so)
{
    kit_make(9, 10, 5, start, 15000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_EEXIST);
    ck_assert_int_eq(blk_fileset_upload(root, path, &store.store, &err), KL_OK);
    ck_assert_int_eq(blk_fileset_upload(root, path, &store.store, &err), KL_OK);   /* a retry */
    store.objects[0].bytes[3] ^= 1;
    ck_assert_int_eq(blk_fileset_upload(root, path, &store.store, &err), KL_EEXIST);
}
END_TEST

struct scanned { unsigned whole, unfinished; };
static void on_whole(void *ctx, const char *p) { (void)p; ((struct scanned *)ctx)->whole++; }
static void on_unfinished(void *ctx, const char *p) { (void)p; ((struct scanned *)ctx)->unfinished++; }

static struct scanned scan(void)
{
    struct scanned s = { 0 };
    ck_assert_int_eq(blk_fileset_scan(root, on_whole, on_unfinished, &s, &err), KL_OK);
    return s;
}

/* Whatever call fails: an error, and no whole fileset; afterwards it can be written anew. */
START_TEST(failed_write_leaves_no_whole_fileset)
{
    uint64_t before, calls, failures = 0;

    kit_make(10, 40, 300, start, 15000);
    before = kl_env_disk_sim_calls(disk);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    calls = kl_env_disk_sim_calls(disk) - before;
    ck_assert_uint_gt(calls, 40);
    ck_assert_int_eq(blk_fileset_remove(root, path, &err), KL_OK);
    for (uint64_t nth = 1; nth <= calls; nth++) {
        kl_env_disk_sim_fail(disk, nth, nth % 2 ? KL_EIO : KL_ELIMIT);
        if (kit_write(root, &info, 240, NULL, &err) != KL_OK) {
            failures++;
            ck_assert_msg(err.code == KL_EIO || err.code == KL_ELIMIT, "%s", err.text);
            kl_env_disk_sim_fail(disk, 0, KL_OK);
            reopen();
            ck_assert_msg(scan().whole == 0, "after call %llu failed", (unsigned long long)nth);
            ck_assert_msg(kit_write(root, &info, 240, NULL, &err) == KL_OK, "%s", err.text);
        }
        kl_env_disk_sim_fail(disk, 0, KL_OK);
        ck_assert_uint_eq(scan().whole, 1);
        ck_assert_msg(blk_fileset_remove(root, path, &err) == KL_OK, "%s", err.text);
    }
    ck_assert_uint_ge(failures + 2, calls);            /* only a failed remove may be forgiven */
}
END_TEST

/* The power fails after any call: the fileset is whole, or is not there; whole means readable. */
START_TEST(crash_leaves_a_whole_fileset_or_none)
{
    kit_make(11, 30, 200, start, 15000);
    for (uint64_t nth = 1; nth < 70; nth++) {
        struct blk_fileset *f;
        bool                finished;
        struct scanned      s;

        kl_env_disk_sim_fail(disk, nth, KL_EIO);
        finished = kit_write(root, &info, 240, NULL, &err) == KL_OK;
        kl_env_disk_sim_fail(disk, 0, KL_OK);
        root->leave(root);
        kl_env_disk_sim_crash(disk, nth * 977 + (uint64_t)_i);
        root = kl_env_disk_sim_root(disk);
        s = scan();
        ck_assert(!finished || s.whole == 1);
        if (s.whole == 1) {
            f = open_one(0);
            ck_assert_msg(blk_fileset_verify(f, &err) == KL_OK, "%s", err.text);
            blk_fileset_unref(f);
        }
        if (s.whole + s.unfinished > 0)
            ck_assert_int_eq(blk_fileset_remove(root, path, &err), KL_OK);
    }
}
END_TEST

START_TEST(a_full_disk_is_an_error_and_nothing_else)
{
    kit_make(12, 40, 300, start, 15000);
    for (uint64_t room = 0; room < 8000; room += 397) {
        kl_env_disk_sim_room(disk, room);
        enum kl_code code = kit_write(root, &info, 240, NULL, &err);
        kl_env_disk_sim_room(disk, UINT64_MAX);
        if (code == KL_OK)
            ck_assert_int_eq(blk_fileset_remove(root, path, &err), KL_OK);
        else
            ck_assert(code == KL_ELIMIT && scan().whole == 0);
    }
}
END_TEST

START_TEST(foreign_fingerprint_is_refused)
{
    kit_make(14, 10, 5, start, 15000);
    kit[4].fp.lo ^= 1;
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_EINVAL);
    ck_assert_uint_eq(scan().whole, 0);
}
END_TEST

static void *read_all(void *arg)
{
    struct blk_fileset *f = arg;
    struct blk_select  *s;
    struct blk_selected one;
    struct kl_matcher   m = { .op = KL_MATCH_NE, .name = kit_text("device"), .value = kit_text("sda") };
    struct kl_buf       b = { 0 };
    struct kl_err       e;
    uintptr_t           samples = 0;

    for (unsigned round = 0; round < 5; round++) {
        if (blk_select_open(f, &m, round % 2, INT64_MIN, INT64_MAX, true, &s, &e) != KL_OK)
            return NULL;
        while (blk_select_next(s, &one, &e) == KL_OK)
            for (uint32_t i = 0; i < one.chunk_count; i++)
                samples += one.chunks[i].count;
        blk_select_close(s);
        if (blk_fileset_find(f, kit[round].fp, &b, &e) != KL_OK)
            return NULL;
    }
    kl_buf_deinit(&b);
    return (void *)samples;
}

START_TEST(many_threads_may_read_one_fileset)          /* for TSan, above all */
{
    char                folder[] = "/tmp/koa-fileset-XXXXXX";
    struct kl_env_dir  *real;
    struct blk_fileset *f;
    pthread_t           threads[4];
    void               *samples[4];
    struct blk_keep     keep = { .cap_bytes = _i == 1 ? 64 << 20 : 30000 };

    kit_make(15, 300, 50, start, 15000);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(kl_env_dir_real_open(folder, false, &real, &err), KL_OK);
    ck_assert_msg(kit_write(real, &info, 240, NULL, &err) == KL_OK, "%s", err.text);
    ck_assert_int_eq(blk_fileset_open_local(real, path, &f, &err), KL_OK);
    if (_i > 0)
        blk_fileset_keep(f, &keep);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_all, f), 0);
    for (unsigned i = 0; i < 1000 && _i > 0; i++)
        blk_fileset_trim(f);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], &samples[i]);
    for (unsigned i = 0; i < 4; i++)
        ck_assert(samples[i] != NULL && samples[i] == samples[0]);
    blk_fileset_unref(f);
    ck_assert_int_eq(blk_fileset_remove(real, path, &err), KL_OK);
    ck_assert_int_eq(rmdir(strcat(strcpy((char[400]){ 0 }, folder), "/anonymous/0003")), 0);
    ck_assert_int_eq(rmdir(strcat(strcpy((char[400]){ 0 }, folder), "/anonymous")), 0);
    real->leave(real);
    ck_assert_int_eq(rmdir(folder), 0);
}
END_TEST

START_TEST(path_is_parsed_only_as_it_is_written)
{
    static const char *const bad[] = {
        "", "a", "a/b/c", "../0001/5-00000000000000000001", "a/1/5-00000000000000000001",
        "a/0001/5-1", "a/0001/05-00000000000000000001", "a/0001/-00000000000000000001",
        "a/0001/5-99999999999999999999", "a/0001/99999999999999999999-00000000000000000001",
        "a/0001/5-00000000000000000001.", "a/0001/5-00000000000000000001.0", "a/0001/5-00000000000000000001.07",
        "a/0001/5-00000000000000000001.7.7", "a/0001/5-00000000000000000001.99999999999999999999",
        "a b/0001/5-00000000000000000001", "a/0001/5-00000000000000000001/", ".a/0001/5-00000000000000000001",
    };
    struct blk_info back;
    char            again[BLK_PATH_MAX + 1];

    ck_assert_int_eq(blk_fileset_path_parse(path, &back, &err), KL_OK);
    ck_assert(strcmp(back.tenant, "anonymous") == 0 && back.partition == 3 && back.id == 4711 &&
              back.window_start_ms == start);
    info.window_start_ms = INT64_MIN;
    info.id = UINT64_MAX;
    blk_fileset_path(&info, again);
    ck_assert_int_eq(blk_fileset_path_parse(again, &back, &err), KL_OK);
    ck_assert(back.window_start_ms == INT64_MIN && back.id == UINT64_MAX && back.generation == 0);
    info.generation = UINT64_MAX;
    memset(info.tenant, 'x', BLK_TENANT_MAX);          /* the longest that there can be */
    info.tenant[BLK_TENANT_MAX] = '\0';
    blk_fileset_path(&info, again);
    ck_assert_int_eq(blk_fileset_path_parse(again, &back, &err), KL_OK);
    ck_assert(back.generation == UINT64_MAX && strcmp(back.tenant, info.tenant) == 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(blk_fileset_path_parse(bad[i], &back, &err) == KL_EINVAL, "%s", bad[i]);
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("libblock/fileset");
    TCase   *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int      failed;

    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, what_is_written_is_read, 0, 10);
    tcase_add_test(t, bytes_depend_on_the_samples_not_on_how_they_came);
    tcase_add_test(t, select_gives_only_chunks_in_the_range);
    tcase_add_loop_test(t, matchers_find_what_testing_every_series_finds, 0, CASES);
    tcase_add_loop_test(t, what_is_kept_gives_the_same_answers_within_its_bound, 0, 2);
    tcase_add_test(t, one_pass_over_everything_drives_out_nothing_that_is_used);
    tcase_add_test(t, what_is_read_ahead_is_there_where_there_is_room_for_what_is_read_twice);
    tcase_add_test(t, names_and_values_come_sorted_and_once);
    tcase_add_test(t, series_are_found_by_fingerprint);
    tcase_add_test(t, stored_fileset_is_read_in_few_requests);
    tcase_add_test(t, object_that_went_while_it_was_read_is_corruption_not_the_end);
    tcase_add_loop_test(t, extras_come_back, 0, 2);
    tcase_add_loop_test(t, empty_fileset_is_a_fileset, 0, 2);
    tcase_add_test(t, late_samples_of_many_windows_are_one_fileset);
    tcase_add_test(t, second_flush_of_the_same_is_told_so);
    tcase_add_test(t, failed_write_leaves_no_whole_fileset);
    tcase_add_loop_test(t, crash_leaves_a_whole_fileset_or_none, 0, 4);
    tcase_add_test(t, a_full_disk_is_an_error_and_nothing_else);
    tcase_add_test(t, foreign_fingerprint_is_refused);
    tcase_add_test(t, what_comes_after_a_run_is_told_to_the_store_before_it_is_read);
    tcase_add_test(t, a_store_is_asked_for_little_more_than_the_frames_needed_and_it_is_told);
    tcase_add_loop_test(t, many_threads_may_read_one_fileset, 0, 3);
    tcase_add_test(t, path_is_parsed_only_as_it_is_written);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
