/*
 * libblock: a small fileset with any one byte flipped, or cut at any length, or with a file missing,
 * or with parts of another fileset: each is detected and named; nothing of it is served as if well.
 */
#include "tests/unit/libblock/fileset_kit.h"
#include "tests/suite.h"

static struct kl_env_disk_sim *disk;
static struct kl_env_dir      *root, *levels[3];
static struct kit_store        store;
static struct kl_err           err;
static const int64_t           start = 1700000000000 / 7200000 * 7200000;
static struct blk_info         info;
static char                    path[BLK_PATH_MAX + 1];
static const char *const files[] = { "info", "data", "index", "summaries", "postings", "bloom",
                                     "extras", "digests", "checkpoint" };
enum { FILES = sizeof files / sizeof *files };

static void write_named(const char *tenant, uint32_t partition, uint64_t id, int64_t resolution_ms)
{
    info = (struct blk_info){ .window_start_ms = start, .window_ms = 7200000, .id = id,
                              .partition = partition, .incarnation = 1, .first_seq = 1,
                              .generation = 5, .resolution_ms = resolution_ms };       /* of the latest version */
    strcpy(info.tenant, tenant);
    blk_fileset_path(&info, path);
    ck_assert_msg(kit_write(root, &info, 240, NULL, &err) == KL_OK, "%s", err.text);
}

static struct kl_env_dir *enter(void)
{
    char partition[8];

    snprintf(partition, sizeof partition, "%04u", info.partition);
    ck_assert_int_eq(root->enter(root, info.tenant, false, &levels[0], &err), KL_OK);
    ck_assert_int_eq(levels[0]->enter(levels[0], partition, false, &levels[1], &err), KL_OK);
    ck_assert_int_eq(levels[1]->enter(levels[1], strrchr(path, '/') + 1, false, &levels[2], &err), KL_OK);
    return levels[2];
}
static void leave(void)
{
    for (int i = 2; i >= 0; i--)
        levels[i]->leave(levels[i]);
}

static void setup(void)
{
    disk = kl_env_disk_sim_new();
    root = kl_env_disk_sim_root(disk);
    kit_store_init(&store);
    kit_make(1, 24, 12, start, 15000);
    write_named("anonymous", 3, 4711, 300000);
}

static void teardown(void)
{
    root->leave(root);
    kl_env_disk_sim_free(disk);
    kit_store_deinit(&store);
}

/* Everything that reading can reach. Must fail, with KL_ECORRUPT and words. */
static void check_detected(enum kl_code opened, struct blk_fileset *f, const char *what, size_t at)
{
    struct blk_select     *s;
    struct blk_selected    one;
    struct blk_extras_each none = { 0 };
    enum kl_code           code = opened;

    if (opened == KL_OK) {
        ck_assert_msg(blk_fileset_verify(f, &err) == KL_ECORRUPT, "%s at %zu verifies", what, at);
        ck_assert_ptr_nonnull(strstr(err.text, path));
        /* Reading all, in place of verifying: data, or what is beside it, must fail as well. */
        code = blk_select_open(f, NULL, 0, INT64_MIN, INT64_MAX, true, &s, &err);
        if (code == KL_OK) {
            while ((code = blk_select_next(s, &one, &err)) == KL_OK)
                ;
            code = code == KL_ENOENT ? KL_OK : code;
            blk_select_close(s);
        }
        if (code == KL_OK)
            code = blk_fileset_extras(f, &none, &err);
        if (code == KL_OK) {                           /* only the order by fingerprint is left */
            struct kl_buf b = { 0 };
            for (uint32_t i = 0; i < kit_count && code == KL_OK; i++)
                code = blk_fileset_find(f, kit[i].fp, &b, &err);
            kl_buf_deinit(&b);
        }
        blk_fileset_unref(f);
    }
    ck_assert_msg(code == KL_ECORRUPT, "%s at %zu: %s", what, at, kl_code_name(code));
    ck_assert_msg(strstr(err.text, path) != NULL, "not named: %s", err.text);
}

static void put_file(struct kl_env_dir *dir, const char *name, const void *bytes, size_t size)
{
    struct kl_env_file *file;

    ck_assert_int_eq(dir->create(dir, "aside", &file, &err), KL_OK);
    ck_assert_int_eq(dir->append(file, bytes, size, &err), KL_OK);
    ck_assert_int_eq(dir->sync(file, &err), KL_OK);
    ck_assert_int_eq(dir->publish(file, name, &err), KL_OK);
    dir->close(file);
}

START_TEST(every_flipped_byte_of_a_local_fileset_is_detected)
{
    struct kl_env_dir  *dir = enter();
    struct blk_fileset *f;
    void               *bytes;
    size_t              size;

    ck_assert_int_eq(dir->read(dir, files[_i], 1 << 20, &bytes, &size, &err), KL_OK);
    for (size_t at = 0; at < size; at++) {
        ((uint8_t *)bytes)[at] ^= (uint8_t)(1u << at % 8);
        put_file(dir, files[_i], bytes, size);
        ((uint8_t *)bytes)[at] ^= (uint8_t)(1u << at % 8);
        enum kl_code code = blk_fileset_open_local(root, path, &f, &err);
        check_detected(code, f, files[_i], at);
    }
    put_file(dir, files[_i], bytes, size);
    ck_assert_int_eq(blk_fileset_open_local(root, path, &f, &err), KL_OK);
    ck_assert_msg(blk_fileset_verify(f, &err) == KL_OK, "%s", err.text);
    blk_fileset_unref(f);
    free(bytes);
    leave();
}
END_TEST

