/* Housekeeping in a simulated world: merges, retention, quarantine; failures and crashes in between. */
#include "model.h"

#include <math.h>

static void setup(void)
{
    w_init(&w, 7, 1);
    w.compacts = true;
    model_begin();
}

/* The same where the log may have been hit: then it is opened anew. */
static void put_hard(unsigned series, unsigned point, double value)
{
    int64_t         t = base + (int64_t)point * 10000;
    struct w_append a;

    for (int tries = 0; tries < 2; tries++) {
        w_define(&w, T, series);
        tsp_record_floats(w.writer, kl_span_str(T), series, &t, &value, 1);
        w_send(&w, 0, &a);
        ck_assert(w_until(&w, &a.done));
        kl_buf_deinit(&a.bytes);
        if (a.op.code == KL_OK)
            break;
        ck_assert_int_eq(tries, 0);
        restart();
    }
    sent[series][point] = value;
    has[series][point] = true;
}

static uint32_t filesets(uint32_t *gone)
{
    struct blk_manifest m;
    uint32_t            n;

    w_catalogue(&w, 0, &m);
    n = m.fileset_count;
    if (gone != NULL)
        *gone = m.gone_count;
    blk_manifest_deinit(&m);
    return n;
}

/* Windows by the clock, flushes in between, late samples over what was flushed. */
static void fill(unsigned minutes)
{
    struct kl_err err = { 0 };

    for (unsigned p = 0; p < minutes * 6; p++) {
        while (w_now(&w) < base + (int64_t)p * 10000)
            kl_env_sim_run(w.sim, 1000);
        for (unsigned s = 0; s < SERIES; s++)
            put(s, p, p * 10 + s);
        if (p > 20 && p % 5 == 0)
            put(p % SERIES, p - 17, -(double)p);       /* overwrites what may be in a fileset */
        if (p % 9 == 4)
            ck_assert_msg(w_flush(&w, NULL, &err) == KL_OK, "%s", err.text);
    }
}

START_TEST(small_filesets_become_few_and_answers_stay_the_same)
{
    struct w_objects o;
    uint32_t         before, after;

    w.compacts = false;
    restart();
    fill(20);
    kl_env_sim_run(w.sim, 120000);
    check("before");
    before = filesets(NULL);
    ck_assert_uint_gt(before, 20);
    w_stop(&w);
    w.compacts = true;
    w_start(&w);
    w_ready(&w);
    kl_env_sim_run(w.sim, 600000);
    after = filesets(NULL);
    ck_assert_uint_le(after, 8);                       /* twenty minutes are five windows of four */
    check("after");
    kl_env_sim_run(w.sim, 20 * 60000);                 /* what was replaced is removed */
    check("later");
    w_objects(&w, &o);
    ck_assert_msg(o.strange <= 1, "%u objects that nobody knows, such as %s", o.strange, o.first);
    restart();
    check("after a restart");
}
END_TEST

/* Twenty minutes at once, as one that was away brings them: too much to be merged, so it is cut where the windows of
 * four minutes end, or their parts; there is no way to have less than one fileset for each. */
