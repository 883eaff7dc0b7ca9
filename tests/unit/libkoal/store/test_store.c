/*
 * libkoal/store: one suite over every store: a folder, real, simulated and encrypted, and S3.
 */
#include "libkoal/crypt/vault.h"
#include "libkoal/store/folders.h"
#include "libkoal/store/sealed.h"
#include "libkoal/store/store_s3_priv.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/suite.h"
#include "tests/unit/libkoal/store/s3.h"

enum { REAL, SIM, FOLDERS, FAULTY = FOLDERS, CACHED, SEALED, VAULT, LOCALS, S3 = LOCALS, S3_REPLACING, S3_V2, STORES };

static char                    path[64], keys_path[80], cache_path[100], below_path[100], sealed_path[100], vault_path[100];
static struct kl_env_dir      *dirs[FOLDERS];
static struct kl_store        *cached;                 /* what lies below CACHED */
static struct kl_env_disk_sim *disk, *faulty_disk;
static struct kl_env_dir      *faulty_dir;
static struct kl_store_faults  faults;
static struct kl_env          *env;
static struct s3_kit           s3;
static struct kl_store        *stores[STORES];
static struct kl_err           err;
static bool                    have_s3;

/* ---- what a caller makes of a store that fails now and then: it asks again ---- */

enum { PATIENCE = 1000 };
struct patient { struct kl_store store; struct kl_store *inner; };
#define INNER(s) (((struct patient *)(s))->inner)
#define AGAIN(call) \
    enum kl_code code = KL_EAGAIN; \
    for (int tries = 0; code == KL_EAGAIN && tries < PATIENCE; tries++) \
        code = INNER(s)->call; \
    return code

static enum kl_code patient_get(struct kl_store *s, const char *key, uint64_t offset, void *bytes,
                                size_t size, struct kl_err *e)
{
    AGAIN(get(INNER(s), key, offset, bytes, size, e));
}

static enum kl_code patient_head(struct kl_store *s, const char *key, uint64_t *size, struct kl_err *e)
{
    AGAIN(head(INNER(s), key, size, e));
}

static enum kl_code patient_remove(struct kl_store *s, const char *key, struct kl_err *e)
{
    AGAIN(remove(INNER(s), key, e));
}

/* A put that failed may have had its effect: then the very same is there. */
static enum kl_code patient_put(struct kl_store *s, const char *key, struct kl_span bytes, struct kl_err *e)
{
    enum kl_code code = KL_EAGAIN;
    bool         failed = false;
    char        *there;
    uint64_t     size;

    while (code == KL_EAGAIN) {
        code = INNER(s)->put(INNER(s), key, bytes, e);
        failed |= code == KL_EAGAIN;
    }
    if (code != KL_EEXIST || !failed || patient_head(s, key, &size, e) != KL_OK || size != bytes.size)
        return code;
    there = malloc(size + 1);
    if (size == 0 || (patient_get(s, key, 0, there, size, e) == KL_OK && memcmp(there, bytes.at, size) == 0))
        code = KL_OK;
    free(there);
    return code;
}

static enum kl_code patient_put_from(struct kl_store *s, const char *key, const struct kl_store_feed *feed,
                                     struct kl_err *e)
{
    enum kl_code code = KL_EAGAIN;
    bool         failed = false;

    while (code == KL_EAGAIN) {
        code = kl_store_put_from(INNER(s), key, feed, e);
        failed |= code == KL_EAGAIN;
    }
    if (code == KL_EEXIST && failed) {                 /* it may be our own */
        char   there[16], ours[16];
        size_t n = feed->size_bytes < 16 ? (size_t)feed->size_bytes : 16;

        if (patient_get(s, key, 0, there, n, e) == KL_OK && feed->read(feed->ctx, 0, ours, n, e) == KL_OK)
            code = memcmp(there, ours, n) == 0 ? KL_OK : KL_EEXIST;
    }
    return code;
}

struct heard { char keys[64][KL_STORE_KEY_MAX + 1]; uint64_t sizes[64]; unsigned count; };
static void hear(void *ctx, const char *key, uint64_t size)
{
    struct heard *h = ctx;

    ck_assert_uint_lt(h->count, 64);
    strcpy(h->keys[h->count], key);
    h->sizes[h->count++] = size;
}

static enum kl_code patient_list(struct kl_store *s, const char *prefix,
                                 void (*one)(void *ctx, const char *key, uint64_t size), void *ctx,
                                 struct kl_err *e)
{
    static struct heard h;
    enum kl_code        code = KL_EAGAIN;