START_TEST(every_truncation_of_a_local_fileset_is_detected)
{
    struct kl_env_dir  *dir = enter();
    struct blk_fileset *f;
    void               *bytes;
    size_t              size;

    ck_assert_int_eq(dir->read(dir, files[_i], 1 << 20, &bytes, &size, &err), KL_OK);
    for (size_t at = 0; at < size; at++) {
        put_file(dir, files[_i], bytes, at);
        enum kl_code code = blk_fileset_open_local(root, path, &f, &err);
        check_detected(code, f, files[_i], at);
    }
    bytes = realloc(bytes, size + 1);                  /* and one byte too many */
    ((uint8_t *)bytes)[size] = 0;
    put_file(dir, files[_i], bytes, size + 1);
    enum kl_code code = blk_fileset_open_local(root, path, &f, &err);
    check_detected(code, f, files[_i], size + 1);
    free(bytes);
    leave();
}
END_TEST

START_TEST(missing_file_is_detected)
{
    struct kl_env_dir  *dir = enter();
    struct blk_fileset *f;

    ck_assert_int_eq(dir->remove(dir, files[_i], &err), KL_OK);
    leave();
    if (strcmp(files[_i], "checkpoint") == 0)
        ck_assert_int_eq(blk_fileset_open_local(root, path, &f, &err), KL_ENOENT);
    else {                                             /* extras are read when asked for */
        enum kl_code code = blk_fileset_open_local(root, path, &f, &err);
        ck_assert(code == KL_ECORRUPT || strcmp(files[_i], "extras") == 0);
        check_detected(code, f, files[_i], 0);
    }
}
END_TEST

START_TEST(every_flip_and_truncation_of_a_stored_fileset_is_detected)
{
    struct kit_object  *o;
    struct blk_fileset *f;
    size_t              size;

    ck_assert_msg(blk_fileset_upload(root, path, &store.store, &err) == KL_OK, "%s", err.text);
    ck_assert_uint_eq(store.count, 3);
    o = &store.objects[_i];
    size = o->size;
    for (size_t at = 0; at < size; at++) {
        enum kl_code code;

        o->bytes[at] ^= (uint8_t)(1u << at % 8);
        code = blk_fileset_open_store(&store.store, path, &f, &err);
        check_detected(code, f, o->key, at);
        o->bytes[at] ^= (uint8_t)(1u << at % 8);
        o->size = at;
        code = blk_fileset_open_store(&store.store, path, &f, &err);
        check_detected(code, f, o->key, at);
        o->size = size;
    }
}
END_TEST

/* Digests bind tenant, partition, window and id: another's file is refused, whole as it is. */
START_TEST(file_of_another_fileset_is_refused)
{
    struct blk_fileset *f;
    void               *bytes;
    size_t              size;
    struct kl_env_dir  *dir = enter();
    static const struct { const char *tenant; uint32_t partition; uint64_t id; int64_t ms; } others[] = {
        { "other", 3, 4711, 300000 }, { "anonymous", 4, 4711, 300000 }, { "anonymous", 3, 4712, 300000 },
        { "anonymous", 3, 4711, 3600000 }, { "anonymous", 3, 4711, 0 },
    };

    for (unsigned o = 0; o < sizeof others / sizeof *others; o++) {
        ck_assert_int_eq(dir->read(dir, files[_i], 1 << 20, &bytes, &size, &err), KL_OK);
        leave();
        write_named(others[o].tenant, others[o].partition, others[o].id, others[o].ms);
        dir = enter();
        put_file(dir, files[_i], bytes, size);
        free(bytes);
        enum kl_code code = blk_fileset_open_local(root, path, &f, &err);
        check_detected(code, f, files[_i], 0);
    }
    leave();
}
END_TEST

START_TEST(upload_refuses_what_is_corrupt)
{
    struct kl_env_dir *dir = enter();
    void              *bytes;
    size_t             size;

    ck_assert_int_eq(dir->read(dir, "data", 1 << 20, &bytes, &size, &err), KL_OK);
    ((uint8_t *)bytes)[size / 2] ^= 1;
    put_file(dir, "data", bytes, size);
    free(bytes);
    leave();
    ck_assert_int_eq(blk_fileset_upload(root, path, &store.store, &err), KL_ECORRUPT);
    ck_assert_uint_eq(store.count, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libblock/corrupt");
    TCase *t = tcase_create("all");

    tcase_set_timeout(t, 240);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, every_flipped_byte_of_a_local_fileset_is_detected, 0, FILES);
    tcase_add_loop_test(t, every_truncation_of_a_local_fileset_is_detected, 0, FILES);
    tcase_add_loop_test(t, missing_file_is_detected, 0, FILES);
    tcase_add_loop_test(t, every_flip_and_truncation_of_a_stored_fileset_is_detected, 0, 3);
    tcase_add_loop_test(t, file_of_another_fileset_is_refused, 0, FILES);
    tcase_add_test(t, upload_refuses_what_is_corrupt);
    suite_add_tcase(s, t);
    return run_suite(s);
}
