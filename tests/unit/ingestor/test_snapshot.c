/* The snapshot: what a restart finds in it, what leaves memory because of it, and what it may never
 * cost: a sample. In a simulated world; files are damaged, disks fail at every call. */
#include "snap_world.h"

#include "snap_kit.h"

static void setup(void)
{
    w_init(&w, 11, 2);
    w.window_ms = 7200000;
    w.snapshot_ms = 2000;
    w.spill_least_bytes = 1;
    w_start(&w);
    w_ready(&w);
}

START_TEST(a_restart_begins_with_the_snapshot_and_replays_only_what_follows)
{
    struct w_answer before, after;

    write_all(400);
    pass();
    write_all(20);
    before = read_all(0);
    restart(_i == 1);
    ck_assert_uint_ge(counted("snapshots_restored"), 1);
    ck_assert_uint_le(counted("replayed_records"), 30);
    after = read_all(0);
    check_same(&before, &after);
    w_answer_free(&after);
    write_all(5);
    w_answer_free(&before);
    before = read_all(0);
    restart(_i == 0);                                  /* and once more from the same one */
    after = read_all(0);
    check_same(&before, &after);
    w_answer_free(&before);
    w_answer_free(&after);
}
END_TEST

START_TEST(spilled_chunks_leave_memory_are_answered_and_go_into_filesets)
{
    struct w_answer before, after;
    struct kl_err   err = { 0 };

    write_all(500);
    before = read_all(0);
    pass();
    ck_assert(shown("spilled_bytes") > 1000);
    after = read_all(0);
    check_same(&before, &after);
    w_answer_free(&after);
    ck_assert_msg(w_flush(&w, NULL, &err) == KL_OK, "%s", err.text);
    after = read_all(0);
    check_same(&before, &after);
    w_answer_free(&after);
    write_all(1);
    pass();
    ck_assert(shown("spilled_bytes") == 0);
    w_answer_free(&before);
    before = read_all(0);
    restart(true);
    after = read_all(0);
    check_same(&before, &after);
    w_answer_free(&before);
    w_answer_free(&after);
}
END_TEST

START_TEST(samples_that_a_cut_took_after_the_snapshot_are_not_restored_beside_their_filesets)
{
    struct w_answer before, after;
    struct kl_err   err = { 0 };

    write_all(300);
    pass();
    before = read_all(0);
    ck_assert_msg(w_flush(&w, NULL, &err) == KL_OK, "%s", err.text);
    restart(false);
    ck_assert(shown("spilled_bytes") == 0);
    after = read_all(0);
    check_same(&before, &after);
    w_answer_free(&before);
    w_answer_free(&after);
}
END_TEST

START_TEST(orphans_metadata_and_exemplars_are_restored)
{
    int64_t           t = w_now(&w);
    double            v = 5;
    struct w_answer   a;
    struct kl_buf     labels = { 0 };
    struct tsp_select s = { .what = TSP_SEL_METADATA, .partition = 0, .tenant = kl_span_str(T),
                            .consistency = TSP_READ_STRONG, .timeout_ms = 5000 };
    struct tsp_page   page;
    struct kl_cur     c;
    struct kl_err     err = { 0 };
    void             *answer;
    size_t            size;
    struct tsp_incarnation who;

    tsp_record_floats(w.writer, kl_span_str(T), 3, &t, &v, 1);     /* not defined yet */
    w_define(&w, T, 1);
    tsp_record_floats(w.writer, kl_span_str(T), 1, &t, &v, 1);
    w_labels(0, &labels);
    tsp_record_exemplar(w.writer, kl_span_str(T), 1, t, 2.5,
                        (struct kl_labels){ (const uint8_t *)labels.at, labels.size });
    tsp_record_metadata(w.writer, kl_span_str(T), kl_span_str("temperature"), 1, kl_span_str("C"),
                        kl_span_str("how warm"));
    w_send_wait(&w, 0);
    pass();
    who = w.who;
    restart(true);
    ck_assert_uint_ge(counted("snapshots_restored"), 1);
    ck_assert_uint_eq(counted("replayed_records"), 0);
    w.who = who;
    w.counter = 500;
    w_write(&w, 0, T, 3, t + 1000, 6);                 /* now it is */
    a = read_all(0);
    ck_assert_uint_eq(a.count, 2);
    ck_assert_uint_eq(w_find(&a, 3)->count, 2);
    w_answer_free(&a);
    ck_assert_int_eq(w_ask(&w, &s, &answer, &size, &err), KL_OK);
    ck_assert_int_eq(tsp_page_open(kl_span(answer, size), &page, &c, &err), KL_OK);
    ck_assert(kl_span_eq(kl_cur_span(&c), kl_span_str("temperature")));
    free(answer);
    kl_buf_deinit(&labels);
}
END_TEST