    while (code == KL_EAGAIN) {
        h.count = 0;
        code = INNER(s)->list(INNER(s), prefix, hear, &h, e);
    }
    for (unsigned i = 0; i < h.count && code == KL_OK; i++)
        one(ctx, h.keys[i], h.sizes[i]);
    return code;
}

static void patient_close(struct kl_store *s)
{
    INNER(s)->close(INNER(s));
    free(s);
}

static struct kl_store *patient_new(struct kl_store *inner)
{
    struct patient *p = kl_new(sizeof *p);

    p->store = (struct kl_store){ .put = patient_put, .put_from = patient_put_from, .get = patient_get, .head = patient_head,
                                  .list = patient_list, .remove = patient_remove, .close = patient_close };
    p->inner = inner;
    return &p->store;
}

/* ---- */

static void setup_folders(void)
{
    strcpy(path, "/tmp/store-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(path));
    snprintf(keys_path, sizeof keys_path, "%s.keys", path);
    ck_assert_int_eq(mkdir(keys_path, 0700), 0);
    ck_assert_int_eq(kl_env_dir_real_open(path, false, &dirs[REAL], &err), KL_OK);
    disk = kl_env_disk_sim_new();
    dirs[SIM] = kl_env_disk_sim_root(disk);
    for (int i = 0; i < FOLDERS; i++)
        stores[i] = kl_store_dir_new(dirs[i]);
}

static void setup(void)
{
    struct kl_env_dir *vault;
    struct kl_keys    *vault_keys;

    setup_folders();
    env = kl_env_real_new(1);
    faulty_disk = kl_env_disk_sim_new();
    faulty_dir = kl_env_disk_sim_root(faulty_disk);
    faults = (struct kl_store_faults){ .seed = (uint64_t)getpid(), .before = 200, .after = 200, .cut = 200,
                                       .stale = 0 };
    stores[FAULTY] = patient_new(kl_store_faulty_new(kl_store_dir_new(faulty_dir), &faults));
    snprintf(cache_path, sizeof cache_path, "%s/cache", keys_path);
    snprintf(below_path, sizeof below_path, "%s/below", keys_path);
    ck_assert_int_eq(kl_store_dir_open(env, below_path, &cached, &err), KL_OK);
    ck_assert_msg(kl_store_cache_open(env, cached, cache_path, 8 << 20, NULL, NULL, &stores[CACHED], &err) ==
                  KL_OK, "%s", err.text);
    snprintf(sealed_path, sizeof sealed_path, "%s/sealed", keys_path);
    ck_assert_int_eq(kl_store_dir_open(env, sealed_path, &stores[SEALED], &err), KL_OK);
    stores[SEALED] = kl_store_sealed_new(stores[SEALED], (const uint8_t[KL_AES_KEY]){ 7 }, true);
    snprintf(vault_path, sizeof vault_path, "%s/vault", keys_path);
    vault_keys = kl_keys_random();
    ck_assert_msg(kl_vault_open(vault_path, true, vault_keys, true, &vault, &err) == KL_OK, "%s", err.text);
    stores[VAULT] = kl_store_dir_owning_new(env, vault);
    kl_keys_unref(vault_keys);
    for (int i = S3; i < STORES && have_s3; i++) {
        s3_kit(&s3, env, keys_path);
        if (i == S3_V2) {
            ck_assert_msg(kl_store_s3v2_open(env, &s3.o, &stores[i], &err) == KL_OK, "%s", err.text);
            continue;
        }
        s3.o.conditional_put = i == S3 ? KL_STORE_S3_AUTO : KL_STORE_S3_OFF;
        ck_assert_msg(kl_store_s3_open(env, &s3.o, &stores[i], &err) == KL_OK, "%s", err.text);
    }
}

static void teardown(void)
{
    char command[200];

    for (int i = 0; i < STORES; i++)
        if (stores[i] != NULL)
            stores[i]->close(stores[i]);
    for (int i = 0; i < FOLDERS; i++)
        dirs[i]->leave(dirs[i]);
    kl_env_disk_sim_free(disk);
    if (env != NULL) {
        cached->close(cached);
        faulty_dir->leave(faulty_dir);
        kl_env_disk_sim_free(faulty_disk);
        kl_env_real_free(env);
    }
    snprintf(command, sizeof command, "rm -rf %s %s", path, keys_path);
    ck_assert_int_eq(system(command), 0);
}

static void count_each(void *ctx, const char *key, uint64_t size)
{
    static char last[KL_STORE_KEY_MAX + 1];
    unsigned   *count = ctx;

    ck_assert(*count == 0 || strcmp(last, key) < 0);
    ck_assert_uint_eq(size, 1);
    strcpy(last, key);
    ++*count;
}

static enum kl_code put(struct kl_store *s, const char *key, const char *text)
{
    enum kl_code code = s->put(s, key, kl_span_str(text), &err);

    ck_assert_msg(code == KL_OK || code == KL_EEXIST || code == KL_EINVAL || code == KL_EIO, "%s",
                  err.text);
    return code;
}

static void holds(struct kl_store *s, const char *key, const char *text)
{
    char     bytes[100];
    uint64_t size;

    ck_assert_int_eq(s->head(s, key, &size, &err), KL_OK);
    ck_assert_uint_eq(size, strlen(text));
    ck_assert_int_eq(s->get(s, key, 0, bytes, size, &err), KL_OK);
    ck_assert_mem_eq(bytes, text, size);
}

START_TEST(what_was_put_is_read_whole_and_by_ranges)
{
    struct kl_store *s = stores[_i];
    char             part[3];

    ck_assert_int_eq(put(s, "a/b/c", "0123456789"), KL_OK);
    ck_assert_int_eq(put(s, "top", ""), KL_OK);
    holds(s, "a/b/c", "0123456789");
    holds(s, "top", "");
    ck_assert_int_eq(s->get(s, "a/b/c", 4, part, 3, &err), KL_OK);
    ck_assert_mem_eq(part, "456", 3);
    ck_assert_int_eq(s->get(s, "a/b/c", 8, part, 3, &err), KL_EIO);
    ck_assert_int_eq(s->get(s, "a/b/c", UINT64_MAX, part, 3, &err), KL_EIO);
}
END_TEST

START_TEST(put_never_replaces)
{
    struct kl_store *s = stores[_i];

    ck_assert_int_eq(put(s, "k", "first"), KL_OK);
    ck_assert_int_eq(put(s, "k", "second"), KL_EEXIST);
    holds(s, "k", "first");
}
END_TEST

START_TEST(what_is_not_there_is_not_found_and_may_be_removed)
{
    struct kl_store *s = stores[_i];
    uint64_t         size;
    char             c;

    ck_assert_int_eq(s->head(s, "no/such", &size, &err), KL_ENOENT);
    ck_assert_int_eq(s->get(s, "no/such", 0, &c, 1, &err), KL_ENOENT);
    ck_assert_int_eq(s->remove(s, "no/such", &err), KL_OK);
    ck_assert_int_eq(put(s, "yes", "1"), KL_OK);
    ck_assert_int_eq(s->remove(s, "yes", &err), KL_OK);
    ck_assert_int_eq(s->head(s, "yes", &size, &err), KL_ENOENT);
    ck_assert_int_eq(put(s, "yes", "2"), KL_OK);
    holds(s, "yes", "2");
}
END_TEST

struct fed { const char *bytes; uint64_t fail_at; size_t most; };
static enum kl_code feed_read(void *ctx, uint64_t offset, void *bytes, size_t size, struct kl_err *e)
{
    struct fed *f = ctx;

    if (offset + size > f->fail_at)
        return kl_fail(e, KL_EIO, "the disk is bad");
    f->most = size > f->most ? size : f->most;
    memcpy(bytes, f->bytes + offset, size);
    return KL_OK;
}

START_TEST(an_object_from_a_feed_is_the_same_and_of_one_that_failed_nothing_is_there)
{
    struct kl_store     *s = stores[_i];
    size_t               size = 11 << 20;
    char                *there = malloc(size), *bytes = malloc(size);
    struct fed           f = { .bytes = bytes, .fail_at = UINT64_MAX };
    struct kl_store_feed feed = { .size_bytes = size, .read = feed_read, .ctx = &f };
    uint64_t             n;

    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)(i * 2654435761u >> 13);
    ck_assert_msg(kl_store_put_from(s, "fed/one", &feed, &err) == KL_OK, "%s", err.text);
    ck_assert(f.most < size || _i == S3_V2 || _i == S3_REPLACING);     /* no store held all of it */
    bytes[7] ^= 1;
    ck_assert_int_eq(kl_store_put_from(s, "fed/one", &feed, &err), KL_EEXIST);
    bytes[7] ^= 1;
    ck_assert_msg(s->get(s, "fed/one", 0, there, size, &err) == KL_OK, "%s", err.text);
    ck_assert_mem_eq(there, bytes, size);
    f.fail_at = 10 << 20;
    ck_assert_int_eq(kl_store_put_from(s, "fed/two", &feed, &err), KL_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "the disk is bad"));
    ck_assert_int_eq(s->head(s, "fed/two", &n, &err), KL_ENOENT);
    feed.size_bytes = 3;
    ck_assert_int_eq(kl_store_put_from(s, "fed/three", &feed, &err), KL_OK);
    ck_assert_int_eq(s->head(s, "fed/three", &n, &err), KL_OK);
    ck_assert_uint_eq(n, 3);
    free(there);
    free(bytes);
}
END_TEST

