#ifndef TEST_VAULT_FIXTURE_H
#define TEST_VAULT_FIXTURE_H
/* What suites of encrypted folders begin with: a real and a simulated one, their raw folders and keys. */
#include "libkoal/crypt/vault.h"
#include "tests/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REAL, SIM, KINDS };
enum { FRAME = KL_VAULT_FRAME, STORED = KL_VAULT_FRAME + 36 };

static char                    path[64];
static struct kl_env_disk_sim *disk;
static struct kl_env_dir      *raws[KINDS], *dirs[KINDS];
static struct kl_keys         *keys, *newer, *both;
static struct kl_err           err;

#define ok(call) ck_assert_msg((call) == KL_OK, "%s: %s", #call, err.text)

static const char first_key[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
static const char second_key[] = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

static inline void setup(void)
{
    char two[200];

    strcpy(path, "/tmp/vault-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(path));
    ok(kl_env_dir_real_open(path, false, &raws[REAL], &err));
    disk = kl_env_disk_sim_new();
    raws[SIM] = kl_env_disk_sim_root(disk);
    ok(kl_keys_parse(kl_span_str(first_key), &keys, &err));
    ok(kl_keys_parse(kl_span_str(second_key), &newer, &err));
    snprintf(two, sizeof two, "# the new one\n%s\n\n%s\n", second_key, first_key);
    ok(kl_keys_parse(kl_span_str(two), &both, &err));
    for (int i = 0; i < KINDS; i++)
        dirs[i] = kl_vault_new(raws[i], keys);
}

static inline void teardown(void)
{
    char command[100];

    dirs[REAL]->leave(dirs[REAL]);
    dirs[SIM]->leave(dirs[SIM]);
    kl_env_disk_sim_free(disk);
    kl_keys_unref(keys);
    kl_keys_unref(newer);
    kl_keys_unref(both);
    snprintf(command, sizeof command, "rm -r %s", path);
    ck_assert_int_eq(system(command), 0);
}

static inline void after(void (*what)(struct kl_env_disk_sim *d, uint64_t seed), uint64_t seed)
{
    what(disk, seed);
    dirs[SIM]->leave(dirs[SIM]);
    raws[SIM] = kl_env_disk_sim_root(disk);
    dirs[SIM] = kl_vault_new(raws[SIM], keys);
}

/* Bytes that say where they are. */
static inline uint8_t byte_at(uint64_t i) { return (uint8_t)(i * 31 + i / 251 + i / 65000); }

static inline const uint8_t *bytes_at(uint64_t at, size_t size)
{
    static uint8_t b[300000];

    ck_assert_uint_le(size, sizeof b);
    for (size_t i = 0; i < size; i++)
        b[i] = byte_at(at + i);
    return b;
}

static inline void is_right(const uint8_t *got, uint64_t at, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (got[i] != byte_at(at + i))                 /* an assertion a byte takes minutes */
            ck_abort_msg("byte %llu is another", (unsigned long long)(at + i));
}

static inline enum kl_code save(struct kl_env_dir *dir, const char *name, const void *bytes,
                                size_t size)
{
    struct kl_env_file *f;
    enum kl_code        code = dir->create(dir, "tmp", &f, &err);

    if (code != KL_OK)
        return code;
    code = dir->append(f, bytes, size, &err);
    if (code == KL_OK)
        code = dir->sync(f, &err);
    if (code == KL_OK)
        code = dir->publish(f, name, &err);
    dir->close(f);
    return code;
}

static inline uint8_t *stored_of(struct kl_env_dir *raw, const char *name, size_t *size)
{
    void *bytes;

    ok(raw->read(raw, name, 10 << 20, &bytes, size, &err));
    return bytes;
}

/* What is read of `name` is what was written, as far as anything is; true: all of it. */
static inline bool reads_whole(struct kl_env_dir *dir, const char *name, size_t whole)
{
    void        *bytes;
    size_t       size;
    enum kl_code code = dir->read(dir, name, 10 << 20, &bytes, &size, &err);

    if (code != KL_OK) {
        ck_assert_msg(code == KL_ECORRUPT || code == KL_EINVAL, "%s", err.text);
        ck_assert_ptr_nonnull(strstr(err.text, name));
        return false;
    }
    ck_assert_uint_le(size, whole);
    is_right(bytes, 0, size);
    free(bytes);
    return size == whole;
}
#endif