START_TEST(a_fileset_that_is_too_large_to_merge_is_cut_and_answers_stay_the_same)
{
    struct blk_manifest m;
    struct w_objects    o;
    struct kl_err       err = { 0 };

    w.compact_bytes = 4000;
    restart();
    for (unsigned p = 0; p < 120; p++)
        for (unsigned s = 0; s < SERIES; s++)
            put(s, p, sqrt(p * 10 + s));               /* that packs badly */
    ck_assert_msg(w_flush(&w, NULL, &err) == KL_OK, "%s", err.text);
    w_catalogue(&w, 0, &m);
    ck_assert(m.fileset_count == 1 && m.filesets[0].window_ms == 0);
    ck_assert_uint_gt(m.filesets[0].chunk_bytes, 4000);
    blk_manifest_deinit(&m);
    for (unsigned s = 0; s < SERIES; s++)
        put(s, 30 + s, -1);
    ck_assert_msg(w_flush(&w, NULL, &err) == KL_OK, "%s", err.text);
    for (int minute = 0; minute < 40; minute++) {
        kl_env_sim_run(w.sim, 60000);
        check("meanwhile");
    }
    w_catalogue(&w, 0, &m);
    ck_assert_uint_ge(m.fileset_count, 5);
    ck_assert_uint_le(m.fileset_count, 20);
    for (uint32_t i = 0; i < m.fileset_count; i++) {
        ck_assert_uint_le(m.filesets[i].chunk_bytes, 4000);
        ck_assert_int_lt(m.filesets[i].max_ms - m.filesets[i].min_ms, 4 * WORLD_WINDOW_MS);
    }
    blk_manifest_deinit(&m);
    put(0, 121, 1);                                    /* a commit that lists what is gone no more */
    flush();
    kl_env_sim_run(w.sim, 40 * 60000);
    w_objects(&w, &o);
    ck_assert_msg(o.strange == 0, "%u objects that nobody knows, such as %s", o.strange, o.first);
    restart();
    check("after a restart");
}
END_TEST

START_TEST(merging_goes_on_beside_writes_flushes_and_late_samples)
{
    struct blk_manifest m;
    bool                merged = false;

    fill(30);
    check("meanwhile");
    kl_env_sim_run(w.sim, 600000);
    check("after");
    w_catalogue(&w, 0, &m);
    for (uint32_t i = 0; i < m.fileset_count; i++)
        merged |= m.filesets[i].generation > 0 && m.filesets[i].window_ms == 4 * WORLD_WINDOW_MS;
    blk_manifest_deinit(&m);
    ck_assert(merged);
}
END_TEST

START_TEST(what_is_past_its_retention_goes_from_the_catalogue_and_then_from_the_store)
{
    struct w_objects o;
    uint32_t         gone;

    fill(8);
    kl_env_sim_run(w.sim, 600000);
    check("kept for ever");
    w_stop(&w);
    w.retention_ms = 3600000;
    w_start(&w);
    w_ready(&w);
    kl_env_sim_run(w.sim, 30 * 60000);
    check("young enough");
    kl_env_sim_run(w.sim, 60 * 60000);
    ck_assert_uint_eq(filesets(&gone), 0);
    memset(has, 0, sizeof has);
    check("expired");
    kl_env_sim_run(w.sim, 30 * 60000);
    w_write(&w, 0, T, 0, w_now(&w), 1);                /* the next commit forgets what was removed */
    ck_assert_int_eq(w_flush(&w, NULL, &(struct kl_err){ 0 }), KL_OK);
    kl_env_sim_run(w.sim, 30 * 60000);
    filesets(&gone);
    ck_assert_uint_eq(gone, 0);
    w_objects(&w, &o);
    ck_assert_msg(o.strange == 0, "%s", o.first);
}
END_TEST

/* ---- the disk's mark ---- */

static bool told(char words[300])
{
    struct w_kv kv = { .op = { .kind = KL_BUS_KV_GET, .key = "disk.a", .loop = w.loop, .done = w_kv_done } };

    w.bus->kv(w.bus, &kv.op);
    ck_assert(w_until(&w, &kv.done));
    ck_assert(kv.op.code == KL_OK || kv.op.code == KL_ENOENT);
    if (kv.op.code != KL_OK)
        return false;
    snprintf(words, 300, "%.*s", (int)kv.op.got_size, (const char *)kv.op.got);
    free(kv.op.got);
    return true;
}

START_TEST(a_disk_past_its_mark_is_told_and_taken_back_when_there_is_room)
{
    char words[300];

    w_stop(&w);
    w.disk_high = 80;
    w.disk_low = 60;
    w_start(&w);
    w_ready(&w);
    fill(2);
    kl_env_sim_run(w.sim, 3000);
    ck_assert(!told(words));
    /* Used are some kilobytes: with half of that left the disk is two thirds full, */
    for (uint64_t room = 1 << 20; !told(words); room -= room / 8) {
        ck_assert_uint_gt(room, 1000);
        kl_env_disk_sim_room(w.disk, room);
        kl_env_sim_run(w.sim, 3000);
    }
    ck_assert_msg(strstr(words, "the disk of a is 8") == words, "%s", words);
    check("a full disk answers");
    restart();                                        /* it is not forgotten */
    kl_env_sim_run(w.sim, 3000);
    ck_assert(told(words));
    kl_env_disk_sim_room(w.disk, UINT64_MAX);
    kl_env_sim_run(w.sim, 3000);
    ck_assert(!told(words));
}
END_TEST