START_TEST(uploads_in_parts_that_nobody_ended_are_found_at_a_real_service_and_abandoned)
{
    struct kl_s3_call c = { .method = "POST", .key = "begun/never=ended", .query = "uploads=" };
    unsigned          count;

    if (!have_s3)
        return;
    ck_assert_msg(kl_s3_call((struct kl_s3 *)stores[S3], &c, &err) == KL_OK, "%s", err.text);
    kl_s3_call_end(&c);
    ck_assert_msg(kl_store_s3_sweep(stores[S3], 3600000, &count, &err) == KL_OK, "%s", err.text);
    ck_assert_uint_eq(count, 0);                       /* not yet an hour old */
    ck_assert_msg(kl_store_s3_sweep(stores[S3], -3600000, &count, &err) == KL_OK, "%s", err.text);
    ck_assert_uint_eq(count, 1);
    ck_assert_msg(kl_store_s3_sweep(stores[S3], -3600000, &count, &err) == KL_OK, "%s", err.text);
    ck_assert_uint_eq(count, 0);
}
END_TEST

START_TEST(an_object_that_goes_up_in_parts_is_the_same_and_never_replaced)
{
    struct kl_store *s = stores[_i];
    size_t           size = 11 << 20;
    char            *there = malloc(size), *bytes = malloc(size);
    uint64_t         n;

    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)(i * 2654435761u >> 13);
    ck_assert_msg(s->put(s, "large/one", kl_span(bytes, size), &err) == KL_OK, "%s", err.text);
    bytes[7] ^= 1;
    ck_assert_int_eq(s->put(s, "large/one", kl_span(bytes, size), &err), KL_EEXIST);
    bytes[7] ^= 1;
    ck_assert_int_eq(put(s, "large/one", "small"), KL_EEXIST);
    ck_assert_int_eq(s->head(s, "large/one", &n, &err), KL_OK);
    ck_assert_uint_eq(n, size);
    ck_assert_msg(s->get(s, "large/one", 0, there, size, &err) == KL_OK, "%s", err.text);
    ck_assert_int_eq(memcmp(there, bytes, size), 0);
    ck_assert_int_eq(s->get(s, "large/one", 6 << 20, there, 1000, &err), KL_OK);
    ck_assert_int_eq(memcmp(there, bytes + (6 << 20), 1000), 0);
    free(there);
    free(bytes);
}
END_TEST

