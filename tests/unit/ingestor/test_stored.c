/* Snapshots in the object store: what an empty disk is filled with, what of them is believed, and what is left of
 * them there. In a simulated world; objects are damaged, the store fails, disks are lost. */
#include "snap_world.h"

#include "tests/suite.h"

#include "ingestor/stored.h"
#include "libkoal/env/disk_sim.h"

static void begin(int64_t fsync_ms)
{
    w_init(&w, 21, 2);
    w.window_ms = 7200000;
    w.snapshot_ms = 2000;
    w.stored_ms = 10000;
    w.spill_least_bytes = 1;
    w.fsync_ms = fsync_ms;
    w_start(&w);
    w_ready(&w);
}

static void setup(void) { begin(0); }

/* ---- the store's objects ---- */

struct object { char key[KL_STORE_KEY_MAX + 1]; char *bytes; size_t size; };
struct objects { struct object *at; size_t count; };

static void keep(void *ctx, const char *key, uint64_t size_bytes)
{
    struct objects *o = ctx;
    struct object  *x;
    struct kl_err   err = { 0 };

    o->at = kl_resize(o->at, (o->count + 1) * sizeof *o->at);
    x = &o->at[o->count++];
    snprintf(x->key, sizeof x->key, "%s", key);
    x->size = (size_t)size_bytes;
    x->bytes = malloc(x->size + 1);
    ck_assert_msg(w.store->get(w.store, key, 0, x->bytes, x->size, &err) == KL_OK, "%s", err.text);
}

static struct objects objects_of(uint32_t partition)
{
    struct objects o = { 0 };
    char           prefix[KL_STORE_KEY_MAX + 1];
    struct kl_err  err = { 0 };

    ing_stored_prefix(partition, prefix);
    ck_assert_msg(w.store->list(w.store, prefix, keep, &o, &err) == KL_OK, "%s", err.text);
    return o;
}

static void objects_free(struct objects *o)
{
    for (size_t i = 0; i < o->count; i++)
        free(o->at[i].bytes);
    free(o->at);
}

static void put(const char *key, const void *bytes, size_t size)
{
    struct kl_err err = { 0 };

    w.store->remove(w.store, key, &err);
    ck_assert_msg(w.store->put(w.store, key, kl_span(bytes, size), &err) == KL_OK, "%s", err.text);
}

/* The partition's are these again, and no others. */
static void put_back(const struct objects *o)
{
    struct objects now = objects_of(0);
    struct kl_err  err;

    for (size_t i = 0; i < now.count; i++)
        ck_assert_int_eq(w.store->remove(w.store, now.at[i].key, &err), KL_OK);
    for (size_t i = 0; i < o->count; i++)
        put(o->at[i].key, o->at[i].bytes, o->at[i].size);
    objects_free(&now);
}

static bool is_index(const struct object *x) { return strcmp(strrchr(x->key, '/'), "/index") == 0; }

static unsigned whole_ones(uint32_t partition)
{
    struct objects o = objects_of(partition);
    unsigned       n = 0;

    for (size_t i = 0; i < o.count; i++) {
        struct ing_stored *s;
        struct kl_err      err = { 0 };

        if (!is_index(&o.at[i]))
            continue;
        n++;
        s = kl_new(sizeof *s);
        ck_assert_msg(ing_stored_get(kl_span(o.at[i].bytes, o.at[i].size), s, &err) == KL_OK, "%s", err.text);
        for (uint32_t f = 0; f < s->file_count; f++) {
            char     key[KL_STORE_KEY_MAX + 1];
            size_t   k = 0;
            uint64_t hash = 0;

            ing_stored_file_key(s, f, key);
            while (k < o.count && strcmp(o.at[k].key, key) != 0)
                k++;
            ck_assert_uint_lt(k, o.count);
            ck_assert_uint_eq(o.at[k].size, s->files[f].size_bytes);
            for (size_t at = 0; at < o.at[k].size; at += ING_STORED_PIECE) {
                size_t left = o.at[k].size - at;

                hash = ing_stored_hash(hash, o.at[k].bytes + at, left < ING_STORED_PIECE ? left : ING_STORED_PIECE);
            }
            ck_assert_uint_eq(hash, s->files[f].hash);
        }
        free(s);
    }
    objects_free(&o);
    return n;
}