/* ---- a stored object is damaged ---- */

static void damage(const char *path, bool repair)
{
    static void       *whole;
    static size_t      size;
    struct kl_env_dir *dirs[4];
    struct kl_env_file *f;
    struct blk_info    info;
    struct kl_err      err = { 0 };
    char               text[BLK_PATH_MAX + 1], *part = text, *slash;
    int                n = 0;

    ck_assert_int_eq(blk_fileset_path_parse(path, &info, &err), KL_OK);
    strcpy(text, path);
    dirs[n++] = w.store_dir;
    for (; (slash = strchr(part, '/')) != NULL; part = slash + 1, n++) {
        *slash = '\0';
        ck_assert_int_eq(dirs[n - 1]->enter(dirs[n - 1], part, false, &dirs[n], &err), KL_OK);
    }
    ck_assert_int_eq(dirs[n - 1]->enter(dirs[n - 1], part, false, &dirs[n], &err), KL_OK);
    if (!repair)
        ck_assert_int_eq(dirs[n]->read(dirs[n], "data", 1 << 20, &whole, &size, &err), KL_OK);
    ((uint8_t *)whole)[size / 2] ^= 1;
    ck_assert_int_eq(dirs[n]->create(dirs[n], "aside", &f, &err), KL_OK);
    ck_assert_int_eq(dirs[n]->append(f, whole, size, &err), KL_OK);
    ck_assert_int_eq(dirs[n]->sync(f, &err), KL_OK);
    ck_assert_int_eq(dirs[n]->publish(f, "data", &err), KL_OK);
    dirs[n]->close(f);
    for (; n > 0; n--)
        dirs[n]->leave(dirs[n]);
    if (repair)
        free(whole);
}

static double metric(const char *name)
{
    struct kl_buf b = { 0 };
    const char   *at;
    double        v;

    kl_metrics_write(w.metrics, &b);
    kl_buf_add8(&b, 0);
    at = b.at;
    do
        at = strstr(at + 1, name);
    while (at != NULL && (at[-1] != '\n' || at[strlen(name)] != ' '));
    ck_assert_msg(at != NULL, "%s", name);
    v = strtod(at + strlen(name), NULL);
    kl_buf_deinit(&b);
    return v;
}

static uint32_t quarantined(char path[BLK_PATH_MAX + 1])
{
    struct blk_manifest m;
    uint32_t            n = 0;

    w_catalogue(&w, 0, &m);
    for (uint32_t i = 0; i < m.fileset_count; i++)
        if (m.filesets[i].quarantined) {
            blk_fileset_path(&m.filesets[i], path);
            n++;
        }
    blk_manifest_deinit(&m);
    return n;
}

START_TEST(one_bad_fileset_is_in_quarantine_by_name_and_the_others_go_on)
{
    struct blk_manifest m;
    struct kl_err       err = { 0 };
    char                path[BLK_PATH_MAX + 1], named[BLK_PATH_MAX + 1];
    uint32_t            before;

    w.compacts = false;
    restart();
    fill(16);
    kl_env_sim_run(w.sim, 120000);
    w_catalogue(&w, 0, &m);
    before = m.fileset_count;
    blk_fileset_path(&m.filesets[before / 2], path);
    blk_manifest_deinit(&m);
    damage(path, false);
    w_stop(&w);
    w.compacts = true;
    w_start(&w);
    w_ready(&w);
    kl_env_sim_run(w.sim, 600000);
    ck_assert_uint_eq(quarantined(named), 1);
    ck_assert_str_eq(named, path);
    ck_assert_uint_lt(filesets(NULL), before - 2);     /* others were merged */
    ck_assert(metric("koalemos_ingestor_filesets_quarantined_total") == 1);
    ck_assert(metric("koalemos_ingestor_housekeeping_failures_total") == 0);
    put(0, 390, 1);
    ck_assert_msg(w_flush(&w, NULL, &err) == KL_OK, "%s", err.text);

    restart();                                        /* still bad: a start does not believe it */
    kl_env_sim_run(w.sim, 60000);
    ck_assert_uint_eq(quarantined(named), 1);

    damage(path, true);                                /* put right: the next start finds it so */
    restart();
    kl_env_sim_run(w.sim, 600000);
    ck_assert_uint_eq(quarantined(named), 0);
    check("put right");
}
END_TEST