START_TEST(a_ref_stands_for_its_series_after_a_restart)
{
    int64_t                t = w_now(&w);
    double                 v = 8;
    struct w_answer        a;
    struct tsp_incarnation who = w.who;

    w_write(&w, 0, T, 3, t, 4);
    pass();
    restart(true);
    w.who = who;                                       /* the writer lives on, and defines nothing */
    w.counter = 100;
    t += 1000;
    tsp_record_floats(w.writer, kl_span_str(T), 3, &t, &v, 1);
    w_send_wait(&w, 0);
    a = read_all(0);
    ck_assert_ptr_nonnull(w_sample_at(w_find(&a, 3), t));
    w_answer_free(&a);
}
END_TEST

/* ---- damage ---- */

static struct kl_env_dir *enter(struct kl_env_dir *in, const char *name)
{
    struct kl_env_dir *d;
    struct kl_err      err = { 0 };

    ck_assert_msg(in->enter(in, name, false, &d, &err) == KL_OK, "%s", err.text);
    return d;
}

static char found_name[64];
static void first_chunks(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    (void)ctx, (void)is_dir, (void)size_bytes;
    if (strncmp(name, "chunks-", 7) == 0)
        snprintf(found_name, sizeof found_name, "%s", name);
}

/* Flips a bit of, or cuts, a file of partition 0's snapshot. `at` < 0: from its end. */
static size_t damage(const char *name, long at, bool cut)
{
    struct kl_env_dir  *all, *dir;
    struct kl_env_file *f;
    struct kl_err       err = { 0 };
    void               *bytes;
    size_t              size, where;

    all = enter(w.data_dir, "snapshots");
    dir = enter(all, "0000");
    if (name == NULL) {
        ck_assert_int_eq(dir->list(dir, first_chunks, NULL, &err), KL_OK);
        name = found_name;
    }
    ck_assert_msg(dir->read(dir, name, 64 << 20, &bytes, &size, &err) == KL_OK, "%s", err.text);
    where = at < 0 ? size + (size_t)at : (size_t)at;
    ck_assert_uint_lt(where, size);
    ((char *)bytes)[where] ^= 0x10;
    ck_assert_int_eq(dir->create(dir, "x", &f, &err), KL_OK);
    ck_assert_int_eq(dir->append(f, bytes, cut ? where : size, &err), KL_OK);
    ck_assert_int_eq(dir->sync(f, &err), KL_OK);
    ck_assert_int_eq(dir->publish(f, name, &err), KL_OK);
    dir->close(f);
    free(bytes);
    dir->leave(dir);
    all->leave(all);
    return size;
}

START_TEST(a_damaged_head_is_set_aside_and_the_log_has_all)
{
    struct w_answer before, after;
    size_t          size;

    write_all(260);
    pass();
    before = read_all(0);
    w.snapshot_ms = 0;                                 /* the next lives make none: the same one again */
    restart(false);
    size = damage("head", 70, false);
    damage("head", 70, false);                         /* as it was */
    for (int k = 0; k < 24; k++) {
        uint64_t set_aside;
        long     at = (long)(size * (size_t)k / 24);
        struct kl_env_dir *all, *dir;
        struct kl_err      err = { 0 };
        void              *bytes;
        size_t             n;

        all = enter(w.data_dir, "snapshots");
        dir = enter(all, "0000");
        ck_assert_int_eq(dir->read(dir, "head", 64 << 20, &bytes, &n, &err), KL_OK);
        dir->leave(dir);
        all->leave(all);
        damage("head", at, k % 2 == 1);
        restart(false);
        set_aside = 0;                                 /* a life counts anew */
        ck_assert_uint_eq(counted("snapshots_set_aside"), set_aside + 1);
        ck_assert_uint_gt(counted("replayed_records"), 200);
        after = read_all(0);
        check_same(&before, &after);
        w_answer_free(&after);
        all = enter(w.data_dir, "snapshots");          /* whole again for the next */
        dir = enter(all, "0000");
        struct kl_env_file *f;
        ck_assert_int_eq(dir->create(dir, "x", &f, &err), KL_OK);
        ck_assert_int_eq(dir->append(f, bytes, n, &err), KL_OK);
        ck_assert_int_eq(dir->sync(f, &err), KL_OK);
        ck_assert_int_eq(dir->publish(f, "head", &err), KL_OK);
        dir->close(f);
        dir->leave(dir);
        all->leave(all);
        free(bytes);
    }
    w_answer_free(&before);
}
END_TEST