/* ---- lives ---- */

/* Samples come until one more snapshot is in the store. */
static void store_one(void)
{
    uint64_t before = counted("snapshots_stored");

    for (int n = 0; counted("snapshots_stored") == before; n++) {
        ck_assert_int_lt(n, 100);
        write_all(1);
        kl_env_sim_run(w.sim, 3000);
    }
}

static void remove_file(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    struct kl_env_dir *dir = ctx;
    struct kl_err      err;

    (void)size_bytes;
    ck_assert(!is_dir);
    ck_assert_int_eq(dir->remove(dir, name, &err), KL_OK);
}

/* The ingestor starts anew, without any snapshot of its own. */
static void lose(bool crash)
{
    static const char *const numbers[2] = { "0000", "0001" };
    struct kl_env_dir       *root, *data, *all, *dir;
    struct kl_err            err;

    killed |= crash;
    if (crash)
        w_crash(&w, true, 99);
    else
        w_stop(&w);
    root = kl_env_disk_sim_root(w.disk);
    ck_assert_int_eq(root->enter(root, "data", true, &data, &err), KL_OK);
    ck_assert_int_eq(data->enter(data, "snapshots", true, &all, &err), KL_OK);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(all->enter(all, numbers[i], true, &dir, &err), KL_OK);
        ck_assert_int_eq(dir->list(dir, remove_file, dir, &err), KL_OK);
        ck_assert_int_eq(dir->sync_names(dir, &err), KL_OK);
        dir->leave(dir);
    }
    all->leave(all);
    data->leave(data);
    root->leave(root);
    w_start(&w);
    w_ready(&w);
}

static void check_all(const struct w_answer *before)
{
    struct w_answer after = read_all(0);

    check_same(before, &after);
    w_answer_free(&after);
}

/* Two are there, whole, and nothing of others. */
static void check_two(void)
{
    struct objects o = objects_of(0);

    ck_assert_uint_eq(whole_ones(0), 2);
    for (size_t i = 1; i < o.count; i++)
        if (strncmp(o.at[i].key, o.at[0].key, 75) != 0)
            ck_assert_int_eq(strncmp(o.at[i].key, o.at[o.count - 1].key, 75), 0);
    objects_free(&o);
}

START_TEST(an_empty_disk_is_filled_from_the_store_and_only_what_follows_is_replayed)
{
    struct w_answer before;
    struct kl_err   err = { 0 };

    write_all(400);
    store_one();
    write_all(20);
    before = read_all(0);
    lose(_i == 1);
    ck_assert_uint_eq(counted("snapshots_from_store"), 1);
    ck_assert_uint_ge(counted("snapshots_restored"), 1);
    ck_assert_uint_le(counted("replayed_records"), 60);
    ck_assert_uint_eq(counted("snapshots_set_aside"), 0);
    kl_env_sim_run(w.sim, 1000);
    ck_assert(shown("spilled_bytes") > 1000);
    check_all(&before);
    w_answer_free(&before);
    write_all(5);
    before = read_all(0);
    pass();
    restart(_i == 0);                                  /* its own is what counts from now on */
    ck_assert_uint_eq(counted("snapshots_from_store"), 0);
    check_all(&before);
    ck_assert_msg(w_flush(&w, NULL, &err) == KL_OK, "%s", err.text);
    check_all(&before);
    w_answer_free(&before);
}
END_TEST

