/* libkoal/crypt/vault: lists of keys, which folders are encrypted by which, and folders written anew by another. */
#include "vault_fixture.h"

#include "libkoal/base/config.h"
#include "libkoal/base/hex.h"

/* ---- keys ---- */

START_TEST(a_list_of_keys_is_read_whole_or_refused_with_words_that_do_not_hold_it)
{
    static const char *const bad[] = { "", "\n# none\n", "0011", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1g" };
    char            twice[200], text[3000] = "";
    struct kl_keys *k;
    uint8_t         id[KL_KEY_ID];

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(kl_keys_parse(kl_span_str(bad[i]), &k, &err), KL_EINVAL);
        ck_assert_ptr_null(strstr(err.text, "0405"));
    }
    snprintf(twice, sizeof twice, "%s\n%s\n", first_key, first_key);
    ck_assert_int_eq(kl_keys_parse(kl_span_str(twice), &k, &err), KL_EINVAL);
    for (int i = 0; i <= KL_KEYS_MAX; i++)
        sprintf(text + strlen(text), "%02x%s\n", 64 + i, first_key + 2);
    ck_assert_int_eq(kl_keys_parse(kl_span_str(text), &k, &err), KL_EINVAL);
    ok(kl_keys_parse(kl_span(first_key, 32), &k, &err));       /* 32 bytes as they are */
    ck_assert_int_eq(memcmp(kl_keys_bytes(k, 0), first_key, 32), 0);
    kl_keys_unref(k);
    ck_assert_uint_eq(kl_keys_count(both), 2);
    kl_key_id(kl_keys_bytes(keys, 0), id);
    ck_assert_ptr_nonnull(kl_keys_find(both, id));
    ck_assert_ptr_null(kl_keys_find(newer, id));
    ck_assert_int_eq(memcmp(kl_keys_id(both, 0), kl_keys_id(newer, 0), KL_KEY_ID), 0);
}
END_TEST

START_TEST(keys_come_out_of_a_file_or_of_what_a_command_prints)
{
    struct kl_keys *k;
    char            file[100], command[200];
    FILE           *f;

    snprintf(file, sizeof file, "%s/keys", path);
    f = fopen(file, "w");
    fprintf(f, "%s\r\n%s\n", second_key, first_key);
    fclose(f);
    ok(kl_keys_read(file, &k, &err));
    ck_assert_uint_eq(kl_keys_count(k), 2);
    kl_keys_unref(k);
    snprintf(command, sizeof command, "tail -n 1 %s", file);
    ok(kl_keys_run(command, &k, &err));
    ck_assert_int_eq(memcmp(kl_keys_id(k, 0), kl_keys_id(keys, 0), KL_KEY_ID), 0);
    kl_keys_unref(k);
    ck_assert_int_eq(kl_keys_run("exit 3", &k, &err), KL_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "status 3"));
    ck_assert_int_eq(kl_keys_run("yes 0123", &k, &err), KL_EINVAL);    /* without end: killed */
    snprintf(command, sizeof command, "cat %s; exit 1", file);
    ck_assert_int_eq(kl_keys_run(command, &k, &err), KL_EIO);
    strcat(file, "-none");
    ck_assert_int_eq(kl_keys_read(file, &k, &err), KL_ENOENT);
    ok(raws[REAL]->remove(raws[REAL], "keys", &err));
}
END_TEST

START_TEST(new_files_get_the_first_key_and_old_ones_open_while_theirs_is_listed)
{
    struct kl_env_dir *rotated, *gone, *raw;
    void              *bytes;
    size_t             size;
    char               id[KL_KEY_ID_TEXT];

    ok(save(dirs[REAL], "old", bytes_at(0, 10), 10));
    ok(kl_env_dir_real_open(path, false, &raw, &err));
    rotated = kl_vault_new(raw, both);
    ck_assert(reads_whole(rotated, "old", 10));
    ok(save(rotated, "new", bytes_at(0, 10), 10));
    rotated->leave(rotated);
    ck_assert_int_eq(dirs[REAL]->read(dirs[REAL], "new", 100, &bytes, &size, &err), KL_EINVAL);
    kl_hex(kl_keys_id(newer, 0), KL_KEY_ID, id);
    ck_assert_ptr_nonnull(strstr(err.text, id));
    ok(kl_env_dir_real_open(path, false, &raw, &err));
    gone = kl_vault_new(raw, newer);
    ck_assert(reads_whole(gone, "new", 10));
    ck_assert_int_eq(gone->read(gone, "old", 100, &bytes, &size, &err), KL_EINVAL);
    gone->leave(gone);
}
END_TEST