START_TEST(a_list_of_many_keys_is_whole)
{
    struct kl_store *s = stores[_i];
    unsigned         count = 0;

    for (int i = 0; i < 23; i++) {                     /* S3 gives them 5 at a time */
        char key[40];
        snprintf(key, sizeof key, "many/%d=%d", i % 7, i);
        ck_assert_int_eq(put(s, key, "x"), KL_OK);
    }
    ck_assert_msg(s->list(s, "many/", count_each, &count, &err) == KL_OK, "%s", err.text);
    ck_assert_uint_eq(count, 23);
}
END_TEST

/* Faults alone, and what they leave. */
START_TEST(faults_come_by_seed_before_and_after_the_effect_and_lists_grow_old)
{
    struct kl_store *s = INNER(stores[FAULTY]);
    unsigned         before = 0, after = 0, stale = 0, count;
    uint64_t         size;
    char             key[20];

    faults = (struct kl_store_faults){ .seed = 1, .before = 300, .after = 300 };
    for (int i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "k/%03d", i);
        if (s->put(s, key, kl_span_str("x"), &err) == KL_EAGAIN) {
            unsigned was = faults.before;

            faults.before = 0;
            *(s->head(s, key, &size, &err) == KL_OK ? &after : &before) += 1;
            faults.before = was;
        }
    }
    ck_assert(before > 30 && after > 20);
    faults = (struct kl_store_faults){ .seed = 2, .stale = 500 };
    for (int i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "l/%03d", i);
        ck_assert_int_eq(s->put(s, key, kl_span_str("x"), &err), KL_OK);
        count = 0;
        ck_assert_int_eq(s->list(s, "l/", count_each, &count, &err), KL_OK);
        stale += count != (unsigned)i + 1;
    }
    ck_assert(stale > 3 && stale < 18);
    faults.down = true;
    ck_assert_int_eq(s->head(s, "l/000", &size, &err), KL_EAGAIN);
}
END_TEST