/* Each between the making of the snapshot and its use. */
START_TEST(what_was_cut_merged_or_deleted_since_is_as_it_is_with_the_log_alone)
{
    static const struct kl_matcher of[1] = { { .op = KL_MATCH_EQ, .name = { "host", 4 }, .value = { "h3", 2 } } };
    struct w_answer before;
    struct kl_err   err = { 0 };

    w.compacts = _i >= 3;
    restart(false);
    write_all(300);
    store_one();
    if (_i == 1 || _i == 4)
        w_deleted(&w, 0, w_delete(&w, 0, T, of, 1, INT64_MIN + 1, INT64_MAX - 1));
    for (int n = 0; n < (_i >= 3 ? 4 : _i >= 2); n++) {
        ck_assert_msg(w_flush(&w, NULL, &err) == KL_OK, "%s", err.text);
        if (_i >= 3)
            w_write(&w, 0, T, 1, w_now(&w), n);
    }
    if (_i >= 3)
        kl_env_sim_run(w.sim, 60000);
    w.stored_ms = 3600000;                             /* no more of them */
    before = read_all(0);
    lose(true);
    check_all(&before);
    ck_assert_msg(w_flush(&w, NULL, &err) == KL_OK, "%s", err.text);
    check_all(&before);
    w_answer_free(&before);
}
END_TEST

/* The newest is damaged in one way, in each of its objects: the one before it serves, and answers are the same.
 * Then both are: the log has all. */
START_TEST(a_damaged_cut_missing_or_swapped_object_is_never_used)
{
    struct objects  o, other;
    struct w_answer before;
    size_t          newest;
    uint64_t        replayed;

    write_all(260);
    store_one();
    write_all(30);
    store_one();
    for (int n = 0; n < 30; n++)
        w_write(&w, 1, T, 2, w_now(&w), n);
    kl_env_sim_run(w.sim, 60000);
    before = read_all(0);
    o = objects_of(0);
    other = objects_of(1);
    ck_assert_uint_ge(other.count, 2);
    for (newest = o.count - 1; newest > 0 && strncmp(o.at[newest - 1].key, o.at[o.count - 1].key, 75) == 0;)
        newest--;
    ck_assert_uint_gt(newest, 1);                      /* there is one before it */
    ck_assert_uint_ge(o.count - newest, 3);            /* chunks, a head, an index */
    w.stored_ms = 86400000;                            /* no more of them */
    lose(false);
    ck_assert_uint_eq(counted("snapshots_from_store"), 2);     /* both partitions */
    replayed = counted("replayed_records");
    for (size_t k = newest; k < o.count; k++)
        for (int how = 0; how < 5; how++) {
            struct object *x = &o.at[k], *y = &other.at[is_index(x) ? other.count - 1 : 0];
            struct kl_err  err;

            put_back(&o);
            if (how == 0 || how == 1)
                x->bytes[how == 0 ? x->size / 2 : x->size - 1] ^= 1;
            if (how <= 2)
                put(x->key, x->bytes, x->size - (how == 2));
            if (how == 0 || how == 1)
                x->bytes[how == 0 ? x->size / 2 : x->size - 1] ^= 1;
            if (how == 3)
                ck_assert_int_eq(w.store->remove(w.store, x->key, &err), KL_OK);
            if (how == 4)
                put(x->key, y->bytes, y->size);
            lose(false);
            ck_assert_uint_eq(counted("snapshots_from_store"), 2);
            ck_assert_uint_gt(counted("replayed_records"), replayed);  /* from the one before it */
            ck_assert_uint_eq(counted("snapshots_set_aside"), 0);
            check_all(&before);
        }
    put_back(&o);
    for (size_t k = 0; k < o.count; k++)
        if (k % 2 == 0 || is_index(&o.at[k]))
            put(o.at[k].key, o.at[k].bytes, o.at[k].size / 2);
    lose(false);
    ck_assert_uint_eq(counted("snapshots_from_store"), 1);     /* the other's */
    ck_assert_uint_gt(counted("replayed_records"), 290);
    check_all(&before);
    objects_free(&o);
    objects_free(&other);
    w_answer_free(&before);
}
END_TEST

