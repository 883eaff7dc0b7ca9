/*
 * libblock/fileset: what is written is read; a writer that fails leaves nothing that looks whole.
 */
#include "tests/unit/libblock/fileset_fixture.h"

#include "libblock/fileset_priv.h"
#include "libblock/tools.h"
#include "libkoal/base/config.h"

#include <pthread.h>
#include <unistd.h>

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

enum { METRICS = 5000, TELLINGS = 256 };               /* as inputs of one merge that each tell all */

struct told { unsigned metas; bool right; };

static void on_told(void *ctx, struct kl_span metric, uint8_t type, struct kl_span unit, struct kl_span help)
{
    struct told *x = ctx;
    char         name[32], text[32];

    snprintf(name, sizeof name, "metric_%05u", x->metas++);
    snprintf(text, sizeof text, "as told the %uth time", TELLINGS - 1);
    x->right &= kl_span_eq(metric, kit_text(name)) && kl_span_eq(help, kit_text(text)) && type == (TELLINGS - 1) % 8 &&
                unit.size == (TELLINGS - 1) % 3;
}

START_TEST(metadata_that_is_told_again_takes_no_more_room)
{
    struct blk_extras     *x = blk_extras_new();
    struct told            told = { .right = true };
    struct blk_extras_each each = { on_told, NULL, &told };
    struct kl_buf          out = { 0 };

    for (unsigned i = 0; i < TELLINGS; i++)
        for (unsigned k = METRICS; k-- > 0;) {
            char name[32], text[32];

            snprintf(name, sizeof name, "metric_%05u", k);
            snprintf(text, sizeof text, "as told the %uth time", i);
            ck_assert_msg(blk_extras_metadata(x, kit_text(name), (uint8_t)(i % 8), kl_span("ss", i % 3), kit_text(text),
                                              &err) == KL_OK, "%u, %u: %s", i, k, err.text);
        }
    blk_extras_write(x, &out);
    ck_assert_int_eq(blk_extras_read(kl_buf_span(&out), &each, &err), KL_OK);
    ck_assert_uint_eq(told.metas, METRICS);
    ck_assert(told.right);
    kl_buf_deinit(&out);
    blk_extras_free(x);
}
END_TEST

/* A chunk keeps bounds once for a run of samples: here each sample is a run. */
START_TEST(histograms_whose_many_bounds_change_all_the_time_are_cut_into_chunks_that_fit)
{
    enum { SAMPLES = 140 };                            /* 70 MB of bounds */
    static double        bounds[2][KL_HIST_BUCKETS_MAX];
    struct blk_chunk_ref refs[SAMPLES];
    size_t               ends[SAMPLES + 1] = { 0 };
    struct blk_writer   *w;
    struct blk_fileset  *f;
    struct blk_info      done;
    struct kl_buf        bytes = { 0 };

    kit_make(1, 1, 1, start, 1000);
    bounds[1][KL_HIST_BUCKETS_MAX - 1] = 1;
    for (unsigned i = 0; i < SAMPLES; i++) {
        struct kl_hist h = { .schema = KL_HIST_CUSTOM, .bounds = bounds[i % 2], .bound_count = KL_HIST_BUCKETS_MAX };
        int64_t        t = start + (int64_t)i * 1000;

        refs[i] = (struct blk_chunk_ref){ .first_ms = t, .last_ms = t, .count = 1, .kind = BLK_HISTS };
        blk_chunk_encode_hists(&t, &h, NULL, 1, &bytes);
        ends[i + 1] = bytes.size;
    }
    for (unsigned i = 0; i < SAMPLES; i++)
        refs[i].bytes = kl_span(bytes.at + ends[i], ends[i + 1] - ends[i]);
    ck_assert_int_eq(blk_writer_open(root, &info, &w, &err), KL_OK);
    ck_assert_msg(blk_writer_series(w, kit_labels(&kit[0]), kit[0].fp, refs, SAMPLES, &err) == KL_OK, "%s", err.text);
    kl_buf_deinit(&bytes);
    ck_assert_msg(blk_writer_finish(w, &done, &err) == KL_OK, "%s", err.text);
    ck_assert_uint_eq(done.sample_count, SAMPLES);
    f = open_one(0);
    ck_assert_msg(blk_fileset_verify(f, &err) == KL_OK, "%s", err.text);
    blk_fileset_unref(f);
}
END_TEST