static bool is_local(const char *path)
{
    struct kl_env_dir  *dir;
    struct blk_fileset *f;
    struct kl_err       err = { 0 };
    enum kl_code        code;

    ck_assert_int_eq(w.data_dir->enter(w.data_dir, "filesets", true, &dir, &err), KL_OK);
    code = blk_fileset_open_local(dir, path, &f, &err);
    if (code == KL_OK)
        blk_fileset_unref(f);
    dir->leave(dir);
    return code == KL_OK;
}

START_TEST(a_local_copy_that_outlived_its_place_in_the_catalogue_goes_at_the_next_start)
{
    struct kl_env_dir  *dir;
    struct blk_manifest m;
    struct blk_writer  *to;
    struct kl_err       err = { 0 };
    struct blk_info     old = { .tenant = "anonymous", .window_start_ms = base, .incarnation = 1 }, next;
    char                paths[2][BLK_PATH_MAX + 1];

    fill(6);
    kl_env_sim_run(w.sim, 600000);
    w_catalogue(&w, 0, &m);
    ck_assert_uint_gt(m.cut_count, 0);
    old.id = m.cuts[m.cut_count - 1].seq - 1;          /* long uploaded, and merged since */
    next = old;
    next.id = m.cuts[m.cut_count - 1].seq + 1;         /* of a cut that is still to be replayed */
    blk_manifest_deinit(&m);
    blk_fileset_path(&old, paths[0]);
    blk_fileset_path(&next, paths[1]);
    ck_assert_int_eq(w.data_dir->enter(w.data_dir, "filesets", true, &dir, &err), KL_OK);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(blk_writer_open(dir, i == 0 ? &old : &next, &to, &err), KL_OK);
        ck_assert_msg(blk_writer_finish(to, NULL, &err) == KL_OK, "%s", err.text);
        ck_assert(is_local(paths[i]));
    }
    dir->leave(dir);
    restart();
    ck_assert(!is_local(paths[0]));
    ck_assert(is_local(paths[1]));
    check("after the start");
}
END_TEST

static unsigned local_count(unsigned *all)
{
    struct blk_manifest m;
    unsigned            n = 0;

    w_catalogue(&w, 0, &m);
    *all = m.fileset_count;
    for (uint32_t i = 0; i < m.fileset_count; i++) {
        char path[BLK_PATH_MAX + 1];

        blk_fileset_path(&m.filesets[i], path);
        n += is_local(path);
    }
    blk_manifest_deinit(&m);
    return n;
}

START_TEST(local_copies_go_when_they_are_old_however_many_turn_old_at_once)
{
    enum { TENANTS = 100 };
    struct kl_err err;
    char          name[16];
    unsigned      all;

    w_stop(&w);
    w.compacts = false;
    w.local_ms = 900000;
    w_start(&w);
    w_ready(&w);
    for (unsigned i = 0; i < TENANTS; i++) {
        snprintf(name, sizeof name, "t%u", i);
        w_write(&w, 0, name, 1, base, i);
    }
    w_write(&w, 0, "later", 1, base + 600000, 1);
    ck_assert_int_eq(w_flush(&w, NULL, &err), KL_OK);
    ck_assert_uint_eq(local_count(&all), TENANTS + 1);
    ck_assert_uint_eq(all, TENANTS + 1);
    while (w_now(&w) < base + 930000)
        kl_env_sim_run(w.sim, 1000);
    ck_assert_uint_eq(local_count(&all), 1);
    ck_assert_uint_eq(all, TENANTS + 1);
    while (w_now(&w) < base + 1530000)
        kl_env_sim_run(w.sim, 1000);
    ck_assert_uint_eq(local_count(&all), 0);
}
END_TEST