/* What its owner had let go of, by then, is in that catalogue and not in the one that was read. */
START_TEST(one_that_was_made_of_a_newer_catalogue_is_not_used)
{
    struct objects  o;
    struct w_answer before;

    write_all(60);
    store_one();
    before = read_all(0);
    o = objects_of(0);
    for (size_t i = 0; i < o.count; i++) {
        struct ing_stored *s;
        struct kl_buf      b = { 0 };
        struct kl_err      err = { 0 };

        if (!is_index(&o.at[i]))
            continue;
        s = kl_new(sizeof *s);
        ck_assert_int_eq(ing_stored_get(kl_span(o.at[i].bytes, o.at[i].size), s, &err), KL_OK);
        s->catalogue = 1000;
        ing_stored_put(s, &b);
        put(o.at[i].key, b.at, b.size);
        kl_buf_deinit(&b);
        free(s);
    }
    lose(false);
    ck_assert_uint_eq(counted("snapshots_from_store"), 0);
    ck_assert_uint_ge(counted("replayed_records"), 60);
    check_all(&before);
    objects_free(&o);
    w_answer_free(&before);
}
END_TEST

START_TEST(the_last_two_stay_and_what_was_left_of_others_goes)
{
    static const struct ing_stored_name old = { 1, 5, 77 };
    struct objects o;
    char           key[KL_STORE_KEY_MAX + 1];

    ing_stored_key(0, &old, "head", key);
    put(key, "left", 4);
    for (int n = 0; n < 5; n++) {
        write_all(30);
        store_one();
        ck_assert_uint_eq(whole_ones(0), n == 0 ? 1 : 2);
    }
    o = objects_of(0);
    for (size_t i = 0; i < o.count; i++) {
        struct ing_stored_name name;
        const char            *file;

        ck_assert(ing_stored_key_parse(o.at[i].key, 0, &name, &file));
        ck_assert_uint_ne(name.draw, old.draw);
    }
    objects_free(&o);
}
END_TEST

/* Incarnations are times of a server: one whose clock was ahead made the log that was there before. */
START_TEST(those_of_a_log_before_with_a_higher_incarnation_push_none_of_this_ones_out)
{
    struct w_answer        before;
    struct objects         o;
    struct ing_stored_name n;
    const char            *file;
    char                   key[KL_STORE_KEY_MAX + 1];
    unsigned               own = 0;

    write_all(100);
    store_one();
    o = objects_of(0);
    for (int i = 0; i < 2; i++) {
        ck_assert(ing_stored_key_parse(o.at[0].key, 0, &n, &file));
        n.incarnation += 1 + (unsigned)i;
        ing_stored_key(0, &n, "index", key);
        put(key, "x", 1);
    }
    objects_free(&o);
    store_one();
    store_one();
    n.incarnation -= 2;
    o = objects_of(0);
    for (size_t i = 0; i < o.count; i++) {
        struct ing_stored_name x;

        ck_assert(ing_stored_key_parse(o.at[i].key, 0, &x, &file));
        ck_assert_uint_eq(x.incarnation, n.incarnation);       /* those before are gone */
        own += is_index(&o.at[i]);
    }
    ck_assert_uint_eq(own, 2);
    objects_free(&o);
    before = read_all(0);
    lose(false);
    ck_assert_uint_eq(counted("snapshots_from_store"), 1);
    check_all(&before);
    w_answer_free(&before);
}
END_TEST

START_TEST(a_store_that_fails_costs_no_sample_and_leaves_no_garbage)
{
    struct kl_store_faults faults = { .seed = (uint64_t)_i + 1 };
    struct w_answer        before;

    w.faults = &faults;
    restart(false);
    write_all(100);
    faults.before = faults.after = 200;
    for (int n = 0; n < 40; n++) {
        write_all(3);
        kl_env_sim_run(w.sim, 120000);
    }
    ck_assert_uint_gt(faults.count, 5);
    ck_assert_uint_gt(counted("snapshot_store_failures"), 0);
    before = read_all(0);
    lose(true);
    check_all(&before);
    faults.before = faults.after = 0;
    for (int n = 0; n < 3; n++)
        store_one();
    check_two();
    w_answer_free(&before);
    before = read_all(0);
    lose(false);
    ck_assert_uint_ge(counted("snapshots_from_store"), 1);
    check_all(&before);
    w_answer_free(&before);
    w.faults = NULL;
}
END_TEST