/* ---- which folders are encrypted ---- */

static enum kl_code opens_with(struct kl_keys *k, bool writes)
{
    struct kl_env_dir *dir;
    enum kl_code       code = kl_vault_open(path, false, k, writes, &dir, &err);

    if (code == KL_OK)
        dir->leave(dir);
    return code;
}

START_TEST(a_folder_is_opened_as_it_lies_or_refused_with_what_to_do)
{
    struct kl_env_dir *dir;
    char               below[100];

    struct kl_env_dir *lost;

    ok(raws[REAL]->enter(raws[REAL], "lost+found", true, &lost, &err));
    lost->leave(lost);
    ok(opens_with(NULL, true));
    ok(save(raws[REAL], "plain", "x", 1));
    ck_assert_int_eq(opens_with(keys, true), KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "koalemos encrypt"));
    ok(raws[REAL]->remove(raws[REAL], "plain", &err));
    ok(opens_with(keys, false));                       /* empty, and not to be written to */
    ok(opens_with(NULL, true));
    ok(opens_with(keys, true));
    ck_assert_int_eq(opens_with(NULL, false), KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "it is encrypted"));
    ck_assert_int_eq(opens_with(newer, true), KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "not among those"));
    ok(opens_with(both, false));
    ok(opens_with(keys, true));                        /* who only looked has changed nothing */
    ok(opens_with(both, true));
    ck_assert_int_eq(opens_with(keys, true), KL_EINVAL);
    ck_assert_int_eq(opens_with(newer, true), KL_EINVAL);
    ok(opens_with(both, true));

    /* A folder below needs no mark of its own. */
    ok(kl_vault_open(path, false, both, true, &dir, &err));
    struct kl_env_dir *store;
    ok(dir->enter(dir, "store", true, &store, &err));
    ok(save(store, "file", bytes_at(0, 20), 20));
    store->leave(store);
    dir->leave(dir);
    snprintf(below, sizeof below, "%s/store", path);
    ok(kl_vault_open(below, false, both, true, &dir, &err));
    ck_assert(reads_whole(dir, "file", 20));
    dir->leave(dir);
    ck_assert_int_eq(kl_vault_open(below, false, NULL, true, &dir, &err), KL_EINVAL);
    ck_assert_int_eq(kl_vault_open(below, false, keys, true, &dir, &err), KL_EINVAL);
    ok(save(raws[REAL], KL_VAULT_MARK, "koalemos encrypted 2 whole", 26));
    ck_assert_int_eq(opens_with(both, true), KL_ECORRUPT);
}
END_TEST

/* ---- written anew ---- */

static unsigned told_fine, told_bad;

static void told(void *ctx, const char *name, const struct kl_err *failed)
{
    (void)ctx, (void)name;
    *(failed == NULL ? &told_fine : &told_bad) += 1;
}

struct seen { unsigned plain, old, fresh; };

static void see(void *ctx, const struct kl_vault_file *f)
{
    struct seen *s = ctx;

    *(!f->encrypted ? &s->plain : memcmp(f->id, kl_keys_id(keys, 0), KL_KEY_ID) == 0 ? &s->old : &s->fresh) += 1;
}

static struct seen seen(struct kl_env_dir *raw)
{
    struct seen s = { 0 };

    ok(kl_vault_each(raw, see, &s, &err));
    return s;
}

static void fill(struct kl_env_dir *dir)
{
    struct kl_env_dir *below, *audit;

    ok(save(dir, "a", bytes_at(0, 300000), 300000));
    ok(save(dir, "empty", "", 0));
    ok(dir->enter(dir, "below", true, &below, &err));
    ok(save(below, "b", bytes_at(0, 5), 5));
    below->leave(below);
    ok(dir->enter(dir, "audit", true, &audit, &err));
    audit->leave(audit);
}