/* ---- failures ---- */

START_TEST(any_failing_call_of_the_disk_leaves_the_old_state_readable_and_is_made_good)
{
    struct w_objects o;
    struct kl_err    err = { 0 };

    /* Each call of the disk in its turn, over everything that flushes and merges do. */
    for (unsigned p = 0; p < 180; p++) {
        while (w_now(&w) < base + (int64_t)p * 10000)
            kl_env_sim_run(w.sim, 1000);
        for (unsigned s = 0; s < SERIES; s += 2)
            put_hard(s, p, p * 10 + s);
        if (p % 4 == 3) {
            kl_env_disk_sim_fail(w.disk, 1 + (uint64_t)_i * 7 + p * 3, p % 8 == 3 ? KL_EIO : KL_ELIMIT);
            w_flush(&w, NULL, &err);
            kl_env_sim_run(w.sim, 20000);
            kl_env_disk_sim_fail(w.disk, 0, KL_OK);
            if (!w.bus->healthy(w.bus, &err)) {        /* the log itself was hit: it is opened anew */
                restart();
            }
            check("meanwhile");
        }
    }
    kl_env_sim_run(w.sim, 900000);
    check("after");
    ck_assert_uint_lt(filesets(NULL), 24);
    restart();
    kl_env_sim_run(w.sim, 40 * 60000);
    check("at the end");
    w_objects(&w, &o);
    ck_assert_msg(o.strange <= 1, "%u objects that nobody knows, such as %s", o.strange, o.first);
}
END_TEST

/* Few filesets, then a flush and a merge in which the nth call of the disk fails, each in its turn. */
START_TEST(every_call_of_a_flush_and_a_merge_fails_once_and_nothing_is_lost)
{
    struct kl_err    err = { 0 };
    struct w_objects o;

    for (uint64_t nth = 1 + (uint64_t)_i; nth < 1200; nth += 16) {
        uint64_t before;
        bool     hit;

        teardown();
        setup();
        for (unsigned n = 0; n < 2; n++) {
            for (unsigned s = 0; s < SERIES; s++)
                put(s, n, n * 10 + s);
            put(0, 0, 100 + n);
            ck_assert_msg(w_flush(&w, NULL, &err) == KL_OK, "%s", err.text);
        }
        for (unsigned s = 0; s < SERIES; s++)
            put(s, 2, s);
        put(1, 1, -1);
        before = kl_env_disk_sim_calls(w.disk);
        kl_env_disk_sim_fail(w.disk, nth, nth % 2 ? KL_EIO : KL_ELIMIT);
        w_flush(&w, NULL, &err);
        kl_env_sim_run(w.sim, 30000);
        hit = kl_env_disk_sim_calls(w.disk) - before >= nth;
        kl_env_disk_sim_fail(w.disk, 0, KL_OK);
        if (!w.bus->healthy(w.bus, &err)) {
            restart();
        }
        check("with a failure");
        kl_env_sim_run(w.sim, 400000);
        check("later");
        restart();                                    /* a folder that failed is opened anew */
        kl_env_sim_run(w.sim, 1200000);
        check("in the end");
        ck_assert_uint_eq(filesets(NULL), 1);
        w_write(&w, 0, T, 0, base, sent[0][0]);        /* a commit that lists what is gone no more */
        ck_assert_msg(w_flush(&w, NULL, &err) == KL_OK, "%s", err.text);
        kl_env_sim_run(w.sim, 1200000);
        w_objects(&w, &o);
        ck_assert_msg(o.strange == 0, "call %u: %u objects that nobody knows, such as %s",
                      (unsigned)nth, o.strange, o.first);
        if (!hit)
            break;                                     /* there are no more calls */
    }
}
END_TEST