START_TEST(killed_at_any_call_of_a_put_nothing_is_lost_and_no_garbage_stays)
{
    uint64_t calls, before_put;

    write_all(260);
    store_one();
    before_put = kl_env_disk_sim_calls(w.disk);
    store_one();
    calls = kl_env_disk_sim_calls(w.disk) - before_put;
    ck_assert_uint_gt(calls, 50);
    for (uint64_t n = 1; n <= calls; n += 2) {
        struct w_answer before;

        write_all(1);
        before = read_all(0);
        kl_env_disk_sim_die(w.disk, n);
        kl_env_sim_run(w.sim, 13000);                  /* one is due in that */
        if (n % 4 == 1)
            lose(true);
        else
            restart(true);
        check_all(&before);
        w_answer_free(&before);
    }
    for (int n = 0; n < 3; n++)
        store_one();
    check_two();
}
END_TEST

/* A power cut takes the log's end, which the snapshot knows: it is not used, nor fetched for ever. */
START_TEST(one_that_the_log_does_not_agree_with_is_not_fetched_again)
{
    uint64_t set_aside = 0;
    int64_t  t;

    teardown();
    begin(600000);                                     /* the log is not synced, the store is */
    t = w_now(&w);
    for (int i = 0; i < 20; i++)
        w_write(&w, 0, T, 1, t + i * 1000, i);
    for (int i = 20; counted("snapshots_stored") == 0; i++) {
        w_write(&w, 0, T, 1, t + i * 1000, i);
        kl_env_sim_run(w.sim, 3000);
        ck_assert_int_lt(i, 120);
    }
    w.stored_ms = 86400000;                            /* no more of them, and what comes is synced */
    w.fsync_ms = 0;
    for (int life = 0; life < 3; life++) {
        struct w_answer a;

        lose(true);
        for (int i = 0; i < 200; i++)                  /* past what the snapshot knows */
            w_write(&w, 0, T, 1, t + 900000 + i * 1000, 100 + i);
        kl_env_sim_run(w.sim, 60000);
        w_ready(&w);
        ck_assert_uint_eq(counted("snapshots_from_store"), 1);
        set_aside += counted("snapshots_set_aside");
        a = read_all(0);
        ck_assert_uint_eq(a.count, 1);
        for (int i = 0; i < 200; i++)
            ck_assert_ptr_nonnull(w_sample_at(&a.series[0], t + 900000 + i * 1000));
        w_answer_free(&a);
    }
    ck_assert_uint_eq(set_aside, 2);                   /* when the log had other records than it */
}
END_TEST

START_TEST(an_index_is_read_as_it_was_written_and_nothing_else_is)
{
    struct ing_stored *s = kl_new(sizeof *s), *got = kl_new(sizeof *got);
    struct kl_buf      b = { 0 };
    struct kl_err      err = { 0 };

    *s = (struct ing_stored){ .partition = 3, .name = { 1700000000000000000, 77, 0xfedcba9876543210 }, .serial = 9,
                              .catalogue = 12, .time_ms = -5, .file_count = 3,
                              .files = { { 0, 70, 1 }, { 9, UINT64_C(1) << 38, 2 }, { 4, 0, 3 } } };
    ing_stored_put(s, &b);
    ck_assert_uint_eq(b.size, ING_STORED_HEAD + 3 * ING_STORED_FILE + 4);
    ck_assert_int_eq(ing_stored_get(kl_buf_span(&b), got, &err), KL_OK);
    ck_assert_int_eq(memcmp(s, got, sizeof *s), 0);
    for (size_t i = 0; i < b.size; i++) {
        ck_assert_int_eq(ing_stored_get(kl_span(b.at, i), got, &err), KL_ECORRUPT);
        b.at[i] ^= 0x10;
        ck_assert_int_eq(ing_stored_get(kl_buf_span(&b), got, &err), KL_ECORRUPT);
        b.at[i] ^= 0x10;
    }
    for (int how = 0; how < 6; how++) {                /* with a checksum that is right */
        struct ing_stored bad = *s;

        if (how == 0)
            bad.files[0].serial = 1;
        if (how == 1)
            bad.files[2].serial = 9;
        if (how == 2)
            bad.files[1].size_bytes++;
        if (how == 3)
            bad.files[0].size_bytes = 0;
        if (how == 4)
            bad.files[1].serial = 0;
        if (how == 5)
            bad.file_count = 0;
        kl_buf_reset(&b);
        ing_stored_put(&bad, &b);
        ck_assert_int_eq(ing_stored_get(kl_buf_span(&b), got, &err), KL_ECORRUPT);
    }
    kl_buf_deinit(&b);
    free(s);
    free(got);
}
END_TEST

