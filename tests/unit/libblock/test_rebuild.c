/* libblock/rebuild: the catalogue comes back from the store alone. */
#include "libblock/rebuild.h"

#include "tests/suite.h"
#include "tests/unit/libblock/fileset_kit.h"

static struct kl_env_disk_sim *disk;
static struct kl_env_dir      *root, *local, *objects;
static struct kl_store        *store;
static struct kl_err           err;
static const int64_t           start = 1700000000000 / 7200000 * 7200000;

static void setup(void)
{
    disk = kl_env_disk_sim_new();
    root = kl_env_disk_sim_root(disk);
    ck_assert_int_eq(root->enter(root, "local", true, &local, &err), KL_OK);
    ck_assert_int_eq(root->enter(root, "objects", true, &objects, &err), KL_OK);
    store = kl_store_dir_new(objects);
}

static void teardown(void)
{
    store->close(store);
    objects->leave(objects);
    local->leave(local);
    root->leave(root);
    kl_env_disk_sim_free(disk);
}

/* A small fileset, in the store. resolution_ms 0: of samples. */
static struct blk_info sized(uint32_t partition, int64_t window, uint64_t first, uint64_t id,
                             uint64_t generation, int64_t resolution_ms, unsigned series)
{
    struct blk_info info = { .tenant = "anonymous", .partition = partition,
                             .window_start_ms = start + window * 7200000, .window_ms = 7200000,
                             .first_seq = first, .id = id, .generation = generation, .incarnation = 7,
                             .resolution_ms = resolution_ms };
    struct blk_info done;
    char            path[BLK_PATH_MAX + 1];

    kit_make(id, series, 20, info.window_start_ms, 15000);
    ck_assert_msg(kit_write(local, &info, 20, &done, &err) == KL_OK, "%s", err.text);
    blk_fileset_path(&info, path);
    ck_assert_msg(blk_fileset_upload(local, path, store, &err) == KL_OK, "%s", err.text);
    return done;
}

static struct blk_info roll_of(uint32_t partition, int64_t window, uint64_t first, uint64_t id,
                               uint64_t generation, int64_t resolution_ms)
{
    return sized(partition, window, first, id, generation, resolution_ms, 5);
}

static struct blk_info fileset(uint32_t partition, int64_t window, uint64_t first, uint64_t id,
                               uint64_t generation)
{
    return roll_of(partition, window, first, id, generation, 0);
}

static void put_manifest(const struct blk_manifest *m)
{
    struct kl_buf b = { 0 };
    char          key[KL_STORE_KEY_MAX + 1];

    blk_manifest_encode(m, &b);
    blk_manifest_key(m->partition, m->revision, key);
    ck_assert_int_eq(store->put(store, key, kl_buf_span(&b), &err), KL_OK);
    kl_buf_deinit(&b);
}

static void put(const char *key, const char *text)
{
    ck_assert_int_eq(store->put(store, key, kl_span_str(text), &err), KL_OK);
}

/* A manifest of partition 3 that names the filesets given, cut up to the greatest id. */
static struct blk_manifest manifest(uint64_t revision, uint64_t epoch, const struct blk_info *infos,
                                    unsigned count)
{
    struct blk_manifest m = { .partition = 3, .revision = revision, .epoch = epoch, .incarnation = 7,
                              .replay_from = 5 };
    uint64_t            last = 0;

    for (unsigned i = 0; i < count; i++) {
        blk_manifest_add(&m, &infos[i]);
        last = infos[i].id > last ? infos[i].id : last;
    }
    blk_manifest_cut(&m, last, start + 7200000);
    return m;
}

static struct blk_rebuilt got[4];
static unsigned           got_count;

static bool each(void *ctx, struct blk_rebuilt *r)
{
    (void)ctx;
    ck_assert_uint_lt(got_count, 4);
    got[got_count++] = *r;
    r->m = (struct blk_manifest){ 0 };
    return true;
}

static void rebuild(bool filesets_only)
{
    for (unsigned i = 0; i < got_count; i++)
        blk_manifest_deinit(&got[i].m);
    got_count = 0;
    memset(got, 0, sizeof got);
    ck_assert_msg(blk_rebuild(&(struct blk_rebuild){ .store = store, .each = each,
                                                     .filesets_only = filesets_only },
                              &err) == KL_OK, "%s", err.text);
}