START_TEST(a_damaged_chunk_is_never_answered_and_the_log_has_it)
{
    struct w_answer before, after;
    struct kl_err   err = { 0 };

    write_all(400);
    before = read_all(0);
    pass();
    ck_assert(shown("spilled_bytes") > 0);
    if (_i == 0) {                                     /* found at the start: it is too short */
        w.snapshot_ms = 0;
        restart(false);
        damage(NULL, -1, true);
        restart(false);
    } else {                                           /* found when it is read */
        w.snapshot_ms = 0;
        restart(false);
        damage(NULL, 40, false);
        restart(false);
        ck_assert_uint_eq(counted("snapshots_set_aside"), 0);
        if (_i == 2)                                   /* by a cut */
            ck_assert_int_ne(w_flush(&w, NULL, &err), KL_OK);
    }
    after = read_all(0);
    check_same(&before, &after);
    ck_assert_uint_eq(counted("snapshots_set_aside"), 1);
    w_answer_free(&after);
    ck_assert_msg(w_flush(&w, NULL, &err) == KL_OK, "%s", err.text);
    after = read_all(0);
    check_same(&before, &after);
    w_answer_free(&before);
    w_answer_free(&after);
}
END_TEST

START_TEST(a_pass_that_fails_at_any_call_leaves_the_last_snapshot_and_every_sample)
{
    struct w_answer before, after;
    uint64_t        calls, good = 0;

    write_all(130);
    pass();
    write_all(130);
    calls = kl_env_disk_sim_calls(w.disk);
    pass();
    calls = kl_env_disk_sim_calls(w.disk) - calls;
    ck_assert_uint_gt(calls, 10);
    for (uint64_t n = 1; n <= calls + 3; n++) {
        uint64_t failures = counted("snapshot_failures");

        write_all(2);
        before = read_all(0);
        kl_env_disk_sim_fail(w.disk, n, n % 2 == 0 ? KL_EIO : KL_ELIMIT);
        kl_env_sim_run(w.sim, 4000);
        kl_env_disk_sim_fail(w.disk, 0, KL_EIO);
        good += counted("snapshot_failures") == failures;
        restart(true);
        after = read_all(0);
        check_same(&before, &after);
        w_answer_free(&before);
        w_answer_free(&after);
        pass();
    }
    ck_assert_uint_lt(good, calls);
}
END_TEST

START_TEST(a_full_disk_stops_snapshots_and_nothing_else)
{
    struct w_answer before, after;

    write_all(150);
    pass();
    write_all(60);
    before = read_all(0);
    kl_env_disk_sim_room(w.disk, 700);
    kl_env_sim_run(w.sim, 20000);
    ck_assert_uint_ge(counted("snapshot_failures"), 1);
    after = read_all(0);
    check_same(&before, &after);
    w_answer_free(&after);
    kl_env_disk_sim_room(w.disk, UINT64_MAX);
    kl_env_sim_run(w.sim, 60000);                      /* tried ever less often */
    pass();
    restart(true);
    ck_assert_uint_le(counted("replayed_records"), 1);
    after = read_all(0);
    check_same(&before, &after);
    w_answer_free(&before);
    w_answer_free(&after);
}
END_TEST

START_TEST(a_snapshot_of_records_that_the_log_lost_is_not_used)
{
    struct w_answer a;
    int64_t         t;

    teardown();
    w_init(&w, 12, 2);
    w.window_ms = 7200000;
    w.snapshot_ms = 500;
    w.spill_least_bytes = 1;
    w.fsync_ms = 600000;                               /* the log is not synced, the snapshot is */
    w_start(&w);
    w_ready(&w);
    t = w_now(&w);
    for (int i = 0; i < 20; i++)
        w_write(&w, 0, T, 1, t + i * 1000, i);
    pass();
    for (uint64_t seed = 0; seed < 10; seed++) {       /* a power cut that takes the log's end */
        struct w_series *s;

        killed = true;
        w_crash(&w, true, seed);
        w_start(&w);
        w_ready(&w);
        for (int i = 0; i < 10; i++)
            w_write(&w, 0, T, 1, t + 500000 + i * 1000, 100 + i);
        a = read_all(0);
        s = a.count == 0 ? NULL : &a.series[0];
        ck_assert_ptr_nonnull(s);
        for (int i = 0; i < 10; i++)
            ck_assert_ptr_nonnull(w_sample_at(s, t + 500000 + i * 1000));
        w_answer_free(&a);
        pass();
    }
}
END_TEST