START_TEST(a_crash_at_any_moment_loses_doubles_and_leaves_nothing)
{
    struct w_objects o;
    struct kl_err    err = { 0 };

    w.compacts = false;
    restart();
    fill(10);
    kl_env_sim_run(w.sim, 120000);
    w_stop(&w);
    w.compacts = true;
    for (unsigned round = 0; round < 12; round++) {
        uint64_t steps = (uint64_t)_i * 13 + round * 29 % 128;
        int64_t  until;

        w_start(&w);
        w_ready(&w);
        for (unsigned n = 0; n < 3; n++) {             /* enough for a merge */
            put(n, 80 + round * 3 + n, round);
            put(n, 60 + round, -(double)round);
            ck_assert_msg(w_flush(&w, NULL, &err) == KL_OK, "%s", err.text);
        }
        until = kl_env_mono_ns(w.env) + INT64_C(60000000000);
        while (steps-- > 0 && kl_env_sim_step(w.sim, until))
            ;
        w_crash(&w, round % 3 != 0, (uint64_t)_i * 100 + round);
        crashed = true;
    }
    w_start(&w);
    w_ready(&w);
    check("after the crashes");
    kl_env_sim_run(w.sim, 600000);
    check("merged");
    ck_assert_uint_le(filesets(NULL), 5);
    kl_env_sim_run(w.sim, 30 * 60000);
    put(0, 390, 1);
    ck_assert_msg(w_flush(&w, NULL, &err) == KL_OK, "%s", err.text);
    kl_env_sim_run(w.sim, 30 * 60000);
    check("later");
    w_objects(&w, &o);
    ck_assert_msg(o.strange == 0, "%u objects that nobody knows, such as %s", o.strange, o.first);
}
END_TEST

static void put_object(const char *key)
{
    struct kl_err err = { 0 };

    ck_assert_msg(w.store->put(w.store, key, kl_span_str("not ours"), &err) == KL_OK, "%s", err.text);
}

static bool there(const char *key)
{
    struct kl_err err;
    uint64_t      size;

    return w.store->head(w.store, key, &size, &err) == KL_OK;
}

START_TEST(what_nothing_in_the_catalogue_names_goes_after_its_time_and_nothing_else)
{
    static const char *const orphans[] = { "anonymous/0000/0-00000000000000000001/data",
                                           "anonymous/0000/0-00000000000000000001.7/meta",
                                           "anonymous/0000/0-00000000000099999999.9/checkpoint" };
    static const char *const others[] = { "anonymous/0000/0-00000000000099999999/data", "readme",
                                          "anonymous/0001/0-00000000000000000001/data",
                                          "anonymous/0000/notes/data", "somebody/0000/x/y" };
    enum { ORPHANS = sizeof orphans / sizeof orphans[0], OTHERS = sizeof others / sizeof others[0] };
    uint32_t gone;

    fill(4);
    w_stop(&w);
    w.orphans_ms = 3600000;
    w_start(&w);
    w_ready(&w);
    for (int i = 0; i < ORPHANS; i++)
        put_object(orphans[i]);
    for (int i = 0; i < OTHERS; i++)
        put_object(others[i]);
    kl_env_sim_run(w.sim, 50 * 60000);
    filesets(&gone);
    ck_assert_uint_ge(gone, ORPHANS);                  /* listed, and not touched yet */
    for (int i = 0; i < ORPHANS; i++)
        ck_assert_msg(there(orphans[i]), "%s", orphans[i]);
    kl_env_sim_run(w.sim, 60 * 60000);
    for (int i = 0; i < ORPHANS; i++)
        ck_assert_msg(!there(orphans[i]), "%s", orphans[i]);
    for (int i = 0; i < OTHERS; i++)
        ck_assert_msg(there(others[i]), "%s", others[i]);
    check("after");
}
END_TEST