static void forget(void)
{
    for (unsigned i = 0; i < got_count; i++)
        blk_manifest_deinit(&got[i].m);
}

START_TEST(the_newest_manifest_counts_and_is_pointed_at_as_it_is)
{
    struct blk_info     infos[2] = { fileset(3, 0, 1, 10, 0), fileset(3, 1, 11, 20, 0) };
    struct blk_manifest one = manifest(1, 1, infos, 1), two = manifest(2, 1, infos, 2);
    struct blk_pointer  at;
    struct kl_buf       b = { 0 };

    put_manifest(&one);
    put_manifest(&two);
    rebuild(false);
    ck_assert_uint_eq(got_count, 1);
    ck_assert(got[0].as_is && got[0].m.revision == 2 && got[0].m.fileset_count == 2 &&
              got[0].m.replay_from == 5 && got[0].missing == 0 && got[0].orphans == 0);
    ck_assert_int_eq(blk_rebuilt_put(store, &got[0], &at, &err), KL_OK);
    blk_manifest_encode(&two, &b);
    ck_assert(at.revision == 2 && at.epoch == 1 && at.digest == kl_hash64(b.at, b.size));
    kl_buf_deinit(&b);
    blk_manifest_deinit(&one);
    blk_manifest_deinit(&two);
    forget();
}
END_TEST

START_TEST(a_stale_owners_manifest_and_an_unreadable_one_are_passed_over)
{
    struct blk_info     infos[2] = { fileset(3, 0, 1, 10, 0), fileset(3, 1, 11, 20, 0) };
    struct blk_manifest good = manifest(4, 2, infos, 2), stale = manifest(5, 1, infos, 1);

    put_manifest(&good);
    put_manifest(&stale);
    put("catalogue/0003/00000000000000000006", "torn");
    rebuild(false);
    ck_assert(got_count == 1 && got[0].m.revision == 4 && got[0].unreadable == 1 &&
              got[0].manifests == 3 && got[0].revision_next == 7);
    blk_manifest_deinit(&good);
    blk_manifest_deinit(&stale);
    forget();
}
END_TEST

START_TEST(filesets_of_later_cuts_are_added_and_what_was_replaced_is_not)
{
    struct blk_info     infos[3] = { fileset(3, 0, 1, 10, 0), fileset(3, 1, 11, 20, 0),
                                     fileset(3, 0, 1, 10, 9) };
    struct blk_manifest m = manifest(9, 1, infos, 3);
    struct blk_pointer  at;
    char                key[KL_STORE_KEY_MAX + 1];
    uint64_t            size;

    blk_manifest_drop(&m, 0, 0);                       /* replaced by the third, not yet removed */
    put_manifest(&m);
    fileset(3, 2, 21, 30, 0);                          /* came up, its manifest did not */
    fileset(3, 1, 11, 20, 10);                         /* a merge that was never committed */
    put("anonymous/0003/1-00000000000000000001/data", "no checkpoint");
    rebuild(false);
    ck_assert(got_count == 1 && !got[0].as_is && got[0].added == 1 && got[0].orphans == 1 &&
              got[0].m.fileset_count == 3 && got[0].m.filesets[2].id == 30);
    ck_assert_int_eq(blk_rebuilt_put(store, &got[0], &at, &err), KL_OK);
    ck_assert_uint_eq(at.revision, 10);
    blk_manifest_key(3, 10, key);
    ck_assert_int_eq(store->head(store, key, &size, &err), KL_OK);
    rebuild(false);                                    /* and once more: it is as it is */
    ck_assert(got_count == 1 && got[0].as_is && got[0].m.revision == 10);
    blk_manifest_deinit(&m);
    forget();
}
END_TEST

START_TEST(what_the_manifest_names_and_the_store_has_not_is_told)
{
    struct blk_info     infos[2] = { fileset(3, 0, 1, 10, 0), fileset(3, 1, 11, 20, 0) };
    struct blk_manifest m = manifest(1, 1, infos, 2);
    char                path[BLK_PATH_MAX + 1];

    put_manifest(&m);
    blk_fileset_path(&infos[0], path);
    ck_assert_int_eq(blk_fileset_remove_stored(store, path, &err), KL_OK);
    rebuild(false);
    ck_assert(got_count == 1 && got[0].missing == 1 && strstr(got[0].words, path) != NULL);
    rebuild(true);
    ck_assert(got_count == 1 && got[0].missing == 0 && got[0].m.fileset_count == 1);
    blk_manifest_deinit(&m);
    forget();
}
END_TEST