static bool all_right(struct kl_env_dir *dir)
{
    struct kl_env_dir *below;
    bool               fine;

    ok(dir->enter(dir, "below", false, &below, &err));
    fine = reads_whole(dir, "a", 300000) && reads_whole(dir, "empty", 0) && reads_whole(below, "b", 5);
    below->leave(below);
    return fine;
}

START_TEST(a_plain_folder_is_encrypted_then_by_another_key_then_not_any_more)
{
    struct kl_vault_change c = { .keys = keys, .told = told };
    struct kl_env_dir     *dir;

    fill(raws[REAL]);
    ok(kl_vault_rewrite(raws[REAL], &c, &err));
    ck_assert_uint_eq(c.changed, 2);
    ck_assert_uint_eq(seen(raws[REAL]).old, 2);
    ck_assert(all_right(dirs[REAL]));
    ok(opens_with(keys, true));
    ok(kl_vault_rewrite(raws[REAL], &c, &err));        /* nothing is left to be done */
    ck_assert_uint_eq(c.changed, 0);

    c = (struct kl_vault_change){ .keys = both, .old = both, .told = told };
    ok(kl_vault_rewrite(raws[REAL], &c, &err));
    ck_assert_uint_eq(c.changed, 2);
    ck_assert_uint_eq(seen(raws[REAL]).fresh, 2);
    ok(kl_vault_open(path, false, newer, true, &dir, &err));
    ck_assert(all_right(dir));
    dir->leave(dir);

    c = (struct kl_vault_change){ .old = newer, .told = told };
    ok(kl_vault_rewrite(raws[REAL], &c, &err));
    ok(opens_with(NULL, true));
    ck_assert(all_right(raws[REAL]));
    ck_assert_int_eq(kl_vault_rewrite(raws[REAL], &c, &err), KL_EINVAL);
}
END_TEST

static void put_below(struct kl_env_dir *raw, const char *folder, const char *below)
{
    struct kl_env_dir *dir, *deeper;

    ok(raw->enter(raw, folder, true, &dir, &err));
    if (below != NULL) {
        ok(dir->enter(dir, below, true, &deeper, &err));
        ok(save(deeper, "file", bytes_at(0, 100), 100));
        deeper->leave(deeper);
    } else {
        ok(save(dir, "file", bytes_at(0, 100), 100));
    }
    dir->leave(dir);
}

static bool is_below(struct kl_env_dir *raw, const char *folder)
{
    struct kl_env_dir *dir;
    void              *bytes;
    size_t             size;
    bool               is;

    ok(raw->enter(raw, folder, false, &dir, &err));
    is = dir->read(dir, "file", 1000, &bytes, &size, &err) == KL_OK;
    if (is)
        free(bytes);
    dir->leave(dir);
    return is;
}

START_TEST(an_audit_log_is_left_alone_a_cache_emptied_and_tenants_of_these_names_are_not_mistaken_for_them)
{
    struct kl_vault_change c = { .keys = keys, .told = told };

    put_below(raws[REAL], "audit", NULL);
    put_below(raws[REAL], "cache", NULL);
    ok(opens_with(keys, true));                        /* nothing in it was to be encrypted */
    ok(kl_vault_rewrite(raws[REAL], &c, &err));
    ck_assert_uint_eq(c.changed, 0);
    ck_assert(is_below(raws[REAL], "audit"));
    ck_assert(!is_below(raws[REAL], "cache"));
    put_below(raws[REAL], "cache", "0001");
    put_below(raws[REAL], "audit", "0001");
    ck_assert_uint_eq(seen(raws[REAL]).plain, 3);
    ok(kl_vault_rewrite(raws[REAL], &c, &err));
    ck_assert_uint_eq(c.changed, 3);
    ck_assert_uint_eq(seen(raws[REAL]).old, 3);
}
END_TEST