START_TEST(after_a_cancel_calls_end_at_once)
{
    struct kl_store *s = stores[_i];
    uint64_t         size;

    ck_assert_int_eq(put(s, "before", "x"), KL_OK);
    kl_store_cancel(s);
    ck_assert_int_eq(s->head(s, "before", &size, &err), s->cancel != NULL ? KL_ECANCELED : KL_OK);
}
END_TEST

START_TEST(an_acked_object_outlives_a_crash_in_a_folder_that_another_put_made)
{
    struct kl_env_dir *child;

    /* Made, and not yet synced, by another worker, or by a put that failed. */
    ck_assert_int_eq(dirs[SIM]->enter(dirs[SIM], "a", true, &child, &err), KL_OK);
    child->leave(child);
    ck_assert_int_eq(put(stores[SIM], "a/b", "text"), KL_OK);
    kl_env_disk_sim_crash(disk, (uint64_t)_i);
    dirs[SIM]->leave(dirs[SIM]);
    dirs[SIM] = kl_env_disk_sim_root(disk);
    stores[SIM]->close(stores[SIM]);
    stores[SIM] = kl_store_dir_new(dirs[SIM]);
    holds(stores[SIM], "a/b", "text");
}
END_TEST

START_TEST(stores_of_several_processes_share_a_folder)
{
    struct kl_env_sim *sim = kl_env_sim_new(1);
    struct kl_store   *other = kl_store_dir_shared_new(kl_env_sim_env(sim), dirs[_i]);

    ck_assert_int_eq(put(other, "a/b", "first"), KL_OK);
    ck_assert_int_eq(put(stores[_i], "a/b", "second"), KL_EEXIST);
    ck_assert_int_eq(put(stores[_i], "a/c", "third"), KL_OK);
    holds(stores[_i], "a/b", "first");
    holds(other, "a/c", "third");
    other->close(other);
    kl_env_sim_free(sim);
}
END_TEST

START_TEST(keys_that_could_leave_the_folder_are_refused)
{
    static const char *const bad[] = { "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a b",
                                       "a*", "a\n", ".put-1", "a/.put-7", "LOCK", "a/LOCK/b" };
    struct kl_store *s = stores[_i];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_int_eq(put(s, bad[i], "x"), KL_EINVAL);
}
END_TEST

static char keys[400];
static void each(void *ctx, const char *key, uint64_t size)
{
    size_t n = strlen(keys);

    (void)ctx;
    snprintf(keys + n, sizeof keys - n, "%s:%d ", key, (int)size);
}

START_TEST(list_gives_every_key_with_the_prefix_in_bytewise_order)
{
    struct kl_store *s = stores[_i];

    ck_assert_int_eq(put(s, "b/2", "22"), KL_OK);
    ck_assert_int_eq(put(s, "b/10", "1"), KL_OK);
    ck_assert_int_eq(put(s, "b.x", "333"), KL_OK);
    ck_assert_int_eq(put(s, "b/1/z", ""), KL_OK);
    ck_assert_int_eq(put(s, "a", "1"), KL_OK);
    keys[0] = '\0';
    ck_assert_int_eq(s->list(s, "", each, NULL, &err), KL_OK);
    ck_assert_str_eq(keys, "a:1 b.x:3 b/1/z:0 b/10:1 b/2:2 ");
    keys[0] = '\0';
    ck_assert_int_eq(s->list(s, "b/1", each, NULL, &err), KL_OK);
    ck_assert_str_eq(keys, "b/1/z:0 b/10:1 ");
    keys[0] = '\0';
    ck_assert_msg(s->list(s, "c", each, NULL, &err) == KL_OK, "%s", err.text);
    ck_assert_str_eq(keys, "");
}
END_TEST

static void lay(struct kl_env_dir *d, const char *name)
{
    struct kl_env_file *f;

    ck_assert_int_eq(d->create(d, "lay.tmp", &f, &err), KL_OK);
    ck_assert_int_eq(d->sync(f, &err), KL_OK);
    ck_assert_msg(d->publish(f, name, &err) == KL_OK, "%s", err.text);
    d->close(f);
}