START_TEST(without_manifests_the_infos_tell_who_replaced_whom)
{
    fileset(3, 0, 1, 10, 0);
    fileset(3, 0, 11, 20, 0);
    fileset(3, 1, 11, 20, 0);                          /* of another window: stays */
    fileset(3, 0, 1, 20, 5);                           /* replaced the first two */
    fileset(3, 0, 21, 30, 0);                          /* later than that: stays */
    fileset(12, 0, 1, 9, 0);
    rebuild(false);
    ck_assert_uint_eq(got_count, 2);
    ck_assert(got[0].m.partition == 3 && got[0].superseded == 2 && got[0].m.fileset_count == 3 &&
              got[0].m.incarnation == 7 && got[0].m.replay_from == 1 && got[0].revision_next == 1);
    ck_assert(got[1].m.partition == 12 && got[1].m.fileset_count == 1);
    forget();
}
END_TEST

START_TEST(a_rollup_without_a_manifest_is_known_to_be_of_its_fileset_and_perhaps_to_have_more_and_whether_it_lacks_some)
{
    unsigned samples = 0, rows = 0;

    sized(3, 0, 1, 20, UINT64_C(9) << 16 | 1, 0, 5);   /* as a merge of revision 9 calls it */
    sized(3, 0, 1, 20, UINT64_C(9) << 16 | 1, 3600000, 5 - (unsigned)_i);
    fileset(3, 1, 21, 30, 6);
    rebuild(false);
    ck_assert_uint_eq(got[0].m.fileset_count, 3);
    for (uint32_t i = 0; i < got[0].m.fileset_count; i++) {
        const struct blk_info *f = &got[0].m.filesets[i];

        samples += f->resolution_ms == 0 && f->rolled == (f->id == 20 ? 2 : 0) && !f->carried;
        rows += f->resolution_ms == 3600000 && f->carried && f->lacks == (_i > 0);
    }
    ck_assert(samples == 2 && rows == 1);
    ck_assert_uint_eq(got[0].revision_next, 10);       /* no merge gives such a name again */
    forget();
}
END_TEST

START_TEST(a_fileset_that_is_not_whole_is_told_and_left_out)
{
    struct blk_info bad = fileset(3, 0, 1, 10, 0);
    char            path[BLK_PATH_MAX + 1], key[KL_STORE_KEY_MAX + 1];

    fileset(3, 1, 11, 20, 0);
    blk_fileset_path(&bad, path);
    snprintf(key, sizeof key, "%s/meta", path);
    ck_assert_int_eq(store->remove(store, key, &err), KL_OK);
    rebuild(false);
    ck_assert(got_count == 1 && got[0].corrupt == 1 && got[0].m.fileset_count == 1 &&
              strstr(got[0].words, path) != NULL);
    forget();
}
END_TEST

START_TEST(foreign_keys_are_passed_over)
{
    static const char *const keys[] = { "checkpoint", "anonymous/3/0-1/checkpoint",
        "anonymous/0003/x/checkpoint", "catalogue/0003/notes", "catalogue/cell", "catalogue/0003/7",
        "catalogue/0003/00000000000000000007.old", "a/0001/0-00000000000000000001/checkpoint/more" };

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        put(keys[i], "x");
    rebuild(false);
    ck_assert_uint_eq(got_count, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libblock/rebuild");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, the_newest_manifest_counts_and_is_pointed_at_as_it_is);
    tcase_add_test(t, a_stale_owners_manifest_and_an_unreadable_one_are_passed_over);
    tcase_add_test(t, filesets_of_later_cuts_are_added_and_what_was_replaced_is_not);
    tcase_add_test(t, what_the_manifest_names_and_the_store_has_not_is_told);
    tcase_add_test(t, without_manifests_the_infos_tell_who_replaced_whom);
    tcase_add_loop_test(t, a_rollup_without_a_manifest_is_known_to_be_of_its_fileset_and_perhaps_to_have_more_and_whether_it_lacks_some, 0, 2);
    tcase_add_test(t, a_fileset_that_is_not_whole_is_told_and_left_out);
    tcase_add_test(t, foreign_keys_are_passed_over);
    suite_add_tcase(s, t);
    return run_suite(s);
}
