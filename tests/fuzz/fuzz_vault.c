/*
 * libkoal/crypt: a file of an encrypted folder. The first byte of the input says which:
 *
 *   even        any bytes, bit 1 of it: behind a header that is right, so that frames are looked at, which no input could sign
 *   odd         one that was written, in pieces as the next bytes say until a 0 (bits 0-5: how much; bit 6: then
 *               synced; bit 7: then it has its name), and then changed: u16 where, u8 how, again and again
 *
 * Whatever is read of the second is the beginning of what was written.
 */
#include <stdlib.h>
#include <string.h>

#include "libkoal/crypt/vault_priv.h"

enum { OPS = 24 };

static struct kl_env_disk_sim *disk;
static struct kl_keys         *keys;

static void put(struct kl_env_dir *raw, const void *head, size_t head_size, const uint8_t *in, size_t size)
{
    struct kl_env_file *f;
    struct kl_err       err;

    if (raw->create(raw, "file", &f, &err) != KL_OK || raw->append(f, head, head_size, &err) != KL_OK ||
        raw->append(f, in, size, &err) != KL_OK)
        abort();
    raw->close(f);
}

static void look_at_any(struct kl_env_dir *raw, struct kl_env_dir *dir, const uint8_t *in, size_t size)
{
    struct kl_vault_mark mark;
    struct kl_env_view  *v;
    struct kl_err        err;
    uint8_t              head[KL_VAULT_HEADER], key[KL_AES_KEY], *got;
    uint64_t             plain;

    kl_vault_head_new(keys, head, key);
    put(raw, head, in[0] & 2 ? sizeof head : 0, in + 1, size - 1);
    if (dir->view(dir, "file", &v, &plain, &err) == KL_OK) {
        if (plain > size)                              /* each frame costs more than it holds */
            abort();
        got = malloc((size_t)plain + 1);
        if (dir->view_read(v, 0, got, (size_t)plain, &err) == KL_OK && plain > 0)
            abort();                                   /* nobody signed it */
        dir->view_read(v, plain / 2, got, (size_t)(plain - plain / 2), &err);
        dir->view_read(v, plain, got, 1, &err);
        dir->view_close(v);
        free(got);
    }
    raw->rename(raw, "file", KL_VAULT_MARK, &err);
    if (kl_vault_mark_read(raw, &mark, &err) == KL_OK && (mark.count == 0 || mark.count > KL_KEYS_MAX))
        abort();
}

/* Returns how much of the input said what to write. */
static size_t write_as_told(struct kl_env_dir *dir, const uint8_t *in, size_t size, uint8_t *wrote, size_t *written)
{
    struct kl_env_file *f;
    struct kl_err       err;
    size_t              i = 1;
    bool                named = false;

    if (dir->create(dir, "tmp", &f, &err) != KL_OK)
        abort();
    for (*written = 0; i < size && i <= OPS && in[i] != 0; i++) {
        size_t n = in[i] % 64u * (in[i] % 64u) * 3;

        for (size_t k = 0; k < n; k++)
            wrote[*written + k] = (uint8_t)((*written + k) * 7 + (*written + k) / 251);
        if (dir->append(f, wrote + *written, n, &err) != KL_OK)
            abort();
        *written += n;
        if (in[i] & 64 && dir->sync(f, &err) != KL_OK)
            abort();
        if (in[i] & 128 && dir->publish(f, "file", &err) != KL_OK)
            abort();
        named |= (in[i] & 128) != 0;
    }
    if (!named && dir->publish(f, "file", &err) != KL_OK)
        abort();
    dir->close(f);
    return i + 1;
}

static void look_at_changed(struct kl_env_dir *raw, struct kl_env_dir *dir, const uint8_t *in, size_t size)
{
    static uint8_t wrote[OPS * 63 * 63 * 3];
    struct kl_env_view *v;
    struct kl_err       err;
    size_t              written, stored_size, at = write_as_told(dir, in, size, wrote, &written);
    void               *stored;
    uint8_t            *got;
    uint64_t            plain;
    bool                changed = false;

    if (raw->read(raw, "file", 10 << 20, &stored, &stored_size, &err) != KL_OK)
        abort();
    for (; at + 3 <= size && stored_size > 0; at += 3) {
        ((uint8_t *)stored)[(in[at] | in[at + 1] << 8) % stored_size] ^= in[at + 2];
        changed |= in[at + 2] != 0;
    }
    put(raw, "", 0, stored, stored_size);
    free(stored);
    if (dir->view(dir, "file", &v, &plain, &err) != KL_OK) {
        if (!changed)
            abort();
        return;
    }
    if (plain > written || (!changed && plain != written))
        abort();
    got = malloc((size_t)plain + 1);
    for (uint64_t from = 0; from <= plain; from += plain / 3 + 1) {
        enum kl_code code = dir->view_read(v, from, got, (size_t)(plain - from), &err);

        if (code == KL_OK ? memcmp(got, wrote + from, (size_t)(plain - from)) != 0 : !changed)
            abort();
    }
    free(got);
    dir->view_close(v);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size)
{
    struct kl_env_dir *raw, *dir;

    if (disk == NULL) {
        disk = kl_env_disk_sim_new();
        keys = kl_keys_random();
    }
    if (size == 0)
        return 0;
    raw = kl_env_disk_sim_root(disk);
    dir = kl_vault_new(raw, keys);
    if (in[0] & 1)
        look_at_changed(raw, dir, in, size);
    else
        look_at_any(raw, dir, in, size);
    dir->leave(dir);
    return 0;
}