START_TEST(keys_sort_as_the_log_does_and_only_ours_are_taken)
{
    static const char *const others[] = {
        "catalogue/snapshots/0003/", "catalogue/snapshots/0003/1-2-3/index", "catalogue/snapshots/0004/0000000000000001-0000000000000002-0000000000000003/index",
        "catalogue/0003/00000000000000000001", "catalogue/snapshots/0003/0000000000000001-000000000000000A-0000000000000003/index",
        "snapshots/0003/0000000000000001-0000000000000002-0000000000000003/index" };
    struct ing_stored_name low = { 1, 255, 9 }, high = { 1, 256, 1 }, got;
    char                   a[KL_STORE_KEY_MAX + 1], b[KL_STORE_KEY_MAX + 1];
    const char            *file;

    ing_stored_key(3, &low, "index", a);
    ing_stored_key(3, &high, "chunks-0000000000000001", b);
    ck_assert(kl_store_key_fit(a) && kl_store_key_fit(b));
    ck_assert_int_lt(strcmp(a, b), 0);
    ck_assert_int_lt(ing_stored_cmp(&low, &high), 0);
    ck_assert(ing_stored_key_parse(b, 3, &got, &file));
    ck_assert_int_eq(ing_stored_cmp(&got, &high), 0);
    ck_assert_str_eq(file, "chunks-0000000000000001");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        ck_assert_msg(!ing_stored_key_parse(others[i], 3, &got, &file), "%s", others[i]);
}
END_TEST

const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }      /* killed processes free nothing */

int main(void)
{
    Suite *s = suite_create("stored");
    TCase *t = tcase_create("stored");

    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, an_empty_disk_is_filled_from_the_store_and_only_what_follows_is_replayed, 0, 2);
    tcase_add_loop_test(t, what_was_cut_merged_or_deleted_since_is_as_it_is_with_the_log_alone, 0, 5);
    tcase_add_test(t, a_damaged_cut_missing_or_swapped_object_is_never_used);
    tcase_add_test(t, one_that_was_made_of_a_newer_catalogue_is_not_used);
    tcase_add_test(t, the_last_two_stay_and_what_was_left_of_others_goes);
    tcase_add_test(t, those_of_a_log_before_with_a_higher_incarnation_push_none_of_this_ones_out);
    tcase_add_loop_test(t, a_store_that_fails_costs_no_sample_and_leaves_no_garbage, 0, 5);
    tcase_add_test(t, killed_at_any_call_of_a_put_nothing_is_lost_and_no_garbage_stays);
    tcase_add_test(t, one_that_the_log_does_not_agree_with_is_not_fetched_again);
    suite_add_tcase(s, t);
    t = tcase_create("bytes");
    tcase_add_test(t, an_index_is_read_as_it_was_written_and_nothing_else_is);
    tcase_add_test(t, keys_sort_as_the_log_does_and_only_ours_are_taken);
    suite_add_tcase(s, t);
    return run_suite(s);
}