START_TEST(series_of_any_size_that_info_speaks_of_are_selected)
{
    static const uint64_t sizes[] = { 0, 1, 8 << 20, UINT32_MAX, UINT64_MAX - 64, UINT64_MAX - 63, UINT64_MAX };
    struct blk_fileset   *f;
    struct blk_select    *s;
    struct blk_selected   one;

    kit_make(1, 1, 10, start, 1000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    f = open_one(0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        f->info.chunk_bytes = sizes[i];                /* as if it stood there */
        ck_assert_int_eq(blk_select_open(f, NULL, 0, INT64_MIN, INT64_MAX, true, &s, &err), KL_OK);
        ck_assert_int_eq(blk_select_next(s, &one, &err), KL_OK);
        ck_assert_int_eq(blk_select_next(s, &one, &err), KL_ENOENT);
        blk_select_close(s);
    }
    blk_fileset_unref(f);
}
END_TEST

static void count_path(void *ctx, const char *at)
{
    (void)at;
    ++*(unsigned *)ctx;
}

START_TEST(every_tenant_that_there_can_be_may_have_a_fileset)
{
    static const char *const tenants[] = { "a", ".a", "...", "-", "_.-", "..a", "Z9" };
    struct blk_finds   finds;
    unsigned           whole = 0;
    struct blk_fileset *f;

    kit_make(1, 2, 3, start, 1000);
    for (size_t i = 0; i < sizeof tenants / sizeof *tenants; i++) {
        ck_assert(kl_tenant_ok(kl_span_str(tenants[i])));
        strcpy(info.tenant, tenants[i]);
        blk_fileset_path(&info, path);
        ck_assert(kl_store_key_fit(path));
        ck_assert_msg(kit_write(root, &info, 240, NULL, &err) == KL_OK, "%s", err.text);
        ck_assert_msg(blk_fileset_open_local(root, path, &f, &err) == KL_OK, "%s", err.text);
        ck_assert_str_eq(blk_fileset_info(f)->tenant, tenants[i]);
        blk_fileset_unref(f);
    }
    ck_assert_int_eq(blk_fileset_scan(root, count_path, NULL, &whole, &err), KL_OK);
    ck_assert_uint_eq(whole, sizeof tenants / sizeof *tenants);
    ck_assert_int_eq(blk_find(root, &finds, &err), KL_OK);
    ck_assert_uint_eq(finds.count, sizeof tenants / sizeof *tenants);
    blk_finds_deinit(&finds);
}
END_TEST

START_TEST(a_tenant_called_as_what_a_folder_has_for_itself_is_none)
{
    static const char *const tenants[] = { "LOCK", ".put-", ".put-7", "ENCRYPTED" };
    struct blk_writer *w;
    char               of[BLK_PATH_MAX + 1];

    for (size_t i = 0; i < sizeof tenants / sizeof *tenants; i++) {
        ck_assert(!kl_tenant_ok(kl_span_str(tenants[i])));
        strcpy(info.tenant, tenants[i]);
        ck_assert_int_eq(blk_writer_open(root, &info, &w, &err), KL_EINVAL);
        snprintf(of, sizeof of, "%s/0003/5-00000000000000000001", tenants[i]);
        ck_assert(!kl_store_key_fit(of) || strcmp(tenants[i], "ENCRYPTED") == 0);
        ck_assert_int_eq(blk_fileset_remove(root, of, &err), KL_EINVAL);
    }
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
        "a b/0001/5-00000000000000000001", "a/0001/5-00000000000000000001/", "./0001/5-00000000000000000001",
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
    Suite *s = suite_create("libblock/fileset");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, what_is_written_is_read, 0, 10);
    tcase_add_test(t, bytes_depend_on_the_samples_not_on_how_they_came);
    tcase_add_loop_test(t, extras_come_back, 0, 2);
    tcase_add_test(t, metadata_that_is_told_again_takes_no_more_room);
    tcase_add_loop_test(t, empty_fileset_is_a_fileset, 0, 2);
    tcase_add_test(t, late_samples_of_many_windows_are_one_fileset);
    tcase_add_test(t, second_flush_of_the_same_is_told_so);
    tcase_add_test(t, failed_write_leaves_no_whole_fileset);
    tcase_add_loop_test(t, crash_leaves_a_whole_fileset_or_none, 0, 4);
    tcase_add_test(t, a_full_disk_is_an_error_and_nothing_else);
    tcase_add_test(t, foreign_fingerprint_is_refused);
    tcase_add_loop_test(t, many_threads_may_read_one_fileset, 0, 3);
    tcase_add_test(t, path_is_parsed_only_as_it_is_written);
    suite_add_tcase(s, t);
    t = tcase_create("bounds");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_tenant_called_as_what_a_folder_has_for_itself_is_none);
    tcase_add_test(t, every_tenant_that_there_can_be_may_have_a_fileset);
    tcase_add_test(t, series_of_any_size_that_info_speaks_of_are_selected);
    tcase_add_test(t, histograms_whose_many_bounds_change_all_the_time_are_cut_into_chunks_that_fit);
    suite_add_tcase(s, t);

    return run_suite(s);
}