/* A series without a tail: its last chunk goes to the file, and more samples come before the pass has ended. */
START_TEST(a_chunk_that_a_pass_names_stays_as_it_is_until_the_pass_has_ended)
{
    struct kl_env_disk_sim *disk = kl_env_disk_sim_new();
    struct kl_env_dir      *root = kl_env_disk_sim_root(disk);
    struct snap_kit        *k = snap_kit_new(root, 7200000);
    struct ing_snap_header  header = { .version = ING_SNAP_VERSION, .serial = 1 };
    struct ing_put          put;
    struct kl_buf           labels = { 0 };
    struct kl_fp            fp = w_labels(3, &labels);
    struct ing_head        *h = ing_tenant(&k->p, kl_span_str(T), true)->head;
    struct ing_series      *s = ing_head_series(h, fp, (struct kl_labels){ (const uint8_t *)labels.at, labels.size });
    bool                    found = false;

    for (int i = 0; i < 5; i++)
        ing_series_float(h, s, 1000 * (i + 1), i);
    ing_series_seal_tail(h, s);
    ing_put_begin(&put, &k->p, &header, 1, 1);
    while (!put.done)
        ing_put_slice(&put);
    ck_assert_uint_eq(put.spilled_count, 1);
    for (int i = 5; i < 9; i++)
        ing_series_float(h, s, 1000 * (i + 1), i);
    ing_series_seal_tail(h, s);
    for (const struct ing_chunk *c = s->first; c != NULL; c = c->next)
        found |= c == put.spilled[0].chunk;
    ck_assert(found);
    ck_assert_uint_eq(s->first->count + s->last->count, 9);
    ing_put_free(&put);
    kl_buf_deinit(&labels);
    snap_kit_free(k);
    root->leave(root);
    kl_env_disk_sim_free(disk);
}
END_TEST

/* ---- files of each version, kept under tests/data ---- */

static const char golden[] = "tests/data/snapshot-v4",
                  *versions[] = { "tests/data/snapshot-v1", "tests/data/snapshot-v2", "tests/data/snapshot-v3", golden };
enum { GOLDEN_WINDOW_MS = 7200000 };

static void golden_write(void)
{
    struct kl_env_dir *all, *dir, *to;
    struct kl_err      err = { 0 };
    struct kl_buf      labels = { 0 };
    int64_t            t;
    double             v = 2.5;

    setup();
    t = w_now(&w);
    write_all(150);
    tsp_record_floats(w.writer, kl_span_str(T), 77, &t, &v, 1);     /* never defined */
    w_labels(0, &labels);
    tsp_record_exemplar(w.writer, kl_span_str(T), 1, t, 2.5,
                        (struct kl_labels){ (const uint8_t *)labels.at, labels.size });
    tsp_record_metadata(w.writer, kl_span_str(T), kl_span_str("temperature"), 1, kl_span_str("C"),
                        kl_span_str("how warm"));
    w_send_wait(&w, 0);
    w_write(&w, 0, "second", 5, t, 1);
    pass();
    all = enter(w.data_dir, "snapshots");
    dir = enter(all, "0000");
    ck_assert_int_eq(kl_env_dir_real_open(golden, true, &to, &err), KL_OK);
    found_name[0] = 0;
    ck_assert_int_eq(dir->list(dir, first_chunks, NULL, &err), KL_OK);
    for (int k = 0; k < 2; k++) {
        const char         *name = k == 0 ? "head" : found_name;
        struct kl_env_file *f;
        void               *bytes;
        size_t              size;

        ck_assert_int_eq(dir->read(dir, name, 1 << 20, &bytes, &size, &err), KL_OK);
        ck_assert_int_eq(to->create(to, name, &f, &err), KL_OK);
        ck_assert_int_eq(to->append(f, bytes, size, &err), KL_OK);
        to->close(f);
        free(bytes);
    }
    to->leave(to);
    dir->leave(dir);
    all->leave(all);
    kl_buf_deinit(&labels);
    teardown();
}