START_TEST(what_does_not_open_is_left_as_it_is_and_named_and_the_rest_is_done)
{
    struct kl_vault_change c = { .keys = both, .old = both, .told = told };
    size_t                 size;
    uint8_t               *stored;

    ok(opens_with(keys, true));
    fill(dirs[REAL]);
    stored = stored_of(raws[REAL], "a", &size);
    stored[KL_VAULT_HEADER + 50] ^= 1;
    ok(save(raws[REAL], "a", stored, size));
    free(stored);
    told_fine = told_bad = 0;
    ck_assert_int_eq(kl_vault_rewrite(raws[REAL], &c, &err), KL_EIO);
    ck_assert_uint_eq(told_fine, 1);
    ck_assert_uint_eq(told_bad, 1);
    ck_assert_int_eq(opens_with(newer, true), KL_EINVAL);      /* the old key is needed still */
    ok(opens_with(both, true));
    ok(raws[REAL]->remove(raws[REAL], "a", &err));
    ok(kl_vault_rewrite(raws[REAL], &c, &err));
    ok(opens_with(newer, true));
}
END_TEST

START_TEST(a_change_that_a_crash_ends_is_taken_up_where_it_was)
{
    struct kl_vault_change c = { .keys = keys, .told = told };
    struct kl_env_dir     *dir;
    enum kl_code           code;

    fill(raws[SIM]);
    ok(raws[SIM]->sync_names(raws[SIM], &err));
    kl_env_disk_sim_fail(disk, (uint64_t)_i, KL_EIO);
    code = kl_vault_rewrite(raws[SIM], &c, &err);
    kl_env_disk_sim_fail(disk, 0, KL_EIO);
    after(kl_env_disk_sim_crash, (uint64_t)_i);
    if (code != KL_OK) {
        struct kl_vault_mark m;

        if (kl_vault_mark_read(raws[SIM], &m, &err) == KL_OK)
            ck_assert(!m.whole || seen(raws[SIM]).plain == 1);         /* but for the empty one */
        ok(kl_vault_rewrite(raws[SIM], &c, &err));
    }
    ck_assert(all_right(dirs[SIM]));
    ck_assert_uint_eq(seen(raws[SIM]).plain, 1);
    ok(kl_vault_admit(kl_env_disk_sim_root(disk), keys, true, NULL, &dir, &err));
    dir->leave(dir);
}
END_TEST

/* An object storage in a folder has tenants' folders beside the mark: one in its place cannot be opened any more. */
START_TEST(no_tenant_is_called_as_the_mark)
{
    struct kl_env_dir *folder, *opened;

    ok(raws[REAL]->enter(raws[REAL], KL_VAULT_MARK, true, &folder, &err));
    folder->leave(folder);
    ck_assert_int_eq(kl_vault_open(path, false, NULL, true, &opened, &err), KL_EIO);
    ck_assert_int_eq(kl_vault_open(path, false, keys, true, &opened, &err), KL_EIO);
    ck_assert(!kl_tenant_ok(kl_span_str(KL_VAULT_MARK)));
    ck_assert(kl_tenant_ok(kl_span_str("encrypted")) && kl_tenant_ok(kl_span_str(KL_VAULT_MARK "1")));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/crypt/vault: keys");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_list_of_keys_is_read_whole_or_refused_with_words_that_do_not_hold_it);
    tcase_add_test(t, keys_come_out_of_a_file_or_of_what_a_command_prints);
    tcase_add_test(t, new_files_get_the_first_key_and_old_ones_open_while_theirs_is_listed);
    tcase_add_test(t, a_folder_is_opened_as_it_lies_or_refused_with_what_to_do);
    tcase_add_test(t, a_plain_folder_is_encrypted_then_by_another_key_then_not_any_more);
    tcase_add_test(t,
                   an_audit_log_is_left_alone_a_cache_emptied_and_tenants_of_these_names_are_not_mistaken_for_them);
    tcase_add_test(t, what_does_not_open_is_left_as_it_is_and_named_and_the_rest_is_done);
    tcase_add_loop_test(t, a_change_that_a_crash_ends_is_taken_up_where_it_was, 1, 60);
    tcase_add_test(t, no_tenant_is_called_as_the_mark);
    suite_add_tcase(s, t);

    return run_suite(s);
}
