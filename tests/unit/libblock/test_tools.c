/*
 * libblock: a folder is searched for filesets in either layout and for manifests, wherever in it they
 * lie; and what a fileset's data is made of is counted.
 */
#include "libblock/manifest.h"
#include "libblock/tools.h"
#include "tests/suite.h"
#include "tests/unit/libblock/fileset_kit.h"

static struct kl_env_disk_sim *disk;
static struct kl_env_dir      *top, *a, *b;
static struct kl_err           err;
static const int64_t           start = 1700000000000 / 7200000 * 7200000;
static struct blk_info         info = { .tenant = "anonymous", .partition = 3, .window_ms = 7200000,
                                        .id = 4711, .incarnation = 1, .first_seq = 1 };
static char                    path[BLK_PATH_MAX + 1];

/* a/b: a fileset of files, and the same as objects in a/b/store with a manifest. */
static void setup(void)
{
    struct kl_env_dir  *objects;
    struct kl_store    *store;
    struct blk_manifest m = { .partition = 3, .revision = 7, .epoch = 1, .replay_from = 1 };
    struct kl_buf       bytes = { 0 };
    char                key[KL_STORE_KEY_MAX + 1];

    disk = kl_env_disk_sim_new();
    top = kl_env_disk_sim_root(disk);
    ck_assert_int_eq(top->enter(top, "a", true, &a, &err), KL_OK);
    ck_assert_int_eq(a->enter(a, "b", true, &b, &err), KL_OK);
    ck_assert_int_eq(b->enter(b, "store", true, &objects, &err), KL_OK);
    info.window_start_ms = start;
    blk_fileset_path(&info, path);
    kit_make(3, 50, 300, start, 15000);
    ck_assert_msg(kit_write(b, &info, 240, NULL, &err) == KL_OK, "%s", err.text);
    store = kl_store_dir_new(objects);
    ck_assert_int_eq(blk_fileset_upload(b, path, store, &err), KL_OK);
    blk_manifest_add(&m, &info);
    blk_manifest_encode(&m, &bytes);
    blk_manifest_key(3, 7, key);
    ck_assert_int_eq(store->put(store, key, kl_buf_span(&bytes), &err), KL_OK);
    kl_buf_deinit(&bytes);
    blk_manifest_deinit(&m);
    store->close(store);
    objects->leave(objects);
}

static void teardown(void)
{
    b->leave(b);
    a->leave(a);
    top->leave(top);
    kl_env_disk_sim_free(disk);
}

START_TEST(both_layouts_and_manifests_are_found_from_any_folder_above)
{
    struct kl_env_dir *from[] = { top, a, b };
    const char *const  roots[] = { "a/b", "b", "" };

    for (unsigned i = 0; i < 3; i++) {
        struct blk_finds finds;
        char             store[32];

        ck_assert_msg(blk_find(from[i], &finds, &err) == KL_OK, "%s", err.text);
        snprintf(store, sizeof store, "%s%sstore", roots[i], roots[i][0] ? "/" : "");
        ck_assert_uint_eq(finds.count, 3);
        ck_assert_int_eq(finds.at[0].kind, BLK_FOUND_LOCAL);
        ck_assert_str_eq(finds.at[0].root, roots[i]);
        ck_assert_str_eq(finds.at[0].path, path);
        ck_assert_int_eq(finds.at[1].kind, BLK_FOUND_STORED);
        ck_assert_str_eq(finds.at[1].root, store);
        ck_assert_int_eq(finds.at[2].kind, BLK_FOUND_MANIFEST);
        ck_assert_str_eq(finds.at[2].path, "catalogue/0003/00000000000000000007");
        for (unsigned k = 0; k < 3; k++)
            ck_assert_uint_gt(finds.at[k].bytes, 0);
        for (unsigned k = 0; k < 2; k++) {
            struct blk_found_open o = { 0 };

            ck_assert_msg(blk_found_open(from[i], &finds.at[k], &o, &err) == KL_OK, "%s", err.text);
            ck_assert_msg(blk_fileset_verify(o.f, &err) == KL_OK, "%s", err.text);
            blk_found_close(&o);
        }
        blk_finds_deinit(&finds);
    }
}
END_TEST

START_TEST(a_fileset_without_checkpoint_is_unfinished)
{
    struct blk_finds      finds;
    struct blk_found_open o = { 0 };
    struct kl_env_dir    *x, *y, *z;

    ck_assert_int_eq(b->enter(b, "anonymous", false, &x, &err), KL_OK);
    ck_assert_int_eq(x->enter(x, "0003", false, &y, &err), KL_OK);
    ck_assert_int_eq(y->enter(y, strrchr(path, '/') + 1, false, &z, &err), KL_OK);
    ck_assert_int_eq(z->remove(z, "checkpoint", &err), KL_OK);
    z->leave(z);
    y->leave(y);
    x->leave(x);
    ck_assert_int_eq(blk_find(b, &finds, &err), KL_OK);
    ck_assert_uint_eq(finds.count, 3);
    ck_assert_int_eq(finds.at[0].kind, BLK_FOUND_UNFINISHED);
    ck_assert_int_eq(blk_found_open(b, &finds.at[0], &o, &err), KL_ENOENT);
    blk_finds_deinit(&finds);
}
END_TEST

START_TEST(every_chunk_and_sample_is_counted_under_its_codec)
{
    struct blk_fileset *f;
    struct blk_census   c = { 0 };
    uint64_t            samples = 0, chunks = 0, hists = 0;

    ck_assert_int_eq(blk_fileset_open_local(b, path, &f, &err), KL_OK);
    ck_assert_msg(blk_fileset_census(f, &c, &err) == KL_OK, "%s", err.text);
    ck_assert_uint_eq(c.series, 50);
    ck_assert_uint_eq(c.samples, blk_fileset_info(f)->sample_count);
    for (uint32_t i = 0; i < c.codec_count; i++) {
        samples += c.codecs[i].samples;
        chunks += c.codecs[i].chunks;
        if (strcmp(c.codecs[i].name, "histogram") == 0)
            hists = c.codecs[i].samples;
        ck_assert_str_ne(c.codecs[i].name, "corrupt");
    }
    ck_assert_uint_eq(samples, c.samples);
    ck_assert_uint_eq(chunks, c.chunks);
    ck_assert_uint_eq(hists, 300 * 6);                 /* every ninth of fifty, from the fifth */
    ck_assert_uint_gt(c.time_bytes, 0);
    blk_fileset_unref(f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libblock/tools");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, both_layouts_and_manifests_are_found_from_any_folder_above);
    tcase_add_test(t, a_fileset_without_checkpoint_is_unfinished);
    tcase_add_test(t, every_chunk_and_sample_is_counted_under_its_codec);
    suite_add_tcase(s, t);
    return run_suite(s);
}