START_TEST(local_copies_of_what_is_replaced_go_also_while_orphans_wait_for_their_time)
{
    struct blk_manifest m;
    unsigned            replaced = 0;
    uint32_t            gone;

    w_stop(&w);
    w.local_ms = 3 * 3600000;
    w.orphans_ms = 3600000;
    w_start(&w);
    w_ready(&w);
    fill(2);
    put_object("anonymous/0000/0-00000000000000000001.7/meta");
    kl_env_sim_run(w.sim, 10 * 60000);
    filesets(&gone);
    ck_assert_uint_ge(gone, 1);                        /* listed, to go in most of an hour */
    fill(16);
    w_catalogue(&w, 0, &m);
    for (uint32_t i = 0; i < m.gone_count; i++) {
        replaced += strstr(m.gone[i].path, "001.7") == NULL;
        ck_assert_msg(!is_local(m.gone[i].path), "%s", m.gone[i].path);
    }
    ck_assert_uint_gt(replaced, 0);
    blk_manifest_deinit(&m);
}
END_TEST

/* As where a log was lost and begun anew: the cuts of the new one count from one again. */
START_TEST(a_name_that_is_taken_in_the_store_stops_no_flush)
{
    struct kl_err err = { 0 };
    char          key[100];

    for (int window = -1; window < 8; window++)
        for (int seq = 1; seq < 60; seq++) {
            snprintf(key, sizeof key, "anonymous/0000/%" PRId64 "-%020d/data",
                     base + window * (int64_t)WORLD_WINDOW_MS, seq);
            put_object(key);
            for (int generation = 1; generation < (_i == 0 ? 0 : 8) && seq < 30; generation++) {
                snprintf(key, sizeof key, "anonymous/0000/%" PRId64 "-%020d.%d/data",
                         base + window * (int64_t)WORLD_WINDOW_MS, seq, generation);
                put_object(key);                       /* so is the name that is taken in its place */
            }
        }
    for (unsigned p = 0; p < 30; p++) {
        while (w_now(&w) < base + (int64_t)p * 10000)
            kl_env_sim_run(w.sim, 1000);
        put(p % SERIES, p, p);
        if (p % 10 == 9)
            ck_assert_msg(w_flush(&w, NULL, &err) == KL_OK, "%s", err.text);
    }
    check("after the flushes");
    ck_assert_uint_ge(filesets(NULL), 1);
    restart();
    check("after a restart");
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("ingestor/tidy");
    TCase   *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int      failed;

    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, small_filesets_become_few_and_answers_stay_the_same);
    tcase_add_test(t, a_fileset_that_is_too_large_to_merge_is_cut_and_answers_stay_the_same);
    tcase_add_test(t, merging_goes_on_beside_writes_flushes_and_late_samples);
    tcase_add_test(t, what_is_past_its_retention_goes_from_the_catalogue_and_then_from_the_store);
    tcase_add_test(t, one_bad_fileset_is_in_quarantine_by_name_and_the_others_go_on);
    tcase_add_test(t, what_nothing_in_the_catalogue_names_goes_after_its_time_and_nothing_else);
    tcase_add_test(t, local_copies_of_what_is_replaced_go_also_while_orphans_wait_for_their_time);
    tcase_add_loop_test(t, a_name_that_is_taken_in_the_store_stops_no_flush, 0, 2);
    tcase_add_test(t, a_local_copy_that_outlived_its_place_in_the_catalogue_goes_at_the_next_start);
    tcase_add_test(t, local_copies_go_when_they_are_old_however_many_turn_old_at_once);
    tcase_add_test(t, a_disk_past_its_mark_is_told_and_taken_back_when_there_is_room);
    tcase_add_loop_test(t, any_failing_call_of_the_disk_leaves_the_old_state_readable_and_is_made_good,
                        0, 8);
    tcase_add_loop_test(t, every_call_of_a_flush_and_a_merge_fails_once_and_nothing_is_lost, 0, 16);
    tcase_add_loop_test(t, a_crash_at_any_moment_loses_doubles_and_leaves_nothing, 0, 12);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