/* What the golden snapshot holds, read from a copy: a reader may set things aside. */
static void golden_read(const char *folder, struct kl_buf *out)
{
    struct kl_env_disk_sim *disk = kl_env_disk_sim_new();
    struct kl_env_dir *root = kl_env_disk_sim_root(disk), *all, *dir, *from;
    struct kl_err      err = { 0 };
    struct snap_kit   *k;

    ck_assert_int_eq(kl_env_dir_real_open(folder, false, &from, &err), KL_OK);
    ck_assert_int_eq(root->enter(root, "snapshots", true, &all, &err), KL_OK);
    ck_assert_int_eq(all->enter(all, "0000", true, &dir, &err), KL_OK);
    found_name[0] = 0;
    ck_assert_int_eq(from->list(from, first_chunks, NULL, &err), KL_OK);
    for (int i = 0; i < 2; i++) {
        const char         *name = i == 0 ? "head" : found_name;
        struct kl_env_file *f;
        void               *bytes;
        size_t              size;

        ck_assert_int_eq(from->read(from, name, 1 << 20, &bytes, &size, &err), KL_OK);
        ck_assert_int_eq(dir->create(dir, name, &f, &err), KL_OK);
        ck_assert_int_eq(dir->append(f, bytes, size, &err), KL_OK);
        dir->close(f);
        free(bytes);
    }
    k = snap_kit_new(root, GOLDEN_WINDOW_MS);
    ck_assert_msg(ing_snap_load(&k->p, &err) == KL_OK, "%s", err.text);
    ck_assert(k->p.restored.is);
    snap_kit_dump(k, out);
    snap_kit_free(k);
    from->leave(from);
    dir->leave(dir);
    all->leave(all);
    root->leave(root);
    kl_env_disk_sim_free(disk);
}

START_TEST(write_the_golden_snapshot)
{
    struct kl_buf       text = { 0 };
    struct kl_env_dir  *to;
    struct kl_env_file *f;
    struct kl_err       err = { 0 };

    golden_write();
    golden_read(golden, &text);
    ck_assert_int_eq(kl_env_dir_real_open(golden, false, &to, &err), KL_OK);
    ck_assert_int_eq(to->create(to, "content.txt", &f, &err), KL_OK);
    ck_assert_int_eq(to->append(f, text.at, text.size, &err), KL_OK);
    to->close(f);
    to->leave(to);
}
END_TEST

START_TEST(a_snapshot_of_each_version_is_still_read)
{
    struct kl_buf      got = { 0 };
    struct kl_env_dir *from;
    struct kl_err      err = { 0 };
    void              *want;
    size_t             size;

    golden_read(versions[_i], &got);
    ck_assert_int_eq(kl_env_dir_real_open(versions[_i], false, &from, &err), KL_OK);
    ck_assert_int_eq(from->read(from, "content.txt", 1 << 20, &want, &size, &err), KL_OK);
    ck_assert(kl_span_eq(kl_buf_span(&got), kl_span(want, size)));
    from->leave(from);
    free(want);
    kl_buf_deinit(&got);
}
END_TEST

const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }      /* killed processes free nothing */

/* `test_snapshot write` writes the present version anew; only ever for a new version. */
int main(int argc, char **argv)
{
    Suite   *s = suite_create("snapshot");
    TCase   *t = tcase_create("snapshot");
    SRunner *r;
    int      bad;

    if (argc == 2 && strcmp(argv[1], "write") == 0) {
        tcase_add_test(t, write_the_golden_snapshot);
        suite_add_tcase(s, t);
        r = srunner_create(s);
        srunner_run_all(r, CK_ENV);
        return srunner_ntests_failed(r);
    }
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, a_restart_begins_with_the_snapshot_and_replays_only_what_follows, 0, 2);
    tcase_add_test(t, spilled_chunks_leave_memory_are_answered_and_go_into_filesets);
    tcase_add_test(t, samples_that_a_cut_took_after_the_snapshot_are_not_restored_beside_their_filesets);
    tcase_add_test(t, orphans_metadata_and_exemplars_are_restored);
    tcase_add_test(t, a_ref_stands_for_its_series_after_a_restart);
    tcase_add_test(t, a_damaged_head_is_set_aside_and_the_log_has_all);
    tcase_add_loop_test(t, a_damaged_chunk_is_never_answered_and_the_log_has_it, 0, 3);
    tcase_add_test(t, a_pass_that_fails_at_any_call_leaves_the_last_snapshot_and_every_sample);
    tcase_add_test(t, a_full_disk_stops_snapshots_and_nothing_else);
    tcase_add_test(t, a_snapshot_of_records_that_the_log_lost_is_not_used);
    tcase_add_test(t, a_chunk_that_a_pass_names_stays_as_it_is_until_the_pass_has_ended);
    suite_add_tcase(s, t);
    t = tcase_create("golden");
    tcase_add_loop_test(t, a_snapshot_of_each_version_is_still_read, 0, sizeof versions / sizeof *versions);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    bad = srunner_ntests_failed(r);
    srunner_free(r);
    return bad == 0 ? 0 : 1;
}