/* Whoever is told of keys has room for KL_STORE_KEY_MAX. */
START_TEST(what_lies_in_the_folder_and_is_no_key_of_ours_is_in_no_list)
{
    struct kl_env_dir *at[4] = { dirs[_i] };
    struct kl_store   *s = stores[_i];
    char               name[KL_ENV_DIR_NAME_MAX + 1];

    memset(name, 'd', KL_ENV_DIR_NAME_MAX);
    name[KL_ENV_DIR_NAME_MAX] = '\0';
    lay(dirs[_i], "a file");
    lay(dirs[_i], "b\xc3\xa4");
    for (int i = 1; i < 4; i++)
        ck_assert_int_eq(at[i - 1]->enter(at[i - 1], name, true, &at[i], &err), KL_OK);
    lay(at[3], "checkpoint");
    for (int i = 3; i > 0; i--)
        at[i]->leave(at[i]);
    ck_assert_int_eq(put(s, "ours/0", "0"), KL_OK);
    keys[0] = '\0';
    ck_assert_int_eq(s->list(s, "", each, NULL, &err), KL_OK);
    ck_assert_str_eq(keys, "ours/0:1 ");
}
END_TEST

/* Each call of the disk in its turn fails, then the power does. */
START_TEST(a_crash_leaves_an_object_absent_or_whole_and_whole_if_it_was_acked)
{
    struct kl_store *s;
    enum kl_code     code;
    uint64_t         size;

    kl_env_disk_sim_fail(disk, (uint64_t)(_i % 16), KL_EIO);
    code = put(stores[SIM], "x/y/object", "whole");
    stores[SIM]->close(stores[SIM]);
    dirs[SIM]->leave(dirs[SIM]);
    kl_env_disk_sim_crash(disk, (uint64_t)_i);
    dirs[SIM] = kl_env_disk_sim_root(disk);
    s = stores[SIM] = kl_store_dir_new(dirs[SIM]);
    if (code == KL_OK || s->head(s, "x/y/object", &size, &err) == KL_OK)
        holds(s, "x/y/object", "whole");
    keys[0] = '\0';
    ck_assert_int_eq(s->list(s, "", each, NULL, &err), KL_OK);
    ck_assert(keys[0] == '\0' || strcmp(keys, "x/y/object:5 ") == 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/store");
    TCase *t = tcase_create("all");
    TCase *folders = tcase_create("folders");
    int    stores_count;

    have_s3 = s3_there();
    stores_count = have_s3 ? STORES : LOCALS;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, what_was_put_is_read_whole_and_by_ranges, 0, stores_count);
    tcase_add_loop_test(t, put_never_replaces, 0, stores_count);
    tcase_add_loop_test(t, what_is_not_there_is_not_found_and_may_be_removed, 0, stores_count);
    tcase_add_test(t, uploads_in_parts_that_nobody_ended_are_found_at_a_real_service_and_abandoned);
    tcase_add_loop_test(t, an_object_that_goes_up_in_parts_is_the_same_and_never_replaced, 0, stores_count);
    tcase_add_loop_test(t, an_object_from_a_feed_is_the_same_and_of_one_that_failed_nothing_is_there, 0, stores_count);
    tcase_add_loop_test(t, a_list_of_many_keys_is_whole, 0, stores_count);
    tcase_add_test(t, faults_come_by_seed_before_and_after_the_effect_and_lists_grow_old);
    tcase_add_loop_test(t, after_a_cancel_calls_end_at_once, 0, stores_count);
    tcase_add_loop_test(t, keys_that_could_leave_the_folder_are_refused, 0, stores_count);
    tcase_add_loop_test(t, list_gives_every_key_with_the_prefix_in_bytewise_order, 0, stores_count);
    tcase_add_checked_fixture(folders, setup_folders, teardown);
    tcase_add_loop_test(folders, an_acked_object_outlives_a_crash_in_a_folder_that_another_put_made, 0, 20);
    tcase_add_loop_test(folders, stores_of_several_processes_share_a_folder, 0, FOLDERS);
    tcase_add_loop_test(folders, what_lies_in_the_folder_and_is_no_key_of_ours_is_in_no_list, 0, FOLDERS);
    tcase_add_loop_test(folders, a_crash_leaves_an_object_absent_or_whole_and_whole_if_it_was_acked, 0, 160);
    suite_add_tcase(s, t);
    suite_add_tcase(s, folders);
    return run_suite(s);
}
